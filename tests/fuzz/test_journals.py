"""Journals with bytes flipped, lines cut, repeated, forged: what is whole is there bit for bit, nothing else is."""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from analysis.table import build_table
from hyperscale.console import print_status, status_data
from hyperscale.errors import HyperscaleError
from hyperscale.identity import canonical
from hyperscale.recording.lines import encode
from hyperscale.recording.outcomes import Journalled
from hyperscale.recording.store import Store
from hyperscale.study import Study, StudyFile
from hyperscale.trial import Trial, TrialResult, TrialStatus
from tests.fuzz.endings import Ending, check_message, examples, judge
from tests.untrained import Nothing

STUDY = Study(
    name="journalled", settings=[Nothing(width=w) for w in (1, 2, 3)], seeds=range(3), metrics=("rmse",)
)  # fmt: skip
FILE = StudyFile(study=STUDY, description="Journalled: [what] is left?", source="", path=Path("journalled.py"))
TRIALS = STUDY.trials()
_STATUSES = (TrialStatus.FINISHED, TrialStatus.FINISHED, TrialStatus.DIVERGED, TrialStatus.FAILED)


def _ended(number: int, trial: Trial) -> TrialResult:
    status = _STATUSES[number % len(_STATUSES)]
    good = status is TrialStatus.FINISHED
    return TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=status,
        reason="" if good else "told to [end] so",
        metrics={"rmse": 0.1 + number / 7} if good else {},
        curves={"train_loss": [[0, 10], [1.0, number / 3]]},
        provenance={"wall_time_s": 0.5, "ended_at": "2026-11-01T00:00:00.000+00:00", "pack_size": 3},
    )


RESULTS = {trial.digest: _ended(number, trial) for number, trial in enumerate(TRIALS)}


def _lines(number: int) -> list[bytes]:
    """Return what the journal holds of setting ``number``: its description, and its three trials."""
    setting = STUDY.settings[number]
    columns = {"digest": setting.digest(), "columns": setting.columns(), "setting": canonical(setting)}
    trials = [RESULTS[trial.digest] for trial in TRIALS if trial.setting is setting]
    return [
        encode({"record": "setting", **columns}),
        *(encode({"record": "trial", **result.to_json()}) for result in trials),
    ]


SEGMENTS = {"a.jsonl": b"".join(_lines(0) + _lines(1)), "b.jsonl": b"".join(_lines(2))}
DIGEST_OF = {
    line: json.loads(line)["digest"] for number in range(3) for line in _lines(number)[1:]
}  # fmt: skip
_GARBAGE = (
    b"\x00" * 40, b"\xff\xfe\x80", b"null", b"[]", b"{", b'"', b"[" * 10_000, b'{"a":' * 10_000, b"9" * 5000, b"1e999",
    b'{"record":"trial"}', b'{"record":"setting","digest":[],"columns":{}}', b'{"record":"lease"}', b"\r", b"\n\n",
    b'{"record":"trial","metrics":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"NaN", b'\xed\xa0\x80', b"\\ud800",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw the segments after some edits of their bytes, none of which recomputes a checksum."""
    segments = dict(SEGMENTS)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(segments)))
        data = segments[name]
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from((1, 1, 2, 9, 60, 900))))
        edit = draw(st.sampled_from(("flip", "cut", "drop", "repeat", "insert", "swap", "line", "merge", "crlf")))
        if edit == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
        elif edit == "cut":
            data = data[:start]
        elif edit == "drop":
            data = data[:start] + data[stop:]
        elif edit == "repeat":
            data = data[:stop] + data[start:]
        elif edit == "insert":
            data = data[:start] + draw(st.one_of(st.sampled_from(_GARBAGE), st.binary(max_size=9))) + data[start:]
        elif edit == "swap":
            data = data[stop:] + data[start:stop] + data[:start]
        elif edit == "line":
            lines = data.splitlines(keepends=True)
            data = b"".join(draw(st.permutations(lines))[: draw(st.integers(0, len(lines)))])
        elif edit == "merge":
            data += draw(st.sampled_from(sorted(SEGMENTS.values())))
        elif edit == "crlf":
            data = data.replace(b"\n", b"\r\n", draw(st.sampled_from((1, -1))))
        segments[name] = data
    return segments


def whole(segments: dict[str, bytes]) -> set[str]:
    """Return the digests of the trials one of whose lines is still a line, byte for byte."""
    lines = {line.rstrip(b"\r") + b"\n" for data in segments.values() for line in data.split(b"\n")}
    return {digest for line, digest in DIGEST_OF.items() if line in lines}


def write(folder: Path, segments: dict[str, bytes]) -> Store:
    """Write the segments into a store's journal."""
    store = Store(folder=folder)
    (folder / "journal").mkdir(parents=True)
    for name, data in segments.items():
        (folder / "journal" / name).write_bytes(data)
    return store


def look(store: Store) -> dict[str, TrialResult]:
    """Read the store as `status`, `export`, `report` and `sync` do; return the results of the study's trials."""
    data = status_data(FILE, store, None)
    json.dumps(data, allow_nan=False)
    print_status(FILE.headline, data)
    journal = store.journal("reader")
    digests = [trial.digest for trial in TRIALS]
    records = journal.records(digests)
    table = build_table(records)
    assert list(table["digest"]) == [record.result.digest for record in records]
    table.to_csv()
    assert [outcome.digest for outcome in Journalled(journal, digests).outcomes()] == [r.result.digest for r in records]
    counted = sum(data[status.value] for status in TrialStatus)
    assert counted == len(records) == len(TRIALS) - data["missing"]
    for record in records:
        if record.columns:
            width = next(trial.setting.width for trial in TRIALS if trial.digest == record.result.digest)
            assert dict(record.columns) == Nothing(width=width).columns()
    return {record.result.digest: record.result for record in records}


