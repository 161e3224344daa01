"""Studies on several Ray nodes: nodes that come, go, die, differ, or lose their network while a study runs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.chaos.ground import Ground, Table, undisturbed
from tests.chaos.study import Shape
from tests.clusters import Cluster, namespaces_refused, wait_until
from tests.sessions import session_processes

SHAPE = Shape(settings=8, seeds=6, steps=20, step_s=0.1)
LONG = Shape(settings=24, seeds=6, steps=20, step_s=0.1)
PATIENCE_S = 240.0  # a busy machine takes minutes over what a quiet one does in seconds

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head; every test adds the nodes that it needs."""
    with Cluster() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_nodes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take away the nodes that a test added to the shared cluster."""
    yield
    if "cluster" in request.fixturenames:
        shared: Cluster = request.getfixturevalue("cluster")
        for name in list(shared.nodes):
            shared.drop(name)


def finish(ground: Ground, *, timeout_s: float = PATIENCE_S) -> None:
    """Wait for the driver's end, which must be a good one, and without help."""
    wait_until(lambda: ground.finished or ground.died(), "the study ends", timeout_s)
    assert ground.finished, ground.words()
    assert ground.num_runs == 1


def check(ground: Ground, folder: Path) -> Table:
    """Assert that every trial is there once, with the bits of a run in one process; return the table."""
    reference = undisturbed(folder / "undisturbed", ground.shape)
    table = ground.table()
    assert len(table) == ground.shape.num_trials
    assert table == reference
    return table


def busy(ground: Ground, *names: str) -> Callable[[], bool]:
    """Return whether all these nodes have packs at work, to be waited for."""
    return lambda: set(names) <= set(ground.busy_nodes())


def test_a_killed_node_costs_a_study_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """Two nodes, one is killed at work: the study finishes without help, all trials once, bits as in one process."""
    cluster.add("one")
    cluster.add("two")
    with Ground(tmp_path / "ground", cluster, SHAPE) as ground:
        ground.start_driver()
        wait_until(busy(ground, "one", "two"), "both nodes are at work", PATIENCE_S)
        cluster.drop("two")
        finish(ground)
        check(ground, tmp_path)


@pytest.mark.slow
def test_a_node_added_while_a_study_runs_is_used(cluster: Cluster, tmp_path: Path) -> None:
    """A study begun on one node goes on upon three."""
    cluster.add("one")
    with Ground(tmp_path / "ground", cluster, LONG) as ground:
        ground.start_driver()
        wait_until(busy(ground, "one"), "the first node is at work", PATIENCE_S)
        cluster.add("two")
        cluster.add("three")
        wait_until(busy(ground, "one", "two", "three"), "all nodes are at work", PATIENCE_S)
        finish(ground)
        check(ground, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gracefully", "raylet", "power"])
def test_a_node_that_goes_leaves_nothing_undone(cluster: Cluster, tmp_path: Path, how: str) -> None:
    """Three nodes, one leaves while all are at work: asked to, by its raylet's death, or all at once."""
    for name in ("one", "two", "three"):
        cluster.add(name)
    with Ground(tmp_path / "ground", cluster, LONG) as ground:
        ground.start_driver()
        wait_until(busy(ground, "one", "two", "three"), "all nodes are at work", PATIENCE_S)
        gone = cluster.nodes["two"]
        {"gracefully": gone.remove, "raylet": gone.kill_raylet, "power": gone.kill}[how]()
        assert not gone.processes()
        finish(ground)
        check(ground, tmp_path)
        assert not cluster.knows(gone)


@pytest.mark.slow
def test_packs_go_where_they_fit(cluster: Cluster, tmp_path: Path) -> None:
    """Packs that ask for three cores run on the one node that has them, one by one; for five, nothing is begun."""
    cluster.add("small", cpus=1, labels={"size": "small"})
    cluster.add("large", cpus=4, resources={"special": 1.0}, labels={"size": "large"})
    told = {node["address"]: node for node in cluster.alive_nodes()}
    assert told[cluster.nodes["large"].address]["resources"]["special"] == 1.0
    assert told[cluster.nodes["small"].address]["labels"]["size"] == "small"
    with Ground(tmp_path / "ground", cluster, SHAPE) as ground:
        ground.start_driver("--cpus-per-pack", "5")
        assert ground.driver is not None
        assert ground.driver.wait(PATIENCE_S) == 2
        assert "no node of the cluster can ever give" in ground.words()
        ground.start_driver("--cpus-per-pack", "3")
        seen: set[str] = set()
        while not (ground.finished or ground.died()):
            seen.update(ground.busy_nodes())
            time.sleep(0.2)
        assert ground.finished, ground.words()
        assert seen == {"large"}
        check(ground, tmp_path)


@pytest.mark.slow
def test_a_restarted_head_gets_its_nodes_and_its_study_back(cluster: Cluster, tmp_path: Path) -> None:
    """The head is killed while a study runs and started again: the nodes come back, and `run` ends the study."""
    cluster.add("one")
    cluster.add("two")
    with Ground(tmp_path / "ground", cluster, LONG) as ground:
        ground.start_driver()
        wait_until(busy(ground, "one", "two"), "both nodes are at work", PATIENCE_S)
        wait_until(lambda: ground.fraction > 0.2, "a part is done", PATIENCE_S)
        done = len(ground.settled())
        cluster.kill_head()
        cluster.restart_head()
        wait_until(
            lambda: all(cluster.knows(node) for node in cluster.nodes.values()), "the nodes are back", PATIENCE_S
        )
        wait_until(lambda: ground.finished or ground.died(), "the driver notices, or finishes", PATIENCE_S)
        if ground.died():
            assert len(ground.settled()) >= done
            ground.start_driver()
            wait_until(lambda: ground.finished or ground.died(), "the study ends", PATIENCE_S)
        assert ground.finished, ground.words()
        check(ground, tmp_path)


def _fake_cloud(folder: Path, address: str) -> Path:
    """Write a cluster file for Ray's fake provider: workers of one core, none to begin with and two at most."""
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    file = {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in commands},
    }
    path = folder / "fake.yaml"
    path.write_text(yaml.safe_dump(file))
    return path


