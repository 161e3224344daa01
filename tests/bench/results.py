"""What the rounds of a row gave, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.bench.rows import Row
from tests.bench.tables import microseconds, table, times
from tests.bench.timing import Timing

TOO_LONG = "-"
DOES_NOT_FIT = "does not fit"
EAGER = ("default", "foreach")  # the loop in its best setting is the faster of these
PROGRAM_NAMES = {
    "default": "eager",
    "foreach": "eager (foreach)",
    "fused": "eager (fused)",
    "graphed": "eager (CUDA graph)",
    "hypnettorch": "hypnettorch",
    "pack:1": "pack of 1",
}


@dataclass(kw_only=True)
class RowResult:
    """The timings of a row by mode; ``absent`` says why a mode has none.

    ``rates`` are member-steps per second of the whole machine: of the eager loop in ``processes`` and in ``threads``,
    of the best ``other`` unpacked program in processes, of the ``planned`` packs in processes. ``planned`` is the size
    of the packs that the planner chooses.
    """

    row: Row
    timings: dict[str, Timing] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    planned: int = 0

    def median(self, mode: str) -> float | None:
        """Return the median seconds per member-step of a mode, if it was timed."""
        return self.timings[mode].median if mode in self.timings else None

    def fastest(self, modes: Iterable[str]) -> str:
        """Return the fastest of the modes that were timed."""
        return min((mode for mode in modes if mode in self.timings), key=lambda mode: self.timings[mode].median)

    @property
    def eager(self) -> str:
        """The mode of the eager loop in its best setting."""
        return self.fastest(EAGER)

    @property
    def other(self) -> str:
        """The mode of the fastest unpacked program that is not the plain eager loop."""
        return self.fastest(("fused", "pack:1"))

    @property
    def best_pack(self) -> str:
        """The mode of the fastest pack."""
        return self.fastest(mode for mode in self.timings if mode.startswith("pack:"))

    @property
    def best_ratio(self) -> float:
        """The eager loop's time over that of the fastest pack."""
        return self.timings[self.eager].median / self.timings[self.best_pack].median


def _time(result: RowResult, mode: str) -> str:
    seconds = result.median(mode)
    return result.absent.get(mode, TOO_LONG) if seconds is None else microseconds(seconds)


def time_table(results: Sequence[RowResult], packs: Sequence[int], further: Sequence[str]) -> str:
    """Return µs per member-step: the eager loop, further single programs, and packs."""
    further = [mode for mode in further if any(mode in result.timings for result in results)]
    names = [PROGRAM_NAMES[mode] for mode in further]
    header = ["cell", "parameters", "eager", *names, *(f"pack of {members}" for members in packs)]
    rows = [
        [
            result.row.name,
            f"{result.row.num_params:,}",
            _time(result, result.eager),
            *(_time(result, mode) for mode in further),
            *(_time(result, f"pack:{members}") for members in packs),
        ]
        for result in results
    ]
    return table(header, rows)


def ratio_table(results: Sequence[RowResult], packs: Sequence[int], peak_flops: float) -> str:
    """Return, for each cell, the eager loop's time over the pack's, and the fraction of the peak it reaches."""
    header = ["cell", *(f"pack of {members}" for members in packs)]
    rows = []
    for result in results:
        cells = []
        for mode in (f"pack:{members}" for members in packs):
            seconds = result.median(mode)
            if seconds is None:
                cells.append(result.absent.get(mode, TOO_LONG))
                continue
            ratio = result.timings[result.eager].median / seconds
            fraction = result.row.flops_per_step / seconds / peak_flops
            cells.append(f"{times(ratio)}, {100 * fraction:.2g} %")
        rows.append([result.row.name, *cells])
    return table(header, rows)


def rate_table(results: Sequence[RowResult], cores: int) -> str:
    """Return member-steps per second of the whole machine: each way to use its cores, and the planner's choice."""
    header = ["cell", f"eager, {cores} processes", f"eager, {cores} threads", "best other unpacked"]
    rows = []
    for result in results:
        rates = result.rates
        unpacked = max(rate for name, rate in rates.items() if name != "planned")
        planned, choice = rates.get("planned"), f"pack of {result.planned}"
        rows.append(
            [
                result.row.name,
                *(f"{rates[name]:,.0f}" if name in rates else TOO_LONG for name in ("processes", "threads")),
                f"{rates['other']:,.0f} ({PROGRAM_NAMES[result.other]})",
                f"{planned:,.0f} ({choice})" if planned else f"{TOO_LONG} ({choice})",
                f"**{planned / unpacked:.2f}**" if planned else TOO_LONG,
            ]
        )
    return table([*header, "planner's choice", "ratio to the best unpacked"], rows)


def spread_text(results: Sequence[RowResult]) -> str:
    """Return how far the rounds of a cell lay apart, the median and the worst over cells."""
    spreads = [timing.spread for result in results for timing in result.timings.values() if len(timing.seconds) > 1]
    if not spreads:
        return "one round: no spread"
    return (
        f"the rounds of a cell lie {100 * statistics.median(spreads):.0f} % of their median apart "
        f"(median over cells; worst {100 * max(spreads):.0f} %)"
    )
