"""Small JSON files beside the journal: signs of life, measured speeds, members of checkpoints. Any may be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_note(path: Path) -> Any:
    """Return what a file of JSON holds; None where it cannot be read, or holds what no JSON of ours does."""
    try:
        return parse_note(path.read_bytes())
    except OSError:
        return None


def parse_note(text: bytes) -> Any:
    """Return what JSON holds; None where it holds what none of ours does: NaN, half characters, nesting without end."""
    try:
        data = json.loads(text)
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return data
