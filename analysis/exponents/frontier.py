"""Two further estimators of an envelope's exponent, to compare with the minimum: a low quantile and a frontier.

Both use all seeds, not only the best one, so they lean on other features of the data: where the three disagree by
more than their standard errors, what the envelope's slope is depends on how one looks, and no verdict is given.
Data are ``[..., sizes, targets, seeds]`` as in `exponents.estimators`; all leading data sets are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis.exponents.curves import Floats
from analysis.exponents.estimators import Bools, edge_minima

QUANTILE = 0.1
MAX_QUANTILE_STEPS = 80
MAX_FRONTIER_STEPS = 60
_SCALE_RANGE = 0.02, 50.0
"""Least and largest scale of noise and excess, in units of the residuals' standard deviation."""
_MAX_DRIFT = 3.0
_AGREEING = 0.5
"""Seeds whose scatter is below this part of the lack of fit all but agree."""
_STRAY = 8.0
"""Values further above the rough line than this many deviations belong to no power law's scatter (a run that all but
diverged); the frontier leaves them out. The low quantile does not see them anyway."""


class Slopes(NamedTuple):
    """Slopes d log value / d log size (minus the exponents) with standard errors, ``[...]`` each."""

    slope: Floats
    standard_error: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cloud:
    """Every seed's value about its data set's rough line: ``[sets, values]``, sizes centred ``[values]``."""

    x: Floats
    y: Floats
    present: Bools
    start: Floats
    """The rough slope that was taken off ``y``, ``[sets]``."""
    deviation: Floats
    cells: tuple[int, int]
    """Sizes, and values at each size."""

    def by_size(self, scores: Floats) -> Floats:
        """Return ``scores`` ``[sets, values, ...]`` summed over the values of each size."""
        return scores.reshape(scores.shape[0], *self.cells, *scores.shape[2:]).sum(axis=2)


def _cloud(log_sizes: Floats, logs: Floats) -> _Cloud:
    """Take off each target's level and a line through the edges, so that every data set is near 0."""
    num_sizes, num_targets, num_seeds = logs.shape[-3:]
    flat = logs.reshape(-1, num_sizes, num_targets, num_seeds)
    edge = edge_minima(flat).edge
    known = np.isfinite(edge)
    x = log_sizes - log_sizes.mean()
    values = np.where(known, edge, 0.0)
    # Within-target least squares with a common slope; a target's missing sizes have no weight.
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean_x = (known * x[:, None]).sum(axis=1, keepdims=True) / count
    level = values.sum(axis=1, keepdims=True) / count
    centred = np.where(known, x[:, None] - mean_x, 0.0)
    slope = (centred * values).sum(axis=(1, 2)) / (centred**2).sum(axis=(1, 2))
    level = level - slope[:, None, None] * mean_x
    y = (flat - level[..., None] - slope[:, None, None, None] * x[:, None, None]).reshape(len(flat), -1)
    present = np.isfinite(y)
    y = np.where(present, y, 0.0)
    middle = np.nanmedian(np.where(present, np.abs(y), np.nan), axis=1)
    return _Cloud(
        x=np.repeat(x, num_targets * num_seeds),
        y=y,
        present=present,
        start=slope,
        deviation=np.maximum(1.5 * middle, 1e-6),
        cells=(num_sizes, num_targets * num_seeds),
    )


def seeds_agree(log_sizes: Floats, logs: Floats) -> Bools:
    """Return ``[...]`` whether the seeds' scatter is small beside the scatter of the sizes about their lines.

    Then a size is one observation, whatever the number of seeds: a quantile or a frontier of its values is the curve
    itself, and their standard errors, which rest on the scatter within sizes, would be those of nothing. Best
    approximations that reach their infimum are such data.
    """
    present = np.isfinite(logs)
    count = present.sum(axis=-1)
    values = np.where(present, logs, 0.0)
    means = values.sum(axis=-1) / np.maximum(count, 1)  # [..., sizes, targets]
    squares = (np.where(present, values - means[..., None], 0.0) ** 2).sum(axis=-1)
    within = squares.sum(axis=(-2, -1)) / np.maximum((count - 1).clip(min=0).sum(axis=(-2, -1)), 1)
    known = (count > 0).astype(np.float64)
    total = np.maximum(known.sum(axis=-2, keepdims=True), 1)
    x = log_sizes[:, None]
    centred = known * (x - (known * x).sum(axis=-2, keepdims=True) / total)
    about = known * (means - (known * means).sum(axis=-2, keepdims=True) / total)
    spread = np.maximum((centred**2).sum(axis=-2, keepdims=True), 1e-300)
    rest = about - (centred * about).sum(axis=-2, keepdims=True) / spread * centred
    free = np.maximum((known.sum(axis=-2) - 2).clip(min=0).sum(axis=-1), 1)
    agree: Bools = within < _AGREEING**2 * (rest**2).sum(axis=(-2, -1)) / free
    return agree