@pytest.mark.slow
def test_an_autoscaled_cluster_grows_for_a_study_and_shrinks_after_it(tmp_path: Path) -> None:
    """No worker to begin with, two while the study runs, none afterwards; nobody starts any by hand."""
    environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with Cluster(environment=environment, autoscaling=lambda address: _fake_cloud(tmp_path, address)) as cluster:

        def workers() -> int:
            return sum(node["resources"].get("CPU", 0) > 0 for node in cluster.alive_nodes())

        assert workers() == 0
        with Ground(tmp_path / "ground", cluster, LONG) as ground:
            ground.start_driver()
            wait_until(lambda: workers() == 2 or ground.died(), "two nodes are started", PATIENCE_S)
            finish(ground)
            check(ground, tmp_path)
        wait_until(lambda: workers() == 0, "the nodes are given back", PATIENCE_S)


@pytest.mark.slow
def test_a_node_whose_network_fails_is_done_without(tmp_path: Path) -> None:
    """Nodes in network namespaces; one's link goes down for good and comes back when the cluster has given it up."""
    if refused := namespaces_refused():
        pytest.skip(f"network namespaces cannot be made here: {refused}")
    with Cluster(namespaces=True) as cluster:
        for name in ("one", "two", "three"):
            cluster.add(name)
        assert len({node["address"] for node in cluster.alive_nodes()}) == 4
        with Ground(tmp_path / "ground", cluster, LONG) as ground:
            ground.start_driver()
            wait_until(busy(ground, "one", "two", "three"), "all nodes are at work", PATIENCE_S)
            cut = cluster.nodes["two"]
            cut.cut()
            wait_until(lambda: not cluster.knows(cut), "the node is given up", PATIENCE_S)
            assert cut.alive
            cut.restore()
            wait_until(lambda: not cut.alive, "the node notices that it was given up", PATIENCE_S)
            finish(ground)
            check(ground, tmp_path)


@pytest.mark.slow
def test_a_short_loss_of_the_network_is_ridden_out(tmp_path: Path) -> None:
    """A link that is down for a second or two costs neither the node nor a trial."""
    if refused := namespaces_refused():
        pytest.skip(f"network namespaces cannot be made here: {refused}")
    with Cluster(namespaces=True) as cluster:
        for name in ("one", "two"):
            cluster.add(name)
        with Ground(tmp_path / "ground", cluster, LONG) as ground:
            ground.start_driver()
            wait_until(busy(ground, "one", "two"), "both nodes are at work", PATIENCE_S)
            node = cluster.nodes["two"]
            node.cut()
            time.sleep(1.5)
            node.restore()
            finish(ground)
            check(ground, tmp_path)
            assert node.alive
            assert cluster.knows(node)


def test_a_cluster_leaves_nothing_behind() -> None:
    """Closed, a cluster has no process, no folder and no port; even a node that was killed half."""
    with Cluster() as cluster:
        node = cluster.add("one")
        sessions = [cluster.head.keeper, node.keeper]
        os.kill(node.keeper, signal.SIGKILL)  # its raylet is an orphan now
        assert node.alive
    assert [session_processes(session) for session in sessions] == [{}, {}]
    assert not cluster.folder.exists()
    host, _, port = cluster.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
