"""Time of one optimiser step of one trial: our packs against the loops that a user would write, on the CPU.

``python -m tests.bench.cells`` times every cell (method, size, width, pack) in interleaved rounds, each program on one
thread of a process of its own kind, and writes ``cells.md`` beside this file. Before that, in every row, eager
trials and a pack are trained side by side and must give the same losses and the same updates. Then the ways to use
the whole machine without packs are compared with the packs that the planner chooses.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hyperscale.training.optimizers import Adam
from tests.bench.machine import command, machine
from tests.bench.programs import LOSS_TOLERANCE, UPDATE_TOLERANCE, has_hypnettorch
from tests.bench.results import (
    DOES_NOT_FIT,
    EAGER,
    TOO_LONG,
    RowResult,
    rate_table,
    ratio_table,
    spread_text,
    time_table,
)
from tests.bench.rows import PACKS, Row, scaling_rows, synthetic_rows
from tests.bench.tables import HERE, publish, table, times
from tests.bench.timing import Effort, interleave, plan_steps, steps_for
from tests.bench.workers import Worker, rate_of_all

FURTHER = ("fused", "hypnettorch")
TITLES = {
    "scaling": "Scaling studies: y on [-1, 1]², one x per I, f and e of width 32, Adam",
    "synthetic": "Synthetic experiment: x and I of 1000 numbers, primary width 10, f and e of width w, SGD",
}
GOALS = {(8, 64): 20, (8, 256): 5}  # (width, batch) of the named cells: how many times the eager loop's speed


def modes_of(row: Row, packs: Sequence[int], planned: int) -> list[str]:
    """Return the modes to time in a row, the packs among them the given ones and the planner's."""
    singles = [*EAGER, "fused"] if isinstance(row.setting.optimizer, Adam) else ["default", "fused"]
    if has_hypnettorch() and row.setting.method_name == "Hypernetwork":
        singles.append("hypnettorch")
    return [*singles, *(f"pack:{members}" for members in sorted({1, *packs, planned}))]


def measure(workers: list[Worker], row: Row, packs: Sequence[int], effort: Effort, memory: int) -> RowResult:
    """Check a row, time its modes in the first worker, then what all workers do together."""
    first, result = workers[0], RowResult(row=row, planned=row.planned_members("cpu", memory))
    for worker in workers:
        worker.call("take", row)
    for variant in ("default", "fused") if row.size == "scaling" else ("default",):
        first.call("check", variant)
    counts: dict[str, int] = {}
    one_s = 0.0
    for mode in modes_of(row, packs, result.planned):
        members = int(mode.partition(":")[2] or 1)
        # What the planner chooses is timed even where it takes long.
        longest_s = effort.longest_s * (3 if members == result.planned else 1)
        if members > 1 and row.memory_bytes(members) > memory:
            result.absent[mode] = DOES_NOT_FIT
        elif one_s * members * effort.rounds > 2 * longest_s:
            result.absent[mode] = TOO_LONG
        else:
            first.prepare(mode)
            plan = plan_steps(first, mode, replace(effort, longest_s=longest_s))
            if plan is None:
                result.absent[mode] = TOO_LONG
                first.call("drop", mode)
            else:
                counts[mode], step_s = plan
                one_s = step_s if mode == "pack:1" else one_s
    measures = {mode: functools.partial(first.time, mode, count) for mode, count in counts.items()}
    result.timings = interleave(measures, effort.rounds)
    result.rates = machine_rates(workers, result, counts, effort)
    return result


def machine_rates(workers: list[Worker], result: RowResult, counts: dict[str, int], effort: Effort) -> dict[str, float]:
    """Return member-steps per second of the machine: unpacked programs in several ways, and the planner's packs."""
    cores, eager = len(workers), result.eager
    together = {"processes": eager, "other": result.other}
    same = result.other == f"pack:{result.planned}"  # one program needs no second measurement
    if not same and f"pack:{result.planned}" in counts:
        together["planned"] = f"pack:{result.planned}"
    for worker in workers:
        for mode in together.values():
            worker.prepare(mode)
            worker.time(mode, 1)
    measures = {name: functools.partial(rate_of_all, workers, mode, counts[mode]) for name, mode in together.items()}
    if cores > 1:
        threaded = steps_for(effort.seconds, workers[0].time(eager, 1, threads=cores))
        measures["threads"] = lambda: 1 / workers[0].time(eager, threaded, threads=cores)
    timings = interleave(measures, effort.rounds)
    rates = {name: statistics.median(timing.seconds) for name, timing in timings.items()}
    return {**rates, "planned": rates["other"]} if same else rates


