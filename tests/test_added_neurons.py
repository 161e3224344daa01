"""Tests of `hyperscale.training.added_neurons`: one neuron more errs less, and as much less as it can."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import Activation
from hyperscale.settings.best_approximation import BestApproximation
from hyperscale.targets.grids import grid
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.added_neurons import add_neuron
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.stages import Stages
from hyperscale.training.variable_projection import VarPro

BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("tanh", torch.tanh)])
def test_a_residual_that_is_one_unit_is_found(activation: Activation, function: Callable[[Tensor], Tensor]) -> None:
    """What one unit can take away is taken away, to the accuracy of the search, for each network by itself."""
    x = grid(1, 257)
    residuals = torch.stack([0.3 * function(3.1 * x[:, 0] - 1.23), -2.0 * function(-5.0 * x[:, 0] - 0.77)])
    left = add_neuron(residuals, x, activation)
    assert bool((left < 1e-6 * residuals.square().mean(dim=1)).all())


def test_a_ridge_of_two_inputs_is_found() -> None:
    """On (x, I) the direction is found too."""
    u = grid(2, 33)
    residuals = torch.relu(u @ torch.tensor([0.6, -0.8], dtype=torch.float64) - 0.1)[None]
    assert float(add_neuron(residuals, u, "relu")) < 1e-5 * float(residuals.square().mean())


def test_the_gain_is_that_of_the_best_kink() -> None:
    """For ReLU on the line the search is held against all kinks on a fine grid, by the normal equation."""
    x, generator = grid(1, 129), torch.Generator().manual_seed(3)
    residual = torch.randn(129, generator=generator, dtype=torch.float64)
    left = float(add_neuron(residual[None], x, "relu"))
    best = math.inf
    for kink in np.linspace(-0.999, 0.999, 4001):
        for sign in (1.0, -1.0):
            unit = torch.relu(sign * (x[:, 0] - kink))
            beta = (residual @ unit) / (unit @ unit)
            best = min(best, float((residual - beta * unit).square().mean()))
    assert left < best * (1 + 1e-3)
    assert left < float(residual.square().mean())


def test_no_residual_stays_none() -> None:
    """A network that errs nowhere has nothing to gain."""
    assert float(add_neuron(torch.zeros(1, 33, dtype=torch.float64), grid(1, 33), "tanh")) == 0.0


@pytest.mark.parametrize(
    "method",
    [
        PerInstance(primary_widths=(4,), bias="hidden", num_instances=3),
        PerInstance(primary_widths=(4,), bias="hidden", activation="tanh", num_instances=3, restarts=2),
        Monolithic(primary_widths=(4,), bias="hidden", activation="tanh"),
    ],
)
def test_a_trained_network_errs_less_with_one_neuron_more(method: Method) -> None:
    """The metric beside rmse is smaller, and not below what a unit for each network could ever do."""
    setting = BestApproximation(
        method=method,
        target=BALL,
        optimizer=Stages(Knots(), VarPro(iterations=5)),
        grid=TrainingGrid(x_points=33, instances=33),
        grid_points=65,
        one_more_neuron=True,
    )
    run = setting.start([(setting, 0)], "cpu")
    while not run.advance(60.0):
        pass
    metrics = run.outcomes()[0].metrics
    assert "rmse_one_more" in setting.metric_names()
    assert 0 < metrics["rmse_one_more"] < metrics["rmse"] * (1 - 1e-6)


def test_deep_networks_and_wrong_values_are_refused() -> None:
    """The lemma is about two layers."""
    with pytest.raises(StudyError, match="one hidden layer"):
        BestApproximation(
            method=PerInstance(primary_widths=(4, 4)),
            target=BALL,
            optimizer=Stages(Descent(steps=1)),
            one_more_neuron=True,
        )
    with pytest.raises(StudyError, match="one_more_neuron"):
        BestApproximation(
            method=PerInstance(primary_widths=(4,)),
            target=BALL,
            optimizer=Stages(Descent(steps=1)),
            one_more_neuron=1,  # type: ignore[arg-type]
        )
