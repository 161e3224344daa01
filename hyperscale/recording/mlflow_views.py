"""Saved views of a study in the MLflow UI.

A saved view is an experiment tag whose name ends in its key; the UI opens it by ``viewStateShareKey=<key>``
and lists it under its name. MLflow does not document the format, so a test pins what is written here, and a
view that someone changed in the UI is left alone.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from hyperscale.study import PER_SETTING, PER_TRIAL

TRIALS = "trials"
SCALING = "scaling"
_TAG = "mlflow.sharedViewState."
_MODES = {TRIALS: "TABLE", SCALING: "CHART"}
_MAX_COLUMNS = 12
_NAME_WIDTH = 290


def view_tags(metrics: Sequence[str], columns: Sequence[str], created_ms: int, form: str = PER_TRIAL) -> dict[str, str]:
    """Return the experiment tags that seed both views.

    ``metrics`` are the study's, most important first; ``columns`` the params worth a column, in order; ``form``
    says whether a run shows a trial or a setting.
    """
    trials = _trials_state(metrics, columns, per_setting=form == PER_SETTING)
    noun = "Settings" if form == PER_SETTING else "Trials"
    scaling = _scaling_state(metrics)
    return {
        f"{_TAG}{TRIALS}": _envelope(f"{noun} by {metrics[0]}", trials, created_ms),
        f"{_TAG}{SCALING}": _envelope(f"{metrics[0]} against N", scaling, created_ms),
    }


def changed_by_hand(value: str) -> bool:
    """Whether someone saved over a seeded view in the UI."""
    try:
        envelope = json.loads(value)
        return bool(envelope["createdAt"] != envelope["updatedAt"])
    except (ValueError, KeyError, TypeError):
        return False


def read_view(value: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the state of a view tag; the inverse of what `view_tags` writes."""
    envelope = json.loads(value)
    packed = envelope["state"].removeprefix("deflate;")
    return envelope["name"], json.loads(zlib.decompress(base64.b64decode(packed)))


def _envelope(name: str, state: Mapping[str, Any], created_ms: int) -> str:
    packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    return json.dumps({"name": name, "createdAt": created_ms, "updatedAt": created_ms, "state": packed})


def _column(group: str, name: str) -> str:
    return f"{group}.`{name}`"


def _trials_state(metrics: Sequence[str], columns: Sequence[str], *, per_setting: bool) -> dict[str, Any]:
    first, others = columns[:3], columns[3:_MAX_COLUMNS]
    shown = [*(_column("params", name) for name in first), _column("tags", "num_seeds" if per_setting else "seed")]
    shown += [_column("metrics", name) for name in metrics[:4]]
    shown += [_column("metrics", f"std/{metrics[0]}")] if per_setting else []
    shown += [_column("tags", "status"), *(_column("params", name) for name in others)]
    shown += [_column("metrics", "wall_time_s")]
    charts = [_line("train_loss", "Training loss", log_steps=True)]
    charts += [_scatter(name) for name in metrics[:2]]
    return {
        "searchFilter": f'tags.kind = "{"setting" if per_setting else "trial"}"',
        "orderByKey": _column("metrics", metrics[0]),
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        **_table(shown),
        "runsHiddenMode": "SHOW_ALL",
        **_charts("Trials", charts),
    }


def _scaling_state(metrics: Sequence[str]) -> dict[str, Any]:
    shown = [_column("tags", "method"), *(_column("tags", f"slope of {name}") for name in metrics[:4])]
    charts = [_line(f"scaling/{name}", f"{name} against N", log_steps=True) for name in metrics[:4]]
    return {
        "searchFilter": 'tags.kind = "curve"',
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        **_table(shown),
        "runsHiddenMode": "SHOW_ALL",
        **_charts("Error against N (the step is N)", charts),
    }


def _table(shown: list[str]) -> dict[str, Any]:
    """Choose the columns, their order and widths; the run's name gets room to be read."""
    name = _column("attributes", "Run Name")
    widths = {column: max(90, 8 * len(column) - 60) for column in shown}
    widths |= {column: 130 for column in shown if column.endswith(".`method`")}
    widths |= {column: 160 for column in shown if ".`slope" in column}
    widths[name] = _NAME_WIDTH
    return {"selectedColumns": shown, "columnOrder": [name, *shown], "columnWidths": widths}


def _charts(section: str, charts: list[dict[str, Any]]) -> dict[str, Any]:
    key = f"hyperscale-{section}"
    return {
        "compareRunSections": [
            {
                "uuid": key,
                "name": section,
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
                "columns": 2,
                "cardHeight": 420,
            }
        ],
        "compareRunCharts": [{**chart, "metricSectionId": key} for chart in charts],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "groupBy": None,
    }


def _line(metric: str, title: str, *, log_steps: bool) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": f"hyperscale-{metric}",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": title,
        "scaleType": "log",
        "xAxisScaleType": "log" if log_steps else "linear",
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "lineSmoothness": 0,
        "displayPoints": True,
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _scatter(metric: str) -> dict[str, Any]:
    return {
        "type": "SCATTER",
        "uuid": f"hyperscale-scatter-{metric}",
        "displayName": f"{metric} against num_params_primary",
        "xaxis": {"key": "num_params_primary", "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def view_address(base: str, experiment_id: str, view: str = TRIALS) -> str:
    """Return the address that opens a study's saved view in the UI at ``base``."""
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": view, "compareRunsMode": _MODES[view]})
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"
