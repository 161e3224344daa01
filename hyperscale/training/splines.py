"""Free-knot linear splines, batched: what a shallow ReLU network of one input is on [-1, 1].

A spline with knots -1 < t_1 < ... < t_k < 1 is kept by its values v_0, ..., v_{k+1} at the nodes -1, t_1, ..., t_k, 1.
In this basis of hat functions the normal matrix of least squares is tridiagonal and well conditioned, where that of
ReLU units has a condition number of k^4 and more; the two bases span the same functions.

All arrays are float64 and have the problems first. Sums over grid points are taken one problem after the other, and the
banded systems of all problems are solved as one block-diagonal system whose blocks meet in exact zeros; so a problem's
bits do not depend on which problems stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_RIDGE = 1e-13  # relative to the diagonal: nodes that no point of the grid sees keep their values
MIN_GAP = 1e-7
_LARGEST_MOVE = 0.45  # of the gap on that side, so that knots never meet


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """Where the grid points lie: ``cell`` and ``place`` in [0, 1] of it, both [problems, points]."""

    cell: Index
    place: Array
    num_cells: int

    def sums(self, terms: Array) -> Array:
        """Return the sum of ``terms`` [problems, points] over every cell, [problems, num_cells]."""
        problems = len(terms)
        flat = (self.cell + self.num_cells * np.arange(problems)[:, None]).ravel()
        total = np.bincount(flat, weights=terms.ravel(), minlength=problems * self.num_cells)
        return np.asarray(total, dtype=np.float64).reshape(problems, self.num_cells)

    def pick(self, problems: Index | NDArray[np.bool_]) -> Cells:
        """Return the cells of some problems."""
        return Cells(cell=self.cell[problems], place=self.place[problems], num_cells=self.num_cells)


def nodes_of(knots: Array) -> Array:
    """Return -1, the knots, 1: [problems, k + 2]."""
    ends = np.ones((len(knots), 1))
    return np.concatenate((-ends, knots, ends), axis=1)


def locate(x: Array, knots: Array) -> Cells:
    """Return the cells of the ascending points ``x`` [points] between ``knots`` [problems, k], ascending too."""
    problems, num_knots = knots.shape
    first = np.searchsorted(x, knots.ravel())
    flat = first + (len(x) + 1) * np.repeat(np.arange(problems), num_knots)
    starts = np.bincount(flat, minlength=problems * (len(x) + 1)).reshape(problems, len(x) + 1)
    cell = np.cumsum(starts[:, :-1], axis=1)
    nodes = nodes_of(knots)
    left = np.take_along_axis(nodes, cell, axis=1)
    width = np.take_along_axis(np.diff(nodes, axis=1), cell, axis=1)
    return Cells(cell=cell, place=(x - left) / width, num_cells=num_knots + 1)


def interpolate(cells: Cells, values: Array) -> Array:
    """Return the splines on the grid, [problems, points], given ``values`` [problems, k + 2]."""
    left = np.take_along_axis(values, cells.cell, axis=1)
    right = np.take_along_axis(values, cells.cell + 1, axis=1)
    return left + (right - left) * cells.place


def gram(cells: Cells, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """Return per cell the (weighted) sums of (1-u)^2, (1-u) u and u^2, each [problems, cells]."""
    place, rest = cells.place, 1 - cells.place
    if weights is None:
        return cells.sums(rest * rest), cells.sums(rest * place), cells.sums(place * place)
    return cells.sums(weights * rest * rest), cells.sums(weights * rest * place), cells.sums(weights * place * place)


def assemble(left: Array, right: Array) -> Array:
    """Return node sums [problems, cells + 1] of what each cell gives to its left and right node."""
    total = np.zeros((len(left), left.shape[1] + 1))
    total[:, :-1] += left
    total[:, 1:] += right
    return total


def solve_banded_together(lower: Array, right_side: Array) -> Array:
    """Solve symmetric positive definite banded systems: ``lower`` [problems, bands, n], right sides [problems, n, m].

    ``lower[:, i, j]`` is the entry (j + i, j), and has to vanish where j + i is past the end. One LAPACK call
    (``pbsv``, unblocked for so few bands) does all problems.
    """
    problems, bands, size = lower.shape
    flat = np.ascontiguousarray(lower.transpose(1, 0, 2)).reshape(bands, problems * size)
    solution = solveh_banded(
        flat, right_side.reshape(problems * size, -1), lower=True, overwrite_ab=True, check_finite=False
    )
    return np.asarray(solution).reshape(right_side.shape)


def tridiagonal(moments: tuple[Array, Array, Array]) -> Array:
    """Return the normal matrix of the hats in lower band form, [problems, 2, k + 2], a ridge of 1e-13 added."""
    at_left, across, at_right = moments
    diagonal = assemble(at_left, at_right)
    diagonal += _RIDGE * (diagonal + diagonal.max(axis=1, keepdims=True))
    off = np.concatenate((across, np.zeros((len(across), 1))), axis=1)
    return np.stack((diagonal, off), axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Linearised:
    """The weighted Gauss-Newton system of a spline in (v, t): blocks of 2 x 2 on three diagonals.

    A knot's column is taken with its mean slope subtracted (by a change of v): what is left is half the jump of the
    slope times (hat left of the knot - hat right of it), and it vanishes where there is no kink.
    ``diagonal`` [problems, k + 2, 2, 2]; ``off`` the same, entry [a, b] being unknown a of a node with unknown b of the
    next; ``gradient`` [problems, k + 2, 2]; ``mean_slope`` [problems, k].
    """

    diagonal: Array
    off: Array
    gradient: Array
    mean_slope: Array

    def step(self, damping_values: Array, damping_knots: Array) -> tuple[Array, Array]:
        """Return (dv [problems, k + 2], dt [problems, k]); damping multiplies the diagonal (Marquardt)."""
        problems, num_nodes = self.gradient.shape[:2]
        own = self.diagonal[:, :, (0, 1), (0, 1)]
        floor = 1e-10 * own.max(axis=1, keepdims=True) + 1e-300
        damping = np.stack((damping_values, damping_knots), axis=-1)[:, None, :]
        own = own + (damping + _RIDGE) * (own + floor)
        own[:, (0, -1), 1] = 1.0  # the end points do not move
        lower = np.zeros((problems, 4, num_nodes, 2))
        lower[:, 0] = own
        lower[:, 1, :, 0] = self.diagonal[:, :, 1, 0]
        lower[:, 1, :-1, 1] = self.off[:, :-1, 1, 0]
        lower[:, 2, :-1] = self.off[:, :-1, (0, 1), (0, 1)]
        lower[:, 3, :-1, 0] = self.off[:, :-1, 0, 1]
        flat = solve_banded_together(lower.reshape(problems, 4, -1), self.gradient.reshape(problems, -1, 1))
        change = flat.reshape(problems, num_nodes, 2)
        moved = change[:, 1:-1, 1]
        values = change[:, :, 0].copy()
        values[:, 1:-1] += self.mean_slope * moved
        return values, moved

    def pick(self, problems: Index) -> Linearised:
        """Return the systems of some problems."""
        return Linearised(
            diagonal=self.diagonal[problems],
            off=self.off[problems],
            gradient=self.gradient[problems],
            mean_slope=self.mean_slope[problems],
        )

    def put(self, problems: Index, chosen: NDArray[np.bool_], new: Linearised) -> None:
        """Put the chosen ones of the ``new`` systems of ``problems`` in the place of the old."""
        at = problems[chosen]
        self.diagonal[at], self.off[at] = new.diagonal[chosen], new.off[chosen]
        self.gradient[at], self.mean_slope[at] = new.gradient[chosen], new.mean_slope[chosen]

    def eliminate(self, damping: float) -> tuple[Array, Array]:
        """Return the Schur complements in the knots [problems, k, k] and their right sides [problems, k]."""
        problems, num_nodes = self.gradient.shape[:2]
        num = num_nodes - 2
        coupling, own = np.zeros((problems, num_nodes, num)), np.zeros((problems, num, num))
        at = np.arange(num)
        coupling[:, at + 1, at] = self.diagonal[:, 1:-1, 0, 1]
        coupling[:, at, at] = self.off[:, :-2, 0, 1]  # value of the node before with this knot
        coupling[:, at + 2, at] = self.off[:, 1:-1, 1, 0]  # this knot with the value of the node after
        own[:, at, at] = self.diagonal[:, 1:-1, 1, 1]
        own[:, at[:-1], at[1:]] = own[:, at[1:], at[:-1]] = self.off[:, 1:-2, 1, 1]
        right = np.concatenate((coupling, self.gradient[:, :, :1]), axis=2)
        solved = solve_banded_together(self._values_matrix(damping), right)
        schur, pull = own, self.gradient[:, 1:-1, 1].copy()
        for node, part in (
            (at + 1, self.diagonal[:, 1:-1, 0, 1]),
            (at, self.off[:, :-2, 0, 1]),
            (at + 2, self.off[:, 1:-1, 1, 0]),
        ):
            schur -= part[:, :, None] * solved[:, node, :-1]
            pull -= part * solved[:, node, -1]
        return schur, pull

    def values_given(self, move: Array, damping: float) -> Array:
        """Return dv [problems, k + 2] (unshifted) when the knots of all problems take the step ``move`` [k]."""
        right = self.gradient[:, :, 0].copy()
        right[:, 1:-1] -= self.diagonal[:, 1:-1, 0, 1] * move
        right[:, :-2] -= self.off[:, :-2, 0, 1] * move
        right[:, 2:] -= self.off[:, 1:-1, 1, 0] * move
        values = solve_banded_together(self._values_matrix(damping), right[..., None])[..., 0]
        values[:, 1:-1] += self.mean_slope * move
        return values

    def _values_matrix(self, damping: float) -> Array:
        """Return the values' block in lower band form."""
        own = self.diagonal[:, :, 0, 0]
        floor = 1e-10 * own.max(axis=1, keepdims=True) + 1e-300
        lower = np.zeros((len(own), 2, own.shape[1]))
        lower[:, 0] = own + (damping + _RIDGE) * (own + floor)
        lower[:, 1, :-1] = self.off[:, :-1, 0, 0]
        return lower