def quantile_slopes(log_sizes: Floats, logs: Floats, *, quantile: float = QUANTILE) -> Slopes:
    """Return the slope of the ``quantile`` regression line through all seeds' values, targets at their own levels.

    Minimises the sum of rho(r) = abs(r) / 2 + (quantile - 1/2) r by majorisation (Hunter and Lange 2000): weighted
    least squares with weights 1 / abs(r), all data sets at once. The standard error is the sandwich with scores
    summed within sizes and the sparsity from the residuals' order statistics (Koenker 2005, 3.4.1).
    """
    data = _cloud(log_sizes, logs)
    weight = data.present.astype(np.float64)
    smallest = 1e-4 * data.deviation[:, None]
    line = np.zeros((len(data.y), 2))
    push = (2 * quantile - 1) * np.stack([weight.sum(axis=1), weight @ data.x], axis=1)
    for _ in range(MAX_QUANTILE_STEPS):
        rest = data.y - line[:, :1] - line[:, 1:] * data.x
        w = weight / np.maximum(np.abs(rest), smallest)
        wx = w * data.x
        s0, s1, s2 = w.sum(axis=1), wx.sum(axis=1), wx @ data.x
        t0, t1 = (w * data.y).sum(axis=1) + push[:, 0], (wx * data.y).sum(axis=1) + push[:, 1]
        det = s0 * s2 - s1**2
        line = np.stack([(s2 * t0 - s1 * t1) / det, (s0 * t1 - s1 * t0) / det], axis=1)
    rest = data.y - line[:, :1] - line[:, 1:] * data.x
    error = _sparsity(rest, data.present, quantile) * _score_deviation(data, rest, quantile)
    shape = logs.shape[:-3]
    return Slopes((data.start + line[:, 1]).reshape(shape), error.reshape(shape))


def _sparsity(rest: Floats, present: Bools, quantile: float) -> Floats:
    """Return ``[sets]`` the residuals' quantile density at ``quantile`` by a symmetric difference quotient."""
    ordered = np.sort(np.where(present, rest, np.inf), axis=1)
    count = present.sum(axis=1)
    width = np.minimum(0.9 * quantile, 1.2 * count ** (-1 / 3) * 0.4)

    def at(level: Floats) -> Floats:
        index = np.clip(np.round(level * (count - 1)), 0, count - 1).astype(int)
        return np.take_along_axis(ordered, index[:, None], axis=1)[:, 0]

    upper, lower = quantile + width, quantile - width
    sparsity: Floats = (at(upper) - at(lower)) / (upper - lower)
    return sparsity


def _score_deviation(data: _Cloud, rest: Floats, quantile: float) -> Floats:
    """Return ``[sets]`` the standard deviation of the slope's score over the spread of x, sizes as clusters."""
    centred = data.x - (data.present * data.x).sum(axis=1, keepdims=True) / data.present.sum(axis=1, keepdims=True)
    spread = (data.present * centred**2).sum(axis=1)
    scores = data.by_size(data.present * (quantile - (rest < 0)) * centred)
    num_sizes = data.cells[0]
    clustered = (scores**2).sum(axis=1) * num_sizes / max(num_sizes - 2, 1)
    least = quantile * (1 - quantile) * spread
    deviation: Floats = np.sqrt(np.maximum(clustered, least)) / spread
    return deviation


