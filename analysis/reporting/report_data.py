"""What ``report.json`` holds of verdicts and curves, as plain data in which nothing is NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.exponents.curves import FitStatus, fit_power_law
from analysis.exponents.envelope import Envelope
from analysis.exponents.uncertainty import exponent_interval
from analysis.judging.verdicts import Verdict
from analysis.reporting.evidence import Evidence
from hyperscale.errors import AnalysisError


def verdict_data(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """Return a verdict with its evidence."""
    uncertainty, gap = verdict.uncertainty, verdict.gap
    return {
        "claim": verdict.claim,
        "theorem": verdict.theorem,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "estimate": verdict.estimate,
        "interval": verdict.interval,
        "predicted": verdict.predicted,
        "kind": verdict.kind,
        "cause": str(verdict.cause),
        "quantity": verdict.quantity,
        "expectation": verdict.expectation,
        "methods": verdict.methods,
        "metric": verdict.metric,
        "statement": verdict.statement,
        "conditions": verdict.conditions,
        "notes": verdict.notes,
        "bootstrap_interval": uncertainty.bootstrap if uncertainty else None,
        "regression_interval": uncertainty.regression if uncertainty else None,
        "gap_slope": gap.slope if gap else None,
        "gap_interval": gap.interval if gap else None,
        "evidence": evidence.to_json(),
    }


def curve_data(envelope: Envelope) -> dict[str, Any]:
    """Return an envelope with its fit; where none exists the numbers are null and the remedy says why."""
    data: dict[str, Any] = {
        "method": envelope.method,
        "metric": envelope.metric,
        "size": envelope.size,
        "exponent": None,
        "interval": None,
        "bootstrap_interval": None,
        "regression_interval": None,
        "log_constant": None,
        "octaves": None,
        "residual_std": None,
        "status": str(FitStatus.NOT_IDENTIFIED),
        "remedy": "",
        "estimator": "",
    }
    try:
        fit = fit_power_law(envelope.sizes, envelope.values)
        sure = exponent_interval(envelope)
        data |= {
            "exponent": sure.estimate,
            "line_exponent": fit.exponent,
            "interval": sure.interval,
            "bootstrap_interval": sure.bootstrap,
            "regression_interval": sure.regression,
            "log_constant": fit.log_constant,
            "octaves": fit.octaves,
            "residual_std": fit.residual_std,
            "status": str(fit.status),
            "remedy": fit.remedy,
            "estimator": fit.estimator,
        }
    except AnalysisError as problem:
        data["remedy"] = str(problem)
    points = [
        {
            "size": p.size,
            "value": p.value,
            "digest": p.digest,
            "seed": p.seed,
            "lr": p.lr,
            "spent": p.num_spent,
            "finished": p.num_finished,
        }
        for p in envelope.points
    ]
    return data | {
        "points": points,
        "equal_budget": envelope.equal_budget,
        "budget_note": envelope.budget_note,
        "monotonicity_note": envelope.monotonicity_note,
        "pooled_note": envelope.pooled_note,
        "growth_note": envelope.growth_note,
    }


def strict(value: Any) -> Any:
    """Return plain JSON data in which whatever is not a finite number or a text is null."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [strict(item) for item in value]
    if value is None or value is pd.NA or isinstance(value, str | bool):
        return None if value is pd.NA else value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)
