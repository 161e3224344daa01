"""Pack checkpoints in a store: a file of tensors, and beside it whose they are, so that a next driver finds them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from hyperscale.packing import Pack
from hyperscale.recording.notes import read_note
from hyperscale.trial import Trial

_SEAL_BYTES = 32


def checkpoint_path(folder: Path, pack: Pack) -> Path:
    """Return where a pack's tensors lie."""
    return folder / f"{pack.digest}.pt"


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
    """Write down, once, which trials a checkpoint is of."""
    path = folder / f"{pack.digest}.json"
    if path.exists():
        return
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps([trial.digest for trial in pack.trials]))
    draft.replace(path)


def discard(folder: Path, pack: Pack) -> None:
    """Remove a pack's checkpoint, if there is one."""
    path = checkpoint_path(folder, pack)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)


def interrupted_packs(folder: Path, waiting: Sequence[Trial]) -> list[Pack]:
    """Return packs of ``waiting`` trials that were begun and saved: to be gone on with as they are.

    Packs are made anew at every launch, of what is left and by what was measured since; without this, work that was
    saved would be found only where they come out the same.
    """
    trials = {trial.digest: trial for trial in waiting}
    packs: list[Pack] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        members = _read(path)
        if members and all(digest in trials for digest in members) and path.with_suffix(".pt").exists():
            packs.append(Pack(trials=tuple(trials.pop(digest) for digest in members)))
    return packs


def _read(path: Path) -> list[str]:
    data = read_note(path)
    members = data if isinstance(data, list) and all(isinstance(digest, str) for digest in data) else []
    return members if len(set(members)) == len(members) else []
