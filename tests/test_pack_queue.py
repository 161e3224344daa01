"""The queue of packs: retries with a bound, halving, silence, and nodes that fail too often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.dispatch.pack_queue import PackQueue, Part, Patience
from hyperscale.packing import Pack
from hyperscale.study import StudyFile, load_study
from hyperscale.trial import TrialResult, TrialStatus
from tests.conftest import tiny_text


class Heard:
    """Events that are noted; ``others`` are packs that another driver has."""

    stopping = False

    def __init__(self, others: Sequence[int] = ()) -> None:
        self.others = others
        self.asked: list[int] = []
        self.results: list[tuple[int, TrialResult]] = []
        self.losses: list[tuple[int, str, str]] = []
        self.excluded: dict[str, str] = {}
        self.fractions: list[tuple[int, float]] = []

    def lease(self, pack: int) -> bool:
        """Lease what no other driver has."""
        self.asked.append(pack)
        return pack not in self.others

    def placed(self, pack: int, node: str, readings: Mapping[str, Any] | None = None) -> None:
        """Not looked at."""

    def lost(self, pack: int, node: str, reason: str) -> None:
        """Note a loss."""
        self.losses.append((pack, node, reason))

    def left_out(self, node: str, reason: str) -> None:
        """Note an exclusion."""
        self.excluded[node] = reason

    def progress(self, pack: int, fraction: float) -> None:
        """Note progress."""
        self.fractions.append((pack, fraction))

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Note results."""
        self.results += [(pack, result) for result in results]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFile:
    """Return a study of 32 trials."""
    path = tmp_path_factory.mktemp("queue") / "tiny.py"
    path.write_text(tiny_text())
    return load_study(path)


@pytest.fixture
def packs(study: StudyFile) -> list[Pack]:
    """Return four packs of eight trials."""
    trials = study.study.trials()
    return [Pack(trials=tuple(trials[start : start + 8])) for start in range(0, 32, 8)]


Make = Callable[..., tuple[PackQueue, Heard]]


@pytest.fixture
def make(packs: list[Pack], tmp_path: Path) -> Make:
    """Return a function that makes a queue on nodes a, b, c, and its events."""

    def queue(others: Sequence[int] = (), **changes: Any) -> tuple[PackQueue, Heard]:
        heard = Heard(others)
        given: dict[str, Any] = {"alive": lambda: ("a", "b", "c"), "patience": Patience(max_failures=1), **changes}
        return PackQueue(packs, heard, tmp_path, **given), heard

    return queue


def hand_out(queue: PackQueue, key: str) -> Part:
    """Hand out a part that is there, and start it."""
    part = queue.next(key)
    assert part is not None
    queue.started(key)
    return part


def test_packs_come_in_order_and_only_those_leased(make: Make) -> None:
    """What another driver has is passed over, and a lease is asked for right before it is needed."""
    queue, heard = make(others=[0, 2])
    assert hand_out(queue, "x").pack == 1
    assert heard.asked == [0, 1]
    assert hand_out(queue, "y").pack == 3
    assert queue.next("z") is None
    assert not queue.finished
    for key in "xy":
        queue.heard(key, "a", 1.0, done=True)
    assert queue.finished
    assert heard.fractions == [(1, 1.0), (3, 1.0)]


def test_a_lost_pack_begins_again_elsewhere_then_in_halves(make: Make) -> None:
    """One retry of the whole, away from where it failed; then halves, whose failure is told with every node."""
    queue, heard = make(others=[1, 2, 3])
    first = hand_out(queue, "1")
    queue.heard("1", "a", 0.25, done=False)
    queue.lost("1", "told to die")
    again = hand_out(queue, "2")
    assert (again.first, again.last, again.attempt) == (first.first, first.last, 1)
    assert queue.avoided(again) == ("a",)
    queue.lost("2", "told to die", "b")
    halves = [hand_out(queue, key) for key in "34"]
    assert [(half.first, half.last) for half in halves] == [(0, 4), (4, 8)]
    assert [half.origins for half in halves] == [((0, 8),), ((0, 8),)]
    assert halves[1].halves(0)[1].origins == ((4, 8), (0, 8))
    queue.heard("3", "c", 1.0, done=True)
    assert heard.fractions[-1] == (0, 0.5)
    assert [node for _, node, _ in heard.losses] == ["a", "b"]
    assert "halves" in heard.losses[-1][2]


def test_one_trial_that_kills_its_worker_fails_alone(make: Make) -> None:
    """Whatever the pack, only the trial that kills fails, with a reason, and the number of losses is bounded."""
    queue, heard = make()
    number = 0
    while not queue.finished:
        number += 1
        part = hand_out(queue, str(number))
        if part.pack == 2 and part.first <= 5 < part.last:
            queue.lost(str(number), "told to die", "abc"[number % 3])
        else:
            queue.heard(str(number), "a", 1.0, done=True)
    assert [(pack, result.status) for pack, result in heard.results] == [(2, TrialStatus.FAILED)]
    assert heard.results[0][1].digest == queue.packs[2].trials[5].digest
    assert "told to die" in heard.results[0][1].reason
    assert not heard.excluded
    assert number == 3 + 2 * 4 + 3, "three other packs; twice each of 8, 4, 2, 1 trials; the other halves"
    assert heard.fractions[-1][1] <= 1


