"""Least squares for free-knot splines from prefix sums: time per problem grows with the knots, not with the grid.

Grid points in one cell of a spline are consecutive, so sums of y, j y and y^2 over them (j being the point's number)
are differences of prefix sums made once, and those of 1, j and j^2 are closed forms. To lose no digits the sums begin
anew with every block of 64 points, and y is taken off the chord of its block; a cell is cut at the blocks it meets. The
weights are those of `spline_meshes`, whose correction concerns one point on either side of a knot only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperscale.training.spline_meshes import Moments, assemble_system
from hyperscale.training.splines import (
    Array,
    Index,
    Linearised,
    assemble,
    interpolate_cubic,
    nodes_of,
    solve_banded_together,
    summed,
    tridiagonal,
)

_BLOCK = 64


class Samples:
    """Targets ``y`` [problems, points] on the equispaced ``x`` [points], and their prefix sums per block.

    ``sums`` [problems * blocks * 65, 3] holds, at i of a block, the sums over j < i of d_j, j d_j and d_j^2, where d is
    y less the block's chord; ``chords`` [problems * blocks, 2] the chord at j = 0 and its rise per point.
    """

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y
        self.spacing = float((x[-1] - x[0]) / (len(x) - 1))
        self.num_blocks = -(-len(x) // _BLOCK)
        missing = self.num_blocks * _BLOCK - len(x)
        blocks = np.pad(y, ((0, 0), (0, missing)), mode="edge").reshape(-1, _BLOCK)
        place = np.arange(_BLOCK)
        rise = (blocks[:, -1] - blocks[:, 0]) / (_BLOCK - 1)
        off = blocks - (blocks[:, :1] + rise[:, None] * place)
        self.chords = np.stack((blocks[:, 0], rise), axis=-1)
        terms = np.stack((off, off * place, off * off), axis=-1)
        sums = np.zeros((len(blocks), _BLOCK + 1, 3))
        np.cumsum(terms, axis=1, out=sums[:, 1:])
        self.sums = sums.reshape(-1, 3)

    def mesh(self, knots: Array, problems: Index) -> MomentMesh:
        """Return the mesh of ``knots`` [problems, k] for some of the problems."""
        nodes = nodes_of(knots)
        gaps = np.diff(nodes, axis=1)
        first = np.searchsorted(self.x, knots.ravel()).reshape(knots.shape)
        y_knots, slope = interpolate_cubic(self.x, self.y, knots, problems)
        edges = Edges.around(self, nodes, gaps, first, problems)
        return MomentMesh(
            samples=self,
            nodes=nodes,
            gaps=gaps,
            pieces=_cut(self, nodes, gaps, first, problems),
            edges=edges,
            y_knots=y_knots,
            y_ends=self.y[:, (0, -1)][problems],
            slope=slope,
            gram=_gram(self, nodes, gaps, first, edges),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Runs of points in one cell and one block, all [problems, blocks + k]; the last three are sums over the run.

    ``node`` is the flat number of the cell's left node, ``cell`` the flat number of the cell; ``place`` and ``stride``
    are the first point's place in [0, 1] of the cell and the way from point to point; ``chord`` and ``rise`` the
    block's chord at the first point and per point.
    """

    node: Index
    cell: Index
    count: Array
    place: Array
    stride: Array
    chord: Array
    rise: Array
    total: Array
    first_moment: Array
    squares: Array


