"""The fewest links of a continuous piecewise-linear function inside the corridor y +- d, for many corridors at once.

The greedy of Imai and Iri ("An optimal algorithm for approximating a piecewise linear function", J. Inform. Process.
9, 1986; Suri's windows): the first link goes as far as any line inside the corridor can, the next one starts anywhere
on the last piece (the *window*) of that line, and so on. Every function in the corridor crosses each window, so no
function has fewer links. The knots may lie anywhere, between the grid points too.

Coordinates here: x is the number of the grid point (0, ..., points - 1, real in between), a *side* is the upper wall
y + d (sign +1) or the lower wall y - d seen upside down (sign -1), so that on both sides lines must stay below the
wall ``sign y + d``. One scan over the grid points serves all rows; a row costs amortised O(points).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """The greedy's lines in the order of their discovery: one entry for every link but a row's last.

    ``rows`` [links] int64; ``x``, ``height``, ``slope`` [links]: a point of the line and its slope (plain y).
    ``last_x``, ``last_height``, ``last_slope`` [rows]: a line for every row's last link.
    """

    rows: Ints
    x: Floats
    height: Floats
    slope: Floats
    last_x: Floats
    last_height: Floats
    last_slope: Floats


class _Side:
    """One wall of every row: the lower convex hull of its points, and the steepest line that stays inside.

    The hull is a stack [rows, points + 1] of which the places ``start``, ..., ``end`` are in use. The line has the
    point (line_x, line_h) and the slope ``slope``; it touches this wall at the hull's place ``touch`` and the
    other wall at the other hull's ``start``. Heights are ``sign`` times the plain ones.
    """

    def __init__(self, sign: float, wall: Floats, points: int) -> None:
        rows = len(wall)
        self.sign = sign
        self.offsets: Ints = np.arange(rows, dtype=np.int64) * (points + 1)
        self.hull_x, self.hull_h, self.hull_edge = (np.zeros(rows * (points + 1)) for _ in range(3))
        self.start, self.end, self.touch = (np.zeros(rows, dtype=np.int64) for _ in range(3))
        self.hull_h[self.offsets] = wall
        self.hull_edge[self.offsets] = -np.inf
        self.last_x, self.last_h, self.last_edge = np.zeros(rows), wall.copy(), np.full(rows, -np.inf)
        self.line_x, self.line_h, self.slope = np.zeros(rows), wall.copy(), np.full(rows, np.inf)

    def reach(self, x: float) -> Floats:
        """Return how high a line inside the corridor can get at ``x``, beyond all points so far: [rows]."""
        return self.line_h + self.slope * (x - self.line_x)

    def tighten(self, rows: Ints, x: float, wall: Floats, other: _Side) -> None:
        """Let the steepest line of ``rows`` go through the new wall point (x, wall), tangent to the other hull."""
        place = other.offsets[rows] + other.start[rows]
        end = other.offsets[rows] + other.end[rows]
        best = (wall + other.hull_h[place]) / (x - other.hull_x[place])
        active = np.flatnonzero(place < end)
        while len(active):
            following = place[active] + 1
            slope = (wall[active] + other.hull_h[following]) / (x - other.hull_x[following])
            better = slope <= best[active]
            active = active[better]
            place[active] = following[better]
            best[active] = slope[better]
            active = active[place[active] < end[active]]
        other.start[rows] = place - other.offsets[rows]
        self.line_x[rows], self.line_h[rows], self.slope[rows] = x, wall, best

    def append(self, x: float, wall: Floats, tightened: Ints) -> None:
        """Put the new wall point at the end of every row's hull; it is where the ``tightened`` lines touch."""
        self.touch[tightened] = self.start[tightened]
        edge = (wall - self.last_h) / (x - self.last_x)
        active = np.flatnonzero(edge < self.last_edge)
        while len(active):
            end = self.end[active]
            active = active[end > np.maximum(self.start[active], self.touch[active])]
            place = self.offsets[active] + self.end[active] - 1
            self.end[active] -= 1
            edge[active] = (wall[active] - self.hull_h[place]) / (x - self.hull_x[place])
            active = active[edge[active] < self.hull_edge[place]]
        self.end += 1
        place = self.offsets + self.end
        self.hull_x[place], self.hull_h[place], self.hull_edge[place] = x, wall, edge
        self.last_x[:], self.last_h, self.last_edge = x, wall, edge
        self.touch[tightened] = self.end[tightened]

    def leave(self, rows: Ints, x: Floats, height: Floats, other: _Side) -> None:
        """Start the next link of ``rows``: their steepest line met the other wall at (x, height).

        The window reaches from where the line touches this wall to that point. Lines that cross it lie below this
        wall's points from the touched one on, and above the other wall from the meeting point on.
        """
        self.start[rows] = self.touch[rows]
        other.line_x[rows], other.line_h[rows], other.slope[rows] = x, -height, -self.slope[rows]
        other.start[rows] = other.end[rows] = other.touch[rows] = 0
        place = other.offsets[rows]
        other.hull_x[place], other.hull_h[place], other.hull_edge[place] = x, -height, -np.inf
        other.last_x[rows], other.last_h[rows], other.last_edge[rows] = x, -height, -np.inf
        self.line_x[rows], self.line_h[rows], self.slope[rows] = x, height, np.inf


