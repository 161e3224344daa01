"""Reaching MLflow: what is refused, how long a dead end costs, what users read."""

from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from hyperscale.errors import RecordingError
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.secrecy import masked
from tests.test_mlflow_store import make_file


@pytest.mark.parametrize("given", ["results/mlflow.db", "mlflow.db", "", "ftp://host/x", "http://", "C:\\x"])
def test_what_is_no_tracking_uri_is_refused(given: str) -> None:
    """The message names what is allowed; no folder is made of a typo."""
    with pytest.raises(RecordingError, match="not an MLflow tracking URI; allowed: sqlite:///"):
        MlflowStore(given)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Garbage in place of the database is an error, not a traceback."""
    (tmp_path / "mlflow.db").write_text("hello " * 1000)
    with pytest.raises(RecordingError, match="MLflow at sqlite"):
        MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}").open_study(make_file())


def test_a_new_database_uses_a_write_ahead_log(tmp_path: Path) -> None:
    """Readers and writers do not block each other."""
    path = tmp_path / "new" / "mlflow.db"
    MlflowStore(f"sqlite:///{path}").open_study(make_file())
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_dead_server_costs_seconds() -> None:
    """One paragraph within seconds, not minutes of retries."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(RecordingError, match=f"127.0.0.1:{port} cannot be reached") as caught:
        MlflowStore(f"http://127.0.0.1:{port}").open_study(make_file())
    assert time.monotonic() - started < 15
    assert "\n" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    """Messages never carry a database password."""
    assert masked("postgresql://me:secret@db/mlflow") == "postgresql://me:***@db/mlflow"
