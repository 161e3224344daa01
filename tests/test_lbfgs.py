"""Tests of `hyperscale.training.lbfgs` against SciPy and against problems whose minimum is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.packed import Differentiated
from hyperscale.methods.per_instance import PerInstance
from hyperscale.training.grid_losses import GridLoss, whole_power
from hyperscale.training.lbfgs import LBFGS
from tests.fits import LINEAR, METHODS, assert_restored_bit_for_bit, make_fit, rows_alone, run_stage


def design(fit: Any) -> np.ndarray[Any, Any]:
    """Return the matrix of a fit that is linear in its parameters, [pairs, num_params]."""
    basis = torch.eye(fit.params.shape[1], dtype=torch.float64)
    return np.array([fit.respond(row[None]).flatten().tolist() for row in basis]).T


def test_a_linear_fit_comes_to_its_least_squares_solution() -> None:
    """Where h is linear in the parameters every member's loss is that of the normal equations, to 1e-12."""
    fit = make_fit(LINEAR, range(4))
    run = run_stage(LBFGS(), fit)
    matrix = design(fit)
    for row in range(4):
        y = fit.y[row].flatten().numpy()
        best = np.mean((matrix @ np.linalg.lstsq(matrix, y)[0] - y) ** 2)
        assert float(run.losses()[row]) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("power", [2, 4, 8])
def test_a_convex_fit_ends_where_scipy_ends(power: int) -> None:
    """The mean of abs(h - y) ** power is SciPy's minimum by L-BFGS-B, to 1e-6."""
    fit = make_fit(LINEAR, range(3))
    matrix, start = design(fit), fit.params.clone().numpy()
    run = run_stage(LBFGS(power=power), fit)
    for row in range(3):
        y = fit.y[row].flatten().numpy()
        scale = np.abs(y).max()

        def loss(theta: Any, y: Any = y, scale: float = scale) -> tuple[float, Any]:
            residual = (matrix @ theta - y) / scale
            slope = power * residual ** (power - 1) / scale / len(y)
            return float(np.mean(residual**power)), matrix.T @ slope

        found = optimize.minimize(
            loss, start[row], jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-13}
        )
        assert float(run.losses()[row]) == pytest.approx(found.fun * scale**power, rel=1e-6)


def test_small_networks_end_as_low_as_with_scipy() -> None:
    """On fits of a tanh network, with as many iterations, the median loss is at most 1.2 times SciPy's."""
    method = METHODS["hypernetwork"]
    fit = make_fit(method, range(5))
    ratios = []
    run = run_stage(LBFGS(iterations=150, history=10), fit)
    for row in range(5):
        alone = make_fit(method, [row])
        point = alone.params.clone()
        plain = GridLoss(alone, point)

        def loss(theta: Any, plain: GridLoss = plain, point: Tensor = point) -> tuple[float, Any]:
            with torch.no_grad():
                point.copy_(torch.from_numpy(theta)[None])
                value = float(plain.differentiate())
            return value, plain.gradient[0].numpy().copy()

        options = {"maxiter": 150, "maxcor": 10, "ftol": 0, "gtol": 0}
        found = optimize.minimize(loss, alone.params[0].numpy(), jac=True, method="L-BFGS-B", options=options)
        ratios.append(float(run.losses()[row]) / found.fun)
    assert np.median(ratios) < 1.2


class Rosenbrock:
    """A "method" of two parameters whose residuals are 1 - a and 10 (b - a^2); the least loss, 0, is at (1, 1)."""

    def packed(self, dims: object, params: Tensor, gradient: Tensor, batch: object) -> Differentiated:
        """Return the residuals as outputs on two points, by automatic differentiation."""

        def respond(leaf: Tensor, x: Tensor, features: Tensor) -> Tensor:
            a, b = leaf[:, 0], leaf[:, 1]
            return torch.stack([1 - a, 10 * (b - a * a)], dim=1)[:, None, :, None]

        return Differentiated(respond, params, gradient)


def test_the_bent_valley_is_followed_to_its_end() -> None:
    """From (-1.2, 1) and other starts, each member finds the minimum of Rosenbrock's function to 1e-6."""
    starts = torch.tensor([[-1.2, 1.0], [2.0, -2.0], [0.0, 0.0], [-3.0, 4.0]], dtype=torch.float64)
    fit: Any = SimpleNamespace(
        method=Rosenbrock(), dims=None, x=torch.zeros(1, 2, 1), features=torch.zeros(1, 1), params=starts.clone(),
        y=torch.zeros(4, 1, 2, dtype=torch.float64), num_members=4, num_networks=1, projection=None,
        project=lambda params: params,
    )  # fmt: skip
    run = run_stage(LBFGS(iterations=100), fit)
    torch.testing.assert_close(fit.params, torch.ones_like(starts), rtol=0, atol=1e-6)
    assert run.steps_taken < 100


