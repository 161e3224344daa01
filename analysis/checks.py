"""Claims against data: what the trials let us say of a theorem, in words that do not overreach.

A trained error is an upper bound on an infimum over weights; a sampled target is a lower bound on a supremum
over a class. So an O-claim can be *attained*, an Omega-claim can only fail to be contradicted, and an
inconclusive verdict names what stands in the way. Rates are judged here; orderings and monotonicities in
`analysis.comparisons`, separations of rates and factors in `analysis.separations`, limits and exponents of a
width in `analysis.limits`, bounds of one metric by another in `analysis.ceilings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.ceilings import check_ceiling
from analysis.comparisons import check_monotone, check_ordering
from analysis.curves import FitStatus, PowerLawFit, fit_power_law
from analysis.envelope import Envelope, build_envelope
from analysis.limits import check_convergence, check_width_exponent
from analysis.separations import check_factor, check_separation
from analysis.uncertainty import ExponentInterval, Interval, exponent_interval
from analysis.verdicts import Cause, Verdict, inconclusive
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
TOLERANCE = 0.1
MIN_SIZES = 4
MIN_OCTAVES = 3.0


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
    envelope = build_envelope(table, method=claim.methods[0], metric=claim.metric, size=claim.size)
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
    obstacles = _obstacles(claim, envelope, fit)
    if obstacles:
        verdict = inconclusive(claim, obstacles[0][0], "; ".join(text for _, text in obstacles) + ".")
    else:
        verdict = _judge_rate(claim, uncertainty)
    notes = [note for note in (envelope.pooled_note, envelope.monotonicity_note) if note]
    if envelope.num_seeds < 2:
        notes.append("some size has a single finished seed, so the interval knows only the scatter of sizes")
    return replace(
        verdict,
        estimate=uncertainty.estimate,
        interval=uncertainty.interval,
        notes=tuple(f"{note[0].upper()}{note[1:]}." for note in notes),
        envelope=envelope,
        fit=fit,
        uncertainty=uncertainty,
    )


def _obstacles(claim: ScalingRate, envelope: Envelope, fit: PowerLawFit) -> list[tuple[Cause, str]]:
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
    if claim.resolution is not None and min(envelope.values) < claim.resolution:
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
    return found


def _judge_rate(claim: ScalingRate, uncertainty: ExponentInterval) -> Verdict:
    interval = uncertainty.interval
    if interval is None:
        return inconclusive(claim, Cause.NOT_IDENTIFIED, "the exponent has no interval; add sizes.")
    return _judge_upper(claim, interval) if claim.bound == "upper" else _judge_lower(claim, interval)


def _judge_upper(claim: ScalingRate, interval: Interval) -> Verdict:
    low, high = interval
    least = claim.exponent * (1 - TOLERANCE)
    if low >= least:
        easy = "" if claim.hard_family else " The target is not a worst case, so this is the easier half."
        return Verdict.of(
            claim,
            "attained",
            "the trained networks' envelope falls at least as fast as the theorem says the best networks do, "
            f"over the sizes tried (whole interval above {least:.3g}).{easy}",
        )
    if high < least:
        return Verdict.of(
            claim,
            "not attained",
            "the trained networks' envelope falls more slowly than the rate. A trained error is only an "
            "upper bound on the infimum that the theorem speaks of, and the optimisation gap is not "
            "controlled: this is about the trained networks, and the theorem is not contradicted.",
            cause=Cause.GAP,
        )
    return inconclusive(claim, Cause.UNDERPOWERED, _straddles(interval, least))


def _judge_lower(claim: ScalingRate, interval: Interval) -> Verdict:
    low, high = interval
    most = claim.exponent * (1 + TOLERANCE)
    if high <= most:
        return Verdict.of(
            claim,
            "not contradicted",
            f"the envelope does not fall faster than the bound allows (whole interval below {most:.3g}). An "
            "optimisation gap that grows with N would look the same, so this is no support either.",
        )
    if low > most and claim.hard_family:
        return Verdict.of(
            claim,
            "contradicted",
            "on a target with structure at every scale the envelope falls faster than the bound allows "
            f"(whole interval above {most:.3g}). Check the theorem's conditions first: outside them, or "
            "before the asymptotic range, this is what one would see.",
        )
    if low > most:
        return inconclusive(
            claim,
            Cause.EASY,
            "the envelope falls faster than the bound allows, but the bound is about the hardest target of "
            "the class and this one may be easier; use a target of the hard family.",
        )
    return inconclusive(claim, Cause.UNDERPOWERED, _straddles(interval, most))


def _straddles(interval: Interval, limit: float) -> str:
    return (
        f"the interval from {interval[0]:.3g} to {interval[1]:.3g} contains the limit {limit:.3g}; "
        "more octaves of N or more seeds would narrow it."
    )
