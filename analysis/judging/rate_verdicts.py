"""The words of a verdict on a rate: what was decided, why, and what it does not say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.exponents.calibration import GapSlope
from analysis.exponents.decisions import TOLERANCE, WORDS, Outcome, decide_rates
from analysis.exponents.estimators import SlopeIntervals
from analysis.exponents.uncertainty import ExponentInterval, Interval
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import ScalingRate

_UNCONTROLLED = "the optimisation gap is not controlled"


def judge_rate(claim: ScalingRate, uncertainty: ExponentInterval, gap: GapSlope | None = None) -> Verdict:
    """Return the verdict on ``claim`` that the exponent's interval, and the measured gap if any, decide."""
    interval = uncertainty.interval
    if interval is None or uncertainty.evidence is None:
        return inconclusive(claim, Cause.NOT_IDENTIFIED, "the exponent has no interval; add sizes.")
    outcome = Outcome(
        int(
            decide_rates(
                claim.bound, claim.exponent, uncertainty.evidence, gap=_array(gap), hard_family=claim.hard_family
            )
        )
    )
    word, cause = WORDS[outcome]
    reason = _REASONS[outcome](claim, uncertainty, gap) + _assumption(gap)
    if word == "inconclusive":
        return inconclusive(claim, cause, reason)
    return Verdict.of(claim, word, reason, cause=cause)


def _array(gap: GapSlope | None) -> SlopeIntervals | None:
    """Return a measured gap as `decide_rates` takes it: numbers as arrays of no dimension."""
    if gap is None:
        return None
    numbers = (gap.slope, gap.standard_error, *gap.interval)
    return SlopeIntervals(*(np.asarray(number, dtype=np.float64) for number in numbers))


def _assumption(gap: GapSlope | None) -> str:
    if gap is None:
        return ""
    lowered = f", its lower end lowered by {-gap.lower:.3g}" if gap.lower else ""
    return (
        " On the calibration targets, whose infimum is known, trained error over infimum grows like "
        f"N^{gap.slope:.3g} ({gap.interval[0]:.3g} to {gap.interval[1]:.3g}); the interval's upper end is raised by "
        f"{gap.upper:.3g}{lowered}. That the gap grows alike on this target is an assumption."
    )


def _lower_end(uncertainty: ExponentInterval) -> float:
    """Return the lower end of the interval that a verdict uses."""
    return -np.inf if uncertainty.interval is None else uncertainty.interval[0]


def _attained(claim: ScalingRate, uncertainty: ExponentInterval, _: GapSlope | None) -> str:
    easy = "" if claim.hard_family else " The target is not a worst case, so this is the easier half."
    within = "" if _lower_end(uncertainty) >= claim.exponent else " to within a tenth"
    return (
        f"the trained networks' envelope falls at least as fast as the theorem says the best networks do{within}, "
        f"over the sizes tried (whole interval above {_least(claim):.3g}).{easy}"
    )


def _not_attained_gap(_: ScalingRate, __: ExponentInterval, ___: GapSlope | None) -> str:
    return (
        "the trained networks' envelope falls more slowly than the rate. A trained error is only an "
        f"upper bound on the infimum that the theorem speaks of, and {_UNCONTROLLED}: this is about the trained "
        "networks, and the theorem is not contradicted. Calibrate the gap on a target of known infimum."
    )


def _not_attained(claim: ScalingRate, _: ExponentInterval, __: GapSlope | None) -> str:
    return (
        "the trained networks' envelope falls more slowly than the rate, and an optimisation gap that grows as it "
        f"does in the calibration does not make up for it (whole interval below {_least(claim):.3g}). A trained "
        "error is still only an upper bound on the infimum: the theorem is not contradicted."
    )


def _not_contradicted(claim: ScalingRate, _: ExponentInterval, gap: GapSlope | None) -> str:
    most = f"the envelope does not fall faster than the bound allows (whole interval below {_most(claim):.3g})"
    if gap is not None:
        return f"{most}, the measured optimisation gap allowed for."
    return (
        f"{most}. An optimisation gap that grows with N would look the same ({_UNCONTROLLED}), so this is no support."
    )


