"""The head of the Ray that is used: a watch on it, and the way on when it is gone.

When its head has been unreachable for a minute Ray ends the whole process, in C++, in the middle of whatever it does;
until then calls to it do not return. So the watch is a thread, and the way on is the process itself begun anew with
the same command: the journal has all that ended, and `run` again is resume.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

MOST_RESTARTS = 5
RETURN_S = 600.0
_RESTARTS = "HYPERSCALE_HEAD_LOSSES"
_PATIENCE_S, _PAUSE_S, _CONNECT_S = 10.0, 1.0, 5.0
ALIVE = 0  # of Ray's GcsNodeInfo


def answers(address: str) -> OSError | None:
    """Return why nobody answers at ``HOST:PORT``, or None where somebody does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as problem:
        return problem
    return None


def cluster_seen_by(node_id: str) -> Callable[[str], str]:
    """Return what tells, by a head's address, of which cluster it is and whether it knows node ``node_id`` as alive.

    A head that was started anew is of another cluster; one that keeps its tables is of the same, but a driver whose
    own node went with the head hears nothing any more.
    """

    def identify(address: str) -> str:
        from ray import _raylet

        module: Any = _raylet
        client = module.GcsClient(address=address)
        nodes = client.get_all_node_info(timeout=_CONNECT_S)
        alive = any(key.hex() == node_id and node.state == ALIVE for key, node in nodes.items())
        return f"{client.cluster_id.hex()}, {'with' if alive else 'without'} {node_id}"

    return identify


class HeadWatch:
    """Calls ``on_lost`` once, from a thread of its own, when the head at ``address`` is gone.

    It is when it has not answered for ``patience_s``, or when what ``identify`` says of its address has changed.
    """

    def __init__(
        self,
        address: str,
        on_lost: Callable[[str], None],
        *,
        identify: Callable[[str], str],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.address, self._on_lost, self._patience_s = address, on_lost, patience_s
        self._identify, self._identity = identify, identify(address)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-head-watch", daemon=True)

    def __enter__(self) -> HeadWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        answered_at = time.monotonic()
        while not self._ended.wait(_PAUSE_S):
            if answers(self.address) is None:
                answered_at = time.monotonic()
                lost = self._is_another()
            else:
                lost = time.monotonic() - answered_at > self._patience_s
            if lost and not self._ended.is_set():
                self._on_lost(self.address)
                return

    def _is_another(self) -> bool:
        with contextlib.suppress(Exception):  # it went just now: the next look tells
            return self._identify(self.address) != self._identity
        return False


def num_restarts() -> int:
    """Return how often this process was begun anew because a head was lost."""
    text = os.environ.get(_RESTARTS, "0")
    return int(text) if text.isdigit() else 0


def await_return(address: str, limit_s: float = RETURN_S) -> OSError | None:
    """Wait until somebody answers at ``address``; return why nobody did within ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while (problem := answers(address)) is not None and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return problem


def begin_anew() -> None:
    """Replace this process by a new one with the same command. Returns only where that was done often enough."""
    count = num_restarts()
    if count >= MOST_RESTARTS:
        return
    _end_own_ray()
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[_RESTARTS] = str(count + 1)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _end_own_ray() -> None:
    """Kill what is left of a Ray that this process has started: it is to train nothing beside its successor."""
    with contextlib.suppress(Exception):  # private, and best effort: such processes end by themselves in a minute
        from ray._private import worker

        node = worker._global_node
        if node is not None and node.head:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
