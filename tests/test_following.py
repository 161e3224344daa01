"""Following a job through lost connections, and submitting it anew where it was lost, with a server that is played."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperscale.dispatch.following import (
    Follower,
    JobRequest,
    JobState,
    LostConnectionError,
    run_through,
    submit_patiently,
)

RUNNING, DONE = JobState(status="RUNNING"), JobState(status="SUCCEEDED", exit_code=0)
KILLED = JobState(status="FAILED", exit_code=-9, error_type="JOB_ENTRYPOINT_COMMAND_ERROR")


@dataclass
class PlayedServer:
    """A job server whose answers are written down: states in order (an exception is raised), and logs in parts."""

    states: list[JobState | Exception | None] = field(default_factory=list)
    logs: list[Sequence[str | Exception]] = field(default_factory=list)
    submits: list[Exception | None] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)

    def submit(self, request: JobRequest) -> None:
        """Note the identifier, after whatever failure is next."""
        problem = self.submits.pop(0) if self.submits else None
        if problem is not None:
            raise problem
        self.submitted.append(request.submission_id)

    def state(self, submission_id: str) -> JobState | None:
        """Return or raise what is next; the last answer stays."""
        answer = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def log(self, submission_id: str) -> Generator[str, None, None]:
        """Yield the parts of the log that is next, or raise."""
        for part in self.logs.pop(0) if self.logs else []:
            if isinstance(part, Exception):
                raise part
            yield part


def lost() -> LostConnectionError:
    """Return what a server raises that does not answer."""
    return LostConnectionError("http://head:8265 did not answer.")


class Watched(Follower):
    """A follower whose output, words and pauses are kept."""

    def __init__(self, server: PlayedServer, patience_s: float = 900.0) -> None:
        self.output: list[str] = []
        self.words: list[str] = []
        self.pauses: list[float] = []
        super().__init__(
            server=server, write=self.output.append, say=self.words.append, sleep=self.pauses.append,
            clock=lambda: sum(self.pauses), patience_s=patience_s,
        )  # fmt: skip


def request() -> JobRequest:
    """Return a request."""
    return JobRequest(submission_id="tiny-1", entrypoint="true", archive=Path("x.zip"))


def cut(text: str, places: Sequence[int]) -> list[str]:
    """Return a text in parts."""
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(
    text=st.text(min_size=1, max_size=60),
    breaks=st.lists(st.tuples(st.lists(st.integers(0, 60)), st.integers(0, 5)), max_size=4),
    places=st.lists(st.integers(0, 60)),
)
def test_no_part_of_the_log_is_repeated_or_missed(
    text: str, breaks: list[tuple[list[int], int]], places: list[int]
) -> None:
    """Whatever the parts it comes in and wherever connections break, the log is written once."""
    logs: list[Sequence[str | Exception]] = [[*cut(text, at)[:num], "", lost()] for at, num in breaks]
    server = PlayedServer([RUNNING] * (4 * len(breaks) + 2) + [DONE], [*logs, cut(text, places)])
    follower = Watched(server)
    follower.follow("tiny-1")
    assert "".join(follower.output) == text


def test_a_lost_connection_is_said_and_taken_up_again() -> None:
    """One sentence when it is lost, one when it is back; pauses double from 1 s to 30 s."""
    server = PlayedServer([RUNNING, *[lost()] * 8, RUNNING, DONE], [["one\n", lost()], ["one\n", "two\n"]])
    follower = Watched(server)
    assert follower.follow("tiny-1") == DONE
    assert "".join(follower.output) == "one\ntwo\n"
    assert [words.split()[0] for words in follower.words] == ["Connection", "Connected"]
    assert "the job goes on" in follower.words[0]
    assert follower.pauses == [1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_patience_ends() -> None:
    """A server that stays away is given up after the time that was said."""
    follower = Watched(PlayedServer([lost()]), patience_s=100)
    with pytest.raises(LostConnectionError):
        follower.follow("tiny-1")
    assert 100 < sum(follower.pauses) <= 130


def test_patience_is_for_each_loss_anew() -> None:
    """Two absences, each shorter than the patience, are survived though they are longer together."""
    absence: list[JobState | Exception | None] = [*[lost()] * 6, RUNNING, RUNNING]
    server = PlayedServer([*absence, *absence, DONE], [["", lost()], ["x"]])
    follower = Watched(server, patience_s=70)
    assert follower.follow("tiny-1") == DONE
    assert sum(follower.pauses) > 70


def test_a_job_that_ended_while_the_log_was_quiet_has_ended() -> None:
    """A log that hangs open does not keep the follower; what came between the quiet and the end is not missed."""
    server = PlayedServer([RUNNING, RUNNING, DONE], [["x", "", "", "y", "", "never"]])
    follower = Watched(server)
    assert follower.follow("tiny-1") == DONE
    assert follower.output == ["x", "y"]


def test_a_job_that_the_cluster_forgot_is_submitted_anew() -> None:
    """After the head was restarted the job is unknown; its successor has an identifier that says so."""
    server = PlayedServer([RUNNING, lost(), None, RUNNING, DONE], [[lost()], ["again\n"]])
    follower = Watched(server)
    used, state = run_through(follower, request(), most_resubmits=3)
    assert (state, used.submission_id, server.submitted) == (DONE, "tiny-1-again1", ["tiny-1-again1"])
    assert any("head was restarted" in words and "(1 of 3)" in words for words in follower.words)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_submitting_anew_has_an_end(most: int) -> None:
    """A driver that is killed each time is submitted anew as often as allowed, and no more."""
    server = PlayedServer([KILLED])
    follower = Watched(server)
    used, state = run_through(follower, request(), most_resubmits=most)
    assert state == KILLED
    assert server.submitted == [f"tiny-1-again{number}" for number in range(1, most + 1)]
    assert used.submission_id == (server.submitted or ["tiny-1"])[-1]
    assert "Submit the study again" in follower.words[-1]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (DONE, 0),
        (JobState(status="FAILED", exit_code=1), 1),
        (JobState(status="FAILED", exit_code=2), 2),
        (JobState(status="FAILED", exit_code=130), 130),
        (JobState(status="STOPPED"), 130),
        (JobState(status="FAILED", error_type="RUNTIME_ENV_SETUP_FAILURE", message="no such package"), 1),
        (JobState(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT"), 1),
    ],
)
def test_a_job_that_ended_by_itself_is_not_repeated(state: JobState, code: int) -> None:
    """Failed trials, bad input, a stop, an environment that cannot be made are answers; the code is the run's."""
    server = PlayedServer([state])
    _, ended = run_through(Watched(server), request(), most_resubmits=3)
    assert ended is state
    assert (state.code(), state.lost, server.submitted) == (code, False, [])


@pytest.mark.parametrize(
    "state",
    [
        KILLED,
        JobState(status="FAILED", exit_code=137),
        JobState(status="FAILED", exit_code=143),
        JobState(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED"),
        JobState(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"),
    ],
)
def test_a_lost_driver_is_lost(state: JobState) -> None:
    """A signal, a shell's word for one, or a dead supervisor; the exit code is 1 if nothing helps."""
    assert state.lost
    assert state.code() == 1


def test_a_submission_whose_answer_was_lost_is_sent_again_under_the_same_name() -> None:
    """The identifier keeps a job from starting twice."""
    server = PlayedServer(submits=[lost(), lost(), None])
    follower = Watched(server)
    submit_patiently(follower, request())
    assert server.submitted == ["tiny-1"]
    assert follower.pauses == [1, 2]


def test_identifiers_of_repetitions_do_not_grow() -> None:
    """The second repetition is again2 of the same name, not of the first repetition."""
    assert request().again(1).again(2).submission_id == "tiny-1-again2"
    assert "secret" not in repr(
        JobRequest(submission_id="a", entrypoint="b", archive=Path(), runtime_env={"x": "secret"})
    )
