"""The MLflow UI as a server of its own: on loopback, and beyond it only with a password.

MLflow's server lets whoever reaches it read, change and delete everything. So an address that others can reach is
refused unless MLflow's basic authentication is on. Passwords go to the server in its environment, where `ps` does not
show them.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import importlib.util
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperscale.errors import RecordingError
from hyperscale.recording.credentials import check_private
from hyperscale.recording.mlflow_connection import connect, scheme

_CONFIG, _PASSWORD, _USER = "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_ADMIN_USERNAME"
_HOSTS, _ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
_SHORTEST_PASSWORD = 12  # MLflow's own rule
_KNOWN_PASSWORDS = ("password", "admin", "mlflow", "hyperscale", "changeme", "letmein", "qwerty", "123456")
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",  # of its own parts, which its users cannot mend
}
_AUTH_CONFIG = """[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""
_START_S, _POLL_S = 120.0, 0.2
_HOW = (
    f"Set {_PASSWORD} to a password of {_SHORTEST_PASSWORD} characters or more for the user admin (or "
    f"{_CONFIG} to a file of mode 600 with admin_password in it), which turns MLflow's basic authentication on; "
    "or leave --host out and reach the UI through an SSH tunnel: ssh -L 5000:127.0.0.1:5000 THIS-MACHINE."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UiServer:
    """A command that starts the MLflow UI, its environment, and the address to print.

    ``command`` is empty where the tracking URI is a server already: then only open ``address``. ``note`` is what to
    know about it, if anything; ``health`` is an address that answers once the server does.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str
    note: str = ""
    health: str = ""

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server answers; raise `RecordingError` where it ends before, or takes two minutes."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # nobody listens yet
                with contextlib.suppress(urllib.error.HTTPError):  # an answer, too
                    opener.open(self.health, timeout=5).close()
                return
            time.sleep(_POLL_S)
        how = (
            f"ended with code {process.returncode}" if process.poll() is not None else f"was silent for {_START_S:g} s"
        )
        raise RecordingError(f"MLflow's server did not start: it {how}. What it said is above.")


def serve_ui(
    tracking_uri: str,
    artifacts: Path | str,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    auth: bool = False,
    state: Path | None = None,
) -> UiServer:
    """Return how to start the MLflow UI on a store: one worker, no job runner, no telemetry.

    With ``auth``, or where the environment has a password for it, people must log in; what MLflow knows of them lies
    in the folder ``state``. A missing SQLite database is created, so that the UI of a new store opens empty. Raises
    `RecordingError`, for one where ``host`` is not of this machine alone and nobody must log in.
    """
    if scheme(tracking_uri) in ("http", "https"):
        return UiServer(command=(), address=f"{tracking_uri.rstrip('/')}/#/experiments?workflowType=machine_learning")
    auth = auth or bool(os.environ.get(_CONFIG)) or _PASSWORD in os.environ
    local = _is_loopback(host)
    if not local and not auth:
        raise RecordingError(
            f"--host {host} would let everybody who reaches this machine read, change and delete what MLflow has. "
            f"{_HOW}"
        )
    _check_free(host, port)
    added = _authentication(state or Path(artifacts).parent) if auth else {}
    names = _names(host)
    added |= {_HOSTS: ",".join(_allowed_hosts(names)), _ORIGINS: ",".join(f"http://{name}:{port}" for name in names)}
    connect(tracking_uri, create=True)
    options = {"--artifacts-destination": str(artifacts), "--host": host, "--port": str(port), "--workers": "1"}
    options |= {"--uvicorn-opts": "--log-level=warning"}
    options |= {"--app-name": "basic-auth"} if auth else {}
    command = (sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair))
    given = {name: os.environ[name] for name in (_HOSTS, _ORIGINS, _KEY) if os.environ.get(name)}
    environment = {**os.environ, **_QUIET, **added, **given, "MLFLOW_BACKEND_STORE_URI": tracking_uri}
    note = "" if local else "Nothing on the way is encrypted: on a network that you do not trust, put HTTPS before it."
    address = f"http://{names[0]}:{port}/#/experiments?workflowType=machine_learning"
    nearest = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    health = f"http://{_bracketed(nearest)}:{port}/health"
    return UiServer(command=command, environment=environment, address=address, note=note, health=health)


def _check_free(host: str, port: int) -> None:
    """Raise `RecordingError` where the server could not listen: MLflow would say so after half a minute, and badly."""
    problems: list[OSError | UnicodeError] = []
    places: list[Any] = []
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        problems.append(problem)
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(place)
        except OSError as problem:
            problems.append(problem)
    busy = any(getattr(problem, "errno", None) == errno.EADDRINUSE for problem in problems)
    if busy or (problems and len(problems) >= len(places)):
        why = "something listens there already" if busy else getattr(problems[0], "strerror", None) or str(problems[0])
        raise RecordingError(
            f"The UI cannot listen at {_bracketed(host.strip('[]'))}:{port}: {why}. Choose another --port"
            + (f", such as --port {min(port + 1, 65535)}." if busy else " or --host.")
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _names(host: str) -> list[str]:
    """Return the names under which browsers reach a server that binds ``host``, the one to print first."""
    bare = host.strip("[]")
    if _is_loopback(host):
        return list(dict.fromkeys([_bracketed(bare), "localhost", "127.0.0.1", "[::1]"]))
    if bare not in ("0.0.0.0", "::"):
        return [_bracketed(bare), "localhost", "127.0.0.1", "[::1]"]
    name = socket.gethostname()
    found = [name, socket.getfqdn(), *_addresses(name)]
    return list(dict.fromkeys([*map(_bracketed, found), "localhost", "127.0.0.1", "[::1]"]))


def _addresses(name: str) -> list[str]:
    """Return this machine's addresses, as far as they can be found: by its name, and by the way out."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(name, None)]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        way_out.connect(("198.51.100.1", 9))  # an address for documentation; a datagram socket sends nothing here
        found.append(str(way_out.getsockname()[0]))
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _allowed_hosts(names: list[str]) -> list[str]:
    """Return patterns for the Host header; MLflow's own would take 10.example.org for a private address."""
    return [pattern for name in names for pattern in (name, f"{name.replace('[', '[[]', 1)}:*")]


def _authentication(state: Path) -> dict[str, str]:
    """Return the environment of MLflow's basic authentication, once the password it would take is a good one."""
    if importlib.util.find_spec("flask_wtf") is None:
        raise RecordingError("MLflow's basic authentication needs the package Flask-WTF: pip install 'mlflow[auth]'.")
    named = os.environ.get(_CONFIG)
    user, password = os.environ.get(_USER, "admin"), os.environ.get(_PASSWORD)
    if named:
        path = Path(named).expanduser()
        check_private(path, f"The file that {_CONFIG} names,")
        found = _read_config(path)
        user = os.environ.get(_USER) or found.get("admin_username", "")
        password = found.get("admin_password", "") if password is None else password
    check_password(user, password)
    added = {_KEY: secrets.token_hex(32)}
    return added if named else {**added, _CONFIG: str(_make_config(state))}


def _read_config(path: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        return dict(parser["mlflow"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as problem:
        kind = type(problem).__name__  # its text may have a line of the file, and the line a password
        raise RecordingError(
            f"The file {path}, which {_CONFIG} names, cannot be used ({kind}); allowed: an INI file with a section "
            "[mlflow], such as basic_auth.ini in MLflow's package."
        ) from None


def check_password(user: str, password: str | None) -> None:
    """Raise `RecordingError` for an administrator's password that is missing, short or known to everybody."""
    if not password:
        raise RecordingError(f"MLflow's basic authentication has no password for its administrator. {_HOW}")
    plain = password.lower()
    worn = plain.strip("0123456789!?.-_ ") in ("", *_KNOWN_PASSWORDS, user.lower()) or len(set(plain)) < 5
    if len(password) < _SHORTEST_PASSWORD or worn:
        raise RecordingError(
            f"The administrator's password in {_PASSWORD} (or in the file of {_CONFIG}) is too easy to guess; allowed: "
            f"{_SHORTEST_PASSWORD} characters or more that are no well-known word with digits. "
            "One that is good: python -c 'import secrets; print(secrets.token_urlsafe(18))'."
        )


def _make_config(state: Path) -> Path:
    """Write the configuration of basic authentication, without a password, and make its database a private file."""
    folder = state.expanduser().resolve() / "mlflow-auth"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database, path = folder / "users.db", folder / "basic_auth.ini"
        database.touch(mode=0o600)
        path.write_text(_AUTH_CONFIG.format(database=str(database).replace("%", "%%")), encoding="utf-8")
        path.chmod(0o600)
    except OSError as problem:
        raise RecordingError(
            f"The users of MLflow cannot be kept in {folder}: {problem.strerror or problem}. Choose another --store."
        ) from problem
    return path
