"""Achieved error over the infimum, shallow ReLU networks with k knots, chains of stages as columns; a Markdown table.

``python -m tests.bench.approximation_gap [--knots 3 7 15 ...]``. Targets: x^2 and exp, with infima 1 / (2 (k + 1)^2)
and half the equal chord error of k + 1 pieces, and slices of the all-scales family, whose infima `targets/exact.py`
gives. The error is the largest on a grid 16 times as fine as the one trained on (32 points per piece); the number is
the median over 5 seeds of the largest ratio over the slices. Chains begin with jittered equispaced knots unless the
column says greedy. The last lines give the slope of the median gap's logarithm in log N.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import Target
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knot_balance import KnotBalance
from hyperscale.training.knots import Knots
from hyperscale.training.lp_continuation import LpContinuation
from hyperscale.training.outer_lp import OuterLP
from hyperscale.training.stages import Stage
from hyperscale.training.variable_projection import VarPro
from tests.bench.machine import machine
from tests.bench.tables import table

KNOTS = (3, 7, 15, 31, 63, 127)
SEEDS = 5
POINTS_PER_PIECE, FINER = 32, 16
CHAINS: dict[str, tuple[Stage, ...]] = {
    "Knots": (Knots(),),
    "+ VarPro": (Knots(), VarPro()),
    "+ Lp (32)": (Knots(), VarPro(), LpContinuation()),
    "+ OuterLP": (Knots(), VarPro(), LpContinuation(), OuterLP()),
    "+ KnotBalance": (Knots(), VarPro(), LpContinuation(), KnotBalance()),
    "greedy + KnotBalance": (Knots(placement="greedy"), KnotBalance()),
}


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


def infima(target: str, fine: GridFit, num_knots: int) -> Tensor:
    """Return E_k of every slice, [instances]."""
    known: dict[str, Callable[[int], float]] = {"x^2": square_infimum, "exp": exp_infimum}
    if target in known:
        return torch.full((fine.y.shape[1],), known[target](num_knots), dtype=torch.float64)
    from hyperscale.targets.exact import piecewise_linear_infimum

    return piecewise_linear_infimum(fine.y[0], [num_knots])[0]


def make(target: str, num_knots: int, points: int) -> GridFit:
    """Return the fits of 5 seeds: 2 equal slices of a smooth target, 4 slices of an all-scales one."""
    own = SobolevBall(x_dim=1, conditioning_dim=1, levels=int(target.split()[-1])) if " " in target else None
    method = PerInstance(primary_widths=(num_knots + 2,), bias="hidden", num_instances=4 if own else 2)
    member = own or Smooth(x_dim=1, conditioning_dim=1, name=target)
    return GridFit(method, TrainingGrid(x_points=points), [member] * SEEDS, list(range(SEEDS)), "cpu")


def gaps(target: str, num_knots: int, chains: Sequence[str]) -> list[float]:
    """Return the median gap of every chain; NaN where a chain's start needs a module that is not there."""
    points = POINTS_PER_PIECE * (num_knots + 1)
    fine = make(target, num_knots, FINER * points + 1)
    try:
        infimum = infima(target, fine, num_knots)
    except ModuleNotFoundError:
        return [math.nan] * len(chains)
    found = []
    for name in chains:
        fit = make(target, num_knots, points + 1)
        try:
            for stage in CHAINS[name]:
                run = stage.start(fit)
                while not run.advance(math.inf):
                    pass
        except ModuleNotFoundError:
            found.append(math.nan)
            continue
        fine.params.copy_(fit.params)
        largest = fine.residuals().abs().amax(dim=-1)
        found.append(float((largest / infimum).amax(dim=1).median()))
    return found


def section(target: str, knots: Sequence[int]) -> str:
    """Return one target's table, the slope of the gap in log N last."""
    names = list(CHAINS)
    values = [gaps(target, k, names) for k in knots]
    rows = [[str(k), *(f"{gap:.3f}" for gap in row)] for k, row in zip(knots, values, strict=True)]
    if len(knots) > 1:
        logs = np.log(np.array(values))
        slopes = np.polyfit(np.log([3 * (k + 2) for k in knots]), np.where(np.isfinite(logs), logs, 0), 1)[0]
        rows.append(["slope of the gap", *(f"{slope:+.3f}" for slope in slopes)])
    return f"### {target}\n\n{table(['k', *names], rows)}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knots", type=int, nargs="+", default=KNOTS)
    parser.add_argument("--targets", nargs="+", default=["x^2", "exp", "all scales, levels 6"])
    given = parser.parse_args()
    for target in given.targets:
        print(f"{section(target, given.knots)}\n", flush=True)  # noqa: T201
    print(machine("numpy", "scipy"))  # noqa: T201


if __name__ == "__main__":
    main()
