"""The journal: what was appended is there after any crash, and nothing else is."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.errors import StoreError
from hyperscale.recording import journal as journal_module
from hyperscale.recording.journal import Journal
from hyperscale.recording.lines import encode
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus
from tests.untrained import Nothing


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


def test_an_append_returns_what_stands(tmp_path: Path) -> None:
    """With the settings' columns, equal to what is read back; a failure after a success is written and not returned."""
    with Journal(tmp_path, "one") as journal:
        appended = journal.append([ended(TRIALS[0]), ended(TRIALS[2], TrialStatus.FAILED), ended(TRIALS[1])])
        assert [record.result.digest for record in appended] == [TRIALS[i].digest for i in (0, 2, 1)]
        assert appended == journal.records(TRIALS[i].digest for i in (0, 2, 1))
        assert journal.append([ended(TRIALS[0], TrialStatus.FAILED), ended(TRIALS[2])]) == [
            TrialRecord(result=ended(TRIALS[2])[1], columns=TRIALS[2].setting.columns())
        ]
    assert Journal(tmp_path, "two").records(t.digest for t in TRIALS) == journal.records(t.digest for t in TRIALS)


def test_a_segment_that_grows_while_it_is_read(tmp_path: Path) -> None:
    """Another driver is in the middle of a line: what is complete is there, the rest is for the next reader."""
    path = write(tmp_path, "one", *map(ended, TRIALS))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    early = Journal(tmp_path, "two")
    assert [early.status(trial.digest) for trial in TRIALS] == [TrialStatus.FINISHED] * 3 + [None]
    path.write_bytes(whole)
    late = Journal(tmp_path, "two")
    assert late.torn_lines == 0
    assert late.records(t.digest for t in TRIALS[:3]) == early.records(t.digest for t in TRIALS)
    assert late.get(TRIALS[3].digest) == ended(TRIALS[3])[1]


def test_a_refresh_reads_what_others_have_added(tmp_path: Path) -> None:
    """New segments and further lines of known ones, each told once; the own segment is not read again."""
    write(tmp_path, "one", ended(TRIALS[0]))
    with Journal(tmp_path, "own") as journal:
        assert journal.refresh() == []
        journal.append([ended(TRIALS[1])])
        write(tmp_path, "one", ended(TRIALS[2], TrialStatus.FAILED))
        write(tmp_path, "zzz", ended(TRIALS[3]), ended(TRIALS[1], TrialStatus.FAILED))
        assert journal.refresh() == [TRIALS[2].digest, TRIALS[3].digest]
        assert journal.refresh() == []
        assert journal.records(t.digest for t in TRIALS) == Journal(tmp_path, "x").records(t.digest for t in TRIALS)


def test_a_refresh_comes_back_to_an_unfinished_line(tmp_path: Path) -> None:
    """Another driver is in the middle of a line: it counts as torn until the rest of it is there."""
    path = write(tmp_path, "one", *map(ended, TRIALS))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    journal = Journal(tmp_path, "two")
    assert journal.torn_lines == 1
    assert journal.refresh() == []
    assert journal.torn_lines == 1
    path.write_bytes(whole)
    assert journal.refresh() == [TRIALS[3].digest]
    assert journal.torn_lines == 0
    path.write_bytes(whole[:-1])  # only the end of the line is missing: it is a result all the same
    late = Journal(tmp_path, "three")
    assert late.settled(TRIALS[3].digest)
    path.write_bytes(whole + b"rubbish\n")
    assert late.refresh() == []
    assert late.torn_lines == 1


def test_a_segment_without_an_end_of_line_is_gone_on_with_on_a_new_one(tmp_path: Path) -> None:
    """What an earlier process of the same name left unfinished spoils only itself."""
    path = write(tmp_path, "one", *map(ended, TRIALS[:2]))
    path.write_bytes(path.read_bytes()[:-9])
    write(tmp_path, "one", ended(TRIALS[2]))
    journal = Journal(tmp_path, "two")
    assert [journal.settled(trial.digest) for trial in TRIALS] == [True, False, True, False]
    assert journal.get(TRIALS[2].digest) == ended(TRIALS[2])[1]
    assert journal.torn_lines == 1


def test_a_write_that_failed_half_way_is_noted_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial has no result; writing it again, the line and its setting's description are whole."""
    whole_write = os.write
    with Journal(tmp_path, "one") as journal:
        journal.append([ended(TRIALS[0])])

        def torn_write(file: int, data: bytes) -> int:
            whole_write(file, data[:50])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", torn_write)
        with pytest.raises(StoreError, match="No space left"):
            journal.append([ended(TRIALS[2])])
        assert journal.get(TRIALS[2].digest) is None
        monkeypatch.setattr(os, "write", whole_write)
        journal.append([ended(TRIALS[2])])
        assert journal.get(TRIALS[2].digest) == ended(TRIALS[2])[1]
    again = Journal(tmp_path, "two")
    assert again.records([TRIALS[2].digest])[0].columns["width"] == 2
    assert again.torn_lines == 1


