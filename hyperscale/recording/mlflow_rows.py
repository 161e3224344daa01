"""Many finished runs in one transaction, where MLflow's database is reached directly.

MLflow's client writes a run in three requests, which are 24 statements and six commits; written as rows, 64 runs are
five statements and one commit, and no run is ever half-written. The rows go into MLflow's own table definitions and
are those that its client would leave (a test compares all five tables). Another version of MLflow than the ones
named here, and a tracking server, get requests.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyperscale.recording.mlflow_layout import Point, Times
from hyperscale.recording.mlflow_patience import repeat

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_KNOWN_VERSIONS = ("3.17.",)
_MAX_KEY, _MAX_PARAM, _MAX_TAG, _MAX_NAME = 250, 6000, 8000, 250
_TABLES = ("SqlRun", "SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric")

Rows = dict[str, list[dict[str, Any]]]  # by the name of the table's class


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run as it is to stand in MLflow, ended."""

    name: str
    status: str
    times: Times
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: Sequence[Point]

    @property
    def fits(self) -> bool:
        """Whether nothing is longer than MLflow takes; what is, its client shortens or refuses."""
        keys = [*self.tags, *self.params, *(point.key for point in self.points)]
        return (
            len(self.name) <= _MAX_NAME
            and all(len(key) <= _MAX_KEY for key in keys)
            and all(len(value) <= _MAX_TAG for value in self.tags.values())
            and all(len(value) <= _MAX_PARAM for value in self.params.values())
        )


def database_of(client: MlflowClient) -> Any | None:
    """Return MLflow's store behind a client where rows may be written to it, otherwise None."""
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    version = str(importlib.import_module("mlflow").__version__)
    if store is None or not version.startswith(_KNOWN_VERSIONS):
        return None
    module = type(store).__module__  # a subclass, such as that with workspaces, keeps more
    return store if module == "mlflow.store.tracking.sqlalchemy_store" else None


def insert_runs(store: Any, experiment_id: str, runs: Sequence[NewRun]) -> list[str]:
    """Write the runs, all or none; return their ids. Repeated while others are in the way."""
    ids = [uuid.uuid4().hex for _ in runs]
    location = str(store.get_experiment(experiment_id).artifact_location)
    rows: Rows = {name: [] for name in _TABLES}
    for run_id, run in zip(ids, runs, strict=True):
        _add_rows(rows, run_id, run, int(experiment_id), location)
    repeat(_insert, store, rows)
    return ids


def _insert(store: Any, rows: Rows) -> None:
    import sqlalchemy as sql

    models = importlib.import_module("mlflow.store.tracking.dbmodels.models")
    with store.ManagedSessionMaker(read_only=False) as session:
        for name in _TABLES:
            if rows[name]:
                session.execute(sql.insert(getattr(models, name).__table__), rows[name])


def _add_rows(rows: Rows, run_id: str, run: NewRun, experiment_id: int, location: str) -> None:
    """Add one run's rows."""
    where = importlib.import_module("mlflow.utils.uri").append_to_uri_path(location, run_id, "artifacts")
    rows["SqlRun"].append(
        {
            "run_uuid": run_id,
            "name": run.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": run.status,
            "start_time": run.times.start_ms,
            "end_time": run.times.end_ms,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": where,
            "experiment_id": experiment_id,
        }
    )
    tags = {**run.tags, "mlflow.runName": run.name}
    rows["SqlTag"] += [{"key": key, "value": value, "run_uuid": run_id} for key, value in tags.items()]
    rows["SqlParam"] += [{"key": key, "value": value, "run_uuid": run_id} for key, value in run.params.items()]
    rows["SqlMetric"] += [_metric_row(point, run_id, run.times.end_ms) for point in dict.fromkeys(run.points)]
    rows["SqlLatestMetric"] += [_metric_row(point, run_id, run.times.end_ms) for point in _latest(run.points)]


def _metric_row(point: Point, run_id: str, timestamp_ms: int) -> dict[str, Any]:
    return {
        "key": point.key,
        "value": point.value,
        "timestamp": timestamp_ms,
        "step": point.step,
        "is_nan": False,
        "run_uuid": run_id,
    }


def _latest(points: Iterable[Point]) -> list[Point]:
    """Return the last point of every metric."""
    found: dict[str, Point] = {}
    for point in points:
        known = found.get(point.key)
        if known is None or (point.step, point.value) > (known.step, known.value):
            found[point.key] = point
    return list(found.values())
