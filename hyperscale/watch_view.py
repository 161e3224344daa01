"""`status --watch`: where a study stands and what trains it, redrawn every few seconds until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hyperscale.console import duration, status_data, status_words
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile

INTERVAL_S = 2.0
_PLAIN_INTERVAL_S = 15.0


def watch(
    study_file: StudyFile,
    store: Store,
    num_seeds: int | None,
    console: Console,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show where a study stands until it is complete or Ctrl-C is pressed; lines where nobody looks on."""
    journal = store.journal("reader")

    def look() -> dict[str, Any]:
        journal.refresh()
        return status_data(study_file, store, num_seeds, journal)

    data = look()
    if not console.is_terminal:
        while True:
            console.print(plain_line(data), highlight=False, soft_wrap=True)
            if _complete(data):
                return
            sleep(_PLAIN_INTERVAL_S)
            data = look()
    with Live(watch_block(study_file.headline, data), console=console, auto_refresh=False) as live:
        while not _complete(data):
            sleep(INTERVAL_S)
            data = look()
            live.update(watch_block(study_file.headline, data), refresh=True)


def _complete(data: Mapping[str, Any]) -> bool:
    """Whether there is nothing more to wait for."""
    return not data["missing"] and not data["launches"]


def plain_line(data: Mapping[str, Any]) -> str:
    """Return where a study stands, in one line."""
    launches = data["launches"]
    parts = [status_words(data)]
    if launches:
        rate = sum(launch.get("trials_per_minute") or 0 for launch in launches)
        packs = sum(launch.get("running_packs") or 0 for launch in launches)
        parts.append(f"{packs} packs running, {rate:.0f} trials/min, {_left(launches)}")
        retries = sum(launch.get("retries") or 0 for launch in launches)
        if retries:
            parts.append(f"{retries} retries")
    else:
        parts.append(f"nobody is running it: {data['run_command']}" if data["missing"] else "nobody is running it")
    return "; ".join(parts) + "."


def _left(launches: list[Mapping[str, Any]]) -> str:
    times = [launch.get("remaining_s") for launch in launches]
    known = [seconds for seconds in times if seconds is not None]
    return f"{duration(max(known))} left" if known else "time left not known yet"


def watch_block(headline: str, data: Mapping[str, Any]) -> RenderableType:
    """Return the whole view: the study's bar, a line a launch, a table of nodes."""
    done = data["trials"] - data["missing"] - data["running"]
    bar = Table.grid(padding=(0, 1))
    share = done / data["trials"] if data["trials"] else 1.0
    bar.add_row(ProgressBar(total=1.0, completed=share, width=40), f"{100 * share:.0f} %", status_words(data))
    parts: list[RenderableType] = [Text(headline, style="bold"), bar]
    if not data["launches"]:
        words = "Complete." if not data["missing"] else f"Nobody is running it. To go on: {data['run_command']}"
        parts.append(Text(words, style="dim"))
    for launch in data["launches"]:
        parts.append(Text(_launch_line(launch)))
        if launch.get("nodes"):
            parts.append(_nodes_table(launch["nodes"]))
    return Group(*parts)


def _launch_line(launch: Mapping[str, Any]) -> str:
    left = launch.get("remaining_s")
    words = [
        f"{launch.get('ended_trials', 0):,} of its {launch.get('trials', 0):,} trials ended",
        f"{launch.get('running_packs', 0)} of {launch.get('packs', 0)} packs running",
        f"{launch.get('trials_per_minute', 0):.0f} trials/min",
        "time left not known yet" if left is None else f"{duration(left)} left",
    ]
    if launch.get("retries"):
        words.append(f"{launch['retries']} retries")
    where = f"{launch.get('host', 'a host unknown')}, process {launch.get('pid')}"
    head = f"{launch.get('executor', 'a launch')} from {where}, for {duration(launch.get('elapsed_s'))}"
    return f"\n{head}\n  {', '.join(words)}"


def _nodes_table(nodes: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("  node")
    for title in ("packs", "GPU use", "GPU memory", "workers lost"):
        table.add_column(title, justify="right")
    table.add_column("")
    for name, node in nodes.items():
        out = node.get("left_out")
        table.add_row(
            Text(f"  {name}", style="red" if out else ""),
            str(node.get("packs", 0)),
            _share(node.get("gpu_use")),
            _share(node.get("gpu_memory")),
            str(node.get("lost") or "-"),
            Text(f"left out: {out}" if out else "", style="red"),
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
