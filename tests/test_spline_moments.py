"""Tests of `hyperscale.training.spline_moments`: prefix sums against sums over every grid point."""

from __future__ import annotations

import numpy as np
import pytest

from hyperscale.training import splines
from hyperscale.training.spline_meshes import Parts, fit_values, half_squares, linearise, mesh_of
from hyperscale.training.spline_moments import Samples

AT = np.array([0, 2, 3])


@pytest.mark.parametrize(("points", "knots"), [(2, 4), (3, 1), (64, 40), (65, 0), (66, 4), (201, 4), (1000, 40)])
def test_moments_are_the_sums_over_the_grid(points: int, knots: int) -> None:
    """Objective, system and least-squares values agree, with empty cells and several knots between two points too."""
    generator = np.random.default_rng(knots)
    x = np.linspace(-1, 1, points)
    y = np.sin(3 * x + generator.uniform(0, 6, (4, 1)))
    at_knots = splines.separated(generator.uniform(-0.99, 0.99, (3, knots))) if knots else np.zeros((3, 0))
    if knots == 4:
        at_knots[1] = splines.separated(np.array([[-0.501, -0.5, 0.003, 0.004]]))
    values = generator.normal(size=(3, knots + 2))
    mesh, moments = mesh_of(x, y[AT], at_knots), Samples(x, y).mesh(at_knots, AT)
    residual, sums = mesh.residual(values), moments.residuals(values)
    np.testing.assert_allclose(sums.objective, mesh.mean(half_squares(residual)), rtol=1e-12)
    ones = Parts(grid=np.ones_like(residual.grid), knots=np.ones_like(residual.knots))
    expected, system = linearise(mesh, values, residual, ones, 2.0), moments.linearise(values, sums)
    for name in ("diagonal", "off", "gradient", "mean_slope"):
        want = getattr(expected, name)
        np.testing.assert_allclose(getattr(system, name), want, atol=1e-12 * np.abs(want).max(initial=1e-300))
    best = fit_values(mesh, values)
    np.testing.assert_allclose(moments.fit_values(values), best, atol=1e-9)
    least = mesh.mean(half_squares(mesh.residual(best)))
    np.testing.assert_allclose(moments.residuals(best).objective, least, rtol=1e-8, atol=1e-15)


def test_a_problem_does_not_depend_on_its_neighbours() -> None:
    """Alone and among others, in every bit."""
    generator = np.random.default_rng(0)
    x, knots = np.linspace(-1, 1, 301), splines.separated(generator.uniform(-0.9, 0.9, (5, 7)))
    y = generator.normal(size=(5, len(x)))
    samples = Samples(x, y)
    together = samples.mesh(knots, np.arange(5))
    best = together.fit_values(np.zeros((5, 9)))
    for problem in range(5):
        own = samples.mesh(knots[problem : problem + 1], np.array([problem]))
        values = own.fit_values(np.zeros((1, 9)))
        np.testing.assert_array_equal(values[0], best[problem])
        found, beside = own.residuals(values), together.residuals(best)
        assert found.objective[0] == beside.objective[problem]
        np.testing.assert_array_equal(
            own.linearise(values, found).gradient[0], together.linearise(best, beside).gradient[problem]
        )