def goals_table(results: Sequence[RowResult]) -> str:
    """Return the named cells with their goals: the fastest pack against the eager loop."""
    rows = [
        [
            result.row.name,
            result.best_pack.replace("pack:", "pack of "),
            f"**{times(result.best_ratio)}**",
            f"{GOALS[result.row.width, result.row.batch]}×",
        ]
        for result in results
        if result.row.size == "scaling" and (result.row.width, result.row.batch) in GOALS
    ]
    return table(["cell", "fastest", "times the eager loop's speed", "goal"], rows)


def section(title: str, results: Sequence[RowResult], packs: Sequence[int], peak_flops: float, cores: int) -> str:
    """Return the tables of one size."""
    return f"""## {title}

Microseconds per optimiser step of one trial, one thread:

{time_table(results, packs, FURTHER)}

The eager loop's time over the pack's, and the pack's arithmetic as a part of the machine's matrix-product peak:

{ratio_table(results, packs, peak_flops)}

Optimiser steps of single trials per second, the whole machine:

{rate_table(results, cores)}

"""


def report(results: Sequence[RowResult], packs: Sequence[int], peak_flops: float, cores: int, took_s: float) -> str:
    """Return the document."""
    rounds = max(len(timing.seconds) for result in results for timing in result.timings.values())
    missing = "" if has_hypnettorch() else " hypnettorch is not installed: `pip install hypnettorch==0.0.4`."
    text = f"""# One optimiser step of one trial

Medians of {rounds} interleaved rounds, one thread. The eager loop is plain PyTorch (`tests/bench/eager.py`): one
model, its optimiser in its best setting, its batches ready made; ours makes its own batches within the time shown. In
every row both gave the same losses (to {LOSS_TOLERANCE}) and the same updates (to {UPDATE_TOLERANCE}) first.
hypnettorch runs its main network once per instance.{missing} "{DOES_NOT_FIT}": more than the budget of memory by the
setting's own cost model; "{TOO_LONG}": not there, or too long for this benchmark. Written by `make bench-cells`.

How quiet the machine was: {spread_text(results)}.

{goals_table(results)}

"""
    for size, title in TITLES.items():
        chosen = [result for result in results if result.row.size == size]
        if chosen:
            text += section(title, chosen, packs, peak_flops, cores)
    return f"""{text}
Peak of float32 matrix products, one thread: {peak_flops / 1e9:.0f} GFLOP/s. {machine("numpy", "hypnettorch")}
`{command()}`, {took_s:.0f} s.
"""


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=0.08, help="seconds of one measurement (default 0.08)")
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that one cell may take (default 4)")
    parser.add_argument("--memory-gib", type=float, default=4.0, help="budget of a pack's memory (default 4 GiB)")
    parser.add_argument("--packs", type=int, nargs="+", default=list(PACKS), help="pack sizes")
    parser.add_argument("--widths", type=int, nargs="+", help="only these widths")
    parser.add_argument("--sizes", nargs="+", default=["scaling", "synthetic"], help="only these sizes of problem")
    parser.add_argument("--output", type=Path, default=HERE / "cells.md", help="where to write (default cells.md)")
    return parser.parse_args()


def main() -> None:
    """Measure every row and write the tables."""
    options = parse_options()
    started = time.perf_counter()
    effort = Effort(rounds=options.rounds, seconds=options.seconds, longest_s=options.longest)
    rows = [row for row in [*scaling_rows(), *synthetic_rows()] if row.size in options.sizes]
    rows = [row for row in rows if options.widths is None or row.width in options.widths]
    workers = [Worker() for _ in range(os.cpu_count() or 1)]
    peak = workers[0].call("peak_flops")
    results = []
    for row in rows:
        results.append(measure(workers, row, options.packs, effort, int(options.memory_gib * 2**30)))
        print(f"{time.perf_counter() - started:4.0f} s  {row.size}: {row.name}", file=sys.stderr)  # noqa: T201
    peak = max(peak, workers[0].call("peak_flops"))
    for worker in workers:
        worker.close()
    took_s = time.perf_counter() - started
    publish(report(results, options.packs, peak, len(workers), took_s), options.output)


if __name__ == "__main__":
    main()
