"""Members of different lengths in one pack: each ends as it would alone, and ended rows are dropped on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.target import FixedSample
from hyperscale.training import trainer
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Cosine
from tests.packs import METHODS, RULES, SHARED, Member, approximation, finish, optimizer

STEPS = (30, 30, 200, 120, 77, 200, 33, 64)
SHRINKING = (
    (30, 8),
    (64, 6),
    (77, 4),
    (120, 3),
    (200, 2),
)  # up to a step, so many rows: a quarter ends at 30, at 64, …


def sobolev(method: str, rule: str, lengths: Sequence[int] = STEPS) -> list[Member]:
    """Return members of different lengths, with rates and schedules of their own."""
    schedules = (Cosine(), Cosine(final=0.1))
    return [
        (approximation(METHODS[method], optimizer(rule, 0.002 * (1 + i), schedules[i % 2]), steps=steps), i % 3)
        for i, steps in enumerate(lengths)
    ]


def sampled() -> list[Member]:
    """Return eight members that see a sample in epochs."""
    shared: dict[str, Any] = {
        "method": Hypernetwork(widths=(5,), **SHARED),
        "target": InnerProduct(x_dim=40, conditioning_dim=2),
        "points": FixedSample(size=60, test_size=40, batch_size=20),
    }
    return [
        (Approximation(optimizer=SGD(lr=0.01 * (1 + i), momentum=0.5), steps=steps, **shared), i % 3)
        for i, steps in enumerate(STEPS)
    ]


def generators() -> list[Member]:
    """Return eight generators."""
    generator = WeightGenerator(widths=(6,))
    return [
        (Generation(accuracy_weight=1 + i, generator=generator, optimizer=Adam(lr=0.002), steps=steps), i % 3)
        for i, steps in enumerate(STEPS)
    ]


PACKS: dict[str, Callable[[], list[Member]]] = {
    **{f"{method}, {rule}": lambda m=method, r=rule: sobolev(m, r) for method in METHODS for rule in RULES[1::2]},  # type: ignore[misc]
    "a sample": sampled,
    "generators": generators,
}


@pytest.mark.parametrize("name", PACKS)
def test_members_of_different_lengths_end_as_each_would_alone(name: str) -> None:
    """Outcomes of a pack of eight lengths, metrics and curves, are those of eight solo runs, bit for bit."""
    members = PACKS[name]()
    whole = finish(members).outcomes()
    assert [outcome.status for outcome in whole] == ["finished"] * len(STEPS)
    for member, outcome, steps in zip(members, whole, STEPS, strict=True):
        assert outcome.curves["train_loss"][0][-1] == steps
        assert finish([member]).outcomes() == [outcome]


@pytest.mark.parametrize(
    ("lengths", "shrinking"),
    [
        (STEPS, ((30, 8), (64, 6), (77, 4), (120, 3), (200, 2))),
        ((10, 20, 30, 40, 50), ((20, 5), (30, 3), (40, 2), (50, 1))),
    ],
)
def test_ended_rows_are_dropped_once_they_are_a_quarter(
    lengths: tuple[int, ...], shrinking: tuple[tuple[int, int], ...]
) -> None:
    """Of eight members six are left after two have ended, four after two more; one of five is not enough."""
    members = sobolev("hypernetwork", "adam", lengths)
    run: Any = members[0][0].start(members, "cpu")
    sizes: list[tuple[int, int]] = []
    while not run.advance(0.0):
        sizes.append((run.step, len(run.members)))
        assert run.params.shape[0] == run.gradient.shape[0] == len(run.members)
        assert all(buffer.shape == run.params.shape for buffer in run.optimizer.buffers.values())
    assert sizes == [(at, next(rows for end, rows in shrinking if at <= end)) for at, _ in sizes]
    assert {rows for _, rows in sizes} == {rows for _, rows in shrinking}
    assert run.members == [row for row, steps in enumerate(lengths) if steps == max(lengths)]


def test_diverged_rows_are_dropped_too() -> None:
    """A quarter of hopeless members is dropped soon after they are lost; the others end as in a sound pack."""
    members = [(approximation(METHODS["monolithic"], SGD(lr=lr), steps=200), 0) for lr in (0.01, 1e30, 0.02, 0.03)]
    run: Any = members[0][0].start(members, "cpu")
    while not run.advance(0.0) and run.step < 100:
        pass
    assert run.members == [0, 2, 3]
    assert run.advance(60.0)
    assert [outcome.status for outcome in run.outcomes()] == ["finished", "diverged", "finished", "finished"]
    for row in (0, 2, 3):
        assert finish([members[row]]).outcomes() == [run.outcomes()[row]]


@pytest.mark.parametrize("rule", RULES)
def test_dropping_rows_changes_no_bit(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pack without compaction, or compacted at every end, has the same outcomes."""
    members = sobolev("embedding", rule)
    expected = finish(members).outcomes()
    for part, rows in ((2.0, 8), (0.01, 2)):
        monkeypatch.setattr(trainer, "_COMPACTED_PART", part)
        run = finish(members)
        assert len(run.members) == rows
        assert run.outcomes() == expected


