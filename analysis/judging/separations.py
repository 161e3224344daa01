"""Verdicts on two methods' rates: one falls faster than the other.

Each seed has its own envelope: at every size its best trial over learning rates, the worst of the targets. The
mean over seeds of the logs has the mean of the seeds' slopes as its slope, so one number carries two
uncertainties: the spread over seeds, and the scatter of the sizes about a line. The interval is the hull of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.exponents.curves import Floats
from analysis.exponents.decisions import MIN_OCTAVES, MIN_SIZES, TOLERANCE
from analysis.exponents.uncertainty import Interval, hull
from analysis.judging.baselines import no_better_than_zero
from analysis.judging.pairing import (
    best_values,
    complete_seeds,
    unequal_budget,
    worst_target,
)
from analysis.judging.slopes import Estimate, difference_of, mean_of, row_slopes, slope_of_line
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Separation


@dataclass(frozen=True, kw_only=True, slots=True)
class SlopeDifference:
    """The exponent of the first method less that of the second, with how it was compared."""

    estimate: float
    interval: Interval
    over_seeds: Interval
    over_sizes: Interval
    paired_seeds: bool
    paired_sizes: bool
    of_minima: float
    """The same difference for the envelopes that take the minimum over seeds too."""


def check_separation(claim: Separation, table: pd.DataFrame) -> Verdict:
    """Judge that the first method's exponent exceeds the second's, by the difference of their slopes.

    Only the sizes inside the common range of both methods are used, so that a bend of the curves cannot pass
    for a difference of methods. Where the target's number of bumps grows with N, each method's curve is that of the
    family at its own sizes, which is what the exponents of worst cases are about.
    """
    spent = complete_seeds(table, claim, claim.size)
    rows = spent.rows
    frames = [best_values(rows, method, claim.metric, claim.size, smallest=True) for method in claim.methods]
    first, second = _common_range(*(worst_target(frame) for frame in frames))
    if obstacles := _obstacles(claim, rows, frames, (first, second)):
        verdict = inconclusive(claim, obstacles[0][0], "; ".join(text for _, text in obstacles) + ".")
        return replace(verdict, notes=spent.notes)
    measured = compare_slopes(first, second)
    if measured is None:
        return inconclusive(claim, Cause.UNDERPOWERED, "a single seed has no spread; run at least two seeds.")
    return replace(
        _judge_separation(claim, measured),
        estimate=measured.estimate,
        interval=measured.interval,
        notes=(*_separation_notes(claim, measured), *spent.notes),
    )


def _common_range(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both frames restricted to the sizes inside the range that both methods cover."""
    if first.empty or second.empty:
        return first.iloc[:, :0], second.iloc[:, :0]
    low = max(first.columns.min(), second.columns.min())
    high = min(first.columns.max(), second.columns.max())
    cut = [frame.loc[:, (frame.columns >= low) & (frame.columns <= high)] for frame in (first, second)]
    return cut[0], cut[1]


def _obstacles(
    claim: Separation, rows: pd.DataFrame, frames: list[pd.DataFrame], common: tuple[pd.DataFrame, pd.DataFrame]
) -> list[tuple[Cause, str]]:
    """Return everything that forbids a verdict on the separation, the most basic first."""
    found: list[tuple[Cause, str]] = []
    for method, frame in zip(claim.methods, common, strict=True):
        sizes = frame.columns.to_numpy(np.float64)
        octaves = math.log2(sizes.max() / sizes.min()) if len(sizes) else 0.0
        if len(sizes) < MIN_SIZES or octaves < MIN_OCTAVES:
            found.append(
                (
                    Cause.UNDERPOWERED,
                    f"{method} has {len(sizes)} sizes over {octaves:.1f} octaves inside the range that both methods "
                    f"cover, where at least {MIN_SIZES} sizes over {MIN_OCTAVES:g} octaves are needed",
                )
            )
    if found:
        return found
    if unequal := unequal_budget(rows, claim.size):
        found.append((Cause.BUDGET, unequal))
    smallest = min(float(np.nanmin(frame.to_numpy())) for frame in common)
    if smallest <= 0:
        found.append((Cause.NOT_IDENTIFIED, f"an error is {smallest:.3g}, which has no logarithm"))
    elif claim.resolution is not None and smallest < claim.resolution:
        text = f"the smallest error, {smallest:.3g}, is below the target's finest structure, {claim.resolution:.3g}"
        found.append((Cause.RESOLVED, f"{text}; use a target with finer levels, or smaller networks"))
    if untaught := no_better_than_zero(claim, rows, frames, claim.size):
        found.append((Cause.UNTAUGHT, untaught.rstrip(".")))
    return found


