"""The journal: what was appended is there after any crash, and nothing else is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hyperscale.errors import StoreError
from hyperscale.recording.journal import Journal
from hyperscale.trial import Trial, TrialResult, TrialStatus
from tests.untrained import Untrained


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing(Untrained):
    """A setting that is never trained."""

    width: int = 1

    @property
    def method_name(self) -> str:
        """The method."""
        return "Nothing"

    def columns(self) -> dict[str, Any]:
        """An integer, a float and a text."""
        return {"method": "Nothing", "width": self.width, "lr": 1.0}

    def metric_names(self) -> tuple[str, ...]:
        """One metric."""
        return ("rmse",)


def ended(trial: Trial, status: TrialStatus = TrialStatus.FINISHED, rmse: float = 0.1) -> tuple[Trial, TrialResult]:
    """Return the trial with a result of that status."""
    good = status is TrialStatus.FINISHED
    result = TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=status,
        reason="" if good else "no memory",
        metrics={"rmse": rmse} if good else {},
        curves={"train_loss": [[0, 10], [1.0, rmse]]},
        provenance={"wall_time_s": 0.5},
    )
    return trial, result


TRIALS = [Trial(setting=Nothing(width=width), seed=seed) for width in (1, 2) for seed in (0, 1)]


def write(folder: Path, segment: str, *results: tuple[Trial, TrialResult]) -> Path:
    """Append results to a segment of their own; return its path."""
    with Journal(folder, segment) as journal:
        for result in results:
            journal.append([result])
    return folder / f"{segment}.jsonl"


def test_reading_writes_nothing(tmp_path: Path) -> None:
    """Neither the folder nor the own segment exists before the first append."""
    with Journal(tmp_path / "journal", "one") as journal:
        assert journal.records([TRIALS[0].digest]) == []
    assert not (tmp_path / "journal").exists()


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    """Results and columns, in the order asked, from all segments, with their types."""
    write(tmp_path, "one", ended(TRIALS[0]), ended(TRIALS[1], rmse=1 / 3))
    write(tmp_path, "two", ended(TRIALS[3], TrialStatus.DIVERGED))
    journal = Journal(tmp_path, "three")
    found = journal.records([TRIALS[3].digest, TRIALS[2].digest, TRIALS[1].digest])
    assert [r.result for r in found] == [ended(TRIALS[3], TrialStatus.DIVERGED)[1], ended(TRIALS[1], rmse=1 / 3)[1]]
    assert found[0].columns == {"method": "Nothing", "width": 2, "lr": 1.0}
    assert [type(value) for value in found[0].columns.values()] == [str, int, float]
    assert journal.get(TRIALS[2].digest) is None


def test_a_setting_is_described_once_in_a_segment(tmp_path: Path) -> None:
    """Before the first of its trials, and again in the next driver's segment, which may be copied alone."""
    one = write(tmp_path, "one", *map(ended, TRIALS))
    two = write(tmp_path, "two", ended(TRIALS[0]))
    kinds = [json.loads(line)["record"] for line in one.read_text().splitlines()]
    assert kinds == ["setting", "trial", "trial", "setting", "trial", "trial"]
    assert [json.loads(line)["record"] for line in two.read_text().splitlines()] == ["setting", "trial"]
    one.unlink()
    assert Journal(tmp_path, "three").records([TRIALS[0].digest])[0].columns["width"] == 1


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_costs_one_trial(tmp_path: Path, cut: int) -> None:
    """The driver died while writing: that trial runs again, the others stand."""
    path = write(tmp_path, "one", *map(ended, TRIALS))
    path.write_bytes(path.read_bytes()[: -1 - cut])
    journal = Journal(tmp_path, "two")
    assert [journal.settled(trial.digest) for trial in TRIALS] == [True, True, True, False]
    assert journal.torn_lines == 1


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\xfe\n", b"null\n", b"[]\n", b'{"record": "trial"}\n', b'{"record": "trial", "digest": 1}\n']
)
def test_garbage_is_skipped(tmp_path: Path, garbage: bytes) -> None:
    """A line of something else is counted and costs nothing."""
    path = write(tmp_path, "one", ended(TRIALS[0]))
    path.write_bytes(garbage + path.read_bytes() + garbage)
    journal = Journal(tmp_path, "two")
    assert journal.settled(TRIALS[0].digest)
    assert journal.torn_lines == 2


def test_a_settled_result_is_never_replaced_by_an_unsettled_one(tmp_path: Path) -> None:
    """Whichever segment comes last; a retry that finished replaces a failure."""
    failed, finished = ended(TRIALS[0], TrialStatus.OUT_OF_MEMORY), ended(TRIALS[0])
    write(tmp_path, "a", finished)
    write(tmp_path, "b", failed)
    write(tmp_path, "c", ended(TRIALS[1], TrialStatus.FAILED))
    write(tmp_path, "d", ended(TRIALS[1]))
    journal = Journal(tmp_path, "e")
    assert journal.get(TRIALS[0].digest) == finished[1]
    assert journal.get(TRIALS[1].digest) == ended(TRIALS[1])[1]


def test_every_append_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of each append, and the folder once, so that the new segment itself survives."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Journal(tmp_path / "journal", "one") as journal:
        journal.append([ended(TRIALS[0])])
        assert len(synced) == 2
        journal.append([ended(TRIALS[1]), ended(TRIALS[2])])
        assert len(synced) == 3


def test_a_folder_that_cannot_be_written_is_an_error_for_users(tmp_path: Path) -> None:
    """A file where the folder should be: where, why, what to do."""
    (tmp_path / "occupied").write_text("")
    journal = Journal(tmp_path / "occupied" / "journal", "one")
    with pytest.raises(StoreError, match=r"cannot be written: .*choose another --store"):
        journal.append([ended(TRIALS[0])])
    (tmp_path / "journal").write_text("")
    with pytest.raises(StoreError, match="cannot be read"):
        Journal(tmp_path / "journal", "one")
