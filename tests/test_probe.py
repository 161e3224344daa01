"""Tests of `hyperscale.dispatch.probe`: real measurements of tiny programs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hyperscale.dispatch import probe
from hyperscale.dispatch.probe import (
    device_key_here,
    device_memory,
    measure,
    measure_here,
    next_size,
    speed_from_json,
    speed_to_json,
)
from hyperscale.methods.monolithic import Monolithic
from hyperscale.packing import Speed
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.settings.setting import Cost, Setting
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints

PLENTY = 2**40

TINY = Approximation(
    method=Monolithic(primary_widths=(4,)),
    target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
    points=FreshPoints(instances=4, points=4),
    steps=10**6,
    grid_points=9,
)
SAMPLED = Approximation(
    method=Monolithic(primary_widths=(4,)),
    target=InnerProduct(x_dim=3, conditioning_dim=2),
    points=FixedSample(size=100_000, test_size=40, batch_size=20),
    steps=10**6,
)
GENERATION = Generation(accuracy_weight=1.0, steps=10**6)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in shorter slices than a study deserves."""
    monkeypatch.setattr(probe, "_SLICE_S", 0.01)


@pytest.mark.parametrize(
    "setting",
    [TINY, SAMPLED, Generation(accuracy_weight=1.0, steps=10**6)],
    ids=["fresh points", "a sample", "generator"],
)
def test_a_tiny_program_is_measured_at_rising_sizes(setting: Setting) -> None:
    """Sizes 1, 4, 16, ... up to the members there are, finite positive times, memory as modelled, all in a moment."""
    started = time.monotonic()
    speed = measure([(setting, seed) for seed in range(20)], "cpu", PLENTY)
    assert time.monotonic() - started < 5
    assert speed.members == (1, 4, 16, 20)[: len(speed.members)]
    assert len(speed.members) >= 2
    assert all(0 < seconds < 1 for seconds in speed.step_seconds)
    assert 0 <= speed.evaluation_s < 5
    cost = setting.cost()
    assert (speed.member_bytes, speed.shared_bytes) == (cost.memory_bytes, cost.shared_bytes)
    assert speed.measured
    assert speed_from_json(speed_to_json(speed)) == speed


def test_measuring_leaves_the_members_as_they_are() -> None:
    """Only little of a sample is drawn, and the setting itself is not shortened."""
    before = replace(SAMPLED)
    brief = SAMPLED.brief(None)
    assert isinstance(brief.points, FixedSample)
    assert (brief.points.size, brief.points.test_size, brief.steps) == (40, 1, 10**6)
    measure([(SAMPLED, 0), (SAMPLED, 1)], "cpu", PLENTY)
    assert before == SAMPLED


@pytest.mark.parametrize("setting", [TINY, SAMPLED, GENERATION], ids=["fresh points", "a sample", "generator"])
def test_a_brief_setting_is_of_the_same_program_in_all_that_trains(setting: Setting) -> None:
    """Network, batch and update rule are the setting's own; with a number of steps it takes so many."""
    for num_steps in (None, 1):
        brief: Any = setting.brief(num_steps)
        assert brief.cost().num_steps == (num_steps or setting.cost().num_steps)
        columns, own = brief.columns(), setting.columns()
        assert {key: columns[key] for key in columns if key != "steps"} == {
            key: own[key] for key in own if key != "steps"
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Limited(Setting):
    """A setting of which only so many fit; each step of a pack takes ``slowness`` seconds a member and more."""

    most: int
    error: str = "memory"
    slowness: float = 0.0

    @property
    def method_name(self) -> str:
        """Any."""
        return "Limited"

    def columns(self) -> dict[str, str | int | float]:
        """Nothing worth telling."""
        return {"method": "Limited"}

    def metric_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def program(self) -> object:
        """One for all."""
        return "limited"

    def cost(self) -> Cost:
        """Next to nothing."""
        return Cost(flops=1.0, num_steps=10**6, memory_bytes=7, shared_bytes=3)

    def start(self, members: Sequence[tuple[Setting, int]], device: str) -> Any:
        """Start, unless there are too many."""
        if len(members) > self.most:
            raise MemoryError if self.error == "memory" else RuntimeError("CUDA out of memory")
        return Counting(self.slowness * len(members) ** 1.5)


class Counting:
    """A run whose steps sleep."""

    num_steps = 10**6

    def __init__(self, seconds: float) -> None:
        self.seconds, self.step = seconds, 0

    def advance(self, max_seconds: float) -> bool:
        """Take one step."""
        time.sleep(1e-4 + self.seconds)
        self.step += 1
        return False


def test_memory_and_members_bound_what_is_measured() -> None:
    """Sizes grow fourfold as far as trials and memory go; the measurement then says that more might pay."""
    cost = Cost(flops=1, num_steps=1, memory_bytes=10, shared_bytes=100)
    assert [next_size(cost, size, 20, 10**6) for size in (1, 4, 16, 20)] == [4, 16, 20, 20]
    assert [next_size(cost, 4, 20, memory) for memory in (260, 259)] == [16, 4]
    for count, memory, sizes in (
        (100, 3 + 7 * 63, (1, 4, 16)),
        (100, 3 + 7 * 64, (1, 4, 16, 64)),
        (6, PLENTY, (1, 4, 6)),
    ):
        speed = measure([(Limited(most=64), seed) for seed in range(count)], "cpu", memory)
        assert speed.members == sizes
        assert speed.open_ended


@pytest.mark.parametrize("error", ["memory", "cuda"])
@pytest.mark.parametrize(("most", "sizes"), [(20, (1, 4, 16)), (4, (1, 4)), (1, (1,))])
def test_a_size_that_does_not_fit_leaves_the_smaller_ones(most: int, sizes: tuple[int, ...], error: str) -> None:
    """Running out of memory at a larger size ends the measurement with what is known; it is not tried again."""
    speed = measure([(Limited(most=most, error=error), seed) for seed in range(100)], "cpu", PLENTY)
    assert speed.members == sizes
    assert all(math.isfinite(seconds) for seconds in speed.step_seconds)
    assert not speed.open_ended
    assert speed.evaluation_s == 0


def test_a_program_that_does_not_start_at_all_has_no_speed() -> None:
    """`measure` raises what it met, `measure_here` says None: the run itself will tell why."""
    members = [(Limited(most=0), 0)]
    with pytest.raises(MemoryError):
        measure(members, "cpu", PLENTY)
    assert measure_here(members, PLENTY) is None


def test_larger_packs_are_not_measured_where_they_do_not_pay() -> None:
    """Members that slow each other down end the measurement after four, for good."""
    speed = measure([(Limited(most=100, slowness=0.002), seed) for seed in range(100)], "cpu", PLENTY)
    assert speed.members == (1, 4)
    assert speed.best_members == 1
    assert not speed.open_ended


def test_a_speed_survives_json_and_nonsense_does_not() -> None:
    """What is kept is what was measured; None for anything else."""
    speed = Speed(members=(1, 4), step_seconds=(0.5, 0.75), evaluation_s=0.125, member_bytes=9, open_ended=True)
    assert speed_from_json(speed_to_json(speed)) == speed
    assert speed_from_json({**speed_to_json(speed), "members": (4, 1)}) is None
    assert speed_from_json("nonsense") is None


def test_the_device_has_a_name_and_memory() -> None:
    """The key of measurements names hardware and torch; some memory is free."""
    assert "torch" in device_key_here()
    assert device_memory() > 2**20