def _contradicted(claim: ScalingRate, _: ExponentInterval, __: GapSlope | None) -> str:
    return (
        "on a target with structure at every scale the envelope falls faster than the bound allows "
        f"(whole interval above {_most(claim):.3g}). Check the theorem's conditions first: outside them, or "
        "before the asymptotic range, this is what one would see."
    )


def _easy(_: ScalingRate, __: ExponentInterval, ___: GapSlope | None) -> str:
    return (
        "the envelope falls faster than the bound allows, but the bound is about the hardest target of "
        "the class and this one may be easier; use a target of the hard family."
    )


def uncalibrated(claim: ScalingRate) -> str:
    """Return why a match cannot be decided without a calibration, as a sentence without its full stop."""
    return (
        f"whether the exponent is {claim.exponent:.3g} cannot be said from trained errors alone, because a gap that "
        "drifts with N changes their exponent and leaves everything else as it is; train the same method, sizes and "
        "optimiser on a target of known infimum, and name it as the claim's calibration"
    )


def _gap(claim: ScalingRate, uncertainty: ExponentInterval, gap: GapSlope | None) -> str:
    if gap is None:
        return f"{uncalibrated(claim)}."
    told = _range(uncertainty.interval)
    return (
        f"the trained errors' exponent, {told}, would decide, but a gap that grows as in the calibration could make "
        "the difference; optimise better, or calibrate with more seeds and sizes."
    )


def _underpowered(claim: ScalingRate, uncertainty: ExponentInterval, gap: GapSlope | None) -> str:
    interval = _raised(uncertainty, gap)
    if claim.bound == "match":
        return (
            f"the interval {_range(interval)} is neither within {_least(claim):.3g} to {_most(claim):.3g} nor outside; "
            "more octaves of N or more seeds would narrow it."
        )
    limit = _least(claim) if claim.bound == "upper" else _most(claim)
    more = "more octaves of N or more seeds would narrow it"
    return f"the interval {_range(interval)} contains the limit {limit:.3g}; {more}."


def _matched(claim: ScalingRate, uncertainty: ExponentInterval, gap: GapSlope | None) -> str:
    return (
        f"over the sizes tried the exponent equals {claim.exponent:.3g} to within {TOLERANCE:.0%}: two one-sided tests "
        f"reject what is outside {_least(claim):.3g} to {_most(claim):.3g}, for the whole interval "
        f"{_range(_raised(uncertainty, gap))} is within."
    )


def _not_matched(claim: ScalingRate, uncertainty: ExponentInterval, gap: GapSlope | None) -> str:
    told = _range(_raised(uncertainty, gap))
    return (
        f"over the sizes tried the exponent is not {claim.exponent:.3g}: its interval {told} lies outside "
        f"{_least(claim):.3g} to {_most(claim):.3g}. Check the theorem's conditions first: outside them, or before the "
        "asymptotic range, this is what one would see."
    )


def _blocked(_: ScalingRate, uncertainty: ExponentInterval, __: GapSlope | None) -> str:
    return f"{uncertainty.disagreement_note or 'the envelope rises with N by more than its noise'}."


def _least(claim: ScalingRate) -> float:
    return claim.exponent * (1 - TOLERANCE)


def _most(claim: ScalingRate) -> float:
    return claim.exponent * (1 + TOLERANCE)


def _raised(uncertainty: ExponentInterval, gap: GapSlope | None) -> Interval | None:
    interval = uncertainty.interval
    return interval if interval is None or gap is None else (interval[0] + gap.lower, interval[1] + gap.upper)


def _range(interval: Interval | None) -> str:
    return "unknown" if interval is None else f"from {interval[0]:.3g} to {interval[1]:.3g}"


_REASONS: dict[Outcome, Callable[[ScalingRate, ExponentInterval, GapSlope | None], str]] = {
    Outcome.UNDERPOWERED: _underpowered,
    Outcome.GAP: _gap,
    Outcome.ATTAINED: _attained,
    Outcome.NOT_ATTAINED: _not_attained,
    Outcome.NOT_ATTAINED_GAP: _not_attained_gap,
    Outcome.NOT_CONTRADICTED: _not_contradicted,
    Outcome.CONTRADICTED: _contradicted,
    Outcome.EASY: _easy,
    Outcome.MATCHED: _matched,
    Outcome.NOT_MATCHED: _not_matched,
    Outcome.ESTIMATORS: _blocked,
    Outcome.RISING: _blocked,
}
