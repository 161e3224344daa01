"""Smallest largest residual of a linear model, by linear programs on the few points where it can be attained."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, linprog

from hyperscale.training.splines import Array, Index

_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class MinimaxStep:
    """What lowers the largest residual: ``change`` of the unknowns and the value the linear program ``predicts``."""

    change: Array
    predicted: float


def solve_minimax(matrix: Any, residual: Array, bound: Array | None = None) -> MinimaxStep | None:
    """Return d minimising max abs(residual - matrix d), abs(d_j) at most ``bound_j``; None where the solver fails.

    ``matrix`` [rows, unknowns] may be sparse. The residual is scaled to 1 and E is one unknown more:
    minimise E subject to -E <= residual - matrix d <= E (HiGHS by `scipy.optimize.linprog`).
    """
    scale = float(np.abs(residual).max(initial=0.0))
    if not np.isfinite(scale) or scale == 0:
        return None
    rows, unknowns = matrix.shape
    matrix = scipy.sparse.csr_array(matrix)
    ones = scipy.sparse.csr_array(np.ones((rows, 1)))
    constraints = scipy.sparse.vstack(
        [scipy.sparse.hstack([-matrix, -ones]), scipy.sparse.hstack([matrix, -ones])], format="csr"
    )
    right = np.concatenate((-residual, residual)) / scale
    cost = np.zeros(unknowns + 1)
    cost[-1] = 1.0
    limit = np.full(unknowns, np.inf) if bound is None else bound / scale
    lower, upper = np.append(-limit, 0.0), np.append(limit, np.inf)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            found = linprog(cost, A_ub=constraints, b_ub=right, bounds=np.stack((lower, upper), axis=1), method="highs")
    except ValueError:
        return None
    if found.x is None or not np.isfinite(found.x).all():
        return None
    return MinimaxStep(change=scale * found.x[:-1], predicted=scale * float(found.x[-1]))


def extreme_points(residual: Array, cell: Index) -> Index:
    """Return the points where a residual [points] on ascending x can attain its largest size, cell by cell.

    Of every cell: its largest and its smallest value, its first and its last point.
    """
    starts = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    ends = np.append(starts[1:], len(cell)) - 1
    group = np.repeat(np.arange(len(starts)), ends - starts + 1)
    ascending = np.lexsort((residual, group))  # within a cell the smallest residual first
    return np.unique(np.concatenate((starts, ends, ascending[starts], ascending[ends])))


def local_extremes(residual: Array) -> Index:
    """Return where abs(residual) [points] is no smaller than beside it."""
    size = np.abs(residual)
    beside = np.concatenate(([-1.0], size, [-1.0]))
    return np.flatnonzero((size >= beside[:-2]) & (size >= beside[2:]))


def solve_by_exchange(
    matrix: Any, residual: Array, first: Index, rounds: int = 12, most: int = 200
) -> tuple[Array, float] | None:
    """Return d minimising max abs(residual - matrix d) over all rows, and that maximum, by few rows at a time.

    The program on a subset of rows is a lower bound of the one on all; the rows that its solution violates most are
    added until there are none (to 1e-9 of the value). Returns the best d that was seen; None where nothing was.
    """
    chosen: NDArray[np.bool_] = np.zeros(len(residual), dtype=bool)
    chosen[first] = True
    best: tuple[Array, float] | None = None
    for _ in range(rounds):
        rows = np.flatnonzero(chosen)
        step = solve_minimax(matrix[rows], residual[rows])
        if step is None:
            break
        trial = np.abs(residual - matrix @ step.change)
        largest = float(trial.max())
        if best is None or largest < best[1]:
            best = (step.change, largest)
        violated = np.flatnonzero(trial > step.predicted * (1 + _TOLERANCE) + 1e-300)
        violated = violated[~chosen[violated]]
        if not len(violated):
            break
        chosen[violated[np.argsort(-trial[violated], kind="stable")[:most]]] = True
    return best
