"""Tests of `hyperscale.settings.approximation` and the points it draws."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.settings import fitting
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.batches import PointSource, draw_sample
from hyperscale.settings.fitting import ApproximationObjective, linear_fit
from hyperscale.targets.grids import grid
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints, Target
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Cosine

GOLDEN = Path(__file__).parent / "golden" / "loss_trace.json"
BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=2)
PRODUCT = InnerProduct(x_dim=4, conditioning_dim=3)
SAMPLE = FixedSample(size=60, test_size=40, batch_size=20)
METHODS: dict[str, Method] = {
    "hypernetwork": Hypernetwork(primary_widths=(4,), widths=(3,), activation="tanh", bias="all"),
    "embedding": Embedding(primary_widths=(4,), widths=(3,), embedding_dim=2, activation="tanh", bias="all"),
    "monolithic": Monolithic(primary_widths=(4,), activation="tanh", bias="all"),
    "per-instance": PerInstance(primary_widths=(4,), num_instances=3, restarts=2, activation="tanh", bias="all"),
}


def tiny(method: Method = METHODS["monolithic"], target: Target = BALL, **fields: Any) -> Approximation:
    """Return a setting that trains in no time."""
    points: Any = FreshPoints(instances=4, points=3) if target.inputs == "uniform" else SAMPLE
    return Approximation(method=method, target=target, **{"steps": 6, "points": points, "grid_points": 9, **fields})


def finish(setting: Approximation, seed: int = 0) -> Any:
    """Train one trial and return its run."""
    run: Any = setting.start([(setting, seed)], "cpu")
    while not run.advance(60.0):
        pass
    return run


# --- validation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "hypernetwork"}, "Approximation.method"),
        ({"target": None}, "Approximation.target"),
        ({"optimizer": 0.1}, "Approximation.optimizer"),
        ({"points": 32}, "Approximation.points"),
        ({"steps": 0}, "Approximation.steps"),
        ({"steps": 10.0}, "Approximation.steps"),
        ({"grid_points": 1}, "Approximation.grid_points"),
        ({"grid_points": 4000}, "Approximation.grid_points"),
        ({"precision": "float16"}, "Approximation.precision"),
        ({"method": METHODS["per-instance"], "points": SAMPLE}, "PerInstance"),
        ({"target": PRODUCT, "points": FreshPoints()}, "FixedSample"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value, or parts that do not fit together, raise an error that names the field."""
    with pytest.raises(StudyError) as caught:
        Approximation(**{"method": METHODS["monolithic"], "target": BALL, **fields})
    assert named in str(caught.value)


# --- metrics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "target"),
    [*((kind, BALL) for kind in METHODS), *((kind, PRODUCT) for kind in METHODS if kind != "per-instance")],
)
def test_promised_metrics_are_the_reported_ones(kind: str, target: Target) -> None:
    """A finished trial reports exactly the metrics its setting names, all finite, none negative."""
    setting = tiny(METHODS[kind], target)
    (outcome,) = finish(setting).outcomes()
    assert outcome.status == "finished"
    assert sorted(outcome.metrics) == sorted(setting.metric_names())
    assert all(math.isfinite(value) and value >= 0 for value in outcome.metrics.values())
    assert outcome.metrics["rmse"] <= outcome.metrics["sup_error"]
    if target is PRODUCT:
        assert outcome.metrics["test_loss"] == pytest.approx(outcome.metrics["rmse"] ** 2, rel=1e-12)


