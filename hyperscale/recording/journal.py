"""The journal: a durable, append-only list of ended trials, one segment file per driver.

Lines are JSON objects. ``{"record": "setting", "digest": ..., "columns": ..., "setting": ...}`` describes a
setting once per segment, before the first trial of it; ``{"record": "trial", ...}`` is a `TrialResult`. Every
`append` ends with an fsync. A line torn by a crash is skipped: its trial simply runs again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hyperscale.errors import StoreError
from hyperscale.identity import canonical
from hyperscale.trial import Trial, TrialRecord, TrialResult

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\.jsonl")


class Journal:
    """The merged journal segments of a store, and one new segment of this driver's own.

    Reading never writes; the own segment's file is created by the first `append`.
    """

    def __init__(self, folder: Path, segment: str) -> None:
        self.folder = folder
        self._path = folder / f"{segment}.jsonl"
        self._file: int | None = None
        self._described: set[str] = set()
        self._torn = False
        self.torn_lines = 0
        self._columns: dict[str, Mapping[str, Any]] = {}
        self._results: dict[str, TrialResult] = {}
        for path in self._segments():
            self._read(path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _segments(self) -> list[Path]:
        if not self.folder.exists():
            return []
        try:
            return sorted(path for path in self.folder.iterdir() if _SEGMENT.fullmatch(path.name))
        except OSError as error:
            raise StoreError(f"Journal folder {self.folder} cannot be read: {error}.") from error

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise StoreError(f"Journal segment {path} cannot be read: {error}.") from error
        for line in lines:
            if line.strip() and not self._take(line):
                self.torn_lines += 1

    def _take(self, line: bytes) -> bool:
        """Take one line; return False where it is torn or not of this format."""
        try:
            data = json.loads(line)
            if data["record"] == "setting":
                self._columns[data["digest"]] = dict(data["columns"])
            else:
                self._keep(TrialResult.from_json(data))
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def _keep(self, result: TrialResult) -> None:
        """Keep the newest result of a trial, except that a settled one is never replaced by an unsettled one."""
        old = self._results.get(result.digest)
        if old is None or result.status.settled or not old.status.settled:
            self._results[result.digest] = result

    def append(self, results: Sequence[tuple[Trial, TrialResult]]) -> None:
        """Write results to the own segment and fsync it before returning."""
        lines: list[dict[str, Any]] = []
        for trial, result in results:
            if result.setting_digest not in self._described:
                columns = trial.setting.columns()
                entry = {
                    "digest": result.setting_digest,
                    "columns": columns,
                    "setting": canonical(trial.setting),
                }
                lines.append({"record": "setting", **entry})
                self._columns[result.setting_digest] = columns
                self._described.add(result.setting_digest)
            lines.append({"record": "trial", **result.to_json()})
        data = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines).encode()
        try:
            self._write(data)
        except OSError as error:
            self._torn = True
            raise StoreError(
                f"Journal segment {self._path} cannot be written: {error}. Nothing recorded so far is lost; "
                "free space or choose another --store, then run again."
            ) from error
        for _, result in results:
            self._keep(result)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        if self._torn:  # end the line that an earlier failure may have left unfinished
            data, self._torn = b"\n" + data, False
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Close the own segment."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def get(self, digest: str) -> TrialResult | None:
        """Return the recorded result of a trial, or None."""
        return self._results.get(digest)

    def settled(self, digest: str) -> bool:
        """Whether the trial has an outcome that `run` will not repeat."""
        result = self._results.get(digest)
        return result is not None and result.status.settled

    def records(self, digests: Iterable[str]) -> list[TrialRecord]:
        """Return the recorded results of these trials with their settings' columns, in the order asked."""
        found = (self._results[digest] for digest in digests if digest in self._results)
        return [TrialRecord(result=r, columns=self._columns.get(r.setting_digest, {})) for r in found]