@pytest.mark.parametrize("name", ["hypernetwork, adam-decay", "per-instance, sgd-momentum", "a sample", "generators"])
def test_a_run_resumes_across_compactions_with_the_same_bits(name: str) -> None:
    """Saved before, at and after rows were dropped, loaded with weights_only and finished elsewhere: the same end."""
    members = PACKS[name]()
    expected = finish(members)
    first: Any = members[0][0].start(members, "cpu")
    for stop in (31, 130) if name == "generators" else (20, 30, 31, 65, 130):
        while first.step < stop:
            assert not first.advance(0.0)
        file = io.BytesIO()
        torch.save(first.state(), file)
        file.seek(0)
        second: Any = members[0][0].start(members, "cpu")
        second.restore(torch.load(file, weights_only=True))
        assert (second.step, second.members) == (first.step, first.members)
        while not second.advance(60.0):
            pass
        assert second.outcomes() == expected.outcomes()
        assert second.params.numpy().tobytes() == expected.params.numpy().tobytes()
    assert len(first.members) == 2


def test_a_chain_of_resumed_runs_ends_the_same() -> None:
    """A run handed from process to process at odd steps, every compaction on another's watch, loses nothing."""
    members = sobolev("monolithic", "adam-decay")
    expected = finish(members).outcomes()
    run: Any = members[0][0].start(members, "cpu")
    for stop in range(7, 200, 13):
        while run.step < stop:
            assert not run.advance(0.0)
        state = run.state()
        run = members[0][0].start(members, "cpu")
        run.restore(state)
    assert run.advance(60.0)
    assert run.outcomes() == expected


@pytest.mark.parametrize("name", ["hypernetwork, adam-decay", "per-instance, sgd-momentum", "a sample", "generators"])
@pytest.mark.parametrize("stop", [0, 25, 70, 150, 10**9])
@pytest.mark.parametrize("part", [(0,), (0, 1, 2, 3), (4, 5, 6, 7), (6, 1)])
def test_a_part_goes_on_from_what_the_whole_had_saved(name: str, stop: int, part: tuple[int, ...]) -> None:
    """Saved early, late, after some were compacted away, or with all trained: the same bits for the rest of the way."""
    members = PACKS[name]()
    expected = finish(members).outcomes()
    whole: Any = members[0][0].start(members, "cpu")
    while whole.step < stop and whole.active and not whole.advance(0.0):
        pass
    own = [members[member] for member in part]
    run: Any = own[0][0].start(own, "cpu")
    run.restore_part(whole.state(), part)
    assert run.step == whole.step
    saved = run.state()  # and a part may be saved, and gone on with, itself
    again: Any = own[0][0].start(own, "cpu")
    again.restore(saved)
    for one in (run, again):
        assert one.advance(60.0)
        assert one.outcomes() == [expected[member] for member in part]