def compare_slopes(first: pd.DataFrame, second: pd.DataFrame) -> SlopeDifference | None:
    """Return the difference of exponents of two frames of positive errors ``[seed, size]``, None with one seed.

    Seeds that both have are paired, else the two means are compared with Welch's degrees of freedom. Equal sizes
    are paired too (the line is fitted to the log ratio), which removes what is common to both methods.
    """
    logs = [np.log(frame.to_numpy(np.float64)) for frame in (first, second)]
    x = [np.log(frame.columns.to_numpy(np.float64)) for frame in (first, second)]
    per_seed = [
        pd.Series(-row_slopes(at, values), index=frame.index, dtype=np.float64).dropna()
        for at, values, frame in zip(x, logs, (first, second), strict=True)
    ]
    common = per_seed[0].index.intersection(per_seed[1].index)
    paired_seeds = len(common) > 1
    if paired_seeds:
        over_seeds = mean_of(np.asarray(per_seed[0][common] - per_seed[1][common]))
    elif all(len(slopes) > 1 for slopes in per_seed):
        over_seeds = difference_of(*(mean_of(np.asarray(slopes)) for slopes in per_seed))
    else:
        return None
    means = [np.nanmean(values, axis=0) for values in logs]
    over_sizes, paired_sizes = _difference_over_sizes(x, means)
    minima = [-row_slopes(at, np.nanmin(values, axis=0)[None])[0] for at, values in zip(x, logs, strict=True)]
    interval = hull(over_seeds.interval(), over_sizes.interval())
    assert interval is not None
    return SlopeDifference(
        estimate=over_seeds.value,
        interval=interval,
        over_seeds=over_seeds.interval(),
        over_sizes=over_sizes.interval(),
        paired_seeds=paired_seeds,
        paired_sizes=paired_sizes,
        of_minima=float(minima[0] - minima[1]),
    )


def _difference_over_sizes(x: list[Floats], means: list[Floats]) -> tuple[Estimate, bool]:
    if len(x[0]) == len(x[1]) and np.allclose(x[0], x[1]):
        return slope_of_line(x[0], means[1] - means[0]), True
    slopes = [slope_of_line(at, values) for at, values in zip(x, means, strict=True)]
    return difference_of(slopes[1], slopes[0]), False


def _judge_separation(claim: Separation, measured: SlopeDifference) -> Verdict:
    low, high = measured.interval
    faster, slower = claim.methods
    if low > 0:
        return Verdict.of(
            claim,
            "supported",
            f"over the sizes that both methods cover, the trained {faster}'s envelope falls faster than the "
            f"trained {slower}'s. The rates speak of the best weights: an optimisation gap of {slower} that grows "
            "with N would look the same.",
        )
    if not claim.hard_family and high < claim.difference * (1 - TOLERANCE):
        return inconclusive(
            claim,
            Cause.EASY,
            f"the envelopes do not separate as the rates do, but the rate of {slower} is about the hardest target of "
            "the class and this one may be easier; use a target of the hard family.",
        )
    if high < 0:
        return Verdict.of(
            claim,
            "contradicted",
            f"the order of the slopes is the opposite: the trained {slower}'s envelope falls faster. This is about "
            f"the trained networks: an optimisation gap of {faster} that grows with N would look the same, and the "
            "theorems speak of the best weights.",
        )
    if high < claim.difference * (1 - TOLERANCE):
        return Verdict.of(
            claim,
            "not attained",
            "the trained envelopes' slopes may differ, but by less than the rates do and not by more than their own "
            f"uncertainty. An optimisation gap of {faster} that grows with N would look the same: this is about the "
            "trained networks, and the theorems are not contradicted.",
            cause=Cause.GAP,
        )
    return inconclusive(
        claim,
        Cause.UNDERPOWERED,
        f"the interval of the difference, {low:.3g} to {high:.3g}, contains both 0 and the rates' difference "
        f"{claim.difference:.3g}; more octaves of N or more seeds would narrow it.",
    )


def _separation_notes(claim: Separation, measured: SlopeDifference) -> tuple[str, ...]:
    low, high = measured.interval
    seeds = "paired by seed" if measured.paired_seeds else "seeds not paired (Welch's degrees of freedom)"
    sizes = "paired by size" if measured.paired_sizes else "sizes not shared (Welch's degrees of freedom)"
    notes = [f"Slopes {seeds}, {sizes}."]
    if high < claim.difference * (1 - TOLERANCE):
        notes.append("The whole interval lies below the difference that the two rates have.")
    if not low <= measured.of_minima <= high:
        text = f"the envelopes over all seeds differ by {measured.of_minima:.3g}, outside the interval"
        notes.append(f"Taking the minimum over seeds as well, {text}.")
    return tuple(notes)
