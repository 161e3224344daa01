"""Extrapolation of learning curves: every model, and the choice among them, against points held out at the large end.

``python -m tests.bench.extrapolation DATA.csv`` reads columns Domain, Task, Model, Seen Examples, Loss and Training
(1: fit on it, 0: predict it), and writes ``extrapolation.md`` beside this file. No setting depends on a task.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.fits.fitting import CurveFit, fit_curve
from analysis.fits.models import Floats
from analysis.fits.prediction import LEVEL, predict_with_interval
from analysis.fits.selection import CANDIDATES, ModelAverage, choose_model
from tests.bench.machine import machine
from tests.bench.tables import HERE, publish, table

KEYS = ["Domain", "Task", "Model"]
GOALS = "Goals for auto: median at most 0.0185, mean at most 0.0310, coverage between 85 and 95 %."


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveTask:
    """One learning curve: fitted and held-out sizes and losses, ``[points]`` each."""

    name: str
    x: Floats
    y: Floats
    held_x: Floats
    held_y: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One task's root mean square log error, the share of held-out points inside the interval, and their number."""

    rmsle: float
    covered: float
    num_points: int


def tasks_of(path: Path) -> Iterator[CurveTask]:
    """Yield the tasks of a table, in the order of their names."""
    for key, rows in pd.read_csv(path).groupby(KEYS):
        ordered = rows.sort_values("Seen Examples")
        fitted = ordered["Training"].to_numpy() == 1
        x, y = ordered["Seen Examples"].to_numpy(np.float64), ordered["Loss"].to_numpy(np.float64)
        yield CurveTask(name=" ".join(map(str, key)), x=x[fitted], y=y[fitted], held_x=x[~fitted], held_y=y[~fitted])


def score(task: CurveTask, fit: CurveFit | ModelAverage) -> Score:
    """Return how well a fit predicts a task's held-out points."""
    prediction = predict_with_interval(fit, task.held_x, level=LEVEL)
    errors = np.log(prediction.y) - np.log(task.held_y)
    inside = (prediction.low <= task.held_y) & (task.held_y <= prediction.high)
    return Score(rmsle=float(np.sqrt((errors**2).mean())), covered=float(inside.mean()), num_points=len(errors))


def summarise(name: str, scores: list[Score], seconds: float) -> list[str]:
    """Return a row: median and mean of the error, coverage over points and over tasks, seconds for all tasks."""
    errors = np.array([one.rmsle for one in scores])
    covered = np.array([one.covered for one in scores])
    sizes = np.array([one.num_points for one in scores])
    return [
        name,
        f"{np.median(errors):.4f}",
        f"{errors.mean():.4f}",
        f"{np.exp(np.log(errors).mean()):.4f}",
        f"{100 * np.average(covered, weights=sizes):.1f} %",
        f"{100 * covered.mean():.1f} %",
        f"{seconds:.0f}",
    ]


def measure(tasks: list[CurveTask], fit: Callable[[CurveTask], CurveFit | ModelAverage]) -> tuple[list[Score], float]:
    """Fit and score every task; return the scores and the seconds."""
    started = time.perf_counter()
    scores = [score(task, fit(task)) for task in tasks]
    return scores, time.perf_counter() - started


def main() -> None:
    """Measure all models and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=HERE / "extrapolation.md")
    arguments = parser.parse_args()
    tasks = list(tasks_of(arguments.data))
    rows = []
    for name in CANDIDATES:
        scores, seconds = measure(tasks, lambda task, name=name: fit_curve(task.x, task.y, model=name, num_starts=12))
        rows.append(summarise(name, scores, seconds))
    scores, seconds = measure(tasks, lambda task: choose_model(task.x, task.y))
    rows.append(summarise("**auto**", scores, seconds))
    header = ["model", "median", "mean", "geometric mean", "coverage, points", "coverage, tasks", "seconds"]
    worst = sorted(zip(scores, tasks, strict=True), key=lambda pair: -pair[0].rmsle)[:6]
    detail = [[task.name, f"{len(task.x)}", f"{one.rmsle:.4f}", f"{100 * one.covered:.0f} %"] for one, task in worst]
    text = f"""# Extrapolation of learning curves

{len(tasks)} tasks. Root mean square log error on the points held out at the large end, per task; its median and mean
over tasks; the share of held-out points inside the {100 * LEVEL:.0f} % predictive interval, over all points and as a
mean over tasks; seconds for all tasks. Single models: Huber's loss, their own interval, which knows nothing of
extrapolation. auto: `analysis.fits.selection.choose_model`, no setting per task. {GOALS}

{table(header, rows)}

auto's largest errors:

{table(["task", "points fitted", "error", "covered"], detail)}

`python -m tests.bench.extrapolation DATA.csv`; {machine("numpy", "scipy")}
"""
    publish(text, arguments.output)


if __name__ == "__main__":
    main()
