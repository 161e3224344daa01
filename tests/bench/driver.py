"""What the driver costs: 1,000 and 100,000 trials that end at once, and `hyperscale run` on a finished study.

``python tests/bench/driver.py`` writes ``driver.md`` beside this file. The trials are Approximations that skip their
training and give two metrics and a curve of 40 points, ten seeds a setting; whatever time they take is the driver's.
Every measurement is a process of its own; memory is VmRSS of /proc/self/status once the launch has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPEATS = {"in-process": 5, "ray": 3}
MEMBERS = 256
SEEDS = 10
STUDY = '''"""Trials without training."""

import math
from dataclasses import dataclass

from hyperscale import Adam, Approximation, Hypernetwork, SobolevBall, Study
from hyperscale.settings.setting import Outcome

CURVE = [[float(step) for step in range(0, 4000, 100)], [math.exp(-step / 7) / 3 for step in range(40)]]


class Ended:
    num_steps = step = 1

    def __init__(self, members):
        self.members = members

    def advance(self, max_seconds):
        return True

    def state(self):
        return {}

    def restore(self, state):
        pass

    def outcomes(self):
        return [
            Outcome(
                status="finished",
                metrics={"sup_error": setting.optimizer.lr + seed / 7, "rmse": setting.optimizer.lr / 3},
                curves={"train_loss": CURVE},
            )
            for setting, seed in self.members
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trivial(Approximation):
    def start(self, members, device):
        return Ended(members)


target = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
study = Study(
    name="trivial",
    settings=[
        Trivial(
            method=Hypernetwork(primary_widths=(4 + 4 * (index % 8),), widths=(64,), bias="all"),
            target=target,
            optimizer=Adam(lr=1e-3 + 1e-6 * index),
        )
        for index in range(SETTINGS)
    ],
    seeds=range(SEEDS),
    metrics=("sup_error", "rmse"),
)
'''


def memory_mb(name: str) -> float:
    """Return VmRSS (resident now) or VmHWM (its peak) of this process, in MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def measure(executor: str, study: Path, store: Path) -> None:
    """Launch the study in this process and print what that took; imports come before the clock."""
    from hyperscale.dispatch.in_process import InProcess
    from hyperscale.dispatch.launch import Launch
    from hyperscale.dispatch.ray_tune import RayTune, prepare_environment
    from hyperscale.recording.store import Store
    from hyperscale.study import load_study

    made = RayTune() if executor == "ray" else InProcess(device="cpu")
    if executor == "ray":
        prepare_environment()
        from ray import tune  # noqa: F401
    started = time.perf_counter()
    launch = Launch(load_study(study), Store(folder=store), made, max_members=MEMBERS)
    planned = time.perf_counter()
    summary = launch.run()
    seconds = time.perf_counter() - started
    assert summary.finished == summary.ran == len(launch.trials)
    data = {"trials": summary.ran, "planning": planned - started, "seconds": seconds}
    print(json.dumps({**data, "resident": memory_mb("VmRSS"), "peak": memory_mb("VmHWM")}))  # noqa: T201


def write_study(folder: Path, trials: int) -> Path:
    """Write the study file of so many trials."""
    path = folder / f"trivial-{trials}.py"
    text = STUDY.replace("range(SETTINGS)", f"range({trials // SEEDS})").replace("range(SEEDS)", f"range({SEEDS})")
    path.write_text(text)
    return path


