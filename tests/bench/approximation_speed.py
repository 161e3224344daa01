"""Packed variable projection against a loop of `scipy.optimize.least_squares`, one fit at a time; a Markdown table.

``python -m tests.bench.approximation_speed``. Both fit shallow ReLU networks with k knots to the same targets from the
same start, on the same grid. The loop minimises the same residuals over all 3 (k + 2) weights with an analytic
Jacobian, by `trf` and by `lm`; its tolerances are searched so that the quality is comparable: what is reported beside
the times is the final root mean square of both. Times are wall-clock, all of the machine's cores for both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.variable_projection import VarPro
from tests.bench.machine import machine
from tests.bench.tables import table, times

INSTANCES = 8
TOLERANCES = (1e-4, 1e-8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A number of knots, the grid, how many fits are packed, and how many of them the loop does (the rest scaled)."""

    knots: int
    members: int = 8
    iterations: int = 60
    looped: int = 4


CASES = tuple(Case(knots=k, iterations=n) for k in (7, 15) for n in (15, 60))


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
    started = time.perf_counter()
    run = VarPro(iterations=iterations).start(fit)
    while not run.advance(float("inf")):
        pass
    return time.perf_counter() - started


def residual_of(x: np.ndarray, y: np.ndarray, width: int):
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


def looped(fit: GridFit, case: Case, method: str, tolerance: float) -> tuple[float, np.ndarray]:
    """Fit the first ``looped`` problems one by one; return seconds per fit and the root mean squares."""
    x, y = fit.x_grid[:, 0].numpy(), fit.y.flatten(0, 1).numpy()
    theta = fit.params.reshape(len(y), -1).numpy()
    reached = []
    started = time.perf_counter()
    for own, start in zip(y[: case.looped], theta, strict=False):
        residual, jacobian = residual_of(x, own, case.knots + 2)
        options = {"ftol": tolerance, "xtol": tolerance, "gtol": tolerance, "max_nfev": 100}
        found = least_squares(residual, start, jacobian, method=method, **options)
        reached.append(np.sqrt(np.mean(found.fun**2)))
    return (time.perf_counter() - started) / case.looped, np.array(reached)


def row(case: Case) -> list[str]:
    """Return one line: rms reached and trials a minute of both, and the ratio to the loop's best setting."""
    packed(start_fit(case), 2)
    fit = start_fit(case)
    begun = start_fit(case)
    seconds = packed(fit, case.iterations) / fit.y.shape[:2].numel()
    rms = fit.residuals().square().mean(dim=-1).sqrt().flatten()[: case.looped].numpy()
    comparisons = []
    for method in ("trf", "lm"):
        for tolerance in TOLERANCES:
            each, theirs = looped(begun, case, method, tolerance)
            comparisons.append((float(np.median(theirs / rms)), each, f"{method}, {tolerance:g}"))
    as_good = [one for one in comparisons if one[0] <= 1.02]
    ratio, each, name = min(as_good or comparisons, key=lambda one: one[1] if as_good else one[0])
    fastest = min(one[1] for one in comparisons)
    return [
        str(case.knots),
        str(fit.where.x_points),
        str(fit.y.shape[:2].numel()),
        str(case.iterations),
        f"{60 / seconds:,.0f}",
        f"{60 / each:,.0f}",
        name,
        f"{ratio:.3f}",
        times(each / seconds),
        times(fastest / seconds),
    ]


def section() -> str:
    """Return the table."""
    header = [
        "knots",
        "points",
        "fits packed",
        "iterations",
        "fits a minute, packed",
        "fits a minute, loop",
        "loop's method, tolerance",
        "its rms / packed rms (median)",
        "packed is faster",
        "against the loop's fastest setting",
    ]
    return table(header, [row(case) for case in CASES])


def main() -> None:
    """Print the table."""
    print(f"{machine('numpy', 'scipy')} {torch.get_num_threads()} threads.\n\n{section()}")  # noqa: T201


if __name__ == "__main__":
    main()
