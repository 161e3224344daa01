"""Tests of `hyperscale.diversity.entropy`: the Kozachenko-Leonenko estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln

from hyperscale.diversity.entropy import kozachenko_leonenko, nearest_distances
from hyperscale.seeding import normal, step_keys, stream_keys, uniform

KEYS = step_keys(stream_keys([0], "data"), torch.arange(10))[0]


@pytest.mark.parametrize(("dim", "tolerance"), [(1, 0.05), (2, 0.05), (3, 0.15)])
def test_uniform_on_the_unit_cube_has_entropy_zero(dim: int, tolerance: float) -> None:
    """The mean of 10 estimates from 800 points is 0 (three standard errors and the known bias at the boundary)."""
    points = uniform(KEYS, 800 * dim).unflatten(-1, (800, dim))
    assert float(kozachenko_leonenko(points, dim).mean()) == pytest.approx(0, abs=tolerance)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_standard_normal_has_its_entropy(dim: int) -> None:
    """The mean of 10 estimates from 800 points is d/2 log(2 pi e) within 0.06."""
    points = normal(KEYS, 800 * dim).unflatten(-1, (800, dim))
    truth = dim / 2 * math.log(2 * math.pi * math.e)
    assert float(kozachenko_leonenko(points, dim).mean()) == pytest.approx(truth, abs=0.06)


def test_estimate_equals_the_formula_with_scipys_neighbours() -> None:
    """Psi(N) - psi(1) + log V_d + d mean log eps, with neighbours from a k-d tree."""
    points = normal(KEYS[0], 300).reshape(100, 3)
    distances = KDTree(points.numpy()).query(points.numpy(), k=2)[0][:, 1]
    np.testing.assert_allclose(nearest_distances(points).numpy(), distances, rtol=1e-9)
    log_ball = 1.5 * math.log(math.pi) - gammaln(2.5)
    expected = digamma(100) - digamma(1) + log_ball + 3 * np.log(distances).mean()
    assert kozachenko_leonenko(points, 3).item() == pytest.approx(expected, rel=1e-9)


def test_toy_codes_constants() -> None:
    """For 5 points on a line the constants are psi(5) + Euler's gamma + log 2, as in the published toy code."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    expected = 1 + 1 / 2 + 1 / 3 + 1 / 4 + math.log(2)  # psi(5) + gamma is the fourth harmonic number
    assert kozachenko_leonenko(points, 1).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [0.5, 3.0, 1e4])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_scaling_adds_d_log_c(dim: int, scale: float) -> None:
    """Scaling the points by c adds d log c; the guard against zero distances costs less than 1e-6."""
    points = normal(KEYS[0], 200 * dim).reshape(200, dim)
    grown = kozachenko_leonenko(points * scale, dim) - kozachenko_leonenko(points, dim)
    assert float(grown) == pytest.approx(dim * math.log(scale), abs=1e-6)


def test_shift_and_rotation_change_nothing() -> None:
    """The estimate is invariant under isometries."""
    points = normal(KEYS[0], 400).reshape(200, 2)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    moved = kozachenko_leonenko(points @ turn + 5, 2)
    assert moved.item() == pytest.approx(kozachenko_leonenko(points, 2).item(), abs=1e-9)


def test_a_curve_in_space_has_its_own_dimension() -> None:
    """A helix of speed c traced at uniform times has entropy log c with intrinsic_dim 1, whatever the space."""
    times = uniform(KEYS, 800)
    curve = torch.stack([(20 * times).cos(), (20 * times).sin(), 30 * times, 0 * times], dim=-1)
    speed = math.hypot(20, 30)
    assert float(kozachenko_leonenko(curve, 1).mean()) == pytest.approx(math.log(speed), abs=0.05)
    assert float(kozachenko_leonenko(curve, 4).mean()) < 0


def test_gradient_is_finite_even_for_coinciding_points() -> None:
    """Two equal points give a finite value and gradient, in float32 as well."""
    for dtype in (torch.float32, torch.float64):
        points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [3.0, 1.0]], dtype=dtype, requires_grad=True)
        value = kozachenko_leonenko(points, 2)
        (gradient,) = torch.autograd.grad(value, points)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert (gradient[2:] != 0).any()


def test_gradient_equals_finite_differences() -> None:
    """The gradient is that of the nearest distances' logs."""
    points = normal(KEYS[1], 40).reshape(20, 2)
    leaf = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kozachenko_leonenko(leaf, 2), leaf)
    step = torch.zeros_like(points)
    for i in range(5):
        step.zero_()[i, i % 2] = 1e-7
        slope = (kozachenko_leonenko(points + step, 2) - kozachenko_leonenko(points - step, 2)) / 2e-7
        assert gradient[i, i % 2].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-6)


def test_members_of_a_batch_do_not_see_each_other() -> None:
    """A batch of samples gives one estimate each, as if alone."""
    points = normal(KEYS, 60).unflatten(-1, (30, 2))
    together = kozachenko_leonenko(points, 2)
    assert together.shape == (10,)
    assert torch.equal(together[3], kozachenko_leonenko(points[3], 2))