@pytest.mark.parametrize("chunk", [2**20, 300])
@pytest.mark.parametrize("kind", ["hypernetwork", "embedding", "monolithic"])
def test_errors_on_the_grid_equal_a_plain_loop(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sup error and rmse equal those over all pairs of the grid in float64, in one chunk or in several."""
    monkeypatch.setattr(fitting, "MAX_EVALUATION_NUMBERS", chunk)
    method, target = METHODS[kind], SobolevBall(x_dim=1, conditioning_dim=2, levels=2)
    run = finish(tiny(method, target, grid_points=7))
    axis = np.linspace(-1, 1, 7)
    pairs = torch.tensor(list(itertools.product(axis, axis, axis)), dtype=torch.float64)
    x, conditioning = pairs[None, :, None, :1], pairs[None, :, 1:]
    h = method.evaluate(target.dims, run.params.double(), x, conditioning)
    gap = (h - target.prepare([target], [0], "cpu").evaluate(x, conditioning)).flatten()
    metrics = run.outcomes()[0].metrics
    assert metrics["sup_error"] == pytest.approx(float(gap.abs().max()), rel=1e-12)
    assert metrics["rmse"] == pytest.approx(float(gap.square().mean().sqrt()), rel=1e-12)


def test_per_instance_errors_are_those_of_the_best_attempts() -> None:
    """Each instance counts with its best attempt: the sup error is the largest of the smallest sup errors."""
    method = METHODS["per-instance"]
    run = finish(tiny(method, steps=20))
    networks = run.params.double().unflatten(-1, (6, -1))[0]
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    primary = Hypernetwork(primary_widths=(4,), activation="tanh", bias="all").primary_shape(BALL.dims)
    kept: list[tuple[float, float]] = []
    for instance in range(3):
        conditioning = torch.full((1, 1, 1), (2 * instance + 1) / 3 - 1, dtype=torch.float64)
        y = BALL.prepare([BALL], [0], "cpu").evaluate(x[None, None, :, None], conditioning).flatten()
        attempts: list[tuple[float, float]] = []
        for restart in range(2):
            (weight, bias), (last, last_bias) = primary.split(networks[2 * instance + restart])
            assert bias is not None
            assert last_bias is not None
            gap = ((x[:, None] @ weight + bias).tanh() @ last + last_bias).flatten() - y
            attempts.append((float(gap.abs().max()), float(gap.square().mean())))
        kept.append(min(attempts))
    metrics = run.outcomes()[0].metrics
    assert metrics["sup_error"] == pytest.approx(max(worst for worst, _ in kept), rel=1e-12)
    assert metrics["rmse"] == pytest.approx(math.sqrt(sum(square for _, square in kept) / 3), rel=1e-12)


def test_baselines_equal_numpys_least_squares() -> None:
    """Zero and linear loss on the test sample equal those computed with numpy.linalg.lstsq on the training sample."""
    setting = tiny(METHODS["embedding"], PRODUCT, precision="float64", steps=3)
    metrics = finish(setting, seed=6).outcomes()[0].metrics
    prepared = PRODUCT.prepare([PRODUCT], [6], "cpu")
    arrays: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for stream, size in (("data", 60), ("evaluation", 40)):
        source = PointSource([6], stream, PRODUCT.dims, "normal", "cpu")  # type: ignore[arg-type]
        x, _, y = draw_sample(source, prepared, size, torch.float64)
        arrays[stream] = (x[0, :, 0].numpy(), y.flatten().numpy())
    fit = np.linalg.lstsq(*arrays["data"], rcond=None)[0]
    x, y = arrays["evaluation"]
    assert metrics["zero_loss"] == pytest.approx(np.mean(y**2), rel=1e-12)
    assert metrics["linear_loss"] == pytest.approx(np.mean((x @ fit - y) ** 2), rel=1e-6)


def test_linear_fit_of_many_streams_equals_numpys() -> None:
    """Each stream has its own least-squares coefficients."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 50, 1, 4), generator=generator, dtype=torch.float64)
    y = torch.randn((3, 50, 1, 1), generator=generator, dtype=torch.float64)
    fitted = linear_fit((x, x, y))
    for stream in range(3):
        expected = np.linalg.lstsq(x[stream, :, 0].numpy(), y[stream, :, 0].numpy(), rcond=None)[0]
        np.testing.assert_allclose(fitted[stream].numpy(), expected, rtol=1e-7)


def test_spectral_complexities_are_the_methods_own() -> None:
    """A trial reports what the method computes from the final parameters; the embedding's needs no I."""
    run = finish(tiny(METHODS["embedding"]))
    metrics = run.outcomes()[0].metrics
    expected = METHODS["embedding"].spectral_complexities(BALL.dims, run.params.double(), torch.zeros(1, 1, 1))
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value.item(), rel=1e-12)


