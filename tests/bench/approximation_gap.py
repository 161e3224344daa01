"""Achieved error over the infimum, shallow ReLU networks with k knots, chains of stages as columns; a Markdown table.

``python -m tests.bench.approximation_gap [--knots 3 7 15 ...]``. Networks are `PerInstance` of width k + 2 with a
hidden bias: k = width - 2 knots, N = 3 (k + 2) weights. The denominators are E_k, the infima over continuous
piecewise linear functions with k knots: of x^2 1 / (2 (k + 1)^2), of exp half the equal chord error of k + 1 pieces,
and of the slices of the all-scales family what `targets/exact.py` gives on the finer grid, its largest over the
slices. The numerator is the largest error over the slices on a grid 16 times (all scales: 4 times) as fine as the one
trained on; a number is the median over 5 seeds of numerator / denominator. Columns with a leading + continue Knots:
VarPro, then Lp, then OuterLP or KnotBalance. Adam starts from torch's default initialisation and counts with the better
of two learning rates, up to 31 knots. Greedy knots do not depend on the seed. The last lines give the least-squares
slope gamma of log(median gap) in log N with its standard error, and whether the goals are reached: a gap of at most
1.05 up to 31 knots and of 1.2 up to 127, and abs(gamma) at most .05, or better .02 (the number beside "yes").
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import linregress
from torch import Tensor

from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.exact import piecewise_linear_infimum
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import PreparedTarget, Target
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knot_balance import KnotBalance
from hyperscale.training.knots import Knots
from hyperscale.training.lp_continuation import LpContinuation
from hyperscale.training.optimizers import Adam
from hyperscale.training.outer_lp import OuterLP
from hyperscale.training.stages import Stage
from hyperscale.training.variable_projection import VarPro
from tests.bench.machine import command, machine
from tests.bench.tables import HERE, table

KNOTS = (3, 7, 15, 31, 63, 127)
ALL_SCALES = "all scales"
LEVELS, SLICES, SCALES_POINTS = 8, 8, 2048
SEEDS = 5
GOALS = ((31, 1.05), (127, 1.2))  # up to so many knots, a gap of at most
SLOPES = (0.05, 0.02)
ADAM_STEPS, ADAM_RATES, ADAM_KNOTS = 2000, (1e-2, 1e-3), 31
# Column: the column whose networks it starts from, and its stage.
CHAINS: dict[str, tuple[str, Stage]] = {
    "Knots": ("", Knots()),
    "+ VarPro": ("Knots", VarPro()),
    "+ Lp": ("+ VarPro", LpContinuation()),
    "+ OuterLP": ("+ Lp", OuterLP()),
    "+ Lp + KnotBalance": ("+ Lp", KnotBalance()),
    "equidistributed": ("", Knots(placement="equidistributed")),
    "equidistributed + Lp": ("equidistributed", LpContinuation()),
    "equidistributed + KnotBalance": ("equidistributed", KnotBalance()),
    "greedy": ("", Knots(placement="greedy")),
    "greedy + KnotBalance": ("greedy", KnotBalance()),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shifted(SobolevBall):
    """The all-scales family at I' = 7 I / 8 - 1 / 12: eight equispaced I become centres of cells of width 1 / 12."""

    def prepare(self, targets: Sequence[SobolevBall], seeds: Sequence[int], device: str) -> PreparedTarget:
        """Return the family's members, evaluated at I'."""
        return _ShiftedMembers(SobolevBall.prepare(self, targets, seeds, device))


