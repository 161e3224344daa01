"""Minimisation of many fits at once: damped Newton steps on ``[fits, parameters]``, each fit at its own pace.

The Hessian is exact where the model gives its curvature (log-sum-exp models) and Gauss-Newton elsewhere; the damping
is Levenberg-Marquardt's, scaled by the diagonal. No step that raises the objective is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fits.losses import huber
from analysis.fits.models import CurveModel, Floats, Sample

MAX_STEPS = 400
_LEAST_DAMPING, _MOST_DAMPING = 1e-14, 1e14
_STALLED = 1e-15


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is minimised: ``sum_i w_i rho(r_i)`` with r = v - response, or in y's own units where ``on_y``.

    ``weights [fits, points]`` (a bootstrap's counts), ``deltas [fits, 1]`` of Huber's loss, infinite for squares.
    """

    model: CurveModel
    sample: Sample
    response: Floats
    weights: Floats
    deltas: Floats
    on_y: bool = False

    def take(self, rows: NDArray[np.intp]) -> Problem:
        """Return the problem of some of the fits."""
        return Problem(
            model=self.model, sample=self.sample, response=self.response,
            weights=self.weights[rows], deltas=self.deltas[rows], on_y=self.on_y,
        )  # fmt: skip

    def objective(self, theta: Floats) -> Floats:
        """Return the objective of each fit, infinite where the model overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.model.expand(theta, self.sample).value
            residuals = np.exp(value) - np.exp(self.response) if self.on_y else value - self.response
            total = (self.weights * huber(residuals, self.deltas)[0]).sum(axis=1)
        return np.where(np.isfinite(total), total, np.inf)

    def quadratic(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Return gradient ``[fits, p]``, Hessian ``[fits, p, p]`` and the damping's scale ``[fits, p]``."""
        expansion = self.model.expand(theta, self.sample)
        value, jacobian = expansion.value, expansion.jacobian
        slope = np.exp(value) if self.on_y else np.ones_like(value)
        residuals = slope - np.exp(self.response) if self.on_y else value - self.response
        _, first, second = huber(residuals, self.deltas)
        pull = self.weights * first * slope
        stiffness = self.weights * second * slope**2 + (pull if self.on_y else 0.0)
        weighted = jacobian * stiffness[..., None]
        hessian = np.matmul(np.swapaxes(weighted, 1, 2), jacobian)
        curvature = expansion.curvature(pull)
        if curvature is not None:
            hessian = hessian + curvature
        size = np.maximum(np.abs(residuals), 1e-300)
        secant = self.weights * np.minimum(1.0, self.deltas / size) * slope**2
        scale = np.matmul(secant[:, None, :], jacobian**2)[:, 0]
        gradient = np.matmul(pull[:, None, :], jacobian)[:, 0]
        return gradient, hessian, scale


def minimise(problem: Problem, theta: Floats, *, max_steps: int = MAX_STEPS) -> tuple[Floats, Floats, Floats]:
    """Return ``(parameters, objective, converged)`` of each fit from its start ``theta [fits, parameters]``.

    A fit has converged when its Newton step promises less than one part in 1e15 of the objective.
    """
    theta = theta.copy()
    best = problem.objective(theta)
    converged = np.zeros(len(theta), dtype=bool)
    damping = np.full(len(theta), 1e-2)
    active = np.flatnonzero(np.isfinite(best))
    floor = 1e-28 * (problem.weights.sum(axis=1) + 1.0)
    for _ in range(max_steps):
        if not active.size:
            break
        part = problem.take(active)
        step, promised = _step(part, theta[active], damping[active])
        trial = theta[active] + step
        value = part.objective(trial)
        better = value <= best[active]
        settled = promised <= _STALLED * best[active] + floor[active]
        taken = active[better]
        theta[taken], best[taken] = trial[better], value[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 8, _LEAST_DAMPING), damping[active] * 5)
        converged[active[settled]] = True
        active = active[~settled & (damping[active] < _MOST_DAMPING)]
    return theta, best, converged


def _step(problem: Problem, theta: Floats, damping: Floats) -> tuple[Floats, Floats]:
    """Return the damped Newton step of each fit and the fall of the objective that it promises."""
    gradient, hessian, scale = problem.quadratic(theta)
    scale = np.maximum(scale, 1e-12 * scale.max(axis=1, keepdims=True) + 1e-300)
    identity = np.eye(theta.shape[1])
    damped = hessian + (damping[:, None] * scale)[:, :, None] * identity
    root = 1 / np.sqrt(scale)
    scaled = damped * root[:, :, None] * root[:, None, :]
    with np.errstate(invalid="ignore", over="ignore"):
        values, vectors = np.linalg.eigh(np.where(np.isfinite(scaled), scaled, 0.0))
        # Directions of negative curvature are gone along downhill, at the pace of their absolute curvature.
        values = np.maximum(np.abs(values), 1e-10)
        inner = np.einsum("fpq,fp->fq", vectors, gradient * root)
        step = -root * np.einsum("fpq,fq->fp", vectors, inner / values)
        promised = 0.5 * (inner**2 / values).sum(axis=1)
    usable = np.isfinite(step).all(axis=1)
    return np.where(usable[:, None], step, 0.0), np.where(usable, promised, 0.0)