# --- the points ------------------------------------------------------------------------------------------------


def batches_of(setting: Approximation, seeds: list[int], steps: list[int]) -> list[tuple[Tensor, ...]]:
    """Return the members' batches (x, I, y) at some steps."""
    objective = ApproximationObjective([(setting, seed) for seed in seeds], "cpu")
    return [tuple(objective._for_members(part) for part in objective.batches.batch(step)) for step in steps]


@pytest.mark.parametrize("target", [BALL, PRODUCT], ids=["fresh", "sample"])
def test_methods_of_one_seed_see_the_same_points(target: Target) -> None:
    """Two methods with the same seed get the same x, I and y at every step, whatever pack they are in."""
    steps = [0, 1, 31, 32, 33, 100, 5]
    first = batches_of(tiny(METHODS["hypernetwork"], target), [4], steps)
    second = batches_of(tiny(METHODS["embedding"], target, optimizer=SGD(lr=0.5)), [1, 4, 4], steps)
    for one, several in zip(first, second, strict=True):
        for part, parts in zip(one, several, strict=True):
            torch.testing.assert_close(part[0], parts[1], rtol=1e-5, atol=1e-7)
            assert torch.equal(parts[1], parts[2])
        assert torch.equal(one[0][0], several[0][1])
        assert not torch.equal(several[0][0], several[0][1])


def test_fresh_points_are_new_uniform_and_in_the_cube() -> None:
    """No step repeats a point; x and I are uniform on [-1, 1] (Kolmogorov-Smirnov) and uncorrelated."""
    setting = tiny(points=FreshPoints(instances=20, points=1), precision="float64")
    drawn = batches_of(setting, [0], list(range(150)))
    x, conditioning = (torch.cat([batch[i].flatten() for batch in drawn]).numpy() for i in (0, 1))
    assert len(set(x.tolist()) | set(conditioning.tolist())) == 6000
    for numbers in (x, conditioning):
        assert stats.kstest(numbers, stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert abs(np.corrcoef(x, conditioning)[0, 1]) < 4 / 3000**0.5


def test_batches_hold_the_targets_values() -> None:
    """The third part of a batch is y at the first two."""
    for target in (BALL, PRODUCT):
        setting = tiny(target=target, precision="float64")
        for x, conditioning, y in batches_of(setting, [2, 3], [0, 40]):
            expected = target.prepare([target, target], [2, 3], "cpu").evaluate(x, conditioning)
            torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-15)


def test_per_instance_batches_hold_its_own_instances() -> None:
    """PerInstance sees its fixed I at every step, with fresh x for every attempt."""
    method = METHODS["per-instance"]
    assert isinstance(method, PerInstance)
    for x, conditioning, _ in batches_of(tiny(method, precision="float64"), [0, 1], [0, 50]):
        assert x.shape == (2, 6, 3, 1)
        assert torch.equal(conditioning[0], method.instances(BALL.dims))
        assert torch.equal(conditioning[1], method.instances(BALL.dims))


def test_epochs_are_permutations() -> None:
    """Every index comes once per epoch, in another order in every epoch and for every seed."""
    setting = tiny(target=PRODUCT)
    objective = ApproximationObjective([(setting, 0), (setting, 1)], "cpu")
    assert objective.sample is not None
    sample = objective.sample[0][:, :, 0]
    orders = []
    for epoch in range(3):
        seen = torch.cat([objective.batches.batch(3 * epoch + i)[0][:, :, 0] for i in range(3)], dim=1)
        matches = (seen[:, :, None] == sample[:, None]).all(dim=-1)
        assert (matches.sum(dim=1) == 1).all()
        assert (matches.sum(dim=2) == 1).all()
        orders.append(matches.double().argmax(dim=-1))
    for first, second in itertools.combinations([*(order[0] for order in orders), orders[0][1]], 2):
        assert not torch.equal(first, second)


