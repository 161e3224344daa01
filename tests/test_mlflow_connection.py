"""Reaching MLflow: what is refused, how long a dead end costs, what users read."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from hyperscale.errors import RecordingError
from hyperscale.recording.mlflow_connection import check_writable
from hyperscale.recording.mlflow_patience import repeat
from hyperscale.recording.mlflow_schema import driver_named, make_sqlite
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


def test_a_half_made_database_never_takes_its_name(tmp_path: Path) -> None:
    """A driver that dies while MLflow makes its tables leaves nothing that the next one could not start from."""
    path = tmp_path / "mlflow.db"

    def die(uri: str) -> None:
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            database.execute("CREATE TABLE experiments (half TEXT)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sqlite(path, die)
    assert list(tmp_path.iterdir()) == []
    MlflowStore(f"sqlite:///{path}").open_study(make_file())


def test_a_busy_database_is_waited_for_and_a_stuck_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that write again and again are no reason to give up; one that holds the lock is."""
    monkeypatch.setattr("hyperscale.recording.mlflow_connection._LOCK_TIMEOUT_S", 0.1)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE t (x)")

        def write() -> None:
            for number in range(10):
                other.execute("BEGIN IMMEDIATE")
                other.execute("INSERT INTO t VALUES (?)", (number,))
                time.sleep(0.09)
                other.execute("COMMIT")

        writer = threading.Thread(target=write)
        writer.start()
        check_writable(f"sqlite:///{path}")
        writer.join()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordingError, match="locked by another program"):
            check_writable(f"sqlite:///{path}")


def test_what_is_in_the_way_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock and a lock, then the answer; any other error at once, and what never ends after a while."""
    answers: list[Exception | str] = [Exception("deadlock detected"), Exception("database is locked"), "answer"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert repeat(ask) == "answer"
    answers[:] = [ValueError("no such run"), "answer"]
    with pytest.raises(ValueError, match="no such run"):
        repeat(ask)
    monkeypatch.setattr("hyperscale.recording.mlflow_patience._LONGEST_S", 0.2)
    answers[:] = [Exception("database is locked")] * 20
    with pytest.raises(Exception, match="database is locked"):
        repeat(ask)


def test_postgres_gets_a_driver_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy 2.1 takes psycopg for ``postgresql://``; with psycopg2 alone the address says so."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "psycopg" else object())
    assert driver_named("postgresql://me@db/m") == "postgresql+psycopg2://me@db/m"
    assert driver_named("postgresql+pg8000://me@db/m") == "postgresql+pg8000://me@db/m"
    assert driver_named("sqlite:///x") == "sqlite:///x"
