"""The table of what became of the mutated inputs, at the end of `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.endings import COUNTS, FACTOR, Ending

_COLUMNS = (*Ending, "broken")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many inputs of each kind ended how."""
    if FACTOR == 1 or not COUNTS:
        return
    total = {name: sum(counts[name] for counts in COUNTS.values()) for name in _COLUMNS}
    terminalreporter.section("mutated inputs")
    terminalreporter.write_line(f"{'kind':24}" + "".join(f"{name:>15}" for name in ("inputs", *_COLUMNS)))
    for kind, counts in sorted({**COUNTS, "total": total}.items(), key=lambda item: item[0] == "total"):
        cells = (sum(counts.values()), *(counts[name] for name in _COLUMNS))
        terminalreporter.write_line(f"{kind:24}" + "".join(f"{cell:15,}" for cell in cells))
