"""Whether a fit says anything: bounds, breaks the data do not call for, directions they do not fix, data that bend."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from analysis.exponents.curves import FitStatus
from analysis.fits.bends import PowerTerms, Term
from analysis.fits.losses import robust_scale
from analysis.fits.models import CurveModel, Floats, Power, Sample, solve_linear

MIN_BESIDE = 3
"""A break needs this many points on either side, and a power of its own as many that it shapes."""
TRIFLE = 0.02
"""A curve of the residuals smaller than this (log units, root mean square) is no misfit."""
_DEGREE = 5
BEND = 0.1
"""Halves of the data whose exponents differ by more than this part of the whole's do not share a power law."""


def judge(
    model: CurveModel, theta: Floats, sample: Sample, response: Floats, covariance: Floats | None
) -> tuple[FitStatus, str]:
    """Return a fit's status and what to do about it."""
    bound = model.bound_hit(theta, sample)
    if bound:
        return FitStatus.BOUND_HIT, bound
    if covariance is None:
        return (
            FitStatus.NOT_IDENTIFIED,
            f"{len(response)} points fit {model.num_parameters} parameters exactly: add points, or use a simpler model",
        )
    loose = _loose_direction(model, theta, sample)
    if loose:
        return FitStatus.NOT_IDENTIFIED, loose
    unneeded = _unneeded_bend(model, theta, sample, response)
    if unneeded:
        return FitStatus.NOT_IDENTIFIED, unneeded
    straight = isinstance(model, Power)
    bent = describe_bend(sample, response) if straight else _curved_residuals(model, theta, sample, response)
    return (FitStatus.MISFIT, bent) if bent else (FitStatus.CONVERGED, "")


def _curved_residuals(model: CurveModel, theta: Floats, sample: Sample, response: Floats) -> str:
    """Return that the residuals follow a curve of their own, or an empty text.

    A polynomial of degree 5 in log x through the residuals must explain most of them (60 %), by more than chance (F
    test at 0.1 %), and be no trifle: 2 % of y, root mean square.
    """
    t, n = sample.logs[:, 0], len(response)
    if model.num_inputs > 1 or n < 8:
        return ""
    residuals = response - model.expand(theta[None], sample).value[0]
    powers = np.vander(t / max(float(np.abs(t).max()), 1e-300), _DEGREE + 1)
    curve = powers @ np.linalg.lstsq(powers, residuals, rcond=None)[0]
    explained, rest = float(curve @ curve), float(((residuals - curve) ** 2).sum())
    if explained < 0.6 * float(residuals @ residuals) or explained < n * TRIFLE**2:
        return ""
    num = _DEGREE + 1
    if explained / num <= float(stats.f.ppf(0.999, num, n - num)) * rest / (n - num):
        return ""
    return (
        "the data are not of this form: the residuals follow a curve of their own, "
        f"{100 * math.sqrt(explained / n):.2g} % of y in size. Use --model auto, or look at the figure."
    )


def _loose_direction(model: CurveModel, theta: Floats, sample: Sample) -> str:
    """Return which parameters the data leave free together, or an empty text."""
    free = ~model.settled(theta)
    jacobian = model.expand(theta[None], sample).jacobian[0][:, free]
    norms = np.linalg.norm(jacobian, axis=0)
    if (norms == 0).any():
        return "the data do not touch one of the parameters at all: add sizes, or use a simpler model."
    if np.linalg.eigvalsh((jacobian / norms).T @ (jacobian / norms))[0] > 1e-9:
        return ""
    return "some parameters trade off against each other without changing the fit: add sizes, or use a simpler model."


