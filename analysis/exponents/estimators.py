"""What an exponent is estimated from, for many data sets at once: minima over seeds, and the edge below them.

Arrays of data are ``[..., sizes, targets, seeds]``: the natural log of the best value that each seed reached over
its learning rates, NaN where a seed reached none. Leading axes are data sets (resamples, replicates of a
simulation), and everything is computed for all of them together.

The minimum of few seeds lies above the lowest value possible by a part of the seeds' scatter. Where the scatter is
the same at every size that shifts the envelope and leaves its slope alone; where it drifts with N the slope of the
minima is wrong. `edge_minima` takes the shift off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.exponents.curves import Floats

Bools = NDArray[np.bool_]

LEVEL = 0.95
INTERACTION_LEVEL = 0.01
EXCESS_SCATTER = 2.0
"""Scatter about the line beyond this many times what the seeds explain is taken as its own, equal at every size."""
SMALLEST_SPREAD = 1e-9
"""Spreads of the log below this are rounding: the seeds are equal and say nothing of the scatter."""


class SlopeIntervals(NamedTuple):
    """Slopes d log value / d log size (an exponent is minus a slope) with their intervals, ``[...]`` each."""

    slope: Floats
    standard_error: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeMinima:
    """Minima over seeds and the edge below them, ``[..., sizes, targets]`` each, NaN where no seed has a value.

    ``scale`` is the scale of the seeds' excess in log units (NaN with fewer than two seeds or equal ones). For
    excesses of scale 1, ``unit_variance`` is the variance of ``edge`` and ``unit_doubt`` how far off its mean is
    where the excess is exponential or half-normal.
    """

    minimum: Floats
    edge: Floats
    scale: Floats
    unit_variance: Floats
    unit_doubt: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvelopeSeries:
    """What an exponent is regressed on: see `envelope_series`. ``[..., sizes]`` each, ``pooled`` ``[...]``."""

    minimum: Floats
    edge: Floats
    seed_variance: Floats
    edge_doubt: Floats
    pooled: Bools


def edge_minima(logs: Floats) -> EdgeMinima:
    """Return the minima over the last axis, and the minima lowered by their expected height above the edge.

    For n values with independent excesses of scale sigma above an edge, the mean height of the minimum and the
    mean distance from it to the m-th value (m = n // 2 + 1, which a few diverging seeds do not move) are multiples
    of sigma, so ``edge = minimum - k (x_(m) - minimum)`` with k their ratio is free of the scale: truncation-point
    estimation after Robson and Whitlock (Biometrika 51, 1964) with a robust spread. k depends a little on the law
    of the excess; it lies midway between the exponential's and the half-normal's. For two-sided noise of constant
    scale the edge is a constant shift, which leaves slopes alone.
    """
    ordered = np.sort(logs, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)
    minimum = ordered[..., 0]
    middle = np.take_along_axis(ordered, (count // 2).clip(max=logs.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    spread = np.where(count > 1, middle - minimum, 0.0)
    ratios, means, variances, doubts = _edge_tables(logs.shape[-1])
    return EdgeMinima(
        minimum=minimum,
        edge=minimum - ratios[count] * spread,
        scale=np.where(spread > SMALLEST_SPREAD, spread / means[count], np.nan),
        unit_variance=variances[count],
        unit_doubt=doubts[count],
    )


@cache
def _edge_tables(largest: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return, per number of values 0..largest: k of `edge_minima`, mean spread, variance and doubt of the edge.

    Mean and variance are an exponential's of scale 1, whose spacings are independent with means 1 / (n - i)
    (Renyi 1953). The doubt is half the difference of the two laws' k, times the mean spread.
    """
    ratios, means, variances, doubts = (np.full(largest + 1, start) for start in (0.0, 1.0, 1.0, 0.0))
    for n in range(2, largest + 1):
        spacings = 1 / (n - np.arange(1, n // 2 + 1, dtype=np.float64))
        means[n] = spacings.sum()
        exponential = 1 / (n * means[n])
        # With many seeds the minimum is close to the edge, and both laws' ratios vanish.
        half_normal = _half_normal_ratio(n) if n <= 64 else exponential
        ratios[n] = (exponential + half_normal) / 2
        variances[n] = 1 / n**2 + ratios[n] ** 2 * (spacings**2).sum()
        doubts[n] = abs(exponential - half_normal) / 2 * means[n]
    return ratios, means, variances, doubts


@cache
def _half_normal_ratio(n: int) -> float:
    """Return E x_(1) / E(x_(m) - x_(1)) of n half-normal values, m = n // 2 + 1.

    E x_(m) = integral of P(x_(m) > t) over t, and P(x_(m) > t) is the regularised incomplete beta function
    I(n - m + 1, m) at 1 - F(t); fixed Gauss-Legendre nodes give both to ten digits.
    """
    nodes, weights = _quadrature()
    above = special.erfc(nodes / math.sqrt(2))
    lowest, middle = (float(weights @ special.betainc(n - m + 1, m, above)) for m in (1, n // 2 + 1))
    return lowest / (middle - lowest)


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Return nodes and weights of Gauss-Legendre quadrature from 0 to 9, beyond which a half-normal never lies."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return 4.5 * (nodes + 1), 4.5 * weights


def envelope_series(log_sizes: Floats, logs: Floats) -> EnvelopeSeries:
    """Return the log envelope, its edge, and the variance of the edge that the seeds' scatter explains.

    The envelope is the largest of the targets' minima, since theorems bound the worst target. Its edge is the mean
    of the targets' edges while their slopes agree: with a common exponent the mean has the envelope's slope, less
    noise, and not the drift of a maximum's bias. Where the slopes differ (F test of the interaction of target and
    log size at level `INTERACTION_LEVEL`) it is the largest edge. Targets without a value at some size are left
    out of the mean. The variance is 0 where seeds say nothing of it (one seed, equal seeds). ``edge_doubt`` is how
    far the edge may be off because the law of the excess is not known; its slope against log size is 0 unless the
    scatter drifts with N.
    """
    found = edge_minima(logs)
    complete: Bools = np.asarray(np.isfinite(found.edge).all(axis=-2))  # [..., targets]
    pooled = complete.any(axis=-1) & _slopes_agree(log_sizes, found.edge, complete)
    share = complete / np.maximum(complete.sum(axis=-1, keepdims=True), 1)
    mean = (np.where(complete[..., None, :], found.edge, 0.0) * share[..., None, :]).sum(axis=-1)
    variance, doubt = _seed_scatter(log_sizes, found)
    shared = variance / np.maximum(complete.sum(axis=-1), 1)[..., None]
    return EnvelopeSeries(
        minimum=_largest(found.minimum),
        edge=np.where(pooled[..., None], mean, _largest(found.edge)),
        seed_variance=np.where(pooled[..., None], shared, variance),
        edge_doubt=doubt,
        pooled=pooled,
    )


def _largest(values: Floats) -> Floats:
    """Return the largest over the last axis of the values that there are, NaN where there are none."""
    largest: Floats = np.where(np.isnan(values), -np.inf, values).max(axis=-1)
    return np.where(np.isfinite(largest), largest, np.nan)


def _slopes_agree(log_sizes: Floats, edge: Floats, complete: Bools) -> Bools:
    """Return ``[...]`` whether the complete targets' slopes differ by no more than chance (F test)."""
    num_sizes, num_targets = edge.shape[-2:]
    if num_targets == 1 or num_sizes < 3:
        return np.ones(edge.shape[:-2], dtype=np.bool_)
    values = np.where(complete[..., None, :], edge, 0.0)
    centred = log_sizes - log_sizes.mean()
    spread = float(centred @ centred)
    slopes = np.einsum("s,...st->...t", centred, values) / spread
    residuals = values - values.mean(axis=-2, keepdims=True) - slopes[..., None, :] * centred[:, None]
    count = complete.sum(axis=-1)
    mean = (slopes * complete).sum(axis=-1) / np.maximum(count, 1)
    between = spread * ((slopes - mean[..., None]) ** 2 * complete).sum(axis=-1)
    within = (residuals**2).sum(axis=(-2, -1))
    counts = np.arange(num_targets + 1)
    limits = np.full(num_targets + 1, np.inf)
    limits[2:] = stats.f.ppf(1 - INTERACTION_LEVEL, counts[2:] - 1, counts[2:] * (num_sizes - 2))
    free = np.maximum(count * (num_sizes - 2), 1)
    agree: Bools = between <= limits[count] * np.maximum(count - 1, 1) * within / free + SMALLEST_SPREAD**2
    return agree | (count < 2)


def _seed_scatter(log_sizes: Floats, found: EdgeMinima) -> tuple[Floats, Floats]:
    """Return ``[..., sizes]`` the edge's variance and doubt from the seeds' scatter, smoothed to a power of N.

    The power is shrunk to 0 by the positive part of ``1 - 2 standard_error^2 / power^2`` (James-Stein), so that
    weights do not follow the noise of a few spreads. 0 at every size where any size has no scatter.
    """
    known = np.isfinite(found.scale)
    count = known.sum(axis=-1)
    logs = np.where(known, np.log(np.where(known, found.scale, 1.0)), 0.0).sum(axis=-1) / np.maximum(count, 1)
    usable = (count > 0).all(axis=-1, keepdims=True)
    if logs.shape[-1] < 3:
        return np.zeros_like(logs), np.zeros_like(logs)
    line = slope_intervals(log_sizes, logs)
    power = line.slope * np.maximum(0, 1 - 2 * line.standard_error**2 / np.maximum(line.slope**2, 1e-300))
    centred = log_sizes - log_sizes.mean()
    scale = np.where(usable, np.exp(logs.mean(axis=-1, keepdims=True) + power[..., None] * centred), 0.0)
    variance = np.where(known, found.unit_variance, 0.0).sum(axis=-1) / np.maximum(count, 1)
    doubt = np.where(known, found.unit_doubt, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return variance * scale**2, doubt * scale


def slope_intervals(
    log_sizes: Floats, log_values: Floats, level: float = LEVEL, *, seed_variance: Floats | None = None
) -> SlopeIntervals:
    """Return the slopes of ``log_values`` ``[..., sizes]`` against ``log_sizes`` ``[sizes]`` with their t-intervals.

    With equal seeds at every size the log minima are independent of size to size, so least squares with n - 2
    degrees of freedom is all but exact, however few the sizes. ``seed_variance`` ``[..., sizes]`` (from
    `envelope_series`) weights the sizes where the scatter drifts with N: weights are the inverse of that variance
    plus what the line's own scatter has beyond `EXCESS_SCATTER` times its mean; the common factor is estimated from
    the residuals, so only ratios of variances matter. Sizes whose value is NaN are left out. Standard error and
    limits are NaN with fewer than three sizes.
    """
    present = np.isfinite(log_values)
    values = np.where(present, log_values, 0.0)
    weights = present.astype(np.float64)
    free = weights.sum(axis=-1) - 2
    if seed_variance is not None:
        _, rest, _ = _weighted_line(log_sizes, values, weights)
        own = (weights * rest**2).sum(axis=-1) / np.maximum(free, 1)
        seeds = (weights * seed_variance).sum(axis=-1) / np.maximum(free + 2, 1)
        total = seed_variance + np.maximum(0, own - EXCESS_SCATTER * seeds)[..., None]
        weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), weights)
        weights = weights / weights.max(axis=-1, keepdims=True)
    slope, rest, spread = _weighted_line(log_sizes, values, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (weights * rest**2).sum(axis=-1) / free
        standard_error = np.where(free > 0, np.sqrt(variance / spread), np.nan)
    half = _t_quantiles(level, log_values.shape[-1])[np.maximum(free, 0).astype(int)] * standard_error
    return SlopeIntervals(slope, standard_error, slope - half, slope + half)


def _weighted_line(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the slope ``[...]``, the residuals ``[..., sizes]`` and the weighted spread of x of the best line."""
    total = weights.sum(axis=-1, keepdims=True)
    mean_x = (weights * x).sum(axis=-1, keepdims=True) / total
    mean_y = (weights * y).sum(axis=-1, keepdims=True) / total
    centred = x - mean_x
    spread = (weights * centred**2).sum(axis=-1)
    slope = (weights * centred * (y - mean_y)).sum(axis=-1) / spread
    return slope, y - mean_y - slope[..., None] * centred, spread


@cache
def _t_quantiles(level: float, num_sizes: int) -> Floats:
    """Return Student's quantile of a two-sided interval per degrees of freedom 0..num_sizes (NaN at 0)."""
    quantiles = np.full(num_sizes + 1, np.nan)
    quantiles[1:] = stats.t.ppf(0.5 + level / 2, np.arange(1, num_sizes + 1))
    return quantiles
