"""Curve models: log y as a function of sizes and parameters, with analytic derivatives, for many fits at once.

Every model works on centred logs ``t = log x - mean log x`` and a centred response ``v = log y - mean log y``, which
keeps the normal equations well conditioned (Chinchilla's: about 11 where the raw form has 3.5e11). Parameters are
arrays ``[fits, parameters]`` in that inner form; `natural` turns them into the parameters that the formula shows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hyperscale.errors import AnalysisError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The data of a fit as models see them: centred logs ``[points, inputs]`` and what was taken off."""

    logs: Floats
    mean_logs: Floats
    mean_response: float
    window: Floats
    """Smallest and largest centred log of the fitted data, ``[inputs, 2]``; kept when other sizes are predicted."""

    @classmethod
    def of(cls, sizes: Floats, mean_response: float = 0.0) -> Sample:
        """Return the sample of ``sizes`` (``[points, inputs]``), centred at its own mean log."""
        logs = np.log(sizes)
        centre = logs.mean(axis=0)
        window = np.stack([logs.min(axis=0) - centre, logs.max(axis=0) - centre], axis=1)
        return cls(logs=logs - centre, mean_logs=centre, mean_response=mean_response, window=window)

    def at(self, sizes: Floats) -> Sample:
        """Return other sizes ``[points, inputs]`` in the same centring and window."""
        return replace(self, logs=np.log(sizes) - self.mean_logs)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A model's value and derivatives at parameters: ``value [fits, points]``, ``jacobian [fits, points, parameters]``.

    ``softmax [terms, fits, points]`` and ``design [terms, (fits,) points, parameters]`` give the second derivatives
    of a log-sum-exp model; None where the model is expanded to first order only.
    """

    value: Floats
    jacobian: Floats
    softmax: Floats | None = None
    design: Floats | None = None

    def curvature(self, weights: Floats) -> Floats | None:
        """Return ``sum_i weights_i * second derivative of value_i``, ``[fits, parameters, parameters]``.

        For f = logsumexp(u_k), u linear in the parameters: sum_k p_k du_k du_k' - df df', p the softmax.
        """
        if self.softmax is None or self.design is None:
            return None
        num_parameters = self.jacobian.shape[-1]
        total = np.zeros((len(self.value), num_parameters, num_parameters))
        for share, design in zip(self.softmax, self.design, strict=True):
            outer = np.einsum("ip,iq->ipq", design, design).reshape(len(design), -1)
            total += ((weights * share) @ outer).reshape(total.shape)
        return total - np.matmul(np.swapaxes(self.jacobian * weights[..., None], 1, 2), self.jacobian)


class CurveModel(ABC):
    """How y depends on x. Subclasses say the formula, its parameters and where they start."""

    name: ClassVar[str]
    formula: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]]
    num_inputs: ClassVar[int] = 1
    exponent: ClassVar[str | None] = None
    """The parameter that says how fast y falls with x in the end, None where no power does."""
    positive: ClassVar[tuple[str, ...]] = ("c", "e", "a", "d", "d1", "d2", "w", "w1", "w2", "E", "A", "B")
    """The parameters that cannot be negative: their intervals are taken in logs."""

    @property
    def num_parameters(self) -> int:
        """The number of free parameters."""
        return len(self.parameters)

    @abstractmethod
    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Return the centred log value and its derivatives at ``theta [fits, parameters]``."""

    @abstractmethod
    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:
        """Return ``[starts, parameters]`` places to start from, the linear coefficients solved for at each."""

    @abstractmethod
    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return the formula's parameters, ``[fits, parameters]``, in the order of `parameters`."""

    def bound_hit(self, theta: Floats, sample: Sample) -> str:  # noqa: ARG002
        """Return what bound one fit ``[parameters]`` lies at, with the remedy, or an empty text."""
        return ""

    def settled(self, theta: Floats) -> NDArray[np.bool_]:
        """Return which parameters of one fit lie at a harmless bound (a corner's width), ``[parameters]``."""
        return np.zeros(len(theta), dtype=np.bool_)

    def predict(self, theta: Floats, sample: Sample, sizes: Floats) -> Floats:
        """Return log y at ``sizes [points, inputs]``, ``[fits, points]``."""
        return self.expand(theta, sample.at(sizes)).value + sample.mean_response