def test_a_view_reads_when_it_is_looped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Length and digests cost no reading; loops, indices and slices give what `records` gives, batch by batch."""
    write(tmp_path, "one", *map(ended, TRIALS))
    journal = Journal(tmp_path, "two")
    monkeypatch.setattr(journal_module, "_BATCH", 2)
    records = journal.records(trial.digest for trial in TRIALS)
    view = journal.view([*(trial.digest for trial in TRIALS), "unknown"])
    with monkeypatch.context() as closed:
        closed.setattr(Journal, "read", None)
        assert len(view) == 4
        assert list(view.digests) == [trial.digest for trial in TRIALS]
    assert list(view) == list(view) == records
    assert view[-1] == records[-1]
    assert list(view[1:3]) == records[1:3]


def test_a_segment_that_has_gone_is_an_error_for_users(tmp_path: Path) -> None:
    """A result that was indexed and cannot be read back is a `StoreError` that names the segment."""
    path = write(tmp_path, "one", *map(ended, TRIALS))
    journal = Journal(tmp_path, "two")
    path.unlink()
    assert journal.settled(TRIALS[0].digest)
    with pytest.raises(StoreError, match=r"one\.jsonl cannot be read back"):
        journal.get(TRIALS[0].digest)


class WholeJournal:
    """What a journal says, the slow way: every line parsed, every result held, newest last."""

    def __init__(self, folder: Path) -> None:
        self.torn_lines = 0
        self.columns: dict[str, Any] = {}
        self.results: dict[str, TrialResult] = {}
        for path in sorted(folder.iterdir()):
            for line in path.read_bytes().split(b"\n"):
                if line.strip() and not self.take(line):
                    self.torn_lines += 1

    def take(self, line: bytes) -> bool:
        """Take one line; return False where it is torn."""
        try:
            data = json.loads(line)
            if data["record"] == "setting":
                self.columns[data["digest"]] = dict(data["columns"])
            else:
                self.keep(TrialResult.from_json(data))
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def keep(self, result: TrialResult) -> None:
        """Keep the newest, except that settled stays settled."""
        old = self.results.get(result.digest)
        if old is None or result.status.settled or not old.status.settled:
            self.results[result.digest] = result

    def records(self, digests: Sequence[str]) -> list[TrialRecord]:
        """Return the records of those trials that have one."""
        found = (self.results[digest] for digest in digests if digest in self.results)
        return [TrialRecord(result=r, columns=self.columns.get(r.setting_digest, {})) for r in found]


def _line(entry: dict[str, Any], layout: str) -> bytes:
    if layout == "older":
        return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    if layout == "foreign":
        return json.dumps(dict(reversed(entry.items())), indent=None).encode() + b" \r\n"
    return encode(entry)


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a segment: settings and results in several layouts, repeated, torn, with rubbish between."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(0, 8))):
        trial, status = draw(st.sampled_from(TRIALS)), draw(st.sampled_from(TrialStatus))
        layout = draw(st.sampled_from(["ours", "ours", "older", "foreign"]))
        digest, columns = trial.setting.digest(), trial.setting.columns()
        kind = draw(st.sampled_from(["trial", "trial", "trial", "setting", "rubbish"]))
        if kind == "setting":
            parts.append(_line({"record": "setting", "digest": digest, "columns": columns, "setting": {}}, layout))
        elif kind == "trial":
            result = replace(ended(trial, status, draw(st.floats(0, 1)))[1], reason=draw(st.text(max_size=5)))
            parts.append(_line({"record": "trial", **result.to_json()}, layout))
        else:
            parts.append(draw(st.sampled_from([b"\n", b" \n", b"null\n", b"[]\n", b"{}\n", b"\x00\xff\n"])))
        if kind != "rubbish" and draw(st.integers(0, 5)) == 0:  # a crash in a line, then another line, or on the same
            cut = draw(st.integers(0, len(parts[-1]) - 1))
            parts[-1] = parts[-1][:cut] + draw(st.sampled_from([b"", b"\n"]))
    return b"".join(parts)


@settings(max_examples=150, deadline=None)
@given(
    files=st.lists(segments(), max_size=4),
    appended=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(TrialStatus), st.floats(0, 1)), max_size=4), max_size=3
    ),
)
def test_the_index_answers_as_a_journal_that_holds_everything(
    files: list[bytes], appended: list[list[tuple[int, TrialStatus, float]]]
) -> None:
    """Torn, repeated, older and foreign lines in several segments, then appends: the same to all readers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, data in enumerate(files):
            (folder / f"{number}.jsonl").write_bytes(data)
        journal = Journal(folder, "own")
        assert journal.torn_lines == WholeJournal(folder).torn_lines
        for batch in appended:
            journal.append([ended(TRIALS[index], status, value) for index, status, value in batch])
        whole = WholeJournal(folder)
        digests = [trial.digest for trial in (*TRIALS, TRIALS[0])]
        for reader in (journal, Journal(folder, "reader")):
            assert reader.records(digests) == whole.records(digests)
            assert [reader.get(digest) for digest in digests] == [whole.results.get(digest) for digest in digests]
            for digest in digests:
                known = whole.results.get(digest)
                assert reader.status(digest) == (known.status if known else None)
                assert reader.settled(digest) == (known is not None and known.status.settled)
        journal.close()
