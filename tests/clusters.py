"""A Ray cluster of several nodes on this machine, whose nodes and network can be taken away at any moment.

Every node is a raylet with workers of its own at an address of its own: on loopback (127.x.y.1, 127.x.y.2, …), or in a
network namespace on a bridge, where the machine allows that. All processes of a node share a session, by which they are
found and ended; nothing is ever ended by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.sessions import kill_session, session_processes

ROOT = Path(__file__).parent.parent
_OBJECT_STORE_BYTES = 80 * 2**20
_IDLE = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
# Dead nodes are noticed within seconds, and a lost head is waited for, but not for a minute.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
    """Wait for something to come true, and return how long that took; raise where it does not in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"Not within {timeout_s:.0f} s: {what}.")
        time.sleep(0.1)
    return time.monotonic() - started


def free_port(host: str) -> int:
    """Return a port that nothing listens on at ``host``."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Node:
    """One node of a cluster; ``keeper`` leads the session of its processes."""

    name: str
    address: str
    keeper: int
    node_id: str
    link: str = ""
    started_as: dict[str, Any] = field(repr=False)

    @property
    def alive(self) -> bool:
        """Whether its raylet runs."""
        return bool(self.processes("/raylet/raylet"))

    def processes(self, containing: str = "") -> list[int]:
        """Return the ids of its processes whose command line contains a text."""
        return [pid for pid, line in session_processes(self.keeper).items() if containing.encode() in line]

    def workers(self) -> list[int]:
        """Return the ids of its workers that are at work."""
        found = session_processes(self.keeper).items()
        return [pid for pid, line in found if line.startswith(b"ray::") and not line.startswith(_IDLE)]

    def kill(self) -> None:
        """Kill -9 everything on the node at once, as a power cut would."""
        kill_session(self.keeper)

    def kill_raylet(self) -> None:
        """Kill -9 the raylet alone; its workers notice, and the keeper ends the rest."""
        self.kill_part("/raylet/raylet")

    def kill_part(self, containing: str) -> None:
        """Kill -9 a part of the node that it cannot do without; what has not gone after it in 5 s is ended, too."""
        for pid in self.processes(containing):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.processes(), f"the rest of node {self.name} ends", 5.0)
        kill_session(self.keeper)

    def remove(self) -> None:
        """Let the node take its leave, as ``ray stop`` on it would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.keeper, signal.SIGTERM)
        try:
            wait_until(lambda: not self.processes(), f"node {self.name} leaves", 30.0)
        finally:
            kill_session(self.keeper)

    def cut(self) -> None:
        """Take the node's network away."""
        ip("link", "set", self.link, "down")

    def restore(self) -> None:
        """Give the node's network back."""
        ip("link", "set", self.link, "up")


