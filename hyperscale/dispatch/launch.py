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
from hyperscale.recording.leases import Holder
from hyperscale.recording.remote import url_of
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile
from hyperscale.trial import Trial, TrialRecord, TrialStatus

_WAIT_S = 1.0


class Recording(Protocol):
    """Where ended trials go after the journal; it never raises and never blocks for long."""

    def put(self, records: Sequence[TrialRecord]) -> None:
        """Take records to be recorded soon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a launch did, and where the study stands after it.

    ``elsewhere`` are the trials that were to run and that other drivers ended meanwhile.
    """

    study: str
    ran: int
    elsewhere: int
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
        lease_s: float | None = None,
    ) -> None:
        self.id = new_launch_id()
        self.leases = store.leases(self.id, lease_s)
        self._waited_for: set[str] = set()
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
        self._planner = planner or functools.partial(make_packs, max_members=max_members)
        self.packs = self._make_packs(self.to_run)

    def _make_packs(self, waiting: Sequence[Trial]) -> list[Pack]:
        """Return what was begun and saved, as it was, and the planner's packs of the rest."""
        begun = interrupted_packs(self.store.checkpoints, waiting)
        taken = {trial.digest for pack in begun for trial in pack.trials}
        rest = [trial for trial in waiting if trial.digest not in taken] if taken else waiting
        return begun + (self._planner(rest) if rest else [])

    def run(self) -> Summary:
        """Train what is missing. Ctrl-C once winds down and keeps everything; twice ends at once.

        What other drivers of the store have leased is theirs; this one ends when they are done with it, or takes
        over what they leave.
        """
        tally = Tally(self)
        if self.packs:
            created = self.store.prepare()
            with _signals(tally), contextlib.closing(self.journal):
                try:
                    self.on_change(tally)
                    planned = True
                    while planned:
                        self.executor.run(self.packs, tally, _absolute(self.store.checkpoints))
                        planned = self._plan_round(tally)
                except KeyboardInterrupt:
                    tally.stop_requested.set()
                except HyperscaleError:
                    _remove_empty(created)
                    raise
                finally:
                    self._leave(tally)
        return self.summary(tally)

    def _plan_round(self, tally: Tally) -> bool:
        """Make packs of what other drivers leave of the trials that were theirs, waiting until there is any.

        Returns False where nothing is left to do, or to wait for.
        """
        while tally.left() and not tally.stopping:
            self.leases.look()
            tally.look_around()
            left = tally.left()
            holders = [self.leases.holder(trial.digest) for trial in left]
            free = [trial for trial, holder in zip(left, holders, strict=True) if holder is None]
            if free:
                self.packs = self._make_packs(free)
                tally.begin_round()
                return True
            self._say_waiting([holder for holder in holders if holder is not None])
            tally.stop_requested.wait(min(_WAIT_S, self.leases.heart.lease_s / 4) if holders else 0.0)
        return False

    def _say_waiting(self, holders: Sequence[Holder]) -> None:
        """Say, once for each, which other launches are waited for; ``holders`` has one for every trial."""
        for launch, num_trials in Counter(holder.launch for holder in holders).items():
            if launch not in self._waited_for:
                self._waited_for.add(launch)
                holder = next(holder for holder in holders if holder.launch == launch)
                self.warn(
                    f"Waiting for {holder}, which is training {num_trials:,} trials of this study. What it leaves is "
                    "taken over. Ctrl-C ends this run and leaves that one alone."
                )

    def _leave(self, tally: Tally) -> None:
        """Give up what is leased, and leave the last sign of life."""
        try:
            self.leases.close()
        except HyperscaleError as problem:
            self.warn(f"{problem} Other drivers take this one's trials over once its leases have expired.")
        finally:
            tally.close()

    def abandon(self) -> None:
        """Give everything up and say that this launch has ended, from any thread, whatever another one is stuck in."""
        with contextlib.suppress(HyperscaleError, OSError):
            self.leases.close()
        self.leases.heart.close()

    def summary(self, tally: Tally) -> Summary:
        """Count where the launch's trials stand."""
        counts = Counter(self.journal.status(trial.digest) for trial in self.trials)
        return Summary(
            study=self.study_file.study.name,
            ran=tally.ran_trials,
            elsewhere=tally.ended_trials - tally.ran_trials,
            reused=len(self.trials) - len(self.to_run),
            **{status.value: counts[status] for status in TrialStatus},
            missing=counts[None],
            packs=tally.ran_packs,
            interrupted=tally.stopping,
            wall_time_s=round(tally.elapsed_s, 3),
        )


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove what a refused launch has made, innermost first, as far as nothing is in it."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _absolute(path: Path) -> Path:
    """Return a path that means the same everywhere; one that stands for a URL does already."""
    return path.expanduser().resolve() if url_of(path) is None else path


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
