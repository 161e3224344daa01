"""Predictions with intervals: the parameters' uncertainty, the scatter of points, and how far extrapolation errs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from analysis.fitting import MODELS, CurveFit, stack_inputs
from analysis.models import Floats
from analysis.selection import ModelAverage

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
        centre = np.log(fit.predict(x, x2))
        variance = parameter_variance(fit, stack_inputs(x, x2)) + fit.scale**2
        quantile = float(stats.t.ppf(0.5 + level / 2, max(fit.freedom, 1)))
        words = "The interval holds if the curve is of this form; nothing here measures how far extrapolation errs."
    else:
        centre = np.log(fit.predict(x))
        variance, words = _average_variance(fit, sizes)
        quantile = float(stats.t.ppf(0.5 + level / 2, max(fit.chosen.freedom, 1)))
    half = quantile * np.sqrt(variance)
    return Prediction(
        x=sizes,
        y=np.exp(centre),
        low=np.exp(centre - half),
        high=np.exp(centre + half),
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


def _average_variance(average: ModelAverage, sizes: Floats) -> tuple[Floats, str]:
    """Return the variance of log y: scatter, parameters, between models, and the backtests' error by distance."""
    predicted = average.log_predictions(sizes)
    weights = average.weights[:, None]
    mean = (weights * predicted).sum(axis=0)
    between = (weights * (predicted - mean) ** 2).sum(axis=0)
    within = np.stack([parameter_variance(member.fit, sizes[:, None]) for member in average.members])
    scatter = sum(member.weight * member.fit.scale**2 for member in average.members)
    distance = np.maximum(np.log2(sizes / average.largest), 0.0)
    if not average.errors.size:
        return between + (weights * within).sum(
            axis=0
        ) + scatter, "Too few points to measure how far extrapolation errs."
    rate = float((average.errors**2).mean() / max((average.distances).mean(), 1e-9))
    measured = rate * distance
    inner = between + (weights * within).sum(axis=0)
    words = (
        f"Held out, the largest sizes were predicted with a root mean square error of "
        f"{100 * math.sqrt(float((average.errors**2).mean())):.2g} % over {average.distances.max():.2g} octaves."
    )
    return np.maximum(inner, measured) + scatter, words
