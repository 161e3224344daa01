"""Claims against data: what the trials let us say of a theorem, in words that do not overreach.

A trained error is an upper bound on an infimum over weights; a sampled target is a lower bound on a supremum
over a class. So an O-claim can be *attained*, an Omega-claim can only fail to be contradicted, and an
inconclusive verdict names what stands in the way. Rates are judged here; orderings and monotonicities in
`judging.comparisons`, separations of rates in `judging.separations`, factors in `judging.factors`, limits and
exponents of a width in `analysis.judging.limits`, bounds of one metric by another in `analysis.judging.ceilings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.exponents.calibration import GapSlope, calibration_rows, measure_gap
from analysis.exponents.curves import FitStatus, PowerLawFit, fit_power_law
from analysis.exponents.decisions import MIN_OCTAVES as MIN_OCTAVES
from analysis.exponents.decisions import MIN_SIZES as MIN_SIZES
from analysis.exponents.decisions import TOLERANCE as TOLERANCE
from analysis.exponents.envelope import Envelope, build_envelope
from analysis.exponents.uncertainty import ExponentInterval, exponent_interval
from analysis.judging.baselines import growing_baseline
from analysis.judging.ceilings import check_ceiling
from analysis.judging.comparisons import check_monotone, check_ordering
from analysis.judging.factors import check_factor
from analysis.judging.limits import check_convergence, check_width_exponent
from analysis.judging.rate_verdicts import judge_rate, uncalibrated
from analysis.judging.separations import check_separation
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import (
    Ceiling,
    Claim,
    Convergence,
    Factor,
    Monotone,
    Ordering,
    ScalingRate,
    Separation,
    WidthExponent,
)
from hyperscale.errors import AnalysisError

JUDGES: dict[type, Callable[[Any, pd.DataFrame], Verdict]] = {
    Ordering: check_ordering,
    Monotone: check_monotone,
    Separation: check_separation,
    Factor: check_factor,
    Convergence: check_convergence,
    WidthExponent: check_width_exponent,
    Ceiling: check_ceiling,
}


def check(claim: Claim, table: pd.DataFrame) -> Verdict:
    """Return the verdict on ``claim`` from the table of trials. Data that cannot decide never raise."""
    missing = [name for name in ("method", "status", *claim.columns) if name not in table.columns]
    present = not table.empty and not missing
    finished = table[table["status"] == "finished"] if present else table.iloc[:0]
    for method in claim.methods:
        if not present or finished[finished["method"] == method].empty:
            absent = f" (no trial reports {', '.join(missing)})" if missing and not table.empty else ""
            return inconclusive(claim, Cause.NO_DATA, f"no trial of {method} has finished{absent}.")
    if isinstance(claim, ScalingRate):
        return _check_rate(claim, table)
    return JUDGES[type(claim)](claim, table)


def _check_rate(claim: ScalingRate, table: pd.DataFrame) -> Verdict:
    own = table[~calibration_rows(claim, table)]
    envelope = build_envelope(own, method=claim.methods[0], metric=claim.metric, size=claim.size)
    if not envelope.points:
        return inconclusive(
            claim,
            Cause.NO_DATA,
            f"no finished trial of {claim.methods[0]} has both {claim.metric} and {claim.size}.",
        )
    try:
        fit = fit_power_law(envelope.sizes, envelope.values)
        uncertainty = exponent_interval(envelope)
    except AnalysisError as problem:
        cause = Cause.UNDERPOWERED if len(envelope.points) < 2 else Cause.NOT_IDENTIFIED
        return replace(inconclusive(claim, cause, str(problem)), envelope=envelope)
    gap, problem_note = _measured_gap(claim, table)
    untaught, shrinking = growing_baseline(own, envelope)
    obstacles = _obstacles(claim, envelope, fit, uncertainty, gap)
    obstacles += [(Cause.UNTAUGHT, untaught)] if untaught else []
    if obstacles:
        verdict = inconclusive(claim, obstacles[0][0], "; ".join(text for _, text in obstacles) + ".")
    else:
        verdict = judge_rate(claim, uncertainty, gap)
    notes = [
        *_notes(envelope, uncertainty),
        *([shrinking] if shrinking else []),
        *problem_note,
        *(gap.notes if gap else ()),
    ]
    interval = uncertainty.interval
    return replace(
        verdict,
        estimate=uncertainty.estimate,
        interval=interval if gap is None or interval is None else (interval[0] + gap.lower, interval[1] + gap.upper),
        notes=tuple(f"{note[0].upper()}{note[1:].rstrip('.')}." for note in notes),
        envelope=envelope,
        fit=fit,
        uncertainty=uncertainty,
        gap=gap,
    )


def _measured_gap(claim: ScalingRate, table: pd.DataFrame) -> tuple[GapSlope | None, list[str]]:
    """Return what the claim's calibration says of the gap, or why it says nothing."""
    if claim.calibration is None:
        return None, []
    try:
        return measure_gap(claim, table), []
    except AnalysisError as problem:
        return None, [f"the optimisation gap is not calibrated: {problem}"]


