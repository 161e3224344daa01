"""What the MLflow UI opens with, and a server started as `serve_ui` says."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperscale.recording.mlflow_store import SCALING, TRIALS, MlflowStore, serve_ui
from hyperscale.recording.mlflow_views import read_view
from hyperscale.recording.outcomes import fingerprint
from hyperscale.study import PER_SETTING, PER_TRIAL
from tests.ledgers import given
from tests.test_mlflow_store import changed, make_file, make_records


def test_views_are_seeded_and_left_alone_once_changed_by_hand(tmp_path: Path) -> None:
    """The format is undocumented, so it is pinned here."""
    file, store = make_file(), MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}")
    key = store.open_study(file)
    tags = store._client().get_experiment(key).tags
    name, state = read_view(tags[f"mlflow.sharedViewState.{TRIALS}"])
    assert name == "Trials by sup_error"
    assert state["orderByKey"] == "metrics.`sup_error`"
    assert state["selectedColumns"][:2] == ["params.`method`", "params.`num_params_primary`"]
    name, state = read_view(tags[f"mlflow.sharedViewState.{SCALING}"])
    chart = state["compareRunCharts"][0]
    assert (name, chart["metricKey"], chart["xAxisScaleType"]) == ("sup_error against N", "scaling/sup_error", "log")
    by_hand = '{"name": "mine", "createdAt": 1, "updatedAt": 2, "state": "{}"}'
    store._client().set_experiment_tag(key, f"mlflow.sharedViewState.{TRIALS}", by_hand)
    store.open_study(file)
    assert store._client().get_experiment(key).tags[f"mlflow.sharedViewState.{TRIALS}"] == by_hand
    assert f"viewStateShareKey={TRIALS}" in store.address("toy", "http://127.0.0.1:5000/")


def test_the_ui_is_started_small_and_on_loopback(tmp_path: Path) -> None:
    """One worker, no job runner, 127.0.0.1; a server needs no second one."""
    server = serve_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", port=5123)
    words = list(server.command)
    assert words[words.index("--workers") + 1] == "1"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert server.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert server.address == "http://127.0.0.1:5123/#/experiments?workflowType=machine_learning"
    assert serve_ui("https://mlflow.example.org", tmp_path).command == ()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server as `serve_ui` starts it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    ui = serve_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", port=port)
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(ui.command, env=dict(ui.environment), stdout=log, stderr=log, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.mark.slow
@pytest.mark.parametrize("form", [PER_TRIAL, PER_SETTING])
def test_a_server_keeps_the_same_records(form: str, server: str) -> None:
    """The same contract through HTTP, the mark included."""
    file, store = make_file(form), MlflowStore(server)
    records = make_records(file)
    values = [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    records[0] = changed(records[0], curves={"points": [values, values[::-1]]})
    assert store.sync(file, given(records), "launch-1") == 8
    assert store.notices == []
    assert MlflowStore(server).sync(file, given(records), "launch-2") == 0
    assert MlflowStore(server).read_records("toy") == records
    assert MlflowStore(server).is_current(file, fingerprint(given(records).outcomes()))
    assert not MlflowStore(server).is_current(file, fingerprint(given(records[1:]).outcomes()))
