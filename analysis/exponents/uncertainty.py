"""How sure an exponent is: the interval that a verdict uses, and other views of the same data beside it.

The verdict's interval is a t-interval of the slope through the edges of the envelope (`exponents.estimators`): with
the same number of seeds at every size the points are independent of one another, whatever the law of the noise, so
the scatter about the line is an honest measure of it, and it contains the lack of fit. The n-out-of-n bootstrap is
inconsistent for a minimum: it redraws the observed best seed with probability 1 - (1 - 1/n)^n and never a better
one. It is reported beside the others, not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.exponents.curves import Floats, PowerLawFit, fit_power_law
from analysis.exponents.envelope import Envelope
from analysis.exponents.estimators import LEVEL
from analysis.exponents.estimators import SlopeIntervals as SlopeIntervals
from analysis.exponents.estimators import slope_intervals as slope_intervals
from analysis.exponents.frontier import Slopes
from analysis.exponents.rates import RateEvidence, gather_rates
from hyperscale.errors import AnalysisError

NUM_RESAMPLES = 2000
Interval = tuple[float, float]


class Estimate(NamedTuple):
    """An exponent by one estimator, with its standard error."""

    exponent: float
    standard_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentInterval:
    """An exponent with the interval that a verdict uses, and the same exponent by other roads.

    ``estimate``, ``standard_error`` and ``interval`` are of the edge line (weighted where the seeds' scatter drifts
    with N). ``bootstrap``
    (targets, then seeds; n out of n) and ``subsample`` (m out of n) are None with one seed; ``regression`` (least
    squares on the minima), ``profile`` (the same by profile likelihood) and ``theil_sen`` are None with two sizes.
    """

    estimate: float
    interval: Interval | None
    bootstrap: Interval | None
    regression: Interval | None
    level: float
    num_resamples: int
    seed: int
    standard_error: float | None = None
    subsample: Interval | None = None
    profile: Interval | None = None
    theil_sen: Interval | None = None
    theil_sen_exponent: float | None = None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """By estimator: "minimum", "low quantile", "frontier"; only those that the data allow."""
    estimators_disagree: bool = False
    rises_beyond_noise: bool = False
    weighted: bool = False
    targets_pooled: bool = True
    """Whether the targets' slopes agree, so that the edge is their mean; otherwise it is the worst target's."""
    num_targets: int = 1
    evidence: RateEvidence | None = field(default=None, repr=False, compare=False)
    """What `analysis.exponents.decisions` decides from: the same numbers as arrays, for one data set."""

    @property
    def disagreement_note(self) -> str:
        """An empty text, or the estimates that differ by more than their standard errors."""
        if not self.estimators_disagree:
            return ""
        told = ", ".join(f"{name} {e.exponent:.3g} ± {e.standard_error:.2g}" for name, e in self.estimates.items())
        return f"the estimators of the exponent disagree beyond their standard errors: {told}"


def resample_fits(
    envelope: Envelope, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, keep: float = 1.0
) -> Floats:
    """Return ``[num_resamples, 2]`` refitted (log_constant, exponent), targets and seeds redrawn at fixed size.

    A hierarchical bootstrap: targets are drawn with replacement, the same ones at every size, then at each size the
    seeds of each, every seed bringing its best value over all learning rates. ``keep`` = k draws n^k of n seeds
    (m out of n). The envelope is taken again and the line fitted again, for all resamples at once. Raises
    `AnalysisError` where `fit_power_law` would.
    """
    fit_power_law(envelope.sizes, envelope.values)
    generator = np.random.default_rng(seed)
    keys = list(dict.fromkeys(key for point in envelope.points for key in point.targets))
    drawn = generator.integers(0, len(keys), size=(num_resamples, len(keys)))
    logs = np.empty((num_resamples, len(envelope.points)))
    for column, point in enumerate(envelope.points):
        minima = np.full((num_resamples, len(keys), len(keys)), -np.inf)  # [resamples, draws, targets]
        for key, seeds in zip(point.targets, point.seed_minima, strict=True):
            for draw in range(len(keys)):
                minima[:, draw, keys.index(key)] = _redrawn_minimum(np.log(seeds), num_resamples, generator, keep)
        chosen = np.take_along_axis(minima, drawn[..., None], axis=2)[..., 0].max(axis=1)
        # A draw of targets none of which finished here takes the point as it is.
        logs[:, column] = np.where(np.isfinite(chosen), chosen, math.log(point.value))
    x = np.log(np.asarray(envelope.sizes))
    centred = x - x.mean()
    slopes = logs @ centred / (centred @ centred)
    return np.stack([logs.mean(axis=1) - slopes * x.mean(), -slopes], axis=1)


def _redrawn_minimum(values: Floats, num_resamples: int, generator: np.random.Generator, keep: float) -> Floats:
    """Return ``[num_resamples]`` minima of resamples of ``values``, ``len(values) ** keep`` in each."""
    size = max(1, round(len(values) ** keep))
    draws = generator.integers(0, len(values), size=(num_resamples, size))
    minima: Floats = values[draws].min(axis=1)
    return minima


def regression_interval(fit: PowerLawFit, *, level: float = LEVEL) -> Interval | None:
    """Return the t-interval of the exponent, n - 2 degrees of freedom, or None where no freedom is left."""
    if fit.exponent_standard_error is None:
        return None
    half = float(stats.t.ppf(0.5 + level / 2, fit.num_points - 2)) * fit.exponent_standard_error
    return fit.exponent - half, fit.exponent + half


def profile_interval(fit: PowerLawFit, *, level: float = LEVEL) -> Interval | None:
    """Return the exponents whose profile likelihood is within the chi-squared limit of the best, or None.

    With normal scatter the profile is ``-n/2 log RSS(s)`` and ``RSS(s) = RSS + spread (s - exponent)^2``, so the
    limits are ``exponent -+ sqrt(RSS / spread (exp(chi2_1 / n) - 1))``.
    """
    if fit.residual_std is None:
        return None
    growth = math.expm1(float(stats.chi2.ppf(level, 1)) / fit.num_points)
    half = fit.residual_std * math.sqrt((fit.num_points - 2) * growth / fit.spread)
    return fit.exponent - half, fit.exponent + half


def subsample_interval(
    envelope: Envelope, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval | None:
    """Return the m-out-of-n interval, m = n^(2/3) of the seeds, or None with fewer than three seeds.

    The minimum of n values nears the edge like 1/n, so deviations of resampled slopes about their mean are scaled
    by m/n before they are turned about the estimate (Bickel, Goetze and van Zwet 1997).
    """
    if envelope.num_seeds < 3:
        return None
    draws = resample_fits(envelope, num_resamples=num_resamples, seed=seed, keep=2 / 3)[:, 1]
    low, high = np.quantile(draws - draws.mean(), [0.5 - level / 2, 0.5 + level / 2])
    ratio = max(1, round(envelope.num_seeds ** (2 / 3))) / envelope.num_seeds
    exponent = fit_power_law(envelope.sizes, envelope.values).exponent
    return exponent - ratio * float(high), exponent - ratio * float(low)


def exponent_interval(
    envelope: Envelope, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> ExponentInterval:
    """Return the exponent of the envelope with the verdict's interval and all others beside it."""
    fit = fit_power_law(envelope.sizes, envelope.values)
    x, logs = np.log(np.asarray(envelope.sizes)), envelope.log_seed_minima()
    found = gather_rates(x, logs, level=level)
    bootstrap: Interval | None = None
    if envelope.num_seeds > 1:
        exponents = resample_fits(envelope, num_resamples=num_resamples, seed=seed)[:, 1]
        low, high = np.quantile(exponents, [0.5 - level / 2, 0.5 + level / 2])
        bootstrap = (float(low), float(high))
    enough = fit.num_points > 2
    robust = stats.theilslopes(np.log(envelope.values), x, level) if enough else None
    minimum = Slopes(found.minimum.slope, found.minimum.standard_error)
    estimates = {"minimum": minimum, "low quantile": found.quantile, "frontier": found.frontier}
    return ExponentInterval(
        estimate=float(found.interval.slope),
        # With two sizes no interval can speak of the lack of fit, so none is reported.
        interval=_limits(found.interval) if enough else None,
        bootstrap=bootstrap,
        regression=regression_interval(fit, level=level),
        level=level,
        num_resamples=num_resamples,
        seed=seed,
        standard_error=float(found.interval.standard_error) if enough else None,
        subsample=subsample_interval(envelope, level=level, num_resamples=num_resamples, seed=seed),
        profile=profile_interval(fit, level=level),
        theil_sen=None if robust is None else (-float(robust.high_slope), -float(robust.low_slope)),
        theil_sen_exponent=None if robust is None else -float(robust.slope),
        estimates={
            name: Estimate(float(slopes.slope), float(slopes.standard_error))
            for name, slopes in estimates.items()
            if np.isfinite(slopes.slope) and np.isfinite(slopes.standard_error)
        },
        estimators_disagree=bool(found.disagree),
        rises_beyond_noise=bool(found.rises),
        weighted=bool(np.ptp(found.series.seed_variance) > 0),
        targets_pooled=bool(found.series.pooled),
        num_targets=logs.shape[1],
        evidence=found,
    )


