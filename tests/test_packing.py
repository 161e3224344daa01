"""Tests of `hyperscale.packing`: which trials share a pack, how many, and in what order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.identity import sha256
from hyperscale.methods.monolithic import Monolithic
from hyperscale.packing import (
    ACTIVATIONS_PER_SECOND,
    EVALUATION_S,
    FLOPS_PER_SECOND,
    MAX_MEMBERS,
    STEP_OVERHEAD_S,
    Pack,
    Speed,
    estimated_speed,
    estimated_wall_seconds,
    make_packs,
    programs,
)
from hyperscale.settings.approximation import Approximation
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Cosine
from hyperscale.trial import Trial


def trial(width: int = 4, lr: float = 0.1, seed: int = 0, **fields: Any) -> Trial:
    """Return a trial of a small network."""
    setting = Approximation(
        method=Monolithic(primary_widths=(width,)),
        target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
        points=FreshPoints(instances=4, points=4),
        **{"steps": 100, "optimizer": Adam(lr=lr), **fields},
    )
    return Trial(setting=setting, seed=seed)


def many(count: int, **fields: Any) -> list[Trial]:
    """Return trials of one program."""
    return [trial(lr=0.1 * (1 + i % 3), seed=i // 3, **fields) for i in range(count)]


def sized(**fields: Any) -> Speed:
    """Return a measured speed: 1 s a step alone, 2.5 s for four, a quarter of a second to evaluate."""
    known = {"members": (1, 4), "step_seconds": (1.0, 2.5), "evaluation_s": 0.25, "member_bytes": 100}
    return Speed(**{**known, **fields})


def speeds(trials: list[Trial], **fields: Any) -> dict[str, Speed]:
    """Return the same speed for every program."""
    return dict.fromkeys(programs(trials), sized(**fields))


# --- which trials share a program ------------------------------------------------------------------------------


def test_only_trials_of_one_program_share_a_pack() -> None:
    """Widths padded apart and update rules separate, and every trial is packed once."""
    trials = [*many(5, width=4), *many(5, width=8), *many(5, width=4, optimizer=SGD(lr=0.1))]
    packs = make_packs(trials[::2] + trials[1::2])
    assert len(packs) == 3
    for pack in packs:
        assert len({member.setting.program_key() for member in pack.trials}) == 1
    packed = [member.digest for pack in packs for member in pack.trials]
    assert sorted(packed) == sorted(member.digest for member in trials)


def test_steps_schedules_rates_and_seeds_share_a_program() -> None:
    """What only changes a member's own numbers does not separate it from its pack-mates."""
    trials = [
        trial(),
        trial(steps=50),
        trial(seed=3),
        trial(optimizer=Adam(lr=3.0, weight_decay=0.1, schedule=Cosine(final=0.1))),
    ]
    assert len(programs(trials)) == 1


def test_widths_share_a_program_where_they_are_padded_alike() -> None:
    """9 and 10 train as 10, 17 to 20 as 20; 16 is its own, and so is 8, which is not padded to 10."""
    widths = (8, 9, 10, 16, 17, 19, 20)
    groups = programs([trial(width=width) for width in widths])
    found = [[member.setting.method.primary_widths[0] for member in group] for group in groups.values()]  # type: ignore[attr-defined]
    assert found == [[8], [9, 10], [16], [17, 19, 20]]


def test_within_a_program_the_longest_come_first() -> None:
    """Members are sorted by steps, ties as given, so that a pack's members end together."""
    steps = [100, 400, 200, 400, 100, 300]
    trials = [trial(steps=count, seed=seed) for seed, count in enumerate(steps)]
    (group,) = programs(trials).values()
    assert [member.seed for member in group] == [1, 3, 5, 2, 0, 4]
    packs = make_packs(trials, max_members=2)
    assert {tuple(member.seed for member in pack.trials) for pack in packs} == {(1, 3), (5, 2), (0, 4)}


# --- speed and cost --------------------------------------------------------------------------------------------


def test_a_speed_is_linear_between_its_sizes_and_beyond() -> None:
    """1 s at 1 and 2.5 s at 4: 1.5 s at 2, 4.5 s at 8; a falling line stops at half of what one member takes."""
    speed = sized()
    assert [speed.seconds(count) for count in (1, 2, 4, 8)] == pytest.approx([1.0, 1.5, 2.5, 4.5])
    three = sized(members=(1, 4, 16), step_seconds=(1.0, 2.5, 4.0))
    assert [three.seconds(count) for count in (3, 4, 10, 28)] == pytest.approx([2.0, 2.5, 3.25, 5.5])
    falling = sized(step_seconds=(1.0, 0.8))
    assert falling.seconds(100) == 0.5
    alone = sized(members=(1,), step_seconds=(1.0,))
    assert [alone.seconds(count) for count in (1, 3)] == [1.0, 3.0]


