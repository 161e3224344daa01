"""Time of one optimiser step of one trial on a GPU: our packs against one model at a time.

``python -m tests.bench.gpu`` times the cells of ``cells.py`` and packs of 1024 on a CUDA device, beside an eager
model, one with a fused optimiser, and one whose whole step is a CUDA graph; where Ray is installed also several eager
models in processes that share the GPU. It writes ``gpu.md`` beside this file and needs torch and numpy only.
``--device cpu --quick`` is a dry run.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.bench.cells import TITLES
from tests.bench.machine import command, machine, peak_flops
from tests.bench.programs import Program, build, compare, follows
from tests.bench.results import DOES_NOT_FIT, TOO_LONG, RowResult, ratio_table, spread_text, time_table
from tests.bench.rows import PACKS, Row, scaling_rows, synthetic_rows
from tests.bench.tables import HERE, publish, table, times
from tests.bench.timing import Effort, interleave, plan_steps

SINGLES = ("default", "fused", "graphed")
SHARE = 4  # processes on one GPU
_MEMORY_PART = 0.7


class Local:
    """Programs in this process, on one device; a `timing.Station`."""

    def __init__(self, row: Row, device: str) -> None:
        self.row, self.device = row, device
        self.programs: dict[str, Program] = {}

    def prepare(self, mode: str) -> None:
        """Build the program of ``mode``."""
        self.programs[mode] = build(self.row, mode, self.device)

    def unit(self, mode: str, step_s: float) -> int:
        """Return the number of steps that a fair measurement is a multiple of."""
        return self.programs[mode].unit(step_s)

    def members(self, mode: str) -> int:
        """Return the number of members of the program of ``mode``."""
        return self.programs[mode].members

    def time(self, mode: str, count: int) -> float:
        """Return the seconds of one step of one member."""
        return self.programs[mode].time(count)


def measure(row: Row, device: str, packs: Sequence[int], effort: Effort, memory: int) -> RowResult:
    """Check a row and time its modes in turn."""
    station, result, counts = Local(row, device), RowResult(row=row), {}
    singles = [mode for mode in SINGLES if mode != "graphed" or device.startswith("cuda")]
    for variant in singles:
        follows(row, variant, compare(row, variant, device))
    for mode in [*singles, *(f"pack:{members}" for members in packs)]:
        members = int(mode.partition(":")[2] or 1)
        if row.memory_bytes(members) > memory:
            result.absent[mode] = DOES_NOT_FIT
            continue
        station.prepare(mode)
        plan = plan_steps(station, mode, effort)
        if plan is None:
            result.absent[mode] = TOO_LONG
            del station.programs[mode]
        else:
            counts[mode] = plan[0]
    measures = {mode: functools.partial(station.time, mode, count) for mode, count in counts.items()}
    result.timings = interleave(measures, effort.rounds)
    return result


def shared_gpu_rate(row: Row, seconds: float) -> float:
    """Return the steps per second of `SHARE` eager trials at a time, each a Ray process with a part of the GPU."""
    import ray

    @ray.remote(num_gpus=1 / SHARE, num_cpus=1)
    class Trial:
        def __init__(self, row: Row) -> None:
            self.program = build(row, "fused", "cuda")
            self.program.time(20)

        def rate(self, seconds: float) -> float:
            count = max(1, int(seconds / self.program.time(20)))
            return 1 / self.program.time(count)

    trials: list[Any] = [Trial.remote(row) for _ in range(SHARE)]
    ray.get([trial.rate.remote(0.1) for trial in trials])
    rate = sum(ray.get([trial.rate.remote(seconds) for trial in trials]))
    for trial in trials:
        ray.kill(trial)
    return rate


def shared_gpu_text(results: Sequence[RowResult], seconds: float) -> str:
    """Return the table of Ray processes that share the GPU, or why there is none."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed here: eager trials that share the GPU in Ray processes were not timed."
    from tests.bench.trials import local_ray

    rows = []
    with local_ray():
        for result in results:
            rate = shared_gpu_rate(result.row, seconds)
            ratio = times(1 / result.timings[result.best_pack].median / rate)
            rows.append([result.row.name, f"{rate:,.0f}", f"{1 / result.timings[result.best_pack].median:,.0f}", ratio])
    header = ["cell", f"{SHARE} Ray processes, eager (fused)", "best pack, one process", "ratio"]
    return f"Optimiser steps of single trials per second, the whole GPU:\n\n{table(header, rows)}"


