"""Curve models: how an error falls with size. Now the power law; later models stand beside it.

Hard failures (no estimate exists) raise `AnalysisError`; soft ones are a `FitStatus` with its remedy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from hyperscale.errors import AnalysisError

Floats = NDArray[np.float64]


class FitStatus(StrEnum):
    """How far a fit can be relied on."""

    CONVERGED = "converged"
    NOT_IDENTIFIED = "not_identified"
    """The data do not determine the parameters; the fit's ``remedy`` says what would."""
    BOUND_HIT = "bound_hit"
    """A parameter lies at the end of its range (a floor of zero, a break at the last size)."""
    MISFIT = "misfit"
    """The data are not of this form: a power law was asked of data that bend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLawFit:
    """``value = exp(log_constant) * size ** -exponent``, fitted by least squares on logs (natural).

    Standard errors are those of ordinary least squares, None where no residual degree of freedom is left.
    ``residual_std`` is in log units (0.1 is about ten per cent); ``octaves`` is log2 of the ratio of sizes.
    """

    exponent: float
    exponent_standard_error: float | None
    log_constant: float
    log_constant_standard_error: float | None
    residual_std: float | None
    status: FitStatus
    remedy: str
    num_points: int
    octaves: float
    mean_log_size: float
    spread: float
    """Sum of squared deviations of the log sizes from their mean."""
    estimator: str = "least squares on logs"

    def predict(self, sizes: Sequence[float] | Floats) -> Floats:
        """Return the fitted values at ``sizes`` (same shape)."""
        logs = np.log(np.asarray(sizes, dtype=np.float64))
        values: Floats = np.exp(self.log_constant - self.exponent * logs)
        return values

    def standard_error_at(self, sizes: Sequence[float] | Floats) -> Floats | None:
        """Return the standard error of the log value at ``sizes``, None without residuals."""
        if self.residual_std is None:
            return None
        logs = np.log(np.asarray(sizes, dtype=np.float64))
        spread: Floats = self.residual_std * np.sqrt(
            1 / self.num_points + (logs - self.mean_log_size) ** 2 / self.spread
        )
        return spread


def fit_power_law(sizes: Sequence[float] | Floats, values: Sequence[float] | Floats) -> PowerLawFit:
    """Fit ``value = c * size ** -exponent`` by least squares on centred logs.

    Centring makes the two parameters' estimates uncorrelated, so the solution is two means and one ratio.
    Raises `AnalysisError` for unequal lengths, non-positive or non-finite numbers, and fewer than two
    distinct sizes. Fewer than three distinct sizes give ``not_identified``.
    """
    x, y = _log("size", sizes), _log("value", values)
    if len(x) != len(y):
        raise AnalysisError(f"{len(x)} sizes but {len(y)} values; give one value per size.")
    distinct = len(np.unique(x))
    if distinct < 2:
        raise AnalysisError(
            f"A power law needs at least two distinct sizes, and there {_are(distinct)}. "
            "Add settings of other sizes to the study."
        )
    mean_x, mean_y = float(x.mean()), float(y.mean())
    centred = x - mean_x
    spread = float(centred @ centred)
    slope = float(centred @ (y - mean_y)) / spread
    residuals = y - mean_y - slope * centred
    free = len(x) - 2
    identified = distinct >= 3
    std = math.sqrt(float(residuals @ residuals) / free) if free > 0 else None
    return PowerLawFit(
        exponent=-slope,
        exponent_standard_error=None if std is None else std / math.sqrt(spread),
        log_constant=mean_y - slope * mean_x,
        log_constant_standard_error=(None if std is None else std * math.sqrt(1 / len(x) + mean_x**2 / spread)),
        residual_std=std,
        status=FitStatus.CONVERGED if identified else FitStatus.NOT_IDENTIFIED,
        remedy="" if identified else "Two sizes fit any power law exactly: add settings of further sizes.",
        num_points=len(x),
        octaves=float(x.max() - x.min()) / math.log(2),
        mean_log_size=mean_x,
        spread=spread,
    )


def _are(distinct: int) -> str:
    return "is one" if distinct == 1 else "are none"


def _log(what: str, numbers: Sequence[float] | Floats) -> Floats:
    """Return the natural logs of positive finite ``numbers``, shape ``[points]``."""
    array = np.asarray(numbers, dtype=np.float64)
    if array.ndim != 1:
        raise AnalysisError(f"The {what}s of a power law have shape {array.shape}; give one list of numbers.")
    bad = array[~(np.isfinite(array) & (array > 0))]
    if bad.size:
        raise AnalysisError(
            f"A power law needs positive finite numbers, but a {what} is {bad[0]}. "
            "Leave the point out, or choose a metric that cannot be zero or negative."
        )
    logs: Floats = np.log(array)
    return logs
