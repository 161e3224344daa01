"""What makes two settings the same: canonical JSON of every field, and its SHA-256."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from typing import Any

from hyperscale.errors import StudyError, brief

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


@functools.cache
def _field_names(cls: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    return tuple(field.name for field in dataclasses.fields(cls))


def canonical(value: object) -> Json:
    """Return ``value`` as plain JSON data: a dataclass becomes its class name and *every* field.

    Defaults are included, so that changing a default in a later version changes the identity; floats keep
    full precision. Raises `StudyError` for values that have no canonical form (NaN, open files, arrays).
    """
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StudyError(f"{brief(value)} cannot be part of a setting; allowed: finite numbers.")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: canonical(getattr(value, name)) for name in _field_names(type(value))}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list | range):
        return [canonical(item) for item in value]
    raise StudyError(
        f"{brief(value)} ({type(value).__name__}) cannot be part of a setting; "
        "allowed: numbers, strings, tuples and the dataclasses of hyperscale."
    )


def canonical_text(data: Json) -> str:
    """Return canonical JSON text: sorted keys, no spaces, shortest round-trip floats."""
    return _ENCODER.encode(data)


def sha256(data: Json) -> str:
    """Return the SHA-256 (64 hex digits) of the canonical text of ``data``."""
    return hashlib.sha256(canonical_text(data).encode()).hexdigest()