def append(store: Store, segment: str, kept: dict[str, TrialResult]) -> None:
    """Append every trial that is missing, to a new segment or to a damaged one; all must be there afterwards."""
    missing = [trial for trial in TRIALS if trial.digest not in kept]
    with store.journal(segment) as journal:
        journal.append([(trial, RESULTS[trial.digest]) for trial in missing])
    assert look(store) == RESULTS


def survive(segments: dict[str, bytes], own: str) -> Ending:
    """Check the whole life of damaged segments: what they still say, and that the study can be completed."""
    with tempfile.TemporaryDirectory() as name:
        store = write(Path(name) / "store", segments)
        found = look(store)
        for digest, result in found.items():
            assert result == RESULTS[digest], "something was invented"
        lost = whole(segments) - found.keys()
        assert not lost, f"whole lines are lost: {lost}"
        append(store, own, found)
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=2000)
@given(segments=damaged(), own=st.sampled_from(("c", "a", "b")))
def test_a_damaged_journal_keeps_what_is_whole_and_invents_nothing(segments: dict[str, bytes], own: str) -> None:
    """Any bytes: no traceback, every whole line's trial with its bits, no other, and appending completes the study."""
    judge("journals, damaged", lambda: survive(segments, own))


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


_WRONG: tuple[Any, ...] = (
    None, True, -1, 1.5, 10**400, "", "x", "\ud800", "finished", [], [1], [[1]], {}, {"rmse": None}, {"rmse": "0.1"},
    {"rmse": [1]}, {"rmse": True}, {"rmse": 10**400}, {"": {}}, {"ended_at": 10**400}, {"ended_at": "0001-01-01"},
    {"ended_at": {}}, {"pack_size": {}}, {"lr": {"a": 1}}, {"lr": [1]}, {"train_loss": 3}, {"train_loss": [[1], "a"]},
)  # fmt: skip
_RAW = ("NaN", "Infinity", "1e999", "9" * 5000, _nested(500), _nested(10_000), '"\\u0000"', "-0", '{"a":1,"a":2}')


def sealed(text: str) -> bytes:
    """Return the text of an entry as a line with the right checksum, whatever it says."""
    body = text.encode("utf-8", "surrogatepass")[:-1]
    return b'%s,"crc32":"%08x"}\n' % (body, zlib.crc32(body))


@st.composite
def forgeries(draw: st.DrawFn) -> bytes:
    """Draw a line whose checksum fits and whose contents do not: a field of the wrong type, gone, or twice there."""
    line = draw(st.sampled_from([line for number in range(3) for line in _lines(number)]))
    entry = {key: value for key, value in json.loads(line).items() if key != "crc32"}
    key = draw(st.sampled_from(sorted(entry)))
    text = {name: json.dumps(value, separators=(",", ":")) for name, value in entry.items()}
    how = draw(st.sampled_from(("type", "type", "raw", "gone", "twice", "new")))
    if how == "gone":
        del text[key]
    else:
        value = draw(st.sampled_from(_RAW)) if how == "raw" else json.dumps(draw(st.sampled_from(_WRONG)))
        if how == "twice":
            text[f'{key}":{value},"{key}'] = text[key]
        else:
            text["new" if how == "new" else key] = value
    return sealed("{" + ",".join(f'"{name}":{value}' for name, value in text.items()) + "}")


def check_place(text: str) -> None:
    """Check that an error names the segment that it is about."""
    assert "f.jsonl" in text, text


def withstand(forged: bytes, first: bool) -> Ending:
    """Check that a forged line leads to a clear error, or to results of the right types that can be tabulated."""
    segments = {"f.jsonl": forged} if first else {**SEGMENTS, "f.jsonl": forged}
    with tempfile.TemporaryDirectory() as name:
        store = write(Path(name) / "store", segments)
        try:
            data = status_data(FILE, store, None)
            json.dumps(data, allow_nan=False)
            journal = store.journal("reader")
            digests = [trial.digest for trial in TRIALS]
            records = journal.records(digests)
            list(Journalled(journal, digests).outcomes())
            build_table(records).to_csv().encode()
            json.dumps([[record.result.metrics, record.result.curves] for record in records], allow_nan=False)
        except HyperscaleError as problem:
            check_message(str(problem))
            check_place(str(problem))
            return Ending.CLEAR_ERROR
        if not first:
            digest = json.loads(forged).get("digest") if b"[[[[" not in forged and b"99999" not in forged else None
            kept = {record.result.digest: record.result for record in records}
            assert kept.keys() == RESULTS.keys()
            others = {key: value for key, value in kept.items() if key != digest}
            assert others == {key: RESULTS[key] for key in others}
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=1200)
@given(forged=forgeries(), first=st.booleans())
def test_a_line_with_a_right_checksum_and_wrong_contents_is_no_traceback(forged: bytes, first: bool) -> None:
    """Wrong types, huge numbers, deep nesting, keys twice: a `StoreError` that names the segment, or sound records."""
    judge("journals, forged", lambda: withstand(forged, first))


def test_what_is_written_is_what_the_mutations_start_from(tmp_path: Path) -> None:
    """The undamaged segments give every result, so that what is missing after an edit is the edit's doing."""
    assert look(write(tmp_path / "store", SEGMENTS)) == RESULTS
