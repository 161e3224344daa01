"""A Ray head with a job server of its own: free ports, a folder of its own, a token, and an end by process id."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
WAIT_S = 90.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Return once the condition holds; fail after ``wait_s``."""
    end = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {wait_s:g} s in vain: {what}")
        time.sleep(0.1)


def readme_head() -> tuple[dict[str, str], list[str]]:
    """Return variables and options of the line that cluster/README.md starts a machine's head with."""
    text = (ROOT / "cluster" / "README.md").read_text().split("\n## One machine\n", 1)[1]
    line = next(line for line in text.splitlines() if "ray start --head" in line)
    words = shlex.split(line, comments=True)
    start = words.index("ray")
    return dict(word.split("=", 1) for word in words[:start]), words[start + 2 :]


@dataclass
class JobServer:
    """A head node as the README starts it, on this machine's loopback, which wants the token in ``token_file``."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp")))
    ports: list[int] = field(default_factory=lambda: free_ports(8))
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Write the token."""
        self.token_file = self.folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(secrets.token_hex(32))
        self.address = f"http://127.0.0.1:{self.ports[1]}"
        self._session = 0

    def environment(self, **more: str) -> Mapping[str, str]:
        """Return the environment of a process that may talk to the cluster."""
        own = ("RAY_", "HYPERSCALE_", "MLFLOW_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **more,
        }

    def start(self) -> None:
        """Start the head, and wait until its job server answers."""
        port, dashboard, client, agent, agent_grpc, metrics, environments, nodes = self.ports
        self._session += 1
        variables, options = readme_head()
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block", "--num-cpus=2", "--num-gpus=0",
            f"--port={port}", "--include-dashboard=true",
            f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", "--disable-usage-stats",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={environments}",
            f"--node-manager-port={nodes}", f"--temp-dir={self.folder / f's{self._session}'}",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        with (self.folder / f"head{self._session}.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment(**variables),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        wait_until(self._answers, f"the head answers at {self.address}:\n{self.output()}")

    def output(self) -> str:
        """Return what the heads printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("head*.log")))

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        headers = {"Authorization": f"Bearer {self.token_file.read_text()}"}
        request = urllib.request.Request(f"{self.address}/api/jobs/", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def processes(self) -> list[psutil.Process]:
        """Return every process of this cluster: the head's descendants, and whoever names its folder or its store."""
        found = {}
        if self.process is not None and self.process.poll() is None:
            parent = psutil.Process(self.process.pid)
            found = {process.pid: process for process in [parent, *parent.children(recursive=True)]}
        for process in psutil.process_iter():
            try:
                named = str(self.folder) in " ".join(process.cmdline())
                named = named or process.environ().get("RAY_AUTH_TOKEN_PATH") == str(self.token_file)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if named and process.pid != os.getpid():
                found[process.pid] = process
        return list(found.values())

    def drivers(self) -> list[psutil.Process]:
        """Return the drivers of jobs that run now."""
        words = [(process, process.cmdline()) for process in self.processes() if process.is_running()]
        return [process for process, line in words if line[1:4] == ["-m", "hyperscale.cli", "run"]]

    def kill(self, *, keep: Callable[[psutil.Process], bool] = lambda process: False) -> None:
        """End every process of the cluster by its id."""
        processes = [process for process in self.processes() if not keep(process)]
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process is not None:
            self.process.wait()
        psutil.wait_procs(processes, timeout=10)

    def close(self) -> None:
        """End the cluster and remove its folder."""
        self.kill()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
