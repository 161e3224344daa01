"""A connection to an MLflow tracking store: quiet, bounded in time, and with errors a person can act on."""

from __future__ import annotations

import importlib
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from hyperscale.errors import HyperscaleError, RecordingError
from hyperscale.recording.mlflow_patience import patient
from hyperscale.recording.mlflow_schema import driver_named, make_sqlite, postgres_turn
from hyperscale.recording.secrecy import masked, without_secrets

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_LOCK_TIMEOUT_S, _TURN_S = 5.0, 60.0
_SAFE = "Nothing is lost: the journal has every trial, and `hyperscale sync` with the same options records them here."
_UNREACHABLE = (
    "Max retries",
    "refused",
    "resolve host",
    "could not translate host",
    "could not connect",
    "Can't connect",
    "Connection aborted",
    "closed the connection",
    "terminating connection",
    "shutting down",
    "starting up",
)
_TOO_SLOW = ("timed out", "timeout expired")
_UNKNOWN_USER = ("not authenticated", "error code 401", "authentication failed", "Access denied for user")
_NO_PERMISSION = ("error code 403", "Permission denied", "permission denied")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a run that is asked for twice may be made twice; the recorder searches
    "PGCONNECT_TIMEOUT": "10",
}


def scheme(tracking_uri: str) -> str:
    """Return the kind of store a tracking URI names; raise `RecordingError` where it names none."""
    try:
        parts = urlparse(tracking_uri if isinstance(tracking_uri, str) else "")
    except ValueError:  # brackets that are no address
        parts = urlparse("")
    kind = parts.scheme.split("+")[0]
    if kind in _SERVERS and parts.netloc:
        return kind
    if kind in _DATABASES and "://" in tracking_uri:
        return kind
    raise RecordingError(
        f"{masked(str(tracking_uri))!r} is not an MLflow tracking URI; allowed: sqlite:///PATH/mlflow.db, "
        "http://HOST:PORT or https://HOST of a tracking server, postgresql://…, mysql://…, mssql://…."
    )


def sqlite_path(tracking_uri: str) -> Path | None:
    """Return the database file of an SQLite URI, or None for every other store."""
    if scheme(tracking_uri) != "sqlite":
        return None
    path = tracking_uri.split("://", 1)[1].split("?", 1)[0]
    return Path(path[1:]) if len(path) > 1 else None


@contextmanager
def translated(tracking_uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a one-paragraph `RecordingError`."""
    try:
        yield
    except HyperscaleError:
        raise
    except Exception as error:
        raise RecordingError(_explain(error, tracking_uri)) from error


def _explain(error: Exception, tracking_uri: str) -> str:
    place = f"MLflow at {masked(tracking_uri)}"
    text = without_secrets(" ".join(str(error).split()), tracking_uri)
    if "locked" in text:
        return f"{place} is locked by another program. {_SAFE}"
    if any(words in text for words in _UNKNOWN_USER):
        return f"{place} refused the user name or the password. {_credentials(tracking_uri)} {_SAFE}"
    if any(words in text for words in _NO_PERMISSION):
        return f"{place} knows the user but does not let it do this. Ask for the permission EDIT. {_SAFE}"
    if any(words in text for words in _TOO_SLOW):
        return f"{place} did not answer in time: it has too much to do, or is away. {_SAFE}"
    if any(words in text for words in _UNREACHABLE):
        return f"{place} cannot be reached. Start the server or correct the address. {_SAFE}"
    if "out-of-date database schema" in text:
        upgrade = f"mlflow db upgrade {masked(tracking_uri)}"
        return f"{place} was made by another version of MLflow. Back it up, then: {upgrade}"
    if isinstance(error, ModuleNotFoundError):
        package = "psycopg2-binary" if str(error.name).startswith("psycopg") else error.name
        return f"{place} needs the Python package {error.name!r}: pip install {package}."
    return f"{place} refused: {type(error).__name__}: {text[:400]}"


def _credentials(tracking_uri: str) -> str:
    """Return where a user name and a password are to be given."""
    if scheme(tracking_uri) in _SERVERS:
        return "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or correct the ones in the address."
    return "Correct the ones in the address, or for PostgreSQL set PGPASSWORD."


def connect(tracking_uri: str, *, create: bool) -> MlflowClient:
    """Return a client. A missing SQLite database is created (with WAL) only where ``create`` says so."""
    kind = scheme(tracking_uri)
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists() and not create:
        raise RecordingError(f"There is no MLflow database at {path}. Check the tracking URI, or run the study first.")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise RecordingError(
            f"MLflow records nothing: the Python package {error.name!r} is not installed. {_SAFE} "
            "To install it: pip install mlflow."
        ) from error
    for noisy in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with translated(tracking_uri):
        if kind in _DATABASES:
            warnings.filterwarnings("ignore", message=".*noload.* loader strategy")  # MLflow's mapping uses it
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
        if path is not None and not path.exists():
            _create_sqlite(path)
        if kind == "postgresql":
            with postgres_turn(driver_named(tracking_uri)):
                return _client(driver_named(tracking_uri))
        return _client(tracking_uri)


def _client(tracking_uri: str) -> MlflowClient:
    client: MlflowClient = importlib.import_module("mlflow.tracking").MlflowClient(tracking_uri=tracking_uri)
    return patient(client)


def _create_sqlite(path: Path) -> None:
    try:
        make_sqlite(path, _client)
    except (OSError, sqlite3.Error) as error:
        raise RecordingError(
            f"MLflow's database {path} cannot be created: {error}. Choose another --store or tracking URI."
        ) from error


def peek_experiment_tag(tracking_uri: str, experiment: str, tag: str) -> str | None:
    """Return a tag of an active experiment, read from an SQLite database without MLflow, whose import takes 2 s.

    None where that cannot be done, for whatever reason: then MLflow is to be asked. Changes and creates nothing.
    """
    path = sqlite_path(tracking_uri)
    if path is None or not path.exists():
        return None
    query = (
        "SELECT t.value FROM experiment_tags t JOIN experiments e ON e.experiment_id = t.experiment_id "
        "WHERE e.name = ? AND e.lifecycle_stage = 'active' AND t.key = ?"
    )
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S)) as database:
            database.execute("PRAGMA query_only = ON")
            rows = database.execute(query, (experiment, tag)).fetchall()
    except sqlite3.Error:
        return None
    return str(rows[0][0]) if len(rows) == 1 else None


def check_writable(tracking_uri: str) -> None:
    """Raise `RecordingError` where an SQLite database stays locked for 5 s; MLflow would wait far longer.

    Where others write meanwhile it is busy and not stuck: then a turn is waited for, up to a minute.
    """
    path = sqlite_path(tracking_uri)
    if path is None:
        return
    deadline = time.monotonic() + _TURN_S
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as database:
            before = _changes(database)
            while not _is_free(database):
                after = _changes(database)
                if after == before or time.monotonic() > deadline:
                    raise RecordingError(_explain(sqlite3.OperationalError("database is locked"), tracking_uri))
                before = after
    except sqlite3.Error as error:
        raise RecordingError(_explain(error, tracking_uri)) from error


def _is_free(database: sqlite3.Connection) -> bool:
    """Whether the database could be written to within the connection's patience."""
    try:
        database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return False
        raise
    database.execute("ROLLBACK")
    return True


def _changes(database: sqlite3.Connection) -> object:
    """Return a number that differs once another connection has written; None while an exclusive lock keeps it."""
    try:
        return database.execute("PRAGMA data_version").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return None
        raise
