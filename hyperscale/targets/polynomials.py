"""Best polynomial approximation in sup norm, by a linear program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import linprog

from hyperscale.errors import AnalysisError, check_integer
from hyperscale.targets.corridor import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class BestPolynomial:
    """The best polynomial of a degree on [-1, 1], its Chebyshev ``coefficients`` [degree + 1].

    ``least`` is the minimax error on the program's points, a lower bound of the infimum; ``most`` the polynomial's
    own largest error on a grid 16 times as fine: the two agree up to the program's accuracy and the grids.
    """

    least: float
    most: float
    coefficients: Floats


def best_polynomial(function: Callable[[Floats], Floats], degree: int, *, points: int | None = None) -> BestPolynomial:
    """Return the best approximation of ``function`` on [-1, 1] by polynomials of at most ``degree``, in sup norm.

    min e subject to abs(sum_j c_j T_j(x_i) - y_i) <= e in the extrema x_i = cos(pi i / (points - 1)) of a Chebyshev
    polynomial; 32 (degree + 1) + 1 points unless given. Solved by HiGHS after scaling y to sup norm 1.
    """
    check_integer("best_polynomial: degree", degree, 0)
    count = 32 * (degree + 1) + 1 if points is None else points
    check_integer("best_polynomial: points (at least degree + 2)", count, degree + 2)
    x, y = _samples(function, count)
    scale = float(np.abs(y).max()) or 1.0
    basis = chebyshev.chebvander(x, degree)
    slack = np.ones((count, 1))
    solved = linprog(
        c=[0.0] * (degree + 1) + [1.0],
        A_ub=np.block([[basis, -slack], [-basis, -slack]]),
        b_ub=np.concatenate([y, -y]) / scale,
        bounds=[(None, None)] * (degree + 1) + [(0, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solved.status != 0:
        raise AnalysisError(
            f"best_polynomial found no optimum of degree {degree} on {count} points: {solved.message} "
            "Ask for a smaller degree."
        )
    coefficients: Floats = np.asarray(solved.x[:-1]) * scale
    fine, values = _samples(function, 16 * (count - 1) + 1)
    most = float(np.abs(chebyshev.chebval(fine, coefficients) - values).max())
    return BestPolynomial(least=float(solved.x[-1]) * scale, most=most, coefficients=coefficients)


def _samples(function: Callable[[Floats], Floats], count: int) -> tuple[Floats, Floats]:
    """Return the Chebyshev points, increasing, and the function there."""
    x = -np.cos(np.pi * np.arange(count) / (count - 1))
    x = (x - x[::-1]) / 2  # exactly symmetric, so that 0 is a point of an odd count
    y = np.asarray(function(x), dtype=np.float64)
    if y.shape != x.shape or not np.isfinite(y).all():
        raise AnalysisError(
            f"best_polynomial was given a function with values of shape {y.shape} for {x.shape} points; allowed: one "
            "finite number a point. Give a function that is vectorised and finite on [-1, 1]."
        )
    return x, y
