"""How a setting looks in MLflow where a study asks for one run per setting: means, spread, and a table of its seeds.

The metrics have the keys that a trial's run gives them, so that views, charts and sorting are the same; their values
are means over the seeds that finished. ``std/``, ``min/`` and ``max/`` go before the spread of final values (the
deviation is that of a sample: n - 1). Pure functions of the records of one setting's trials.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hyperscale.recording import mlflow_layout as layout
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus

SEEDS_FILE = "seeds.json"
_TABLES_TAG = "mlflow.loggedArtifacts"  # what makes the UI show an artifact as a table


def tags(records: Sequence[TrialRecord], study_name: str) -> dict[str, str]:
    """Return the tags that people search by: a trial's, but for the seed, and how many seeds ended how."""
    first = records[0]
    counts = Counter(record.result.status for record in records)
    named = layout.visible_tags(replace(first, result=replace(first.result, reason="")), study_name)
    found = {name: value for name, value in named.items() if name not in ("seed", "digest")}
    found |= {"kind": "setting", "num_seeds": str(len(records)), "status": status_text(records)}
    found |= {f"num_{status.value}": str(count) for status, count in counts.items()}
    reasons = [f"seed {r.result.seed} {r.result.status.value}: {r.result.reason}" for r in records if r.result.reason]
    if reasons:
        found["reason"] = layout.clip("; ".join(reasons), layout.MAX_REASON)
        found["mlflow.note.content"] = layout.clip("\n".join(f"- {reason}" for reason in reasons))
    if has_table(records):
        found[_TABLES_TAG] = json.dumps([{"path": SEEDS_FILE, "type": "table"}])
    return found


def status_text(records: Sequence[TrialRecord]) -> str:
    """Return ``finished`` where all seeds are, otherwise counts such as ``4 finished, 1 diverged``."""
    counts = Counter(record.result.status for record in records)
    if len(counts) == 1:
        return next(iter(counts)).value
    return ", ".join(f"{counts[status]} {status.value}" for status in TrialStatus if counts[status])


def mlflow_status(records: Sequence[TrialRecord]) -> str:
    """MLflow's word for how the setting ended: FINISHED where any seed did."""
    return layout.mlflow_status(_shown(records).result.status)


def span(records: Sequence[TrialRecord], fallback_ms: int) -> layout.Times:
    """Return when the first of the trials began and the last ended."""
    times = [layout.times(record.result, fallback_ms) for record in records]
    return layout.Times(start_ms=min(time.start_ms for time in times), end_ms=max(time.end_ms for time in times))


def _finished(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.result.status is TrialStatus.FINISHED]


def _shown(records: Sequence[TrialRecord]) -> TrialRecord:
    """Return one record that stands for all: a finished one, if there is any."""
    return next(iter(_finished(records)), records[0])


def metrics(records: Sequence[TrialRecord]) -> list[layout.Point]:
    """Return the mean over the finished seeds of every metric and, step by step, of every curve; and the spread.

    Where no seed finished only the mean wall time is left. A step counts where every finished seed has it.
    """
    finished = _finished(records)
    walls = [wall for r in finished or records if (wall := layout.wall_time_s(r.result)) is not None]
    mean = TrialResult(
        digest="",
        setting_digest="",
        seed=0,
        status=TrialStatus.FINISHED,
        metrics={name: _mean(values) for name, values in _columns(finished).items()},
        curves=_mean_curves(finished),
        provenance={"wall_time_s": _mean(walls)} if walls else {},
    )
    spread = _spread(finished)
    points = layout.metrics(replace(records[0], result=mean), layout.MAX_BATCH_METRICS - len(spread))
    shown = {point.key for point in points if point.step == 0}
    return [*points, *(point for point in spread if point.key.split("/", 1)[1] in shown)]


def _columns(records: Sequence[TrialRecord]) -> dict[str, list[float]]:
    """Return metric -> its values, over the seeds that have it."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.result.metrics.items():
            found.setdefault(name, []).append(value)
    return found


def _mean(values: Sequence[float]) -> float:
    """Return the mean, without overflow on the way."""
    return values[0] if len(set(values)) == 1 else math.fsum(value / len(values) for value in values)


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of the sample; not finite where it is too large to tell."""
    mean = _mean(values)
    largest = max(abs(value - mean) for value in values)
    if largest == 0 or math.isinf(largest):
        return largest
    return largest * math.sqrt(math.fsum(((v - mean) / largest) ** 2 for v in values) / (len(values) - 1))


def _spread(finished: Sequence[TrialRecord]) -> list[layout.Point]:
    """Return deviation (of two seeds or more), least and largest value of the first metrics."""
    points: list[layout.Point] = []
    for name, values in list(_columns(finished).items())[: layout.MAX_METRIC_KEYS]:
        deviation = _deviation(values) if len(values) > 1 else math.nan
        found = {f"std/{name}": deviation, f"min/{name}": min(values), f"max/{name}": max(values)}
        points += [layout.Point(key=k, value=v, step=0) for k, v in found.items() if layout.is_metric(k, v)]
    return points


def _mean_curves(finished: Sequence[TrialRecord]) -> dict[str, list[list[float]]]:
    names = dict.fromkeys(name for record in finished for name in record.result.curves)
    found: dict[str, list[list[float]]] = {}
    for name in names:
        same = [record.result.curves.get(name, []) for record in finished]
        if all(layout.is_history(name, curve) for curve in same):
            found[name] = _mean_curve(same)
    return {name: curve for name, curve in found.items() if curve[0]}


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return the mean of ``[steps, values]`` curves at the steps that all have."""
    by_step = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = [step for step in curves[0][0] if all(step in values for values in by_step)]
    return [steps, [_mean([values[step] for values in by_step]) for step in steps]]


def has_table(records: Sequence[TrialRecord]) -> bool:
    """Whether there is more than one seed to tell apart."""
    return len(records) > 1


def seeds_table(records: Sequence[TrialRecord]) -> str:
    """Return one row a seed as JSON, in the form that MLflow's ``log_table`` writes and its UI shows as a table."""
    names = list(_columns(records))
    columns = ["seed", "status", *names, "wall_time_s", "reason", "digest"]
    return json.dumps({"columns": columns, "data": [_row(record, names) for record in records]})


def _row(record: TrialRecord, names: Sequence[str]) -> list[Any]:
    result, values = record.result, _finite(record.result.metrics)
    known: list[Any] = [result.seed, result.status.value, *(values.get(name) for name in names)]
    return [*known, layout.wall_time_s(result), result.reason, result.digest]


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