def summary_table(results: Sequence[RowResult]) -> str:
    """Return the fastest pack of every row against each single program."""
    names = {"default": "eager", "fused": "eager (fused)", "graphed": "CUDA graph"}
    present = [mode for mode in names if any(mode in result.timings for result in results)]
    rows = []
    for result in results:
        best = result.timings[result.best_pack].median
        ratios = [times(result.timings[mode].median / best) if mode in result.timings else "" for mode in present]
        rows.append([result.row.name, result.best_pack.replace("pack:", "pack of "), *ratios])
    return table(["cell", "fastest", *(f"over {names[mode]}" for mode in present)], rows)


def report(results: Sequence[RowResult], packs: Sequence[int], device: str, shared: str) -> str:
    """Return the document."""
    peak = peak_flops(device)
    text = f"""# One optimiser step of one trial on a GPU

Medians of interleaved rounds; {spread_text(results)}. Both sides as in `cells.md`; in every row eager trials and a
pack gave the same losses and the same updates first. Written by `make bench-gpu`.

"""
    for size, title in TITLES.items():
        chosen = [result for result in results if result.row.size == size]
        if not chosen:
            continue
        text += f"""## {title}

The fastest pack against one model at a time:

{summary_table(chosen)}

Microseconds per optimiser step of one trial:

{time_table(chosen, packs, SINGLES[1:])}

The eager loop's time over the pack's, and the pack's arithmetic as a part of the device's matrix-product peak:

{ratio_table(chosen, packs, peak)}

"""
    return f"""{text}{shared}

Peak of float32 matrix products: {peak / 1e12:.2f} TFLOP/s. {machine("numpy", "ray", device=device)}
`{command()}`
"""


def parse_options() -> argparse.Namespace:
    """Read the command line; without a CUDA device only a dry run on the CPU is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a dry run (default cuda)")
    parser.add_argument("--quick", action="store_true", help="smallest cells only, one short round, nothing written")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=0.1, help="seconds of one measurement (default 0.1)")
    parser.add_argument("--output", type=Path, default=HERE / "gpu.md", help="where to write (default gpu.md)")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(
            f"There is no CUDA device here (torch {torch.__version__}). Run this on a machine with one, "
            "or give --device cpu --quick for a dry run."
        )
    return options


def main() -> None:
    """Measure every row and write the tables."""
    options = parse_options()
    torch.set_num_threads(1)
    effort = Effort(rounds=options.rounds, seconds=options.seconds)
    rows, packs = [*scaling_rows(), *synthetic_rows()], [*PACKS, 1024]
    memory = 4 * 2**30
    if options.quick:
        effort, packs = Effort(rounds=1, seconds=0.002), [1, 4]
        rows = [row for row in rows if row.size == "scaling" and (row.width, row.batch) == (8, 64)]
    if options.device.startswith("cuda"):
        memory = int(_MEMORY_PART * torch.cuda.get_device_properties(options.device).total_memory)
    started = time.perf_counter()
    results = [measure(row, options.device, packs, effort, memory) for row in rows]
    shared = "Dry run on the CPU."
    if options.device.startswith("cuda"):
        shared = shared_gpu_text([result for result in results if result.row.width == 8], seconds=1.0)
    text = report(results, packs, options.device, shared)
    publish(f"{text}{time.perf_counter() - started:.0f} s.\n", None if options.quick else options.output)


if __name__ == "__main__":
    main()
