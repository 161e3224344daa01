"""Linear programs for splines in the hat basis: the best values for given knots, in the largest error."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from hyperscale.training.minimax import extreme_points, solve_by_exchange
from hyperscale.training.spline_meshes import Mesh
from hyperscale.training.splines import Array, Index


def hats(cell: Index, place: Array, slopes: Array | None = None, num_cells: int = 0) -> scipy.sparse.csr_array:
    """Return dh / dv at points of given cells, [points, k + 2]; with ``slopes`` also dh / dt, [points, (k + 2) + k]."""
    num, rest, rows = len(cell), 1 - place, np.arange(len(cell))
    data, columns, at = [rest, place], [cell, cell + 1], [rows, rows]
    nodes = num_cells + 1
    if slopes is not None:
        nodes = len(slopes) + 1
        slope, left, right = slopes[cell], cell > 0, cell < nodes - 2
        data += [(-slope * rest)[left], (-slope * place)[right]]
        columns += [(nodes + cell - 1)[left], (nodes + cell)[right]]
        at += [rows[left], rows[right]]
    where = (np.concatenate(at), np.concatenate(columns))
    unknowns = nodes if slopes is None else 2 * nodes - 2
    return scipy.sparse.csr_array((np.concatenate(data), where), shape=(num, unknowns))


def at_knots(slope: Array) -> scipy.sparse.csr_array:
    """Return -d(y(t) - v) / d(v, t) at the knots, [k, (k + 2) + k], given y' there."""
    num = len(slope)
    rows = np.arange(num)
    where = (np.concatenate((rows, rows)), np.concatenate((rows + 1, rows + num + 2)))
    return scipy.sparse.csr_array((np.concatenate((np.ones(num), -slope)), where), shape=(num, 2 * num + 2))


def best_values(mesh: Mesh, start: Array) -> Array:
    """Return the values [problems, k + 2] with the smallest largest error on grid and knots, from ``start``.

    One linear program per problem, on few points at a time; where the solver fails, ``start`` stays.
    """
    values = start.copy()
    residual = mesh.residual(start)
    num_cells = mesh.cells.num_cells
    for problem in range(len(start)):
        cell, place = mesh.cells.cell[problem], mesh.cells.place[problem]
        knots = np.arange(1, num_cells)
        cell, place = np.concatenate((cell, knots)), np.concatenate((place, np.zeros(len(knots))))
        rest = np.concatenate((residual.grid[problem], residual.knots[problem]))
        first = extreme_points(residual.grid[problem], mesh.cells.cell[problem])
        first = np.concatenate((first, len(residual.grid[problem]) + np.arange(len(knots))))
        found = solve_by_exchange(hats(cell, place, num_cells=num_cells), rest, first)
        if found is not None and found[1] < np.abs(rest).max():
            values[problem] += found[0]
    return values