def interpolate_cubic(x: Array, y: Array, at: Array, problems: Index | None = None) -> tuple[Array, Array]:
    """Return y and y' at points ``at`` [problems, m] from ``y`` [problems, points] on the equispaced ``x`` [points].

    With ``problems``, from those rows of ``y``. Lagrange's cubic through the four nearest grid points (fewer points:
    the parabola or the line through them).
    """
    order = min(4, len(x))
    spacing = (x[-1] - x[0]) / (len(x) - 1)
    place = (at - x[0]) / spacing
    first = np.clip(np.floor(place).astype(np.int64) - (order // 2 - 1), 0, len(x) - order)
    offset = place - first
    rows = np.arange(len(at)) if problems is None else problems
    first += y.shape[1] * rows[:, None]
    flat = y.ravel()
    value, slope = np.zeros_like(at), np.zeros_like(at)
    for i in range(order):
        others = [j for j in range(order) if j != i]
        denominator = float(np.prod([i - j for j in others]))
        factor, derivative = np.ones_like(at), np.zeros_like(at)
        for j in others:
            derivative = derivative * (offset - j) + factor
            factor = factor * (offset - j)
        column = flat[first + i] / denominator
        value += column * factor
        slope += column * derivative
    return value, slope / spacing


def moved_knots(knots: Array, move: Array) -> Array:
    """Return knots moved by ``move``, each by less than half the way to its neighbours, so that their order stays."""
    gaps = np.diff(nodes_of(knots), axis=1)
    return np.clip(knots + move, knots - _LARGEST_MOVE * gaps[:, :-1], knots + _LARGEST_MOVE * gaps[:, 1:])


def separated(knots: Array) -> Array:
    """Return ascending knots in (-1, 1) at least 1e-7 apart."""
    steps = MIN_GAP * np.arange(1, knots.shape[1] + 1)
    up = np.maximum.accumulate(np.maximum(np.sort(knots, axis=1), -1 + MIN_GAP) - steps, axis=1) + steps
    down = np.minimum(up[:, ::-1], 1 - MIN_GAP) + steps
    return np.asarray(np.minimum.accumulate(down, axis=1) - steps)[:, ::-1].copy()


def summed(terms: Array) -> Array:
    """Return the sum over the last axis; NumPy's pairwise sum of a row, whatever rows there are beside it."""
    return np.asarray(np.add.reduce(np.ascontiguousarray(terms), axis=-1))


def as_array(tensor: Any) -> Array:
    """Return a float64 NumPy array of a tensor on any device."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
