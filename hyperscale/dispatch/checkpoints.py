"""Pack checkpoints in a store: a file of tensors, and beside it whose they are, so that a next driver finds them.

Where the store is at a URL (a path that stands for one, see `recording.remote`), a worker on any node keeps its files
in a folder of its own, fetches what the URL has when a pack starts, and puts what it saves.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperscale.errors import StoreError
from hyperscale.packing import Pack
from hyperscale.recording.notes import parse_note
from hyperscale.recording.remote import Remote, url_of
from hyperscale.trial import Trial

_SEAL_BYTES = 32


def checkpoint_path(folder: Path, pack: Pack) -> Path:
    """Return where on this machine a pack's tensors lie."""
    url = url_of(folder)
    return (folder if url is None else _working_folder(url)) / f"{pack.digest}.pt"


@functools.lru_cache(maxsize=8)
def _working_folder(url: str) -> Path:
    """Return this user's folder of files on their way to and from a URL; one that others could write to is not used."""
    base = Path(tempfile.gettempdir()) / f"hyperscale-checkpoints-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    state = base.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or not base.is_dir() or base.is_symlink():
        base = Path(tempfile.mkdtemp(prefix="hyperscale-checkpoints-"))
    folder = base / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    return folder


@functools.lru_cache(maxsize=8)
def _remote(url: str) -> Remote:
    return Remote(url)


def fetch(folder: Path, pack: Pack) -> None:
    """Bring a pack's checkpoint to this machine, where the store is elsewhere; without one the pack begins anew."""
    url = url_of(folder)
    if url is not None:
        path = checkpoint_path(folder, pack)
        with contextlib.suppress(OSError, StoreError):
            path.unlink(missing_ok=True)
            _remote(url).download(path, path.name)


def seal(data: bytes) -> bytes:
    """Return a checkpoint's bytes behind their SHA-256, for torch reads tensors whose bits have changed."""
    return hashlib.sha256(data).digest() + data


def unseal(sealed: bytes) -> bytes:
    """Return what was sealed; ValueError where a bit of it has changed."""
    digest, data = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("a damaged checkpoint")
    return data


def note_members(folder: Path, pack: Pack) -> None:
    """Write down, once, which trials a checkpoint is of; put both where the store is elsewhere.

    A store that cannot be reached costs work, if this worker dies, and never a result.
    """
    path = checkpoint_path(folder, pack).with_suffix(".json")
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps([trial.digest for trial in pack.trials]))
        draft.replace(path)
    url = url_of(folder)
    if url is not None:
        with contextlib.suppress(OSError, StoreError):
            _remote(url).upload(path.with_suffix(".pt"), f"{pack.digest}.pt")
            _remote(url).upload(path, path.name)


def discard(folder: Path, pack: Pack) -> None:
    """Remove a pack's checkpoint, if there is one."""
    path, url = checkpoint_path(folder, pack), url_of(folder)
    with contextlib.suppress(OSError, StoreError):
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        for suffix in (".json", ".pt") if url is not None else ():
            _remote(url or "").remove(f"{pack.digest}{suffix}")


def interrupted_packs(folder: Path, waiting: Sequence[Trial]) -> list[Pack]:
    """Return packs of ``waiting`` trials that were begun and saved: to be gone on with as they are.

    Packs are made anew at every launch, of what is left and by what was measured since; without this, work that was
    saved would be found only where they come out the same.
    """
    trials = {trial.digest: trial for trial in waiting}
    packs: list[Pack] = []
    for text in _notes(folder):
        members = _members(text)
        if members and all(digest in trials for digest in members):
            packs.append(Pack(trials=tuple(trials.pop(digest) for digest in members)))
    return packs


def _notes(folder: Path) -> Iterator[bytes]:
    """Yield what stands beside every file of tensors that is there."""
    url = url_of(folder)
    if url is not None:
        remote = _remote(url)
        names = remote.sizes()
        wanted = [name for name in sorted(names) if name.endswith(".json") and f"{name[:-5]}.pt" in names]
        found = remote.read_many([remote.path(name) for name in wanted])
        yield from (found[path] for path in sorted(found))
        return
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        if path.with_suffix(".pt").exists():
            with contextlib.suppress(OSError):
                yield path.read_bytes()


def _members(text: bytes) -> list[str]:
    data = parse_note(text)
    members = data if isinstance(data, list) and all(isinstance(digest, str) for digest in data) else []
    return members if len(set(members)) == len(members) else []
