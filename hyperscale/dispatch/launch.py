"""A launch: trials minus the journal, packed, trained, and every result durable before anything else."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hyperscale.claims import is_error
from hyperscale.dispatch.checkpoints import discard, interrupted_packs
from hyperscale.dispatch.executor import Executor
from hyperscale.errors import HyperscaleError, StudyError
from hyperscale.packing import Pack, make_packs
from hyperscale.recording.journal import Journal
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus

_HEARTBEAT_S = 2.0


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


class Tally:
    """Counts, rate and best-so-far of a launch: what a progress display shows. Also the executor's events.

    ``ended`` writes to the journal first; recording and display come after. What an event costs grows with neither
    the number of trials nor that of packs.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.started = time.monotonic()
        self.ended_trials = 0
        self.running_packs = 0
        self.running_trials = 0
        self.stop_requested = threading.Event()
        self._fractions = [0.0] * len(launch.packs)
        self._weights = [pack.estimated_seconds for pack in launch.packs]
        self._whole_weight = sum(self._weights)
        self._done_weight = 0.0
        self._waiting: list[Set[str] | None] = [None] * len(launch.packs)
        self._beat_at = 0.0
        self._best: dict[str, tuple[float, TrialRecord]] = {}
        self._looked_back = False

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed or a signal asked to end."""
        return self.stop_requested.is_set()

    @property
    def done_fraction(self) -> float:
        """The part of the work that is done, packs weighted by their estimated time."""
        return min(1.0, self._done_weight / self._whole_weight) if self._whole_weight else 1.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the launch."""
        return time.monotonic() - self.started

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds left, or None before there is anything to estimate from."""
        fraction = self.done_fraction
        return self.elapsed_s * (1 - fraction) / fraction if fraction > 0.005 else None

    @property
    def best(self) -> Mapping[str, tuple[float, TrialRecord]]:
        """The smallest error of each method, and its trial. Earlier launches' trials are read at the first look."""
        if not self._looked_back:
            self._looked_back = True
            if is_error(self._metric):
                self._note_best(self.launch.journal.view(trial.digest for trial in self.launch.trials))
        return self._best

    @property
    def _metric(self) -> str:
        return self.launch.study_file.study.metrics[0]

    def progress(self, pack: int, fraction: float) -> None:
        """Note a pack's progress."""
        self._advance(pack, fraction)
        self._beat()
        self.launch.on_change(self)

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Make results durable, then pass them on. A pack that began anew may report a trial a second time."""
        launch = self.launch
        members = {trial.digest: trial for trial in launch.packs[pack].trials}
        ended = [members[result.digest] for result in results]
        records = launch.journal.append(
            [(trial, _stamp(trial, result, launch)) for trial, result in zip(ended, results, strict=True)]
        )
        self._note_best(records)
        known = self._waiting[pack]
        waiting = members.keys() if known is None else known
        left = frozenset(waiting - {trial.digest for trial in ended})
        self._waiting[pack] = left
        self.ended_trials += len(waiting) - len(left)
        if not left:
            self._advance(pack, 1.0)
            discard(launch.store.checkpoints, launch.packs[pack])
        if launch.recording is not None:
            launch.recording.put(records)
        self._beat()
        launch.on_change(self)

    def _advance(self, pack: int, fraction: float) -> None:
        """Note that a pack has come as far as ``fraction``; it never goes back."""
        old, new = self._fractions[pack], max(self._fractions[pack], fraction)
        self._fractions[pack] = new
        self._done_weight += self._weights[pack] * (new - old)
        begun = (0 < new < 1) - (0 < old < 1)
        self.running_packs += begun
        self.running_trials += begun * len(self.launch.packs[pack].trials)

    def _note_best(self, records: Iterable[TrialRecord]) -> None:
        metric = self._metric
        if not is_error(metric):
            return
        for record in records:
            value, method = record.result.metrics.get(metric), str(record.columns.get("method", ""))
            if value is not None and (method not in self._best or value < self._best[method][0]):
                self._best[method] = (value, record)

    def _beat(self, *, ended: bool = False) -> None:
        """Leave a sign of life for `status`, every few seconds."""
        if not ended and time.monotonic() - self._beat_at < _HEARTBEAT_S:
            return
        self._beat_at = time.monotonic()
        with contextlib.suppress(OSError):
            self.launch.store.write_launch(
                self.launch.id,
                {
                    "study": self.launch.study_file.study.name,
                    "trials": len(self.launch.to_run),
                    "ended_trials": self.ended_trials,
                    "running": self.running_trials,
                    "fraction": round(self.done_fraction, 4),
                    "remaining_s": self.remaining_s,
                    "ended": ended,
                },
            )

    def close(self) -> None:
        """Leave the last sign of life, if there was a first."""
        if self._beat_at:
            self._beat(ended=True)


def _stamp(trial: Trial, result: TrialResult, launch: Launch) -> TrialResult:
    """Add to a trial's result which launch it is of; its digest becomes the trial's own string, kept but once."""
    provenance = {**result.provenance, "launch": launch.id, "executor": launch.executor.name}
    return replace(result, digest=trial.digest, provenance=provenance)


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
    ) -> None:
        self.id = new_launch_id()
        self.study_file, self.store, self.executor = study_file, store, executor
        self.recording, self.on_change = recording, on_change
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
