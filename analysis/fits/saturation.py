"""Learning curves that start at a ceiling: the error of guessing, a bend, and then a power down to a floor."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from analysis.fits.models import CurveModel, Expansion, Floats, Sample, bounded_exp


class Saturating(CurveModel):
    """(y - e) / (E - y)^a = b x^-s: between a ceiling E and a floor e (Alabdulmohsin et al. 2022, equation 6, M4).

    With y = e + (E - e) u and u = 1 / (1 + exp(-q)) it reads a softplus(q) - softplus(-q) = k - s t; the left side
    rises in q with slope 1 where u is small and slope a where u is near 1, so Newton's steps find q.
    """

    name, formula = "saturating", "(y - e) / (E - y)^a = b x^-s"
    parameters = ("e", "E", "a", "b", "s")
    exponent = "s"

    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Return log(e + (E - e) u) and its derivatives, u solved for."""
        log_floor, log_height, log_a, k, s = (column[:, None] for column in theta.T)
        a = np.exp(np.clip(log_a, -4.0, 4.0))
        t = sample.logs[:, 0]
        q = _solve(a, k - s * t)
        u, rest = expit(q), expit(-q)
        log_u = -np.logaddexp(0.0, -q)
        floor, above = np.exp(np.clip(log_floor, -700, 700)), np.exp(np.clip(log_height + log_u, -700, 700))
        value = np.log(floor + above)
        share = above / (floor + above)
        per_q = share * rest / (rest + a * u)
        columns = [share, -a * np.logaddexp(0.0, q) * per_q, per_q, -t * per_q]
        return Expansion(value, np.stack([1 - share, *columns], axis=-1))

    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:
        """Draw floor, ceiling and a; solve for k and s by weighted least squares on the formula's log."""
        num_draws = 4 * num_starts
        values = np.exp(response)
        least, most = float(values.min()), float(values.max())
        shares = generator.choice([0.01, 0.2, 0.5, 0.7, 0.85, 0.93, 0.98], num_draws)
        floor = least * shares
        ceiling = most * (1 + np.exp(generator.uniform(math.log(0.003), math.log(1.0), num_draws)))
        a = np.exp(generator.uniform(-1.0, 1.0, num_draws))
        u = (values - floor[:, None]) / (ceiling - floor)[:, None]
        odds = np.log(u) - a[:, None] * np.log(1 - u)
        t = sample.logs[:, 0]
        weights = (1 - floor[:, None] / values) * (1 - u) / ((1 - u) + a[:, None] * u)
        designs = np.stack([np.ones_like(odds), np.broadcast_to(-t, odds.shape)], axis=-1) * weights[..., None]
        gram = np.swapaxes(designs, 1, 2) @ designs
        gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(2)
        solved = np.linalg.solve(gram, np.einsum("snp,sn->sp", designs, weights * odds)[..., None])[..., 0]
        theta = np.stack([np.log(floor), np.log(ceiling - floor), np.log(a), solved[:, 0], solved[:, 1]], axis=1)
        residuals = np.abs(self.expand(theta, sample).value - response).sum(axis=1)
        order = np.argsort(np.where(np.isfinite(residuals), residuals, np.inf), kind="stable")
        return theta[order[:num_starts]]

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return e, E, a, b and s."""
        log_floor, log_height, log_a, k, s = theta.T
        a = np.exp(np.clip(log_a, -4.0, 4.0))
        floor = bounded_exp(log_floor + sample.mean_response)
        height = log_height + sample.mean_response
        log_b = k + (1 - a) * height + s * sample.mean_logs[0]
        return np.stack([floor, floor + bounded_exp(height), a, bounded_exp(log_b), s], axis=1)


def _solve(a: Floats, level: Floats) -> Floats:
    """Return q with a softplus(q) - softplus(-q) = level, ``[fits, points]``.

    The left side rises and bends one way (convex for a > 1, concave for a < 1), so Newton's steps, begun at an
    asymptote's solution, close in from one side after the first.
    """
    both = np.stack([level, level / a])
    q = np.where(level < 0, level, np.where(a >= 1, both.min(axis=0), both.max(axis=0)))
    for _ in range(40):
        u = expit(q)
        step = (level - a * np.logaddexp(0.0, q) + np.logaddexp(0.0, -q)) / ((1 - u) + a * u)
        q = q + step
        if np.abs(step).max(initial=0.0) < 1e-13 * (1 + np.abs(q).max(initial=0.0)):
            break
    return q
