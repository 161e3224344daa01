"""Tests of `hyperscale.training.variable_projection` and of the least-squares systems below it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperscale import Hypernetwork, Knots, LpContinuation, Monolithic, PerInstance, VarPro
from hyperscale.errors import StudyError
from hyperscale.networks.encoders import HatEncoder
from hyperscale.training import splines
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.normal_equations import fit_last_layer, normal_equations
from hyperscale.training.separable import Basis, Separable, apply, damped_step
from hyperscale.training.spline_meshes import Parts, fit_values, half_squares, linearise, mesh_of, raised
from tests.grid_fits import METHODS, Formula, bumps, make_fit, mean_squares, run_stages

DENSE = [name for name in METHODS if name not in ("PerInstance", "Hypernetwork")]
X = np.linspace(-1, 1, 201)


def random_splines(problems: int = 3, knots: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, knots and values of random splines."""
    generator = np.random.default_rng(1)
    y = np.sin(3 * X + generator.uniform(0, 6, (problems, 1)))
    return (
        y,
        np.sort(generator.uniform(-0.9, 0.9, (problems, knots)), axis=1),
        generator.normal(size=(problems, knots + 2)),
    )


@pytest.mark.parametrize("power", [2.0, 8.0])
def test_the_gradient_of_splines_is_that_of_finite_differences(power: float) -> None:
    """In values and in knots, the knots' weights and y at the knots included."""
    y, knots, values = random_splines()
    scale = np.full((3, 1), 2.0)

    def objective(t: np.ndarray, v: np.ndarray) -> np.ndarray:
        mesh = mesh_of(X, y, t)
        return mesh.mean(raised(mesh.residual(v), scale, power)) * scale[:, 0] ** 2 / power

    mesh = mesh_of(X, y, knots)
    residual = mesh.residual(values)
    system = linearise(mesh, values, residual, raised(residual, scale, power - 2), power)
    slope = system.gradient[:, 1:-1, 1]  # at fixed shifted values
    step = 1e-6
    for node in range(values.shape[1]):
        unit = step * np.eye(values.shape[1])[node]
        found = (objective(knots, values + unit) - objective(knots, values - unit)) / (2 * step)
        np.testing.assert_allclose(system.gradient[:, node, 0], -found, rtol=1e-6, atol=1e-9)
    for knot in range(knots.shape[1]):
        move = step * np.eye(knots.shape[1])[knot]
        shift = np.concatenate((np.zeros((3, 1)), system.mean_slope * move, np.zeros((3, 1))), axis=1)
        found = (objective(knots + move, values + shift) - objective(knots - move, values - shift)) / (2 * step)
        np.testing.assert_allclose(slope[:, knot], -found, rtol=2e-5, atol=1e-7)


def test_least_squares_values_are_those_of_a_dense_solver() -> None:
    """The tridiagonal solution is `numpy.linalg.lstsq`'s with the mesh's weights."""
    y, knots, _ = random_splines()
    mesh = mesh_of(X, y, knots)
    found = fit_values(mesh)
    for problem in range(3):
        nodes = mesh.nodes[problem]
        points = np.concatenate((X, knots[problem]))
        design = np.stack([np.interp(points, nodes, unit) for unit in np.eye(len(nodes))], axis=1)
        root = np.sqrt(np.concatenate((mesh.weights.grid[problem], mesh.weights.knots[problem])))
        right = np.concatenate((y[problem], mesh.y.knots[problem]))
        expected = np.linalg.lstsq(design * root[:, None], right * root, rcond=None)[0]
        np.testing.assert_allclose(found[problem], expected, atol=1e-9)


def test_trapezoid_weights_sum_to_one_wherever_knots_lie() -> None:
    """Several knots in one grid interval and knots on grid points included."""
    knots = splines.separated(np.array([[-0.501, -0.5, 0.003, 0.004, 0.0051, 0.9]]))
    mesh = mesh_of(X, np.zeros((1, len(X))), knots)
    assert mesh.mean(Parts(grid=np.ones((1, len(X))), knots=np.ones((1, 6))))[0] == pytest.approx(1, abs=1e-12)


