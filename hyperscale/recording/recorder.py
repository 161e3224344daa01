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
from hyperscale.recording.gathering import Gathering
from hyperscale.recording.outcomes import Journalled, fingerprint
from hyperscale.recording.secrecy import without_secrets
from hyperscale.study import StudyFile
from hyperscale.trial import Trial, TrialRecord

_BATCH = 64


class TrialSink(Protocol):
    """What the recorder asks of an MLflow store; every method may raise `RecordingError`."""

    notices: list[str]
    num_left: int

    def is_current(self, study_file: StudyFile, fingerprint: str) -> bool:
        """Say whether the study is marked as showing exactly the outcomes of this fingerprint."""

    def sync(self, study_file: StudyFile, journalled: Journalled, launch_id: str, *, search: bool = True) -> int:
        """Write what is missing and mark the study; return how many trials were missing."""

    def begin_launch(self, launch_id: str, study_file: StudyFile, num_trials: int) -> str:
        """Return the launch's run."""

    def record(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Write finished trials."""

    def end_launch(self, parent_run_id: str, status: str = "finished") -> None:
        """End the launch's run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchInfo:
    """The launch whose trials are recorded: its id, its study file, and the trials that it will run."""

    launch_id: str
    study_file: StudyFile
    trials: Sequence[Trial]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the recorder waits, in seconds, and how many trials it holds.

    ``catch_up_s`` is the least time between two replays of what could not be delivered, while the study goes on.
    """

    queue_size: int = 2048
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0
    close_s: float = 60.0
    first_word_s: float = 1.0
    next_word_s: float = 15.0
    catch_up_s: float = 30.0


@dataclass(slots=True)
class _Progress:
    """What the background thread has come to; written by it alone, except ``dropped``."""

    phase: str = "starting"  # then "delivering", at last "finishing"
    parent: str | None = None
    behind: int = 0
    dropped: int = 0
    lost: int = 0
    failed: bool = False
    pause_s: float = 0.0
    retry_at: float = 0.0
    catch_up_at: float = 0.0
    warned: bool = False
    complete: bool = False
    pending: list[TrialRecord] = field(default_factory=list)


class Recorder:
    """Writes the finished trials of one launch to MLflow from a background thread.

    ``open_store`` makes the store inside that thread. ``journalled`` is the study's part of the journal, which that
    thread reads: what earlier launches left behind at the start, what is missing at the end. ``warn`` gets one
    message at the first trouble, and the store's notices; ``say`` what closing waits for. Nothing here raises
    because of MLflow.
    """

    def __init__(
        self,
        open_store: Callable[[], TrialSink],
        launch: LaunchInfo,
        *,
        journalled: Journalled,
        warn: Callable[[str], None],
        say: Callable[[str], None] = lambda text: None,  # noqa: ARG005
        patience: Patience | None = None,
    ) -> None:
        self._open_store = open_store
        self._study_file = launch.study_file
        self._launch = launch
        self._journalled = journalled
        self._warn, self._say = warn, say
        self._patience = patience or Patience()
        self._queue: queue.Queue[TrialRecord] = queue.Queue(self._patience.queue_size)
        self._gathering = Gathering(launch.study_file.study, launch.trials)
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
        """Hand over journalled trials, without waiting: what finds no room is left to the replay."""
        for index, record in enumerate(records):
            try:
                self._queue.put_nowait(record)
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
        self._wait()
        missing = self.num_missing
        if missing and not self._progress.warned:
            self._tell(f"Recording was too slow: {missing:,} trials are not in MLflow yet.")
        return missing

    def _wait(self) -> None:
        """Wait for the thread's end or the deadline, saying now and then how much is left."""
        pause = self._patience.first_word_s
        while self._thread.is_alive() and (left := self._deadline - time.monotonic()) > 0:
            self._thread.join(min(pause, left))
            if self._thread.is_alive() and self.num_missing and time.monotonic() < self._deadline:
                comparing = self._progress.phase == "starting" and not self._num_left
                verb = "looking up" if comparing else "recording the last"
                self._say(f"{verb} {self.num_missing:,} trials…")
                pause = self._patience.next_word_s

    @property
    def num_missing(self) -> int:
        """How many trials MLflow may lack; they are in the journal."""
        progress = self._progress
        if progress.complete:
            return 0
        waiting = self._queue.qsize() + len(progress.pending) + len(self._gathering) + progress.dropped + progress.lost
        if progress.phase == "starting":
            return waiting + (self._num_left or progress.behind)
        return self._num_left or waiting if progress.phase == "finishing" else waiting

    @property
    def _num_left(self) -> int:
        """How many trials a replay that is under way, or was broken off, has still to write."""
        return 0 if self._store is None else self._store.num_left

    def _run(self) -> None:
        """Deliver until closed, then replay. The thread's only way out is its end."""
        progress = self._progress
        if not self._attempt(self._start):
            progress.lost += self._num_left or progress.behind
        progress.phase = "delivering"
        while not (self._closing.is_set() and self._queue.empty()):
            progress.pending = self._take()
            if progress.pending and not self._attempt(self._deliver):
                progress.lost += len(progress.pending)
            progress.pending = []
            if self._may_catch_up():
                self._attempt(self._catch_up)
        progress.phase, progress.retry_at = "finishing", 0.0
        self._attempt(self._finish)

    def _may_catch_up(self) -> bool:
        """Whether there is something to replay, and time for it before the end."""
        progress = self._progress
        behind = progress.lost or progress.dropped
        return bool(behind) and self._queue.empty() and not self._closing.is_set() and self._is_time()

    def _is_time(self) -> bool:
        return time.monotonic() >= max(self._progress.retry_at, self._progress.catch_up_at)

    def _catch_up(self) -> None:
        """Replay what was lost while MLflow was away or slow, and take the launch's run up again."""
        progress, dropped = self._progress, self._progress.dropped
        progress.catch_up_at = time.monotonic() + self._patience.catch_up_s
        store = self._opened()
        store.sync(self._study_file, self._journalled, self._launch.launch_id)
        progress.parent = self._begin(store)
        progress.lost, progress.dropped, progress.failed = 0, progress.dropped - dropped, False

    def _take(self) -> list[TrialRecord]:
        """Return the next few records; none after a short wait, so that closing is noticed."""
        taken: list[TrialRecord] = []
        try:
            taken.append(self._queue.get(timeout=0.1))
            while len(taken) < _BATCH:
                taken.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        complete = self._gathering.add(taken)
        self._progress.dropped += self._gathering.give_up()
        return complete

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do something with the store unless it is resting after a failure; return whether it was done."""
        progress = self._progress
        if time.monotonic() < progress.retry_at:
            return False
        try:
            action()
        except Exception as error:  # noqa: BLE001  (recording must never end a study)
            self._rest(error)
            return False
        progress.pause_s = 0.0
        notices = [] if self._store is None else self._store.notices
        for notice in notices:
            self._warn(notice)
        notices.clear()
        return True

    def _opened(self) -> TrialSink:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _rest(self, error: Exception) -> None:
        progress, patience = self._progress, self._patience
        progress.failed = True
        progress.pause_s = min(patience.longest_pause_s, 2 * progress.pause_s or patience.first_pause_s)
        progress.retry_at = time.monotonic() + progress.pause_s
        known = isinstance(error, RecordingError)
        text = str(error) if known else without_secrets(f"MLflow failed: {type(error).__name__}: {error}")
        if not progress.warned:
            progress.warned = True
            self._tell(text)

    def _tell(self, text: str) -> None:
        if "hyperscale sync" not in text:
            text += f" Nothing is lost: `hyperscale sync {self._study_file.path}` records later what is missing."
        self._warn(f"{text} The study goes on.")

    def _start(self) -> None:
        """Replay what earlier launches left behind, unless the study is marked as showing just that."""
        outcomes = list(self._journalled.outcomes())
        if not outcomes:
            return
        own = {trial.digest for trial in self._launch.trials}
        self._progress.behind = sum(outcome.digest not in own for outcome in outcomes)
        store = self._opened()
        if not store.is_current(self._study_file, fingerprint(outcomes)):
            store.sync(self._study_file, self._journalled, self._launch.launch_id)

    def _deliver(self) -> None:
        progress, store = self._progress, self._opened()
        if progress.parent is None:
            progress.parent = self._begin(store)
        store.record(self._study_file.study.name, progress.pending, progress.parent)

    def _begin(self, store: TrialSink) -> str:
        return store.begin_launch(self._launch.launch_id, self._study_file, len(self._launch.trials))

    def _finish(self) -> None:
        """Replay what was not delivered, mark the study, and end the launch."""
        progress = self._progress
        if progress.parent is not None or progress.failed or progress.dropped or len(self._gathering):
            store, launch_id = self._opened(), self._launch.launch_id
            replayed = store.sync(self._study_file, self._journalled, launch_id, search=progress.failed)
            if replayed and progress.parent is None:
                progress.parent = self._begin(store)
            if progress.parent is not None:
                store.end_launch(progress.parent, self._status)
        progress.complete = True
