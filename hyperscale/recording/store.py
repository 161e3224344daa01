"""The store folder: where the journal, MLflow's database, checkpoints and reports of a project lie."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperscale.errors import LARGEST_COUNT, StoreError
from hyperscale.recording.confinement import check_no_way_out, inside
from hyperscale.recording.heart import Heart
from hyperscale.recording.journal import Journal
from hyperscale.recording.leases import LEASE_S, Leases, Register
from hyperscale.recording.notes import parse_note
from hyperscale.recording.pieces import Pieces
from hyperscale.recording.processes import Process
from hyperscale.recording.remote import Remote, RemoteShelf, local_path, mirror_folder, url_of
from hyperscale.recording.shelves import LocalShelf, Shelf
from hyperscale.trial import is_finite

HEARTBEAT_LIMIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Store:
    """Paths of one store (default ``./results``). Nothing is created before it is needed.

    Where ``remote`` is given the store lies at a URL, and ``folder`` is this machine's mirror of it.
    """

    folder: Path
    remote: Remote | None = None

    @classmethod
    def at(cls, place: Path | str) -> Store:
        """Return the store in a folder or at a URL."""
        url = url_of(place)
        return cls(folder=local_path(place)) if url is None else cls(folder=mirror_folder(url), remote=Remote(url))

    @property
    def place(self) -> str:
        """What ``--store`` calls it."""
        return str(self.folder) if self.remote is None else self.remote.url

    @property
    def tracking_uri(self) -> str:
        """MLflow's default database of this store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact folder of this store."""
        return self.folder / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """Pack checkpoints, a path that stands for a URL where the store is at one; removed when their pack ends."""
        return (self.folder if self.remote is None else Path(self.remote.url)) / "checkpoints"

    def report(self, study_name: str) -> Path:
        """Return the folder of one study's report."""
        return inside(self.folder, "reports", study_name)

    def comparison(self, study_names: Sequence[str]) -> Path:
        """Return the folder of a comparison; many or long names are cut short, told apart by a digest of all."""
        name = "-".join(["compare", *study_names])
        if len(name) > 160:
            name = f"{name[:140].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return inside(self.folder, "reports", name)

    def journal(self, launch: str) -> Journal:
        """Open the journal, with ``launch`` naming the segment this driver would write."""
        folder = self.folder / "journal"
        return Journal(folder, launch, None if self.remote is None else Pieces(self.remote, folder))

    def check_writable(self) -> None:
        """Raise `StoreError` where the folder, or the nearest one above it that exists, cannot be written to."""
        place = self.folder / "journal"
        try:
            nearest = next(path for path in (place, *place.parents) if path.exists())
        except OSError as problem:
            raise self._unwritable(problem.strerror or str(problem)) from problem
        if not nearest.is_dir():
            raise self._unwritable(f"{nearest} is no folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise self._unwritable(f"nothing may be made in {nearest}")

    def _unwritable(self, why: str) -> StoreError:
        if self.remote is None:
            return StoreError(
                f"The store {self.folder} cannot be written to: {why}. "
                "Choose another folder with --store or HYPERSCALE_STORE."
            )
        return StoreError(
            f"This machine's copies of the store {self.remote.url} cannot be kept in {self.folder}: {why}. "
            "Choose another folder for them with HYPERSCALE_MIRROR."
        )

    def prepare(self) -> list[Path]:
        """Create the journal's folder and write into it once; return the folders created, outermost first.

        Raises `StoreError` where that cannot be done, before any training is spent on it.
        """
        check_no_way_out(self.folder)
        journal = self.folder / "journal"
        try:
            missing = [path for path in (journal, *journal.parents) if not path.exists()][::-1]
            journal.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=journal):
                pass
        except OSError as problem:
            raise self._unwritable(problem.strerror or str(problem)) from problem
        if self.remote is not None:
            self._prepare_remote(self.remote)
        else:
            for name in ("launches", "leases"):
                LocalShelf(self.folder / name).sweep()
        return missing

    def _prepare_remote(self, remote: Remote) -> None:
        """Bring to the URL what died before it could, and look whether the URL can do what several drivers need."""
        if not RemoteShelf(remote, "leases").excludes():
            remote.say(
                f"{remote.url} lets two drivers create the same file: several at once may repeat each other's trials "
                "there. One after another is safe."
            )
        reader = f"reader-{os.getpid()}-{time.time_ns()}"
        leases = self.leases(reader)
        leases.look()
        self.shelf("launches").remove(f"{reader}.json")
        for launch in Pieces(remote, self.folder / "journal").recover(leases.is_alive):
            remote.say(f"Results of launch {launch} that this machine had kept are now at {remote.url}.")

    def fetch(self, name: str) -> None:
        """Bring one file of the store to the mirror, where there is none yet."""
        if self.remote is not None and not (self.folder / name).exists():
            self.remote.download(self.folder / name, name)

    def publish(self, path: Path) -> None:
        """Bring a file or folder of the mirror to the URL; whatever lies elsewhere stays there."""
        if self.remote is not None and path.exists() and path.is_relative_to(self.folder):
            self.remote.upload(path, *path.relative_to(self.folder).parts)

    def shelf(self, name: str) -> Shelf:
        """Return one of the store's folders of small files."""
        return LocalShelf(self.folder / name) if self.remote is None else RemoteShelf(self.remote, name)

    def leases(self, launch: str, lease_s: float | None = None) -> Leases:
        """Return what a launch leases its trials with; ``lease_s`` is how long a sign of life is believed."""
        heart = Heart(self.shelf("launches"), launch, lease_s or LEASE_S)
        return Leases(Register(self.shelf("leases")), heart)

    def write_launch(self, launch: str, data: dict[str, Any]) -> None:
        """Note what a launch is doing (atomically), for `status` in another terminal."""
        text = json.dumps({**data, "heartbeat": time.time(), "pid": os.getpid()})
        self.shelf("launches").write(f"{launch}.json", text.encode())

    def running(self, study_name: str) -> list[dict[str, Any]]:
        """Return the launches of a study whose heartbeat is recent, less those of processes known to have ended."""
        found = []
        for name, text in sorted(self.shelf("launches").read_all().items()):
            data = parse_note(text)
            if _is_launch(data) and data.get("study") == study_name:
                alive = time.time() - data["heartbeat"] < HEARTBEAT_LIMIT_S and not data.get("ended")
                alive = alive and not _process_of(data).is_gone
                found += [{**data, "launch": name.removesuffix(".json")}] if alive else []
        return found


