"""Tests of `hyperscale.training.sup_norm` and `peaks`: the largest error found."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.targets.grids import grid
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.peaks import PeakCells
from hyperscale.training.sup_norm import find_sup_error, interpolate_rows
from tests.known_slopes import Bump, Square


def interpolant(knots: int) -> Tensor:
    """Return parameters of sum_i v_i relu(w_i x + b_i), [1, 3 knots], equal to x^2 at equispaced knots."""
    t = torch.linspace(-1, 1, knots, dtype=torch.float64)
    slopes = t[1:] + t[:-1]
    jumps = torch.cat([slopes[:1], slopes.diff()])
    weight = torch.ones(knots, dtype=torch.float64)
    bias = torch.cat([-t[:-1], torch.tensor([1e6], dtype=torch.float64)])
    outer = torch.cat([jumps, torch.tensor([1e-6], dtype=torch.float64)])
    weight[-1] = 0
    return torch.cat([weight, bias, outer])[None]


def test_ascent_finds_the_peak_off_the_grid() -> None:
    """With h = 0 and a bump whose peak lies off a coarse grid, the value is the peak's 1 and not the grid's."""
    target = Bump(x_dim=1, conditioning_dim=1)
    method = Monolithic(primary_widths=(4,))
    params = torch.zeros(1, method.num_params_trained(target.dims), dtype=torch.float64)
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=8)
    peak = max(1.0, (1 + target.x_peak) ** 2 + (1 - target.conditioning_peak) ** 2 - 1)
    assert found.value == pytest.approx(peak, abs=1e-12)
    narrow = find_sup_error(
        method,
        target.dims,
        params,
        target.prepare([target], [0], "cpu"),
        grid_points=8,
        instances=torch.full((1, 1), target.conditioning_peak, dtype=torch.float64),
    )
    assert narrow.conditioning.item() == target.conditioning_peak
    along = max(1.0, (1 + target.x_peak) ** 2 - 1)
    assert narrow.value == pytest.approx(along, abs=1e-12)


@pytest.mark.parametrize(("knots", "points"), [(5, 50), (17, 100)])
def test_square_against_its_interpolant(knots: int, points: int) -> None:
    """The error of the interpolant of x^2 with spacing s is s^2 / 4 at the middles of the pieces."""
    target, method = Square(x_dim=1, conditioning_dim=1), PerInstance(primary_widths=(knots,), bias="hidden")
    params = interpolant(knots).repeat(1, method.num_instances)
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=points)
    spacing = 2 / (knots - 1)
    assert found.grid_value < found.value
    assert found.value == pytest.approx(spacing**2 / 4, rel=1e-9)


def test_grid_matches_a_direct_evaluation_and_is_deterministic() -> None:
    """Grid maximum, rmse and the errors of zero are those of one evaluation; a second search gives the same bits."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
    method = Hypernetwork(primary_widths=(8,), bias="all", encoder=HatEncoder(knots=9))
    params, points = method.initialize(target.dims, [3]), 65
    prepared = target.prepare([target], [0], "cpu")
    found = find_sup_error(method, target.dims, params, prepared, grid_points=points)
    axis = grid(1, points)
    x = axis.expand(1, points, points, 1)
    y = prepared.evaluate(x, axis[None])
    error = method.evaluate(target.dims, params, x, axis[None]) - y
    assert found.grid_value == pytest.approx(float(error.abs().max()), rel=1e-13)
    assert found.rmse == pytest.approx(float(error.square().mean().sqrt()), rel=1e-12)
    assert found.zero_value == pytest.approx(float(y.abs().max()), rel=1e-13)
    assert found.zero_rmse == pytest.approx(float(y.square().mean().sqrt()), rel=1e-12)
    assert found.value >= found.grid_value
    at = method.evaluate(target.dims, params, found.x[None, None, None], found.conditioning[None, None])
    y_at = prepared.evaluate(found.x[None, None, None], found.conditioning[None, None])
    assert abs(float(at - y_at)) == pytest.approx(found.value, rel=1e-12)
    again = find_sup_error(method, target.dims, params, prepared, grid_points=points)
    assert (again.value, again.rmse) == (found.value, found.rmse)


@pytest.mark.parametrize("dim", [1, 2])
def test_few_rows_give_the_same_as_all_hats(dim: int) -> None:
    """Interpolated rows are the features times the table, inside the cube, at knots and on its border."""
    encoder = HatEncoder(knots=9)
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(9**dim, 5, generator=generator, dtype=torch.float64)
    inside = 2 * torch.rand(50, dim, generator=generator, dtype=torch.float64) - 1
    conditioning = torch.cat([inside, grid(dim, 9), grid(dim, 2)])
    expected = encoder.encode(conditioning) @ table
    assert torch.allclose(interpolate_rows(table, 9, conditioning), expected, rtol=0, atol=1e-13)


def test_per_instance_keeps_the_best_attempt() -> None:
    """Of two attempts, one of them zero, the interpolant counts for every instance."""
    target = Square(x_dim=1, conditioning_dim=1)
    method = PerInstance(primary_widths=(9,), bias="hidden", num_instances=3, restarts=2)
    good = interpolant(9)
    params = torch.cat([torch.zeros_like(good), good], dim=1).repeat(1, 3)
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=40)
    assert found.attempts is not None
    assert found.attempts.tolist() == [1, 3, 5]
    assert found.value == pytest.approx(0.25**2 / 4, rel=1e-9)


def test_a_network_that_is_not_finite_has_an_infinite_error() -> None:
    """A diverged network is never a number."""
    target, method = Square(x_dim=1, conditioning_dim=1), Monolithic(primary_widths=(4,))
    params = torch.full((1, method.num_params_trained(target.dims)), math.nan, dtype=torch.float64)
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=5)
    assert (found.value, found.rmse) == (math.inf, math.inf)


def test_peaks_are_of_distinct_hills() -> None:
    """Three hills of a fine field give three peaks, the highest first, however the field is cut into slabs."""
    axis = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    centres = ((-0.5, 0.2, 3.0), (0.4, 0.4, 2.0), (0.3, -0.7, 1.0))
    field = sum(h * torch.exp(-20 * ((axis[:, None] - a).square() + (axis[None] - b).square())) for a, b, h in centres)
    assert isinstance(field, Tensor)
    cells = PeakCells((1001, 1001), 0, "cpu")
    for start, part in enumerate(field.flatten().split(77_777)):
        cells.add(part, 77_777 * start)
    positions = cells.peaks(64)
    assert len(positions) == 3
    for position, (a, b, _) in zip(positions.tolist(), centres, strict=True):
        assert axis[position // 1001].item() == pytest.approx(a, abs=0.03)
        assert axis[position % 1001].item() == pytest.approx(b, abs=0.03)
