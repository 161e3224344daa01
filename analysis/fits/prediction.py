"""Predictions with intervals: the parameters' uncertainty, the scatter of points, and how far extrapolation errs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from analysis.fits.fitting import MODELS, CurveFit, stack_inputs
from analysis.fits.models import Floats
from analysis.fits.selection import ModelAverage

LEVEL = 0.90


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """Predicted y at sizes x with an interval for one new observation, ``[points]`` each.

    ``extrapolation`` says in words how large the backtests' errors were, or that nothing measured them.
    """

    x: Floats
    y: Floats
    low: Floats
    high: Floats
    level: float
    extrapolation: str
    x2: Floats | None = field(default=None)


def predict_with_interval(
    fit: CurveFit | ModelAverage,
    x: Sequence[float] | Floats,
    x2: Sequence[float] | Floats | None = None,
    *,
    level: float = LEVEL,
) -> Prediction:
    """Return y at sizes x (and x2) with an interval that should hold a new observation ``level`` of the time."""
    sizes = np.atleast_1d(np.asarray(x, dtype=np.float64))
    if isinstance(fit, CurveFit):
        inputs = stack_inputs(x, x2)
        centre = MODELS[fit.model].predict(fit.theta[None], fit.sample, inputs)[0]
        variance = parameter_variance(fit, inputs) + fit.scale**2
        freedom = np.full(len(sizes), float(max(fit.freedom, 1)))
        words = "The interval holds if the curve is of this form; nothing here measures how far extrapolation errs."
    else:
        centre = fit.weights @ fit.log_predictions(x)
        variance, freedom, words = _average_variance(fit, sizes)
    half = stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance)
    with np.errstate(over="ignore"):  # Far out a power leaves the floats' range: infinite, and null in JSON.
        y, low, high = np.exp(centre), np.exp(centre - half), np.exp(centre + half)
    return Prediction(
        x=sizes,
        y=y,
        low=low,
        high=high,
        level=level,
        extrapolation=words,
        x2=None if x2 is None else np.atleast_1d(np.asarray(x2, dtype=np.float64)),
    )


def parameter_variance(fit: CurveFit, sizes: Floats) -> Floats:
    """Return the variance of log y at ``sizes [points, inputs]`` from the parameters: draws, else J C J'."""
    model = MODELS[fit.model]
    if len(fit.draws):
        with np.errstate(over="ignore", invalid="ignore"):
            draws = model.predict(fit.draws, fit.sample, sizes)
        low, high = np.quantile(draws, stats.norm.cdf([-1, 1]), axis=0)
        drawn: Floats = ((high - low) / 2) ** 2
        return drawn
    if fit.covariance is None:
        return np.zeros(len(sizes))
    jacobian = model.expand(fit.theta[None], fit.sample.at(sizes)).jacobian[0]
    found: Floats = np.maximum(np.einsum("ip,pq,iq->i", jacobian, fit.covariance, jacobian), 0.0)
    return found


def _average_variance(average: ModelAverage, sizes: Floats) -> tuple[Floats, Floats, str]:
    """Return the variance of log y, its degrees of freedom (`combined_freedom`), ``[points]`` each, and the words.

    Scatter of points + how far the models lie apart (weights error^-2, less sharp than the average's own) + the mean
    square of the backtests' errors, growing with the square of the distance beyond the backtests' mean distance.
    Where one model stands alone, scatter is first taken off that mean square; where they do not, no
    model is right, the average's weights were tuned on these same errors, and nothing is taken off.
    """
    scatter = np.full(len(sizes), average.scatter**2)
    predicted = average.log_predictions(sizes)
    spread = np.sqrt(average.weights) / np.sqrt(average.weights).sum()
    centre = average.weights @ predicted
    beyond: Floats = spread @ (predicted - centre) ** 2
    if average.alone:
        beyond = beyond + parameter_variance(average.chosen, sizes[:, None])
    if not average.errors.size:
        freedom = np.full(len(sizes), float(max(average.chosen.freedom, 1)))
        return scatter + beyond, freedom, "There are too few points to measure how far extrapolation errs."
    measured = float((average.errors**2).mean())
    excess = max(measured - average.scatter**2, 0.0) if average.alone else measured
    typical = float(average.distances.mean())
    growth = np.maximum(np.log2(sizes / average.largest) / typical, 1.0)
    beyond = beyond + excess * growth**2
    words = (
        f"In {average.num_cuts} backtests the largest sizes were predicted with a root mean square error of "
        f"{100 * math.sqrt(measured):.2g} %, {typical:.2g} octave{'' if f'{typical:.2g}' == '1' else 's'} ahead on "
        "average; further out the interval widens in proportion to the octaves."
    )
    return scatter + beyond, combined_freedom(scatter, beyond, average), words


def combined_freedom(scatter: Floats, beyond: Floats, average: ModelAverage) -> Floats:
    """Return the degrees of freedom of a sum of two estimated variances (Satterthwaite 1946), ``[points]``.

    (v1 + v2)^2 / (v1^2 / n1 + v2^2 / n2), with n1 the fit's freedom and n2 the backtests that do not overlap.
    """
    total = np.maximum(scatter + beyond, 1e-300)
    share = scatter / total
    found: Floats = 1 / (share**2 / max(average.chosen.freedom, 1) + (1 - share) ** 2 / average.num_independent)
    return found
