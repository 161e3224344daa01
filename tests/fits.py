"""Small grid fits for the tests of stages: how to make, run, save and compare them."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.stages import Stage

BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=2)
GRID = TrainingGrid(x_points=13, instances=7)
SHARED: dict[str, Any] = {"primary_widths": (5,), "bias": "hidden"}
METHODS: dict[str, Method] = {
    "hypernetwork": Hypernetwork(widths=(3,), activation="tanh", **SHARED),
    "hypernetwork-table": Hypernetwork(encoder=HatEncoder(knots=4), **SHARED),
    "embedding": Embedding(widths=(3,), embedding_dim=2, **SHARED),
    "monolithic": Monolithic(**SHARED),
    "per-instance": PerInstance(num_instances=3, restarts=2, **SHARED),
}
LINEAR = Hypernetwork(primary_widths=(), encoder=HatEncoder(knots=4), bias="none")
"""h(x, I) = theta(I) x with theta piecewise linear: linear in its parameters, so that fits are convex."""


def make_fit(method: Method, seeds: Sequence[int] = range(3), where: TrainingGrid = GRID, **fields: Any) -> GridFit:
    """Return a fit of `BALL` with one member for each seed."""
    return GridFit(method, where, [BALL] * len(seeds), list(seeds), "cpu", **fields)


def run_stage(stage: Stage, fit: GridFit) -> Any:
    """Run a stage to its end and return the run."""
    run = stage.start(fit)
    while not run.advance(time.monotonic() + 60.0):
        pass
    return run


def rows_alone(stage: Stage, method: Method, seeds: Sequence[int]) -> Tensor:
    """Return the parameters that each member comes to without pack-mates."""
    fits = [make_fit(method, [seed]) for seed in seeds]
    for fit in fits:
        run_stage(stage, fit)
    return torch.cat([fit.params for fit in fits])


def saved_and_loaded(state: Any) -> Any:
    """Return a state as it comes back from a file, by the loader that runs no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_restored_bit_for_bit(stage: Stage, method: Method, num_slices: int) -> None:
    """Hold a run that was saved after some slices and taken up by another fit against one that went through."""
    whole, begun, resumed = (make_fit(method) for _ in range(3))
    through = run_stage(stage, whole)
    first = stage.start(begun)
    for _ in range(num_slices):
        assert not first.advance(0.0), "the stage is too short to be cut"
    state, params = saved_and_loaded(first.state()), begun.params.clone()
    run_stage(stage, begun)  # what goes on must not reach into what was saved
    second: Any = stage.start(resumed)
    resumed.params.copy_(params)
    second.restore(state)
    while not second.advance(time.monotonic() + 60.0):
        pass
    assert torch.equal(resumed.params, whole.params)
    assert torch.equal(second.losses(), through.losses())
    (steps, values), (other_steps, other_values) = second.curve(), through.curve()
    assert steps == other_steps
    assert torch.equal(values.nan_to_num(nan=-1.0), other_values.nan_to_num(nan=-1.0))
