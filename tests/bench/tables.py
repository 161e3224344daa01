"""Markdown tables, and where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    for line in lines:
        assert len(line) == len(header), line
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def microseconds(seconds: float) -> str:
    """Return a time in microseconds with three significant digits."""
    number = 1e6 * seconds
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{digits}f}"


def times(ratio: float) -> str:
    """Return a ratio with two significant digits and the sign of multiplication."""
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1 else f"{ratio:.2f}×"


def publish(text: str, path: Path | None) -> None:
    """Write a document, if there is a place for it, and show it."""
    if path is not None:
        path.write_text(text)
    print(text)  # noqa: T201
