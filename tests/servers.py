"""Servers that a test starts for itself and ends by process id: PostgreSQL, and MLflow's tracking server on it.

Both listen on loopback alone, on ports that the system chose. PostgreSQL refuses to run as root; then it runs as the
user ``postgres`` that Debian's package makes, in a folder of its own under the temporary files, removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_START_S = 60.0
_BINARIES = Path("/usr/lib/postgresql")  # Debian puts them here, outside PATH
_ACCOUNT = "postgres"


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def postgres_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs, or None where there is none."""
    found = sorted(_BINARIES.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    return None if beside is None else Path(beside).resolve().parent


def why_no_postgres() -> str:
    """Return why no PostgreSQL can be started here, or an empty string."""
    if postgres_binaries() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    try:
        import psycopg2  # noqa: F401
    except ModuleNotFoundError:
        return "the Python package psycopg2 is not installed (pip install psycopg2-binary)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_ACCOUNT)
        except KeyError:
            return f"PostgreSQL refuses to run as root, and there is no user {_ACCOUNT!r}"
    return ""


def require_postgres() -> None:
    """Skip the test where there is no PostgreSQL; where ``CI`` is set fail it, so that no one takes it for passed."""
    reason = why_no_postgres()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI is to run the tests of PostgreSQL, but {reason}.")
    if reason:
        pytest.skip(reason)


@dataclass(kw_only=True, slots=True)
class Postgres:
    """A running cluster; `stop` and `start` are its crash and its way back."""

    binaries: Path
    folder: Path
    port: int
    password: str
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    def uri(self, database: str = "postgres", password: str | None = None) -> str:
        """Return the address of a database, with the driver's name: SQLAlchemy 2.1 would otherwise want another."""
        return f"postgresql+psycopg2://tester:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run SQL, each statement in a transaction of its own; return the rows of the last one."""
        import psycopg2

        with closing(psycopg2.connect(self.uri(database).replace("+psycopg2", ""))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, by default an empty one; return its address."""
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.uri(database)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *listen]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log, **_account())
        asked = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        limit = time.monotonic() + _START_S
        while subprocess.run(asked, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"PostgreSQL did not start: {self.log()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts connections off, SIGQUIT is a crash."""
        _end(self.process, how)
        self.process = None

    def log(self) -> str:
        """Return what the server wrote."""
        return (self.folder / "postgres.log").read_text(errors="replace")


def _account() -> dict[str, Any]:
    """Return who PostgreSQL is to run as, for `subprocess`."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    entry = pwd.getpwnam(_ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals, *, group: bool = False) -> None:
    """Ask a process to end, and after a while end it; with ``group`` those too that it has started."""
    if process is None:
        return
    send = os.killpg if group else os.kill
    with contextlib.suppress(ProcessLookupError):
        send(process.pid, how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            send(process.pid, signal.SIGKILL)
        process.wait(20)
    if group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def postgres_cluster(*, durable: bool = False, most_connections: int = 200) -> Iterator[Postgres]:
    """Run a private cluster with one user and password; ``durable`` writes to the disk, as a benchmark must."""
    binaries = postgres_binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="hyperscale-postgres-"))
    cluster = Postgres(
        binaries=binaries,
        folder=folder,
        port=free_port(),
        password=secrets.token_hex(16),
        options=["-c", f"max_connections={most_connections}", *([] if durable else ["-c", "fsync=off"])],
    )
    try:
        words = folder / "password"
        words.touch(mode=0o600)
        words.write_text(cluster.password)
        if os.geteuid() == 0:
            for path in (folder, words):
                shutil.chown(path, _ACCOUNT, _ACCOUNT)
        command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "tester", "-E", "UTF8", "--no-locale"]
        command += ["-A", "scram-sha-256", f"--pwfile={words}", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **_account())
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@dataclass(kw_only=True, slots=True)
class MlflowServer:
    """A running tracking server; `stop` and `start` are its crash and its way back."""

    backend: str
    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    words: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The address, without credentials."""
        return f"http://127.0.0.1:{self.port}"

    def uri_of(self, user: str, password: str) -> str:
        """Return the address with credentials in it."""
        return f"http://{user}:{password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self.folder / "artifacts"), *self.words]
        environment = {**os.environ, **self.environment, "MLFLOW_BACKEND_STORE_URI": self.backend}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        for name in ("PYTEST_CURRENT_TEST", "MLFLOW_TRACKING_URI"):
            environment.pop(name, None)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )
        limit = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"MLflow's server did not start: {self.log()[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server and its worker."""
        _end(self.process, how, group=True)
        self.process = None

    def log(self) -> str:
        """Return what the server wrote."""
        return (self.folder / "server.log").read_text(errors="replace")


@contextmanager
def mlflow_server(backend: str, folder: Path, *, admin_password: str | None = None) -> Iterator[MlflowServer]:
    """Run a tracking server on a database; with a password for the user ``admin`` it lets no one else in."""
    folder.mkdir(parents=True, exist_ok=True)
    environment, words = dict[str, str](), list[str]()
    if admin_password is not None:
        options = folder / "auth.ini"
        options.write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\n"
            f"database_uri = sqlite:///{folder / 'auth.db'}\nauth_cache_ttl_seconds = 60\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        environment = {
            "MLFLOW_AUTH_CONFIG_PATH": str(options),
            "MLFLOW_AUTH_ADMIN_PASSWORD": admin_password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }
        words = ["--app-name", "basic-auth"]
    server = MlflowServer(backend=backend, folder=folder, port=free_port(), environment=environment, words=words)
    try:
        server.start()
        yield server
    finally:
        server.stop()
