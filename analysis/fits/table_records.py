"""What a fit to a table found: records for readers, and the same as strict JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.fits.fitting import CurveFit, Estimate
from analysis.fits.models import Floats
from analysis.fits.prediction import Prediction, predict_with_interval
from analysis.fits.selection import ModelAverage

FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Points:
    """Rows of a table as a fit sees them: sizes and values ``[points]``, a second size where the model has two."""

    x: Floats
    y: Floats
    x2: Floats | None = None

    def __len__(self) -> int:
        return len(self.y)

    def where(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Points:
        """Return the points where ``mask [points]`` is true."""
        return Points(x=self.x[mask], y=self.y[mask], x2=None if self.x2 is None else self.x2[mask])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """Rows that the fit did not see, with their predictions.

    ``rmsle`` is the root of the mean squared difference of natural logs, predicted less observed; ``coverage`` the
    share of observed values inside their prediction intervals, None where those are unknown.
    """

    points: Points
    prediction: Prediction
    rmsle: float
    coverage: float | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FitRecord:
    """One fit to one group of rows; ``fit`` is None where it could not be made, and ``reason`` says why."""

    group: Mapping[str, Any]
    points: Points
    fit: CurveFit | None = None
    """The fit, where the model was chosen automatically that of the leading model."""
    average: ModelAverage | None = None
    """The models that were weighed, where the model was chosen automatically; predictions are their average's."""
    held_out: HeldOut | None = None
    predictions: Prediction | None = None
    asked: Points | None = field(default=None, repr=False)
    """Sizes to predict at; its y are the predictions."""
    level: float = 0.90
    """Level of the prediction intervals."""
    reason: str = ""

    @property
    def status(self) -> str:
        """``converged``, ``not_identified``, ``bound_hit``, ``misfit``, or ``failed`` where there is no fit."""
        return FAILED if self.fit is None else self.fit.status.value

    @property
    def remedy(self) -> str:
        """What to do about the status, empty where it is converged."""
        return self.reason if self.fit is None else self.fit.remedy

    @property
    def exponent(self) -> Estimate | None:
        """The exponent that holds in the end: the fit's, or where models were weighed and disagree, their average's.

        Where they agree on the leading model, the others are variants that the data do not determine, and averaging
        their exponents would only add their freedom.
        """
        if self.average is not None and not self.average.agreed and self.average.exponent is not None:
            return self.average.exponent
        return None if self.fit is None else self.fit.exponent

    @property
    def averaged(self) -> bool:
        """Whether predictions are an average over several models, not the leading model's alone."""
        return self.average is not None and len(self.average.voters) > 1

    def predict(self, at: Points) -> Prediction:
        """Return predictions with intervals at sizes; those of the average where there is one.

        Intervals are NaN where the points determine the leading model exactly: no scatter is left to tell from.
        """
        assert self.fit is not None
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # At sizes far off a power leaves the floats' range: infinite here, null in JSON.
            found = predict_with_interval(self.average or self.fit, at.x, at.x2, level=self.level)
        if self.fit.covariance is not None or len(self.fit.draws):
            return found
        unknown = np.full_like(found.y, np.nan)
        return replace(found, low=unknown, high=unknown)

    @property
    def equation(self) -> str:
        """The formula with its numbers put in, empty where there is no fit."""
        return "" if self.fit is None else fill_in(self.fit, float(self.points.x.min()))

    @property
    def extrapolation(self) -> str:
        """How far predictions beyond the data have erred, in words; empty where nothing is predicted."""
        held_out = None if self.held_out is None else self.held_out.prediction
        prediction = self.predictions or held_out
        return "" if prediction is None else prediction.extrapolation

    def to_json(self) -> dict[str, Any]:
        """Return the record as strict JSON has it: numbers that are unknown or infinite are None."""
        fit = self.fit
        found: dict[str, Any] = {"group": dict(self.group)} if self.group else {}
        found |= {
            "model": None if fit is None else fit.model,
            "formula": None if fit is None else fit.formula,
            "equation": self.equation or None,
            "parameters": {} if fit is None else {name: _estimate(e) for name, e in fit.parameters.items()},
            "exponent": _estimate(self.exponent),
            "loss": None if fit is None else fit.loss.title,
            "objective": None if fit is None else fit.objective,
            "aicc": None if fit is None else fit.aicc,
            "status": self.status,
            "remedy": self.remedy,
            "starts": 0 if fit is None else fit.num_starts,
            "starts_agreeing": 0 if fit is None else fit.num_agreeing,
            "n": len(self.points),
            "bootstrap": 0 if fit is None else len(fit.draws),
            "interval_level": None if fit is None else fit.level,
            "prediction_level": self.level,
            "predictions": _rows(self.asked, self.predictions),
            "extrapolation": self.extrapolation or None,
            **_scores(self.held_out),
        }
        if self.average is not None:
            found |= {"agreement": self.average.agreement, "agreed": self.average.agreed}
            found["models"] = [
                {"model": member.fit.model, "weight": member.weight, "aicc": member.aicc,
                 "backtest": member.backtest, "status": member.fit.status.value}
                for member in self.average.members
            ]  # fmt: skip
        return strict(found)


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    interval = None if estimate.interval is None else list(estimate.interval)
    return {"estimate": estimate.estimate, "standard_error": estimate.standard_error, "interval": interval}


def _rows(points: Points | None, prediction: Prediction | None) -> list[dict[str, Any]]:
    """Return one object a prediction."""
    if points is None or prediction is None:
        return []
    rows = []
    for i in range(len(points.x)):
        row: dict[str, Any] = {"x": points.x[i]} | ({} if points.x2 is None else {"x2": points.x2[i]})
        low, high = prediction.low[i], prediction.high[i]
        known = math.isfinite(low) and math.isfinite(high)
        rows.append(row | {"y": prediction.y[i], "interval": [low, high] if known else None})
    return rows


def _scores(held_out: HeldOut | None) -> dict[str, Any]:
    if held_out is None:
        return {"rmsle": None, "coverage": None, "held_out": None}
    rows = _rows(held_out.points, held_out.prediction)
    rows = [row | {"observed": observed} for row, observed in zip(rows, held_out.points.y, strict=True)]
    return {"rmsle": held_out.rmsle, "coverage": held_out.coverage, "held_out": {"n": len(rows), "points": rows}}


def strict(value: Any) -> Any:
    """Return ``value`` with plain numbers, None for those that JSON lacks (NaN and infinities)."""
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def fill_in(fit: CurveFit, least: float) -> str:
    """Return the model's formula with four digits of each parameter put in; ``least`` stands for x_min."""
    numbers = {name: f"{estimate.estimate:.4g}" for name, estimate in fit.parameters.items()} | {
        "x_min": f"{least:.4g}"
    }
    text = re.sub(r"\b[A-Za-z_]\w*\b", lambda match: numbers.get(match.group(), match.group()), _essential(fit.formula))
    # A minus before a negative number: x^--0.3 is x^0.3, (0.1--0.2) is (0.1+0.2), exp(--2 x) is exp(2 x).
    text = re.sub(r"(?<=[\^(])--", "", text)
    return text.replace("--", "+").replace("- -", "+ ").replace("+ -", "- ")


def _essential(formula: str) -> str:
    """Return a formula without the condition that follows it after a comma."""
    return formula.split(",")[0]
