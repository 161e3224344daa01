"""What the command line shows: plans, progress and summaries, on standard error and standard output."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hyperscale.packing import Pack, estimated_wall_seconds
from hyperscale.recording.remote import local_path, url_of
from hyperscale.study import PER_SETTING
from hyperscale.trial import TrialStatus

if TYPE_CHECKING:
    from hyperscale.dispatch.launch import Launch, Summary
    from hyperscale.dispatch.tally import Tally
    from hyperscale.recording.journal import Journal
    from hyperscale.recording.store import Store
    from hyperscale.study import StudyFile

_LIVE_INTERVAL_S = 0.25
_PLAIN_INTERVAL_S = 15.0
_MANY_TRIALS = 10_000


def standard_error() -> Console:
    """Return the console for messages: standard output carries results only."""
    return Console(stderr=True, soft_wrap=not sys.stderr.isatty())


def standard_output() -> Console:
    """Return the console for results; where nobody looks on, lines are not cut to a terminal's width."""
    return Console() if sys.stdout.isatty() else Console(width=140, soft_wrap=True)


def escaped(text: str) -> str:
    """Return text that the console prints as it is, square brackets too."""
    return escape(text)


def duration(seconds: float | None) -> str:
    """Return a time for reading: ``0.4 s``, ``45 s``, ``12 min``, ``3.5 h``, ``4 days``."""
    if seconds is None:
        return "…"
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days" if seconds < 2 * 365 * 86400 else f"{seconds / (365 * 86400):,.0f} years"


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
                "measured": pack.speed is not None and pack.speed.measured,
                "estimated_seconds": 0.0,
                "memory_bytes": 0,
            },
        )
        row["packs"] += 1
        row["trials"] += len(pack.trials)
        row["largest_pack"] = max(row["largest_pack"], len(pack.trials))
        row["estimated_seconds"] = round(row["estimated_seconds"] + pack.estimated_seconds, 3)
        row["memory_bytes"] = max(row["memory_bytes"], pack.memory_bytes)
    return list(rows.values())


def plan_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the plan's table: one line per program."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("method", "left"), ("depth", "right"), ("N primary", "right"), ("N total", "right"), ("trials", "right"),
        ("packs", "right"), ("largest", "right"), ("one core", "right"), ("memory/pack", "right"),
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
            f"{row['largest_pack']:,}",
            ("" if row["measured"] else "~") + duration(row["estimated_seconds"]),
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
        self._shown_at = float("-inf")

    def __enter__(self) -> ProgressView:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._shown_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, tally: Tally) -> None:
        """Show where the launch stands, unless that was done a moment ago."""
        interval = _PLAIN_INTERVAL_S if self._live is None else 0.0 if tally.stopping else _LIVE_INTERVAL_S
        if time.monotonic() - self._shown_at < interval:
            return
        self._shown_at = time.monotonic()
        if self._live is not None:
            self._live.update(self._block(tally))
        else:
            best = "; ".join(f"{method} {value:.3g}" for method, (value, _) in tally.best.items())
            self.console.print(Text(f"{self._line(tally)}" + (f"; best: {best}" if best else "")))

    def _line(self, tally: Tally) -> str:
        minutes = tally.elapsed_s / 60
        rate = f"{tally.ended_trials / minutes:.0f} trials/min" if minutes > 0.02 and tally.ended_trials else "starting"
        left = "time left not known yet" if tally.remaining_s is None else f"{duration(tally.remaining_s)} left"
        if tally.stopping:
            left = "stopping: finished trials are kept"
        done = f"{tally.ended_trials}/{len(self.launch.to_run)} trials"
        packs = f"{tally.running_packs} pack{'' if tally.running_packs == 1 else 's'} running"
        return f"{done}, {packs}, {rate}, {left}"

    def _block(self, tally: Tally) -> Group:
        rows = Table(box=None, pad_edge=False, show_header=False)
        metric = self.launch.study_file.study.metrics[0]
        for method, (value, record) in tally.best.items():
            size = record.columns.get("num_params_primary", record.columns.get("num_params_total", ""))
            rows.add_row(f"best {metric}", f"[bold]{method}[/bold]", f"{value:.4g}", f"[dim]N {size}[/dim]")
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=1.0, completed=tally.done_fraction, width=40), f"{100 * tally.done_fraction:.0f} %"
        )
        return Group(line, Text(self._line(tally)), rows)


