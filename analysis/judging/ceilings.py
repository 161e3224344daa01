"""Verdicts on one metric staying below another of the same trial: in every trial, or on average over seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.exponents.target_keys import target_key
from analysis.judging.pairing import selected_draws
from analysis.judging.slopes import mean_of
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Ceiling

ROUNDING = 1e-6
"""By how much, relatively, rounding alone may carry a value above its ceiling."""
MIN_TRIALS = 5


def check_ceiling(claim: Ceiling, table: pd.DataFrame) -> Verdict:
    """Judge ``metric <= ceiling`` trial by trial, or the mean over seeds of log(metric / ceiling) < 0."""
    rows, num_left_out = selected_draws(table, claim)
    if rows.empty:
        return inconclusive(claim, Cause.NO_DATA, f"no finished trial has {' and '.join(claim.columns)}.")
    values = rows[claim.metric].to_numpy(np.float64)
    above = (
        rows[claim.ceiling].to_numpy(np.float64)
        if isinstance(claim.ceiling, str)
        else np.full(len(rows), claim.ceiling)
    )
    if not (above > 0).all() or not (values >= 0).all():
        text = f"{claim.metric} or its ceiling is negative, or the ceiling 0"
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{text}: no ratio can be formed.")
    ratios = pd.Series(values / above, index=rows.index)
    verdict = _judge_each(claim, rows, ratios) if claim.always else _judge_mean(claim, rows, ratios)
    left_out = f"{num_left_out} finished trials without a finite value left out."
    return replace(verdict, notes=(left_out,) if num_left_out else ())


def _judge_each(claim: Ceiling, rows: pd.DataFrame, ratios: pd.Series) -> Verdict:
    """Return the verdict on a bound that no trial may exceed: one that does is enough, none are never enough."""
    exceeding = int((ratios > 1 + ROUNDING).sum())
    if exceeding:
        seed = rows["seed"].iloc[int(np.argmax(ratios.to_numpy()))]
        text = f"{exceeding} of {len(ratios)} trials exceed the bound, by a factor of {ratios.max():.6g} at seed {seed}"
        verdict = Verdict.of(
            claim, "contradicted", f"{text}. Check how both numbers are computed before anything else."
        )
    elif len(ratios) < MIN_TRIALS:
        text = f"{len(ratios)} trials, none of which exceeds the bound, say little; run at least {MIN_TRIALS}."
        verdict = inconclusive(claim, Cause.UNDERPOWERED, text)
    else:
        share = 1 - 0.05 ** (1 / len(ratios))
        verdict = Verdict.of(
            claim,
            "not contradicted",
            f"none of {len(ratios)} trials exceeds the bound, so at most {share:.2g} of such trials do (95 %). What "
            "was not found is not excluded.",
        )
    return replace(verdict, estimate=float(ratios.max()))


def _judge_mean(claim: Ceiling, rows: pd.DataFrame, ratios: pd.Series) -> Verdict:
    """Return the verdict on a metric that lies below the other on average over seeds, by logs."""
    if (ratios <= 0).any():
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{claim.metric} is 0 in some trial, without a logarithm.")
    logs = np.log(ratios).groupby([target_key(rows), rows["seed"]]).mean().groupby(level=1).mean()
    if len(logs) < 2:
        text = f"one seed has no spread; its ratio is {ratios.mean():.3g}. Run more seeds."
        return replace(inconclusive(claim, Cause.UNDERPOWERED, text), estimate=math.exp(float(logs.mean())))
    mean = mean_of(logs.to_numpy(np.float64))
    low, high = mean.interval()
    count = f"{claim.metric} is below {claim.ceiling} in {int((ratios < 1).sum())} of {len(ratios)} trials"
    if high < 0:
        verdict = Verdict.of(claim, "supported", f"{count}, on average over {len(logs)} seeds.")
    elif low > 0:
        verdict = Verdict.of(claim, "contradicted", f"the order is the opposite: {count} ({len(logs)} seeds).")
    else:
        text = f"{count}, but across {len(logs)} seeds the mean is within its spread. Run more seeds."
        verdict = inconclusive(claim, Cause.UNDERPOWERED, text)
    return replace(verdict, estimate=math.exp(mean.value), interval=(math.exp(low), math.exp(high)))
