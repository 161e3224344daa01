"""Exact infima in one dimension: the best continuous piecewise-linear approximation with k free knots, in sup norm.

E_k(y) = min over continuous piecewise-linear f with at most k knots in (-1, 1) of sup abs(f - y). Given samples on an
equispaced grid, y is replaced by their interpolant y~, for which E_k is found to a relative tolerance by bisection on
the width of the corridor (`hyperscale.targets.corridor`). Since abs(E_k(y) - E_k(y~)) <= sup abs(y - y~), a bound of
the interpolation error makes the result a bracket of E_k(y) (`infimum_bracket`).
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hyperscale.errors import AnalysisError, check_integer
from hyperscale.targets.corridor import Floats, Ints, Windows, count_links, trace_links
from hyperscale.targets.grids import grid
from hyperscale.targets.target import Target

TOLERANCE = 1e-6
_ROUNDING = 256 * float(np.finfo(np.float64).eps)  # an error below this share of sup abs(y) counts as 0
_MOST_ROWS = 2048  # rows of one scan: beyond it the hulls no longer fit the cache
_FEW_ROWS = 8
_FEWEST_ROWS = 384  # rows that one scan serves in about the time of one row
_LEAST_GAP = 1e-10  # knots nearer than this to one another, or to an end, are one knot


@dataclass(frozen=True, kw_only=True, slots=True)
class PiecewiseLinear:
    """Best approximations of several problems, float64.

    ``errors`` [problems]: sup abs(f - y~), at most a factor 1 + tolerance above E_k. ``knots`` [problems, k]: strictly
    increasing, in (-1, 1). ``values`` [problems, k + 2]: f at -1, at the knots and at 1.
    """

    errors: Tensor
    knots: Tensor
    values: Tensor

    def evaluate(self, x: Tensor) -> Tensor:
        """Return f at ``x`` [points] in [-1, 1]: [problems, points]."""
        at = x.numpy()
        rows = zip(self.knots.numpy(), self.values.numpy(), strict=True)
        return torch.as_tensor(np.array([np.interp(at, [-1.0, *knots, 1.0], values) for knots, values in rows]))


class KnotRange(NamedTuple):
    """How many knots networks of a width are sure to reach, and cannot exceed."""

    reached: int
    infimum: int


def shallow_relu_knots(width: int) -> KnotRange:
    """Return (width - 2, width): E_width <= error of the best shallow ReLU network of ``width`` units <= E_{width-2}.

    One hidden layer with hidden biases and without a last bias. Each unit bends f at one place at most, hence at most
    ``width`` knots. Conversely s (1 + x)_+ + t (1 - x)_+ is any affine function on [-1, 1], and each further unit
    adds one knot, so every continuous piecewise-linear function with width - 2 knots is such a network.
    """
    check_integer("shallow_relu_knots: width", width, 2)
    return KnotRange(width - 2, width)


def piecewise_linear_infimum(y: Tensor, num_knots: Sequence[int], *, tolerance: float = TOLERANCE) -> Tensor:
    """Return E_k of the rows of ``y`` [problems, points] for every k, float64 [len(num_knots), problems].

    ``y`` are samples on the equispaced grid of [-1, 1]. The result lies in [E_k, (1 + tolerance) E_k] of the
    interpolant; an error below 256 units of rounding of sup abs(y) is returned as 0.
    """
    samples = _checked(y, tolerance)
    for count in num_knots:
        check_integer("piecewise_linear_infimum: num_knots", count, 0)
    links = np.asarray(num_knots, dtype=np.int64).reshape(-1) + 1
    step = max(1, _MOST_ROWS // max(1, len(links)))
    parts = [_bisect(samples[at : at + step], links, tolerance) for at in range(0, len(samples), step)]
    return torch.as_tensor(np.concatenate(parts, axis=1))


def largest_infimum(y: Tensor, num_knots: int, *, tolerance: float = TOLERANCE) -> float:
    """Return the largest E_k of the rows of ``y`` [problems, points], without working out the others.

    A few rows give a bound from below; one count tells which rows exceed it; the worst of those raise it, and so on
    until none does. It agrees with the largest of `piecewise_linear_infimum` to the relative tolerance.
    """
    samples = _checked(y, tolerance)
    check_integer("largest_infimum: num_knots", num_knots, 0)
    links = np.array([num_knots + 1], dtype=np.int64)
    waiting = np.argsort(-np.ptp(samples, axis=1), kind="stable")
    tried, waiting, largest = waiting[:_FEW_ROWS], waiting[_FEW_ROWS:], 0.0
    while len(tried):
        largest = max(largest, float(_bisect(samples[tried], links, tolerance).max()))
        if not len(waiting):
            break
        widths = np.maximum(largest * (1 + tolerance), _floor(samples)[waiting])
        counts = _count(samples, waiting, widths)
        order = np.argsort(-counts, kind="stable")
        waiting = waiting[order][counts[order] > num_knots + 1]
        tried, waiting = waiting[:_FEW_ROWS], waiting[_FEW_ROWS:]
    return largest


def knots_needed(y: Tensor, error: float) -> Tensor:
    """Return the least k with E_k <= ``error`` for the rows of ``y`` [problems, points], int64 [problems].

    What a per-instance network has to have, and so (times the parameters a knot costs) the primary parameters
    that an error takes.
    """
    samples = _checked(y, TOLERANCE)
    if not 0 < error < float("inf"):
        raise AnalysisError(f"knots_needed was given the error {error!r}; allowed: a positive finite number.")
    return torch.as_tensor(_count(samples, np.arange(len(samples)), np.full(len(samples), float(error))) - 1)


def best_piecewise_linear(y: Tensor, num_knots: int, *, tolerance: float = TOLERANCE) -> PiecewiseLinear:
    """Return best approximations with ``num_knots`` free knots to the rows of ``y`` [problems, points].

    The knots are those of the greedy from the left: as few as the error allows. Knots to spare halve, thirden, ...
    the widest pieces and lie on the same function. The function is within ``errors`` of the interpolant of y.
    """
    samples = _checked(y, tolerance)
    errors = piecewise_linear_infimum(y, [num_knots], tolerance=tolerance)[0].numpy()
    floor = _floor(samples)
    nodes = np.empty((len(samples), num_knots + 2))
    values = np.empty_like(nodes)
    for at in range(0, len(samples), _MOST_ROWS):
        part = slice(at, at + _MOST_ROWS)
        rows = samples[part]
        _, windows = trace_links(rows, np.arange(len(rows)), np.maximum(errors, floor)[part])
        for i, (corners, heights) in enumerate(_polylines(windows, rows.shape[1]), start=at):
            nodes[i] = _with_spare_knots(corners, num_knots)
            values[i] = np.interp(nodes[i], corners, heights)
    return PiecewiseLinear(
        errors=torch.as_tensor(errors), knots=torch.as_tensor(nodes[:, 1:-1].copy()), values=torch.as_tensor(values)
    )


def interpolation_error(points: int, *, slope: float | None = None, curvature: float | None = None) -> float:
    """Return a bound of sup abs(y - y~) for the equispaced grid of [-1, 1] with ``points`` points, spacing h.

    h slope / 2 if abs(y') <= ``slope``, h^2 curvature / 8 if abs(y'') <= ``curvature``; the smaller if both are given.
    """
    check_integer("interpolation_error: points", points, 2)
    spacing = 2 / (points - 1)
    bounds = [] if slope is None else [spacing * slope / 2]
    bounds += [] if curvature is None else [spacing**2 * curvature / 8]
    if not bounds or not all(0 <= bound < float("inf") for bound in bounds):
        raise AnalysisError(
            f"interpolation_error was given slope={slope!r}, curvature={curvature!r}; allowed: at least one of the "
            "two, finite and not negative. Give a bound of sup abs(y') or of sup abs(y'')."
        )
    return min(bounds)


def infimum_bracket(
    y: Tensor, num_knots: Sequence[int], *, interpolation_error: float, tolerance: float = TOLERANCE
) -> tuple[Tensor, Tensor]:
    """Return (least, most) with least <= E_k(y) <= most for the function y itself, each [len(num_knots), problems].

    ``interpolation_error`` bounds sup abs(y - y~); see the function of that name.
    """
    errors = piecewise_linear_infimum(y, num_knots, tolerance=tolerance)
    rounding = torch.as_tensor(_floor(_checked(y, tolerance)))
    least = (errors / (1 + tolerance) - interpolation_error - rounding).clamp_min(0)
    return least, errors + interpolation_error + rounding


def per_instance_errors(
    target: Target, seed: int, *, num_knots: Sequence[int], conditioning: Tensor, x_points: int = 1025
) -> Tensor:
    """Return E_k(y_I) for every k of ``num_knots`` and every row I of ``conditioning`` [instances, conditioning_dim].

    float64 [len(num_knots), instances], for targets of a one-dimensional x, on ``x_points`` values of x. The last few
    answers are kept: the trials of a study ask for the same target.
    """
    _require_line(target)
    check_integer("per_instance_errors: x_points", x_points, 2)
    values = conditioning.detach().to("cpu", torch.float64).contiguous()
    key = values.numpy().tobytes()
    fixed_seed = seed if target.varies_with_seed else 0
    return _instance_errors(target, fixed_seed, tuple(num_knots), key, x_points).clone()


def per_instance_infimum(
    target: Target, seed: int, *, num_knots: int, conditioning: Tensor, x_points: int = 1025
) -> float:
    """Return the largest E_k(y_I) over the rows I of ``conditioning``: what no choice of one f per I can beat.

    The last answers are kept, so that the trials of a study ask for each once.
    """
    _require_line(target)
    check_integer("per_instance_infimum: x_points", x_points, 2)
    key = conditioning.detach().to("cpu", torch.float64).contiguous().numpy().tobytes()
    return _largest_error(target, seed if target.varies_with_seed else 0, num_knots, key, x_points)


@functools.lru_cache(maxsize=256)
def _largest_error(target: Target, seed: int, num_knots: int, key: bytes, x_points: int) -> float:
    return largest_infimum(_slices(target, seed, key, x_points), num_knots)


@functools.lru_cache(maxsize=64)
def _instance_errors(target: Target, seed: int, num_knots: tuple[int, ...], key: bytes, x_points: int) -> Tensor:
    return piecewise_linear_infimum(_slices(target, seed, key, x_points), num_knots)


@functools.lru_cache(maxsize=4)
def _slices(target: Target, seed: int, key: bytes, x_points: int) -> Tensor:
    """Return y(., I) on the grid of x for the values of I in ``key``: [instances, x_points]."""
    instances = torch.as_tensor(np.frombuffer(key, dtype=np.float64).copy()).reshape(-1, target.conditioning_dim)
    x = grid(1, x_points).expand(1, len(instances), -1, -1)
    y = target.prepare([target], [seed], "cpu").evaluate(x, instances[None])
    return y[0, :, :, 0]


def _require_line(target: Target) -> None:
    """Raise unless x is one number."""
    if target.x_dim != 1:
        raise AnalysisError(
            f"The best piecewise-linear error of a target of x_dim={target.x_dim} was asked for; allowed: x_dim=1, the "
            "only dimension in which it is computable. Take a bound of the infimum instead."
        )


def _checked(y: Tensor, tolerance: float) -> Floats:
    """Return ``y`` as an array after checking it and the tolerance."""
    if y.ndim != 2 or y.shape[1] < 2 or len(y) < 1 or not bool(torch.isfinite(y).all()):
        raise AnalysisError(
            f"A best piecewise-linear approximation was asked for samples of shape {tuple(y.shape)}; allowed: finite "
            "numbers [problems, points] with at least 1 problem and 2 points on the equispaced grid of [-1, 1]."
        )
    if not 1e-12 <= tolerance < 1:
        raise AnalysisError(f"The bisection's relative tolerance is {tolerance!r}; allowed: from 1e-12 to below 1.")
    return y.detach().to("cpu", torch.float64).numpy()


def _floor(samples: Floats) -> Floats:
    """Return the error that counts as 0, [problems]; positive."""
    return np.maximum(_ROUNDING * np.abs(samples).max(axis=1), float(np.finfo(np.float64).tiny) * 2**60)


def _count(samples: Floats, problems: Ints, tolerances: Floats) -> Ints:
    """Return `count_links` in blocks of rows."""
    blocks = [slice(at, at + _MOST_ROWS) for at in range(0, len(problems), _MOST_ROWS)]
    return np.concatenate([count_links(samples, problems[block], tolerances[block]) for block in blocks])


def _bisect(samples: Floats, links: Ints, tolerance: float) -> Floats:
    """Return the least corridors that ``links`` [K] links fit in, to the relative tolerance: [K, problems].

    Sections of the logarithm: where there are few brackets, each is cut into many parts by one scan, whose time is
    that of its calls. What a width says about one k it says about all k of the problem, so every scan narrows every
    bracket; the first scan is one ladder of all its widths.
    """
    rows = np.arange(len(samples))
    chord = np.linspace(samples[:, 0], samples[:, -1], samples.shape[1], axis=1)
    least = np.broadcast_to(_floor(samples), (len(links), len(samples))).copy()
    # Half the range of y minus its chord is reached by one link; the factor keeps rounding from saying otherwise.
    most = np.maximum(np.ptp(samples - chord, axis=1) / 2 * (1 + 1e-9), 2 * least[0]) + np.zeros_like(least)
    exact = _count(samples, rows, least[0]) <= links[:, None]
    most[exact] = least[exact]
    first = True
    while (active := most > least * (1 + tolerance)).any():
        places, problems = np.nonzero(active)
        sections = int(np.clip(_FEWEST_ROWS // len(places), 1, 255))
        share = np.broadcast_to(np.arange(1.0, sections + 1)[:, None] / (sections + 1), (sections, len(links)))
        if first:
            share = np.arange(1.0, sections * len(links) + 1).reshape(sections, -1) / (sections * len(links) + 1)
        first = False
        low, high, share = least[places, problems], most[places, problems], share[:, places]
        tried = low ** (1 - share) * high**share
        counts = _count(samples, np.tile(problems, sections), tried.reshape(-1)).reshape(tried.shape)
        widths, found = (np.zeros((sections, *least.shape), dtype=kind) for kind in (np.float64, np.int64))
        widths[:, places, problems], found[:, places, problems] = tried, counts
        widths, found = widths.reshape(-1, len(samples)), found.reshape(-1, len(samples))
        for j, count in enumerate(links):
            fits = found <= count
            np.minimum(most[j], np.where(fits & (found > 0), widths, np.inf).min(axis=0), out=most[j])
            np.maximum(least[j], np.where(fits, 0.0, widths).max(axis=0), out=least[j])
    most[exact] = 0.0
    return most


def _polylines(windows: Windows, points: int) -> list[tuple[Floats, Floats]]:
    """Return every row's corners and their heights: where successive lines of the greedy meet, and the two ends."""
    num_rows = len(windows.last_x)
    order = np.argsort(np.concatenate([windows.rows, np.arange(num_rows)]), kind="stable")
    x, height, slope = (
        np.concatenate(pair)[order]
        for pair in (
            (windows.x, windows.last_x),
            (windows.height, windows.last_height),
            (windows.slope, windows.last_slope),
        )
    )
    ends = np.cumsum(np.bincount(windows.rows, minlength=num_rows) + 1)
    found = []
    for start, end in zip(ends - np.diff(ends, prepend=0), ends, strict=True):
        at, over, rise = x[start:end], height[start:end], slope[start:end]
        drop = over[1:] + rise[1:] * (at[:-1] - at[1:]) - over[:-1]
        knots = np.clip(at[:-1] + drop / (rise[:-1] - rise[1:]), 0, points - 1)
        corners = np.concatenate([[0.0], knots, [points - 1.0]])
        heights = over[0] + rise[0] * (corners[:1] - at[0]), over + rise * (corners[1:] - at)
        found.append(_distinct(corners * (2 / (points - 1)) - 1, np.concatenate(heights)))
    return found


def _distinct(corners: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Return the polyline without interior corners that rounding has put upon another, or upon an end."""
    keep = np.ones(len(corners), dtype=bool)
    keep[1:-1] = (np.diff(corners)[:-1] > _LEAST_GAP) & (corners[1:-1] < corners[-1] - _LEAST_GAP)
    return corners[keep], heights[keep]


def _with_spare_knots(corners: Floats, num_knots: int) -> Floats:
    """Return the corners and as many more as make ``num_knots`` inside, which cut the widest pieces evenly."""
    widths = np.diff(corners)
    parts = np.ones(len(widths), dtype=np.int64)
    heap = [(-float(width), i) for i, width in enumerate(widths)]
    heapq.heapify(heap)
    for _ in range(num_knots + 2 - len(corners)):
        i = heap[0][1]
        parts[i] += 1
        heapq.heapreplace(heap, (-float(widths[i] / parts[i]), i))
    pieces = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(corners[:-1], corners[1:], parts, strict=True)]
    return np.concatenate([*pieces, corners[-1:]])