class Cluster:
    """A head without CPUs for packs, at which drivers join, and the nodes that are added to it.

    ``with Cluster() as cluster: cluster.add("one", cpus=2)``. With ``namespaces`` every node added has a network of its
    own. The head keeps its tables on disk, so that it can be killed and restarted at the same address. ``autoscaling``
    is given that address and returns a cluster file for Ray's autoscaler to follow.
    """

    def __init__(
        self,
        *,
        namespaces: bool = False,
        environment: Mapping[str, str] | None = None,
        autoscaling: Callable[[str], Path] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hsn-", dir="/tmp"))  # short, for the sockets' sake
        self.environment = {
            **QUICK,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **(environment or {}),
        }
        self.nodes: dict[str, Node] = {}
        self._number = 1
        self._bridge = Bridge() if namespaces else None
        self._prefix = (
            self._bridge.prefix if self._bridge else f"127.{secrets.choice(range(16, 250))}.{os.getpid() % 250}"
        )
        self._host = subprocess.Popen(
            [sys.executable, "-m", "tests.node_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**self._inherited(), **self.environment},
            start_new_session=True,
        )
        try:
            self._port = free_port(f"{self._prefix}.1")
            self.head = self._start_head(
                {} if autoscaling is None else {"autoscaling_config": str(autoscaling(self.address))}
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _inherited() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}

    @property
    def address(self) -> str:
        """Where drivers join."""
        return f"{self._prefix}.1:{self._port}"

    def driver_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a driver that joins."""
        return {**self._inherited(), **self.environment, "COLUMNS": "200", **more}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.write(json.dumps(request) + "\n")
        self._host.stdin.flush()
        return dict(json.loads(self._host.stdout.readline() or '{"problem": "The host of the nodes died."}'))

    def _start(self, name: str, request: dict[str, Any], link: str = "") -> Node:
        """Start a node and return once it is up."""
        said = self._ask({"do": "start", "log": str(self.folder / f"{name}.log"), **request})
        if "problem" in said:
            kill_session(said.get("keeper", -1))
            raise RuntimeError(f"Node {name} did not start: {said['problem']}")
        address = request["parameters"]["node_ip_address"]
        return Node(
            name=name, address=address, keeper=said["keeper"], node_id=said["node_id"], link=link, started_as=request
        )

    def _parameters(self, name: str, address: str, cpus: float, more: Mapping[str, Any]) -> dict[str, Any]:
        temp = self.folder / name
        return {
            "node_ip_address": address,
            "node_name": name,
            "temp_dir": str(temp),
            "num_cpus": cpus,
            "num_gpus": 0,
            "object_store_memory": _OBJECT_STORE_BYTES,
            **more,
        }

    def _start_head(self, more: Mapping[str, Any]) -> Node:
        request = {
            "head": True,
            "namespace": "",
            "environment": {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / "gcs")},
            "parameters": {
                **self._parameters("head", f"{self._prefix}.1", 0, more),
                "gcs_server_port": self._port,
            },
        }
        return self._start("head", request)

    def add(
        self,
        name: str,
        *,
        cpus: float = 1,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Node:
        """Add a node and return once the cluster knows it."""
        self._number += 1
        address = f"{self._prefix}.{self._number}"
        namespace = link = ""
        if self._bridge is not None:
            namespace, link = self._bridge.add(self._number)
        more = {"gcs_address": self.address, "resources": dict(resources or {}), "labels": dict(labels or {})}
        request = {
            "head": False,
            "namespace": namespace,
            "environment": {},
            "parameters": self._parameters(f"{name}-{self._number}", address, cpus, more),
        }
        node = self.nodes[name] = self._start(name, request, link)
        return node

    def drop(self, name: str) -> None:
        """Kill what is left of a node and forget it."""
        self.nodes.pop(name).kill()

    def kill_head(self) -> None:
        """Kill -9 everything on the head at once."""
        self.head.kill()

    def kill_gcs(self) -> None:
        """Kill -9 the head's GCS; with it, as under ``ray start --block``, the head ends."""
        self.head.kill_part("/gcs/gcs_server")

    def restart_head(self) -> None:
        """Start the head again at its address, with the tables it had."""
        self.head.kill()
        self.head = self._start("head", self.head.started_as)

    def alive_nodes(self) -> list[dict[str, Any]]:
        """Return what the cluster says of the nodes that it takes to be alive; none where the head does not answer."""
        said = self._ask({"do": "nodes", "address": self.address, "timeout_s": 5.0})
        return [node for node in said.get("nodes", []) if node["alive"]]

    def knows(self, node: Node) -> bool:
        """Whether the cluster takes a node to be alive."""
        return any(each["node_id"] == node.node_id for each in self.alive_nodes())

    def close(self) -> None:
        """End everything and remove every trace."""
        for node in [*self.nodes.values(), *([self.head] if hasattr(self, "head") else [])]:
            node.kill()
        if self._host.stdin is not None:
            self._host.stdin.close()
        try:
            self._host.wait(10)
        except subprocess.TimeoutExpired:
            self._host.kill()
            self._host.wait()
        if self._host.stdout is not None:
            self._host.stdout.close()
        if self._bridge is not None:
            self._bridge.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def ip(*words: str) -> None:
    """Call ``ip``."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def namespaces_refused() -> str:
    """Return why network namespaces cannot be made here; an empty text where they can."""
    if shutil.which("ip") is None:
        return "there is no `ip` here"
    try:
        Bridge().close()
    except OSError as problem:
        return str(problem)
    return ""


class Bridge:
    """A bridge of this machine with an address of its own, and namespaces that hang on it by one link each."""

    def __init__(self) -> None:
        self.tag = secrets.token_hex(3)
        self.prefix = f"198.{secrets.choice((18, 19))}.{secrets.randbelow(250)}"  # kept for tests by RFC 2544
        self.name = f"hsb{self.tag}"
        self._namespaces: list[str] = []
        try:
            ip("link", "add", self.name, "type", "bridge")
            ip("addr", "add", f"{self.prefix}.1/24", "dev", self.name)
            ip("link", "set", self.name, "up")
            self._add_first()
        except OSError:
            self.close()
            raise

    def _add_first(self) -> None:
        """Make sure that namespaces are allowed, too."""
        self.add(250)

    def add(self, number: int) -> tuple[str, str]:
        """Make a namespace with address ``prefix.number``; return its name and that of its link on this side."""
        namespace, outside, inside = f"hsn{self.tag}-{number}", f"hs{self.tag}{number}", f"hi{self.tag}{number}"
        ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        ip("link", "set", inside, "netns", namespace)
        ip("link", "set", outside, "master", self.name)
        ip("link", "set", outside, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{self.prefix}.{number}/24", "dev", inside),
            ("link", "set", inside, "up"),
            ("route", "add", "default", "via", f"{self.prefix}.1"),
        ):
            ip("-n", namespace, *words)
        return namespace, outside

    def close(self) -> None:
        """Remove the namespaces, their links with them, and the bridge."""
        for namespace in self._namespaces:
            with contextlib.suppress(OSError):
                ip("netns", "del", namespace)
        with contextlib.suppress(OSError):
            ip("link", "del", self.name)


def hyperscale(*words: str | Path) -> Sequence[str]:
    """Return a command line of the program under test."""
    return [sys.executable, "-m", "hyperscale.cli", *map(str, words)]