def _is_launch(data: Any) -> bool:
    """Whether a note is a launch's sign of life, with numbers that can be counted with."""
    if not isinstance(data, dict) or not is_finite(data.get("heartbeat")):
        return False
    counts = [data.get(name, 0) for name in ("trials", "ended_trials", "running", "packs", "running_packs", "retries")]
    times = [data.get(name) for name in ("remaining_s", "elapsed_s", "trials_per_minute")]
    nodes = data.get("nodes", {})
    return (
        all(isinstance(count, int) and 0 <= count <= LARGEST_COUNT for count in counts)
        and all(time is None or (is_finite(time) and time >= 0) for time in times)
        and isinstance(nodes, dict)
        and all(isinstance(node, dict) and _is_share(node) for node in nodes.values())
    )


def _process_of(data: Mapping[str, Any]) -> Process:
    """Return the process that a note is of; one that says too little is never known to be gone."""
    pid = data.get("pid")
    texts = {name: str(data.get(name, "")) for name in ("host", "boot", "started")}
    return Process(**texts, pid=pid if isinstance(pid, int) and 0 < pid <= LARGEST_COUNT else 0)


def _is_share(node: Mapping[str, Any]) -> bool:
    """Whether a node's readings are fractions, where there are any."""
    return all(node.get(name) is None or is_finite(node[name]) for name in ("gpu_use", "gpu_memory"))