def _limits(found: SlopeIntervals) -> Interval:
    return float(found.low), float(found.high)


def hull(*intervals: Interval | None) -> Interval | None:
    """Return the smallest interval that contains all that are given, or None where none is."""
    given = [interval for interval in intervals if interval is not None]
    return (min(low for low, _ in given), max(high for _, high in given)) if given else None


def fit_band(
    envelope: Envelope, sizes: Sequence[float] | Floats, *, level: float = LEVEL, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the pointwise band (low, high) of the fitted values at ``sizes``: the t-band of the line.

    With two sizes, where nothing is known of the scatter about the line, it is the band of redrawn seeds.
    """
    fit = fit_power_law(envelope.sizes, envelope.values)
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    centre, standard_error = np.log(fit.predict(sizes)), fit.standard_error_at(sizes)
    if standard_error is None:
        draws = resample_fits(envelope, seed=seed)
        low, high = np.quantile(draws[:, :1] - draws[:, 1:] * logs, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return np.exp(low), np.exp(high)
    half = float(stats.t.ppf(0.5 + level / 2, fit.num_points - 2)) * standard_error
    return np.exp(centre - half), np.exp(centre + half)


def mean_interval(values: Sequence[float] | Floats, *, level: float = LEVEL) -> tuple[float, Interval | None]:
    """Return the mean and its t-interval across ``values``, or None for the interval of a single value."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise AnalysisError("The mean of no values was asked for; at least one seed must have finished.")
    mean = float(array.mean())
    if array.size == 1:
        return mean, None
    spread = float(array.std(ddof=1)) / math.sqrt(array.size)
    half = float(stats.t.ppf(0.5 + level / 2, array.size - 1)) * spread
    return mean, (mean - half, mean + half)
