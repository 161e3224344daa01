"""Losses of a fit: what is minimised over the residuals, and how far it bends away from squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.fits.models import Floats
from hyperscale.errors import AnalysisError, did_you_mean

EFFICIENT = 1.345
"""Huber's delta in units of the scale: 95 % as efficient as least squares where the residuals are normal."""
_NORMAL = 0.6744897501960817
"""Median of |z|, z standard normal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """``huber``: Huber's loss of log residuals, quadratic up to ``delta`` (None: 1.345 robust scales), linear beyond.

    ``log-least-squares``: squares of the log residuals. ``least-squares``: squares of y's residuals. All are sums of
    ``residual^2 / 2`` over the points (so is Huber's quadratic part).
    """

    kind: Literal["huber", "log-least-squares", "least-squares"] = "huber"
    delta: float | None = None

    @classmethod
    def parse(cls, text: str) -> Loss:
        """Return the loss that ``huber``, ``huber:DELTA``, ``log-least-squares`` or ``least-squares`` names."""
        word, _, number = text.partition(":")
        if word == "huber":
            if not number:
                return cls()
            try:
                delta = float(number)
            except ValueError:
                delta = math.nan
            if delta > 0:
                return cls(delta=delta)
        elif word in ("log-least-squares", "least-squares") and not number:
            return cls(kind=word)  # type: ignore[arg-type]
        hint = did_you_mean(word, ("huber", "log-least-squares", "least-squares"))
        raise AnalysisError(
            f"The loss is {text!r}{hint}; allowed: huber, huber:DELTA with DELTA above 0 (in log units), "
            "log-least-squares, least-squares."
        )

    @property
    def title(self) -> str:
        """The loss as a reader would say it."""
        if self.kind == "huber":
            how = f"delta {self.delta:.3g}" if self.delta is not None else "delta 1.345 robust scales"
            return f"Huber loss of log residuals, {how}"
        return "least squares on log y" if self.kind == "log-least-squares" else "least squares on y"


def huber(residuals: Floats, delta: Floats | float) -> tuple[Floats, Floats, Floats]:
    """Return Huber's loss, its first derivative, and its second: r^2/2 up to delta, delta (|r| - delta/2) beyond."""
    size = np.abs(residuals)
    inside = size <= delta
    value = np.where(inside, 0.5 * residuals**2, delta * (size - 0.5 * delta))
    return value, np.clip(residuals, -delta, delta), inside.astype(np.float64)


def robust_scale(residuals: Floats) -> Floats:
    """Return 1.4826 times the median absolute residual, over the last axis: the standard deviation if normal."""
    scale: Floats = np.median(np.abs(residuals), axis=-1) / _NORMAL
    return scale
