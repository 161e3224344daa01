"""Verdicts on factors: a method errs at most so many times what another method does, at every size.

At each size the mean over seeds of the log ratio has a one-sided bound, and the verdict is read off the largest. A
factor to a column, such as a known infimum, is judged in `judging.column_factors`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.judging.baselines import no_better_than_zero
from analysis.judging.column_factors import check_column
from analysis.judging.pairing import (
    best_values,
    complete_seeds,
    gaps_between,
    is_size,
    same_members,
    unequal_budget,
    unlike_note,
    worst_target,
)
from analysis.judging.slopes import mean_of
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Factor


def check_factor(claim: Factor, table: pd.DataFrame) -> Verdict:
    """Judge a factor: to another method's errors, or to a column of the method's own trials."""
    return _to_method(claim, table) if claim.reference_column is None else check_column(claim, table)


def _to_method(claim: Factor, table: pd.DataFrame) -> Verdict:
    """Judge that the ratio of two methods' errors is at most a factor at every size.

    At each size the mean over seeds of the log ratio has a one-sided 95 % upper bound; the claim is attained if
    the largest of these is below the factor (an intersection-union test, which needs no correction for the number
    of sizes). It is not attained if some size's lower bound, corrected for the number of sizes (Bonferroni), lies
    above. The interval runs from the largest lower to the largest upper bound.
    """
    spent = complete_seeds(table, claim, claim.at_each)
    rows = spent.rows
    frames = [best_values(rows, method, claim.metric, claim.at_each, smallest=True) for method in claim.methods]
    worst = [worst_target(frame) for frame in frames]
    method, reference = claim.methods
    if any((frame.to_numpy() <= 0).any() for frame in worst):
        return inconclusive(claim, Cause.NOT_IDENTIFIED, "an error of 0 leaves no ratio; measure it more finely.")
    gaps = gaps_between(worst[0], worst[1], interpolate=is_size(claim.at_each), logs=True)
    gaps, unlike = _comparable(claim, gaps, frames, rows)
    gaps = gaps.loc[:, gaps.count() > 1].dropna(how="all")
    notes = (*spent.notes, *unlike)
    if gaps.empty:
        text = f"{method} and {reference} share no value of {claim.at_each} at which two seeds finished"
        text = f"{text} on the same target." if unlike else f"{text}."
        return replace(inconclusive(claim, Cause.UNDERPOWERED, text), notes=notes)
    ratios = [mean_of(gaps[value].dropna().to_numpy()) for value in gaps.columns]
    overall = mean_of(gaps.mean(axis=1).to_numpy())
    upper = [ratio.value + ratio.half_width(0.95) for ratio in ratios]
    lower = [ratio.value - ratio.half_width(1 - 0.05 / len(ratios)) for ratio in ratios]
    at = list(gaps.columns)[int(np.argmax(lower if max(lower) > math.log(claim.factor) else upper))]
    verdict = _judge_factor(claim, max(lower), max(upper), at)
    if unequal := unequal_budget(rows, claim.at_each):
        verdict = inconclusive(claim, Cause.BUDGET, f"{unequal}.")
    elif untaught := no_better_than_zero(claim, rows, frames, claim.at_each):
        verdict = inconclusive(claim, Cause.UNTAUGHT, untaught)
    bound = math.exp(overall.value + overall.half_width(0.95))
    note = (
        f"On average over {len(ratios)} values the ratio is {math.exp(overall.value):.3g}, at most {bound:.3g} (95 %). "
        "The interval runs from the largest lower bound (corrected for the number of values) to the largest upper one."
    )
    return replace(
        verdict,
        estimate=math.exp(max(ratio.value for ratio in ratios)),
        interval=(math.exp(max(lower)), math.exp(max(upper))),
        notes=(note, *notes),
    )


def _comparable(
    claim: Factor, gaps: pd.DataFrame, frames: list[pd.DataFrame], rows: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the gaps at values where both methods saw the same members of growing targets, and a note on others."""
    if (rows["_member"] == "").all():
        return gaps, ()
    pairs = gaps_between(frames[0], frames[1], interpolate=is_size(claim.at_each), logs=False)
    kept, _ = same_members(pairs, frames, rows, claim)
    whole = [value for value in kept.columns if kept[value].count() == pairs[value].count()]
    return gaps.loc[:, gaps.columns.isin(whole)], unlike_note(
        claim, len(pairs.columns) - len(whole), len(pairs.columns)
    )


def _judge_factor(claim: Factor, lower: float, upper: float, at: object) -> Verdict:
    method, reference = claim.methods
    limit = math.log(claim.factor)
    if upper <= limit:
        return Verdict.of(
            claim,
            "attained",
            f"at every compared value of {claim.at_each} the trained {method} is within the factor, the closest at "
            f"{at}. The trained {reference} stands for its best weights: where its own optimisation gap is large, the "
            "ratio flatters.",
        )
    if lower > limit:
        return Verdict.of(
            claim,
            "not attained",
            f"at {claim.at_each} = {at} the trained {method} errs by more than the factor. A trained error is only an "
            "upper bound on the infimum, and the optimisation gap is not controlled: the theorem is not contradicted.",
            cause=Cause.GAP,
        )
    return inconclusive(
        claim,
        Cause.UNDERPOWERED,
        f"the bounds on the largest ratio, {math.exp(lower):.3g} to {math.exp(upper):.3g}, contain the factor "
        f"{claim.factor:.3g}; more seeds would narrow them.",
    )
