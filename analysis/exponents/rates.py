"""What many data sets say of their exponents at once: intervals, three estimators, and what forbids a verdict.

One study's claim and a simulation of thousands of studies go through this same code (`exponents.uncertainty` calls
it with a single data set, `tests.bench.battery` with all replicates).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.exponents.curves import Floats
from analysis.exponents.estimators import (
    LEVEL,
    Bools,
    EnvelopeSeries,
    SlopeIntervals,
    envelope_series,
    slope_intervals,
)
from analysis.exponents.frontier import Slopes, frontier_slopes, quantile_slopes, seeds_agree

DISAGREEMENT = 2.0
"""Estimators disagree where they differ by more than this many standard errors of a difference."""
RISE_LEVEL = 0.01
MIN_VALUES = 12
"""Fewer values than this (seeds over all sizes and targets) allow no five-parameter frontier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateEvidence:
    """Exponents of data sets ``[...]`` (positive where the error falls) and what stands against a verdict on them.

    ``interval`` is of the edge line. ``quantile`` and ``frontier`` are NaN where seeds are too few for them, or all but
    agree (`exponents.frontier.seeds_agree`).
    ``disagree`` and ``rises`` are the two findings that forbid a verdict: see `estimators_disagree` and
    `rises_beyond_noise`.
    """

    interval: SlopeIntervals
    minimum: SlopeIntervals
    quantile: Slopes
    frontier: Slopes
    disagree: Bools
    rises: Bools
    series: EnvelopeSeries


def gather_rates(log_sizes: Floats, logs: Floats, *, level: float = LEVEL) -> RateEvidence:
    """Return the evidence of data sets ``logs`` ``[..., sizes, targets, seeds]`` (see `exponents.estimators`)."""
    series = envelope_series(log_sizes, logs)
    interval = edge_exponents(log_sizes, series, level)
    minimum = _falling(slope_intervals(log_sizes, series.minimum, level))
    shape = series.edge.shape[:-1]
    quantile = frontier = Slopes(np.full(shape, np.nan), np.full(shape, np.nan))
    num_sizes, num_targets, num_seeds = logs.shape[-3:]
    if num_seeds > 1 and num_sizes > 3 and num_sizes * num_targets * num_seeds >= MIN_VALUES:
        alike = seeds_agree(log_sizes, logs)
        quantile = _unless(alike, _reversed(quantile_slopes(log_sizes, logs)))
        frontier = _unless(alike, _reversed(frontier_slopes(log_sizes, logs)))
    plain = Slopes(minimum.slope, minimum.standard_error)
    return RateEvidence(
        interval=interval,
        minimum=minimum,
        quantile=quantile,
        frontier=frontier,
        disagree=estimators_disagree(plain, quantile, frontier),
        rises=rises_beyond_noise(log_sizes, series, num_seeds),
        series=series,
    )


def edge_exponents(log_sizes: Floats, series: EnvelopeSeries, level: float = LEVEL) -> SlopeIntervals:
    """Return the exponents of the edge line: its t-interval, widened at both ends by the slope of the edge's doubt."""
    found = _falling(slope_intervals(log_sizes, series.edge, level, seed_variance=series.seed_variance))
    doubt = np.abs(slope_intervals(log_sizes, series.edge_doubt).slope)
    return found._replace(low=found.low - doubt, high=found.high + doubt)


def _falling(found: SlopeIntervals) -> SlopeIntervals:
    """Return the exponents, which are minus the slopes."""
    return SlopeIntervals(-found.slope, found.standard_error, -found.high, -found.low)


def _reversed(found: Slopes) -> Slopes:
    return Slopes(-found.slope, found.standard_error)


def _unless(alike: Bools, found: Slopes) -> Slopes:
    """Return the slopes, NaN for data sets whose seeds all but agree: as with one seed there is nothing to estimate."""
    return Slopes(np.where(alike, np.nan, found.slope), np.where(alike, np.nan, found.standard_error))


def estimators_disagree(*estimates: Slopes) -> Bools:
    """Return ``[...]`` whether any two estimates differ by more than `DISAGREEMENT` standard errors.

    The standard error of the difference is taken as that of independent estimates. Estimates from the same data
    are correlated positively, so this errs towards agreement. NaN estimates agree with everything.
    """
    disagree = np.zeros(estimates[0].slope.shape, dtype=np.bool_)
    for index, a in enumerate(estimates):
        for b in estimates[index + 1 :]:
            allowed = DISAGREEMENT * np.hypot(a.standard_error, b.standard_error)
            # Exact data have errors of rounding only, on both sides.
            disagree |= np.abs(a.slope - b.slope) > allowed + 1e-6
    return disagree


def rises_beyond_noise(log_sizes: Floats, series: EnvelopeSeries, num_seeds: int) -> Bools:
    """Return ``[...]`` whether the envelope rises from some size to a larger one by more than its noise.

    The best networks of nested classes cannot get worse with N. Every pair of sizes is compared at `RISE_LEVEL` in
    all (Bonferroni, Student's t). The noise of a point is the larger of what the seeds explain (times half their
    number, about what normal noise has beyond an excess of the same spread) and of the points' own scatter about the
    lines through their neighbours, which a smooth bend does not enter.
    """
    values, num_sizes = series.minimum, series.minimum.shape[-1]
    if num_sizes < 4:
        return np.zeros(values.shape[:-1], dtype=np.bool_)
    weight = (log_sizes[2:] - log_sizes[1:-1]) / (log_sizes[2:] - log_sizes[:-2])
    bend = values[..., 1:-1] - weight * values[..., :-2] - (1 - weight) * values[..., 2:]
    square = np.where(np.isfinite(bend), bend**2, 0.0) / (1 + weight**2 + (1 - weight) ** 2)
    own = square.sum(axis=-1) / np.maximum(np.isfinite(bend).sum(axis=-1), 1)
    noise = np.maximum(max(1.0, num_seeds / 2) * series.seed_variance, own[..., None])
    rise = values[..., None, :] - values[..., :, None]  # [..., from, to]
    limit = float(stats.t.ppf(1 - RISE_LEVEL / (num_sizes * (num_sizes - 1) / 2), num_sizes - 2))
    allowed = limit * np.sqrt(noise[..., None, :] + noise[..., :, None]) + 1e-9
    later = np.triu(np.ones((num_sizes, num_sizes), dtype=np.bool_), 1)
    found: Bools = ((rise > allowed) & later).any(axis=(-2, -1))
    return found
