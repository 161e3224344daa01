"""What the command line shows: plans, progress and summaries, on standard error and standard output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from hyperscale.dispatch.launch import Launch, Summary, Tally
    from hyperscale.packing import Pack

_PLAIN_INTERVAL_S = 15.0


def duration(seconds: float | None) -> str:
    """Return a time for reading: ``45 s``, ``12 min``, ``3.5 h``, ``4 days``."""
    if seconds is None:
        return "…"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def memory(num_bytes: float) -> str:
    """Return a memory size for reading, in MiB or GiB."""
    mebibytes = num_bytes / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"


def pack_rows(packs: Sequence[Pack]) -> list[dict[str, Any]]:
    """Return one row per program: what it trains, its packs and trials, its estimated time and memory."""
    rows: dict[str, dict[str, Any]] = {}
    for pack in packs:
        setting = pack.trials[0].setting
        columns = setting.columns()
        row = rows.setdefault(
            setting.program_key(),
            {
                "method": columns["method"],
                "num_params_primary": columns.get("num_params_primary"),
                "num_params_total": columns.get("num_params_total"),
                "depth": columns.get("depth"),
                "packs": 0,
                "trials": 0,
                "largest_pack": 0,
                "estimated_seconds": 0.0,
                "memory_bytes": 0,
            },
        )
        row["packs"] += 1
        row["trials"] += len(pack.trials)
        row["largest_pack"] = max(row["largest_pack"], len(pack.trials))
        row["estimated_seconds"] = round(row["estimated_seconds"] + pack.estimated_seconds, 3)
        row["memory_bytes"] = max(row["memory_bytes"], pack.cost.memory_bytes)
    return list(rows.values())


def plan_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the plan's table: one line per program."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("method", "left"), ("depth", "right"), ("N primary", "right"), ("N total", "right"), ("trials", "right"),
        ("packs", "right"), ("one core", "right"), ("memory/pack", "right"),
    ):  # fmt: skip
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            str(row["method"]),
            _number(row["depth"]),
            _number(row["num_params_primary"]),
            _number(row["num_params_total"]),
            f"{row['trials']:,}",
            f"{row['packs']:,}",
            duration(row["estimated_seconds"]),
            memory(row["memory_bytes"]),
        )
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


class ProgressView:
    """Live progress of a launch: a redrawn block on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, launch: Launch) -> None:
        self.console = console
        self.launch = launch
        self._live: Live | None = None
        self._printed_at = time.monotonic()
        self._printed = -1

    def __enter__(self) -> ProgressView:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, tally: Tally) -> None:
        """Show where the launch stands."""
        if self._live is not None:
            self._live.update(self._block(tally))
        elif time.monotonic() - self._printed_at > _PLAIN_INTERVAL_S and tally.ended_trials != self._printed:
            self._printed_at, self._printed = time.monotonic(), tally.ended_trials
            best = "; ".join(f"{method} {value:.3g}" for method, (value, _) in tally.best.items())
            self.console.print(Text(f"{self._line(tally)}" + (f"; best: {best}" if best else "")))

    def _line(self, tally: Tally) -> str:
        minutes = tally.elapsed_s / 60
        rate = f"{tally.ended_trials / minutes:.0f} trials/min" if minutes > 0.02 and tally.ended_trials else "starting"
        left = "winding down: finished trials are kept" if tally.stopping else f"{duration(tally.remaining_s)} left"
        return f"{tally.ended_trials}/{len(self.launch.to_run)} trials, {tally.running_packs} packs running, {rate}, {left}"

    def _block(self, tally: Tally) -> Group:
        rows = Table(box=None, pad_edge=False, show_header=False)
        metric = self.launch.study_file.study.metrics[0]
        for method, (value, record) in tally.best.items():
            size = record.columns.get("num_params_primary", record.columns.get("num_params_total", ""))
            rows.add_row(f"best {metric}", f"[bold]{method}[/bold]", f"{value:.4g}", f"[dim]N {size}[/dim]")
        bar = ProgressBar(total=1.0, completed=tally.done_fraction, width=48)
        return Group(bar, Text(self._line(tally)), rows)


def summary_text(summary: Summary) -> str:
    """Return the launch's last words."""
    parts = [f"{summary.finished} finished"]
    parts += [f"{count} {name}" for name, count in (
        ("diverged", summary.diverged), ("out of memory", summary.out_of_memory),
        ("failed", summary.failed), ("not run", summary.missing),
    ) if count]  # fmt: skip
    text = f"{summary.study}: ran {summary.ran} trials in {duration(summary.wall_time_s)}, reused {summary.reused}; "
    return text + f"the study now has {', '.join(parts)}."
