"""Journal lines: how one is written, how a torn one is told, and how it is found again.

A line is a JSON object whose last entry, ``"crc32"``, is the CRC-32 of all that stands before it, as eight hex
digits. Where it fits, the line is as it was written and need not be parsed to be trusted: the digest and the status
stand at its beginning. A line without one (an older version's, another program's) is trusted if it parses and holds
nothing else: an unknown entry may be a checksum that was damaged.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperscale.errors import StoreError
from hyperscale.trial import TrialResult, TrialStatus, is_finite

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_SUM = b',"crc32":"'
_SUM_LENGTH = len(_SUM) + len('01234567"}\n')
_TRIAL = re.compile(
    rb'\{"record":"trial","digest":"([0-9a-f]{64})","setting_digest":"[0-9a-f]{64}","seed":\d+,"status":"(\w+)",'
)
_SETTING = re.compile(rb'\{"record":"setting","digest":"([0-9a-f]{64})","columns":\{')
_STATUS = {status.encode(): status for status in TrialStatus}
_ENTRIES = {
    "setting": {"record", "digest", "columns", "setting"},
    "trial": {"record", *(name for name in TrialResult.__slots__)},
}
_BUFFER_BYTES, _SHORT_BUFFER_BYTES = 2**18, 2**12


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A sound line of a segment: where it begins (bytes) and whose it is; ``status`` is None for a setting's."""

    offset: int
    digest: str
    status: TrialStatus | None


def encode(entry: Mapping[str, Any]) -> bytes:
    """Return ``entry`` as a line with its checksum, newline included. ValueError where it holds NaN or infinity."""
    body = _ENCODER.encode(entry).encode()[:-1]
    return body + _ending(body)


def _ending(body: bytes) -> bytes:
    return b'%s%08x"}\n' % (_SUM, zlib.crc32(body))


def scan(path: Path, start: int = 0) -> Iterator[tuple[Line | None, int | None]]:
    """Yield every line of a segment that is not blank, from byte ``start``, and the byte after its end of line.

    The line is None where it is torn or not of this format, the byte where there is no end of line (yet).
    """
    offset = start
    try:
        with path.open("rb", _BUFFER_BYTES) as file:
            file.seek(start)
            for line in file:
                end = offset + len(line)
                if not line.isspace():
                    yield _recognise(line, offset), end if line.endswith(b"\n") else None
                offset = end
    except OSError as error:
        raise StoreError(f"Journal segment {path} cannot be read: {error}.") from error


def _recognise(line: bytes, offset: int) -> Line | None:
    intact = _intact(line if line.endswith(b"}\n") else line.rstrip(b" \t\r\n") + b"\n")
    if intact:
        trial = _TRIAL.match(line)
        if trial and trial[2] in _STATUS:
            return Line(offset=offset, digest=trial[1].decode(), status=_STATUS[trial[2]])
        setting = _SETTING.match(line)
        if setting:
            return Line(offset=offset, digest=setting[1].decode(), status=None)
    return None if intact is False else _parse(line, offset)


def _intact(line: bytes) -> bool | None:
    """Whether the line's checksum fits; None where it has none in the place and form we give it."""
    body, end = line[:-_SUM_LENGTH], line[-_SUM_LENGTH:]
    if not end.startswith(_SUM):
        return None
    return end == _ending(body)


def _parse(line: bytes, offset: int) -> Line | None:
    """Recognise a line of any layout by parsing all of it."""
    try:
        data = _load(line)
        if not data.keys() <= _ENTRIES[data["record"]]:
            return None
        if data["record"] == "setting":
            sound_columns(data)
            found = Line(offset=offset, digest=data["digest"], status=None)
        else:
            result = TrialResult.from_json(data)
            found = Line(offset=offset, digest=result.digest, status=result.status)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found


def _load(line: bytes) -> dict[str, Any]:
    """Return a line's entry; ValueError, TypeError or RecursionError where it is none, or half a character is in it."""
    entry = dict(json.loads(line))
    if b"\\ud" in line.lower():
        json.dumps(entry, ensure_ascii=False).encode()
    return entry


def sound_columns(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the columns of a setting's entry; ValueError or TypeError where they are none."""
    columns = entry.get("columns")
    if not isinstance(entry.get("digest"), str) or not isinstance(columns, dict):
        raise TypeError("it describes no setting")
    for name, value in columns.items():
        if not isinstance(value, str) and not is_finite(value) and value is not None:
            raise ValueError(f"the column {name[:80]!r} is no text and no number")
    return columns


class Reader:
    """Reads sound lines back by their place, one open segment at a time. Close it after use.

    ``ahead`` says whether many lines will be asked for, most of them in the order of the file.
    """

    def __init__(self, *, ahead: bool = True) -> None:
        self._buffer_bytes = _BUFFER_BYTES if ahead else _SHORT_BUFFER_BYTES
        self._path: Path | None = None
        self._file: Any = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the segment that is open."""
        if self._file is not None:
            self._file.close()
            self._path = self._file = None

    def line(self, path: Path, offset: int) -> dict[str, Any]:
        """Return the entry of the line at ``offset`` bytes of segment ``path``."""
        try:
            if path != self._path:
                self.close()
                self._file, self._path = path.open("rb", self._buffer_bytes), path
            self._file.seek(offset)
            return _load(self._file.readline())
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"Journal segment {path} cannot be read back at byte {offset}: {error}.") from error