def count_links(y: Floats, problems: Ints, tolerances: Floats) -> Ints:
    """Return the fewest links of a function within ``tolerances`` of the interpolant of y[problems]: [rows].

    ``y`` [number of problems, points] finite with points >= 2, ``problems`` and ``tolerances`` [rows], the latter
    positive. One link is an affine function.
    """
    return _scan(y, problems, tolerances, None)[0]


def trace_links(y: Floats, problems: Ints, tolerances: Floats) -> tuple[Ints, Windows]:
    """Return `count_links` and the lines of the greedy, of which two successive ones meet in their window."""
    found: list[tuple[Ints, Floats, Floats, Floats]] = []
    counts, upper, lower = _scan(y, problems, tolerances, found)
    last = y.shape[1] - 1.0
    height = (upper.reach(last) - lower.reach(last)) / 2
    slope = (upper.slope - lower.slope) / 2
    empty: tuple[Ints, ...] = (np.zeros(0, dtype=np.int64),)
    rows = np.concatenate([part[0] for part in found] or list(empty))
    x, heights, slopes = (np.concatenate([part[j] for part in found] or [np.zeros(0)]) for j in (1, 2, 3))
    windows = Windows(
        rows=rows,
        x=x,
        height=heights,
        slope=slopes,
        last_x=np.full(len(counts), last),
        last_height=height,
        last_slope=slope,
    )
    return counts, windows


def _scan(
    y: Floats, problems: Ints, tolerances: Floats, found: list[tuple[Ints, Floats, Floats, Floats]] | None
) -> tuple[Ints, _Side, _Side]:
    """Run the greedy over all grid points; ``found`` collects (rows, x, height, slope) of every link but the last."""
    points = y.shape[1]
    columns = np.ascontiguousarray(y.T)
    values = columns[0][problems]
    upper, lower = _Side(1.0, values + tolerances, points), _Side(-1.0, tolerances - values, points)
    counts = np.ones(len(problems), dtype=np.int64)
    for i in range(1, points):
        x = float(i)
        values = columns[i][problems]
        walls = values + tolerances, tolerances - values
        reaches = [upper.reach(x), lower.reach(x)]
        for side, other, here, there in ((upper, lower, 0, 1), (lower, upper, 1, 0)):
            gap = reaches[here] + walls[there]
            rows = np.flatnonzero(gap < 0)
            if not len(rows):
                continue
            before = gap[rows] - side.slope[rows] + side.sign * (values[rows] - columns[i - 1][problems[rows]])
            share = np.clip(before / (before - gap[rows]), 0, 1)
            meeting = np.minimum(x - 1 + share, np.nextafter(x, 0))
            height = side.line_h[rows] + side.slope[rows] * (meeting - side.line_x[rows])
            if found is not None:
                found.append((rows, meeting, side.sign * height, side.sign * side.slope[rows]))
            side.leave(rows, meeting, height, other)
            counts[rows] += 1
            reaches[here][rows] = np.inf
            reaches[there][rows] = other.line_h[rows] + other.slope[rows] * (x - meeting)
        tightened = []
        for side, other, here in ((upper, lower, 0), (lower, upper, 1)):
            rows = np.flatnonzero(walls[here] < reaches[here])
            side.tighten(rows, x, walls[here][rows], other)
            tightened.append(rows)
        upper.append(x, walls[0], tightened[0])
        lower.append(x, walls[1], tightened[1])
    return counts, upper, lower
