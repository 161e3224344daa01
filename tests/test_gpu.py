"""The same trial on a GPU and on a CPU: same streams, same numbers to rounding. Run by `make test-gpu`."""

from __future__ import annotations

import math

import pytest
import torch

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.settings.setting import Setting
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

METHODS: list[Method] = [
    Hypernetwork(primary_widths=(8,), widths=(8,), bias="all", activation="tanh"),
    Hypernetwork(primary_widths=(8,), encoder=HatEncoder(knots=9), bias="hidden", initialization="shared_primary"),
    Embedding(primary_widths=(8,), widths=(8,), embedding_dim=2, bias="all", activation="tanh"),
    Monolithic(primary_widths=(8, 8), bias="all", activation="tanh"),
    PerInstance(primary_widths=(8,), num_instances=4, restarts=2, bias="all", activation="tanh"),
]


def metrics(setting: Setting, device: str) -> list[dict[str, float]]:
    """Train three members on a device and return their metrics."""
    run = setting.start([(setting, seed) for seed in range(3)], device)
    assert run.advance(math.inf)
    return [dict(outcome.metrics) for outcome in run.outcomes()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_gpu_gives_the_cpu_s_numbers(method: Method) -> None:
    """In float64 after 100 steps the metrics agree to 1e-6: same initial weights, same data, same updates."""
    setting = Approximation(
        method=method,
        target=SobolevBall(x_dim=1, conditioning_dim=1, levels=3),
        points=FreshPoints(instances=8, points=8),
        steps=100,
        grid_points=17,
        precision="float64",
    )
    for ours, theirs in zip(metrics(setting, "cuda"), metrics(setting, "cpu"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_generator_trains_on_a_gpu() -> None:
    """The toy problem gives the CPU's metrics after a few steps in float32, to 1e-3."""
    setting = Generation(accuracy_weight=1.0, steps=10)
    for ours, theirs in zip(metrics(setting, "cuda"), metrics(setting, "cpu"), strict=True):
        assert ours["entropy"] == pytest.approx(theirs["entropy"], rel=1e-3)
        assert ours["mean_value"] == pytest.approx(theirs["mean_value"], rel=1e-3, abs=1e-4)
