"""A launch: trials minus the journal, packed, trained, and every result durable before anything else."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hyperscale.claims import is_error
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

    ``ended`` writes to the journal first; recording and display come after.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.started = time.monotonic()
        self.ended_trials = 0
        self.counts = dict.fromkeys(TrialStatus, 0)
        self.fractions = [0.0] * len(launch.packs)
        self._weights = [pack.estimated_seconds for pack in launch.packs]
        self.best: dict[str, tuple[float, TrialRecord]] = {}
        self.stop_requested = threading.Event()
        self._beat_at = 0.0
        self._trials = {trial.digest: trial for pack in launch.packs for trial in pack.trials}
        for record in launch.journal.records(trial.digest for trial in launch.trials):
            self._note_best(record)

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed or a signal asked to end."""
        return self.stop_requested.is_set()

    @property
    def running_packs(self) -> int:
        """The number of packs that have begun and not ended."""
        return sum(0 < fraction < 1 for fraction in self.fractions)

    @property
    def done_fraction(self) -> float:
        """The part of the work that is done, packs weighted by their estimated time."""
        total = sum(self._weights)
        done = sum(weight * fraction for weight, fraction in zip(self._weights, self.fractions, strict=True))
        return done / total if total else 1.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the launch."""
        return time.monotonic() - self.started

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds left, or None before there is anything to estimate from."""
        fraction = self.done_fraction
        return self.elapsed_s * (1 - fraction) / fraction if fraction > 0.005 else None

    def progress(self, pack: int, fraction: float) -> None:
        """Note a pack's progress."""
        self.fractions[pack] = max(self.fractions[pack], fraction)
        self._beat()
        self.launch.on_change(self)

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Make results durable, then pass them on."""
        launch = self.launch
        stamped = [_stamp(result, launch) for result in results]
        launch.journal.append([(self._trials[result.digest], result) for result in stamped])
        self.ended_trials += len(stamped)
        records = launch.journal.records(result.digest for result in stamped)
        for record in records:
            self.counts[record.result.status] += 1
            self._note_best(record)
        if all(launch.journal.get(trial.digest) for trial in launch.packs[pack].trials):
            self.fractions[pack] = 1.0
            checkpoint = launch.store.checkpoints / f"{launch.packs[pack].digest}.pt"
            with contextlib.suppress(OSError):
                checkpoint.unlink(missing_ok=True)
        if launch.recording is not None:
            launch.recording.put(records)
        self._beat()
        launch.on_change(self)

    def _note_best(self, record: TrialRecord) -> None:
        metric = self.launch.study_file.study.metrics[0]
        value = record.result.metrics.get(metric)
        method = str(record.columns.get("method", ""))
        if value is not None and is_error(metric) and (method not in self.best or value < self.best[method][0]):
            self.best[method] = (value, record)

    def _beat(self, *, ended: bool = False) -> None:
        """Leave a sign of life for `status`, every few seconds."""
        if not ended and time.monotonic() - self._beat_at < _HEARTBEAT_S:
            return
        self._beat_at = time.monotonic()
        open_packs = [p for p, f in zip(self.launch.packs, self.fractions, strict=True) if 0 < f < 1]
        with contextlib.suppress(OSError):
            self.launch.store.write_launch(
                self.launch.id,
                {
                    "study": self.launch.study_file.study.name,
                    "trials": sum(len(pack.trials) for pack in self.launch.packs),
                    "ended_trials": self.ended_trials,
                    "running": sum(len(pack.trials) for pack in open_packs),
                    "fraction": round(self.done_fraction, 4),
                    "remaining_s": self.remaining_s,
                    "ended": ended,
                },
            )

    def close(self) -> None:
        """Leave the last sign of life, if there was a first."""
        if self._beat_at:
            self._beat(ended=True)


def _stamp(result: TrialResult, launch: Launch) -> TrialResult:
    provenance = {**result.provenance, "launch": launch.id, "executor": launch.executor.name}
    return TrialResult.from_json({**result.to_json(), "provenance": provenance})


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
        self.packs: list[Pack] = (planner or functools.partial(make_packs, max_members=max_members))(self.to_run)

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
        results = [self.journal.get(trial.digest) for trial in self.trials]
        counts = {status: sum(r is not None and r.status == status for r in results) for status in TrialStatus}
        return Summary(
            study=self.study_file.study.name,
            ran=tally.ended_trials,
            reused=len(self.trials) - len(self.to_run),
            **{status.value: count for status, count in counts.items()},
            missing=sum(result is None for result in results),
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