def _notes(envelope: Envelope, uncertainty: ExponentInterval) -> list[str]:
    notes = [note for note in (envelope.growth_note, envelope.pooled_note, envelope.monotonicity_note) if note]
    if envelope.num_seeds < 2:
        notes.append("some size has a single finished seed, so the interval knows only the scatter of sizes")
    if uncertainty.weighted:
        notes.append(
            "the seeds' scatter drifts with N; sizes are weighted by it, and its share of the minima is taken off"
        )
    if not uncertainty.targets_pooled and uncertainty.num_targets > 1:
        notes.append("the targets' exponents differ by more than chance; the worst target of every size is taken")
    return notes


def _obstacles(
    claim: ScalingRate, envelope: Envelope, fit: PowerLawFit, uncertainty: ExponentInterval, gap: GapSlope | None
) -> list[tuple[Cause, str]]:
    """Return everything that forbids a verdict on the rate, the most basic first."""
    found: list[tuple[Cause, str]] = []
    if len(envelope.points) < MIN_SIZES or fit.octaves < MIN_OCTAVES:
        found.append(
            (
                Cause.UNDERPOWERED,
                f"{len(envelope.points)} sizes over {fit.octaves:.1f} octaves, where at least {MIN_SIZES} "
                f"sizes over {MIN_OCTAVES:g} octaves are needed; add smaller or larger primary networks",
            )
        )
    if not envelope.equal_budget:
        found.append((Cause.BUDGET, f"{envelope.budget_note}; let the study run to its end"))
    if envelope.missing_note:
        found.append((Cause.NO_DATA, f"{envelope.missing_note}; use learning rates at which every target trains"))
    growing = bool(envelope.growth_note)  # every size has bumps of its own height, below which it is meant to come
    if claim.resolution is not None and not growing and min(envelope.values) < claim.resolution:
        found.append(
            (
                Cause.RESOLVED,
                f"the smallest error, {min(envelope.values):.3g}, is below the target's finest structure, "
                f"{claim.resolution:.3g}: from there on the error falls because the target is used up; "
                "use a target with finer levels, or smaller networks",
            )
        )
    if fit.status is not FitStatus.CONVERGED:
        found.append((Cause.NOT_IDENTIFIED, fit.remedy.rstrip(".")))
    if claim.bound == "match" and gap is None:
        found.append((Cause.GAP, uncalibrated(claim)))
    if uncertainty.rises_beyond_noise:
        found.append(
            (Cause.RISING, f"{envelope.monotonicity_note}, by more than its noise; train the larger networks better")
        )
    if uncertainty.estimators_disagree:
        found.append(
            (Cause.ESTIMATORS, f"{uncertainty.disagreement_note}; more seeds at each size would bring them together")
        )
    return found
