"""Curve models that bend: sums of powers with floors and breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, logsumexp, softmax

from analysis.fits.models import CurveModel, Expansion, Floats, Sample, bounded_exp, rough_slope, solve_linear

SHARPNESS = (0.05, 1.5)
"""Bounds of a break's width in natural logs of x: from nearly a corner to a bend over several octaves."""
_SATURATED = 6.0
"""A logistic coordinate beyond this (0.25 % of its range) lies at its bound."""


@dataclass(frozen=True, slots=True)
class Term:
    """One positive term c x^-s times its breaks, of input number ``column``; a floor has neither."""

    column: int = 0
    power: bool = True
    num_breaks: int = 0

    @property
    def num_parameters(self) -> int:
        """Constant, exponent, and for each break: change of exponent, place, width."""
        return 1 + self.power + 3 * self.num_breaks


def _within(raw: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Return a number between bounds and its derivative, for an unbounded coordinate."""
    share = expit(raw)
    return low + (high - low) * share, (high - low) * share * (1 - share)


class PowerTerms(CurveModel):
    """y = sum over terms of c x^-s prod_k (1 + (x/d_k)^(1/w_k))^(-b_k w_k): log y is a log-sum-exp of terms.

    Floors, sums of powers, Chinchilla's form (Hoffmann et al. 2022) and broken powers (Caballero et al. 2023,
    "Broken neural scaling laws", equation 1) are of this kind.
    """

    terms: tuple[Term, ...]

    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Return log sum_k exp(u_k) and its gradient sum_k softmax_k du_k."""
        values, slopes, start = [], [], 0
        for term in self.terms:
            part = theta[:, start : start + term.num_parameters]
            value, slope = _expand_term(term, part, sample)
            values.append(value)
            slopes.append((start, slope))
            start += term.num_parameters
        if len(values) == 1:
            only = slopes[0][1]
            exact = not self.terms[0].num_breaks
            return Expansion(values[0], only, np.ones((1, *values[0].shape)) if exact else None, only[:1, :, :])
        stacked = np.stack(values)
        shares = softmax(stacked, axis=0)
        jacobian = np.empty((*values[0].shape, theta.shape[1]))
        for share, (first, slope) in zip(shares, slopes, strict=True):
            jacobian[..., first : first + slope.shape[-1]] = share[..., None] * slope
        linear = not any(term.num_breaks for term in self.terms)
        design = _block_design(slopes, theta.shape[1]) if linear else None
        return Expansion(logsumexp(stacked, axis=0), jacobian, shares if linear else None, design)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return constants, exponents and breaks as the formula shows them."""
        columns: list[Floats] = []
        start = 0
        for term in self.terms:
            part = theta[:, start : start + term.num_parameters]
            start += term.num_parameters
            centre = float(sample.mean_logs[term.column])
            exponent = part[:, 1] if term.power else np.zeros(len(part))
            columns.append(bounded_exp(part[:, 0] + sample.mean_response + exponent * centre))
            columns += [exponent] if term.power else []
            columns += _natural_breaks(term, part, exponent, sample)
        return np.stack(columns, axis=1)

    def _split(self, theta: Floats) -> list[Floats]:
        """Return each term's own parameters."""
        return np.split(theta, np.cumsum([term.num_parameters for term in self.terms])[:-1])

    def shares(self, theta: Floats, sample: Sample) -> Floats:
        """Return what part of y each term of one fit makes at each point, ``[terms, points]``."""
        parts = zip(self.terms, self._split(theta), strict=True)
        values = np.stack([_expand_term(term, part[None], sample)[0][0] for term, part in parts])
        found: Floats = softmax(values, axis=0)
        return found

    def bound_hit(self, theta: Floats, sample: Sample) -> str:
        """Return whether a term has vanished from the data's window, or a break lies at its bound."""
        parts = self._split(theta)
        for term, share in zip(self.terms, self.shares(theta, sample).max(axis=1), strict=True):
            if share < 1e-4:
                what = "the floor" if not term.power else "one of the powers"
                return f"{what} vanishes: no data point owes it more than 0.01 %. Use the model without it."
        for term, part in zip(self.terms, parts, strict=True):
            for k in range(term.num_breaks):
                if abs(part[2 + term.power + 3 * k]) > _SATURATED:
                    return "a break lies at the end of the data. Add sizes beyond it, or use a model with fewer breaks."
        return ""

    def settled(self, theta: Floats) -> NDArray[np.bool_]:
        """Return which parameters are widths at a bound: a corner has an exponent on either side all the same."""
        widths = np.concatenate(
            [[False] * (1 + term.power) + [False, False, True] * term.num_breaks for term in self.terms]
        ).astype(np.bool_)
        found: NDArray[np.bool_] = widths & (np.abs(theta) > _SATURATED)
        return found

    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:
        """Return places found by solving for the constants at drawn exponents, floors and breaks."""
        if any(term.num_breaks for term in self.terms) or len(self.terms) == 1:
            found = self._broken_starts(sample, response, num_starts, generator)
        else:
            found = self._summed_starts(sample, response, num_starts, generator)
        return found[: max(num_starts, 1)]

    def _summed_starts(
        self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator
    ) -> Floats:
        """Draw exponents, solve for the constants on relative residuals y / y_observed - 1 (variable projection)."""
        num_draws = 6 * num_starts
        typical = max(abs(rough_slope(sample, response)), 0.02)
        sign = -1.0 if len(self.terms) == 2 and rough_slope(sample, response) > 0 else 1.0
        slopes = sign * typical * np.exp(generator.uniform(-1.2, 2.3, (num_draws, len(self.terms))))
        slopes[:, [not term.power for term in self.terms]] = 0.0
        columns = np.stack([sample.logs[:, term.column] for term in self.terms])
        logs = -slopes[:, None, :] * columns.T - response[:, None]
        designs = np.exp(np.clip(logs, -60.0, 60.0))
        constants, _ = solve_linear(designs, np.ones_like(response))
        constants = np.maximum(constants, 1e-3 / designs.mean(axis=1) / len(self.terms))
        theta = np.concatenate(
            [
                np.stack([np.log(constants[:, k])] + ([slopes[:, k]] if term.power else []), axis=1)
                for k, term in enumerate(self.terms)
            ],
            axis=1,
        )
        return _best_and_others(self, theta, sample, response, num_starts)

    def _broken_starts(
        self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator
    ) -> Floats:
        """Draw floors, places and widths of breaks; solve for the rest on log(y - floor). Only starts are made so."""
        main = self.terms[-1]
        floored = len(self.terms) > 1
        low, high = sample.window[main.column]
        num_draws = 6 * num_starts
        places = generator.uniform(0.03, 0.97, (num_draws, main.num_breaks))
        places.sort(axis=1)
        widths = generator.uniform(0.1, 0.95, (num_draws, main.num_breaks))
        shares = (
            generator.choice([1e-3, 0.2, 0.5, 0.7, 0.85, 0.93, 0.98], num_draws) if floored else np.zeros(num_draws)
        )
        t = sample.logs[:, main.column]
        theta = np.empty((num_draws, self.num_parameters))
        least = float(response.min())
        for row in range(num_draws):
            columns = [np.ones_like(t), -t] if main.power else [np.ones_like(t)]
            for place, width in zip(places[row], widths[row], strict=True):
                h = math.exp(_scalar_within(width, *np.log(SHARPNESS)))
                columns.append(-h * np.logaddexp(0.0, (t - low - (high - low) * place) / h))
            above = np.exp(response) - shares[row] * math.exp(least)
            weights = above / np.exp(response) if floored else np.ones_like(t)
            design = np.stack(columns, axis=1) * weights[:, None]
            solution = solve_linear(design[None], np.log(np.maximum(above, 1e-12)) * weights)[0][0]
            head = [math.log(shares[row]) + least] if floored else []
            tail = solution[: 1 + main.power].tolist()
            for k, change in enumerate(solution[1 + main.power :]):
                tail += [change, logit(places[row, k]), logit(widths[row, k])]
            theta[row] = head + tail
        return _best_and_others(self, theta, sample, response, num_starts)


