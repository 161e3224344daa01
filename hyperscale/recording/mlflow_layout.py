"""How a trial looks to people in MLflow: its tags, params, metrics, name and times. Pure functions of a record.

Programs read the packed record instead, which `mlflow_packed` puts beside it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperscale.recording.outcomes import ended_ms
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus

MAX_METRIC_KEYS = 20
MAX_BATCH_METRICS = 1000
_MAX_NOTE = 5000
MAX_REASON = 500
_MLFLOW_NAME = re.compile(r"[\w\-.:/ ]{1,250}")
_MLFLOW_STATUS = {TrialStatus.FINISHED: "FINISHED"}
_COLOURS = {  # those of the report's figures: one colour a method throughout
    "Hypernetwork": "#0072B2",
    "Embedding": "#D55E00",
    "Monolithic": "#B0528A",
    "PerInstance": "#009E73",
    "WeightGenerator": "#0072B2",
}
_OTHER_COLOURS = ("#56B4E9", "#C08A00", "#000000")
_NAME_PARTS = {
    "num_params_primary": "N",
    "num_params_total": "N",
    "depth": "depth",
    "lr": "lr",
    "accuracy_weight": "λ",
    "activation": "",
    "optimizer": "",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of one metric at one step."""

    key: str
    value: float
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """When a trial ran, in milliseconds since the epoch: fixed by the record, so retries change nothing."""

    start_ms: int
    end_ms: int


def mlflow_status(status: TrialStatus) -> str:
    """MLflow's word for how a trial ended: FINISHED, or FAILED with the reason in the tags."""
    return _MLFLOW_STATUS.get(status, "FAILED")


def clip(text: str, limit: int = _MAX_NOTE) -> str:
    """Shorten ``text`` to what MLflow accepts, and show that it was shortened."""
    return text if len(text) <= limit else text[: limit - 2] + " …"


def times(result: TrialResult, fallback_ms: int) -> Times:
    """Return when the trial ran, by its provenance's ``ended_at`` and ``wall_time_s``."""
    end_ms = ended_ms(result) or fallback_ms
    return Times(start_ms=max(1, end_ms - round(1000 * (wall_time_s(result) or 0.0))), end_ms=end_ms)


def wall_time_s(result: TrialResult) -> float | None:
    """Return how long the trial took, or None where that is not known."""
    value = result.provenance.get("wall_time_s")
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if finite and value is not None else None


def name_columns(columns: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that a run's name shows: the size, then what differs between a study's settings."""
    found = [name for name in _NAME_PARTS if any(name in row for row in columns)]
    if "num_params_primary" in found and "num_params_total" in found:
        found.remove("num_params_total")
    values = {name: {row[name] for row in columns if name in row} for name in found}
    return tuple(name for name in found if name.startswith("num_params") or len(values[name]) > 1)


def varying_columns(columns: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that differ between a study's settings, in the order they first appear."""
    names = dict.fromkeys(name for row in columns for name in row)
    return tuple(name for name in names if len({row.get(name) for row in columns}) > 1)


def run_name(record: TrialRecord, shown: Iterable[str]) -> str:
    """Return a readable name, such as ``Hypernetwork N=49 lr=0.003 seed=2``."""
    return f"{setting_name(record, shown)} seed={record.result.seed}"


def setting_name(record: TrialRecord, shown: Iterable[str]) -> str:
    """Return the name of the record's setting, such as ``Hypernetwork N=49 lr=0.003``."""
    parts = [str(record.columns.get("method", record.columns.get("kind", "trial")))]
    for name in shown:
        value = record.columns.get(name)
        if value is not None:
            sign = _NAME_PARTS.get(name, name)
            parts.append(f"{sign}={_brief(value)}" if sign else _brief(value))
    return " ".join(parts)


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def colour_tag(method: str) -> dict[str, str]:
    """Return the hidden tag that gives a run the colour of its method in MLflow's charts."""
    other = _OTHER_COLOURS[sum(method.encode()) % len(_OTHER_COLOURS)]
    return {"mlflow.runColor": _COLOURS.get(method, other)}


def visible_tags(record: TrialRecord, study_name: str) -> dict[str, str]:
    """Return the tags that people search by."""
    result = record.result
    tags = {
        "kind": "trial",
        "study": study_name,
        "method": str(record.columns.get("method", "")),
        "seed": str(result.seed),
        "status": result.status.value,
        "setting": result.setting_digest[:12],
        "digest": result.digest,
    }
    if result.reason:
        tags["reason"] = clip(result.reason, MAX_REASON)
        tags["mlflow.note.content"] = f"**{result.status.value}**: {clip(result.reason)}"
    tags |= colour_tag(tags["method"])
    return {name: value for name, value in tags.items() if value}


def params(record: TrialRecord) -> dict[str, str]:
    """Return the setting's columns as MLflow params; what is missing stays missing."""
    texts = {name: str(value) for name, value in record.columns.items() if value is not None}
    return {name: text for name, text in texts.items() if text and _MLFLOW_NAME.fullmatch(name)}


def metrics(record: TrialRecord, most: int = MAX_BATCH_METRICS) -> list[Point]:
    """Return at most 20 metric keys and ``most`` values: final values, curves over steps, wall time."""
    result = record.result
    histories = {name: curve for name, curve in result.curves.items() if is_history(name, curve)}
    kept = dict(list(histories.items())[: MAX_METRIC_KEYS // 4])
    finals = {k: v for k, v in result.metrics.items() if k not in kept and is_metric(k, v)}
    finals = dict(list(finals.items())[: MAX_METRIC_KEYS - len(kept) - 1])
    points = [Point(key=key, value=float(value), step=0) for key, value in finals.items()]
    room = (most - MAX_METRIC_KEYS) // max(1, len(kept))
    for key, (steps, values) in kept.items():
        pairs = _thin(list(zip(steps, values, strict=True)), room)
        points += [Point(key=key, value=float(value), step=int(step)) for step, value in pairs]
    wall = wall_time_s(result)
    if wall is not None and "wall_time_s" not in finals:
        points.append(Point(key="wall_time_s", value=wall, step=0))  # last: MLflow compares by the first
    return points


def is_metric(name: str, value: object) -> bool:
    """Whether MLflow takes the name and charts can show the value."""
    return bool(_MLFLOW_NAME.fullmatch(name)) and isinstance(value, int | float) and math.isfinite(value)


def is_history(name: str, curve: Sequence[Sequence[float]]) -> bool:
    """Whether a curve is a metric over training steps: whole, increasing steps and as many finite values."""
    if len(curve) != 2 or not curve[0] or len(curve[0]) != len(curve[1]) or not _MLFLOW_NAME.fullmatch(name):
        return False
    steps, values = curve
    whole = all(math.isfinite(step) and step == int(step) and 0 <= step < 2**63 for step in steps)
    return whole and all(a < b for a, b in itertools.pairwise(steps)) and all(map(math.isfinite, values))


def _thin(pairs: list[tuple[float, float]], room: int) -> list[tuple[float, float]]:
    """Keep at most ``room`` pairs, the last among them."""
    if len(pairs) <= room:
        return pairs
    stride = math.ceil(len(pairs) / (room - 1))
    return [*pairs[::stride][: room - 1], pairs[-1]]
