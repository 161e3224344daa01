"""Small JSON files beside the journal: signs of life, measured speeds, members of checkpoints. Any may be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_note(path: Path) -> Any:
    """Return what a file of JSON holds; None where it cannot be read, or holds what no JSON of ours does.

    That is: NaN and infinities, half characters, nesting without end.
    """
    try:
        data = json.loads(path.read_bytes())
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError):
        return None
    return data
