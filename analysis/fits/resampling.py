"""The bootstrap of a fit: points redrawn with replacement, all resamples refitted at once."""

from __future__ import annotations

import numpy as np

from analysis.fits.minimisation import Problem, minimise
from analysis.fits.models import Floats, LogLinear


def redrawn_counts(num_points: int, num_resamples: int, generator: np.random.Generator) -> Floats:
    """Return how often each resample holds each point, ``[resamples, points]``."""
    draws = generator.integers(0, num_points, (num_resamples, num_points))
    offsets = num_points * np.arange(num_resamples)[:, None]
    flat = np.bincount((draws + offsets).ravel(), minlength=num_resamples * num_points)
    return flat.reshape(num_resamples, num_points).astype(np.float64)


def refit(problem: Problem, theta: Floats, generator: np.random.Generator) -> Floats:
    """Return refits ``[resamples, parameters]``, each from ``theta`` and from a place beside its own end."""
    found, best, _ = minimise(problem, np.repeat(theta[None], len(problem.weights), axis=0))
    if isinstance(problem.model, LogLinear) or len(found) < 2:
        return found
    shifted = found + found.std(axis=0) * generator.standard_normal(found.shape)
    others, objective, _ = minimise(problem, shifted)
    better = objective < best
    found[better] = others[better]
    return found


def standard_errors(values: Floats, counts: Floats) -> Floats:
    """Return the bootstrap's standard errors of ``values [resamples, parameters]``.

    Efron's post-hoc correction (1990, "More efficient bootstrap computations"): the part of a value that is linear in
    the counts has a variance known exactly, ``sum (b_i - mean b)^2`` for coefficients b; only the rest is estimated
    from the resamples. That removes most of the chance in a standard error. Where resamples are fewer than four times
    the points the plain standard deviation is returned.
    """
    num_resamples, num_points = counts.shape
    if num_resamples < 4 * num_points:
        return values.std(axis=0, ddof=1)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.maximum(values.std(axis=0), 1e-300)
    if not np.isfinite(scale).all():
        return scale
    centred = (values - values.mean(axis=0)) / scale
    design = counts - counts.mean(axis=0)
    linear = np.linalg.lstsq(design, centred, rcond=1e-10)[0]
    rest = ((centred - design @ linear) ** 2).sum(axis=0) / (num_resamples - num_points)
    known = ((linear - linear.mean(axis=0)) ** 2).sum(axis=0)
    # Fitted coefficients carry noise of their own, which inflates the known part by rest (n - 1) / resamples.
    variance = np.maximum(known - rest * (num_points - 1) / num_resamples, 0.0) + rest
    with np.errstate(over="ignore"):
        found: Floats = scale * np.sqrt(variance)
    return found
