"""What a default `run` and `ui` open to the network: nothing; and what is refused beyond that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
