"""Fits of curve models: one call from data to a record that says how far it can be relied on.

Hard failures (no estimate exists) raise `AnalysisError`; soft ones are a `FitStatus` with its remedy. Every fit starts
from many places and says how many of them agreed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from analysis.exponents.curves import FitStatus
from analysis.fits.bends import (
    BrokenPower,
    BrokenPowerFloor,
    Chinchilla,
    PowerFloor,
    TwiceBrokenPower,
    TwoPowers,
)
from analysis.fits.corrections import CorrectedPower, TwoTerms
from analysis.fits.identification import judge
from analysis.fits.losses import EFFICIENT, Loss, huber, robust_scale
from analysis.fits.minimisation import Problem, minimise
from analysis.fits.models import CurveModel, Exponential, Floats, LogCorrected, Power, RootExponential, Sample
from analysis.fits.resampling import redrawn_counts, refit, standard_errors
from analysis.fits.saturation import Saturating
from hyperscale.errors import AnalysisError, did_you_mean

NUM_STARTS = 48
LEVEL = 0.95
MODELS: Mapping[str, CurveModel] = {
    model.name: model
    for model in (
        Power(),
        PowerFloor(),
        BrokenPower(),
        TwiceBrokenPower(),
        BrokenPowerFloor(),
        TwoPowers(),
        TwoTerms(),
        CorrectedPower(),
        Saturating(),
        LogCorrected(),
        RootExponential(),
        Exponential(),
        Chinchilla(),
    )
}
_FIRST_STEPS, _NEAR = 60, 5.0
_EXACT = 1e-11
"""A scale of log residuals below this is rounding: the data lie on the curve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its standard error and interval; both None where the data leave no freedom to tell."""

    estimate: float
    standard_error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CurveFit:
    """A fitted curve. ``objective`` is the loss summed over points; ``scale`` the residuals' robust scale in logs.

    ``theta`` and ``covariance`` are in the model's inner coordinates; ``draws [resamples, parameters]`` are the
    bootstrap's, none without one. ``num_agreeing`` of ``num_starts`` ended within one part in 1e6 of the objective.
    """

    model: str
    formula: str
    loss: Loss
    parameters: Mapping[str, Estimate]
    exponent: Estimate | None
    objective: float
    aicc: float
    status: FitStatus
    remedy: str
    num_starts: int
    num_agreeing: int
    num_points: int
    scale: float
    theta: Floats = field(repr=False)
    covariance: Floats | None = field(repr=False)
    draws: Floats = field(repr=False)
    sample: Sample = field(repr=False)
    response: Floats = field(repr=False)
    level: float = LEVEL

    @property
    def freedom(self) -> int:
        """The residual degrees of freedom."""
        return self.num_points - len(self.theta)

    def predict(self, x: Sequence[float] | Floats, x2: Sequence[float] | Floats | None = None) -> Floats:
        """Return y at sizes ``x`` (and ``x2`` for two inputs), ``[points]``."""
        found: Floats = np.exp(MODELS[self.model].predict(self.theta[None], self.sample, stack_inputs(x, x2))[0])
        return found

    @property
    def residuals(self) -> Floats:
        """Log residuals, observed less fitted, ``[points]``."""
        fitted = MODELS[self.model].expand(self.theta[None], self.sample).value[0]
        found: Floats = self.response - fitted
        return found


def stack_inputs(x: Sequence[float] | Floats, x2: Sequence[float] | Floats | None) -> Floats:
    """Return sizes as ``[points, inputs]``."""
    columns = [np.atleast_1d(np.asarray(x, dtype=np.float64))]
    if x2 is not None:
        columns.append(np.atleast_1d(np.asarray(x2, dtype=np.float64)))
    return np.stack(columns, axis=1)


def fit_curve(  # noqa: PLR0913
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    *,
    x2: Sequence[float] | Floats | None = None,
    model: str = "power",
    loss: Loss | None = None,
    num_starts: int = NUM_STARTS,
    num_resamples: int = 0,
    seed: int = 0,
) -> CurveFit:
    """Fit ``model`` to y at sizes x (and x2) from ``num_starts`` places; bootstrap with ``num_resamples`` above 0.

    Standard errors come from the bootstrap of points where one is asked for, else from the curvature of the loss
    (Huber's asymptotic covariance, with Student's t for the interval). Raises `AnalysisError` for lengths that differ,
    non-positive or non-finite numbers, too few points, and an x without spread.
    """
    chosen, loss = find_model(model), loss or Loss()
    sizes, values = checked(chosen, x, y, x2)
    generator = np.random.default_rng(seed)
    response = np.log(values)
    mean = float(response.mean())
    sample, response = Sample.of(sizes, mean), response - mean
    starts = chosen.starts(sample, response, num_starts, generator)
    theta, objective, num_agreeing, delta = _solve(chosen, sample, response, loss, starts)
    used = Loss(kind="huber", delta=delta) if loss.kind == "huber" else loss
    problem = problem_of(chosen, sample, response, used, 1)
    covariance = _covariance(problem, theta)
    counts = redrawn_counts(len(values), num_resamples, generator)
    resampled = problem_of(chosen, sample, response, used, num_resamples, counts)
    draws = refit(resampled, theta, generator) if num_resamples else np.empty((0, len(theta)))
    parameters = _estimates(chosen, sample, theta, covariance, draws, counts)
    residuals = response - chosen.expand(theta[None], sample).value[0]
    status, remedy = judge(chosen, theta, sample, response, covariance)
    return CurveFit(
        model=chosen.name,
        formula=chosen.formula,
        loss=used,
        parameters=parameters,
        exponent=parameters[chosen.exponent] if chosen.exponent else None,
        objective=objective * (math.exp(2 * mean) if used.kind == "least-squares" else 1.0),
        aicc=corrected_criterion(objective, len(values), chosen.num_parameters),
        status=status,
        remedy=remedy,
        num_starts=len(starts),
        num_agreeing=num_agreeing,
        num_points=len(values),
        scale=float(robust_scale(residuals)),
        theta=theta,
        covariance=covariance,
        draws=draws,
        sample=sample,
        response=response,
    )


def find_model(name: str) -> CurveModel:
    """Return the model of that name (dashes and underscores alike), or raise `AnalysisError`."""
    key = name.replace("-", "_")
    if key not in MODELS:
        raise AnalysisError(f"The model is {name!r}{did_you_mean(key, MODELS)}; allowed: {', '.join(MODELS)}.")
    return MODELS[key]


def checked(
    model: CurveModel,
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    x2: Sequence[float] | Floats | None,
) -> tuple[Floats, Floats]:
    """Return sizes ``[points, inputs]`` and values ``[points]`` fit for the model, or raise `AnalysisError`."""
    if (x2 is None) != (model.num_inputs == 1):
        needs = "a second size, x2" if x2 is None else "one size only, without x2"
        raise AnalysisError(f"The model {model.name} needs {needs}.")
    columns = {"x": x, "y": y} | ({} if x2 is None else {"x2": x2})
    arrays = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in columns.items()}
    for name, values in arrays.items():
        if len(values) != len(arrays["y"]):
            raise AnalysisError(f"There are {len(values)} numbers in {name} but {len(arrays['y'])} in y; give as many.")
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            raise AnalysisError(
                f"A curve of powers needs positive finite numbers, but {name} has {bad[0]:.4g} "
                f"({bad.size} such). Leave those points out."
            )
        if name != "y" and np.unique(values).size < 2:
            raise AnalysisError(
                f"{name} is {values[0] if values.size else 'empty'} everywhere; a fit needs sizes that vary."
            )
    if len(arrays["y"]) < model.num_parameters:
        raise AnalysisError(
            f"The model {model.name} has {model.num_parameters} parameters, and there are {len(arrays['y'])} points; "
            "give at least as many points, or use a model with fewer parameters."
        )
    return stack_inputs(arrays["x"], arrays.get("x2")), arrays["y"]


def problem_of(
    model: CurveModel, sample: Sample, response: Floats, loss: Loss, num_fits: int, weights: Floats | None = None
) -> Problem:
    """Return the minimisation of ``num_fits`` fits to the same points, weighted by ``weights`` or equally."""
    delta = loss.delta if loss.kind == "huber" and loss.delta is not None else math.inf
    return Problem(
        model=model,
        sample=sample,
        response=response,
        weights=np.ones((num_fits, len(response))) if weights is None else weights,
        deltas=np.full((num_fits, 1), delta),
        on_y=loss.kind == "least-squares",
    )


def _solve(
    model: CurveModel, sample: Sample, response: Floats, loss: Loss, starts: Floats
) -> tuple[Floats, float, int, float | None]:
    """Return the best parameters over all starts, their objective, how many starts agree, and Huber's delta."""
    delta = loss.delta
    if loss.kind == "huber" and delta is None:
        # Squares from every start give a first scale; two rounds of Huber's loss let outliers go.
        squares = problem_of(model, sample, response, Loss(kind="log-least-squares"), len(starts))
        starts, best, _ = minimise(squares, starts, max_steps=_FIRST_STEPS)
        for _ in range(2):
            residuals = response - model.expand(starts[[int(np.argmin(best))]], sample).value[0]
            delta = EFFICIENT * max(float(robust_scale(residuals)), _EXACT)
            robust = problem_of(model, sample, response, Loss(delta=delta), len(starts))
            starts, best, _ = minimise(robust, starts, max_steps=_FIRST_STEPS)
    problem = problem_of(model, sample, response, Loss(kind=loss.kind, delta=delta), len(starts))
    theta, best, _ = minimise(problem, starts, max_steps=_FIRST_STEPS)
    # What is five times behind after so many steps is left there, and counted as not agreeing.
    near = np.flatnonzero(best <= _NEAR * best.min() + _EXACT**2 * len(response))
    if near.size:
        theta[near], best[near], _ = minimise(problem.take(near), theta[near])
    winner = int(np.argmin(best))
    if not math.isfinite(best[winner]):
        raise AnalysisError(f"The model {model.name} overflows wherever the fit starts; use sizes in another unit.")
    agreeing = int((best <= best[winner] * (1 + 1e-6) + _EXACT**2 * len(response)).sum())
    return theta[winner], float(best[winner]), agreeing, delta