def plan_data(launch: Launch) -> dict[str, Any]:
    """Return what `plan` tells, as plain JSON data."""
    workers = launch.executor.workers() if launch.packs else 1
    rows = pack_rows(launch.packs)
    return {
        "study": launch.study_file.study.name,
        "settings": len(launch.study_file.study.settings),
        "trials": len(launch.trials),
        "finished": len(launch.trials) - len(launch.to_run),
        "to_run": len(launch.to_run),
        "packs": len(launch.packs),
        "programs": rows,
        "estimated_core_seconds": round(sum(pack.estimated_seconds for pack in launch.packs), 1),
        "estimated_wall_seconds": round(estimated_wall_seconds(launch.packs, workers), 1),
        "workers": workers,
        "cluster": getattr(launch.executor, "address", None),
        "memory_bytes_per_pack": max((row["memory_bytes"] for row in rows), default=0),
        "advice": _advice(launch),
    }


def _advice(launch: Launch) -> str | None:
    """Return what to consider before so many trials are run, or None."""
    study = launch.study_file.study
    if len(launch.trials) <= _MANY_TRIALS or study.mlflow_runs == PER_SETTING:
        return None
    return (
        f'Study(..., mlflow_runs="{PER_SETTING}") would record {len(study.settings):,} runs in MLflow, the mean and '
        f"the spread of a setting's seeds in each, instead of {len(launch.trials):,} runs of one trial."
    )


def print_plan(headline: str, data: dict[str, Any], one_seed: dict[str, Any] | None) -> None:
    """Print a plan; ``one_seed`` is the plan of the first seed alone, for studies that are too long for here."""
    console = standard_output()
    console.print(f"[bold]{escaped(headline)}[/bold]")
    console.print(
        f"{data['trials']:,} trials ({data['settings']:,} settings), {data['finished']:,} already done, "
        f"{data['to_run']:,} to run in {data['packs']:,} packs."
    )
    if data["advice"]:
        console.print(f"[bold yellow]Many trials.[/bold yellow] {escaped(data['advice'])}")
    if not data["to_run"]:
        return
    console.print(plan_table(data["programs"]))
    wall, workers, cluster = data["estimated_wall_seconds"], data["workers"], data["cluster"]
    place = f"{workers} workers of the cluster at {cluster}" if cluster else f"this machine's {workers} cores"
    start = "" if cluster else ", Ray's start (10 s or so) apart"
    console.print(
        f"[bold]About {duration(wall)} of training on {place}[/bold]{start}. "
        f"One core alone: {duration(data['estimated_core_seconds'])}. {_basis(data['programs'])}"
    )
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if data["memory_bytes_per_pack"] > have and not cluster:
        console.print(
            f"[bold yellow]The largest pack wants {memory(data['memory_bytes_per_pack'])} and this machine has "
            f"{memory(have)}.[/bold yellow] Use smaller networks or samples, or a larger machine."
        )
    if one_seed is not None and not cluster:
        console.print(
            "[bold yellow]Too long for a laptop.[/bold yellow] Use a cluster (run --address ...), or begin with "
            f"--seeds 1: about {duration(one_seed['estimated_wall_seconds'])} here."
        )


