"""Journal lines: a sound one is known without parsing it, a damaged one even where it still parses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperscale.errors import StoreError
from hyperscale.recording import lines as lines_module
from hyperscale.recording.lines import Line, Reader, encode, scan
from hyperscale.trial import TrialResult, TrialStatus

RESULT = TrialResult(
    digest="a" * 64,
    setting_digest="b" * 64,
    seed=3,
    status=TrialStatus.DIVERGED,
    reason='loss is NaN at step 7; "quoted", λ, {"crc32":"00000000"}',
    metrics={"rmse": 0.25},
    curves={"train_loss": [[0, 10], [1.0, 1e300]]},
)
TRIAL: dict[str, Any] = {"record": "trial", **RESULT.to_json()}
SETTING: dict[str, Any] = {"record": "setting", "digest": "b" * 64, "columns": {"lr": 0.1}, "setting": {"kind": "X"}}


def scanned(tmp_path: Path, data: bytes) -> list[Line | None]:
    """Write ``data`` as a segment and return its lines."""
    path = tmp_path / "one.jsonl"
    path.write_bytes(data)
    return [line for line, _ in scan(path)]


def test_a_line_is_json_and_ends_with_its_checksum(tmp_path: Path) -> None:
    """Readers of JSON need to know nothing of the checksum; older readers of results ignore it."""
    data = json.loads(encode(TRIAL))
    assert list(data)[-1] == "crc32"
    assert TrialResult.from_json(data) == RESULT
    assert {key: data[key] for key in TRIAL} == json.loads(json.dumps(TRIAL))
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"value": float("nan")})


def test_sound_lines_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What we wrote is recognised by its beginning and its checksum alone."""
    monkeypatch.setattr(lines_module, "_parse", None)
    found = scanned(tmp_path, encode(SETTING) + b"\n" + encode(TRIAL))
    offset = len(encode(SETTING)) + 1
    assert found == [
        Line(offset=0, digest="b" * 64, status=None),
        Line(offset=offset, digest="a" * 64, status=TrialStatus.DIVERGED),
    ]


@pytest.mark.parametrize("entry", [TRIAL, SETTING])
def test_lines_without_a_checksum_are_parsed(tmp_path: Path, entry: dict[str, Any]) -> None:
    """Lines of an older version, or laid out by another program, or without the last end of line."""
    (known,) = scanned(tmp_path, encode(entry))
    for text in (json.dumps(entry), json.dumps(entry, separators=(",", ":")), encode(entry).decode().strip()):
        assert scanned(tmp_path, text.encode()) == [known]
        assert scanned(tmp_path, text.encode() + b"\r\n") == [known]


@pytest.mark.parametrize("entry", [TRIAL, SETTING])
def test_no_part_of_a_line_and_no_damaged_line_is_taken(tmp_path: Path, entry: dict[str, Any]) -> None:
    """Cut anywhere but at the end of line, or with any one digit of a number changed: torn."""
    line = encode(entry)
    for cut in range(1, len(line) - 1):
        assert scanned(tmp_path, line[:cut]) == [None]
        assert scanned(tmp_path, line[:cut] + b"\n") == [None]
    damaged = line.replace(b"0.25", b"0.35").replace(b"0.1}", b"0.2}")
    assert json.loads(damaged)
    assert scanned(tmp_path, damaged) == [None]


def test_lines_are_read_back_by_their_place(tmp_path: Path) -> None:
    """In any order, from any segment; a place without a line is an error that names it."""
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_bytes(encode(SETTING) + encode(TRIAL))
    two.write_bytes(encode(TRIAL))
    with Reader() as reader:
        for path, offset, entry in ((one, len(encode(SETTING)), TRIAL), (two, 0, TRIAL), (one, 0, SETTING)):
            assert reader.line(path, offset)["digest"] == entry["digest"]
        with pytest.raises(StoreError, match="cannot be read back at byte 5"):
            reader.line(one, 5)
