"""Curve models beside sums of powers: a correction that dies out, and Theorem 5's two terms solved for the error."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from analysis.fits.models import CurveModel, Expansion, Floats, Sample, bounded_exp, rough_slope, solve_linear


class CorrectedPower(CurveModel):
    """y = c x^-s exp(b (x/x_min)^-w): a power whose correction dies out, as finite sizes give it (Wegner 1972)."""

    name, formula = "corrected_power", "y = c x^-s exp(b (x/x_min)^-w)"
    parameters = ("c", "s", "b", "w")
    exponent = "s"

    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Return a - s t + b exp(-w (t - t_min)), w kept positive by its logarithm."""
        t = sample.logs[:, 0]
        a, s, b, log_w = (column[:, None] for column in theta.T)
        w = np.exp(np.clip(log_w, -30.0, 30.0))
        past = t - sample.window[0, 0]
        decay = np.exp(np.maximum(-w * past, -700.0))
        ones = np.ones_like(decay)
        jacobian = np.stack([ones, -t * ones, decay, -b * w * past * decay], axis=-1)
        return Expansion(a - s * t + b * decay, jacobian)

    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:
        """Draw the correction's exponent and solve for the rest."""
        t = sample.logs[:, 0]
        w = np.exp(generator.uniform(math.log(0.1), math.log(6.0), num_starts))
        decay = np.exp(-w[:, None] * (t - sample.window[0, 0]))
        designs = np.stack([np.ones_like(decay), np.broadcast_to(-t, decay.shape), decay], axis=-1)
        solved = solve_linear(designs, response)[0]
        return np.concatenate([solved, np.log(w)[:, None]], axis=1)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return c, s, b and w."""
        a, s, b, log_w = theta.T
        return np.stack(
            [bounded_exp(a + sample.mean_response + s * sample.mean_logs[0]), s, b, bounded_exp(log_w)], axis=1
        )


class TwoTerms(CurveModel):
    """x = a y^(-1/s) + b y^(-1/r): Thm. 5's parameter count as a function of the error, solved for the error.

    Galanti & Wolf (2020), Theorem 5: N = O(eps^(-m2/r) + eps^(-m1/r)); the slower exponent s wins in the end.
    """

    name, formula = "two_terms", "x = a y^(-1/s) + b y^(-1/r), s < r"
    parameters = ("a", "s", "b", "r")
    positive = ("a", "b")
    exponent = "s"

    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Solve logsumexp(a - p v, b - q v) = t for v by Newton from below, and differentiate implicitly."""
        a, log_p, b, log_q = (column[:, None] for column in theta.T)
        p, q = np.exp(np.clip(log_p, -12.0, 12.0)), np.exp(np.clip(log_q, -12.0, 12.0))
        t = sample.logs[:, 0]
        v = np.maximum((a - t) / p, (b - t) / q)
        # The left side is convex and falling in v, so Newton's steps from below never overshoot.
        for _ in range(60):
            first, second = a - p * v, b - q * v
            total = np.logaddexp(first, second)
            share = np.exp(first - total)
            step = (total - t) / (share * p + (1 - share) * q)
            v = v + step
            if np.abs(step).max(initial=0.0) < 1e-13 * (1 + np.abs(v).max(initial=0.0)):
                break
        share = expit((a - p * v) - (b - q * v))
        fall = share * p + (1 - share) * q
        parts = [share, -share * v * p, 1 - share, -(1 - share) * v * q]
        return Expansion(v, np.stack([part / fall for part in parts], axis=-1))

    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:
        """Draw both exponents about the data's slope, and let each term carry the whole at one place."""
        typical = max(abs(rough_slope(sample, response)), 0.02)
        slower = typical * np.exp(generator.uniform(-1.2, 0.2, num_starts))
        faster = typical * np.exp(generator.uniform(-0.1, 1.6, num_starts))
        t, place = sample.logs[:, 0], generator.uniform(0.0, 1.0, num_starts)
        where = (place * (len(t) - 1)).astype(int)
        order = np.argsort(t)
        at_t, at_v = t[order][where], response[order][where]
        a, b = at_t + at_v / slower - math.log(2), at_t + at_v / faster - math.log(2)
        return np.stack([a, -np.log(slower), b, -np.log(faster)], axis=1)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return a, s, b, r with the slower exponent first."""
        a, log_p, b, log_q = theta.T
        p, q = np.exp(np.clip(log_p, -12.0, 12.0)), np.exp(np.clip(log_q, -12.0, 12.0))
        shift = sample.mean_logs[0]
        first, second = a + shift + p * sample.mean_response, b + shift + q * sample.mean_response
        plain = bounded_exp(np.stack([first, -np.log(p), second, -np.log(q)], axis=1))
        return np.where(plain[:, [1]] <= plain[:, [3]], plain, plain[:, [2, 3, 0, 1]])