def frontier_slopes(log_sizes: Floats, logs: Floats) -> Slopes:
    """Return the slope of the stochastic frontier by maximum likelihood, all data sets at once.

    ``log value = a + b log N + v + u`` with v normal of scale tau and u half-normal of scale sigma(N) = exp(p + q
    log N) (Aigner, Lovell and Schmidt 1977, with a drifting scale): with omega^2 = sigma^2 + tau^2 and e the
    distance from the line, the density is ``2 / omega phi(e / omega) Phi(e sigma / (tau omega))``. Damped scoring
    with the outer product of the scores (Berndt et al. 1974); standard errors are the sandwich, sizes as clusters.
    """
    data = _cloud(log_sizes, logs)
    unit = data.deviation
    data = replace(data, present=data.present & (data.y < _STRAY * unit[:, None]))
    scaled = data.y / unit[:, None]  # log units of each set's own scatter
    theta = np.zeros((len(scaled), 5))
    theta[:, 4] = np.log(0.5)
    damping = np.full(len(scaled), 1e-2)
    value, scores = _frontier_scores(theta, scaled, data.x, data.present)
    active = np.arange(len(scaled))
    for _ in range(MAX_FRONTIER_STEPS):
        step, predicted = _scoring_step(scores[active], damping[active])
        trial = _within(theta[active] + step)
        new, new_scores = _frontier_scores(trial, scaled[active], data.x, data.present[active])
        better = new >= value[active]
        won = active[better]
        theta[won], value[won], scores[won] = trial[better], new[better], new_scores[better]
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 8), 1e-6, 1e8)
        active = active[(predicted > 1e-4) & (damping[active] < 1e7)]
        if not active.size:
            break
    error = _sandwich(scores, data)
    shape = logs.shape[:-3]
    return Slopes((data.start + theta[:, 1] * unit).reshape(shape), (error * unit).reshape(shape))


def _within(theta: Floats) -> Floats:
    """Keep scales and their drift where the likelihood is bounded."""
    low, high = np.log(_SCALE_RANGE)
    theta[:, 2] = np.clip(theta[:, 2], low, high)
    theta[:, 3] = np.clip(theta[:, 3], -_MAX_DRIFT, _MAX_DRIFT)
    theta[:, 4] = np.clip(theta[:, 4], low, high)
    return theta


def _frontier_scores(theta: Floats, y: Floats, x: Floats, present: Bools) -> tuple[Floats, Floats]:
    """Return log likelihoods ``[sets]`` and each value's scores ``[sets, values, 5]`` for (a, b, p, q, log tau)."""
    a, b, p, q, log_tau = (theta[:, i : i + 1] for i in range(5))
    sigma, tau = np.exp(np.clip(p + q * x, -20, 20)), np.exp(log_tau)
    e = y - a - b * x
    square = sigma**2 + tau**2
    omega = np.sqrt(square)
    argument = e * sigma / (tau * omega)
    tail = special.log_ndtr(argument)
    value = np.where(present, -np.log(omega) - e**2 / (2 * square) + tail, 0.0).sum(axis=1)
    mills = np.exp(-(argument**2) / 2 - 0.9189385332046727 - tail)
    along = e / square - mills * sigma / (tau * omega)
    shrink = e**2 / square**2 - 1 / square
    by_sigma = (shrink * sigma + mills * e * tau / (square * omega)) * sigma
    by_tau = (shrink * tau - mills * e * sigma * (square + tau**2) / (tau**2 * square * omega)) * tau
    scores = np.stack([along, along * x, by_sigma, by_sigma * x, by_tau], axis=2)
    return value, np.where(present[..., None], scores, 0.0)


def _scoring_step(scores: Floats, damping: Floats) -> tuple[Floats, Floats]:
    """Return the damped scoring step ``[sets, 5]`` and the gain in log likelihood it promises ``[sets]``."""
    gradient = scores.sum(axis=1)
    information = np.matmul(scores.transpose(0, 2, 1), scores)
    diagonal = np.einsum("rii->ri", information)
    diagonal += damping[:, None] * diagonal + 1e-3
    step = np.linalg.solve(information, gradient[..., None])[..., 0]
    return step, (step * gradient).sum(axis=1)


def _sandwich(scores: Floats, data: _Cloud) -> Floats:
    """Return ``[sets]`` the standard error of b: outer products of scores, of sizes between those of values."""
    information = np.matmul(scores.transpose(0, 2, 1), scores)
    np.einsum("rii->ri", information)[...] += 1e-3
    sizes = data.by_size(scores)
    between = np.matmul(sizes.transpose(0, 2, 1), sizes)
    row = np.linalg.inv(information)[:, 1]
    plain = np.einsum("ri,rij,rj->r", row, information, row)
    clustered = np.einsum("ri,rij,rj->r", row, between, row) * data.cells[0] / max(data.cells[0] - 2, 1)
    error: Floats = np.sqrt(np.maximum(plain, clustered))
    return error
