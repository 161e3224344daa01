"""The kinds of faults: what each does to a study on its ground, and what it may cost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.ground import Ground, spoil, tear
from tests.clusters import wait_until

Strike = Callable[[Ground, random.Random], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of fault: how it strikes (it returns a word on what it did), and how often among 100.

    ``keeps_checkpoints`` is whether work is expected to go on from checkpoints afterwards: not where they are damaged
    or cannot be written, or where a recorded result is lost. ``needs`` is what the ground must offer.
    """

    strike: Strike
    weight: int
    keeps_checkpoints: bool = True
    needs: str = ""


def _kill_worker(ground: Ground, chance: random.Random) -> str:
    """Kill -9 a worker that trains a pack."""
    workers = [pid for node in ground.cluster.nodes.values() for pid in node.workers()]
    if not workers:
        return "no worker was at work"
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
    return "a worker"


def _order(what: str) -> Strike:
    """Return a strike that leaves an order, which whichever worker comes next obeys."""

    def strike(ground: Ground, chance: random.Random) -> str:
        ground.order(what)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: ground.obeyed(what) or ground.finished, f"order {what} is taken", 30.0)
        return "obeyed" if ground.obeyed(what) else "nobody took the order"

    return strike


def _lose_node(*, raylet_only: bool) -> Strike:
    """Return a strike that takes a node away, and adds a fresh one of its size soon after."""

    def strike(ground: Ground, chance: random.Random) -> str:
        name = chance.choice(sorted(ground.busy_nodes() or ground.cluster.nodes))
        node = ground.cluster.nodes[name]
        if raylet_only:
            node.kill_raylet()
        else:
            node.kill()
        time.sleep(chance.uniform(0.0, 3.0))
        ground.cluster.drop(name)
        ground.add_node(node.started_as["parameters"]["num_cpus"])
        return f"node {name}"

    return strike


def _kill_driver(ground: Ground, chance: random.Random) -> str:
    """Kill -9 the driver."""
    ground.kill_driver()
    return "the driver"


def _kill_head(ground: Ground, chance: random.Random) -> str:
    """Kill -9 the head with its GCS, at which the driver is joined, and start it again."""
    ground.cluster.kill_head()
    time.sleep(chance.choice((0.0, 2.0, 20.0)))  # back at once, soon, or after the driver has noticed
    ground.cluster.restart_head()
    for name, node in list(ground.cluster.nodes.items()):
        if not node.alive:
            ground.cluster.drop(name)
            ground.add_node(node.started_as["parameters"]["num_cpus"])
    return "the head"


def _stop_mlflow(ground: Ground, chance: random.Random) -> str:
    """Stop the MLflow server for some seconds."""
    assert ground.server is not None
    ground.server.stop()
    time.sleep(chance.uniform(2.0, 8.0))
    ground.server.start()
    return "the MLflow server"


def _lock_database(ground: Ground, chance: random.Random) -> str:
    """Lock MLflow's SQLite file for some seconds."""
    path = ground.store / "mlflow.db"
    if not path.exists():
        return "no database yet"
    connection = sqlite3.connect(path, timeout=10)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(chance.uniform(3.0, 10.0))
    except sqlite3.OperationalError as problem:
        return f"not locked: {problem}"
    finally:
        connection.close()
    return "the database"


def _fill_disk(ground: Ground, chance: random.Random) -> str:
    """Fill the store's disk for some seconds, at least until a driver notices."""
    ballast = ground.store / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            size = 2**20
            while size >= 1:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: ground.died() or ground.finished, "the driver notices", chance.uniform(6.0, 15.0))
    finally:
        ballast.unlink(missing_ok=True)
    return "the disk was full" + ("" if ground.died() else ", the driver still ran")


def _tear_journal(ground: Ground, chance: random.Random) -> str:
    """Kill the driver and tear the last line of its journal."""
    ground.kill_driver()
    return tear(ground.store, chance)


def _spoil_checkpoint(ground: Ground, chance: random.Random) -> str:
    """Kill the driver and damage a checkpoint."""
    ground.kill_driver()
    paths = sorted(Path(ground.store / "checkpoints").glob("*.pt"))
    return spoil(chance.choice(paths), chance) if paths else "there was no checkpoint"


def _cut_network(ground: Ground, chance: random.Random) -> str:
    """Take the network of a node away until the cluster has given it up, and give it back."""
    name = chance.choice(sorted(ground.busy_nodes() or ground.cluster.nodes))
    node = ground.cluster.nodes[name]
    node.cut()
    try:
        wait_until(lambda: not ground.cluster.knows(node), f"node {name} is given up", 60.0)
        time.sleep(chance.uniform(0.0, 4.0))
    finally:
        node.restore()
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not node.alive, f"node {name} notices", 20.0)
    ground.cluster.drop(name)
    ground.add_node(node.started_as["parameters"]["num_cpus"])
    return f"node {name}"


KINDS: dict[str, Kind] = {
    "worker killed": Kind(strike=_kill_worker, weight=16),
    "worker killed for want of memory": Kind(strike=_order("kill"), weight=6),
    "trial out of memory": Kind(strike=_order("memory"), weight=6),
    "trial hangs": Kind(strike=_order("hang"), weight=5),
    "node lost": Kind(strike=_lose_node(raylet_only=False), weight=8),
    "raylet killed": Kind(strike=_lose_node(raylet_only=True), weight=6),
    "driver killed": Kind(strike=_kill_driver, weight=16),
    "head killed": Kind(strike=_kill_head, weight=6),
    "MLflow server stopped": Kind(strike=_stop_mlflow, weight=6, needs="server"),
    "SQLite file locked": Kind(strike=_lock_database, weight=5, needs="sqlite"),
    "disk full": Kind(strike=_fill_disk, weight=5, keeps_checkpoints=False, needs="small"),
    "journal torn": Kind(strike=_tear_journal, weight=5, keeps_checkpoints=False),
    "checkpoint damaged": Kind(strike=_spoil_checkpoint, weight=5, keeps_checkpoints=False),
    "network of a node lost": Kind(strike=_cut_network, weight=5, needs="namespaces"),
}
