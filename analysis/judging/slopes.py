"""Estimates with a variance and degrees of freedom, and how they add: means, slopes, and differences of both.

Sums of independent estimates get the degrees of freedom of Welch (1947) and Satterthwaite (1946),
``(sum v_i)^2 / sum(v_i^2 / d_i)``, so that unequal spreads and unequal numbers of seeds are allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.exponents.curves import Floats
from analysis.exponents.estimators import LEVEL
from analysis.exponents.uncertainty import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number, the variance of its estimator, and the degrees of freedom behind that variance."""

    value: float
    variance: float
    degrees: float

    @property
    def standard_error(self) -> float:
        """The square root of the variance."""
        return math.sqrt(self.variance)

    def interval(self, *, level: float = LEVEL) -> Interval:
        """Return the two-sided t-interval."""
        half = self.half_width(0.5 + level / 2)
        return self.value - half, self.value + half

    def half_width(self, probability: float) -> float:
        """Return the t-quantile at ``probability`` times the standard error."""
        if self.variance == 0:
            return 0.0
        return float(stats.t.ppf(probability, self.degrees)) * self.standard_error

    def times(self, factor: float) -> Estimate:
        """Return the estimate scaled by ``factor``."""
        return Estimate(value=factor * self.value, variance=factor**2 * self.variance, degrees=self.degrees)


def sum_of(estimates: Iterable[Estimate]) -> Estimate:
    """Return the sum of independent estimates, with Welch-Satterthwaite degrees of freedom."""
    terms = list(estimates)
    variance = math.fsum(term.variance for term in terms)
    squares = math.fsum(term.variance**2 / term.degrees for term in terms)
    degrees = variance**2 / squares if squares > 0 else min(term.degrees for term in terms)
    return Estimate(value=math.fsum(term.value for term in terms), variance=variance, degrees=degrees)


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Return first less second, for independent estimates."""
    return sum_of((first, second.times(-1)))


def mean_of(values: Floats) -> Estimate:
    """Return the mean of at least two independent ``values``, shape ``[n]``."""
    assert len(values) > 1, "one value has no spread"
    return Estimate(
        value=float(values.mean()), variance=float(values.var(ddof=1)) / len(values), degrees=len(values) - 1
    )


def slope_of_line(x: Floats, y: Floats) -> Estimate:
    """Return the least-squares slope of ``y`` on ``x``, both ``[points]`` with at least three points.

    The variance is that of the scatter about the line, so it knows the lack of fit and not the seeds.
    """
    assert len(x) > 2, "two points have no scatter about their line"
    weights = slope_weights(x)
    value = float(weights @ y)
    residuals = (y - y.mean()) - value * (x - x.mean())
    scatter = float(residuals @ residuals) / (len(x) - 2)
    return Estimate(value=value, variance=scatter * float(weights @ weights), degrees=len(x) - 2)


def slope_weights(x: Floats) -> Floats:
    """Return the ``[points]`` weights that turn values at ``x`` into their least-squares slope."""
    centred = x - x.mean()
    weights: Floats = centred / (centred @ centred)
    return weights


def row_slopes(x: Floats, rows: Floats) -> Floats:
    """Return ``[rows]`` least-squares slopes of ``rows`` ``[rows, points]`` on ``x`` ``[points]``.

    A missing value (NaN) leaves its point out of its own row; a row with fewer than two points has no slope (NaN).
    """
    seen = np.isfinite(rows)
    count = seen.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(seen, x - ((seen * x).sum(axis=1) / count)[:, None], 0.0)
        slopes: Floats = (centred * np.where(seen, rows, 0.0)).sum(axis=1) / (centred**2).sum(axis=1)
    slopes[count < 2] = np.nan
    return slopes
