"""The record of a verdict: which words exist, and what is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from analysis.exponents.calibration import GapSlope
from analysis.exponents.curves import PowerLawFit
from analysis.exponents.envelope import Envelope
from analysis.exponents.uncertainty import ExponentInterval, Interval
from hyperscale.claims import Claim, Monotone, Ordering, ScalingRate

Word = Literal["attained", "not attained", "not contradicted", "contradicted", "supported", "inconclusive"]


class Cause(StrEnum):
    """Why a verdict is not decisive, by name."""

    NONE = ""
    UNDERPOWERED = "underpowered"
    GAP = "optimisation gap not controlled"
    RESOLVED = "target resolved"
    NOT_IDENTIFIED = "not identified"
    BUDGET = "budget unequal"
    ESTIMATORS = "estimators disagree"
    RISING = "envelope rises with N"
    EASY = "target may be easier than the worst case"
    NO_DATA = "no finished trials"
    UNTAUGHT = "no better than predicting 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRatio:
    """How far a method errs from a known reference at one value of the compared column, on its worst target.

    ``error`` is the smallest that a trial found, ``reference`` the column's largest value there. ``certified`` is the
    same ratio with the certified bound on the error in place of what was found, None without one.
    """

    at: float | str
    error: float
    reference: float
    ratio: float
    certified: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the data say of one claim.

    ``quantity`` names what ``estimate`` and ``interval`` measure: an exponent, a ratio of errors (geometric
    mean over seeds and sizes), a difference, or Kendall's tau; ``predicted`` is what it is compared with. Where a
    calibration measured the optimisation gap, ``gap`` is its slope and ``interval`` is widened by it;
    ``uncertainty.interval`` is the interval without.
    """

    claim: str
    kind: str
    theorem: str
    statement: str
    methods: tuple[str, ...]
    metric: str
    verdict: Word
    reason: str
    cause: Cause = Cause.NONE
    quantity: str
    estimate: float | None = None
    interval: Interval | None = None
    predicted: float | None
    expectation: str
    conditions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bound: str | None = None
    envelope: Envelope | None = None
    fit: PowerLawFit | None = None
    uncertainty: ExponentInterval | None = None
    gap: GapSlope | None = None
    ratios: tuple[SizeRatio, ...] = ()
    """For a factor to a column: the ratio at each size."""

    @classmethod
    def of(cls, claim: Claim, verdict: Word, reason: str, *, cause: Cause = Cause.NONE) -> Verdict:
        """Return a verdict on ``claim`` with everything that the claim itself says filled in."""
        quantity, predicted, expectation = _expectation(claim)
        rate = claim if isinstance(claim, ScalingRate) else None
        return cls(
            claim=claim.title,
            kind=type(claim).__name__,
            theorem=claim.theorem,
            statement=claim.statement,
            methods=claim.methods,
            metric=claim.metric,
            verdict=verdict,
            reason=reason,
            cause=cause,
            quantity=quantity,
            predicted=predicted,
            expectation=expectation,
            conditions=claim.conditions,
            bound=rate.bound if rate else None,
        )


def inconclusive(claim: Claim, cause: Cause, reason: str) -> Verdict:
    """Return an inconclusive verdict whose reason begins with the name of its cause."""
    return Verdict.of(claim, "inconclusive", f"{cause}: {reason}", cause=cause)


def _expectation(claim: Claim) -> tuple[str, float | None, str]:
    """Return what is measured, the number it is compared with, and the comparison in words."""
    if isinstance(claim, ScalingRate):
        sign = {"upper": "≥", "lower": "≤", "match": "="}[claim.bound]
        return "exponent", claim.exponent, f"{sign} {claim.exponent:.3g}"
    if isinstance(claim, Ordering):
        return "ratio", 1.0, "< 1"
    if isinstance(claim, Monotone):
        return "Kendall's tau", 0.0, "> 0" if claim.direction == "increasing" else "< 0"
    return claim.expected
