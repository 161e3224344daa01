"""Trials side by side: complete seeds, equal budgets, best values per seed, and sizes that methods share.

The same seed had the same data in every setting, so methods are compared seed by seed wherever they can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.exponents.curves import Floats
from analysis.exponents.envelope import SPENT
from analysis.exponents.target_keys import target_keys
from hyperscale.claims import Ceiling, Claim, Convergence, Factor, Ordering, WidthExponent

MAX_NAMED = 6
"""How many sizes with diverged trials a note names."""


def is_size(column: str) -> bool:
    """Whether a column counts parameters, so that methods are compared by interpolation in its logarithm."""
    return column.startswith("num_params")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """The trials that a comparison uses: those spent on seeds that miss none, diverged ones included.

    ``rows`` have ``_target``, the target's key along the compared column, and ``_member``, the count of bumps that
    grows along it (`analysis.exponents.target_keys`). ``notes`` are sentences for the verdict: what was left out, and
    what grows.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


def complete_seeds(table: pd.DataFrame, claim: Claim, column: str) -> Spent:
    """Return the trials spent on seeds that miss none, with notes on other seeds and on diverged trials."""
    rows = table[table["method"].isin(claim.methods) & table[column].notna()]
    targets = target_keys(rows, column)
    rows = rows.assign(_target=targets.key, _member=targets.member)
    spent = rows[rows["status"].isin(SPENT)]
    counts = spent.groupby(["seed", "method"]).size().unstack("method")
    counts = counts.reindex(columns=list(claim.methods)).fillna(0)
    complete = counts.index[(counts == counts.max(axis=0)).all(axis=1)]
    # Where no seed is complete, all are used: the budget check then has the last word.
    used = spent if complete.empty else spent[spent["seed"].isin(complete)]
    num_left_out = 0 if complete.empty else rows["seed"].nunique() - len(complete)
    growth = (f"{targets.note[0].upper()}{targets.note[1:]}.",) if targets.note else ()
    return Spent(rows=used, notes=(*growth, *_left_out_note(num_left_out), *_diverged_note(used, column)))


def unequal_budget(rows: pd.DataFrame, column: str) -> str:
    """Return an empty text where each method had equally many trials at each value, else who had how many."""
    counts = rows.groupby(["method", column]).size()
    if counts.nunique() <= 1:
        return ""
    least, most = (counts[counts == end].reset_index().iloc[0] for end in (counts.min(), counts.max()))
    texts = [f"{int(r.iloc[2])} of {r['method']} at {column} = {r[column]}" for r in (least, most)]
    return f"unequal numbers of trials: {texts[0]}, but {texts[1]}"


def best_values(rows: pd.DataFrame, method: str, metric: str, column: str, *, smallest: bool) -> pd.DataFrame:
    """Return the metric, ``[target and seed, value of column]``, over learning rates: smallest, or mean."""
    chosen = rows[(rows["method"] == method) & (rows["status"] == "finished") & rows[metric].notna()]
    chosen = chosen.assign(_value=chosen[metric].astype("float64"))
    grouped = chosen.groupby(["_target", "seed", column])["_value"]
    return (grouped.min() if smallest else grouped.mean()).unstack(column)