class _ShiftedMembers:
    def __init__(self, members: PreparedTarget) -> None:
        self.members = members

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return y(x, I')."""
        return self.members.evaluate(x, 0.875 * conditioning - 1 / 12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Smooth(Target):
    """x^2 or exp(x), the same for every I."""

    name: str

    @property
    def inputs(self) -> Any:
        """Uniform on the cube."""
        return "uniform"

    @property
    def smoothness(self) -> int:
        """One."""
        return 1

    def program(self) -> object:
        """The function."""
        return self.name

    def prepare(self, targets: Sequence[Smooth], seeds: Sequence[int], device: str) -> Smooth:
        """Return the function itself."""
        return self

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return y."""
        return x * x if self.name == "x^2" else x.exp()


def square_infimum(num_knots: int) -> float:
    """Return E_k of x^2."""
    return 0.5 / (num_knots + 1) ** 2


def exp_infimum(num_knots: int) -> float:
    """Return E_k of exp: half the chord error that num_knots + 1 pieces with equal chord errors have."""

    def surplus(end: float, start: float, width: float) -> float:
        slope = math.expm1(end - start) / (end - start)
        return math.exp(start) * (1 + slope * (math.log(slope) - 1)) - width

    def last(width: float) -> float:
        end = -1.0
        for _ in range(num_knots + 1):
            end = float(brentq(surplus, end + 1e-4, end + 20, args=(end, width), xtol=1e-15))
        return end - 1

    return 0.5 * float(brentq(last, 1e-6, 2, xtol=1e-15))


def spacing(target: str, num_knots: int) -> tuple[int, int]:
    """Return the numbers of intervals of the grid trained on and of the finer one."""
    points = SCALES_POINTS if target == ALL_SCALES else max(512, 16 * (num_knots + 1))
    return points, (4 if target == ALL_SCALES else 16) * points


def infima(target: str, knots: Sequence[int]) -> list[float]:
    """Return the largest E_k of the slices for every k; those of the all-scales family by one search for all k."""
    known: dict[str, Callable[[int], float]] = {"x^2": square_infimum, "exp": exp_infimum}
    if target in known:
        return [known[target](k) for k in knots]
    slices = make(target, knots[0], spacing(target, knots[0])[1]).y[0]
    return [float(one) for one in piecewise_linear_infimum(slices, knots).amax(dim=1)]


def make(target: str, num_knots: int, intervals: int) -> GridFit:
    """Return the fits of all seeds, with 2 equal slices of a smooth target or 8 slices of the all-scales one."""
    scales = target == ALL_SCALES
    member = (
        Shifted(x_dim=1, conditioning_dim=1, levels=LEVELS)
        if scales
        else Smooth(x_dim=1, conditioning_dim=1, name=target)
    )
    method = PerInstance(primary_widths=(num_knots + 2,), bias="hidden", num_instances=SLICES if scales else 2)
    return GridFit(method, TrainingGrid(x_points=intervals + 1), [member] * SEEDS, list(range(SEEDS)), "cpu")


def train(stage: Stage, fit: GridFit) -> None:
    """Run a stage to its end."""
    run = stage.start(fit)
    while not run.advance(math.inf):
        pass


def gaps(target: str, num_knots: int, infimum: float) -> list[float]:
    """Return the median gap of Adam and of every chain; NaN where Adam was not run."""
    points, fine_points = spacing(target, num_knots)
    fine = make(target, num_knots, fine_points)

    def gap(params: Tensor) -> float:
        fine.params.copy_(params)
        return float((fine.residuals().abs().amax(dim=(1, 2)) / infimum).median())

    adam = [math.nan]
    if num_knots <= ADAM_KNOTS:
        adam = []
        for rate in ADAM_RATES:
            fit = make(target, num_knots, points)
            train(Descent(optimizer=Adam(lr=rate), steps=ADAM_STEPS), fit)
            adam.append(gap(fit.params))
    found = [min(adam)]
    reached: dict[str, Tensor] = {}
    for name, (before, stage) in CHAINS.items():
        fit = make(target, num_knots, points)
        if before:
            fit.params.copy_(reached[before])
        train(stage, fit)
        reached[name] = fit.params.clone()
        found.append(gap(fit.params))
    return found


def slope(knots: Sequence[int], column: np.ndarray) -> tuple[float, float]:
    """Return the slope of the gap's logarithm in log N and its standard error; NaN where there are too few gaps."""
    there = np.isfinite(column)
    if there.sum() < 3:
        return math.nan, math.nan
    line = linregress(np.log(3 * (np.array(knots)[there] + 2)), np.log(column[there]))
    return float(line.slope), float(line.stderr)


def reaches(knots: Sequence[int], column: np.ndarray, gamma: float) -> str:
    """Return whether a chain reaches the goals, by the better goal of the slope; Adam's larger sizes are missing."""
    if not np.isfinite(column).all():
        return "no"
    within = all(gap <= next(most for size, most in GOALS if k <= size) for k, gap in zip(knots, column, strict=True))
    slopes = [most for most in SLOPES if abs(gamma) <= most]
    return f"yes, {min(slopes):.2f}" if within and slopes else "no"


def section(target: str, knots: Sequence[int], values: Sequence[Sequence[float]]) -> str:
    """Return one target's table, the slope of the gap in log N and whether the goals are reached last."""
    rows = [
        [str(k), *("–" if math.isnan(gap) else f"{gap:.3f}" for gap in row)]
        for k, row in zip(knots, values, strict=True)
    ]
    columns = np.array(values).T
    lines = [slope(knots, column) for column in columns]
    rows.append(["slope", *("–" if math.isnan(gamma) else f"{gamma:+.3f} ± {off:.3f}" for gamma, off in lines)])
    judged = zip(columns, lines, strict=True)
    rows.append(["goals reached", *(reaches(knots, column, gamma) for column, (gamma, _) in judged)])
    return f"### {target}\n\n{table(['k', f'Adam, {ADAM_STEPS:,} steps', *CHAINS], rows)}"


def main() -> None:
    """Write and print the tables; a table that is not whole yet is in the output too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knots", type=int, nargs="+", default=KNOTS)
    parser.add_argument("--targets", nargs="+", default=["x^2", "exp", ALL_SCALES])
    parser.add_argument("--output", type=Path, default=HERE / "approximation.md", help="the file to write")
    given = parser.parse_args()
    head = f"# Errors of trained networks over the infima\n\n`{command()}`, {machine('numpy', 'scipy')}\n\n{__doc__}"
    done: list[str] = [head]
    started = time.perf_counter()
    for target in given.targets:
        values: list[list[float]] = []
        for k, infimum in zip(given.knots, infima(target, given.knots), strict=True):
            values.append(gaps(target, k, infimum))
            text = section(target, given.knots[: len(values)], values)
            given.output.write_text("\n\n".join([*done, text]) + "\n")
        done.append(text)
    done.append(f"In {(time.perf_counter() - started) / 60:.0f} min, {torch.get_num_threads()} thread.")
    given.output.write_text("\n\n".join(done) + "\n")
    print("\n\n".join(done))  # noqa: T201


if __name__ == "__main__":
    main()
