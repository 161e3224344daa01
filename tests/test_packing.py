"""Tests of `hyperscale.packing`: which trials share a pack, how many, and in what order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.identity import sha256
from hyperscale.methods.monolithic import Monolithic
from hyperscale.packing import (
    ACTIVATIONS_PER_SECOND,
    FLOPS_PER_SECOND,
    STEP_OVERHEAD_S,
    Pack,
    estimated_wall_seconds,
    make_packs,
)
from hyperscale.settings.approximation import Approximation
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.training.optimizers import Adam
from hyperscale.trial import Trial


def trial(width: int = 4, lr: float = 0.1, seed: int = 0, **fields: Any) -> Trial:
    """Return a trial of a small network."""
    setting = Approximation(
        method=Monolithic(primary_widths=(width,)),
        target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
        optimizer=Adam(lr=lr),
        points=FreshPoints(instances=4, points=4),
        **{"steps": 100, **fields},
    )
    return Trial(setting=setting, seed=seed)


def many(count: int, **fields: Any) -> list[Trial]:
    """Return trials of one program."""
    return [trial(lr=0.1 * (1 + i % 3), seed=i // 3, **fields) for i in range(count)]


def test_only_trials_of_one_program_share_a_pack() -> None:
    """Widths and steps separate, rates and seeds do not, and every trial is packed once."""
    trials = [*many(5, width=4), *many(5, width=8), *many(5, width=4, steps=50)]
    packs = make_packs(trials[::2] + trials[1::2])
    assert len(packs) == 3
    for pack in packs:
        assert len({member.setting.program_key() for member in pack.trials}) == 1
    packed = [member.digest for pack in packs for member in pack.trials]
    assert sorted(packed) == sorted(member.digest for member in trials)


def test_seventeen_at_sixteen_become_nine_and_eight() -> None:
    """Members are spread evenly instead of leaving a lone one."""
    assert sorted(len(pack.trials) for pack in make_packs(many(17), max_members=16)) == [8, 9]
    assert [len(pack.trials) for pack in make_packs(many(16), max_members=16)] == [16]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 70), limit=st.integers(1, 20))
def test_packs_are_as_few_as_possible_and_even(count: int, limit: int) -> None:
    """The number of packs is the least that respects the limit, and sizes differ by one at most."""
    trials = many(count)
    packs = make_packs(trials, max_members=limit)
    sizes = [len(pack.trials) for pack in packs]
    assert len(sizes) == -(-count // limit)
    assert max(sizes) <= limit
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == count


def test_memory_limit_is_respected_but_one_trial_always_fits() -> None:
    """A pack's estimated memory stays below the limit; a trial larger than the limit is a pack of its own."""
    one = trial().setting.cost().memory_bytes
    packs = make_packs(many(10), memory_bytes=3 * one + 1)
    assert all(pack.cost.memory_bytes <= 3 * one + 1 for pack in packs)
    assert max(len(pack.trials) for pack in packs) == 3
    assert [len(pack.trials) for pack in make_packs(many(4), memory_bytes=1)] == [1] * 4


def test_longest_packs_come_first() -> None:
    """Packs are sorted by estimated time, whatever the order of the trials."""
    trials = [trial(steps=10), trial(steps=1000), trial(steps=100), trial(width=300, steps=1000)]
    packs = make_packs(trials)
    times = [pack.estimated_seconds for pack in packs]
    assert times == sorted(times, reverse=True)
    assert [pack.trials[0].digest for pack in packs] == [trials[i].digest for i in (3, 1, 2, 0)]


def test_cost_of_a_pack_adds_work_but_not_steps() -> None:
    """Arithmetic and memory add up; the members step together; time is overhead plus arithmetic."""
    single, pack = trial().setting.cost(), Pack(trials=tuple(many(3)))
    assert pack.cost.flops == pytest.approx(3 * single.flops)
    assert pack.cost.memory_bytes == 3 * single.memory_bytes
    assert pack.cost.num_steps == single.num_steps == 100
    passes = 3 * single.num_activations / ACTIVATIONS_PER_SECOND
    expected = 100 * STEP_OVERHEAD_S + 3 * single.flops / FLOPS_PER_SECOND + passes
    assert pack.estimated_seconds == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_halves_keep_every_trial_in_order(count: int) -> None:
    """The two halves, one after the other, are the pack; neither is empty."""
    pack = Pack(trials=tuple(many(count)))
    first, second = pack.halves()
    assert (*first.trials, *second.trials) == pack.trials
    assert 0 <= len(second.trials) - len(first.trials) <= 1
    assert first.trials


def test_a_packs_digest_names_its_members_in_order() -> None:
    """The digest is that of the members' digests: other members or another order are another pack."""
    members = tuple(many(3))
    assert Pack(trials=members).digest == sha256([member.digest for member in members])
    others = [Pack(trials=members), Pack(trials=members[::-1]), Pack(trials=members[:2])]
    assert len({pack.digest for pack in others}) == 3


def test_packing_is_the_same_every_time() -> None:
    """The same trials give the same packs, so that checkpoints are found again."""
    trials = [*many(20), *many(20, width=8)]
    assert [p.digest for p in make_packs(trials)] == [p.digest for p in make_packs(list(trials))]


def test_estimated_wall_time_shares_packs_between_workers() -> None:
    """One worker takes the sum; many take the longest pack; nothing to do takes no time."""
    packs = make_packs([trial(steps=steps) for steps in (100, 200, 300, 400)])
    times = [pack.estimated_seconds for pack in packs]
    assert estimated_wall_seconds(packs, 1) == pytest.approx(sum(times))
    assert estimated_wall_seconds(packs, 9) == pytest.approx(max(times))
    assert estimated_wall_seconds(packs, 2) == pytest.approx(times[0] + times[3])
    assert estimated_wall_seconds([], 2) == 0


def test_no_trials_give_no_packs() -> None:
    """An empty list is packed into nothing."""
    assert make_packs([]) == []
