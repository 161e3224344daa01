"""Small packs for the tests of training: methods, settings, and how to finish and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import FourierEncoder, HatEncoder
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.setting import Outcome, Setting
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.training.optimizers import SGD, Adam, Optimizer
from hyperscale.training.schedules import Cosine
from hyperscale.training.trainer import TrainingRun

Member = tuple[Setting, int]
SHARED: dict[str, Any] = {"primary_widths": (4,), "activation": "tanh", "bias": "all"}
METHODS: dict[str, Method] = {
    "hypernetwork": Hypernetwork(widths=(5,), **SHARED),
    "hypernetwork-table": Hypernetwork(encoder=HatEncoder(knots=5), initialization="shared_primary", **SHARED),
    "embedding": Embedding(widths=(5,), embedding_dim=2, **SHARED),
    "embedding-activated": ActivatedEmbedding(encoder=FourierEncoder(frequencies=9), embedding_dim=2, **SHARED),
    "monolithic": Monolithic(**SHARED),
    "per-instance": PerInstance(num_instances=3, restarts=2, **SHARED),
}


RULES = ("sgd", "sgd-momentum", "adam", "adam-decay")


def optimizer(name: str, lr: float, schedule: Any) -> Optimizer:
    """Return one of the `RULES`."""
    if name.startswith("adam"):
        return Adam(lr=lr, weight_decay=0.1 * lr if name == "adam-decay" else 0.0, schedule=schedule)
    return SGD(lr=10 * lr, momentum=0.5 if name == "sgd-momentum" else 0.0, schedule=schedule)


def approximation(method: Method, rule: Optimizer, target_seed: int = 0, **fields: Any) -> Approximation:
    """Return a tiny setting."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=2, seed=target_seed)
    shared: dict[str, Any] = {"points": FreshPoints(instances=4, points=4), "grid_points": 9, **fields}
    return Approximation(method=method, target=target, optimizer=rule, **shared)


def finish(members: Sequence[Member]) -> TrainingRun:
    """Train a pack to its end."""
    run: Any = members[0][0].start(members, "cpu")
    while not run.advance(60.0):
        pass
    return run


def mixed_pack(name: str, method: Method, size: int, **fields: Any) -> list[Member]:
    """Return members of one program with different rates, targets and seeds, some of them shared."""
    return [
        (approximation(method, optimizer(name, 0.002 * (1 + i), Cosine()), target_seed=i % 2, **fields), i % 5)
        for i in range(size)
    ]


def assert_same(outcome: Outcome, other: Outcome, tolerance: float) -> None:
    """Compare status, metrics and curves; tolerance 0 means bit for bit."""
    assert outcome.status == other.status == "finished"
    assert outcome.metrics.keys() == other.metrics.keys()
    for name, value in outcome.metrics.items():
        assert other.metrics[name] == pytest.approx(value, rel=tolerance, abs=0)
    for name, (steps, values) in outcome.curves.items():
        assert other.curves[name][0] == steps
        assert other.curves[name][1] == pytest.approx(values, rel=tolerance, abs=0)
