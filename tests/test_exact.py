"""Tests of `hyperscale.targets.exact` and `polynomials`: closed forms, brute force, invariances, attained errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from hyperscale.errors import AnalysisError, StudyError
from hyperscale.targets.exact import (
    PiecewiseLinear,
    best_piecewise_linear,
    infimum_bracket,
    interpolation_error,
    knots_needed,
    per_instance_errors,
    per_instance_infimum,
    piecewise_linear_infimum,
    shallow_relu_knots,
)
from hyperscale.targets.polynomials import best_polynomial
from hyperscale.targets.sobolev_ball import SobolevBall


def axis(points: int) -> Tensor:
    """Return the equispaced grid of [-1, 1]."""
    return torch.linspace(-1, 1, points, dtype=torch.float64)


def rough(problems: int, points: int, seed: int) -> Tensor:
    """Return random walks, [problems, points]."""
    steps = np.random.default_rng(seed).normal(size=(problems, points))
    return torch.as_tensor(np.cumsum(steps, axis=1) / math.sqrt(points))


def attained(y: Tensor, found: PiecewiseLinear) -> np.ndarray:
    """Return sup abs(f - y~) of every polyline, on the grid and at its knots, where the largest values are."""
    x = axis(y.shape[1]).numpy()
    errors = []
    for samples, knots, values in zip(y.numpy(), found.knots.numpy(), found.values.numpy(), strict=True):
        at = np.concatenate([x, knots])
        errors.append(np.abs(np.interp(at, [-1, *knots, 1], values) - np.interp(at, x, samples)).max())
    return np.array(errors)


def error_of_knots(y: np.ndarray, knots: tuple[float, ...]) -> float:
    """Return the least sup error of polylines with exactly these knots, by a linear program over their values."""
    x = np.linspace(-1, 1, len(y))
    nodes = np.array([-1.0, *knots, 1.0])
    at = np.concatenate([x, knots])
    hats = np.stack([np.interp(at, nodes, unit) for unit in np.eye(len(nodes))], axis=1)
    slack = np.ones((len(at), 1))
    samples = np.interp(at, x, y)
    solved = linprog(
        [0.0] * len(nodes) + [1.0],
        A_ub=np.block([[hats, -slack], [-hats, -slack]]),
        b_ub=np.concatenate([samples, -samples]),
        bounds=[(None, None)] * len(nodes) + [(0, None)],
    )
    return float(solved.x[-1])


@pytest.mark.parametrize("pieces", [1, 2, 4, 8, 16, 32, 128])
def test_square_has_the_closed_form(pieces: int) -> None:
    """E_k(x^2) = 1 / (2 (k + 1)^2) to the tolerance, on a grid that has the optimal knots."""
    found = piecewise_linear_infimum(axis(257).square()[None], [pieces - 1], tolerance=1e-8)
    assert float(found) * 2 * pieces**2 == pytest.approx(1, rel=1.1e-8)
    assert knots_needed(axis(257).square()[None], 1.001 / (2 * pieces**2)).tolist() == [pieces - 1]
    assert knots_needed(axis(257).square()[None], 0.999 / (2 * pieces**2)).item() >= pieces


def test_bracket_contains_the_closed_form_for_every_number_of_knots() -> None:
    """For k = 0, ..., 31 and 127 the bracket by the interpolation error has 1 / (2 (k + 1)^2) inside and is narrow."""
    num_knots = [*range(32), 127]
    bound = interpolation_error(1025, curvature=2.0)
    assert bound == pytest.approx(2 * (2 / 1024) ** 2 / 8)
    least, most = infimum_bracket(axis(1025).square()[None], num_knots, interpolation_error=bound)
    truth = torch.tensor([[1 / (2 * (k + 1) ** 2)] for k in num_knots], dtype=torch.float64)
    assert (least <= truth).all()
    assert (truth <= most).all()
    assert (most - least <= 2 * bound + 2e-6 * truth + 1e-12).all()


def balanced_error(pieces: int) -> float:
    """Return E of exp on [-1, 1] by balancing: equal interpolation errors of all pieces, half of which it is."""
    from scipy.optimize import root

    def gaps(knots: np.ndarray) -> np.ndarray:
        nodes = np.concatenate([[-1.0], knots, [1.0]])
        slope = np.diff(np.exp(nodes)) / np.diff(nodes)
        return np.exp(nodes[:-1]) + slope * (np.log(slope) - nodes[:-1]) - slope

    start = 2 * np.log(np.linspace(math.exp(-0.5), math.exp(0.5), pieces + 1))[1:-1]
    knots = root(lambda k: np.diff(gaps(k)), start, tol=1e-13).x
    assert np.ptp(gaps(knots)) < 1e-10
    return float(gaps(knots)[0]) / 2


@pytest.mark.parametrize("pieces", [2, 3, 6, 11])
def test_exponential_equals_the_balanced_interpolant(pieces: int) -> None:
    """E_k(exp) lies within the interpolation error of an independent construction for convex functions."""
    found = float(piecewise_linear_infimum(torch.exp(axis(513))[None], [pieces - 1], tolerance=1e-8))
    assert found == pytest.approx(balanced_error(pieces), abs=interpolation_error(513, curvature=math.e))


def test_exponential_approaches_its_asymptote() -> None:
    """(k + 1)^2 E_k(exp) tends to (integral of sqrt(exp))^2 / 16 = .2715403174 on [-1, 1]."""
    found = piecewise_linear_infimum(torch.exp(axis(1025))[None], [7, 15])[:, 0]
    assert (found * torch.tensor([8.0, 16.0]) ** 2).tolist() == pytest.approx([0.2715403174] * 2, rel=6e-4)


@pytest.mark.parametrize("seed", range(2))
def test_no_choice_of_one_or_two_knots_is_better(seed: int) -> None:
    """Polylines with knots anywhere on a fine mesh never beat E_k, and those near the found knots attain it."""
    y = rough(1, 13, seed)
    errors = piecewise_linear_infimum(y, [0, 1, 2], tolerance=1e-9)[:, 0].tolist()
    samples = y[0].numpy()
    assert errors[0] == pytest.approx(error_of_knots(samples, ()), rel=1e-7)
    mesh = np.linspace(-1, 1, 98)[1:-1]
    single = min(error_of_knots(samples, (knot,)) for knot in mesh)
    assert errors[1] <= single * (1 + 1e-7)
    assert single <= errors[1] * 1.08
    coarse = np.linspace(-1, 1, 26)[1:-1]
    double = min(error_of_knots(samples, pair) for pair in itertools.combinations(coarse, 2))
    assert errors[2] <= double * (1 + 1e-7)
    for k in (1, 2):
        knots = tuple(best_piecewise_linear(y, k, tolerance=1e-9).knots[0].tolist())
        assert error_of_knots(samples, knots) == pytest.approx(errors[k], rel=1e-6)


@pytest.mark.parametrize("num_knots", [0, 1, 2, 5, 17])
def test_polyline_attains_the_error(num_knots: int) -> None:
    """The polyline's own error equals the infimum to rounding; its knots increase strictly inside (-1, 1)."""
    y = torch.cat([rough(12, 65, 3), axis(65).square()[None], axis(65).abs()[None]])
    found = best_piecewise_linear(y, num_knots)
    assert found.knots.shape == (14, num_knots)
    np.testing.assert_allclose(attained(y, found), found.errors.numpy(), rtol=1e-9, atol=1e-12)
    assert torch.equal(found.errors, piecewise_linear_infimum(y, [num_knots])[0])
    ends = torch.ones(14, 1, dtype=torch.float64)
    assert (torch.cat([-ends, found.knots, ends], dim=1).diff(dim=1) > 1e-10).all()
    torch.testing.assert_close(
        (found.evaluate(axis(65)) - y).abs().amax(dim=1), found.errors, rtol=0, atol=float(found.errors.max())
    )


