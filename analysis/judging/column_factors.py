"""Verdicts on a factor to a known number: a method errs at most so many times a column of its own trials.

The column is an infimum that was computed, or a lower bound on one, so nothing on that side scatters. What a theorem
says exists is exhibited by one network: at each size the best trial counts, whatever its learning rate and seed. A
trained error is an upper bound on the infimum over weights, but the largest error found over (x, I) is a lower bound
on that network's sup norm; a column ``<metric>_bound`` holds its certified bound, and then the verdict goes by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.exponents.calibration import LEAST_RATIO
from analysis.exponents.decisions import MIN_SIZES
from analysis.judging.pairing import MAX_NAMED, complete_seeds, is_size
from analysis.judging.verdicts import Cause, SizeRatio, Verdict, inconclusive
from hyperscale.claims import Factor


def check_column(claim: Factor, table: pd.DataFrame) -> Verdict:
    """Judge ``error <= factor * column`` at every value of ``at_each``, by the best trial and the worst target there.

    Attained where it holds at all of at least `MIN_SIZES` values (by the certified bounds too, where the table has
    them); not attained where at some value the error that was found is larger; inconclusive where only the certified
    bound is.
    """
    spent = complete_seeds(table, claim, claim.at_each)
    rows = spent.rows[(spent.rows["status"] == "finished") & spent.rows[claim.metric].notna()]
    column = claim.reference_column
    assert column is not None
    known = rows[rows[column].notna()]
    if known.empty:
        return inconclusive(claim, Cause.NO_DATA, f"no finished trial has both {claim.metric} and {column}.")
    notes = [*_missing_note(claim, rows, known), *spent.notes]
    wrong = known[~(known[column].astype("float64") > 0) | ~(known[claim.metric].astype("float64") > 0)]
    if not wrong.empty:
        text = f"{claim.metric} or {column} is 0 or less at {_named(claim, list(wrong[claim.at_each].unique()))}"
        text = f"{text}, which leaves no ratio; use targets that no network of these sizes represents."
        return replace(inconclusive(claim, Cause.NOT_IDENTIFIED, text), notes=tuple(notes))
    ratios = size_ratios(claim, known)
    least = min(ratios, key=lambda one: one.ratio)
    if least.ratio < LEAST_RATIO:
        text = f"at {_named(claim, [least.at])} the error is {least.ratio:.3g} times {column}, and none errs less than"
        text = f"{text} an infimum. Correct the column, or look for the largest error on a finer grid."
        return replace(inconclusive(claim, Cause.NOT_IDENTIFIED, text), ratios=ratios, notes=tuple(notes))
    return replace(
        _judge(claim, ratios),
        estimate=max(one.ratio for one in ratios),
        ratios=ratios,
        notes=(*_ratio_notes(claim, ratios), *_varying_note(claim, known), *notes),
    )


def size_ratios(claim: Factor, rows: pd.DataFrame) -> tuple[SizeRatio, ...]:
    """Return the ratio at each value of ``at_each``, rising: of each target's best trial, that of the worst target."""
    bound = f"{claim.metric}_bound"
    data = pd.DataFrame(
        {
            "at": rows[claim.at_each],
            "target": rows["_target"],
            "error": rows[claim.metric].astype("float64"),
            "reference": rows[claim.reference_column].astype("float64"),
            "bound": rows[bound].astype("float64") if bound in rows.columns else np.nan,
        }
    )
    best = data.groupby(["at", "target"]).agg({"error": "min", "reference": "max", "bound": "min"})
    best = best.assign(ratio=best["error"] / best["reference"], certified=best["bound"] / best["reference"])
    worst = best.loc[best.groupby(level="at")["ratio"].idxmax()].droplevel("target")
    grouped = best["certified"].groupby(level="at")
    certified = grouped.max().where(grouped.count() == grouped.size())  # known for every target, or not at all
    return tuple(
        SizeRatio(
            at=row["at"] if isinstance(row["at"], str) else float(row["at"]),
            error=float(row["error"]),
            reference=float(row["reference"]),
            ratio=float(row["ratio"]),
            certified=None if np.isnan(row["certified"]) else float(row["certified"]),
        )
        for row in worst.assign(certified=certified).reset_index().to_dict("records")
    )


