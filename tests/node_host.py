"""The process behind `tests.clusters`: it imports Ray once and forks a keeper for every node of a cluster.

``python -m tests.node_host`` reads one JSON request a line and answers each with one line. A keeper leads a session of
its own, starts the node's processes as ``ray start --block`` does, ends them all when the raylet or the GCS dies or
when it is told to terminate, and dies with its host. Whatever a killed keeper leaves behind becomes this process's
child, is reaped here, and is found by its session.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams

from tests.sessions import kill_session

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNET = 0x40000000
_LOOK_S = 0.2


class LeanNode(Node):
    """A node without a dashboard server: nothing in these tests looks at it, and it takes seconds to start."""

    def start_api_server(self, **_: Any) -> None:  # type: ignore[override]
        """Start nothing."""


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _enter_namespace(name: str) -> None:
    """Move this process into a network namespace made by ``ip netns``."""
    library = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{name}").open("rb") as handle:
        if library.setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns into {name}")


def _start(request: dict[str, Any]) -> Node:
    """Start a node's processes as told."""
    os.environ.update(request["environment"])
    if request["namespace"]:
        _enter_namespace(request["namespace"])
    parameters = {
        "include_log_monitor": False,
        "include_dashboard": False,
        "min_worker_port": 0,
        "max_worker_port": 0,
        "no_monitor": "autoscaling_config" not in request["parameters"],
        **request["parameters"],
    }
    made = RayParams(**parameters)
    made.dashboard_agent_listen_port = None  # Ray picks a free one
    return LeanNode(made, head=request["head"], shutdown_at_exit=False, spawn_reaper=False)


def _keep(request: dict[str, Any], answer: int) -> None:
    """Be a keeper: start the node, say so, and stay until it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        node = _start(request)
        said = {"node_id": node.node_id, "gcs_address": node.gcs_address}
    except BaseException:  # noqa: BLE001  (the host's client is told)
        os.write(answer, json.dumps({"problem": traceback.format_exc()}).encode())
        os._exit(1)
    os.write(answer, json.dumps(said).encode())
    os.close(answer)
    while not asked and not node.dead_processes():
        time.sleep(_LOOK_S)
    with contextlib.suppress(Exception):
        node.kill_all_processes(check_alive=False, allow_graceful=bool(asked), wait=bool(asked))
    os._exit(0 if asked else 1)


def _fork(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a keeper and wait until its node is up or has failed."""
    reading, writing = os.pipe()
    keeper = os.fork()
    if not keeper:
        os.setsid()
        os.close(reading)
        _keep(request, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return {"keeper": keeper, **(json.loads(said) if said else {"problem": "The keeper died."})}


def _nodes(request: dict[str, Any]) -> dict[str, Any]:
    """Ask a cluster for its nodes, from a fork so that this process stays without threads."""
    reading, writing = os.pipe()
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writing, json.dumps(_look(request["address"], request["timeout_s"])).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return json.loads(pipe.read() or b'{"problem": "no answer"}')


def _look(address: str, timeout_s: float) -> dict[str, Any]:
    from ray._raylet import GcsClient

    try:
        found = GcsClient(address=address).get_all_node_info(timeout=timeout_s)
    except Exception as problem:  # noqa: BLE001
        return {"problem": str(problem)}
    nodes = [
        {
            "node_id": node_id.hex(),
            "address": node.node_manager_address,
            "alive": node.state == 0,
            "resources": dict(node.resources_total),
            "labels": dict(node.labels),
        }
        for node_id, node in found.items()
    ]
    return {"nodes": nodes}


def main() -> None:
    """Answer requests until standard input ends, then end what still runs."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keepers = []
    for line in sys.stdin:
        request = json.loads(line)
        answer = _nodes(request) if request["do"] == "nodes" else _fork(request)
        keepers.append(answer.get("keeper", os.getpid()))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for keeper in keepers:  # the client may have died without ending them
        if keeper != os.getpid():
            kill_session(keeper)


if __name__ == "__main__":
    main()