def test_an_incomplete_last_batch_is_left_out() -> None:
    """A sample of 50 in batches of 20 gives two batches of 20 an epoch, without repetition."""
    setting = tiny(target=PRODUCT, points=FixedSample(size=50, test_size=10, batch_size=20))
    batches = ApproximationObjective([(setting, 0)], "cpu").batches
    rows = [tuple(row) for step in (0, 1) for row in batches.batch(step)[0][0, :, 0].tolist()]
    assert len(set(rows)) == len(rows) == 40
    again = [tuple(row) for row in batches.batch(2)[0][0, :, 0].tolist()]
    assert set(again) & set(rows)


def test_test_sample_is_apart_from_the_training_sample() -> None:
    """No test point is a training point, and a longer sample of the same seed begins with the shorter one."""
    prepared = PRODUCT.prepare([PRODUCT], [0], "cpu")
    rows = {}
    for stream in ("data", "evaluation"):
        source = PointSource([0], stream, PRODUCT.dims, "normal", "cpu")
        x, conditioning, _ = draw_sample(source, prepared, 1200, torch.float64)
        assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 0.01
        assert stats.kstest(conditioning.flatten().numpy(), "norm").pvalue > 0.01
        assert torch.equal(draw_sample(source, prepared, 700, torch.float64)[0], x[:, :700])
        rows[stream] = {tuple(row) for row in x[0, :, 0].tolist()}
    assert len(rows["data"]) == len(rows["evaluation"]) == 1200
    assert not rows["data"] & rows["evaluation"]


def test_grid_is_equispaced_with_its_end_points() -> None:
    """The grid is the product of equispaced axes from -1 to 1, the first coordinate varying slowest."""
    assert grid(1, 3).tolist() == [[-1], [0], [1]]
    assert grid(2, 2).tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert grid(3, 4).shape == (64, 3)


# --- the loss --------------------------------------------------------------------------------------------------


def test_loss_is_the_mean_square_of_the_batch() -> None:
    """Every member's loss is the mean over its own batch of (h - y)^2."""
    setting = tiny(METHODS["embedding"], precision="float64")
    objective = ApproximationObjective([(setting, seed) for seed in (0, 1, 0)], "cpu")
    params = METHODS["embedding"].initialize(BALL.dims, [0, 1, 2])
    losses = objective.loss(params, 3)
    for row, seed in enumerate((0, 1, 0)):
        ((x, conditioning, y),) = batches_of(setting, [seed], [3])
        h = METHODS["embedding"].evaluate(BALL.dims, params[row : row + 1], x, conditioning)
        assert losses[row].item() == pytest.approx(float(((h - y) ** 2).mean()), rel=1e-12)


def golden_setting() -> Approximation:
    """Return the setting whose loss trace is recorded: every field written out, so that no default matters."""
    return Approximation(
        method=Hypernetwork(
            primary_widths=(4,),
            widths=(6,),
            activation="tanh",
            bias="hidden",
            encoder=HatEncoder(knots=5),
            initialization="default",
        ),
        target=SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=3, seed=1),
        optimizer=Adam(lr=0.01, weight_decay=0.1, schedule=Cosine(final=0.0), beta1=0.9, beta2=0.999, eps=1e-8),
        steps=5,
        points=FreshPoints(instances=4, points=3),
        grid_points=9,
        precision="float64",
    )


def test_five_step_loss_trace_is_the_recorded_one() -> None:
    """Losses of five steps and the final metrics equal the recorded ones to 1e-9: arithmetic has not changed."""
    golden = json.loads(GOLDEN.read_text())
    (outcome,) = finish(golden_setting(), seed=2).outcomes()
    assert outcome.curves["train_loss"][0] == [1, 2, 3, 4, 5]
    assert outcome.curves["train_loss"][1] == pytest.approx(golden["train_loss"], rel=1e-9)
    assert dict(outcome.metrics) == pytest.approx(golden["metrics"], rel=1e-9)


def test_theorem_dimensions_come_from_the_target() -> None:
    """A target's m1 and m2 are the method's dimensions."""
    assert SobolevBall(x_dim=2, conditioning_dim=3, levels=1).dims == Dims(x_dim=2, conditioning_dim=3, output_dim=1)
