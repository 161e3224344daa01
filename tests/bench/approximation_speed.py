"""Packed variable projection against a loop of `scipy.optimize.least_squares`, one fit at a time; a Markdown table.

``python -m tests.bench.approximation_speed`` (half a minute). Both fit shallow ReLU networks with k knots to the same
all-scales targets from the same start, on the same grid of 32 (k + 1) + 1 points. The loop has an analytic Jacobian and
takes the best of eight settings for every case: over all 3 (k + 2) weights, or over the k kinks and k + 2 coefficients
of a + b x + sum_j c_j relu(x - t_j), which has no redundant weights; by `trf` and by `lm`; with tolerances (ftol, xtol
and gtol) 1e-4 and 1e-8, at most 100 evaluations (`lm` counts as many accepted Jacobians). The packed stage runs with
10, 20 and 60 iterations. Of either side the fastest setting counts whose median root mean square is at most 1.02 (the
packed side: 1.005) times that of 60 packed iterations, on the problems that the loop does; if the loop has none, the
one that gets closest. The same over weights alone, the network's own parameters, stands beside it. Times are processor
seconds of one thread each (set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1), which a shared machine does not blur.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.spline_fits import SplineFits
from hyperscale.training.variable_projection import VarPro
from tests.bench.machine import command, machine
from tests.bench.tables import table, times

INSTANCES = 8
Functions = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]
TOLERANCES = (1e-4, 1e-8)
ITERATIONS = (10, 20, 60)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A number of knots, the grid, how many fits are packed, and how many of them the loop does (the rest scaled)."""

    knots: int
    members: int = 8
    looped: int = 8


CASES = (
    Case(knots=7, members=8, looped=16),
    Case(knots=7, members=20, looped=16),
    Case(knots=15, members=8),
    Case(knots=15, members=20),
    Case(knots=31, members=8, looped=4),
    Case(knots=31, members=20, looped=4),
)


def start_fit(case: Case) -> GridFit:
    """Return the pack: members x 8 instances of all-scales targets at their equispaced start."""
    method = PerInstance(primary_widths=(case.knots + 2,), bias="hidden", num_instances=INSTANCES)
    targets = [SobolevBall(x_dim=1, conditioning_dim=1, levels=5, seed=seed) for seed in range(case.members)]
    where = TrainingGrid(x_points=32 * (case.knots + 1) + 1)
    fit = GridFit(method, where, targets, list(range(case.members)), "cpu")
    Knots().start(fit).advance(0.0)
    return fit


def packed(fit: GridFit, iterations: int) -> float:
    """Run the stage to its end and return the seconds."""
    started = time.process_time()
    run = VarPro(iterations=iterations).start(fit)
    while not run.advance(float("inf")):
        pass
    return time.process_time() - started


def weights_residual(x: np.ndarray, y: np.ndarray, width: int) -> Functions:
    """Return the residual h - y and its Jacobian as functions of the 3 width weights (w, b, c)."""

    def residual(theta: np.ndarray) -> np.ndarray:
        w, b, c = theta.reshape(3, width)
        return np.maximum(x[:, None] * w + b, 0) @ c - y

    def jacobian(theta: np.ndarray) -> np.ndarray:
        w, b, c = theta.reshape(3, width)
        z = x[:, None] * w + b
        on = (z > 0) * c
        return np.concatenate((x[:, None] * on, on, np.maximum(z, 0)), axis=1)

    return residual, jacobian


def kinks_residual(x: np.ndarray, y: np.ndarray, knots: int) -> Functions:
    """Return the residual h - y and its Jacobian as functions of kinks t, changes of slope c, a and b."""
    line = np.stack((np.ones_like(x), x), axis=1)

    def residual(theta: np.ndarray) -> np.ndarray:
        return np.maximum(x[:, None] - theta[:knots], 0) @ theta[knots : 2 * knots] + line @ theta[2 * knots :] - y

    def jacobian(theta: np.ndarray) -> np.ndarray:
        z = x[:, None] - theta[:knots]
        return np.concatenate(((z > 0) * -theta[knots : 2 * knots], np.maximum(z, 0), line), axis=1)

    return residual, jacobian