def _unneeded_bend(model: CurveModel, theta: Floats, sample: Sample, response: Floats) -> str:
    """Return that a power law fits as well by AICc (squares of logs), or that a break rests on too few points."""
    if model.num_inputs > 1 or model.exponent is None or isinstance(model, Power):
        return ""
    if isinstance(model, PowerTerms):
        t = sample.logs[:, 0]
        for term, part in _with_breaks(model, theta):
            low, high = sample.window[term.column]
            for raw in part[1 + term.power :].reshape(-1, 3)[:, 1]:
                place = low + (high - low) / (1 + math.exp(-float(raw)))
                beside = min(int((t < place).sum()), int((t > place).sum()))
                if beside < MIN_BESIDE:
                    return (
                        f"a break has {beside} points on one side: add sizes there, or use a model with fewer breaks."
                    )
        thin = _thinnest_power(model, theta, sample, response)
        if thin < MIN_BESIDE:
            return f"one of its powers rests on {thin} points: add sizes there, or use --model power."
    n = len(response)
    bent = response - model.expand(theta[None], sample).value[0]
    straight = solve_linear(Power().basis(sample)[None], response)[1][0]
    extra = _penalty(n, model.num_parameters) - _penalty(n, 2)
    floor = n * 1e-22
    gain = n * math.log(max(straight, floor) / max(float(bent @ bent), floor))
    if gain < extra + 2:
        return (
            "a plain power law fits as well (AICc): the data do not show the bend. "
            "Add smaller or larger sizes, or use --model power."
        )
    return ""


def _thinnest_power(model: PowerTerms, theta: Floats, sample: Sample, response: Floats) -> int:
    """Return the fewest points at which any power that has a rival stands out of the scatter (or makes a tenth)."""
    powers = [k for k, term in enumerate(model.terms) if term.power]
    if len(powers) < 2:
        return MIN_BESIDE
    shares = model.shares(theta, sample)
    scatter = float(robust_scale(response - model.expand(theta[None], sample).value[0]))
    return min(int((shares[k] > min(0.1, 5 * scatter + 1e-9)).sum()) for k in powers)


def _with_breaks(model: PowerTerms, theta: Floats) -> list[tuple[Term, Floats]]:
    cuts = np.cumsum([term.num_parameters for term in model.terms])[:-1]
    parts = np.split(theta, cuts)
    return [(term, part) for term, part in zip(model.terms, parts, strict=True) if term.num_breaks]


def _penalty(num_points: int, num_parameters: int) -> float:
    k = num_parameters + 1
    return 2 * k + 2 * k * (k + 1) / (num_points - k - 1) if num_points - k - 1 > 0 else math.inf


def describe_bend(sample: Sample, response: Floats) -> str:
    """Return how the local exponent drifts, where the smaller and the larger half of the sizes disagree on it.

    Both must hold: the two halves' exponents differ by more than 10 % of the whole's, and by more than a t-interval
    of their difference at the level of three standard errors (scatter taken from a parabola in logs, so that the bend
    itself does not hide it).
    """
    t = sample.logs[:, 0]
    middle = (t.min() + t.max()) / 2
    halves = [t <= middle, t > middle]
    if any(np.unique(t[half]).size < 3 for half in halves):
        return ""
    whole = -solve_linear(Power().basis(sample)[None], response)[0][0, 1]
    parabola = np.stack([np.ones_like(t), t, t**2], axis=1)
    coefficients = np.linalg.lstsq(parabola, response, rcond=None)[0]
    n = len(response)
    # Three parameters leave n - 3 degrees of freedom: few points need a wider margin than three standard errors.
    scatter = float(robust_scale(response - parabola @ coefficients)) * math.sqrt(n / max(n - 3, 1))
    slopes, variances = [], []
    for half in halves:
        centred = t[half] - t[half].mean()
        slopes.append(-float(centred @ response[half]) / float(centred @ centred))
        variances.append(scatter**2 / float(centred @ centred))
    difference = abs(slopes[1] - slopes[0])
    if difference <= BEND * abs(whole) or difference <= float(stats.t.ppf(0.99865, n - 3)) * math.sqrt(sum(variances)):
        return ""
    return (
        f"this is no power law: the local exponent goes from {slopes[0]:.3g} over the smaller half of the sizes to "
        f"{slopes[1]:.3g} over the larger. Use --model auto, or keep the sizes beyond the bend with --where."
    )