def worst_target(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``[seed, value]``: the largest of the targets' values, because theorems bound the worst target."""
    return frame.groupby(level="seed").max()


def gaps_between(lows: pd.DataFrame, highs: pd.DataFrame, *, interpolate: bool, logs: bool) -> pd.DataFrame:
    """Return lower less higher, of logs if ``logs``: ``[target and seed, value]``, where both are known."""
    units = lows.index.intersection(highs.index)
    first, second = lows.loc[units], highs.loc[units]
    if logs:
        first, second = first.transform(np.log), second.transform(np.log)
    if interpolate and units.size:
        values = common_sizes(lows.columns.to_numpy(np.float64), highs.columns.to_numpy(np.float64))
        first, second = _interpolated(first, values), _interpolated(second, values)
    gaps = first.sub(second)[first.columns.intersection(second.columns)]
    return gaps.dropna(axis=0, how="all").dropna(axis=1, how="all")


def same_members(
    gaps: pd.DataFrame, frames: Sequence[pd.DataFrame], rows: pd.DataFrame, claim: Ordering | Factor
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the gaps ``[target and seed, value]`` where both methods saw the same member of a growing family.

    ``frames`` are the two methods' values. A value that was interpolated rests on the two sizes beside it, so all of
    them must have had the same member. The note says at how many values the methods had different targets.
    """
    if (rows["_member"] == "").all():
        return gaps, ()
    members = rows.groupby(["method", "_target", claim.at_each])["_member"].first().to_dict()
    kept = gaps.copy()
    for unit in gaps.index:
        sizes = [frame.columns[frame.loc[unit].notna()] for frame in frames]
        for value in gaps.columns:
            used = [
                members.get((method, unit[0], size))
                for method, own in zip(claim.methods, sizes, strict=True)
                for size in _beside(own, value)
            ]
            if len(set(used)) > 1:
                kept.loc[unit, value] = np.nan
    kept = kept.dropna(axis=0, how="all").dropna(axis=1, how="all")
    return kept, unlike_note(claim, len(gaps.columns) - len(kept.columns), len(gaps.columns))


def unlike_note(claim: Ordering | Factor, lost: int, total: int) -> tuple[str, ...]:
    """Return no note, or one that says at how many values two methods had different members of a target's family."""
    if not lost:
        return ()
    return (
        f"Left out: {lost} of {total} values of {claim.at_each}, at which the two methods had different members of the "
        "target's family; errors on different targets cannot be compared.",
    )


def _beside(sizes: pd.Index, value: object) -> list[object]:
    """Return the value itself where it is among ``sizes``, else the nearest sizes on both sides."""
    if value in sizes:
        return [value]
    below, above = sizes[sizes < value], sizes[sizes > value]
    return [*([below.max()] if len(below) else []), *([above.min()] if len(above) else [])]


def common_sizes(first: Floats, second: Floats) -> list[float]:
    """Return the sizes of both methods, each ``[sizes]``, that lie inside the range that both cover."""
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    return [float(n) for n in np.union1d(first, second) if low <= n <= high]


def _interpolated(frame: pd.DataFrame, sizes: list[float]) -> pd.DataFrame:
    """Interpolate each row linearly in log size; nothing is invented outside a row's own range."""
    known, wanted = np.log(frame.columns.to_numpy(dtype=np.float64)), np.log(sizes)
    rows: list[Floats] = []
    for row in frame.to_numpy():
        seen = np.isfinite(row)
        rows.append(
            np.interp(wanted, known[seen], row[seen], left=np.nan, right=np.nan)
            if seen.any()
            else np.full(len(wanted), np.nan)
        )
    return pd.DataFrame(rows, index=frame.index, columns=sizes)


def _left_out_note(num_left_out: int) -> tuple[str, ...]:
    """Return no note, or one that says how many seeds were left out."""
    if not num_left_out:
        return ()
    return (f"{num_left_out} seed{'s' if num_left_out > 1 else ''} with trials still missing left out.",)


def _diverged_note(rows: pd.DataFrame, column: str) -> tuple[str, ...]:
    """Return no note, or one that names the diverged trials: spent, but without a value to compare."""
    counts = rows[rows["status"] == "diverged"].groupby(["method", column]).size().reset_index(name="count")
    if counts.empty:
        return ()
    named = [f"{row['count']} of {row['method']} at {column} = {row[column]}" for row in counts.to_dict("records")]
    more = f" and at {len(named) - MAX_NAMED} more values" if len(named) > MAX_NAMED else ""
    total = int(counts["count"].sum())
    return (
        f"{total} diverged trial{'s count' if total > 1 else ' counts'} as spent and left out otherwise: "
        f"{', '.join(named[:MAX_NAMED])}{more}.",
    )


def selected_draws(table: pd.DataFrame, claim: Convergence | WidthExponent | Ceiling) -> tuple[pd.DataFrame, int]:
    """Return the finished trials that a claim about draws speaks of, and how many had a number missing or infinite.

    Left out with them are trials in which a column of the claim, the metric among them, has no finite value.
    """
    rows = table[(table["method"] == claim.methods[0]) & (table["status"] == "finished")]
    for name, value in claim.selection.items():
        rows = rows[rows[name] == value]
    numbers = [name for name in claim.columns if name not in claim.selection]
    finite = np.isfinite(rows[numbers].astype("float64").to_numpy(np.float64, na_value=np.nan)).all(axis=1)
    return rows[finite], int((~finite).sum())
