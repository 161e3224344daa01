"""The ground of a chaos study: a cluster, a store that can fill up, an MLflow, and the driver that faults fall upon."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from hyperscale.recording.store import Store
from hyperscale.study import load_study
from tests.chaos.ledger import Ledger
from tests.chaos.study import Shape, write_study
from tests.clusters import Cluster, free_port, hyperscale, wait_until
from tests.sessions import kill_session

STORE_BYTES = 96 * 2**20
_PROVENANCE = {"wall_time_s", "pack_size", "ended_at", "device", "hardware", "launch", "executor", "reason"}
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

Table = dict[tuple[str, str], tuple[tuple[str, str], ...]]


def tmpfs_refused(folder: Path) -> str:
    """Return why a small file system cannot be mounted here; an empty text where it can."""
    try:
        mount(folder, 2**20)
    except OSError as problem:
        return str(problem)
    unmount(folder)
    return ""


def mount(folder: Path, size_bytes: int) -> None:
    """Mount a small file system in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise OSError(f"there is no `mount` here: {problem}") from problem
    if done.returncode:
        raise OSError(done.stderr.strip())


def unmount(folder: Path) -> None:
    """Take it away again, whoever still holds it open."""
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@dataclass(kw_only=True)
class MlflowServer:
    """A tracking server that is started, stopped and started again at one port."""

    folder: Path
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **_QUIET}, start_new_session=True
            )
        wait_until(self._answers, "the MLflow server answers", 120.0)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def stop(self) -> None:
        """Kill it, with all it has started."""
        if self.process is not None:
            kill_session(self.process.pid)
            self.process.wait()
            self.process = None


