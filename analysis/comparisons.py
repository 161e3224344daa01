"""Verdicts on orderings and monotonicities, paired by seed: the same seed had the same data.

Each seed gives one number (a mean log ratio, or Kendall's tau); the verdict is read off the t-interval of
their mean across seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.curves import Floats
from analysis.envelope import SPENT, target_key
from analysis.uncertainty import mean_interval
from analysis.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Claim, Monotone, Ordering, is_error

# What predicting 0 everywhere would score, by metric.
BASELINES = {"sup_error": "zero_sup_error", "rmse": "zero_rmse", "test_loss": "zero_loss"}


def is_size(column: str) -> bool:
    """Whether a column counts parameters, so that methods are compared by interpolation in its logarithm."""
    return column.startswith("num_params")


def check_ordering(claim: Ordering, table: pd.DataFrame) -> Verdict:
    """Judge ``lower < higher`` by the per-seed mean of log(lower / higher) over the values of ``at_each``.

    Each seed takes its best trial over learning rates. Where ``at_each`` counts parameters, the log metric is
    interpolated linearly in log N at the sizes of both methods inside their common range. A metric that is
    not positive everywhere is compared by differences instead. Only seeds whose trials all ended are used.
    """
    low, high = claim.methods
    rows, num_left_out = _complete_seeds(table, claim, claim.at_each)
    unequal = _unequal_budget(rows, claim.at_each)
    lows, highs = (_best(rows, method, claim.metric, claim.at_each, smallest=True) for method in (low, high))
    positive = not any((best.to_numpy() <= 0).any() for best in (lows, highs))
    gaps = _gaps(lows, highs, interpolate=is_size(claim.at_each), logs=positive)
    if gaps.empty:
        text = f"{low} and {high} have no seed with finished trials at a common value of {claim.at_each}."
        return inconclusive(claim, Cause.UNDERPOWERED, text)
    per_seed = gaps.mean(axis=1).groupby(level="seed").mean()
    mean, interval = mean_interval(per_seed.to_numpy())
    verdict = _judge_order(claim, interval, gaps, len(per_seed))
    if unequal:
        verdict = inconclusive(claim, Cause.BUDGET, f"{unequal}.")
    elif untaught := _no_better_than_zero(claim, rows, (lows, highs)):
        verdict = inconclusive(claim, Cause.UNTAUGHT, untaught)
    scale = math.exp if positive else float
    return replace(
        verdict,
        quantity=f"{low} / {high}" if positive else f"{low} − {high}",
        predicted=1.0 if positive else 0.0,
        expectation="< 1" if positive else "< 0",
        estimate=scale(mean),
        interval=None if interval is None else (scale(interval[0]), scale(interval[1])),
        notes=(*_left_out_note(num_left_out), *_unshared_note(claim, lows, highs)),
    )


def _no_better_than_zero(claim: Ordering, rows: pd.DataFrame, best: Iterable[pd.DataFrame]) -> str:
    """Return an empty text, or that the methods' typical trials are no better than predicting 0."""
    baseline = BASELINES.get(claim.metric)
    if baseline is None or baseline not in rows.columns or rows[baseline].isna().all():
        return ""
    zero = float(rows[baseline].median())
    if all(float(np.nanmedian(frame.to_numpy())) < 0.9 * zero for frame in best):
        return ""
    return (
        f"the trained networks of at least one method typically err no less than 0.9 of what predicting 0 does "
        f"({zero:.3g}): there is nothing to order yet. Train longer, or with other learning rates."
    )


def _judge_order(claim: Ordering, interval: tuple[float, float] | None, gaps: pd.DataFrame, num_seeds: int) -> Verdict:
    means = gaps.mean(axis=0)
    low, high = claim.methods
    where = "sizes in their common range" if is_size(claim.at_each) else f"values of {claim.at_each}"
    count = f"the trained {low} is below {high} at {int((means < 0).sum())} of {len(means)} {where}"
    if interval is None:
        return inconclusive(claim, Cause.UNDERPOWERED, f"one seed has no spread; {count}. Run more seeds.")
    if interval[1] < 0:
        return Verdict.of(claim, "supported", f"{count}, on average over {num_seeds} seeds.")
    if interval[0] > 0:
        return Verdict.of(claim, "contradicted", f"the order is the opposite: {count} ({num_seeds} seeds).")
    return inconclusive(
        claim,
        Cause.UNDERPOWERED,
        f"{count}, but across {num_seeds} seeds the difference is within its spread. Run more seeds.",
    )


def check_monotone(claim: Monotone, table: pd.DataFrame) -> Verdict:
    """Judge a direction by Kendall's tau of the metric against the column, one tau per seed.

    At each value of the column an error takes its minimum over learning rates, another metric its mean.
    """
    rows, num_left_out = _complete_seeds(table, claim, claim.along)
    best = _best(rows, claim.methods[0], claim.metric, claim.along, smallest=is_error(claim.metric))
    taus = _kendall(best)
    if taus.empty:
        text = f"no seed has finished trials at two values of {claim.along}."
        return inconclusive(claim, Cause.UNDERPOWERED, text)
    per_seed = taus.groupby(level="seed").mean()
    mean, interval = mean_interval(per_seed.to_numpy())
    verdict = _judge_direction(claim, interval, best.shape[1], len(per_seed))
    return replace(verdict, estimate=mean, interval=interval, notes=_left_out_note(num_left_out))


