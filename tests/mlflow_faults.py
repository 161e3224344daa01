"""Databases of MLflow's that are copied instead of made, and a client that dies with its driver."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.outcomes import fingerprint
from hyperscale.study import PER_SETTING, StudyFile
from hyperscale.trial import TrialRecord
from tests.ledgers import given
from tests.test_mlflow_store import runs


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, its write-ahead log included."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def check(uri: str, file: StudyFile, records: Sequence[TrialRecord]) -> None:
    """Assert that MLflow shows just these records, in runs of the study's form, once each."""
    store = MlflowStore(uri)
    store.open_study(file)
    assert store.read_records("toy") == list(records)
    digests = Counter(
        r.result.setting_digest if file.study.mlflow_runs == PER_SETTING else r.result.digest for r in records
    )
    shown, other = ("setting", "trial") if file.study.mlflow_runs == PER_SETTING else ("trial", "setting")
    assert len(runs(store, shown)) == len(digests)
    assert runs(store, other) == []
    assert all(run.info.status in ("FINISHED", "FAILED") for run in runs(store, shown))


class Killed(BaseException):
    """The driver's end; not an error that anything may catch."""


class Mortal:
    """A client through which requests are counted, and that dies before one of them; -1 is none."""

    def __init__(self, client: Any, dies_at: int) -> None:
        self._client, self._dies_at = client, dies_at
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if sum(self.calls.values()) == self._dies_at:
                raise Killed
            self.calls[name] += 1
            return method(*args, **kwargs)

        return call


@contextmanager
def counted(store: MlflowStore, dies_at: int = -1) -> Iterator[Counter[str]]:
    """Count a store's requests within a block, or kill the driver before one of them."""
    client = store._client()
    mortal = Mortal(client, dies_at)
    store._connection = mortal  # type: ignore[assignment]
    try:
        yield mortal.calls
    finally:
        store._connection = client


def mark_of(records: Sequence[TrialRecord]) -> str:
    """Return the fingerprint of these records' outcomes."""
    return fingerprint(given(records).outcomes())