class Ground:
    """One go at a chaos study on a cluster.

    ``mlflow`` is "none", "sqlite" (the store's own database) or "server"; ``small`` mounts a small file system as the
    store, where that is allowed. Everything lies under ``folder``.
    """

    def __init__(
        self, folder: Path, cluster: Cluster, shape: Shape, *, mlflow: str = "none", small: bool = False
    ) -> None:
        self.folder, self.cluster, self.shape = folder, cluster, shape
        self.study = write_study(folder / "study", shape)
        self.control = self.study.parent
        self.store = folder / "store"
        self.small = small
        if small:
            mount(self.store, STORE_BYTES)
        self.server = MlflowServer(folder=folder / "server") if mlflow == "server" else None
        self.mlflow = mlflow
        self.ledger = Ledger(self.control / "ledger")
        self.driver: subprocess.Popen[bytes] | None = None
        self.num_runs = 0
        self.returncodes: list[int] = []
        self._nodes_added = 0
        if self.server is not None:
            self.server.start()

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_driver()
        if self.server is not None:
            self.server.stop()
        if self.small:
            unmount(self.store)

    @property
    def tracking(self) -> Sequence[str]:
        """The options that say where MLflow is."""
        if self.mlflow == "none":
            return ("--no-mlflow",)
        return ("--tracking-uri", self.server.uri) if self.server is not None else ()

    def environment(self) -> Mapping[str, str]:
        """Return the driver's environment: it gives up on a head that stays away."""
        return self.cluster.driver_environment(**_QUIET, HYPERSCALE_CHECKPOINT_INTERVAL_S="1")

    def start_driver(self, *options: str) -> None:
        """Run the study, or what is left of it."""
        self.num_runs += 1
        words = ["run", self.study, "--address", self.cluster.address, "--store", self.store, "--json"]
        words += ["--max-pack", str(self.shape.seeds), "--silence-limit", "10", *self.tracking, *options]
        with (self.folder / f"driver-{self.num_runs}.log").open("wb") as log:
            self.driver = subprocess.Popen(
                hyperscale(*words), stdout=log, stderr=log, env=dict(self.environment()), start_new_session=True
            )

    def words(self) -> str:
        """Return the end of what the last driver said."""
        return (self.folder / f"driver-{self.num_runs}.log").read_text(errors="replace")[-3000:]

    def kill_driver(self) -> None:
        """Kill -9 the driver, and whatever it has started here."""
        if self.driver is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            kill_session(self.driver.pid)

    def died(self) -> bool:
        """Whether the driver has ended otherwise than well."""
        assert self.driver is not None
        code = self.driver.poll()
        return code is not None and code != 0

    @property
    def finished(self) -> bool:
        """Whether the driver has ended well."""
        return self.driver is not None and self.driver.poll() == 0

    @property
    def fraction(self) -> float:
        """The part of the work that has been done."""
        self.ledger.read()
        return self.ledger.done / self.shape.member_steps

    def order(self, what: str) -> None:
        """Leave an order that the next worker obeys."""
        (self.control / what).touch()

    def obeyed(self, what: str) -> bool:
        """Whether an order was taken."""
        return not (self.control / what).exists()

    def add_node(self, cpus: float = 1) -> None:
        """Add a fresh node, as a cloud replaces one that it took away."""
        self._nodes_added += 1
        self.cluster.add(f"fresh-{time.monotonic_ns() % 10**9}", cpus=cpus)

    def busy_nodes(self) -> list[str]:
        """Return the names of the nodes with a pack at work."""
        return [name for name, node in self.cluster.nodes.items() if node.workers()]

    def settled(self) -> set[str]:
        """Return the digests of the trials whose outcome stands."""
        journal = Store(folder=self.store).journal("onlooker")
        return {trial.digest for trial in load_study(self.study).study.trials() if journal.settled(trial.digest)}

    def call(self, *words: str | Path) -> None:
        """Call another verb and see it succeed."""
        done = subprocess.run(
            hyperscale(*words), capture_output=True, text=True, check=False, env=dict(self.environment())
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def table(self, *options: str) -> Table:
        """Return the exported table: for each trial all that does not tell how it was computed."""
        out = self.folder / "table.csv"
        self.call("export", self.study, "--store", self.store, "--out", out, *options)
        return read_table(out)

    def table_of_mlflow(self) -> Table:
        """Return what MLflow alone says, once it has been synchronised."""
        where = ("--tracking-uri", self.server.uri) if self.server is not None else ()
        self.call("sync", self.study, "--store", self.store, *where)
        return self.table("--from-mlflow", *where)


def read_table(path: Path) -> Table:
    """Read an exported table; a trial that is there twice is an error."""
    table: Table = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = (row["setting_digest"], row["seed"]) if "setting_digest" in row else (row["value"], row["seed"])
            assert key not in table, f"twice in the table: {key}"
            table[key] = tuple((name, row[name]) for name in sorted(row) if name not in _PROVENANCE)
    return table


def undisturbed(folder: Path, shape: Shape) -> Table:
    """Return the table of the same study trained in one process, without waiting and without faults."""
    study = write_study(folder / "study", shape, step_s=0.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in (
        ("run", study, "--executor", "in-process", "--store", folder / "store", "--no-mlflow", "--json"),
        ("export", study, "--store", folder / "store", "--out", folder / "table.csv"),
    ):
        done = subprocess.run(hyperscale(*words), capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    return read_table(folder / "table.csv")


def newest_segment(store: Path) -> Path:
    """Return the journal segment written last."""
    return max((store / "journal").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


def tear(store: Path, chance: random.Random) -> str:
    """Leave the journal as a crash in the middle of a write does, or as a disk that lost the end of the last line."""
    if not list((store / "journal").glob("*.jsonl")):
        return "there was no journal yet"
    segment = newest_segment(store)
    data = segment.read_bytes()
    last = data[data[:-1].rfind(b"\n") + 1 :]
    if chance.random() < 0.5:
        segment.write_bytes(data + last[: chance.randrange(1, max(2, len(last) - 1))].replace(b"\n", b""))
        return "half a line more"
    segment.write_bytes(data[: len(data) - chance.randrange(2, max(3, len(last) - 1))])
    return "the last line cut"


def spoil(path: Path, chance: random.Random) -> str:
    """Damage a checkpoint: cut it, flip bits in it, or put something else in its place."""
    data = bytearray(path.read_bytes())
    way = chance.choice(("cut", "flipped", "replaced"))
    if way == "cut":
        data = data[: chance.randrange(len(data))]
    elif way == "flipped":
        for _ in range(8):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        data = bytearray(chance.randbytes(len(data)))
    path.write_bytes(data)
    return way