def solve_linear(designs: Floats, response: Floats) -> tuple[Floats, Floats]:
    """Solve least squares for many designs ``[starts, points, linear]`` at once: coefficients, sums of squares."""
    gram = np.swapaxes(designs, 1, 2) @ designs
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None] / gram.shape[-1]
    ridge = 1e-10 * scale * np.eye(gram.shape[-1])
    coefficients: Floats = np.linalg.solve(gram + ridge, np.swapaxes(designs, 1, 2) @ response[:, None])[..., 0]
    residuals = response - np.einsum("snp,sp->sn", designs, coefficients)
    return coefficients, (residuals**2).sum(axis=1)


def bounded_exp(logs: Floats) -> Floats:
    """Return exp, held inside the range of floats: a parameter that ran away is shown as huge, not as infinite."""
    found: Floats = np.exp(np.clip(logs, -700.0, 700.0))
    return found


def rough_slope(sample: Sample, response: Floats) -> float:
    """Return the least-squares slope of the response on the first log size, 0 where that has no spread."""
    t = sample.logs[:, 0]
    spread = float(t @ t)
    return float(t @ response) / spread if spread > 0 else 0.0


class LogLinear(CurveModel):
    """Models whose log is linear: v = a - s phi(x). Least squares solves them in one step."""

    @abstractmethod
    def basis(self, sample: Sample) -> Floats:
        """Return the columns ``[points, parameters]`` that multiply the parameters."""

    def expand(self, theta: Floats, sample: Sample) -> Expansion:
        """Return ``basis @ theta``."""
        design = self.basis(sample)
        jacobian = np.broadcast_to(design, (len(theta), *design.shape))
        return Expansion(theta @ design.T, jacobian, np.ones((1, len(theta), len(design))), design[None])

    def starts(self, sample: Sample, response: Floats, num_starts: int, generator: np.random.Generator) -> Floats:  # noqa: ARG002
        """Return the least-squares solution."""
        return solve_linear(self.basis(sample)[None], response)[0]


class Power(LogLinear):
    """y = c x^-s."""

    name, formula = "power", "y = c x^-s"
    parameters = ("c", "s")
    exponent = "s"

    def basis(self, sample: Sample) -> Floats:
        """Return 1 and -t."""
        t = sample.logs[:, 0]
        return np.stack([np.ones_like(t), -t], axis=1)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return c and s."""
        a, s = theta[:, 0], theta[:, 1]
        return np.stack([bounded_exp(a + sample.mean_response + s * sample.mean_logs[0]), s], axis=1)


class LogCorrected(LogLinear):
    """y = c x^-s (log x)^k: a power with a logarithmic correction. It needs sizes above 1."""

    name, formula = "log_corrected", "y = c x^-s (log x)^k"
    parameters = ("c", "s", "k")
    exponent = "s"

    def basis(self, sample: Sample) -> Floats:
        """Return 1, -t and log(log x)."""
        t = sample.logs[:, 0]
        logs = t + sample.mean_logs[0]
        if logs.min() <= 0:
            raise AnalysisError(
                f"The model {self.name} has log x to a power, and a size is {math.exp(logs.min()):.4g}; "
                "allowed: sizes above 1. Use another unit for x, or another model."
            )
        return np.stack([np.ones_like(t), -t, np.log(logs)], axis=1)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return c, s and k."""
        a, s, k = theta.T
        return np.stack([bounded_exp(a + sample.mean_response + s * sample.mean_logs[0]), s, k], axis=1)


class RootExponential(LogLinear):
    """y = c exp(-b sqrt x): the rate of best rational approximation of |x|, and of deep networks on analytic maps."""

    name, formula = "root_exponential", "y = c exp(-b sqrt(x))"
    parameters = ("c", "b")
    power: ClassVar[float] = 0.5

    def basis(self, sample: Sample) -> Floats:
        """Return 1 and -(x/x0)^p, x0 the geometric mean."""
        phi = np.exp(np.minimum(self.power * sample.logs[:, 0], 700.0))
        return np.stack([np.ones_like(phi), -phi], axis=1)

    def natural(self, theta: Floats, sample: Sample) -> Floats:
        """Return c and b."""
        scale = math.exp(-self.power * float(sample.mean_logs[0]))
        return np.stack([bounded_exp(theta[:, 0] + sample.mean_response), theta[:, 1] * scale], axis=1)


class Exponential(RootExponential):
    """y = c exp(-b x)."""

    name, formula = "exponential", "y = c exp(-b x)"
    power = 1.0