def corrected_criterion(objective: float, num_points: int, num_parameters: int) -> float:
    """Return AICc = n log(2 objective / n) + 2k + 2k(k + 1)/(n - k - 1), k counting the scale; inf without freedom."""
    k = num_parameters + 1
    if num_points - k - 1 <= 0:
        return math.inf
    spread = max(2 * objective / num_points, _EXACT**2)
    return num_points * math.log(spread) + 2 * k + 2 * k * (k + 1) / (num_points - k - 1)


def _covariance(problem: Problem, theta: Floats) -> Floats | None:
    """Return the covariance of the parameters, ``[parameters, parameters]``, None without residual freedom.

    Huber (1981), section 7.6: kappa^2 [sum psi^2 / (n - p)] / mean(psi')^2 (J'J)^-1, the ordinary one for squares.
    Where delta lies below the scatter few points are inside it, and each point's share of psi' is read off a band of
    one scale, pro rata; there the scatter is not taken to be the same everywhere (sandwich).
    """
    expansion = problem.model.expand(theta[None], problem.sample)
    value, jacobian = expansion.value[0], expansion.jacobian[0]
    n, p = jacobian.shape
    if n <= p:
        return None
    if problem.on_y:
        jacobian = jacobian * np.exp(value)[:, None]
        residuals = np.exp(value) - np.exp(problem.response)
    else:
        residuals = value - problem.response
    delta, band = float(problem.deltas[0, 0]), float(robust_scale(residuals))
    _, first, second = huber(residuals, delta)
    if delta < 0.9 * band:
        inside = (np.abs(residuals) <= band) * delta / band
        bread = np.linalg.pinv(jacobian.T @ (jacobian * inside[:, None]), rcond=1e-14, hermitian=True)
        return _symmetric(bread @ (jacobian.T @ (jacobian * first[:, None] ** 2)) @ bread * n / (n - p))
    share = max(float(second.mean()), 1e-3)
    kappa = 1 + p / n * (1 - share) / share
    spread = kappa**2 * float((first**2).sum()) / (n - p) / share**2
    return _symmetric(spread * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14, hermitian=True))


