"""The first moments of an MLflow database, when several drivers may find it empty at once.

MLflow creates its tables without any lock: of two drivers that start on an empty database one fails, and in SQLite,
where changes of tables are no transactions, what is left cannot be opened any more. So an SQLite database is made
under another name and moved into place whole, and in PostgreSQL the drivers take turns.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_LOCK_KEY = 7041996318  # any number; the same in every driver
_CONNECT_S = 10
_TURN_S = 120


def driver_named(tracking_uri: str) -> str:
    """Return the address of a PostgreSQL database with a driver that is installed.

    ``postgresql://`` means psycopg2 to SQLAlchemy before 2.1 and psycopg from then on.
    """
    start, _, rest = tracking_uri.partition("://")
    if start != "postgresql" or importlib.util.find_spec("psycopg") or not importlib.util.find_spec("psycopg2"):
        return tracking_uri
    return f"postgresql+psycopg2://{rest}"


def make_sqlite(path: Path, create: Callable[[str], object]) -> None:
    """Make a database with a write-ahead log, unless there is one; ``create`` fills the one at its URI with tables.

    A driver that is killed meanwhile leaves a folder behind, and no half-made database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _folder_lock(path.parent):
        if path.exists():
            return
        with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
            filled, whole = Path(folder) / "filled.db", Path(folder) / "whole.db"
            create(f"sqlite:///{filled}")
            with closing(sqlite3.connect(filled)) as source, closing(sqlite3.connect(whole)) as target:
                source.backup(target)  # MLflow's own connection keeps the first file open
                target.execute("PRAGMA journal_mode=WAL")
            with suppress(FileExistsError):
                os.link(whole, path)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder while a database is made in it, where the file system can; the link decides in any case."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def postgres_turn(tracking_uri: str) -> Iterator[None]:
    """Hold a lock of the database within the block if it has no tables yet. Fails at once where it is not reached."""
    import sqlalchemy as sql
    from sqlalchemy.pool import NullPool

    engine = sql.create_engine(tracking_uri, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_S})
    with engine.connect() as connection:
        try:
            known = connection.execute(sql.text("SELECT 1 FROM experiments WHERE experiment_id = 0")).first()
        except sql.exc.ProgrammingError:
            known = None
        connection.rollback()
        if known is None:
            connection.execute(sql.text(f"SET LOCAL lock_timeout = '{_TURN_S}s'"))
            connection.execute(sql.text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
        yield