def test_the_best_size_is_the_smallest_that_is_nearly_the_fastest() -> None:
    """Of 1, 4, 16 and 64 trials the time a member decides; within 7 % of the best the smallest size is taken."""
    sizes = (1, 4, 16, 64)
    assert sized(members=sizes, step_seconds=(1.0, 2.0, 4.0, 15.5)).best_members == 16
    assert sized(members=sizes, step_seconds=(1.0, 2.0, 4.0, 14.5)).best_members == 64
    assert sized(members=sizes, step_seconds=(1.0, 4.0, 16.0, 64.0)).best_members == 1
    assert sized(members=sizes, step_seconds=(1.0, 3.9, 15.4, 61.0)).best_members == 1


def test_estimated_seconds_follow_the_members_that_are_left() -> None:
    """Lengths 10, 10, 30, 50: 10 steps of four, 20 of two, 20 of one, and four evaluations are 76 s."""
    members = tuple(trial(steps=steps, seed=i) for i, steps in enumerate((50, 30, 10, 10)))
    pack = Pack(trials=members, speed=sized())
    assert pack.estimated_seconds == pytest.approx(10 * 2.5 + 20 * 1.5 + 20 * 1.0 + 4 * 0.25)
    assert Pack(trials=members[:1], speed=sized()).estimated_seconds == pytest.approx(50.25)


def test_cost_of_a_pack_adds_work_but_not_steps() -> None:
    """Arithmetic and memory add up, what is shared does not, and the longest member's steps count."""
    single, members = trial().setting.cost(), [*many(2), trial(steps=40)]
    cost = Pack(trials=tuple(members)).cost
    assert cost.flops == pytest.approx(2.4 * single.flops)
    assert cost.num_activations == pytest.approx(2.4 * single.num_activations)
    assert cost.memory_bytes == 3 * single.memory_bytes
    assert cost.shared_bytes == single.shared_bytes > 0
    assert cost.num_steps == single.num_steps == 100


def test_an_unmeasured_pack_is_estimated_by_the_model() -> None:
    """Time is overhead, arithmetic and passes over activations for every step, and an evaluation for every member."""
    single, pack = trial().setting.cost(), Pack(trials=tuple(many(3)))
    passes = 3 * single.num_activations / ACTIVATIONS_PER_SECOND
    expected = 100 * STEP_OVERHEAD_S + 3 * single.flops / FLOPS_PER_SECOND + passes + 3 * EVALUATION_S
    assert pack.estimated_seconds == pytest.approx(expected)
    assert pack.memory_bytes == single.shared_bytes + 3 * single.memory_bytes
    assert not estimated_speed(trial().setting).measured


def test_the_model_packs_small_networks_and_leaves_large_ones_alone() -> None:
    """Where arithmetic dwarfs a step's overhead, a pack saves nothing; where it does not, packs are large."""
    assert estimated_speed(trial(width=50_000).setting).best_members == 1
    assert estimated_speed(trial(width=4).setting).best_members > 50


# --- how many --------------------------------------------------------------------------------------------------


def test_seventeen_at_sixteen_become_nine_and_eight() -> None:
    """Members are spread evenly instead of leaving a lone one."""
    assert sorted(len(pack.trials) for pack in make_packs(many(17), max_members=16)) == [8, 9]
    assert [len(pack.trials) for pack in make_packs(many(16), max_members=16)] == [16]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 70), limit=st.integers(1, 20), workers=st.integers(1, 4))