def _scalar_within(share: float, low: float, high: float) -> float:
    return float(low + (high - low) * share)


def _expand_term(term: Term, part: Floats, sample: Sample) -> tuple[Floats, Floats]:
    """Return a term's log ``[fits, points]`` and its gradient ``[fits, points, parameters of the term]``."""
    t = sample.logs[:, term.column]
    value = np.repeat(part[:, :1], len(t), axis=1)
    slope = np.zeros((len(part), len(t), term.num_parameters))
    slope[..., 0] = 1.0
    if term.power:
        value = value - part[:, 1:2] * t
        slope[..., 1] = -t
    low, high = sample.window[term.column]
    for k in range(term.num_breaks):
        at = 1 + term.power + 3 * k
        change = part[:, at : at + 1]
        place, per_place = _within(part[:, at + 1 : at + 2], low, high)
        log_width, per_width = _within(part[:, at + 2 : at + 3], *np.log(SHARPNESS))
        width = np.exp(log_width)
        z = (t - place) / width
        soft, share = np.logaddexp(0.0, z), expit(z)
        value = value - change * width * soft
        slope[..., at] = -width * soft
        slope[..., at + 1] = change * share * per_place
        slope[..., at + 2] = -change * (soft - z * share) * width * per_width
    return value, slope


def _natural_breaks(term: Term, part: Floats, exponent: Floats, sample: Sample) -> list[Floats]:
    """Return the exponents after each break, then places and widths (in natural logs of x), in order of place."""
    breaks = part[:, 1 + term.power :].reshape(len(part), term.num_breaks, 3)
    low, high = sample.window[term.column]
    order = np.argsort(breaks[..., 1], axis=1)[..., None]
    changes, places, widths = np.moveaxis(np.take_along_axis(breaks, order, axis=1), -1, 0)
    exponents = exponent[:, None] + np.cumsum(changes, axis=1)
    at = bounded_exp(_within(places, low, high)[0] + sample.mean_logs[term.column])
    across = np.exp(_within(widths, *np.log(SHARPNESS))[0])
    return [*exponents.T, *at.T, *across.T]


