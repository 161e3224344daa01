"""The journal: a durable, append-only list of ended trials, one segment file per driver.

Lines are JSON objects. ``{"record": "setting", "digest": ..., "columns": ..., "setting": ...}`` describes a
setting once per segment, before the first trial of it; ``{"record": "trial", ...}`` is a `TrialResult`. Every
`append` ends with an fsync. A line torn by a crash is skipped: its trial simply runs again.

Memory holds only where each line is and how its trial ended; results are read back when they are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

from hyperscale.errors import StoreError
from hyperscale.identity import canonical
from hyperscale.recording.lines import Line, Reader, encode, scan, sound_columns
from hyperscale.recording.pieces import Pieces
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\.jsonl")
_BATCH = 1024

# A place is one integer, for there may be hundreds of thousands: the number of a line's segment, the byte at which it
# begins (44 bits), and how its trial ended (3 bits, 0 for a setting). So places sort as lines lie on disk.
_OFFSET_BITS, _STATUS_BITS = 44, 3
_STATUSES = (None, *TrialStatus)


def _place(segment: int, line: Line) -> int:
    return (segment << _OFFSET_BITS | line.offset) << _STATUS_BITS | _STATUSES.index(line.status)


def _status(place: int) -> TrialStatus | None:
    return _STATUSES[place & (1 << _STATUS_BITS) - 1]


def _segment_and_offset(place: int) -> tuple[int, int]:
    return divmod(place >> _STATUS_BITS, 1 << _OFFSET_BITS)


class Journal:
    """The merged journal segments of a store, and one new segment of this driver's own.

    Reading never writes; the own segment's file is created by the first `append`. One thread appends, any may read.
    ``pieces`` is given where the folder is the mirror of a journal at a URL, which appends go to as well.
    """

    def __init__(self, folder: Path, segment: str, pieces: Pieces | None = None) -> None:
        self.folder = folder
        self._pieces = pieces
        self._path = folder / f"{segment}.jsonl"
        self._file: int | None = None
        self._torn = False
        self._settings: dict[str, int] = {}
        self._trials: dict[str, int] = {}
        self._segments = self._find_segments()
        self._scanned = [0] * len(self._segments)  # bytes of whole lines that were read
        self._num_torn, self._torn_ends = 0, set[int]()
        for number in range(len(self._segments)):
            self._scan(number)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def torn_lines(self) -> int:
        """How many lines could not be used."""
        return self._num_torn + len(self._torn_ends)

    def refresh(self) -> list[str]:
        """Read what other drivers have added since; return the trials with a result that is new here.

        A last line without its end is read again when it has one.
        """
        known = set(self._segments)
        new = [path for path in self._find_segments() if path not in known]
        self._segments += new
        self._scanned += [0] * len(new)
        gained: list[str] = []
        for number, path in enumerate(self._segments):
            if path != self._path and _size(path) > self._scanned[number]:
                gained += self._scan(number)
        return gained

    def _scan(self, number: int) -> list[str]:
        """Read a segment from where it was left; return the trials that it has a new result of."""
        gained: list[str] = []
        self._torn_ends.discard(number)
        for line, end in scan(self._segments[number], self._scanned[number]):
            if end is not None:
                self._scanned[number] = end
            if line is not None:
                known = self._trials.get(line.digest)
                if self._note(number, line) and line.status is not None and self._trials[line.digest] != known:
                    gained.append(line.digest)
            elif end is None:
                self._torn_ends.add(number)
            else:
                self._num_torn += 1
        return gained

    def _find_segments(self) -> list[Path]:
        if self._pieces is not None:
            self._pieces.fetch(self._path.stem)
        if not self.folder.exists():
            return []
        try:
            return sorted(path for path in self.folder.iterdir() if _SEGMENT.fullmatch(path.name))
        except OSError as error:
            raise StoreError(f"Journal folder {self.folder} cannot be read: {error}.") from error

    def _note(self, segment: int, line: Line) -> bool:
        """Note where a line is, and return whether it stands.

        The newest result of a trial does, except that a settled one is never replaced by an unsettled one.
        """
        if line.status is None:
            self._settings[line.digest] = _place(segment, line)
        elif line.status.settled or not self.settled(line.digest):
            self._trials[line.digest] = _place(segment, line)
        else:
            return False
        return True

    def append(self, results: Sequence[tuple[Trial, TrialResult]]) -> list[TrialRecord]:
        """Write results to the own segment and fsync it before returning.

        Returns the records of those that stand: a settled result is not replaced by an unsettled one.
        """
        columns: dict[str, Mapping[str, Any]] = {}
        lines: list[tuple[bytes, str, TrialResult | None]] = []
        for trial, result in results:
            setting = result.setting_digest
            if setting not in columns:
                columns[setting] = trial.setting.columns()
                if not self._described(setting):
                    lines.append((_description(trial, setting, columns[setting]), setting, None))
            lines.append((encode({"record": "trial", **result.to_json()}), result.digest, result))
        segment, offset = self._write(b"".join(data for data, _, _ in lines))
        records = []
        for data, digest, written in lines:
            line = Line(offset=offset, digest=digest, status=None if written is None else written.status)
            if self._note(segment, line) and written is not None:
                records.append(TrialRecord(result=written, columns=columns[written.setting_digest]))
            offset += len(data)
        return records

    def _described(self, setting_digest: str) -> bool:
        """Whether the own segment describes the setting."""
        place = self._settings.get(setting_digest)
        return place is not None and self._segments[_segment_and_offset(place)[0]] == self._path

    def _write(self, data: bytes) -> tuple[int, int]:
        """Make ``data`` durable; return the number of the own segment and the byte it begins at."""
        try:
            file = self._open()
            if self._torn:  # end the line that an earlier failure may have left unfinished
                os.write(file, b"\n")
                self._torn = False
            offset = os.fstat(file).st_size
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
            if self._pieces is not None:
                self._pieces.ship(self._path)
        except OSError as error:
            self._torn = True
            raise StoreError(
                f"Journal segment {self._path} cannot be written: {error}. Nothing recorded so far is lost; "
                "free space or choose another --store, then run again."
            ) from error
        return self._segments.index(self._path), offset

    def _open(self) -> int:
        """Open the own segment at the first call, creating it where it is new."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._pieces is not None:
                self._pieces.begin(self._path)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            size = os.fstat(self._file).st_size
            self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
            if self._path not in self._segments:
                self._segments.append(self._path)
                self._scanned.append(0)
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return self._file

    def close(self) -> None:
        """Close the own segment."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if self._pieces is not None:
                self._pieces.end(self._path)

    def status(self, digest: str) -> TrialStatus | None:
        """Return how a trial ended, or None where that is not recorded; nothing is read."""
        place = self._trials.get(digest)
        return None if place is None else _status(place)

    def settled(self, digest: str) -> bool:
        """Whether the trial has an outcome that `run` will not repeat."""
        status = self.status(digest)
        return status is not None and status.settled

    def get(self, digest: str) -> TrialResult | None:
        """Return the recorded result of a trial, or None; `records` and `view` are for many."""
        place = self._trials.get(digest)
        if place is None:
            return None
        with Reader(ahead=False) as reader:
            return self._result(reader, digest)

    def records(self, digests: Iterable[str]) -> list[TrialRecord]:
        """Return the recorded results of these trials with their settings' columns, in the order asked."""
        return list(self.view(digests))

    def view(self, digests: Iterable[str]) -> RecordsView:
        """Return what `records` does, but read while it is looped over: for more trials than should be in memory."""
        return RecordsView(self, [digest for digest in digests if digest in self._trials])

    def read(self, digests: Sequence[str]) -> list[TrialRecord]:
        """Read the results of recorded trials, in the order of the file, and return them in the order asked."""
        with Reader() as reader:
            results = {d: self._result(reader, d) for d in sorted(set(digests), key=self._trials.__getitem__)}
            described = {result.setting_digest for result in results.values()} & self._settings.keys()
            columns = {d: self._columns(reader, d) for d in sorted(described, key=self._settings.__getitem__)}
        found = [results[digest] for digest in digests]
        return [TrialRecord(result=result, columns=columns.get(result.setting_digest, {})) for result in found]

    def _result(self, reader: Reader, digest: str) -> TrialResult:
        place = self._trials[digest]
        try:
            result = TrialResult.from_json(self._entry(reader, place))
            if result.digest != digest:
                raise ValueError("it is of two trials")
        except (ValueError, KeyError, TypeError) as error:
            raise self._unsound(place, error) from None
        return result

    def _columns(self, reader: Reader, digest: str) -> Mapping[str, Any]:
        place = self._settings[digest]
        try:
            return sound_columns(self._entry(reader, place))
        except (ValueError, TypeError) as error:
            raise self._unsound(place, error) from None

    def _entry(self, reader: Reader, place: int) -> Mapping[str, Any]:
        segment, offset = _segment_and_offset(place)
        return reader.line(self._segments[segment], offset)

    def _unsound(self, place: int, error: Exception) -> StoreError:
        """Return what to say of a line whose checksum fits and that still is no entry of a journal."""
        segment, offset = _segment_and_offset(place)
        return StoreError(
            f"Journal segment {self._segments[segment]} holds no sound entry at byte {offset}: {error}. Its checksum "
            "fits, so it was written like that, and not by this version. Remove the line; what it was of runs again."
        )