def _cut(samples: Samples, nodes: Array, gaps: Array, first: Index, problems: Index) -> Pieces:
    """Return the pieces given the number ``first`` [problems, k] of the first point at or after each knot."""
    num, num_points, cells = len(nodes), len(samples.x), gaps.shape[1]
    starts = np.broadcast_to(_BLOCK * np.arange(samples.num_blocks), (num, samples.num_blocks))
    begin = np.concatenate((starts, first), axis=1)
    order = np.argsort(begin, axis=1, kind="stable")
    width, rows = begin.shape[1], np.arange(num)[:, None]
    begin = begin.ravel()[order + width * rows]
    own = np.cumsum(order >= samples.num_blocks, axis=1)
    end = np.concatenate((begin[:, 1:], np.full((num, 1), num_points)), axis=1)
    block = np.minimum(begin // _BLOCK, samples.num_blocks - 1)
    offset = begin - _BLOCK * block
    at = problems[:, None] * samples.num_blocks + block
    low = at * (_BLOCK + 1) + offset
    count = end - begin
    sums = samples.sums[low + count] - samples.sums[low]
    node, cell = own + (cells + 1) * rows, own + cells * rows
    left, gap = nodes.ravel()[node], gaps.ravel()[cell]
    chord = samples.chords[at]
    return Pieces(
        node=node,
        cell=cell,
        count=count.astype(np.float64),
        place=(samples.x[np.minimum(begin, num_points - 1)] - left) / gap,
        stride=samples.spacing / gap,
        chord=chord[..., 0] + chord[..., 1] * offset,
        rise=chord[..., 1],
        total=sums[..., 0],
        first_moment=sums[..., 1] - offset * sums[..., 0],
        squares=sums[..., 2],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Edges:
    """The grid points before and after every knot, all [problems, k]: what their weights lack, y and places there."""

    lack_before: Array
    lack_after: Array
    y_before: Array
    y_after: Array
    place_before: Array
    place_after: Array
    is_first: NDArray[np.bool_]
    is_last: NDArray[np.bool_]
    knot_weights: Array

    @staticmethod
    def around(samples: Samples, nodes: Array, gaps: Array, first: Index, problems: Index) -> Edges:
        """Return them given the number of the first point at or after each knot."""
        knots, below = nodes[:, 1:-1], first - 1
        low, high = samples.x[below], samples.x[first]
        is_first, is_last = np.ones_like(below, dtype=bool), np.ones_like(below, dtype=bool)
        is_first[:, 1:] = is_last[:, :-1] = below[:, 1:] != below[:, :-1]
        own = np.minimum(high, nodes[:, 2:]) - np.maximum(low, nodes[:, :-2])
        y = samples.y.ravel()
        flat = below + len(samples.x) * problems[:, None]
        return Edges(
            lack_before=np.where(is_first, 0.25 * (high - knots), 0.0),
            lack_after=np.where(is_last, 0.25 * (knots - low), 0.0),
            y_before=y[flat],
            y_after=y[flat + 1],
            place_before=(low - nodes[:, :-2]) / gaps[:, :-1],
            place_after=(high - knots) / gaps[:, 1:],
            is_first=is_first,
            is_last=is_last,
            knot_weights=0.25 * own,
        )


def _gram(samples: Samples, nodes: Array, gaps: Array, first: Index, edges: Edges) -> Moments:
    """Return per cell the weighted sums of (1 - u)^2, (1 - u) u and u^2 over grid points, each [problems, cells]."""
    num, points = len(nodes), len(samples.x)
    begin = np.concatenate((np.zeros((num, 1), dtype=np.int64), first), axis=1)
    end = np.concatenate((first, np.full((num, 1), points)), axis=1)
    count = (end - begin).astype(np.float64)
    stride = samples.spacing / gaps
    pairs = stride * count * (count - 1)
    quadratic = stride * pairs * (2 * count - 1) / 6
    place = (samples.x[np.minimum(begin, points - 1)] - nodes[:, :-1]) / gaps
    rest = (nodes[:, 1:] - samples.x[np.maximum(end - 1, 0)]) / gaps
    at_right = place * (count * place + pairs) + quadratic
    at_left = rest * (count * rest + pairs) + quadratic
    across = count * place + 0.5 * pairs - at_right
    moments = [0.5 * samples.spacing * one for one in (at_left, across, at_right)]
    moments[0][:, 0] -= 0.25 * samples.spacing
    moments[2][:, -1] -= 0.25 * samples.spacing
    for cells, lack, u in (
        (slice(None, -1), edges.lack_before, edges.place_before),
        (slice(1, None), edges.lack_after, edges.place_after),
    ):
        moments[0][:, cells] -= lack * (1 - u) * (1 - u)
        moments[1][:, cells] -= lack * (1 - u) * u
        moments[2][:, cells] -= lack * u * u
    at_left, across, at_right = (np.maximum(one, 0.0) for one in moments)
    return at_left, across, at_right


@dataclass(frozen=True, kw_only=True, slots=True)
class Residuals:
    """Weighted sums of residuals r per cell, at its two nodes; r beside and at the knots; half the mean square."""

    to_left: Array
    to_right: Array
    before: Array
    after: Array
    knots: Array
    objective: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentMesh:
    """What `spline_meshes.Mesh` is for least squares, without arrays of the grid's size."""

    samples: Samples
    nodes: Array
    gaps: Array
    pieces: Pieces
    edges: Edges
    y_knots: Array
    y_ends: Array
    slope: Array
    gram: Moments

    def residuals(self, values: Array) -> Residuals:
        """Return the sums of y - h for splines with ``values`` [problems, k + 2]."""
        edges, spacing, gains = self.edges, self.samples.spacing, np.diff(values, axis=1)
        to_left, to_right, squares = self._sums(values, gains)
        before = edges.y_before - values[:, :-2] - gains[:, :-1] * edges.place_before
        after = edges.y_after - values[:, 1:-1] - gains[:, 1:] * edges.place_after
        knots = self.y_knots - values[:, 1:-1]
        pull_before, pull_after = edges.lack_before * before, edges.lack_after * after
        to_left[:, :-1] -= pull_before * (1 - edges.place_before)
        to_left[:, 1:] -= pull_after * (1 - edges.place_after)
        to_right[:, :-1] -= pull_before * edges.place_before
        to_right[:, 1:] -= pull_after * edges.place_after
        ends = self.y_ends - values[:, (0, -1)]
        to_left[:, 0] -= 0.25 * spacing * ends[:, 0]
        to_right[:, -1] -= 0.25 * spacing * ends[:, 1]
        lacking = pull_before * before + pull_after * after - edges.knot_weights * knots * knots
        total = squares - summed(lacking) - 0.25 * spacing * (ends[:, 0] * ends[:, 0] + ends[:, 1] * ends[:, 1])
        return Residuals(
            to_left=to_left,
            to_right=to_right,
            before=before,
            after=after,
            knots=knots,
            objective=np.maximum(0.5 * total, 0.0),
        )

    def _sums(self, values: Array, gains: Array) -> tuple[Array, Array, Array]:
        """Return the sums of w r (1 - u) and w r u per cell and of w r^2 per problem, with w half the spacing."""
        one, weight = self.pieces, 0.5 * self.samples.spacing
        gain = gains.ravel()[one.cell]
        start = values.ravel()[one.node] + gain * one.place - one.chord
        rise = gain * one.stride - one.rise
        linear = 0.5 * one.count * (one.count - 1)
        quadratic = linear * (2 * one.count - 1) / 3
        total = one.total - start * one.count - rise * linear
        moment = one.first_moment - start * linear - rise * quadratic
        squares = one.squares - start * (one.total + total) - rise * (one.first_moment + moment)
        at_right = one.place * total + one.stride * moment
        num, cells = gains.shape
        flat = one.cell.ravel()
        sums = [np.bincount(flat, weights=part.ravel(), minlength=num * cells) for part in (at_right, total)]
        to_right, both = (weight * np.asarray(part, dtype=np.float64).reshape(num, cells) for part in sums)
        return both - to_right, to_right, summed(weight * squares)

    def fit_values(self, start: Array) -> Array:
        """Return the least-squares values [problems, k + 2]; the tiny ridge draws to ``start``."""
        found = self.residuals(start)
        at_left, across, at_right = self.gram
        at_left = at_left.copy()
        at_left[:, 1:] += self.edges.knot_weights  # a knot is the left node of the cell after it
        right = assemble(found.to_left, found.to_right)
        right[:, 1:-1] += found.knots * self.edges.knot_weights
        change = solve_banded_together(tridiagonal((at_left, across, at_right)), right[..., None])[..., 0]
        return np.asarray(start + change)

    def linearise(self, values: Array, found: Residuals) -> Linearised:
        """Return the Gauss-Newton system of the mean of r^2 / 2 at ``values`` with their residuals."""
        edges, knots = self.edges, 0.5 * found.knots * found.knots
        before, after = 0.5 * found.before * found.before, 0.5 * found.after * found.after
        before[:, 1:] = np.where(edges.is_first[:, 1:], before[:, 1:], knots[:, :-1])
        after[:, :-1] = np.where(edges.is_last[:, :-1], after[:, :-1], knots[:, 1:])
        slopes = np.diff(values, axis=1) / self.gaps
        return assemble_system(
            slopes,
            self.gram,
            (found.to_left, found.to_right),
            (edges.knot_weights, found.knots, self.slope),
            0.25 * (before - after),
        )