def test_each_of_per_instances_networks_is_minimised_by_itself() -> None:
    """A linear g for every I comes to its own least squares line, whatever the others need."""
    fit = make_fit(PerInstance(primary_widths=(), bias="all", num_instances=5), range(2))
    run_stage(LBFGS(), fit)
    x = fit.x_grid[:, 0].numpy()
    for row in range(2):
        for instance, (slope, constant) in enumerate(fit.params[row].view(5, 2).tolist()):
            expected = np.polyfit(x, fit.y[row, instance].numpy(), 1)
            assert (slope, constant) == pytest.approx(tuple(expected), abs=1e-8)


def test_a_projection_gives_the_constrained_minimum() -> None:
    """With parameters kept at 0 or above, every member ends where SciPy's bounded least squares ends."""
    fit = make_fit(LINEAR, range(3), projection=lambda params: params.clamp(min=0.0))
    matrix = design(fit)
    run = run_stage(LBFGS(iterations=400), fit)
    assert (fit.params >= 0).all()
    for row in range(3):
        y = fit.y[row].flatten().numpy()
        found = optimize.lsq_linear(matrix, y, bounds=(0, np.inf), tol=1e-14)
        assert float(run.losses()[row]) == pytest.approx(2 * found.cost / len(y), rel=1e-6)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("power", [2, 8])
def test_members_do_not_depend_on_pack_mates(method: Method, power: int) -> None:
    """Every member of a pack has, bit for bit, the parameters it has alone."""
    stage, seeds = LBFGS(iterations=40, history=4, power=power), (4, 0, 7, 1, 2)
    fit = make_fit(method, seeds)
    run_stage(stage, fit)
    assert torch.equal(fit.params, rows_alone(stage, method, seeds))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_saved_run_goes_on_bit_for_bit(method: Method) -> None:
    """Saved in the middle, loaded without running code and restored on a new fit, the run ends the same."""
    assert_restored_bit_for_bit(LBFGS(iterations=40, history=3), method, num_slices=17)


def test_losses_never_rise_and_members_that_ended_stay() -> None:
    """The loss falls from slice to slice, and a member that reached its minimum moves no more."""
    fit = make_fit(LINEAR, range(2))
    run: Any = LBFGS(iterations=300).start(fit)
    before = torch.full((2,), math.inf, dtype=torch.float64)
    done = False
    while not done:
        done = run.advance(0.0)
        assert (run.losses() <= before).all()
        before = run.losses()
    assert run.steps_taken < 300
    ended = fit.params.clone()
    run.advance(math.inf)
    assert torch.equal(fit.params, ended)


def test_a_member_that_cannot_be_evaluated_ends_at_once() -> None:
    """A member whose start is not finite stays as it is, has no finite loss, and leaves the others their bits."""
    fit, healthy = make_fit(LINEAR, range(3)), make_fit(LINEAR, range(3))
    fit.params[1, 2] = math.nan
    run, other = (run_stage(LBFGS(iterations=30), each) for each in (fit, healthy))
    assert run.losses().isfinite().tolist() == [True, False, True]
    for row in (0, 2):
        assert torch.equal(fit.params[row], healthy.params[row])
        assert float(run.losses()[row]) == float(other.losses()[row])


@pytest.mark.parametrize("power", [2, 4, 6, 8])
def test_the_gradient_of_a_high_power_is_that_of_automatic_differentiation(power: int) -> None:
    """Loss and gradient of the mean of (residual / scale)^power agree with torch's, to 1e-12."""
    fit = make_fit(METHODS["monolithic"])
    loss = GridLoss(fit, fit.params, power)
    with torch.no_grad():
        values = loss.differentiate(rescale=True)
    leaf = fit.params.clone().requires_grad_()
    residual = fit.residuals(leaf).flatten(1)
    expected = (residual / residual.detach().abs().amax(dim=1, keepdim=True)).pow(power).mean(dim=1)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(values, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.gradient, gradient, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(loss.mean_squares, residual.detach().square().mean(dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 8, 31])
def test_whole_powers_are_products(exponent: int) -> None:
    """Repeated squaring gives the power, to rounding."""
    values = torch.tensor([0.3, 1.0, 1.7], dtype=torch.float64)
    torch.testing.assert_close(whole_power(values, exponent), values.pow(exponent), rtol=1e-13, atol=0)


@pytest.mark.parametrize("fields", [{"iterations": 0}, {"history": 0}, {"power": 3}, {"power": 0}, {"power": 66}])
def test_bad_fields_are_named(fields: dict[str, Any]) -> None:
    """A number that makes no sense raises an error that names the field."""
    with pytest.raises(StudyError, match=f"LBFGS.{next(iter(fields))}"):
        LBFGS(**fields)


def test_what_a_stage_says_of_itself() -> None:
    """The label has the power where that is not 2; arithmetic and memory grow with iterations and history."""
    assert (LBFGS().label, LBFGS(power=8).label) == ("LBFGS", "LBFGS8")
    method, fit = Monolithic(primary_widths=(4,)), make_fit(LINEAR)
    few, many = (LBFGS(iterations=10, history=2), LBFGS(iterations=100, history=20))
    assert many.num_steps > 100
    assert few.flops(method, fit.dims, fit.where) < many.flops(method, fit.dims, fit.where)
    assert few.memory_bytes(method, fit.dims, fit.where) < many.memory_bytes(method, fit.dims, fit.where)
