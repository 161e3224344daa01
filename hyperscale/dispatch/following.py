"""Following a job through lost connections, and submitting it anew where the cluster lost it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hyperscale.errors import ResourceError

EXIT_FAILED, EXIT_STOPPED = 1, 130
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
_LOST_ERRORS = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
_SIGNALLED = 128  # a shell's exit code for a child killed by signal n is 128 + n; by itself `run` returns 130 at most
_Found = TypeVar("_Found")


class LostConnectionError(ResourceError):
    """The job server did not answer; it may again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What to run on the cluster: an identifier, a shell command, an archive to run it in, and an environment."""

    submission_id: str
    entrypoint: str
    archive: Path
    runtime_env: dict[str, Any] = field(default_factory=dict, repr=False)

    def again(self, number: int) -> JobRequest:
        """Return the request under the identifier of its ``number``-th repetition."""
        base = self.submission_id.rpartition("-again")[0] or self.submission_id
        return replace(self, submission_id=f"{base}-again{number}")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """Where a job stands, in Ray's words: status, the driver's exit code, and what went wrong."""

    status: str
    exit_code: int | None = None
    error_type: str | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether the status cannot change any more."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def lost(self) -> bool:
        """Whether the job ended because its driver or its node did, rather than by itself."""
        if self.status != "FAILED":
            return False
        if self.exit_code is None:
            return self.error_type in _LOST_ERRORS
        return self.exit_code < 0 or (self.exit_code > _SIGNALLED and self.exit_code != EXIT_STOPPED)

    def code(self) -> int:
        """Return the exit code of the run, or one that says how the job ended without any."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return EXIT_STOPPED
        return self.exit_code if self.exit_code and 0 < self.exit_code <= EXIT_STOPPED else EXIT_FAILED


class JobServer(Protocol):
    """What following needs of a cluster's job server. Each call may raise `LostConnectionError`."""

    def submit(self, request: JobRequest) -> None:
        """Start a job; one that runs already under this identifier is left alone."""

    def state(self, submission_id: str) -> JobState | None:
        """Return where a job stands; None where the cluster does not know it."""

    def log(self, submission_id: str) -> Generator[str, None, None]:
        """Yield a job's log from its beginning while it grows, and nothing-yet as an empty string."""


@dataclass(kw_only=True, slots=True)
class Follower:
    """Follows jobs of one server: ``write`` gets each part of the log once, ``say`` what a reader should know.

    A server that does not answer is asked again after 1, 2, 4, ... up to 30 seconds, for ``patience_s`` in all.
    """

    server: JobServer
    write: Callable[[str], object]
    say: Callable[[str], object]
    patience_s: float = 900.0
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    following: str = ""
    _num_seen: int = 0
    _lost_at: float | None = None
    _pause_s: float = FIRST_PAUSE_S

    def follow(self, submission_id: str) -> JobState | None:
        """Follow a job until it has ended, and return how; None where the cluster no longer knows it."""
        self.following, self._num_seen = submission_id, 0
        while True:
            state = self.insist(lambda: self._read(submission_id))
            if state is None or state.ended:
                return state
            self.sleep(FIRST_PAUSE_S)

    def _read(self, submission_id: str) -> JobState | None:
        """Write what is new in the log until it ends, and return where the job stands then.

        A job that is found to have ended in a quiet moment may have written since: its log is done when it ends, or
        when a whole quiet while has passed after that.
        """
        if self.server.state(submission_id) is None:
            return None
        skip, ended = self._num_seen, False
        with contextlib.closing(self.server.log(submission_id)) as chunks:
            for chunk in chunks:
                self._answered()
                if not chunk:
                    state = self.server.state(submission_id)
                    if state is None or (state.ended and ended):
                        return state
                    ended = state.ended
                fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                if fresh:
                    self.write(fresh)
                    self._num_seen += len(fresh)
        return self.server.state(submission_id)

    def insist(self, action: Callable[[], _Found]) -> _Found:
        """Return what ``action`` returns, calling it again while the server does not answer."""
        while True:
            try:
                found = action()
            except LostConnectionError as problem:
                self._wait(problem)
            else:
                self._answered()
                return found

    def _answered(self) -> None:
        if self._lost_at is not None:
            self.say("Connected again.")
            self._lost_at, self._pause_s = None, FIRST_PAUSE_S

    def _wait(self, problem: LostConnectionError) -> None:
        """Pause before the next attempt, or raise ``problem`` where there were enough."""
        now = self.clock()
        if self._lost_at is None:
            self._lost_at = now
            self.say(
                f"Connection lost: {problem} Trying again for {self.patience_s / 60:.0f} minutes; the job goes on."
            )
        elif now - self._lost_at > self.patience_s:
            raise problem
        self.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


def run_through(follower: Follower, request: JobRequest, *, most_resubmits: int) -> tuple[JobRequest, JobState | None]:
    """Follow a submitted job to its end, submitting it anew up to ``most_resubmits`` times where it was lost.

    Returns the last request and how its job ended. `run` takes up what the store has, so a job submitted anew
    repeats at most what its predecessor had not saved.
    """
    for number in range(1, most_resubmits + 1):
        state = follower.follow(request.submission_id)
        if state is not None and not state.lost:
            return request, state
        follower.say(f"{_loss(request.submission_id, state)} Submitting it again ({number} of {most_resubmits}).")
        follower.sleep(FIRST_PAUSE_S * 2 ** (number - 1))
        request = request.again(number)
        submit_patiently(follower, request)
        follower.say(f"Submitted as {request.submission_id}; what the store has is not repeated.")
    state = follower.follow(request.submission_id)
    if state is None or state.lost:
        follower.say(f"{_loss(request.submission_id, state)} Submit the study again to go on.")
    return request, state


def submit_patiently(follower: Follower, request: JobRequest) -> None:
    """Submit a job, trying again where the connection is lost; the identifier keeps it from starting twice."""
    follower.following = request.submission_id
    follower.insist(lambda: follower.server.submit(request))


def _loss(submission_id: str, state: JobState | None) -> str:
    if state is None:
        return f"The cluster does not know job {submission_id} any more: its head was restarted."
    how = f"exit code {state.exit_code}" if state.exit_code is not None else state.error_type
    return f"Job {submission_id} lost its driver ({how})."
