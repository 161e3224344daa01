"""Small fits on grids for the tests of stages: targets in closed form, and ways to run a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import Target
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.stages import Stage, StageRun

FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "square": lambda x, _: x[..., :1] ** 2,
    "exp": lambda x, _: x[..., :1].exp(),
    "tent": lambda x, i: (x[..., :1] - 0.3 * i[..., None, :1]).abs(),
    "kinks": lambda x, i: (1 + i[..., None, :1]) * (x[..., :1] - 0.21).clamp_min(0) - (x[..., :1] + 0.43).clamp_min(0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Formula(Target):
    """One of `FUNCTIONS` of (x, I)."""

    name: str
    x_dim: int = 1
    conditioning_dim: int = 1

    @property
    def inputs(self) -> str:  # type: ignore[override]
        """Uniform on the cube."""
        return "uniform"

    @property
    def smoothness(self) -> int:
        """One."""
        return 1

    def program(self) -> object:
        """The function's name."""
        return self.name

    def prepare(self, targets: Sequence[Formula], seeds: Sequence[int], device: str) -> Formula:
        """Return the formula itself."""
        return self

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return y(x, I)."""
        return FUNCTIONS[self.name](x, conditioning).expand(*x.shape[:-1], 1)


METHODS: dict[str, Method] = {
    "PerInstance": PerInstance(primary_widths=(7,), bias="hidden", num_instances=3),
    "PerInstance, tanh": PerInstance(primary_widths=(5,), bias="all", num_instances=2, activation="tanh"),
    "Hypernetwork": Hypernetwork(primary_widths=(7,), bias="hidden", encoder=HatEncoder(knots=5)),
    "Monolithic": Monolithic(primary_widths=(8,), bias="hidden"),
    "Monolithic, deep": Monolithic(primary_widths=(6, 4), bias="hidden"),
    "Embedding": Embedding(primary_widths=(8,), bias="hidden", embedding_dim=2, encoder=HatEncoder(knots=5)),
    "Embedding, deep": Embedding(primary_widths=(6,), bias="all", embedding_dim=2, widths=(4,), activation="tanh"),
}
GRID = TrainingGrid(x_points=41, instances=9)


def bumps(seed: int) -> SobolevBall:
    """Return a target with three scales."""
    return SobolevBall(x_dim=1, conditioning_dim=1, levels=3, seed=seed)


def make_fit(method: Method, targets: Sequence[Target], seeds: Sequence[int], where: TrainingGrid = GRID) -> GridFit:
    """Return a fit on the CPU."""
    return GridFit(method, where, targets, seeds, "cpu")


def finish(run: StageRun, deadline: float = float("inf")) -> None:
    """Advance a run until it is through."""
    while not run.advance(deadline):
        pass


def run_stages(fit: GridFit, *stages: Stage) -> list[StageRun]:
    """Run stages one after the other to their ends and return the runs."""
    runs = []
    for stage in stages:
        stage.check(fit.method, fit.dims)
        runs.append(stage.start(fit))
        finish(runs[-1])
    return runs


def mean_squares(fit: GridFit) -> Tensor:
    """Return every member's mean squared residual."""
    return fit.residuals().square().mean(dim=(1, 2))


def zeros_like(fit: GridFit) -> Tensor:
    """Return parameters of zeros."""
    return torch.zeros_like(fit.params)