def _size(path: Path) -> int:
    """Return a segment's length in bytes. It is opened, for only that makes NFS look at the server's copy."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(f"Journal segment {path} cannot be read: {error}.") from error


def _description(trial: Trial, digest: str, columns: Mapping[str, Any]) -> bytes:
    entry = {"digest": digest, "columns": columns, "setting": canonical(trial.setting)}
    return encode({"record": "setting", **entry})


class RecordsView(Sequence[TrialRecord]):
    """Records of a journal that are read from disk, some at a time, whenever they are looped over.

    ``digests`` are those of its trials, in order; asking for them or for the length reads nothing.
    """

    def __init__(self, journal: Journal, digests: Sequence[str]) -> None:
        self.journal, self.digests = journal, digests

    def __len__(self) -> int:
        return len(self.digests)

    def __iter__(self) -> Iterator[TrialRecord]:
        for start in range(0, len(self.digests), _BATCH):
            yield from self.journal.read(self.digests[start : start + _BATCH])

    @overload
    def __getitem__(self, index: int) -> TrialRecord: ...

    @overload
    def __getitem__(self, index: slice) -> RecordsView: ...

    def __getitem__(self, index: int | slice) -> TrialRecord | RecordsView:
        if isinstance(index, slice):
            return RecordsView(self.journal, self.digests[index])
        return self.journal.read([self.digests[index]])[0]