def test_knots_of_the_square_are_equispaced() -> None:
    """The best knots of x^2 are equispaced; the greedy finds them to the square root of the tolerance."""
    found = best_piecewise_linear(axis(257).square()[None], 7, tolerance=1e-10)
    np.testing.assert_allclose(found.knots[0].numpy(), np.linspace(-1, 1, 9)[1:-1], atol=1e-4)


def test_polylines_are_found_exactly_and_spare_knots_lie_on_them() -> None:
    """The absolute value has error 0 from k = 1 on, affine functions from k = 0 on."""
    y = torch.stack([axis(65).abs(), torch.zeros(65, dtype=torch.float64), 3 - 2 * axis(65)])
    errors = piecewise_linear_infimum(y, [0, 1, 4])
    assert errors[:, 1:].tolist() == [[0, 0]] * 3
    assert errors[:, 0].tolist() == pytest.approx([0.5, 0, 0], rel=1e-6)
    found = best_piecewise_linear(y, 4)
    torch.testing.assert_close(found.evaluate(axis(65)), y, rtol=0, atol=1e-11)
    assert found.knots[1].tolist() == pytest.approx([-0.6, -0.2, 0.2, 0.6])
    assert knots_needed(y, 1e-9).tolist() == [1, 0, 0]


def test_more_knots_are_never_worse_and_several_at_once_are_the_same() -> None:
    """E_k falls with k, and asking for many k or many rows at once gives what one at a time gives."""
    y = rough(3, 65, 8)
    num_knots = [9, 0, 3, 1, 3]
    together = piecewise_linear_infimum(y, num_knots, tolerance=1e-9)
    order = together[[1, 3, 2, 0]]
    assert (order.diff(dim=0) < 0).all()
    for i, k in enumerate(num_knots):
        for row in range(3):
            alone = piecewise_linear_infimum(y[row : row + 1], [k], tolerance=1e-9)
            assert float(alone) == pytest.approx(float(together[i, row]), rel=3e-9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-8, 8), min_size=3, max_size=24),
    st.integers(0, 4),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(0.01, 100),
)
def test_error_ignores_affine_additions_and_scales(
    heights: list[int], num_knots: int, slope: float, shift: float, factor: float
) -> None:
    """E_k(c y + a x + b) = c E_k(y), E_k(-y) = E_k(y) and E_k(y(-x)) = E_k(y), samples with many ties included."""
    y = torch.tensor([heights], dtype=torch.float64)
    x = axis(y.shape[1])
    base = float(piecewise_linear_infimum(y, [num_knots]))
    for other, scale in ((factor * (y + slope * x + shift), factor), (-y, 1.0), (y.flip(1), 1.0)):
        assert float(piecewise_linear_infimum(other, [num_knots])) == pytest.approx(
            scale * base, rel=3e-6, abs=1e-10 * scale
        )
    found = best_piecewise_linear(y, num_knots)
    assert attained(y, found)[0] == pytest.approx(base, rel=1e-6, abs=1e-10)