def test_a_node_that_keeps_failing_packs_is_left_out_and_named(make: Make) -> None:
    """Three packs that fail on one node and nowhere else end it, with the reason; other nodes stay."""
    queue, heard = make()
    for key in "123":
        hand_out(queue, key)
        queue.lost(key, "no CUDA driver", "b")
    assert list(heard.excluded) == ["b"]
    assert "no CUDA driver" in heard.excluded["b"]
    assert queue.avoided(hand_out(queue, "4")) == ("b",)


def test_success_and_failure_elsewhere_clear_a_node(make: Make) -> None:
    """A pack that fails on a second node too is its own fault, and a success between starts the count anew."""
    queue, heard = make(patience=Patience(max_failures=5))
    for key in "12":
        hand_out(queue, key)
        queue.lost(key, "bad", "b")
    assert hand_out(queue, "3").pack == 2
    queue.heard("3", "b", 1.0, done=True)
    hand_out(queue, "4")
    queue.lost("4", "bad", "b")
    assert not heard.excluded
    for key in "567":  # the same three again, on another node
        hand_out(queue, key)
        queue.lost(key, "bad", "c")
    assert not heard.excluded


def test_the_last_node_is_never_left_out(make: Make) -> None:
    """Where there is only one node, its packs fail in the end, with a reason."""
    queue, heard = make(alive=lambda: ("a",))
    number = 0
    while not queue.finished:
        number += 1
        hand_out(queue, str(number))
        queue.lost(str(number), "no memory", "a", out_of_memory=True)
    assert not heard.excluded
    assert {result.status for _, result in heard.results} == {TrialStatus.OUT_OF_MEMORY}
    assert len({result.digest for _, result in heard.results}) == len(heard.results) == 32


def test_a_node_that_dies_is_nobodys_fault(make: Make) -> None:
    """Losses with a whole node do not count towards halving, up to a bound of their own."""
    alive = ["a", "b"]
    patience = Patience(max_failures=0, max_node_losses=3)
    queue, heard = make(others=[1, 2, 3], alive=lambda: alive, patience=patience)
    for number in range(3):
        part = hand_out(queue, str(number))
        queue.lost(str(number), "the node died", "gone")
        assert part.num_members == 8
    assert not heard.results
    hand_out(queue, "last")
    queue.lost("last", "the node died", "gone")
    assert len(heard.results) == 8


def test_silence_and_the_time_limit_end_a_worker(make: Make) -> None:
    """A worker counts as overdue after a silence or too long in all, not while it waits for a place."""
    now = [0.0]
    queue, _ = make(patience=Patience(silence_s=10.0, time_limit_s=100.0), clock=lambda: now[0])
    assert queue.next("waits") is not None
    hand_out(queue, "works")
    now[0] = 9.0
    queue.heard("works", "a", 0.1, done=False)
    now[0] = 18.0
    assert queue.overdue() == []
    now[0] = 20.0
    assert [key for key, _ in queue.overdue()] == ["works"]
    for now[0] in range(20, 110, 5):
        queue.heard("works", "a", 0.1, done=False)
    assert [(key, "100" in why) for key, why in queue.overdue()] == [("works", True)]
    assert queue.next("waits too") is not None


def test_a_lost_cluster_puts_everything_back(make: Make) -> None:
    """What ran waits again, first in line, with nobody at fault."""
    queue, heard = make()
    for key in "12":
        hand_out(queue, key)
    queue.put_back()
    assert [hand_out(queue, key).pack for key in "3456"] == [0, 1, 2, 3]
    assert not heard.losses


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_trial_ends_once_whatever_happens(study: StudyFile, tmp_path_factory: Any, data: st.DataObject) -> None:
    """Under random losses, deaths of nodes, lost clusters and successes the queue ends, every trial just once."""
    trials = study.study.trials()[:14]
    packs = [Pack(trials=tuple(trials[:5])), Pack(trials=tuple(trials[5:6])), Pack(trials=tuple(trials[6:]))]
    heard, alive = Heard(), {"a", "b", "c"}
    patience = Patience(max_failures=data.draw(st.integers(0, 2)), max_node_losses=3)
    queue = PackQueue(packs, heard, tmp_path_factory.mktemp("q"), patience=patience, alive=lambda: sorted(alive))
    running: dict[str, Part] = {}
    succeeded: list[str] = []
    for number in range(2000):
        if queue.finished:
            break
        if len(running) < 3 and (part := queue.next(str(number))) is not None:
            queue.started(str(number))
            running[str(number)] = part
        key = data.draw(st.sampled_from(sorted(running)))
        node = data.draw(st.sampled_from("abcd"))
        match data.draw(st.sampled_from(["done", "done", "lost", "word", "cluster"])):
            case "done":
                part = running.pop(key)
                succeeded += [trial.digest for trial in packs[part.pack].trials[part.first : part.last]]
                queue.heard(key, node, 1.0, done=True)
            case "lost":
                running.pop(key)
                queue.lost(key, "chance", node)
            case "word":
                queue.heard(key, node, 0.5, done=False)
            case "cluster":
                if data.draw(st.booleans()):
                    queue.put_back()
                    running.clear()
                    if queue.finished:
                        break
                    running[f"again-{number}"] = hand_out(queue, f"again-{number}")
    assert queue.finished
    ended = succeeded + [result.digest for _, result in heard.results]
    assert sorted(ended) == sorted(trial.digest for trial in trials)
