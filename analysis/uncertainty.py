"""How sure an exponent is: a bootstrap over seeds, the scatter about the line, and the hull of both.

Neither alone is honest here. The n-out-of-n bootstrap is inconsistent for a minimum: it redraws the observed
best seed with probability 1 - (1 - 1/n)^n, never a better one, so with few seeds its interval is too narrow.
The regression interval sees how far the envelope's points lie from a line (the lack of fit included), but
with few sizes it rests on few residuals and knows nothing of the seeds. The reported interval is the
smallest one that contains both, and the record keeps the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.curves import Floats, PowerLawFit, fit_power_law
from analysis.envelope import Envelope
from hyperscale.errors import AnalysisError

LEVEL = 0.95
NUM_RESAMPLES = 2000
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentInterval:
    """An exponent with its intervals. ``bootstrap`` is None with one seed, ``regression`` with two sizes."""

    estimate: float
    interval: Interval | None
    bootstrap: Interval | None
    regression: Interval | None
    level: float
    num_resamples: int
    seed: int


def resample_fits(envelope: Envelope, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Floats:
    """Return ``[num_resamples, 2]`` refitted (log_constant, exponent), seeds redrawn at fixed size.

    At each size (and target) the seeds are drawn with replacement, each bringing its best value over all
    learning rates: a seed's trials stay together. The envelope is taken again and the line fitted again, for
    all resamples at once. Raises `AnalysisError` where `fit_power_law` would.
    """
    fit_power_law(envelope.sizes, envelope.values)
    generator = np.random.default_rng(seed)
    logs = np.empty((num_resamples, len(envelope.points)))
    for column, point in enumerate(envelope.points):
        minima = [_redrawn_minimum(np.log(seeds), num_resamples, generator) for seeds in point.seed_minima]
        logs[:, column] = np.max(minima, axis=0)
    x = np.log(np.asarray(envelope.sizes))
    centred = x - x.mean()
    slopes = logs @ centred / (centred @ centred)
    return np.stack([logs.mean(axis=1) - slopes * x.mean(), -slopes], axis=1)


def _redrawn_minimum(values: Floats, num_resamples: int, generator: np.random.Generator) -> Floats:
    """Return ``[num_resamples]`` minima of n-out-of-n resamples of ``values``."""
    draws = generator.integers(0, len(values), size=(num_resamples, len(values)))
    minima: Floats = values[draws].min(axis=1)
    return minima


def regression_interval(fit: PowerLawFit, *, level: float = LEVEL) -> Interval | None:
    """Return the t-interval of the exponent, n - 2 degrees of freedom, or None where no freedom is left."""
    if fit.exponent_standard_error is None:
        return None
    half = float(stats.t.ppf(0.5 + level / 2, fit.num_points - 2)) * fit.exponent_standard_error
    return fit.exponent - half, fit.exponent + half


def exponent_interval(
    envelope: Envelope, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> ExponentInterval:
    """Return the exponent of the envelope with both intervals and their hull."""
    fit = fit_power_law(envelope.sizes, envelope.values)
    bootstrap: Interval | None = None
    if envelope.num_seeds > 1:
        exponents = resample_fits(envelope, num_resamples=num_resamples, seed=seed)[:, 1]
        low, high = np.quantile(exponents, [0.5 - level / 2, 0.5 + level / 2])
        bootstrap = (float(low), float(high))
    regression = regression_interval(fit, level=level)
    return ExponentInterval(
        estimate=fit.exponent,
        # With two sizes no interval can speak of the lack of fit, so none is reported.
        interval=hull(bootstrap, regression) if regression is not None else None,
        bootstrap=bootstrap,
        regression=regression,
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )


def hull(*intervals: Interval | None) -> Interval | None:
    """Return the smallest interval that contains all that are given, or None where none is."""
    given = [interval for interval in intervals if interval is not None]
    return (min(low for low, _ in given), max(high for _, high in given)) if given else None


def fit_band(
    envelope: Envelope, sizes: Sequence[float] | Floats, *, level: float = LEVEL, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the pointwise band (low, high) of the fitted values at ``sizes``: the hull of both sources."""
    fit = fit_power_law(envelope.sizes, envelope.values)
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    draws = resample_fits(envelope, seed=seed)
    low, high = np.quantile(draws[:, :1] - draws[:, 1:] * logs, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    centre, standard_error = np.log(fit.predict(sizes)), fit.standard_error_at(sizes)
    if standard_error is not None:
        half = float(stats.t.ppf(0.5 + level / 2, fit.num_points - 2)) * standard_error
        low, high = np.minimum(low, centre - half), np.maximum(high, centre + half)
    return np.exp(low), np.exp(high)


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