def test_knots_needed_is_the_inverse() -> None:
    """At the error E_k, k knots are needed; a little below, more."""
    y = rough(4, 65, 4)
    for k in (0, 2, 6):
        for row, error in enumerate(piecewise_linear_infimum(y, [k])[0].tolist()):
            assert int(knots_needed(y[row : row + 1], error)) <= k
            assert int(knots_needed(y[row : row + 1], error * (1 - 3e-6))) > k


def test_per_instance_infimum_is_the_largest_over_instances() -> None:
    """The float equals the maximum over I of the errors of the sampled slices."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=4)
    conditioning = axis(9)[:, None]
    errors = per_instance_errors(target, 0, num_knots=[1, 5], conditioning=conditioning, x_points=129)
    x = axis(129)[:, None].expand(1, 9, -1, -1)
    y = target.prepare([target], [0], "cpu").evaluate(x, conditioning[None])[0, :, :, 0]
    assert torch.equal(errors, piecewise_linear_infimum(y, [1, 5]))
    found = per_instance_infimum(target, 7, num_knots=5, conditioning=conditioning, x_points=129)
    assert found == pytest.approx(float(errors[1].max()), rel=2e-6)


def test_shallow_networks_have_at_most_as_many_knots_as_units() -> None:
    """Width 5 reaches 3 knots and cannot have more than 5; interpolation bounds take the smaller one."""
    assert tuple(shallow_relu_knots(5)) == (3, 5)
    assert shallow_relu_knots(5).reached == 3
    assert interpolation_error(3, slope=1.0, curvature=16.0) == 0.5
    assert interpolation_error(3, slope=1.0, curvature=0.8) == pytest.approx(0.1)


def test_wrong_input_is_named() -> None:
    """Samples, tolerances, errors, counts and dimensions that make no sense raise errors that say what is allowed."""
    y = rough(1, 5, 0)
    wrong = [torch.zeros(5), torch.zeros(1, 1), torch.full((1, 5), math.nan), torch.zeros(0, 5)]
    for samples in wrong:
        with pytest.raises(AnalysisError, match="allowed: finite"):
            piecewise_linear_infimum(samples, [1])
    with pytest.raises(AnalysisError, match="tolerance"):
        piecewise_linear_infimum(y, [1], tolerance=0.0)
    with pytest.raises(AnalysisError, match="positive"):
        knots_needed(y, 0.0)
    with pytest.raises(AnalysisError, match="at least one"):
        interpolation_error(5)
    plane = SobolevBall(x_dim=2, conditioning_dim=1, levels=2)
    with pytest.raises(AnalysisError, match="x_dim=1"):
        per_instance_infimum(plane, 0, num_knots=1, conditioning=torch.zeros(1, 1))
    with pytest.raises(StudyError, match="num_knots"):
        best_piecewise_linear(y, -1)
    with pytest.raises(StudyError, match="width"):
        shallow_relu_knots(1)
    with pytest.raises(AnalysisError, match="vectorised"):
        best_polynomial(lambda x: x[:1], 1)


def test_polynomials_of_the_absolute_value_have_bernsteins_constant() -> None:
    """E_2(abs x) = 1/8, and n E_n(abs x) comes near .2801694990 (Varga and Carpenter) like 1 / n^2."""
    assert best_polynomial(np.abs, 2).least == pytest.approx(0.125, rel=1e-9)
    assert best_polynomial(np.abs, 3, points=193).least == pytest.approx(0.125, rel=1e-9)
    found = {n: best_polynomial(np.abs, n, points=128 * n + 1) for n in (8, 16)}
    scaled = {n: n * best.least for n, best in found.items()}
    extrapolated = scaled[16] + (scaled[16] - scaled[8]) / 3
    assert extrapolated == pytest.approx(0.2801694990, abs=1e-4)
    for best in found.values():
        assert best.least <= best.most <= best.least * (1 + 1e-3)


def test_polynomial_of_a_power_is_chebyshevs() -> None:
    """The best approximation of x^5 by degree 4 errs by 2^-4 exactly, and a polynomial is reproduced."""
    assert best_polynomial(lambda x: x**5, 4, points=161).least == pytest.approx(2.0**-4, rel=1e-9)
    assert best_polynomial(lambda x: x**3 - x, 4).most < 1e-12
