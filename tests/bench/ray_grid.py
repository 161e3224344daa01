"""A grid of small trials through Ray: our packs against one trial at a time.

``python -m tests.bench.ray_grid`` trains a grid of 1,080 trials in packs (the start of Ray included), and some of the
same trials one by one, with a class trainable on reused actors and with a stock function trainable. They take turns for
several rounds; the rate of the trials one by one counts from the end of each worker's first trial, so that neither
Ray's start nor that of the first processes weighs on so few. It writes ``ray_grid.md`` beside this file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.settings.approximation import Approximation
from hyperscale.study import Study, StudyFile
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.training.optimizers import Adam
from hyperscale.training.schedules import Cosine
from hyperscale.trial import Trial
from tests.bench.machine import command, machine
from tests.bench.tables import HERE, publish, table, times
from tests.bench.trials import Done, Kind, in_packs, largest_difference, local_ray, one_by_one, spread

NUM_SEEDS = 40
STEPS = 1000
GOALS: dict[Kind, str] = {"class": "10×", "class-own-step": "", "function": "30×"}
NAMES: dict[Kind, str] = {
    "class": "one by one: class trainable, reused actors",
    "class-own-step": "one by one: the same with our own step",
    "function": "one by one: stock function trainable",
}


def grid(num_seeds: int, steps: int) -> StudyFile:
    """Return the quickstart's methods and target at small widths: 27 settings, batches of 64."""
    encoder = HatEncoder(knots=65)
    settings = [
        Approximation(
            method=method,
            target=SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=5),
            optimizer=Adam(lr=lr, schedule=Cosine()),
            points=FreshPoints(instances=16, points=4),
            steps=steps,
        )
        for width in (4, 8, 16)
        for method in _methods(width, encoder)
        for lr in (0.001, 0.003, 0.01)
    ]
    study = Study(name="bench-grid", settings=settings, seeds=range(num_seeds), metrics=("sup_error", "rmse"))
    return StudyFile(study=study, description="A grid of small trials.", source="", path=Path(__file__))


def _methods(width: int, encoder: HatEncoder) -> list[Method]:
    widths = (width,)
    return [
        Hypernetwork(primary_widths=widths, encoder=encoder, bias="hidden", initialization="shared_primary"),
        Embedding(primary_widths=widths, encoder=encoder, bias="hidden", embedding_dim=2),
        PerInstance(primary_widths=widths, bias="hidden", num_instances=16, restarts=1),
    ]


def parts(trials: Sequence[Trial], count: int, rounds: int) -> list[list[Trial]]:
    """Return ``rounds`` disjoint sets of about ``count`` trials, all spread evenly over the programs."""
    chosen = spread(trials, count * rounds)
    return [chosen[number::rounds] for number in range(rounds)]


def measure(study_file: StudyFile, rounds: int, counts: dict[Kind, int]) -> tuple[list[Done], dict[Kind, list[Done]]]:
    """Let our packs and the trials one by one take turns."""
    trials = study_file.study.trials()
    subsets = {kind: parts(trials, count, rounds) for kind, count in counts.items()}
    ours: list[Done] = []
    theirs: dict[Kind, list[Done]] = {kind: [] for kind in counts}
    for number in range(rounds):
        ours.append(in_packs(study_file))
        with local_ray():
            for kind in counts:
                theirs[kind].append(one_by_one(subsets[kind][number], kind))
    return ours, theirs


def report(ours: list[Done], theirs: dict[Kind, list[Done]], took_s: float) -> str:
    """Return the document."""
    cores = os.cpu_count() or 1
    our_rate = statistics.median(done.per_minute for done in ours)
    rows = [["packs", _counted(ours), _seconds(ours), f"{our_rate:,.0f}", "", ""]]
    differences = [0.0]
    for kind, results in theirs.items():
        rate = statistics.median(done.steady_per_minute(cores) for done in results)
        ratio, goal = f"**{times(our_rate / rate)}**", GOALS[kind]
        rows.append([NAMES[kind], _counted(results), _seconds(results), f"{rate:,.0f}", ratio, goal])
        pairs = zip(ours, results, strict=True)
        differences += [largest_difference(mine, their, "sup_error") for mine, their in pairs]
    header = ["", "trials finished", "seconds", "trials per minute", "packs are faster by", "goal"]
    return f"""# A grid of small trials through Ray Tune

Hypernetwork, embedding and per-instance networks of widths 4, 8 and 16, three learning rates, many seeds,
{STEPS} steps with batches of 64. Packs train the whole grid, the start of Ray included; the others train some of the
same trials by a plain loop (automatic differentiation, torch's Adam), one core each, their rate counted from the end of
each worker's first trial. Medians of {len(ours)} interleaved rounds. Written by `make bench-ray`.

{table(header, rows)}

The sup_error of the trials that both sides trained differs by at most {max(differences):.0e} of its value.
{machine("ray")}
`{command()}`, {took_s:.0f} s.
"""


def _counted(results: Sequence[Done]) -> str:
    return " + ".join(str(len(done.metrics)) for done in results)


def _seconds(results: Sequence[Done]) -> str:
    return " + ".join(f"{done.seconds:.0f}" for done in results)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the three take turns (default 5)")
    parser.add_argument("--class-trials", type=int, default=12, help="trials on reused actors per round (default 12)")
    parser.add_argument("--function-trials", type=int, default=8, help="stock function trials per round (default 8)")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help=f"seeds of the grid (default {NUM_SEEDS})")
    parser.add_argument("--output", type=Path, default=HERE / "ray_grid.md", help="where to write")
    options = parser.parse_args()
    started = time.perf_counter()
    counts: dict[Kind, int] = {
        "class": options.class_trials,
        "class-own-step": options.class_trials,
        "function": options.function_trials,
    }
    ours, theirs = measure(grid(options.seeds, STEPS), options.rounds, counts)
    publish(report(ours, theirs, time.perf_counter() - started), options.output)


if __name__ == "__main__":
    main()
