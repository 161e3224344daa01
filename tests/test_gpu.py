"""The same trial on a GPU and on a CPU: same streams, same numbers to rounding. Run by `make test-gpu`."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hyperscale.dispatch.probe import device_memory, measure
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.activations import ACTIVATIONS
from hyperscale.networks.encoders import HatEncoder
from hyperscale.packing import Pack
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.settings.setting import Outcome, Setting
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints
from hyperscale.training.optimizers import SGD, Adam, Optimizer
from hyperscale.training.schedules import Cosine
from hyperscale.trial import Trial
from tests.contracts import DIMS, MethodContract, assert_packed_is_differentiated, sample_methods

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

DEVICE = "cuda"
MEBIBYTE = 2**20
BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
METHODS: dict[str, Method] = {
    "hypernetwork": Hypernetwork(primary_widths=(8,), widths=(8,), bias="all", activation="tanh"),
    "hypernetwork-table": Hypernetwork(
        primary_widths=(8,), encoder=HatEncoder(knots=9), bias="hidden", initialization="shared_primary"
    ),
    "embedding": Embedding(primary_widths=(8,), widths=(8,), embedding_dim=2, bias="all", activation="tanh"),
    "embedding-composed": Embedding(primary_widths=(4,), widths=(4,), embedding_dim=200, bias="all", activation="tanh"),
    "monolithic": Monolithic(primary_widths=(8, 8), bias="all", activation="tanh"),
    "per-instance": PerInstance(primary_widths=(8,), num_instances=4, restarts=2, bias="all", activation="tanh"),
}
RULES: dict[str, Optimizer] = {
    "sgd": SGD(lr=0.05, momentum=0.5, weight_decay=0.01, schedule=Cosine()),
    "adam": Adam(lr=0.003, weight_decay=0.01, schedule=Cosine()),
}


def approximation(method: Method, rule: Optimizer = RULES["adam"], **fields: Any) -> Approximation:
    """Return a small setting in float64."""
    shared: dict[str, Any] = {"points": FreshPoints(instances=8, points=8), "steps": 100, "grid_points": 17}
    return Approximation(method=method, target=BALL, optimizer=rule, **{**shared, "precision": "float64", **fields})


def sampled(method: Method, **fields: Any) -> Approximation:
    """Return a setting on a sample of long inputs, one x for each I."""
    points = FixedSample(size=200, test_size=50, batch_size=40)
    target = InnerProduct(x_dim=40, conditioning_dim=3)
    shared: dict[str, Any] = {"target": target, "points": points, "steps": 100, "precision": "float64"}
    return Approximation(method=method, optimizer=RULES["sgd"], **{**shared, **fields})


def train(members: Sequence[tuple[Setting, int]], device: str) -> list[Outcome]:
    """Train a pack on a device."""
    run = members[0][0].start(members, device)
    while not run.advance(math.inf):
        pass
    return run.outcomes()


def assert_follows(members: Sequence[tuple[Setting, int]], rel: float = 1e-6) -> None:
    """Check that a pack on the GPU has the CPU's statuses, metrics and loss curves."""
    for ours, theirs in zip(train(members, DEVICE), train(members, "cpu"), strict=True):
        assert ours.status == theirs.status
        assert dict(ours.metrics) == pytest.approx(dict(theirs.metrics), rel=rel)
        steps, losses = ours.curves["train_loss"]
        assert steps == theirs.curves["train_loss"][0]
        assert losses == pytest.approx(theirs.curves["train_loss"][1], rel=rel)


# --- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_cpu_s_numbers(method: str, rule: str) -> None:
    """In float64 after 100 steps metrics and curves agree to 1e-6: same initial weights, same data, same updates."""
    setting = approximation(METHODS[method], RULES[rule])
    assert_follows([(setting, seed) for seed in range(3)])


