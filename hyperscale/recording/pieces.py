"""A journal at a URL: segments go there in pieces that never change, and come from there into the mirror.

Piece ``journal/<launch>/<offset>.jsonl`` holds the bytes of segment ``<launch>.jsonl`` from that offset; an append has
returned only when its piece is there. At the end of a launch its pieces are merged to ``journal/<launch>.jsonl``. A
reader adds what it lacks to the mirror's copy of the segment, at the same offsets; so several readers of one mirror
write the same bytes to the same places.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hyperscale.errors import StoreError
from hyperscale.recording.remote import Remote

_FOLDER = "journal"
_MERGED = re.compile(r"([A-Za-z0-9._-]+)\.jsonl")
_PIECE = re.compile(r"([A-Za-z0-9._-]+)/(\d{15})\.jsonl")
_AT_ONCE = 32
_LISTINGS = 5


@dataclass(kw_only=True, slots=True)
class _Kept:
    """What the URL has of a segment: the merged file's size, and the size of every piece by its offset."""

    merged: int = 0
    pieces: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """How many bytes of the segment are there without a gap."""
        end = self.merged
        for offset in sorted(self.pieces):
            if offset <= end:
                end = max(end, offset + self.pieces[offset])
        return end


def _piece(offset: int) -> str:
    return f"{offset:015d}.jsonl"


class Pieces:
    """The segments of one store's journal, between its URL and the mirror's folder.

    Beside a segment of this machine's own stands ``<launch>.shipped`` with the number of bytes that are at the URL, as
    long as its launch has not ended.
    """

    def __init__(self, remote: Remote, folder: Path) -> None:
        self._remote, self._folder = remote, folder
        self._shipped: dict[str, int] = {}

    def fetch(self, own: str) -> None:
        """Bring the mirror up to date, but for the ``own`` segment; copies of what was removed at the URL go."""
        for _ in range(_LISTINGS):
            if all(self._fetch(launch, kept) for launch, kept in self._list().items() if launch != own):
                break  # else some pieces were merged while they were asked for
        else:
            raise StoreError(f"The journal at {self._remote.url} changes faster than it can be read. Try again.")

    def _list(self) -> dict[str, _Kept]:
        found: dict[str, _Kept] = {}
        for name, size in self._remote.sizes(_FOLDER).items():
            if merged := _MERGED.fullmatch(name):
                found.setdefault(merged[1], _Kept()).merged = size
            elif piece := _PIECE.fullmatch(name):
                found.setdefault(piece[1], _Kept()).pieces[int(piece[2])] = size
        for path in self._folder.glob("*.jsonl") if self._folder.is_dir() else []:
            if path.stem not in found and not self._note(path.stem).exists():
                path.unlink(missing_ok=True)
        return found

    def _fetch(self, launch: str, kept: _Kept) -> bool:
        """Add to the mirror what it lacks of a segment; return False where that was removed while it was read."""
        path = self._folder / f"{launch}.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size >= kept.end:
            return True
        if kept.merged > size:
            data = self._remote.read(_FOLDER, path.name, start=size)
            if data is None:
                return False
            _write_at(path, size, data)
            size += len(data)
        wanted = [offset for offset in sorted(kept.pieces) if offset + kept.pieces[offset] > size and offset < kept.end]
        for start in range(0, len(wanted), _AT_ONCE):
            names = {self._remote.path(_FOLDER, launch, _piece(at)): at for at in wanted[start : start + _AT_ONCE]}
            found = self._remote.read_many(list(names))
            for name, offset in names.items():
                if name not in found:
                    return False
                _write_at(path, offset, found[name])
        return True

    def begin(self, path: Path) -> None:
        """Note, before the segment is there, that it will be this machine's own."""
        self._note(path.stem).write_text("0")

    def ship(self, path: Path) -> None:
        """Put what a segment of this machine's has gained; returns when it is there."""
        launch, size = path.stem, path.stat().st_size
        shipped = self._shipped.get(launch, 0)
        if size > shipped:
            with path.open("rb") as file:
                file.seek(shipped)
                self._remote.write(file.read(size - shipped), _FOLDER, launch, _piece(shipped))
            self._shipped[launch] = size
            self._note(launch).write_text(str(size))

    def merge(self, path: Path) -> None:
        """Put a segment as a whole in place of its pieces, when nothing is added to it any more."""
        launch = path.stem
        self._remote.upload(path, _FOLDER, path.name)
        for name in self._remote.sizes(_FOLDER, launch):
            self._remote.remove(_FOLDER, launch, name)
        self._note(launch).unlink(missing_ok=True)
        self._shipped.pop(launch, None)

    def end(self, path: Path) -> None:
        """Merge a segment, or say that the next run will: what was appended is at the URL either way."""
        try:
            self.merge(path)
        except StoreError as problem:
            self._remote.say(f"The journal's pieces were not merged; the next run of this machine does that. {problem}")

    def recover(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Put what launches of this machine that have died could not; return those launches.

        What is at the URL no more than in part was removed there, and is not brought back.
        """
        found = []
        kept: Mapping[str, _Kept] | None = None
        for note in sorted(self._folder.glob("*.shipped")) if self._folder.is_dir() else []:
            launch, path = note.stem, note.with_suffix(".jsonl")
            if is_alive(launch):
                continue
            kept = self._list() if kept is None else kept
            there = kept.get(launch, _Kept()).end
            if path.exists() and there >= _number(note):
                _cut_torn_end(path)
                self._shipped[launch] = there
                self.ship(path)
                self.merge(path)
                found.append(launch)
            else:
                path.unlink(missing_ok=True)
                note.unlink(missing_ok=True)
        return found

    def _note(self, launch: str) -> Path:
        return self._folder / f"{launch}.shipped"


def _number(note: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(note.read_text())
    return 0


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Write bytes to their place in the mirror's copy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        finally:
            os.close(file)
    except OSError as problem:
        raise StoreError(
            f"The mirror's file {path} cannot be written: {problem.strerror or problem}. Free space, or name another "
            "folder in HYPERSCALE_MIRROR."
        ) from problem


def _cut_torn_end(path: Path) -> None:
    """Remove what follows the last end of line: a crash left it, and it was never put."""
    with path.open("rb+") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