def starts(fit: GridFit, form: str) -> np.ndarray:
    """Return what the loop starts from, [problems, parameters]: the networks as they are, in the form asked for."""
    if form == "weights":
        return fit.params.reshape(fit.y.shape[:2].numel(), -1).numpy()
    knots, values = SplineFits(fit).read()
    nodes = np.pad(knots, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, 1)))
    slopes = np.diff(values) / np.diff(nodes)
    return np.concatenate((knots, np.diff(slopes), values[:, :1] + slopes[:, :1], slopes[:, :1]), axis=1)


def looped(fit: GridFit, case: Case, form: str, method: str, tolerance: float) -> tuple[float, np.ndarray]:
    """Fit the first ``looped`` problems one by one; return seconds per fit and the root mean squares."""
    x, y = fit.x_grid[:, 0].numpy(), fit.y.flatten(0, 1).numpy()[: case.looped]
    begin = starts(fit, form)
    reached = []
    started = time.process_time()
    for own, start in zip(y, begin, strict=False):
        functions = (
            weights_residual(x, own, case.knots + 2) if form == "weights" else kinks_residual(x, own, case.knots)
        )
        options = {"ftol": tolerance, "xtol": tolerance, "gtol": tolerance, "max_nfev": 100}
        found = least_squares(functions[0], start, functions[1], method=method, **options)
        reached.append(np.sqrt(np.mean(found.fun**2)))
    return (time.process_time() - started) / case.looped, np.array(reached)


def _best(settings: list[tuple[float, float, str, float]]) -> tuple[float, float, str, float]:
    """Return the fastest of the settings that are as good as the packed fits, or the one that gets closest."""
    as_good = [one for one in settings if one[0] <= 1.02]
    return min(as_good, key=lambda one: one[1]) if as_good else min(settings)


def row(case: Case) -> list[str]:
    """Return one line: rms reached and fits a minute of both, and the ratio to the loop's best setting."""
    packed(start_fit(case), 2)
    begun, runs = start_fit(case), []
    for iterations in ITERATIONS:
        fit = start_fit(case)
        seconds = packed(fit, iterations) / fit.y.shape[:2].numel()
        runs.append(
            (seconds, iterations, fit.residuals().square().mean(dim=-1).sqrt().flatten()[: case.looped].numpy())
        )
    rms = runs[-1][2]
    seconds, iterations, own = next(one for one in runs if np.median(one[2] / rms) <= 1.005)
    comparisons = []
    for form in ("weights", "kinks"):
        for method in ("trf", "lm"):
            for tolerance in TOLERANCES:
                each, reached = looped(begun, case, form, method, tolerance)
                name = f"{form}, {method}, {tolerance:g}"
                comparisons.append((float(np.median(reached / rms)), each, name, float(np.median(reached))))
    ratio, each, name, theirs = _best(comparisons)
    weights = _best([one for one in comparisons if one[2].startswith("weights")])
    return [
        str(case.knots),
        str(begun.where.x_points),
        str(begun.y.shape[:2].numel()),
        str(iterations),
        f"{60 / seconds:,.0f}",
        f"{60 / each:,.0f}",
        name,
        f"{np.median(own):.3g}",
        f"{theirs:.3g}",
        f"{ratio:.3f}",
        times(each / seconds),
        f"{times(weights[1] / seconds)} (rms {weights[0]:.3f})",
    ]


def section() -> str:
    """Return the table."""
    header = [
        "knots",
        "points",
        "fits packed",
        "iterations",
        "fits a core-minute, packed",
        "fits a core-minute, loop",
        "loop's parameters, method, tolerance",
        "median rms, packed",
        "median rms, loop",
        "rms, loop / 60 iterations (median)",
        "packed is faster",
        "than the loop over weights (its rms / 60 iterations)",
    ]
    return table(header, [row(case) for case in CASES])


def main() -> None:
    """Print the table."""
    began = time.process_time()
    where = f"`{command()}`, {machine('numpy', 'scipy')} {torch.get_num_threads()} threads."
    print(f"\n# Packed fits against a loop\n\n{where}\n\n{section()}")  # noqa: T201
    print(f"\nIn {time.process_time() - began:.0f} s.")  # noqa: T201


if __name__ == "__main__":
    main()
