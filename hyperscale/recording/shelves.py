"""Shelves: small files that several drivers write, each created by one of them alone or replaced as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from pathlib import Path
from typing import Protocol

from hyperscale.errors import StoreError

_DRAFT_AGE_S = 86_400.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Shelf(Protocol):
    """A flat folder of small files. Names are letters, digits, dots and hyphens, and begin with no dot."""

    def names(self) -> list[str]:
        """Return the names of all files, in any order."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""

    def read_all(self) -> dict[str, bytes]:
        """Return all files by name."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file with its content at one stroke; return False where there is one of that name already."""

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file at one stroke."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def modified(self, name: str) -> float | None:
        """Return when a file was written, in seconds by the clock of whoever keeps it; None where it is absent."""


class LocalShelf:
    """A shelf in a folder of a local or shared file system; the folder is made by the first file.

    A new file is written aside and then linked to its name, which is one stroke on NFS too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all files."""
        try:
            return [name for name in os.listdir(self.folder) if not name.startswith(".")]  # noqa: PTH208
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise self._unusable("read", problem) from problem

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise self._unusable("read", problem) from problem

    def read_all(self) -> dict[str, bytes]:
        """Return all files by name."""
        found = {name: self.read(name) for name in self.names()}
        return {name: data for name, data in found.items() if data is not None}

    def create(self, name: str, data: bytes) -> bool:
        """Create a file, unless it is there."""
        try:
            draft = self._draft(data)
            try:
                return _link(draft, f"{self.folder}/{name}", data)
            finally:
                os.unlink(draft)  # noqa: PTH108
        except OSError as problem:
            raise self._unusable("written", problem) from problem

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file."""
        try:
            os.replace(self._draft(data), f"{self.folder}/{name}")  # noqa: PTH105
        except OSError as problem:
            raise self._unusable("written", problem) from problem

    def _draft(self, data: bytes) -> str:
        """Write ``data`` aside; return where."""
        draft = f"{self.folder}/.{uuid.uuid4().hex}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            file = os.open(draft, flags, 0o644)
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(draft, flags, 0o644)
        try:
            _write_all(file, data)
        except BaseException:
            os.unlink(draft)  # noqa: PTH108
            raise
        finally:
            os.close(file)
        return draft

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self.folder}/{name}")  # noqa: PTH108

    def modified(self, name: str) -> float | None:
        """Return when a file was written. It is opened, for only that makes NFS look at the server's copy."""
        try:
            with (self.folder / name).open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return None

    def sweep(self) -> None:
        """Remove drafts that a crash has left here long ago."""
        with contextlib.suppress(OSError):
            for draft in self.folder.glob(".*.tmp"):
                if time.time() - draft.stat().st_mtime > _DRAFT_AGE_S:
                    draft.unlink()

    def _unusable(self, verb: str, problem: OSError) -> StoreError:
        return StoreError(
            f"Folder {self.folder} of the store cannot be {verb}: {problem.strerror or problem}. Nothing recorded so "
            "far is lost; free space or mend the folder, then run again."
        )


def _link(draft: str, path: str, data: bytes) -> bool:
    """Give a draft its name, unless that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return os.stat(draft).st_nlink == 2  # noqa: PTH116  (NFS may repeat a request that had succeeded)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        return _create_open(path, data)
    return True


def _create_open(path: str, data: bytes) -> bool:
    """Create a file where links are unknown: for an instant it is there without its content."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        _write_all(file, data)
    finally:
        os.close(file)
    return True


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
