"""Scaling studies of hypernetworks: the vocabulary of study files.

The names below are loaded on first use, so that ``import hyperscale`` (and ``hyperscale --help``) stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Study": "hyperscale.study",
    "load_study": "hyperscale.study",
    "ScalingRate": "hyperscale.claims",
    "Ordering": "hyperscale.claims",
    "Monotone": "hyperscale.claims",
}

__all__ = ["Monotone", "Ordering", "ScalingRate", "Study", "load_study"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'hyperscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


if TYPE_CHECKING:
    from hyperscale.claims import Monotone, Ordering, ScalingRate
    from hyperscale.study import Study, load_study