def test_eliminating_the_values_gives_the_joint_step() -> None:
    """Schur complement, knots' step and values' step agree with the banded system solved at once."""
    y, knots, _ = random_splines()
    mesh = mesh_of(X, y, knots)
    values = fit_values(mesh)
    residual = mesh.residual(values)
    ones = Parts(grid=np.ones_like(residual.grid), knots=np.ones_like(residual.knots))
    system = linearise(mesh, values, residual, ones, 2.0)
    change, move = system.step(np.zeros(3), np.zeros(3))
    schur, pull = system.eliminate(0.0)
    own = np.stack([np.linalg.solve(matrix, right) for matrix, right in zip(schur, pull, strict=True)])
    np.testing.assert_allclose(own, move, rtol=1e-6)
    for problem in range(3):
        part = system.pick(np.array([problem]))
        np.testing.assert_allclose(part.values_given(move[problem], 0.0)[0], change[problem], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", DENSE)
def test_the_jacobian_is_that_of_autodiff(method: str) -> None:
    """Point by point and parameter by parameter, e's table and deeper layers included; the design too."""
    fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1], TrainingGrid(x_points=7, instances=4))
    fits = Separable(fit)
    theta = fits.read()
    values = fits.evaluate(theta)
    own = torch.cat((fits.jacobian(theta, values), fits.design(values)), dim=-1)
    full = torch.autograd.functional.jacobian(fit.respond, fit.params)
    problems, rows = fits.y.shape
    flat = full.reshape(problems, rows, problems, theta.shape[1])
    for problem in range(problems):
        torch.testing.assert_close(own[problem], flat[problem, :, problem], rtol=1e-10, atol=1e-12)


