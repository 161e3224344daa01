"""A launch: trials minus the journal, packed, trained, and every result durable before anything else."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hyperscale.dispatch.checkpoints import interrupted_packs
from hyperscale.dispatch.executor import Executor
from hyperscale.dispatch.tally import Tally
from hyperscale.errors import HyperscaleError, StudyError
from hyperscale.packing import Pack, make_packs
from hyperscale.recording.journal import Journal
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile
from hyperscale.trial import Trial, TrialRecord, TrialStatus


class Recording(Protocol):
    """Where ended trials go after the journal; it never raises and never blocks for long."""

    def put(self, records: Sequence[TrialRecord]) -> None:
        """Take records to be recorded soon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a launch did, and where the study stands after it."""

    study: str
    ran: int
    reused: int
    finished: int
    diverged: int
    out_of_memory: int
    failed: int
    missing: int
    packs: int
    interrupted: bool
    wall_time_s: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


def new_launch_id() -> str:
    """Return a name that sorts by time and that no other driver has."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%f')}-{os.getpid()}"


class Launch:
    """One go at a study: what is left of it after the journal, in packs, ready to `run`."""

    def __init__(  # noqa: PLR0913
        self,
        study_file: StudyFile,
        store: Store,
        executor: Executor,
        *,
        num_seeds: int | None = None,
        max_members: int | None = None,
        planner: Callable[[Sequence[Trial]], list[Pack]] | None = None,
        recording: Recording | None = None,
        on_change: Callable[[Tally], None] = lambda tally: None,  # noqa: ARG005
        warn: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        self.id = new_launch_id()
        self.study_file, self.store, self.executor = study_file, store, executor
        self.recording, self.on_change, self.warn = recording, on_change, warn
        self.journal: Journal = store.journal(self.id)
        if num_seeds is not None and num_seeds > len(study_file.study.seeds):
            raise StudyError(
                f"--seeds {num_seeds} asks for more than study {study_file.study.name!r} has: "
                f"{len(study_file.study.seeds)}. Give fewer, or add seeds to the study file."
            )
        self.trials: list[Trial] = study_file.study.trials(num_seeds)
        self.to_run = [trial for trial in self.trials if not self.journal.settled(trial.digest)]
        self.packs = self._make_packs(planner or functools.partial(make_packs, max_members=max_members))

    def _make_packs(self, planner: Callable[[Sequence[Trial]], list[Pack]]) -> list[Pack]:
        """Return what was begun and saved, as it was, and the planner's packs of the rest."""
        begun = interrupted_packs(self.store.checkpoints, self.to_run)
        taken = {trial.digest for pack in begun for trial in pack.trials}
        return begun + planner([trial for trial in self.to_run if trial.digest not in taken] if taken else self.to_run)

    def run(self) -> Summary:
        """Train what is missing. Ctrl-C once winds down and keeps everything; twice ends at once."""
        tally = Tally(self)
        if self.packs:
            created = self.store.prepare()
            with _signals(tally), contextlib.closing(self.journal):
                try:
                    self.on_change(tally)
                    self.executor.run(self.packs, tally, _absolute(self.store.checkpoints))
                except KeyboardInterrupt:
                    tally.stop_requested.set()
                except HyperscaleError:
                    _remove_empty(created)
                    raise
                finally:
                    tally.close()
        return self.summary(tally)

    def abandon(self) -> None:
        """Say that this launch has ended, from any thread and without waiting for anything it does."""
        with contextlib.suppress(HyperscaleError, OSError):
            self.store.end_launch(self.id)

    def summary(self, tally: Tally) -> Summary:
        """Count where the launch's trials stand."""
        counts = Counter(self.journal.status(trial.digest) for trial in self.trials)
        return Summary(
            study=self.study_file.study.name,
            ran=tally.ended_trials,
            reused=len(self.trials) - len(self.to_run),
            **{status.value: counts[status] for status in TrialStatus},
            missing=counts[None],
            packs=len(self.packs),
            interrupted=tally.stopping,
            wall_time_s=round(tally.elapsed_s, 3),
        )


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove what a refused launch has made, innermost first, as far as nothing is in it."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


@contextlib.contextmanager
def _signals(tally: Tally) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop, the second into KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:  # noqa: ARG001
        if tally.stopping:
            raise KeyboardInterrupt
        tally.stop_requested.set()
        tally.launch.on_change(tally)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
