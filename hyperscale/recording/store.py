"""The store folder: where the journal, MLflow's database, checkpoints and reports of a project lie."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperscale.errors import LARGEST_COUNT, StoreError
from hyperscale.recording.journal import Journal
from hyperscale.recording.notes import read_note
from hyperscale.trial import is_finite

HEARTBEAT_LIMIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Store:
    """Paths of one store folder (default ``./results``). Nothing is created before it is needed."""

    folder: Path

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
        """Pack checkpoints; removed when their pack ends."""
        return self.folder / "checkpoints"

    def report(self, study_name: str) -> Path:
        """Return the folder of one study's report."""
        return self.folder / "reports" / study_name

    def comparison(self, study_names: Sequence[str]) -> Path:
        """Return the folder of a comparison; many or long names are cut short, told apart by a digest of all."""
        name = "-".join(["compare", *study_names])
        if len(name) > 160:
            name = f"{name[:140].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return self.folder / "reports" / name

    def journal(self, launch: str) -> Journal:
        """Open the journal, with ``launch`` naming the segment this driver would write."""
        return Journal(self.folder / "journal", launch)

    def prepare(self) -> list[Path]:
        """Create the journal's folder and write into it once; return the folders created, outermost first.

        Raises `StoreError` where that cannot be done, before any training is spent on it.
        """
        journal = self.folder / "journal"
        missing = [path for path in (journal, *journal.parents) if not path.exists()][::-1]
        try:
            journal.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=journal):
                pass
        except OSError as problem:
            raise StoreError(
                f"The store {self.folder} cannot be written to: {problem.strerror or problem}. "
                "Choose another folder with --store or HYPERSCALE_STORE."
            ) from problem
        return missing

    def write_launch(self, launch: str, data: dict[str, Any]) -> None:
        """Note what a launch is doing (atomically), for `status` in another terminal."""
        folder = self.folder / "launches"
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{launch}.tmp"
        draft.write_text(json.dumps({**data, "heartbeat": time.time(), "pid": os.getpid()}))
        draft.replace(folder / f"{launch}.json")

    def running(self, study_name: str) -> list[dict[str, Any]]:
        """Return the launches of a study whose heartbeat is recent."""
        found = []
        for path in sorted((self.folder / "launches").glob("*.json")):
            data = read_note(path)
            if _is_launch(data) and data.get("study") == study_name:
                alive = time.time() - data["heartbeat"] < HEARTBEAT_LIMIT_S and not data.get("ended")
                found += [data] if alive else []
        return found


def _is_launch(data: Any) -> bool:
    """Whether a note is a launch's sign of life, with numbers that can be counted with."""
    if not isinstance(data, dict) or not is_finite(data.get("heartbeat")):
        return False
    counts = [data.get(name, 0) for name in ("trials", "ended_trials", "running")]
    left = data.get("remaining_s")
    return (left is None or (is_finite(left) and left >= 0)) and all(
        isinstance(count, int) and 0 <= count <= LARGEST_COUNT for count in counts
    )
