"""Verdicts on orderings and monotonicities, paired by seed: the same seed had the same data.

Each seed gives one number (a mean log ratio, or Kendall's tau); the verdict is read off the t-interval of
their mean across seeds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

from analysis.exponents.uncertainty import mean_interval
from analysis.judging.baselines import no_better_than_zero
from analysis.judging.pairing import (
    best_values,
    complete_seeds,
    gaps_between,
    is_size,
    same_members,
    unequal_budget,
)
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Monotone, Ordering, is_error

MIN_SEEDS_OF_STEPS = 3


def check_ordering(claim: Ordering, table: pd.DataFrame) -> Verdict:
    """Judge ``lower < higher`` by the per-seed mean of log(lower / higher) over the values of ``at_each``.

    Each seed takes its best trial over learning rates. Where ``at_each`` counts parameters, the log metric is
    interpolated linearly in log N at the sizes of both methods inside their common range. A metric that is
    not positive everywhere is compared by differences instead. Only seeds whose trials all ended are used.
    """
    low, high = claim.methods
    spent = complete_seeds(table, claim, claim.at_each)
    rows = spent.rows
    unequal = unequal_budget(rows, claim.at_each)
    lows, highs = (
        best_values(rows, method, claim.metric, claim.at_each, smallest=is_error(claim.metric))
        for method in (low, high)
    )
    positive = not any((best.to_numpy() <= 0).any() for best in (lows, highs))
    gaps = gaps_between(lows, highs, interpolate=is_size(claim.at_each), logs=positive)
    gaps, unlike = same_members(gaps, (lows, highs), rows, claim)
    notes = (*spent.notes, *unlike)
    if gaps.empty:
        text = f"{low} and {high} have no seed with finished trials at a common value of {claim.at_each}"
        advice = "compare along a column at each value of which both have the same, such as primary_width"
        text = f"{text} and on the same target; {advice}." if unlike else f"{text}."
        return replace(inconclusive(claim, Cause.UNDERPOWERED, text), notes=notes)
    per_seed = gaps.mean(axis=1).groupby(level="seed").mean()
    mean, interval = mean_interval(per_seed.to_numpy())
    verdict = _judge_order(claim, interval, gaps, "geometric means" if positive else "means")
    if unequal:
        verdict = inconclusive(claim, Cause.BUDGET, f"{unequal}.")
    elif untaught := no_better_than_zero(claim, rows, (lows, highs), claim.at_each):
        verdict = inconclusive(claim, Cause.UNTAUGHT, untaught)
    scale = math.exp if positive else float
    return replace(
        verdict,
        quantity=f"{low} / {high}" if positive else f"{low} − {high}",
        predicted=1.0 if positive else 0.0,
        expectation="< 1" if positive else "< 0",
        estimate=scale(mean),
        interval=None if interval is None else (scale(interval[0]), scale(interval[1])),
        notes=(*notes, *_unshared_note(claim, lows, highs)),
    )


def _judge_order(claim: Ordering, interval: tuple[float, float] | None, gaps: pd.DataFrame, means_are: str) -> Verdict:
    means, num_seeds = gaps.mean(axis=0), gaps.index.get_level_values("seed").nunique()
    low, high = claim.methods
    where = "sizes in their common range" if is_size(claim.at_each) else f"values of {claim.at_each}"
    count = f"the trained {low} is below {high} at {int((means < 0).sum())} of {len(means)} {where}"
    if interval is None:
        return inconclusive(claim, Cause.UNDERPOWERED, f"one seed has no spread; {count}. Run more seeds.")
    count += f", comparing {means_are} over {num_seeds} seeds"
    if interval[1] < 0:
        return Verdict.of(claim, "supported", f"{count}.")
    if interval[0] > 0:
        text = f"the order is the opposite: {count}.{_about_training(claim.metric, low)}"
        return Verdict.of(claim, "contradicted", text)
    return inconclusive(
        claim,
        Cause.UNDERPOWERED,
        f"{count}, but the difference is within the seeds' spread. Run more seeds.",
    )


def _about_training(metric: str, method: str) -> str:
    """Return what a contradicted order of trained errors leaves open, empty for other metrics."""
    if not is_error(metric) or "variance" in metric.lower():
        return ""
    return (
        f" This is about the trained networks: a trained error is an upper bound on the best one, an optimisation gap "
        f"of {method} would look the same, and statements on the best weights are not contradicted by it alone."
    )


def check_monotone(claim: Monotone, table: pd.DataFrame) -> Verdict:
    """Judge a direction by Kendall's tau of the metric against the column, one tau per seed.

    At each value of the column an error takes its minimum over learning rates, another metric its mean. With
    ``each_step`` every step from one value to the next is judged as well.
    """
    spent = complete_seeds(table, claim, claim.along)
    rows = spent.rows
    if unequal := unequal_budget(rows, claim.along):
        return inconclusive(claim, Cause.BUDGET, f"{unequal}.")
    best = best_values(rows, claim.methods[0], claim.metric, claim.along, smallest=is_error(claim.metric))
    taus = _kendall(best)
    if taus.empty:
        text = f"no seed has finished trials at two values of {claim.along}."
        return inconclusive(claim, Cause.UNDERPOWERED, text)
    per_seed = taus.groupby(level="seed").mean()
    mean, interval = mean_interval(per_seed.to_numpy())
    if interval is not None:  # Tau lies in [-1, 1], and a t-interval does not know.
        interval = (max(interval[0], -1.0), min(interval[1], 1.0))
    verdict = _judge_direction(claim, interval, best.shape[1], len(per_seed))
    notes: tuple[str, ...] = ()
    if claim.each_step:
        verdict, notes = _judge_steps(claim, best, verdict)
    return replace(verdict, estimate=mean, interval=interval, notes=(*notes, *spent.notes))


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
        text = f"over {where}, {claim.metric} goes the other way.{_about_steps(claim)}"
        return Verdict.of(claim, "contradicted", text)
    text = f"no direction stands out over {where}; the taus' interval contains 0."
    return inconclusive(claim, Cause.UNDERPOWERED, text)


def _about_steps(claim: Monotone) -> str:
    """Return `_about_training` where a best error should fall: training worse at larger values undoes that."""
    return _about_training(claim.metric, claim.methods[0]) if claim.direction == "decreasing" else ""


def _judge_steps(claim: Monotone, best: pd.DataFrame, overall: Verdict) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a direction at each step, and notes on the steps.

    A step is the mean over seeds of the adjacent difference (of logs, where all are positive). One against the
    direction by more than two standard errors is named and forbids support; it contradicts if it stands out after
    correction for the number of steps (Bonferroni at 1 %; the overall direction contradicts by chance in 2.5 % more).
    """
    sign = 1 if claim.direction == "increasing" else -1
    curves = best.sort_index(axis=1).groupby(level="seed").mean()
    values = curves.to_numpy(np.float64)
    positive = not (values <= 0).any()
    values = np.log(values) if positive else values
    steps = sign * np.diff(values, axis=1)
    counts = np.isfinite(steps).sum(axis=0)
    if len(counts) == 0 or counts.min() < MIN_SEEDS_OF_STEPS:
        fewest = int(counts.min()) if len(counts) else 0
        text = f"{fewest} seeds at some step, where a step needs at least {MIN_SEEDS_OF_STEPS}. Run more seeds."
        return inconclusive(claim, Cause.UNDERPOWERED, text), ()
    means, errors = np.nanmean(steps, axis=0), np.nanstd(steps, axis=0, ddof=1) / np.sqrt(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors > 0, means / errors, np.sign(means) * np.inf)
    against, towards = ratios < -2, int((ratios > 2).sum())
    names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(curves.columns.to_numpy(np.float64))]
    worst = int(np.nanargmin(ratios))
    level = np.nanmean(values, axis=0)
    residual = level - optimize.isotonic_regression(level, increasing=sign > 0).x
    notes = (
        f"{towards} of {len(names)} steps are in the direction by more than two standard errors, {int(against.sum())} "
        f"against it; the isotonic regression of the mean leaves a root mean square of "
        f"{float(np.sqrt((residual**2).mean())):.2g}{' in log units' if positive else ''}.",
    )
    where = (
        f"from {claim.along} {names[worst]} {claim.metric} goes the other way by {-ratios[worst]:.1f} standard errors"
    )
    if float(stats.t.cdf(ratios[worst], counts[worst] - 1)) < 0.01 / len(names):
        text = f"{where}, more than chance gives in {len(names)} steps.{_about_steps(claim)}"
        return Verdict.of(claim, "contradicted", text), notes
    if overall.verdict != "supported":
        return overall, notes
    if against.any():
        return inconclusive(claim, Cause.UNDERPOWERED, f"{where}; more seeds would settle that step."), notes
    text = f"{overall.reason} No step goes the other way by more than two standard errors."
    return Verdict.of(claim, "supported", text), notes


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
