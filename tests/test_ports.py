"""What a default `run` and `ui` open to the network: nothing; and what is refused beyond that."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hyperscale.cli import main
from hyperscale.errors import RecordingError, StoreError
from hyperscale.recording.mlflow_server import serve_ui
from tests.faults import fault_study
from tests.ports import Listener, arguments, descendants, environment, listeners


def start(*words: object, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, with a home folder of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "hyperscale.cli", *map(str, words)],
        env={**inherited, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1]), **more},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def watch(process: subprocess.Popen[str], until: Callable[[set[Listener]], bool]) -> set[Listener]:
    """Return all that a process and its children listen on until it ends, or enough has been seen."""
    seen: set[Listener] = set()
    deadline = time.monotonic() + 120
    while process.poll() is None and not until(seen) and time.monotonic() < deadline:
        seen |= set(listeners(process.pid))
        time.sleep(0.2)
    return seen


@pytest.mark.ray
def test_a_default_run_listens_on_loopback_only(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """Every socket of the driver, of Ray's servers and of the workers, from the start to the end of a study."""
    study = write_study(fault_study(tmp_path, ["well"] * 4 + ["slow"] * 4))
    process = start("run", study, "--store", tmp_path / "store", "--no-mlflow", folder=tmp_path)
    tokens: set[str] = set()
    words: set[str] = set()

    def noted(seen: set[Listener]) -> bool:
        for member in descendants(process.pid):
            tokens.add(environment(member).get("RAY_AUTH_TOKEN", ""))
            words.add(arguments(member))
        return False

    seen = watch(process, noted)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    servers = " ".join(listener.program for listener in seen)
    assert "gcs_server" in servers
    assert "raylet" in servers
    assert "ray::PackTrainable" in servers or "ray::IDLE" in servers
    assert not [listener for listener in seen if not listener.on_loopback]
    (token,) = tokens - {""}
    assert len(token) == 64
    assert not [line for line in words if token in line]
    assert not list((tmp_path / "home").rglob("*token*"))
    (session,) = {match.group(1) for line in words if (match := re.search(r"--log_dir=(\S+)/logs\b", line))}
    assert not [path for path in Path(session).rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(port: int, path: str = "/", *, password: str = "", method: str = "GET", **headers: str) -> int:
    """Return the status of a request to a server on this machine, 0 where none answers."""
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextlib.contextmanager
def serving(*words: object, folder: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start `ui`, wait until it answers, and end it."""
    port = free_port()
    (folder / "store").mkdir()
    process = start("ui", "--store", folder / "store", "--port", port, *words, folder=folder, **more)
    try:
        deadline = time.monotonic() + 120
        while not ask(port, "/health") and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.25)
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)  # heeded wherever pytest runs; SIGINT is not in the background
        sys.stdout.write(process.communicate(timeout=60)[0])


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_a_default_ui_listens_on_loopback_only(tmp_path: Path) -> None:
    """Every socket of the server and its workers; a page of another name, as after DNS rebinding, gets nothing."""
    with serving(folder=tmp_path) as (process, port):
        seen = watch(process, lambda seen: any(listener.port == port for listener in seen))
        assert {listener.port for listener in seen} == {port}
        assert all(listener.on_loopback for listener in seen)
        assert ask(port, SEARCH) == 200
        assert ask(port, SEARCH, Host="10.evil.example") == 403
        assert "sqlite" not in " ".join(arguments(member) for member in descendants(process.pid))


GOOD = "correct-horse-battery"


@pytest.mark.slow
def test_a_ui_for_others_wants_a_password(tmp_path: Path) -> None:
    """On all interfaces: nobody gets in without the password, and `ps` does not show it."""
    with serving("--host", "0.0.0.0", folder=tmp_path, MLFLOW_AUTH_ADMIN_PASSWORD=GOOD) as (process, port):
        assert any(not listener.on_loopback for listener in listeners(process.pid))
        assert ask(port, SEARCH) == 401
        assert ask(port, SEARCH, password="password1234") == 401
        assert ask(port, SEARCH, password=GOOD) == 200
        assert ask(port, SEARCH, password=GOOD, Host="elsewhere.example") == 403
        create = "/api/2.0/mlflow/experiments/create"
        words = {"method": "POST", "password": GOOD, "Content-Type": "application/json"}
        assert ask(port, create, **words, Origin="http://elsewhere.example") == 403
        own = f"http://{socket.gethostname()}:{port}"
        assert ask(port, create, **words, Origin=own, Host=own.removeprefix("http://")) == 400  # let in; names nothing
        assert GOOD not in " ".join(arguments(member) for member in descendants(process.pid))
    users = tmp_path / "store" / "mlflow-auth"
    assert {path.name: path.stat().st_mode & 0o777 for path in users.iterdir()} == {
        "basic_auth.ini": 0o600,
        "users.db": 0o600,
    }
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and GOOD.encode() in path.read_bytes()]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "some-host", "[::]", "0", "127.0.0.1.example"])
def test_a_ui_for_others_without_a_password_is_refused(host: str, tmp_path: Path) -> None:
    """One paragraph that says how to turn authentication on, and nothing started or written."""
    with pytest.raises(RecordingError, match=r"MLFLOW_AUTH_ADMIN_PASSWORD.*MLFLOW_AUTH_CONFIG_PATH.*ssh -L") as told:
        serve_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", host=host)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_it_too(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    found = CliRunner().invoke(main, ["ui", "--store", str(tmp_path), "--host", "0.0.0.0"])
    assert found.exit_code == 2
    assert "--host 0.0.0.0 would let everybody" in found.stderr


@pytest.mark.parametrize(
    "password",
    [
        "",
        "password",
        "password1234",
        "Password1234!",
        "admin",
        "admin1234567",
        "short",
        "aaaaaaaaaaaaaaaa",
        "123456789012",
    ],
)
def test_a_weak_password_is_refused(password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, short, or known to everybody; a refusal does not repeat it."""
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    with pytest.raises(RecordingError, match="password") as told:
        serve_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", host="0.0.0.0")
    if len(password) > 8:
        assert password not in str(told.value)


def test_a_password_may_come_from_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own configuration file; refused where others can read it, and where it is none."""
    path = tmp_path / "auth.ini"
    path.write_text(f"[mlflow]\nadmin_username = admin\nadmin_password = {GOOD}\n")
    path.chmod(0o640)
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(path))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(StoreError, match=r"mode 640.*chmod 600"):
        serve_ui(uri, tmp_path / "artifacts", host="0.0.0.0")
    path.chmod(0o600)
    server = serve_ui(uri, tmp_path / "artifacts", host="0.0.0.0")
    assert server.command[-2:] == ("--app-name", "basic-auth")
    assert server.environment["MLFLOW_AUTH_CONFIG_PATH"] == str(path)
    assert len(server.environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    assert "HTTPS" in server.note
    path.write_text(f"admin_password = {GOOD}\n")
    with pytest.raises(RecordingError, match=r"cannot be used.*\[mlflow\]") as told:
        serve_ui(uri, tmp_path / "artifacts", host="0.0.0.0")
    assert GOOD not in str(told.value)