def _judge(claim: Factor, ratios: Sequence[SizeRatio]) -> Verdict:
    method, column, factor = claim.methods[0], claim.reference_column, claim.factor
    above = [one for one in ratios if one.ratio > factor]
    certified = [one for one in ratios if one.certified is not None]
    open_still = [one for one in certified if one.certified is not None and one.certified > factor]
    worst = max(ratios, key=lambda one: one.ratio)
    count = (
        f"at {len(ratios) - len(above)} of {_values(claim, len(ratios))} the best trained {method} errs at most "
        f"{factor:.3g} times {column}; the largest ratio is {worst.ratio:.3g}, at {_named(claim, [worst.at])}"
    )
    if above:
        text = f"{count}. It is above at {_named(claim, [one.at for one in above])}. A trained error is only an upper"
        text = f"{text} bound on the infimum over weights, and training may be what misses: the theorem is not"
        return Verdict.of(claim, "not attained", f"{text} contradicted.", cause=Cause.GAP)
    if open_still or (certified and len(certified) < len(ratios)):
        sure = len(certified) - len(open_still)
        text = f"{count}, by the largest errors found; by {claim.metric}_bound, which is certified, it holds at {sure} "
        text = f"{text}of {len(ratios)}. A narrower bracket of the sup norm would settle the others."
        return inconclusive(claim, Cause.NOT_IDENTIFIED, text)
    if len(ratios) < MIN_SIZES:
        text = f"{count}. That is too few to speak of every size; run at least {MIN_SIZES}."
        return inconclusive(claim, Cause.UNDERPOWERED, text)
    if certified:
        every = f"{len(ratios)} of {_values(claim, len(ratios))}"
        by = f"By {claim.metric}_bound, which is certified, it holds at {every} too."
    else:
        by = "By the largest errors found, which are lower bounds on the networks' sup norms; none is certified."
    return Verdict.of(
        claim,
        "attained",
        f"{count}. {by} Nothing is said of other sizes; and where {column} is itself above the infimum, the ratio "
        "flatters.",
    )


def _ratio_notes(claim: Factor, ratios: Sequence[SizeRatio]) -> list[str]:
    each = ", ".join(
        f"{one.at:g}: {one.ratio:.3g}" if isinstance(one.at, float) else f"{one.at}: {one.ratio:.3g}" for one in ratios
    )
    notes = [f"Ratio at each {'N' if is_size(claim.at_each) else claim.at_each}: {each}."]
    certified = [one.certified for one in ratios if one.certified is not None]
    if certified:
        notes.append(
            f"The largest ratio lies between {max(one.ratio for one in ratios):.3g}, found, and {max(certified):.3g}, "
            "certified."
        )
    if min(one.ratio for one in ratios) < 1:
        notes.append(
            f"Some error is {min(one.ratio for one in ratios):.3g} times {claim.reference_column}: what was found of "
            "it is a lower bound."
        )
    return notes


def _varying_note(claim: Factor, rows: pd.DataFrame) -> list[str]:
    """Return a note where one target has several values of the column at one size, of which the largest counts."""
    spans = rows.groupby(["_target", claim.at_each])[str(claim.reference_column)].agg(["min", "max"])
    if (spans["max"] <= spans["min"] * (1 + 1e-9)).all():
        return []
    return [f"{claim.reference_column} has several values at one {claim.at_each}; the largest counts."]


def _missing_note(claim: Factor, rows: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    notes = []
    lost = [at for at in rows[claim.at_each].unique() if at not in set(known[claim.at_each])]
    if lost:
        notes.append(f"Left out, because no trial there has {claim.reference_column}: {_named(claim, lost)}.")
    counts = known.groupby(claim.at_each)["_target"].nunique()
    if counts.nunique() > 1:
        fewer = _named(claim, list(counts.index[counts < counts.max()]))
        notes.append(f"Some target of others has no finished trial at {fewer}.")
    return notes


def _values(claim: Factor, count: int) -> str:
    return f"{count} size{'s' if count > 1 else ''}" if is_size(claim.at_each) else f"{count} values of {claim.at_each}"


def _named(claim: Factor, values: Sequence[float | str]) -> str:
    name = "N" if is_size(claim.at_each) else claim.at_each
    shown = ", ".join(value if isinstance(value, str) else f"{value:g}" for value in list(values)[:MAX_NAMED])
    return f"{name} = {shown}" + (f" and {len(values) - MAX_NAMED} more" if len(values) > MAX_NAMED else "")
