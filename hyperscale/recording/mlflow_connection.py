"""A connection to an MLflow tracking store: quiet, bounded in time, and with errors a person can act on."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from hyperscale.errors import HyperscaleError, RecordingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_LOCK_TIMEOUT_S = 5.0
_SAFE = "Nothing is lost: the journal has every trial, and `hyperscale sync` with the same options records them here."
_UNREACHABLE = ("Max retries", "refused", "timed out", "resolve host", "could not connect", "Can't connect")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
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


def masked(tracking_uri: str) -> str:
    """Return the URI without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", tracking_uri)


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
    text = masked(" ".join(str(error).split()))
    if "locked" in text:
        return f"{place} is locked by another program. {_SAFE}"
    if any(word in text for word in _UNREACHABLE):
        return f"{place} cannot be reached. Start the server or correct the address. {_SAFE}"
    if "out-of-date database schema" in text:
        upgrade = f"mlflow db upgrade {masked(tracking_uri)}"
        return f"{place} was made by another version of MLflow. Back it up, then: {upgrade}"
    if isinstance(error, ModuleNotFoundError):
        return f"{place} needs the Python package {error.name!r}: pip install {error.name}."
    return f"{place} refused: {type(error).__name__}: {text[:400]}"


def connect(tracking_uri: str, *, create: bool) -> MlflowClient:
    """Return a client. A missing SQLite database is created (with WAL) only where ``create`` says so."""
    kind = scheme(tracking_uri)
    path = sqlite_path(tracking_uri)
    if path is not None:
        _prepare_sqlite(path, create=create)
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
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with translated(tracking_uri):
        if kind in _DATABASES:
            warnings.filterwarnings("ignore", message=".*noload.* loader strategy")  # MLflow's mapping uses it
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
        client: MlflowClient = importlib.import_module("mlflow.tracking").MlflowClient(tracking_uri=tracking_uri)
    return client


def _prepare_sqlite(path: Path, *, create: bool) -> None:
    if path.exists():
        return
    if not create:
        raise RecordingError(f"There is no MLflow database at {path}. Check the tracking URI, or run the study first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S)) as database:
            database.execute("PRAGMA journal_mode=WAL")
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
    """Raise `RecordingError` where an SQLite database stays locked for 5 s; MLflow would wait far longer."""
    path = sqlite_path(tracking_uri)
    if path is None:
        return
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise RecordingError(_explain(error, tracking_uri)) from error