def _judge_direction(claim: Monotone, interval: tuple[float, float] | None, num_values: int, num_seeds: int) -> Verdict:
    sign = 1 if claim.direction == "increasing" else -1
    where = f"{num_values} values of {claim.along} and {num_seeds} seeds"
    by_chance = 2.0 * math.exp(-num_seeds * math.lgamma(num_values + 1))
    if interval is None or by_chance > 0.05:
        text = f"{where}: even a perfect order would be no surprise by chance. Run more seeds or more values."
        return inconclusive(claim, Cause.UNDERPOWERED, text)
    low, high = sorted((sign * interval[0], sign * interval[1]))
    if low > 0:
        return Verdict.of(claim, "supported", f"over {where}, {claim.metric} is {claim.direction}.")
    if high < 0:
        return Verdict.of(claim, "contradicted", f"over {where}, {claim.metric} goes the other way.")
    text = f"no direction stands out over {where}; the taus' interval contains 0."
    return inconclusive(claim, Cause.UNDERPOWERED, text)


def _complete_seeds(table: pd.DataFrame, claim: Claim, column: str) -> tuple[pd.DataFrame, int]:
    """Return the trials spent on seeds that miss none, and the number of other seeds."""
    rows = table[table["method"].isin(claim.methods) & table[column].notna()]
    rows = rows.assign(_target=target_key(rows))
    spent = rows[rows["status"].isin(SPENT)]
    counts = spent.groupby(["seed", "method"]).size().unstack("method")
    counts = counts.reindex(columns=list(claim.methods)).fillna(0)
    complete = counts.index[(counts == counts.max(axis=0)).all(axis=1)]
    num_left_out = rows["seed"].nunique() - len(complete)
    # Where no seed is complete, all are used: the budget check then has the last word.
    return (spent, 0) if complete.empty else (spent[spent["seed"].isin(complete)], num_left_out)


def _unequal_budget(rows: pd.DataFrame, column: str) -> str:
    """Return an empty text where each method had equally many trials at each value, else who had how many."""
    counts = rows.groupby(["method", column]).size()
    if counts.nunique() <= 1:
        return ""
    least, most = (counts[counts == end].reset_index().iloc[0] for end in (counts.min(), counts.max()))
    texts = [f"{int(r.iloc[2])} of {r['method']} at {column} = {r[column]}" for r in (least, most)]
    return f"unequal numbers of trials: {texts[0]}, but {texts[1]}"


def _best(rows: pd.DataFrame, method: str, metric: str, column: str, *, smallest: bool) -> pd.DataFrame:
    """Return the metric, ``[target and seed, value of column]``, over learning rates: smallest, or mean."""
    chosen = rows[(rows["method"] == method) & (rows["status"] == "finished") & rows[metric].notna()]
    chosen = chosen.assign(_value=chosen[metric].astype("float64"))
    grouped = chosen.groupby(["_target", "seed", column])["_value"]
    return (grouped.min() if smallest else grouped.mean()).unstack(column)


def _gaps(lows: pd.DataFrame, highs: pd.DataFrame, *, interpolate: bool, logs: bool) -> pd.DataFrame:
    """Return lower less higher, of logs if ``logs``: ``[target and seed, value]``, where both are known."""
    units = lows.index.intersection(highs.index)
    first, second = lows.loc[units], highs.loc[units]
    if logs:
        first, second = first.transform(np.log), second.transform(np.log)
    if interpolate and units.size:
        values = _common_sizes(lows.columns.to_numpy(np.float64), highs.columns.to_numpy(np.float64))
        first, second = _interpolated(first, values), _interpolated(second, values)
    gaps = first.sub(second)[first.columns.intersection(second.columns)]
    return gaps.dropna(axis=0, how="all").dropna(axis=1, how="all")


def _common_sizes(first: Floats, second: Floats) -> list[float]:
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


def _kendall(frame: pd.DataFrame) -> pd.Series:
    """Return Kendall's tau of each row against its columns' order; rows with one value are left out."""
    data = frame.sort_index(axis=1).to_numpy()
    before, after = np.triu_indices(data.shape[1], k=1)
    signs = np.sign(data[:, after] - data[:, before])
    counted = np.isfinite(signs)
    totals = counted.sum(axis=1)
    sums = np.where(counted, signs, 0.0).sum(axis=1)
    known = totals > 0
    return pd.Series(sums[known] / totals[known], index=frame.index[known])


def _unshared_note(claim: Ordering, lows: pd.DataFrame, highs: pd.DataFrame) -> tuple[str, ...]:
    unshared = lows.columns.symmetric_difference(highs.columns)
    if is_size(claim.at_each) or unshared.empty:
        return ()
    values = ", ".join(str(value) for value in unshared)
    return (f"Left out, because one method only has finished trials there: {claim.at_each} = {values}.",)


def _left_out_note(num_left_out: int) -> tuple[str, ...]:
    if not num_left_out:
        return ()
    return (f"{num_left_out} seed{'s' if num_left_out > 1 else ''} with trials still missing left out.",)