def test_the_projected_gradient_is_that_of_the_reduced_objective() -> None:
    """J^T r with Kaufman's projected Jacobian is the exact gradient of min_c |y - Phi(theta) c|^2 / 2 by autodiff."""
    fit = make_fit(METHODS["PerInstance, tanh"], [bumps(1)], [0], TrainingGrid(x_points=33))
    run_stages(fit, Knots())
    fits = Separable(fit)
    theta = fits.read()
    basis = Basis(fits.design(fits.evaluate(theta)))
    theta[:, -fits.num_linear :] = basis.coefficients(basis.coordinates(fits.y))
    values = fits.evaluate(theta)
    residual = fits.y - apply(fits.design(values), theta[:, -fits.num_linear :])
    own = (basis.project_off(fits.jacobian(theta, values)) * residual.unsqueeze(-1)).sum(dim=1)
    leaf = theta[:, : -fits.num_linear].clone().requires_grad_()
    width = leaf.shape[1] // 2
    hidden = torch.tanh(fits.inputs[None] * leaf[:, None, :width] + leaf[:, None, width:])
    design = torch.cat((hidden, torch.ones_like(hidden[..., :1])), dim=-1)
    solved = torch.linalg.lstsq(design, fits.y.unsqueeze(-1)).solution
    (0.5 * (fits.y - (design @ solved).squeeze(-1)).square().sum()).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(own, -leaf.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", DENSE)
def test_normal_equations_are_those_of_the_whole_jacobian(method: str) -> None:
    """Summed over slices of I, over x before e's weights, and with weights of the rows."""
    fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1], TrainingGrid(x_points=1025, instances=5))
    fits = Separable(fit)
    theta = fits.read()
    values = fits.evaluate(theta)
    design = fits.design(values)
    whole = torch.cat((fits.jacobian(theta, values), design), dim=-1)
    residual = fits.y - apply(design, theta[:, -fits.num_linear :])
    roots = 0.5 + residual.abs()
    for own in (None, roots):
        equations, squared = normal_equations(fits, theta, residual, own)
        rows = whole if own is None else whole * own.unsqueeze(-1)
        right = residual if own is None else residual * own
        torch.testing.assert_close(equations.matrix, rows.mT @ rows, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(equations.right, (rows.mT @ right.unsqueeze(-1)).squeeze(-1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(squared, design.mT @ design, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["PerInstance, tanh", "Embedding"])
def test_steps_by_normal_equations_are_those_by_orthogonal_columns(method: str) -> None:
    """Kaufman's step and the weighted joint step, where the design is well conditioned; the last layer too."""
    fit = make_fit(METHODS[method], [bumps(1)], [0])
    run_stages(fit, Knots())
    fits = Separable(fit)
    theta, linear = fits.read(), fits.num_linear
    design = fits.design(fits.evaluate(theta))
    basis = Basis(design)
    own = basis.coefficients(basis.coordinates(fits.y))
    found, residual, solved = fit_last_layer(design, fits.y, torch.zeros_like(own))
    assert solved.all()
    torch.testing.assert_close(apply(design, found), apply(design, own), rtol=1e-6, atol=1e-8)
    theta[:, -linear:] = found
    damping, roots = torch.full((len(theta),), 0.1, dtype=torch.float64), residual.abs()
    jacobian = fits.jacobian(theta, fits.evaluate(theta))
    step, solved = normal_equations(fits, theta, residual)[0].projected_step(damping)
    assert solved.all()
    torch.testing.assert_close(step, damped_step(basis.project_off(jacobian), residual, damping), rtol=1e-4, atol=1e-6)
    equations, squared = normal_equations(fits, theta, residual, roots)
    step, solved = equations.joint_step(squared, damping)
    assert solved.all()
    columns = torch.cat((jacobian, basis.columns), dim=-1)
    expected = damped_step(columns, residual, damping, roots.square())
    torch.testing.assert_close(step[:, :-linear], expected[:, :-linear], rtol=1e-4, atol=1e-6)
    change = apply(basis.columns, expected[:, -linear:])
    torch.testing.assert_close(apply(design, step[:, -linear:]), change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["Monolithic, deep", "Embedding"])
def test_large_fits_do_not_depend_on_their_pack(method: str) -> None:
    """Bit for bit, with designs so large that problems are done one by one."""
    where = TrainingGrid(x_points=513, instances=33)
    stages = (VarPro(iterations=3), LpContinuation(powers=(8,), iterations=2))
    pack = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1], where)
    run_stages(pack, Knots(), *stages)
    alone = make_fit(METHODS[method], [bumps(2)], [1], where)
    run_stages(alone, Knots(), *stages)
    assert torch.equal(alone.params[0], pack.params[1])


def test_functions_of_the_class_are_recovered() -> None:
    """Two kinks that all I share: separate networks and a table find them from the equispaced start."""
    for method in (
        PerInstance(primary_widths=(4,), bias="hidden", num_instances=3),
        Hypernetwork(primary_widths=(4,), bias="hidden", encoder=HatEncoder(knots=3)),
    ):
        fit = make_fit(method, [Formula(name="kinks")], [0], TrainingGrid(x_points=201, instances=7))
        run_stages(fit, Knots())
        assert fit.sup_errors()[0] > 1e-3
        run_stages(fit, VarPro(iterations=200))
        assert fit.sup_errors()[0] < 3e-3
    fit = make_fit(Monolithic(primary_widths=(8,), bias="hidden"), [Formula(name="tent")], [0])
    run_stages(fit, Knots(), VarPro(iterations=100))
    assert mean_squares(fit)[0] < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_losses_never_rise(method: str) -> None:
    """Slice by slice the loss of every member falls or stays, and the stage gains at least a tenth in all."""
    fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1])
    run_stages(fit, Knots())
    run = VarPro(iterations=15).start(fit)
    trace = [run.losses()]
    while not run.advance(0.0):
        trace.append(run.losses())
    losses = torch.stack([*trace, run.losses()])
    assert (losses.diff(dim=0) <= 0).all()
    assert (losses[-1] < 0.95 * losses[0]).all()


def test_wrong_fields_are_named() -> None:
    """The count of iterations is a positive whole number."""
    with pytest.raises(StudyError, match=r"VarPro\.iterations"):
        VarPro(iterations=0)
    assert half_squares(Parts(grid=np.full((1, 2), 2.0), knots=np.zeros((1, 0)))).grid.tolist() == [[2.0, 2.0]]
