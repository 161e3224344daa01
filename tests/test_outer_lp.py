"""Tests of `hyperscale.training.outer_lp` and `hyperscale.training.minimax` against known best approximations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from hyperscale import Knots, Monolithic, OuterLP, PerInstance, VarPro
from hyperscale.errors import StudyError
from hyperscale.training import minimax
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.minimax import extreme_points, local_extremes, solve_by_exchange
from hyperscale.training.separable import Separable
from tests.grid_fits import METHODS, Formula, bumps, make_fit, run_stages


def least_maximum(matrix: np.ndarray, y: np.ndarray) -> float:
    """Return min_d max abs(y - matrix d) by one linear program on all rows."""
    ones = np.ones((len(y), 1))
    rows = np.concatenate((np.hstack((matrix, -ones)), np.hstack((-matrix, -ones))))
    cost = np.append(np.zeros(matrix.shape[1]), 1.0)
    return float(linprog(cost, A_ub=rows, b_ub=np.concatenate((y, -y)), bounds=(None, None)).fun)


def test_best_lines() -> None:
    """No knots: x^2 has the best line 1/2 with error 1/2; exp has the slope sinh(1) and an error by its tangent."""
    method = PerInstance(primary_widths=(2,), bias="hidden", num_instances=2)
    slope = math.sinh(1)
    errors = {"square": 0.5, "exp": (math.exp(-1) + slope * (1 + math.log(slope)) - slope) / 2}
    for name, expected in errors.items():
        fit = make_fit(method, [Formula(name=name)], [0], TrainingGrid(x_points=4001))
        run_stages(fit, Knots(), OuterLP())
        assert fit.sup_errors()[0] == pytest.approx(expected, rel=1e-6)


def test_fixed_knots_against_the_whole_linear_program() -> None:
    """Splines with fixed knots: the exchange gives the optimum over all grid points and knots."""
    fit = make_fit(METHODS["PerInstance"], [bumps(1)], [0], TrainingGrid(x_points=401))
    run_stages(fit, Knots(), OuterLP())
    x = fit.x_grid[:, 0].numpy()
    kinks = np.sort(-fit.params.reshape(3, -1)[:, 7:12].numpy(), axis=1)
    for instance, (knots, reached) in enumerate(zip(kinks, fit.residuals()[0].abs().amax(dim=1), strict=True)):
        nodes = np.concatenate(([-1], knots, [1]))
        hats = np.stack([np.interp(x, nodes, unit) for unit in np.eye(7)], axis=1)
        best = least_maximum(hats, fit.y[0, instance].numpy())
        assert best * (1 - 1e-7) <= float(reached) <= best * 1.01  # the grid alone does not see the kinks


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("PerInstance", "Hypernetwork")])
def test_dense_designs_against_the_whole_linear_program(method: str) -> None:
    """Networks of all kinds: the largest error is the program's optimum for the last layer, to 1e-6."""
    fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1], TrainingGrid(x_points=21, instances=5))
    run_stages(fit, Knots(), VarPro(iterations=3), OuterLP())
    fits = Separable(fit)
    design = fits.design(fits.evaluate(fits.read())).numpy()
    reached = fit.residuals().reshape(fits.y.shape).abs().amax(dim=1)
    for problem in range(fits.num_problems):
        left, singular, _ = np.linalg.svd(design[problem], full_matrices=False)
        best = least_maximum(left[:, singular > 1e-9 * singular[0]], fits.y[problem].numpy())
        assert float(reached[problem]) == pytest.approx(best, rel=1e-4)


def test_rows_of_a_table_are_optimal_where_they_stand() -> None:
    """Every row of a hypernetwork's table has at its I the least maximum for the shared knots."""
    fit = make_fit(METHODS["Hypernetwork"], [bumps(1)], [0], TrainingGrid(x_points=201, instances=5))
    run_stages(fit, Knots(), OuterLP())
    theta = fit.params.reshape(5, -1)
    knots = np.sort(-theta[0, 7:12].numpy())
    hats = np.stack([np.interp(fit.x_grid[:, 0], [-1, *knots, 1], unit) for unit in np.eye(7)], axis=1)
    for row, error in enumerate(fit.residuals()[0].abs().amax(dim=1)):
        best = least_maximum(hats, fit.y[0, row].numpy())
        assert best * (1 - 1e-7) <= float(error) <= 1.02 * best


def test_a_failing_solver_leaves_the_fit_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors and missing solutions of the solver change nothing and raise nothing."""

    class Nothing:
        x = None

    def failing(*_: object, **__: object) -> Nothing:
        raise ValueError("no")

    for replacement in (failing, lambda *_, **__: Nothing()):
        monkeypatch.setattr(minimax, "linprog", replacement)
        for method in ("PerInstance", "Monolithic"):
            fit = make_fit(METHODS[method], [bumps(1)], [0])
            run_stages(fit, Knots())
            before = fit.sup_errors()
            run_stages(fit, OuterLP())
            assert torch.equal(fit.sup_errors(), before)


def test_exchange_needs_few_rows_and_finds_the_optimum() -> None:
    """Chebyshev: the best polynomial of degree 3 to x^4 has the error 1/8, started from two rows."""
    x = np.linspace(-1, 1, 2001)
    basis = np.stack([x**i for i in range(4)], axis=1)
    found = solve_by_exchange(basis, x**4, np.array([0, 1]), most=8)
    assert found is not None
    assert found[1] == pytest.approx(1 / 8, rel=1e-6)
    assert local_extremes(np.array([1.0, 0.0, -2.0, 1.0])).tolist() == [0, 2]
    assert extreme_points(np.array([1.0, 5.0, 0.0, 2.0, 3.0]), np.array([0, 0, 0, 2, 2])).tolist() == [0, 1, 2, 3, 4]


def test_wide_networks_are_refused() -> None:
    """The program's size is bounded, and the message says so."""
    dims = make_fit(METHODS["Monolithic"], [bumps(1)], [0]).dims
    with pytest.raises(StudyError, match="at most 1024"):
        OuterLP().check(Monolithic(primary_widths=(1200,)), dims)