def _symmetric(matrix: Floats) -> Floats:
    """Return the mean of a matrix and its transpose: rounding leaves products of matrices not quite symmetric."""
    return (matrix + matrix.T) / 2


def _estimates(
    model: CurveModel,
    sample: Sample,
    theta: Floats,
    covariance: Floats | None,
    draws: Floats,
    counts: Floats,
) -> dict[str, Estimate]:
    """Return the formula's parameters with standard errors and intervals: the bootstrap's, else the curvature's."""
    values = model.natural(theta[None], sample)[0]
    if len(draws):
        natural = model.natural(draws, sample)
        with np.errstate(over="ignore"):  # A constant that ran away in some resample has an infinite error.
            errors = standard_errors(natural, counts)
        lows, highs = np.quantile(natural, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    elif covariance is None:
        return {name: Estimate(estimate=float(value)) for name, value in zip(model.parameters, values, strict=True)}
    else:
        errors = np.sqrt(np.maximum(np.diagonal(propagated(model, theta, covariance, sample)), 0.0))
        quantile = float(stats.t.ppf(0.5 + LEVEL / 2, counts.shape[1] - len(theta)))
        lows, highs = values - quantile * errors, values + quantile * errors
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            factors = np.exp(np.minimum(quantile * errors / np.abs(values), 700.0))
            inside = np.isin(model.parameters, model.positive) & np.isfinite(factors) & (values > 0)
            lows, highs = np.where(inside, values / factors, lows), np.where(inside, values * factors, highs)
    return {
        name: Estimate(estimate=float(value), standard_error=float(spread), interval=(float(low), float(high)))
        for name, value, spread, low, high in zip(model.parameters, values, errors, lows, highs, strict=True)
    }


def propagated(model: CurveModel, theta: Floats, covariance: Floats, sample: Sample) -> Floats:
    """Return the covariance of the formula's parameters, by the delta method with central differences."""
    steps = 1e-5 * np.maximum(np.abs(theta), 1.0) * np.eye(len(theta))
    # Parameters that ran away leave the floats' range: their errors are infinite, and unknown in JSON.
    with np.errstate(over="ignore", invalid="ignore"):
        ahead, behind = model.natural(theta + steps, sample), model.natural(theta - steps, sample)
        slopes = (ahead - behind) / (2 * np.diagonal(steps)[:, None])
        found: Floats = slopes.T @ covariance @ slopes
    return found
