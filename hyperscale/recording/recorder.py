"""The recorder: carries finished trials to MLflow in the background, so that MLflow never holds up a study.

The journal has every trial before the recorder sees it. So the recorder may drop what it cannot deliver: it
counts it, and the final `close`, the next `run` or `hyperscale sync` replays it. This file knows MLflow only by
the methods it calls, and works, with a message, where MLflow is not installed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from hyperscale.errors import RecordingError
from hyperscale.study import StudyFile
from hyperscale.trial import TrialRecord

_BATCH = 64


class TrialSink(Protocol):
    """What the recorder asks of an MLflow store; every method may raise `RecordingError`."""

    notices: list[str]

    def sync(self, study_file: StudyFile, records: Sequence[TrialRecord], launch_id: str) -> int:
        """Write what is missing; return how many trials that was."""

    def begin_launch(self, launch_id: str, study_file: StudyFile, num_trials: int) -> str:
        """Return the launch's run."""

    def record(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Write finished trials."""

    def end_launch(self, parent_run_id: str, status: str = "finished") -> None:
        """End the launch's run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchInfo:
    """The launch whose trials are recorded: its id, its study file, and how many trials it will run."""

    launch_id: str
    study_file: StudyFile
    num_trials: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the recorder waits, in seconds, and how many trials it holds."""

    queue_size: int = 2048
    put_s: float = 0.2
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0
    close_s: float = 60.0


@dataclass(slots=True)
class _Progress:
    """What the background thread has come to; written by it alone, except ``dropped``."""

    parent: str | None = None
    dropped: int = 0
    lost: int = 0
    pause_s: float = 0.0
    retry_at: float = 0.0
    warned: bool = False
    complete: bool = False
    pending: list[TrialRecord] = field(default_factory=list)


class Recorder:
    """Writes the finished trials of one launch to MLflow from a background thread.

    ``open_store`` makes the store inside that thread. ``backlog`` are the study's trials that earlier launches
    journalled, of which MLflow may lack some; ``journalled`` returns all records of the study, for the final
    replay. ``warn`` gets one message at the first trouble, and the store's notices. Nothing here raises
    because of MLflow.
    """

    def __init__(
        self,
        open_store: Callable[[], TrialSink],
        launch: LaunchInfo,
        *,
        journalled: Callable[[], Sequence[TrialRecord]],
        warn: Callable[[str], None],
        backlog: Sequence[TrialRecord] = (),
        patience: Patience | None = None,
    ) -> None:
        self._open_store = open_store
        self._study_file = launch.study_file
        self._launch = launch
        self._backlog = list(backlog)
        self._journalled = journalled
        self._warn = warn
        self._patience = patience or Patience()
        self._queue: queue.Queue[TrialRecord] = queue.Queue(self._patience.queue_size)
        self._progress = _Progress()
        self._closing = threading.Event()
        self._status = "finished"
        self._deadline = float("inf")
        self._store: TrialSink | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow-recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed")

    def put(self, records: Sequence[TrialRecord]) -> None:
        """Hand over journalled trials; waits at most ``put_s`` for room, then leaves the rest to the replay."""
        until = time.monotonic() + self._patience.put_s
        for index, record in enumerate(records):
            try:
                self._queue.put(record, timeout=max(0.0, until - time.monotonic()))
            except queue.Full:
                self._progress.dropped += len(records) - index
                return

    def close(self, status: str = "finished") -> int:
        """Deliver and replay what is left, within ``close_s``; return how many trials MLflow may lack.

        ``status`` of the launch is ``finished``, ``failed`` or ``interrupted``.
        """
        if not self._closing.is_set():
            self._status = status
            self._deadline = time.monotonic() + self._patience.close_s
            self._closing.set()
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        missing = self.num_missing
        if missing and not self._progress.warned:
            self._tell(f"MLflow was too slow: {missing} trials are not recorded there yet.")
        return missing

    @property
    def num_missing(self) -> int:
        """How many trials MLflow may lack; they are in the journal."""
        progress = self._progress
        if progress.complete:
            return 0
        return progress.dropped + progress.lost + len(progress.pending) + self._queue.qsize()

    def _run(self) -> None:
        """Deliver until closed, then replay. The thread's only way out is its end."""
        if not self._attempt(self._start):
            self._progress.lost += len(self._backlog)
        while not (self._closing.is_set() and self._queue.empty()):
            self._progress.pending = self._take()
            if self._progress.pending and not self._attempt(self._deliver):
                self._progress.lost += len(self._progress.pending)
            self._progress.pending = []
        self._progress.retry_at = 0.0
        self._attempt(self._finish)

    def _take(self) -> list[TrialRecord]:
        """Return the next few records; empty after a short wait, so that closing is noticed."""
        taken: list[TrialRecord] = []
        try:
            taken.append(self._queue.get(timeout=0.1))
            while len(taken) < _BATCH:
                taken.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _attempt(self, action: Callable[[TrialSink], None]) -> bool:
        """Do something with the store unless it is resting after a failure; return whether it was done."""
        progress = self._progress
        if time.monotonic() < progress.retry_at:
            return False
        try:
            if self._store is None:
                self._store = self._open_store()
            action(self._store)
        except Exception as error:  # noqa: BLE001  (recording must never end a study)
            self._rest(error)
            return False
        progress.pause_s = 0.0
        for notice in self._store.notices:
            self._warn(notice)
        self._store.notices.clear()
        return True

    def _rest(self, error: Exception) -> None:
        progress, patience = self._progress, self._patience
        progress.pause_s = min(patience.longest_pause_s, 2 * progress.pause_s or patience.first_pause_s)
        progress.retry_at = time.monotonic() + progress.pause_s
        text = str(error) if isinstance(error, RecordingError) else f"MLflow failed: {type(error).__name__}: {error}"
        if not progress.warned:
            progress.warned = True
            self._tell(text)

    def _tell(self, text: str) -> None:
        if "hyperscale sync" not in text:
            text += f" Nothing is lost: `hyperscale sync {self._study_file.path}` records later what is missing."
        self._warn(f"{text} The study goes on.")

    def _start(self, store: TrialSink) -> None:
        """Replay what earlier launches left behind."""
        if self._backlog:
            store.sync(self._study_file, self._backlog, self._launch.launch_id)

    def _deliver(self, store: TrialSink) -> None:
        progress = self._progress
        if progress.parent is None:
            progress.parent = self._begin(store)
        store.record(self._study_file.study.name, progress.pending, progress.parent)

    def _begin(self, store: TrialSink) -> str:
        return store.begin_launch(self._launch.launch_id, self._study_file, self._launch.num_trials)

    def _finish(self, store: TrialSink) -> None:
        """Replay what was dropped, and end the launch."""
        progress = self._progress
        replayed = 0
        if progress.dropped or progress.lost:
            replayed = store.sync(self._study_file, self._journalled(), self._launch.launch_id)
        if replayed and progress.parent is None:
            progress.parent = self._begin(store)
        if progress.parent is not None:
            store.end_launch(progress.parent, self._status)
        progress.complete = True