def launched(executor: str, study: Path, store: Path) -> dict[str, float]:
    """Run `measure` in a fresh process."""
    command = [sys.executable, __file__, "--measure", executor, str(study), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(executor, found, flush=True)  # noqa: T201
    return found


def measured(executor: str, study: Path) -> dict[str, float]:
    """Measure a launch several times, each with a store of its own; return the medians."""
    runs = []
    for _ in range(REPEATS[executor]):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(launched(executor, study, Path(folder)))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def wall_seconds(command: Sequence[str], repeats: int = 1) -> float:
    """Return the median wall time of a hyperscale command, from the start of its process to the end."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        words = [sys.executable, "-m", "hyperscale.cli", *command]
        subprocess.run(words, capture_output=True, check=True, env=environment)
        times.append(time.perf_counter() - started)
    print(*command, [round(seconds, 2) for seconds in times], flush=True)  # noqa: T201
    return statistics.median(times)


def finished_study(folder: Path, trials: int, *, mlflow: bool) -> list[tuple[str, float]]:
    """Return the wall times of commands on a study that is finished and recorded."""
    study, store = write_study(folder, trials), folder / "store"
    launched("in-process", study, store)
    names = (str(study), "--store", str(store))
    rows = [
        ("`hyperscale run --no-mlflow`, nothing left to train", wall_seconds(["run", *names, "--no-mlflow"], 5)),
        ("`hyperscale status`", wall_seconds(["status", *names], 5)),
    ]
    if mlflow:
        rows.append(("`hyperscale sync`, every trial new to MLflow (once)", wall_seconds(["sync", *names])))
        rows.append(("`hyperscale run`, nothing left to train or to record", wall_seconds(["run", *names], 5)))
    return rows


def launch_rows(small: Mapping[str, Mapping[str, float]], large: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table's rows: one per executor and size, with the cost of each further trial and the growth."""
    rows = []
    for executor in small:
        few, many = small[executor], large[executor]
        for run in (few, many):
            each = 1000 * run["seconds"] / run["trials"]
            cells = [f"{run['planning']:.2f}", f"{run['seconds']:.1f}", f"{each:.3f}", f"{run['resident']:.0f}"]
            rows.append(f"| {executor} | {run['trials']:,.0f} | {' | '.join(cells)} | {run['peak']:.0f} |")
        further = 1000 * (many["seconds"] - few["seconds"]) / (many["trials"] - few["trials"])
        growth, peak = many["resident"] - few["resident"], many["peak"] - few["peak"]
        rows.append(f"| **{executor}, difference** | | | | **{further:.3f}** | **{growth:+.0f}** | **{peak:+.0f}** |")
    return "\n".join(rows)


def report(rows: str, commands: Sequence[tuple[str, float]], finished: int) -> str:
    """Return the text of ``driver.md``."""
    words = "\n".join(f"| {name} | {seconds:.1f} |" for name, seconds in commands)
    kinds = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    machine = kinds[0].split(":", 1)[1].strip() if kinds else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "mlflow"))
    return f"""# What the driver costs

Trials that end at once (two metrics, a curve of 40 points, {SEEDS} seeds a setting), in packs of {MEMBERS}: all of
the time is the driver's, its executor's and the disk's. Seconds are from loading the study file to the summary;
`planning` is the part before the first pack starts. Ray's include its start and end, which the difference per trial
leaves out. Memory is that of the driver's process at the end, and its peak. Medians of {REPEATS["in-process"]}
launches in-process and {REPEATS["ray"]} through Ray Tune, each a fresh process. Written by `make bench-driver`.

| executor | trials | planning (s) | all (s) | ms a trial | resident (MB) | peak (MB) |
|---|---|---|---|---|---|---|
{rows}

A finished study of {finished:,} trials, whole processes, imports included, medians of 5:

| command | seconds |
|---|---|
{words}

{date.today().isoformat()}, {os.cpu_count()} cores ({machine}), Python {platform.python_version()}, {packages}.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS, metavar=("EXECUTOR", "STUDY", "STORE"))
    parser.add_argument("--trials", type=int, default=100_000, help="trials of the large study (default 100000)")
    parser.add_argument("--finished", type=int, default=10_000, help="trials of the finished study (default 10000)")
    parser.add_argument("--no-mlflow", action="store_true", help="leave out what needs MLflow: recording takes minutes")
    options: Any = parser.parse_args()
    if options.measure:
        executor, study, store = options.measure
        measure(executor, Path(study), Path(store))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = write_study(folder, 1000), write_study(folder, options.trials)
        rows = launch_rows({e: measured(e, few) for e in REPEATS}, {e: measured(e, many) for e in REPEATS})
        commands = finished_study(folder, options.finished, mlflow=not options.no_mlflow)
    text = report(rows, commands, options.finished)
    (HERE / "driver.md").write_text(text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
