"""Runs written as rows: the same tables as MLflow's client leaves, and the client wherever rows cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hyperscale.recording import mlflow_rows
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.study import PER_SETTING
from tests.ledgers import given
from tests.mlflow_faults import counted
from tests.test_mlflow_store import changed, make_file, make_records, runs

_COLUMNS = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, deleted_time, "
    "source_version, lifecycle_stage",
    "tags": "key, value",
    "params": "key, value",
    "metrics": "key, value, timestamp, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan",
}


def _tables(uri: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what the tables have of trials, apart from ids and places, with the run's digest beside each row."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        return {
            table: sorted(
                database.execute(
                    f"SELECT d.value, {', '.join(f't.{name}' for name in columns.split(', '))} FROM {table} t "
                    "JOIN tags d ON d.run_uuid = t.run_uuid AND d.key = 'digest'"
                    + (" WHERE t.key != 'mlflow.parentRunId'" if table == "tags" else "")
                ),
                key=repr,
            )
            for table, columns in _COLUMNS.items()
        }


def test_rows_are_those_that_the_client_would_leave(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All five tables, all columns: finished, diverged and failed trials, curves over steps and others."""
    file = make_file()
    records = make_records(file)
    ours, theirs = fresh(), fresh()
    assert MlflowStore(ours).sync(file, given(records), "launch") == len(records)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_rows, "_KNOWN_VERSIONS", ())
        assert MlflowStore(theirs).sync(file, given(records), "launch") == len(records)
    assert _tables(ours) == _tables(theirs)
    assert all(_tables(ours).values())
    for uri in (ours, theirs):
        store = MlflowStore(uri)
        root = Path(uri.removeprefix("sqlite:///")).parent / "artifacts" / "toy"
        assert all(run.info.artifact_uri == f"{root.as_uri()}/{run.info.run_id}/artifacts" for run in runs(store))


def test_a_hundred_trials_take_a_request_or_two(fresh: Callable[[], str]) -> None:
    """One transaction a batch; MLflow's client is asked for the launch only."""
    file = make_file(seeds=range(25))
    records = make_records(file)
    store = MlflowStore(fresh())
    parent = store.begin_launch("launch", file, len(records))
    database = mlflow_rows.database_of(store._client())
    assert database is not None
    assert store.record("toy", records, parent) == 100
    assert store.record("toy", records, parent) == 0
    assert store.read_records("toy") == records


def test_what_rows_cannot_hold_goes_through_the_client(fresh: Callable[[], str]) -> None:
    """Curves that need an artifact, text beyond MLflow's limits, and settings as runs."""
    file = make_file()
    values = [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    records = make_records(file)
    records[0] = changed(records[0], curves={"points": [values, values[::-1]]})
    store = MlflowStore(fresh())
    assert store.sync(file, given(records), "launch") == len(records)
    assert store.read_records("toy") == records
    store = MlflowStore(fresh())
    file = make_file(PER_SETTING)
    parent = store.begin_launch("launch", file, 2)
    with counted(store) as calls:
        assert store.record("toy", records[2:4], parent) == 2
    assert calls["create_run"] == 1


def test_too_long_a_text_does_not_fit() -> None:
    """Then the client decides what to do with it."""
    times = mlflow_rows.Times(start_ms=1, end_ms=2)
    short = mlflow_rows.NewRun(name="n", status="FINISHED", times=times, tags={"a": "b"}, params={"c": "d"}, points=[])
    assert short.fits
    for fields in ({"tags": {"a": "b" * 8001}}, {"params": {"c": "d" * 6001}}, {"params": {"c" * 251: "d"}}):
        long = {"tags": short.tags, "params": short.params, **fields}
        assert not mlflow_rows.NewRun(name="n", status="FINISHED", times=times, points=[], **long).fits
