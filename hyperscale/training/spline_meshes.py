"""Integrals over grid points and knots together, and the least-squares systems of splines that they give.

The trapezoid rule on the grid alone has a kink wherever a knot passes a grid point, and with it a local minimum for
nearly every position of a knot between two points. With the knots as points of the rule, sum_i w_i F(r_i) is an
integral whose weights move with the knots; it is as smooth in them as the true one, and optimisers are not caught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperscale.training.splines import (
    Array,
    Cells,
    Index,
    Linearised,
    assemble,
    gram,
    interpolate,
    interpolate_cubic,
    locate,
    nodes_of,
    solve_banded_together,
    tridiagonal,
)

Moments = tuple[Array, Array, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Numbers at the grid points [problems, points] and at the knots [problems, k]."""

    grid: Array
    knots: Array

    def largest(self) -> Array:
        """Return the largest absolute value of every problem, [problems]."""
        return np.asarray(np.maximum(np.abs(self.grid).max(axis=1), np.abs(self.knots).max(axis=1, initial=0.0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """Grid and knots of every problem: cells, trapezoid weights (of the mean over [-1, 1]), and y at all points.

    ``below`` [problems, k] is the grid point before each knot; ``is_first`` and ``is_last`` say whether it is the first
    and the last knot of its grid interval; ``slope`` [problems, k] is y' at the knots.
    """

    nodes: Array
    cells: Cells
    weights: Parts
    y: Parts
    slope: Array
    below: Index
    is_first: NDArray[np.bool_]
    is_last: NDArray[np.bool_]

    def residual(self, values: Array) -> Parts:
        """Return y - h for splines with ``values`` [problems, k + 2]."""
        return Parts(grid=self.y.grid - interpolate(self.cells, values), knots=self.y.knots - values[:, 1:-1])

    def mean(self, terms: Parts) -> Array:
        """Return the integral over [-1, 1] by the rule, over its length: [problems]."""
        with np.errstate(over="ignore", invalid="ignore"):
            products = np.concatenate((terms.grid * self.weights.grid, terms.knots * self.weights.knots), axis=1)
            return np.asarray(np.add.reduce(products, axis=1))

    def drift(self, terms: Parts) -> Array:
        """Return d/dt_j of `mean` by the weights alone, [problems, k]: (F before t_j - F after t_j) / 4."""
        before = np.take_along_axis(terms.grid, self.below, axis=1)
        after = np.take_along_axis(terms.grid, self.below + 1, axis=1)
        before[:, 1:] = np.where(self.is_first[:, 1:], before[:, 1:], terms.knots[:, :-1])
        after[:, :-1] = np.where(self.is_last[:, :-1], after[:, :-1], terms.knots[:, 1:])
        return 0.25 * (before - after)


def mesh_of(x: Array, y: Array, knots: Array) -> Mesh:
    """Return the mesh of ``knots`` [problems, k] on the equispaced ``x`` [points] with targets ``y``."""
    problems, num = knots.shape
    below = np.searchsorted(x, knots.ravel()).reshape(problems, num) - 1
    low, high = x[below], x[below + 1]
    is_first, is_last = np.ones_like(below, dtype=bool), np.ones_like(below, dtype=bool)
    is_first[:, 1:] = is_last[:, :-1] = below[:, 1:] != below[:, :-1]
    nodes = nodes_of(knots)
    own = 0.5 * (np.minimum(high, nodes[:, 2:]) - np.maximum(low, nodes[:, :-2]))
    spacing = (x[-1] - x[0]) / (len(x) - 1)
    base = np.full(len(x), spacing)
    base[[0, -1]] *= 0.5
    weights = np.tile(base, (problems, 1))
    row = np.broadcast_to(np.arange(problems)[:, None], below.shape)
    weights[row[is_first], below[is_first]] -= 0.5 * (high - knots)[is_first]
    weights[row[is_last], below[is_last] + 1] -= 0.5 * (knots - low)[is_last]
    at_knots, slope = interpolate_cubic(x, y, knots)
    return Mesh(
        nodes=nodes,
        cells=locate(x, knots),
        weights=Parts(grid=0.5 * np.maximum(weights, 0.0), knots=0.5 * own),
        y=Parts(grid=y, knots=at_knots),
        slope=slope,
        below=below,
        is_first=is_first,
        is_last=is_last,
    )


def fit_values(mesh: Mesh, start: Array | None = None) -> Array:
    """Return the least-squares values [problems, k + 2]; the tiny ridge draws to ``start``, else to zero."""
    if start is None:
        start = np.zeros_like(mesh.nodes)
    residual, weights, place = mesh.residual(start), mesh.weights, mesh.cells.place
    moments = gram(mesh.cells, weights.grid)
    at_left, across, at_right = moments
    at_left[:, 1:] += weights.knots  # a knot is the left node of the cell after it
    pulled = residual.grid * weights.grid
    right = assemble(mesh.cells.sums(pulled * (1 - place)), mesh.cells.sums(pulled * place))
    right[:, 1:-1] += residual.knots * weights.knots
    change = solve_banded_together(tridiagonal((at_left, across, at_right)), right[..., None])[..., 0]
    return np.asarray(start + change)


def linearise(mesh: Mesh, values: Array, residual: Parts, factor: Parts, power: float) -> Linearised:
    """Return the Gauss-Newton system of mean abs(r)^power / power, given ``factor`` = abs(r)^(power - 2)."""
    slopes = np.diff(values, axis=1) / np.diff(mesh.nodes, axis=1)
    weights = factor.grid * mesh.weights.grid
    pulled, place = residual.grid * weights, mesh.cells.place
    to_right = mesh.cells.sums(pulled * place)
    to_left = mesh.cells.sums(pulled * (1 - place))
    terms = Parts(
        grid=factor.grid * residual.grid * residual.grid / power,
        knots=factor.knots * residual.knots * residual.knots / power,
    )
    at_knots = (factor.knots * mesh.weights.knots, residual.knots, mesh.slope)
    return assemble_system(slopes, gram(mesh.cells, weights), (to_left, to_right), at_knots, mesh.drift(terms))


def assemble_system(
    slopes: Array, moments: Moments, pulls: tuple[Array, Array], at_knots: Moments, drift: Array
) -> Linearised:
    """Return the system in values and knots of splines with ``slopes`` [problems, cells].

    ``moments`` are the weighted sums of (1-u)^2, (1-u) u and u^2 per cell, ``pulls`` those of r (1-u) and r u;
    ``at_knots`` are weights, residuals and y' there; ``drift`` is the objective's derivative by the moving weights.
    """
    at_left, across, at_right = moments
    to_left, to_right = pulls
    knot_weights, knot_residuals, slope = at_knots
    mean_slope, half_jump = 0.5 * (slopes[:, 1:] + slopes[:, :-1]), 0.5 * np.diff(slopes, axis=1)
    num, cells = slopes.shape
    before, after = np.zeros((num, cells)), np.zeros((num, cells))
    before[:, :-1] = half_jump  # of a cell's right node, seen from its left
    after[:, 1:] = -half_jump  # of a cell's left node, seen from its right
    shape = (num, cells + 1, 2, 2)
    diagonal, off, gradient = np.zeros(shape), np.zeros(shape), np.zeros(shape[:-1])
    diagonal[:, :-1, 0, 0] = at_left
    diagonal[:, 1:, 0, 0] += at_right
    diagonal[:, :-1, 0, 1] = at_left * after
    diagonal[:, 1:, 0, 1] += at_right * before
    diagonal[:, :-1, 1, 1] = at_left * after * after
    diagonal[:, 1:, 1, 1] += at_right * before * before
    off[:, :-1, 0, 0] = across
    off[:, :-1, 0, 1] = across * before
    off[:, :-1, 1, 0] = across * after
    off[:, :-1, 1, 1] = across * after * before
    gradient[:, :-1, 0] = to_left
    gradient[:, 1:, 0] += to_right
    gradient[:, :-1, 1] = to_left * after
    gradient[:, 1:, 1] += to_right * before
    # at a knot d(y(t) - v) = (y' - mean slope) dt - dv, in the shifted unknowns
    own, pulled = mean_slope - slope, knot_weights * knot_residuals
    diagonal[:, 1:-1, 0, 0] += knot_weights
    diagonal[:, 1:-1, 0, 1] += knot_weights * own
    diagonal[:, 1:-1, 1, 1] += knot_weights * own * own
    diagonal[..., 1, 0] = diagonal[..., 0, 1]
    gradient[:, 1:-1, 0] += pulled
    gradient[:, 1:-1, 1] += pulled * own - drift
    return Linearised(diagonal=diagonal, off=off, gradient=gradient, mean_slope=mean_slope)


def half_squares(residual: Parts) -> Parts:
    """Return r^2 / 2."""
    return Parts(grid=0.5 * residual.grid * residual.grid, knots=0.5 * residual.knots * residual.knots)


def raised(residual: Parts, scale: Array, power: float) -> Parts:
    """Return (abs(r) / scale)^power with ``scale`` [problems, 1]; infinite where it overflows."""
    with np.errstate(over="ignore"):
        return Parts(
            grid=(np.abs(residual.grid) / scale) ** power,
            knots=(np.abs(residual.knots) / scale) ** power,
        )
