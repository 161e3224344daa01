"""Paths that stay in their store, whatever the names are that they are made of.

The store folder itself may be a link: that is its owner's choice, followed once. Links inside it may not lead out of
it: where several people share a store, one of them could otherwise have another's report written anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyperscale.errors import StoreError

FOLDERS = ("journal", "checkpoints", "launches", "artifacts", "reports")
_LONGEST = 255  # bytes; what common file systems take


def inside(folder: Path, *names: str) -> Path:
    """Return ``folder/name/name…``; raise `StoreError` for a name that is no plain one, or where a link leads out."""
    for name in names:
        plain = name not in ("", ".", "..") and not any(sign in name for sign in "/\\\0:")
        if not plain or len(name.encode()) > _LONGEST or not name.isprintable():
            shown = repr(name) if len(name) <= 80 else f"{name[:80]!r}…"
            raise StoreError(
                f"{shown} cannot name a folder of the store {folder}; allowed: up to {_LONGEST} bytes of printable "
                "characters without '/', '\\' and ':', and not '.' or '..'."
            )
    path = folder.joinpath(*names)
    _check_stays(folder, path)
    return path


def check_no_way_out(folder: Path, names: Sequence[str] = FOLDERS) -> None:
    """Raise `StoreError` where one of a store's folders is a link to somewhere else."""
    for name in names:
        _check_stays(folder, folder / name)


def _check_stays(folder: Path, path: Path) -> None:
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as problem:  # RuntimeError: links in a circle
        raise StoreError(f"{path} in the store {folder} cannot be followed: {problem}. Remove it.") from problem
    if not stays:
        raise StoreError(
            f"{path} leads out of the store {folder}, to {path.resolve()}. Links inside a store may not: replace it by "
            "a folder, or keep the whole store there (--store may be a link), or write a report elsewhere with --out."
        )