def _basis(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the times rest on."""
    measured = sum(bool(row["measured"]) for row in rows)
    if measured == len(rows):
        return "All programs were measured on this device."
    return "Rough: nothing was measured." if not measured else "~: by a fixed model; the others were measured here."


def status_data(
    study_file: StudyFile, store: Store, num_seeds: int | None, journal: Journal | None = None
) -> dict[str, Any]:
    """Return what `status` tells, as plain JSON data; ``journal`` is one that was opened before and refreshed."""
    journal = journal or store.journal("reader")
    trials = study_file.study.trials(num_seeds)
    counts = Counter(journal.status(trial.digest) for trial in trials)
    launches = store.running(study_file.study.name)
    running = sum(int(launch.get("running", 0)) for launch in launches)
    return {
        "study": study_file.study.name,
        "run_command": shlex.join(
            ["hyperscale", "run", str(study_file.path)]
            + ([] if num_seeds is None else ["--seeds", str(num_seeds)])
            + store_words(store)
        ),
        "trials": len(trials),
        **{status.value: counts[status] for status in TrialStatus},
        "running": running,
        "missing": max(0, counts[None] - running),
        "launches": launches,
        "torn_lines": journal.torn_lines,
    }


def store_words(store: Store) -> list[str]:
    """Return the option of a command that names a store, nothing for the one that is taken without."""
    usual = Path(os.environ.get("HYPERSCALE_STORE") or "results")
    return [] if url_of(usual) is None and store.folder == local_path(usual) else ["--store", store.place]


def status_words(data: Mapping[str, Any]) -> str:
    """Return how many trials there are and how many stand where."""
    always = ("finished", "missing")
    names = ("finished", "diverged", "out_of_memory", "failed", "running", "missing")
    words = [f"{data[name]:,} {name.replace('_', ' ')}" for name in names if data[name] or name in always]
    return f"{data['trials']:,} trials: {', '.join(words)}"


def print_status(headline: str, data: dict[str, Any]) -> None:
    """Print where a study stands."""
    console = standard_output()
    console.print(f"[bold]{escaped(headline)}[/bold]")
    console.print(f"{status_words(data)}.")
    for launch in data["launches"]:
        left = duration(launch.get("remaining_s"))
        console.print(
            f"A launch is running: {launch.get('ended_trials')} of its {launch.get('trials')} ended, {left} left."
        )
    if data["missing"] and not data["launches"]:
        console.print(f"Nobody is running it. Next: {escaped(data['run_command'])}", highlight=False, soft_wrap=True)


def print_verdicts(
    verdicts: Sequence[tuple[str, str, str, str]], troubles: Sequence[Mapping[str, Any]], page: Path
) -> None:
    """Print every verdict with its claim, what was found and why, what did not finish, and where the report lies."""
    console = standard_output()
    for trouble in troubles:
        text = f"{trouble['count']} trials {str(trouble['status']).replace('_', ' ')}: {trouble['reason']}"
        console.print(f"[yellow]{escaped(text)}[/yellow]", highlight=False)
    for verdict, claim, reason, found in verdicts:
        console.print(f"[bold]{escaped(verdict)}[/bold]: {escaped(claim)}", highlight=False)
        width = min(console.width, 110) - 4
        lines = [*textwrap.wrap(found, width=width), *textwrap.wrap(reason[:1].upper() + reason[1:], width=width)]
        console.print("\n".join(f"    {escaped(line)}" for line in lines) + "\n", highlight=False)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


def print_comparison(sentences: Sequence[str], page: Path) -> None:
    """Print what is said of each difference, and where the comparison lies."""
    console = standard_output()
    for sentence in sentences:
        lines = textwrap.wrap(sentence, width=min(console.width, 110) - 4, subsequent_indent="    ")
        console.print("\n".join(escaped(line) for line in lines), highlight=False)
    console.print(f"Comparison: {page}", highlight=False, soft_wrap=True)


def summary_text(summary: Summary) -> str:
    """Return the launch's last words."""
    parts = [f"{summary.finished} finished"]
    parts += [f"{count} {name}" for name, count in (
        ("diverged", summary.diverged), ("out of memory", summary.out_of_memory),
        ("failed", summary.failed), ("not run", summary.missing),
    ) if count]  # fmt: skip
    text = f"{summary.study}: ran {summary.ran} trials in {duration(summary.wall_time_s)}, reused {summary.reused}"
    text += f", {summary.elsewhere} ended with other drivers" if summary.elsewhere else ""
    return text + f"; the study now has {', '.join(parts)}."
