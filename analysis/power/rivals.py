"""The nearest rival of a rate: the exponent that the data must be able to tell from the claimed one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis import theorems
from analysis.exponents.decisions import TOLERANCE
from hyperscale.claims import ScalingRate
from hyperscale.errors import AnalysisError
from hyperscale.study import Study

_THEOREMS = (
    theorems.plain_rate,
    theorems.embedding_rate_fixed,
    theorems.embedding_rate_growing,
    theorems.hypernetwork_rate,
    theorems.total_rate,
)
FALLBACK_FACTOR = 2.0
"""Without a rival among the theorems: half the claimed exponent, or twice it (Yarotsky, COLT 2018)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """An exponent and whose it is."""

    exponent: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetDims:
    """What the theorems ask of a target, read off a setting's columns."""

    x_dim: int
    conditioning_dim: int
    smoothness: int
    is_hard_family: bool = False
    resolution: float | None = None


def theorem_rates(dims: TargetDims) -> list[ScalingRate]:
    """Return the rates of all theorems that hold for a target of these dimensions."""
    rates = []
    for theorem in _THEOREMS:
        try:
            rates.append(theorem(dims))
        except AnalysisError:  # stated for another smoothness
            continue
    return rates


def nearest_rival(claim: ScalingRate, study: Study) -> Rival:
    """Return the exponent nearest to the claim's (by ratio) on a side where the claim fails.

    An O-claim fails below 0.9 s, an Omega-claim above 1.1 s, a match on both sides. Candidates are the study's other
    rates and those of the theorems for the method's target, in the same size column; without any, half the claimed
    exponent, or twice it for an Omega-claim.
    """
    rates = [other for other in study.claims if isinstance(other, ScalingRate)]
    for setting in study.settings:
        if setting.method_name in claim.methods and (dims := _dims(setting.columns())) is not None:
            rates += theorem_rates(dims)
            break
    candidates = {
        round(rate.exponent, 12): rate.theorem.split(",")[0] or rate.title
        for rate in reversed(rates)
        if rate.size == claim.size
    }
    below = [s for s in candidates if s < claim.exponent * (1 - TOLERANCE) and claim.bound != "lower"]
    above = [s for s in candidates if s > claim.exponent * (1 + TOLERANCE) and claim.bound != "upper"]
    if below or above:
        nearest = min([*below, *above], key=lambda s: abs(math.log(s / claim.exponent)))
        return Rival(exponent=nearest, source=candidates[nearest])
    if claim.bound == "lower":
        return Rival(exponent=claim.exponent * FALLBACK_FACTOR, source="twice the claimed exponent")
    return Rival(exponent=claim.exponent / FALLBACK_FACTOR, source="half the claimed exponent")


def _dims(columns: Mapping[str, str | int | float]) -> TargetDims | None:
    names = ("x_dim", "conditioning_dim", "smoothness")
    if not all(isinstance(columns.get(name), int) for name in names):
        return None
    x_dim, conditioning_dim, smoothness = (int(columns[name]) for name in names)
    if min(x_dim, smoothness) < 1 or conditioning_dim < 0:
        return None
    return TargetDims(x_dim=x_dim, conditioning_dim=conditioning_dim, smoothness=smoothness)