def _block_design(slopes: list[tuple[int, Floats]], num_parameters: int) -> Floats:
    """Return each term's constant gradient in its own columns, ``[terms, points, parameters]``."""
    design = np.zeros((len(slopes), slopes[0][1].shape[1], num_parameters))
    for row, (first, slope) in zip(design, slopes, strict=True):
        row[:, first : first + slope.shape[-1]] = slope[0]
    return design


def _best_and_others(model: CurveModel, theta: Floats, sample: Sample, response: Floats, num_starts: int) -> Floats:
    """Return the better half of the starts by absolute residual, and the rest as they were drawn."""
    residuals = np.abs(model.expand(theta, sample).value - response).sum(axis=1)
    order = np.argsort(np.where(np.isfinite(residuals), residuals, np.inf), kind="stable")
    best = order[: (num_starts + 1) // 2]
    others = np.setdiff1d(np.arange(len(theta)), best)[: num_starts // 2]
    return theta[np.concatenate([best, others])]


class PowerFloor(PowerTerms):
    """y = e + c x^-s."""

    name, formula = "power_floor", "y = e + c x^-s"
    parameters = ("e", "c", "s")
    exponent = "s"
    terms = (Term(power=False), Term())


class TwoPowers(PowerTerms):
    """y = a x^-s + b x^-r: the slower power wins in the end."""

    name, formula = "two_powers", "y = a x^-s + b x^-r, s < r"
    parameters = ("a", "s", "b", "r")
    positive = ("a", "b")
    exponent = "s"
    terms = (Term(), Term())

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return the slower power first."""
        plain = super().natural(theta, sample)
        return np.where(plain[:, [1]] <= plain[:, [3]], plain, plain[:, [2, 3, 0, 1]])


class Chinchilla(PowerTerms):
    """L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, equation 10): two inputs."""

    name, formula = "chinchilla", "y = E + A x^-alpha + B x2^-beta"
    parameters = ("E", "A", "alpha", "B", "beta")
    num_inputs = 2
    exponent = "alpha"
    terms = (Term(power=False), Term(), Term(column=1))


class BrokenPower(PowerTerms):
    """y = c x^-s1 (1 + (x/d)^(1/w))^(-(s2 - s1) w): exponent s1 before the break at d, s2 after it."""

    name, formula = "broken_power", "y = c x^-s1 (1 + (x/d)^(1/w))^((s1-s2) w)"
    parameters = ("c", "s1", "s2", "d", "w")
    exponent = "s2"
    terms = (Term(num_breaks=1),)


class TwiceBrokenPower(PowerTerms):
    """A broken power with two breaks: exponents s1, s2, s3."""

    name = "twice_broken_power"
    formula = "y = c x^-s1 (1 + (x/d1)^(1/w1))^((s1-s2) w1) (1 + (x/d2)^(1/w2))^((s2-s3) w2)"
    parameters = ("c", "s1", "s2", "s3", "d1", "d2", "w1", "w2")
    exponent = "s3"
    terms = (Term(num_breaks=2),)


class BrokenPowerFloor(PowerTerms):
    """y = e + a broken power."""

    name, formula = "broken_power_floor", "y = e + c x^-s1 (1 + (x/d)^(1/w))^((s1-s2) w)"
    parameters = ("e", "c", "s1", "s2", "d", "w")
    exponent = "s2"
    terms = (Term(power=False), Term(num_breaks=1))
