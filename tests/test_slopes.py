"""Tests of the targets' signed slopes over boxes: they contain sampled derivatives, and close as boxes shrink."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperscale.targets.bump_family import BumpFamily
from hyperscale.targets.classical import Tilted
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import Target
from hyperscale.training.certificates import certify_sup_error
from tests.fits import METHODS

TARGETS: dict[str, Target] = {
    "ball": SobolevBall(x_dim=1, conditioning_dim=1, levels=4, seed=3),
    "smooth ball": SobolevBall(x_dim=2, conditioning_dim=1, levels=2, smoothness=3),
    "bumps": BumpFamily(x_dim=1, conditioning_dim=2, cells=5, seed=2),
    "checkerboard": BumpFamily(x_dim=1, conditioning_dim=1, cells=8, smoothness=2, signs="alternating"),
    "tilted": Tilted(x_dim=1, conditioning_dim=2),
    "exponential": Tilted(x_dim=1, conditioning_dim=1, profile="exponential"),
}
BOXES, SAMPLES = 400, 60


def boxes(num_dims: int, width: float) -> tuple[Tensor, Tensor]:
    """Return random boxes of up to ``width``, some cut off at the cube's border, half of them on dyadic corners."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, BOXES, num_dims, generator=generator, dtype=torch.float64)
    lower = 2 * corners[0] - 1
    lower[::2] = (lower[::2] * 8).floor() / 8
    return lower, (lower + width * corners[1].where(torch.arange(BOXES)[:, None] % 4 > 0, 1.0)).clamp(max=1)


def _values(target: Target, prepared: Any, x: Tensor, conditioning: Tensor) -> Tensor:
    return prepared.evaluate(x[None, :, None], conditioning[None])[0, :, 0, 0]


@pytest.mark.parametrize("width", [1.5, 0.2, 0.01])
@pytest.mark.parametrize("name", TARGETS)
def test_intervals_contain_sampled_derivatives(name: str, width: float) -> None:
    """At random points of a box, its corners among them, every difference quotient lies within the interval."""
    target = TARGETS[name]
    prepared: Any = target.prepare([target], [0], "cpu")
    lower, upper = boxes(target.x_dim + target.conditioning_dim, width)
    low, high = prepared.slope_intervals(lower, upper)
    generator = torch.Generator().manual_seed(2)
    places = torch.rand(SAMPLES, BOXES, lower.shape[1], generator=generator, dtype=torch.float64)
    places[: SAMPLES // 3] = places[: SAMPLES // 3].round()
    points = (lower + places * (upper - lower)).flatten(0, 1)
    slopes = central_differences(target, prepared, points).view(SAMPLES, BOXES, -1)
    slack = 2e-4  # the quotient is over 1e-6, the second derivative at most some hundreds
    assert bool((slopes >= low - slack).all())
    assert bool((slopes <= high + slack).all())
    everywhere = torch.tensor(target.slope_bounds(), dtype=torch.float64)
    assert bool((torch.maximum(-low, high) <= everywhere * (1 + 1e-12)).all())


def central_differences(target: Target, prepared: Any, points: Tensor) -> Tensor:
    """Return difference quotients of y at points [points, m], inside the cube, along every coordinate."""
    step, columns = 1e-6, []
    for axis in range(points.shape[1]):
        ends = [points.clone(), points.clone()]
        ends[0][:, axis], ends[1][:, axis] = points[:, axis] - step, points[:, axis] + step
        ends = [end.clamp(-1, 1) for end in ends]
        values = [_values(target, prepared, end[:, : target.x_dim], end[:, target.x_dim :]) for end in ends]
        columns.append((values[1] - values[0]) / (ends[1] - ends[0])[:, axis])
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("name", TARGETS)
def test_intervals_close_as_boxes_shrink(name: str) -> None:
    """Over boxes of 1e-5 the interval is hardly wider than the derivative's change over it."""
    target = TARGETS[name]
    prepared: Any = target.prepare([target], [0], "cpu")
    lower, _ = boxes(target.x_dim + target.conditioning_dim, 1e-5)
    lower = lower + 1e-4  # off the corners of cells
    low, high = prepared.slope_intervals(lower, (lower + 1e-5).clamp(max=1))
    assert float((high - low).max()) < 1e-3 * max(target.slope_bounds() or ())
    slopes = central_differences(target, prepared, lower)
    assert float((slopes - low).abs().max()) < 2e-3


def test_signed_slopes_bring_the_bound_down() -> None:
    """With as many boxes the certificate of a fit is tighter by signed slopes than by sizes alone."""
    target, method = TARGETS["ball"], METHODS["hypernetwork-table"]
    params = method.initialize(target.dims, [0])
    signed, unsigned = (
        certify_sup_error(method, target.dims, params, one, 0, found=0.01, tolerance=0.02, max_cells=4000)
        for one in (target, _Unsigned(x_dim=1, conditioning_dim=1, levels=4, seed=3))
    )
    assert signed < unsigned


class _Unsigned(SobolevBall):
    """The same ball, without signed slopes."""

    def prepare(self, targets: Any, seeds: Any, device: str) -> Any:
        return _Values(SobolevBall.prepare(self, targets, seeds, device))


class _Values:
    def __init__(self, prepared: Any) -> None:
        self.evaluate = prepared.evaluate
