"""Interim: model choice and predictions, until those of the model-selection work are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.fitting import MODELS, CurveFit, Estimate, fit_curve, stack_inputs
from analysis.losses import Loss
from analysis.models import Floats
from hyperscale.errors import AnalysisError


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Predictions."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member."""

    fit: CurveFit
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAverage:
    """An average."""

    members: tuple[Member, ...]
    chosen: CurveFit
    agreement: str

    def predict(self, x: Floats) -> Floats:
        """Predict."""
        return self.chosen.predict(x)

    @property
    def exponent(self) -> Estimate | None:
        """Exponent."""
        return self.chosen.exponent


def choose_model(
    x: Floats, y: Floats, *, loss: Loss | None = None, seed: int = 0, num_resamples: int = 0
) -> ModelAverage:
    """Choose by AICc."""
    fits = []
    for name in ("power", "power_floor", "broken_power"):
        try:
            fits.append(fit_curve(x, y, model=name, loss=loss, seed=seed, num_resamples=num_resamples))
        except AnalysisError:
            if name == "power":
                raise
    criteria = np.array([fit.aicc for fit in fits])
    if not np.isfinite(criteria).any():
        return ModelAverage(members=(Member(fit=fits[0], weight=1.0),), chosen=fits[0], agreement="one model fits")
    weights = np.exp(-(criteria - criteria.min()) / 2)
    weights /= weights.sum()
    return ModelAverage(
        members=tuple(Member(fit=fit, weight=float(weight)) for fit, weight in zip(fits, weights, strict=True)),
        chosen=fits[int(np.argmax(weights))],
        agreement="by AICc alone",
    )


def predict_with_interval(
    fit: CurveFit, x: Sequence[float] | Floats, x2: Sequence[float] | Floats | None = None, level: float = 0.90
) -> Prediction:
    """Predict by the delta method."""
    model, sizes = MODELS[fit.model], stack_inputs(x, x2)
    jacobian = model.expand(fit.theta[None], fit.sample.at(sizes)).jacobian[0]
    y = fit.predict(x, x2)
    if fit.covariance is None:
        unknown = np.full_like(y, np.nan)
        return Prediction(x=sizes[:, 0], y=y, low=unknown, high=unknown)
    variance = np.einsum("ip,pq,iq->i", jacobian, fit.covariance, jacobian) + fit.scale**2
    half = stats.t.ppf(0.5 + level / 2, fit.freedom) * np.sqrt(variance)
    return Prediction(x=sizes[:, 0], y=y, low=y * np.exp(-half), high=y * np.exp(half))