def test_packs_are_as_few_as_possible_and_even(count: int, limit: int, workers: int) -> None:
    """One worker gets the fewest packs that respect the limit; with more, none exceeds it; sizes differ by one."""
    packs = make_packs(many(count), max_members=limit, workers=workers)
    sizes = [len(pack.trials) for pack in packs]
    assert workers > 1 or len(sizes) == -(-count // limit)
    assert max(sizes) <= limit
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == count


def test_a_measured_best_size_is_used() -> None:
    """With known speeds a pack has as many trials as paid; --max-pack lowers that and never raises it."""
    trials = many(32)
    known = speeds(trials, members=(1, 4, 16), step_seconds=(1.0, 1.2, 4.7))
    assert [len(pack.trials) for pack in make_packs(trials, speeds=known)] == [4] * 8
    assert [len(pack.trials) for pack in make_packs(trials, speeds=known, max_members=2)] == [2] * 16
    assert [len(pack.trials) for pack in make_packs(trials, speeds=known, max_members=30)] == [4] * 8
    assert all(pack.speed == next(iter(known.values())) for pack in make_packs(trials, speeds=known))


def test_no_pack_exceeds_max_members_whatever_would_pay() -> None:
    """The told number beats the model, the measurement, idle workers and plenty of memory; without it 1024 is most."""
    trials = many(12)
    eager = speeds(trials, members=(1, 64), step_seconds=(1.0, 1.0))
    for options in ({}, {"speeds": eager}, {"workers": 3}, {"memory_bytes": 2**60}):
        assert max(len(pack.trials) for pack in make_packs(trials, max_members=5, **options)) <= 5  # type: ignore[arg-type]
    crowd = many(MAX_MEMBERS + 1)
    endless = speeds(crowd, members=(1, 10**6), step_seconds=(1.0, 1.0))
    assert sorted(len(pack.trials) for pack in make_packs(crowd, speeds=endless)) == [512, 513]


def test_memory_limit_is_respected_but_one_trial_always_fits() -> None:
    """A pack's own and shared memory stays below the limit; a trial larger than the limit is a pack of its own."""
    cost = trial().setting.cost()
    one, shared = cost.memory_bytes, cost.shared_bytes
    limit = shared + 3 * one + one // 2
    packs = make_packs(many(10), memory_bytes=limit)
    assert all(pack.memory_bytes <= limit for pack in packs)
    assert max(len(pack.trials) for pack in packs) == 3
    assert [len(pack.trials) for pack in make_packs(many(4), memory_bytes=3 * one)] == [1] * 4
    assert [len(pack.trials) for pack in make_packs(many(4), memory_bytes=1)] == [1] * 4


def test_measured_memory_counts_where_it_is_known() -> None:
    """A measured member of 100 bytes beside 1000 shared ones fits five times into 1500 bytes, whatever the model."""
    trials = many(20)
    known = speeds(trials, members=(1, 16), step_seconds=(1.0, 1.0), shared_bytes=1000)
    packs = make_packs(trials, speeds=known, memory_bytes=1599)
    assert [len(pack.trials) for pack in packs] == [5] * 4
    assert {pack.memory_bytes for pack in packs} == {1500}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_idle_workers_get_smaller_packs(workers: int) -> None:
    """Sixteen trials that pay best together are split so that every worker has one pack, where that saves time."""
    trials = many(16)
    known = speeds(trials, members=(1, 16), step_seconds=(1.0, 9.0), evaluation_s=0.0)
    packs = make_packs(trials, speeds=known, workers=workers)
    assert [len(pack.trials) for pack in packs] == [16 // workers] * workers
    free = speeds(trials, members=(1, 16), step_seconds=(1.0, 1.0), evaluation_s=0.0)
    assert len(make_packs(trials, speeds=free, workers=workers)) == 1


# --- order, estimates and identity -----------------------------------------------------------------------------


def test_longest_packs_come_first() -> None:
    """Packs are sorted by estimated time, whatever the order of the trials."""
    trials = [trial(steps=10), trial(steps=1000), trial(steps=100), trial(width=300, steps=1000)]
    packs = make_packs(trials, max_members=1)
    times = [pack.estimated_seconds for pack in packs]
    assert times == sorted(times, reverse=True)
    assert [pack.trials[0].digest for pack in packs] == [trials[i].digest for i in (3, 1, 2, 0)]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_halves_keep_every_trial_in_order(count: int) -> None:
    """The two halves, one after the other, are the pack; neither is empty, and both know the speed."""
    pack = Pack(trials=tuple(many(count)), speed=sized())
    first, second = pack.halves()
    assert (*first.trials, *second.trials) == pack.trials
    assert 0 <= len(second.trials) - len(first.trials) <= 1
    assert first.trials
    assert first.speed == second.speed == sized()


def test_a_packs_digest_names_its_members_in_order() -> None:
    """The digest is that of the members' digests: other members or another order are another pack, a speed is not."""
    members = tuple(many(3))
    assert Pack(trials=members).digest == sha256([member.digest for member in members])
    assert Pack(trials=members, speed=sized()) == Pack(trials=members)
    others = [Pack(trials=members), Pack(trials=members[::-1]), Pack(trials=members[:2])]
    assert len({pack.digest for pack in others}) == 3


def test_packing_is_the_same_every_time() -> None:
    """The same trials give the same packs, so that checkpoints are found again."""
    trials = [*many(20), *many(20, width=8), *many(5, steps=7)]
    assert [p.digest for p in make_packs(trials)] == [p.digest for p in make_packs(list(trials))]


def test_estimated_wall_time_shares_packs_between_workers() -> None:
    """One worker takes the sum; many take the longest pack; nothing to do takes no time."""
    packs = make_packs([trial(steps=steps) for steps in (100, 200, 300, 400)], max_members=1)
    times = [pack.estimated_seconds for pack in packs]
    assert len(times) == 4
    assert estimated_wall_seconds(packs, 1) == pytest.approx(sum(times))
    assert estimated_wall_seconds(packs, 9) == pytest.approx(max(times))
    assert estimated_wall_seconds(packs, 2) == pytest.approx(times[0] + times[3])
    assert estimated_wall_seconds([], 2) == 0


def test_no_trials_give_no_packs() -> None:
    """An empty list is packed into nothing, with any number of workers."""
    assert list(itertools.chain(make_packs([]), make_packs([], workers=3))) == []
