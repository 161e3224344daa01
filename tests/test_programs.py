"""Tests of which approximations share a program, and of what they cost."""

from __future__ import annotations

import itertools

import pytest

from hyperscale.methods.monolithic import Monolithic
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Cosine
from tests.test_approximation import METHODS, PRODUCT, SAMPLE, tiny


def test_trials_that_differ_in_numbers_only_share_a_program() -> None:
    """Rate, schedule, steps, weight decay, momentum and the target's seed may vary within a pack."""
    base = tiny(optimizer=Adam(lr=0.1))
    assert tiny(optimizer=Adam(lr=0.1), steps=7).program_key() == base.program_key()
    assert tiny(optimizer=Adam(lr=0.1, schedule=Cosine())).program_key() == base.program_key()
    assert tiny(optimizer=Adam(lr=0.2, weight_decay=0.3)).program_key() == base.program_key()
    assert tiny(
        optimizer=Adam(lr=0.1), target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2, seed=5)
    ).program_key() == (base.program_key())
    momenta = [tiny(optimizer=SGD(lr=0.1, momentum=momentum)).program_key() for momentum in (0.5, 0.9, 0.0)]
    assert momenta[0] == momenta[1] != momenta[2]


def test_trials_that_differ_in_shape_do_not_share_a_program() -> None:
    """Method, widths, activation, points, grid, precision and levels each give another program."""
    others = [
        tiny(),
        tiny(precision="float64"),
        tiny(grid_points=10),
        tiny(points=FreshPoints(instances=5, points=3)),
        tiny(points=SAMPLE),
        tiny(optimizer=SGD(lr=0.1)),
        tiny(Monolithic(primary_widths=(5,), activation="tanh", bias="all")),
        tiny(Monolithic(primary_widths=(4,), activation="relu", bias="all")),
        tiny(Monolithic(primary_widths=(4,), activation="tanh", bias="none")),
        tiny(METHODS["embedding"]),
        tiny(METHODS["hypernetwork"]),
        tiny(target=SobolevBall(x_dim=1, conditioning_dim=1, levels=3)),
        tiny(target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2, smoothness=2)),
        tiny(target=PRODUCT),
        Generation(accuracy_weight=1),  # type: ignore[list-item]
    ]
    assert len({setting.program_key() for setting in others}) == len(others)


@pytest.mark.parametrize("kind", ["hypernetwork", "embedding", "monolithic", "per-instance"])
def test_cost_is_positive_and_grows_with_width_and_steps(kind: str) -> None:
    """Wider networks cost more arithmetic and memory, more steps more arithmetic only."""

    def setting(width: int, steps: int = 100) -> Approximation:
        method = METHODS[kind]
        fields = {name: getattr(method, name) for name in type(method).__dataclass_fields__}
        return tiny(type(method)(**{**fields, "primary_widths": (width,)}), steps=steps)

    costs = [setting(width).cost() for width in (4, 16, 64, 256)]
    for small, large in itertools.pairwise(costs):
        assert 0 < small.flops < large.flops
        assert 0 < small.memory_bytes < large.memory_bytes
        assert small.num_steps == 100
    longer = setting(4, 200).cost()
    assert longer.flops == pytest.approx(2 * costs[0].flops)
    assert longer.memory_bytes == costs[0].memory_bytes
    assert longer.num_steps == 200


def test_cost_of_a_small_case() -> None:
    """A 2-4-1 network without biases on 12 pairs: 3 x 12 products less 8 for no input's gradient, and the update."""
    setting = tiny(Monolithic(primary_widths=(4,)), steps=10)
    assert setting.cost().flops == 10 * (2 * 12 * (3 * 12 - 8) + 12 * 12)


def test_columns_tell_methods_sizes_and_budget() -> None:
    """Tables get the counts of the papers beside the method, the rate and the budget."""
    columns = tiny(METHODS["hypernetwork"], optimizer=Adam(lr=0.25)).columns()
    assert columns["method"] == "Hypernetwork"
    assert columns["num_params_primary"] == 13  # 1-4-1 with biases
    assert columns["num_params_total"] == 1 * 3 + 3 + 3 * 13 + 13
    assert (columns["lr"], columns["steps"], columns["batch"]) == (0.25, 6, "12")
    assert all(isinstance(value, str | int | float) for value in columns.values())