@pytest.mark.parametrize("kind", [Hypernetwork, Embedding])
def test_one_long_input_for_each_instance_is_trained_alike(kind: Any) -> None:
    """On a sample, x contracted with f's last weights, or the embedding composed: the CPU's numbers to 1e-6."""
    extra = {"embedding_dim": 200} if kind is Embedding else {}
    method = kind(primary_widths=(5,), widths=(6,), bias="all", activation="tanh", **extra)
    setting = sampled(method)
    dims, (instances, points) = setting.target.dims, setting.batch_shape
    assert method.composes(dims, instances) if kind is Embedding else method.contracts(dims, (instances, points))
    assert_follows([(setting, seed) for seed in range(3)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_padded_packs_are_trained_alike(activation: Any) -> None:
    """Widths 9 and 10 as one program, masks of the sigmoid included, give the CPU's numbers for each to 1e-6."""
    members = [
        (approximation(Hypernetwork(primary_widths=(w,), widths=(w,), bias="all", activation=activation)), seed)
        for seed, w in enumerate((9, 10, 9))
    ]
    assert len({setting.program_key() for setting, _ in members}) == 1
    assert_follows(members)


@pytest.mark.parametrize("method", METHODS)
def test_members_of_different_lengths_are_trained_alike(method: str) -> None:
    """Rows that end are dropped on the GPU too, and every member has the CPU's numbers to 1e-6."""
    members = [(approximation(METHODS[method], steps=steps), 0) for steps in (20, 90, 33, 50, 90)]
    assert_follows(members)
    run: Any = members[0][0].start(members, DEVICE)
    assert run.advance(math.inf)
    assert run.members == [1, 4]


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_member_leaves_its_pack_mates_alone_on_a_gpu(method: str) -> None:
    """A member that starts from NaN ends as diverged; the others have the numbers of a sound pack."""
    members = [(approximation(METHODS[method]), seed) for seed in range(3)]
    sound = train(members, DEVICE)
    run: Any = members[0][0].start(members, DEVICE)
    run.params[1] = math.nan
    assert run.advance(math.inf)
    assert [outcome.status for outcome in run.outcomes()] == ["finished", "diverged", "finished"]
    for row in (0, 2):
        assert dict(run.outcomes()[row].metrics) == pytest.approx(dict(sound[row].metrics), rel=1e-6)


def test_a_run_is_saved_on_a_gpu_and_resumed() -> None:
    """A state saved in the middle, after rows were dropped, goes on to the numbers of an uninterrupted run."""
    members = [(approximation(METHODS["hypernetwork"], steps=steps), 0) for steps in (20, 90, 90)]
    first: Any = members[0][0].start(members, DEVICE)
    while first.step < 40:
        assert not first.advance(0.0)
    assert first.members == [1, 2]
    second: Any = members[0][0].start(members, DEVICE)
    second.restore(first.state())
    assert second.advance(math.inf)
    for ours, theirs in zip(second.outcomes(), train(members, DEVICE), strict=True):
        assert dict(ours.metrics) == pytest.approx(dict(theirs.metrics), rel=1e-6)


def test_generators_train_on_a_gpu() -> None:
    """The toy problem, widths 9 and 10 in one pack, gives the CPU's metrics after a few steps in float32, to 1e-3."""
    setting = Generation(accuracy_weight=1.0, steps=10)
    members = [(replace(setting, generator=WeightGenerator(widths=(width,))), width) for width in (9, 10)]
    for pack in ([(setting, seed) for seed in range(3)], members):
        for ours, theirs in zip(train(pack, DEVICE), train(pack, "cpu"), strict=True):
            assert ours.metrics["entropy"] == pytest.approx(theirs.metrics["entropy"], rel=1e-3)
            assert ours.metrics["mean_value"] == pytest.approx(theirs.metrics["mean_value"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", sample_methods())
def test_the_form_that_trains_equals_automatic_differentiation_on_a_gpu(name: str) -> None:
    """Every method's fast form follows `respond` on the GPU as on the CPU, to 1e-11."""
    method = sample_methods()[name]
    for points in (1, 4):
        x, conditioning = (part.to(DEVICE) for part in MethodContract().inputs(method, points=points))
        params = method.initialize(DIMS, MethodContract.seeds).to(DEVICE)
        assert_packed_is_differentiated(method, DIMS, params, x, conditioning)


# --- memory and speed ------------------------------------------------------------------------------------------

LARGE: dict[str, tuple[int, Setting]] = {
    "generated weights": (
        64,
        approximation(
            Hypernetwork(primary_widths=(128,), widths=(256,), bias="hidden"),
            points=FreshPoints(instances=32, points=32), steps=5, precision="float32",
        ),
    ),
    "wide activations": (
        64,
        approximation(
            Monolithic(primary_widths=(128,) * 4, bias="hidden"),
            points=FreshPoints(instances=128, points=32), steps=5, precision="float32",
        ),
    ),
    "a sample": (
        4,
        sampled(
            Embedding(primary_widths=(10,), widths=(100,), embedding_dim=5000),
            target=InnerProduct(x_dim=500, conditioning_dim=500),
            points=FixedSample(size=4000, test_size=1000, batch_size=200), steps=5, precision="float32",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_packs_take_about_the_memory_they_are_said_to_on_a_gpu(name: str) -> None:
    """The allocator's peak lies within a factor of 2.5 of the model, up or down, and 32 MiB."""
    count, setting = LARGE[name]
    train([(setting.brief(1), 0)], DEVICE)  # what kernels and libraries take once is no pack's doing
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train([(setting, seed) for seed in range(count)], DEVICE)
    peak = torch.cuda.max_memory_allocated() - before
    model = Pack(trials=tuple(Trial(setting=setting, seed=seed) for seed in range(count))).memory_bytes
    assert model > 40 * MEBIBYTE, "too small to tell"
    assert model / 2.5 - 32 * MEBIBYTE < peak < 2.5 * model + 32 * MEBIBYTE, f"{peak:,} for {model:,}"


def test_a_program_is_measured_on_a_gpu() -> None:
    """Rising sizes, finite times, and memory by the allocator; some of the device's memory is free."""
    _, setting = LARGE["generated weights"]
    speed = measure([(replace(setting, steps=10**6), seed) for seed in range(64)], DEVICE, 2**34)
    assert speed.members == (1, 4, 16, 64)[: len(speed.members)]
    assert len(speed.members) >= 2
    assert all(0 < seconds < 1 for seconds in speed.step_seconds)
    assert 0 < speed.member_bytes < 2.5 * setting.cost().memory_bytes + 32 * MEBIBYTE
    assert 0 < device_memory() <= torch.cuda.get_device_properties(0).total_memory
