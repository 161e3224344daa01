"""Tests of padding: which widths share a program, what it costs, and that nobody can tell from the results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method, round_up
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.activations import ACTIVATIONS
from hyperscale.networks.mlp import Shape
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.fitting import ApproximationObjective
from hyperscale.settings.generation import Generation, GenerationObjective
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.training.losses import curve_steps
from hyperscale.training.optimizers import SGD, Adam, Optimizer
from hyperscale.training.schedules import Cosine
from hyperscale.training.trainer import TrainingRun
from tests.contracts import assert_padding_changes_nothing
from tests.packs import approximation, finish

DIMS = Dims(x_dim=2, conditioning_dim=3, output_dim=2)
WIDEST_STEP = 2**21  # multiply-adds; larger steps are bound by arithmetic, not by launches


# --- the rule --------------------------------------------------------------------------------------------------


def test_widths_are_rounded_up_to_few_leading_digits() -> None:
    """Three leading binary digits give 4 5 6 7 8 10 12 14 16 20 ..., four give every number to 16, then 18 20 ..."""
    three = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160]
    four = [*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), 144, 160]
    for digits, allowed in ((3, three), (4, four)):
        assert sorted({round_up(width, digits) for width in range(1, 161)}) == allowed
        for width in range(1, 161):
            assert round_up(width, digits) == min(number for number in allowed if number >= width)


@pytest.mark.parametrize(
    ("widths", "padded"),
    [
        ((8,), (8,)),
        ((9,), (10,)),
        ((17,), (20,)),  # 20 / 17 is 1.18
        ((17, 17), (18, 18)),  # (20 / 17)^2 would be 1.38
        ((33, 33), (36, 36)),
        ((9, 9), (10, 10)),
        ((9, 16, 9), (10, 16, 10)),
        ((), ()),
    ],
)
def test_the_coarser_rounding_is_taken_where_it_costs_at_most_a_quarter(
    widths: tuple[int, ...], padded: tuple[int, ...]
) -> None:
    """Coarse first, then fine; all of a method's widths by the same rule."""
    method = Monolithic(primary_widths=widths)
    assert method.padded(Dims(x_dim=1, conditioning_dim=1), (4, 4)) == replace(method, primary_widths=padded)


WIDTHS = st.lists(st.integers(1, 300), max_size=3).map(tuple)


@st.composite
def methods(draw: st.DrawFn) -> Method:
    """Return any method with hidden widths up to 300."""
    shared: dict[str, Any] = {"primary_widths": draw(WIDTHS), "bias": draw(st.sampled_from(["none", "hidden", "all"]))}
    kind = draw(st.sampled_from(["hypernetwork", "embedding", "monolithic", "per-instance"]))
    if kind == "hypernetwork":
        return Hypernetwork(widths=draw(WIDTHS), **shared)
    if kind == "embedding":
        return Embedding(widths=draw(WIDTHS), embedding_dim=draw(st.integers(1, 300)), **shared)
    if kind == "monolithic":
        return Monolithic(**shared)
    return PerInstance(num_instances=2, **shared)


@settings(max_examples=200, deadline=None)
@given(method=methods(), batch=st.tuples(st.integers(1, 200), st.integers(1, 64)))
def test_padding_wastes_a_quarter_at_most_and_never_widens_a_large_step(method: Method, batch: tuple[int, int]) -> None:
    """Multiply-adds and parameters grow by at most 25 %; a step beyond the limit, or led beyond it, stays as it is."""
    wider = method.padded(DIMS, batch)
    assert wider.num_params_trained(DIMS) <= 1.25 * method.num_params_trained(DIMS)
    assert wider.multiply_adds(DIMS, *batch) <= 1.25 * method.multiply_adds(DIMS, *batch)
    assert wider == method or wider.multiply_adds(DIMS, *batch) <= WIDEST_STEP
    assert wider.padded(DIMS, batch).multiply_adds(DIMS, *batch) >= wider.multiply_adds(DIMS, *batch)
    assert replace(wider, **{name: getattr(method, name) for name in _widths(method)}) == method


def _widths(method: Method) -> list[str]:
    """Return the fields that padding may change."""
    return [name for name in ("primary_widths", "widths", "embedding_dim") if hasattr(method, name)]


def test_parameters_count_where_they_are_wasted_more_than_arithmetic() -> None:
    """Many points an I: e's widths cost little arithmetic, but 20 for 17 would be 1.32 of the parameters."""
    method = Embedding(primary_widths=(8,), widths=(17, 17), embedding_dim=17)
    coarse = replace(method, widths=(20, 20), embedding_dim=20)
    assert coarse.multiply_adds(DIMS, 1, 64) < 1.1 * method.multiply_adds(DIMS, 1, 64)
    assert coarse.num_params_trained(DIMS) > 1.3 * method.num_params_trained(DIMS)
    assert method.padded(DIMS, (1, 64)) == replace(method, widths=(18, 18), embedding_dim=18)


def test_a_step_at_the_limit_is_not_padded_over_it() -> None:
    """Of two batches the smaller is padded, the larger is not, since its padded step would exceed the limit."""
    method = Monolithic(primary_widths=(9,))  # 7 * 9 multiply-adds a point, 7 * 10 padded
    fits = WIDEST_STEP // (7 * 10)
    assert method.padded(DIMS, (fits, 1)).primary_widths == (10,)
    assert method.padded(DIMS, (fits + 1, 1)) == method


@settings(max_examples=100, deadline=None)
@given(latent_dim=st.integers(1, 3), widths=WIDTHS)
def test_a_generators_padding_wastes_a_quarter_at_most(latent_dim: int, widths: tuple[int, ...]) -> None:
    """The padded generator has at most 25 % more parameters and is the same but for its widths."""
    generator = WeightGenerator(latent_dim=latent_dim, widths=widths)
    wider = generator.padded(2)
    assert wider.shape(2).num_params <= 1.25 * generator.shape(2).num_params
    assert replace(wider, widths=widths) == generator
    assert all(ours <= theirs for ours, theirs in zip(widths, wider.widths, strict=True))


# --- positions -------------------------------------------------------------------------------------------------


def test_positions_keep_every_units_number() -> None:
    """In a 3-4-2 network a 2-3-2 network's weights skip the third input's row and the fourth unit, layer by layer."""
    narrow = Shape(sizes=(2, 3, 2), biases=(True, False))
    wide = Shape(sizes=(3, 4, 2), biases=(True, False))
    first, bias, last = [0, 1, 2, 4, 5, 6], [12, 13, 14], [16, 17, 18, 19, 20, 21]
    assert narrow.positions(wide).tolist() == first + bias + last
    columns = torch.tensor([1, 0])
    assert narrow.positions(wide, columns).tolist() == [*first, *bias, 17, 16, 19, 18, 21, 20]
    assert wide.positions(wide).tolist() == list(range(24))


@settings(max_examples=60, deadline=None)
@given(method=methods(), activation=st.sampled_from(ACTIVATIONS), points=st.integers(1, 3))
def test_padded_parameters_are_the_same_function(method: Method, activation: Any, points: int) -> None:
    """Whatever the widths, the padded method computes the same to 1e-12, and trains by the same gradient."""
    small = {name: _reduced(getattr(method, name)) for name in _widths(method)}
    method = replace(method, activation=activation, **small)
    generator = torch.Generator().manual_seed(points)
    instances = method.num_networks(DIMS) if isinstance(method, PerInstance) else 6
    x = torch.rand((2, instances, points, DIMS.x_dim), generator=generator, dtype=torch.float64)
    conditioning = torch.rand((2, instances, DIMS.conditioning_dim), generator=generator, dtype=torch.float64)
    assert_padding_changes_nothing(method, DIMS, method.initialize(DIMS, [0, 1]), x, conditioning)


def _reduced(value: Any) -> Any:
    return tuple(1 + width % 40 for width in value) if isinstance(value, tuple) else 1 + value % 40


# --- training --------------------------------------------------------------------------------------------------


def of_width(kind: str, width: int, **fields: Any) -> Method:
    """Return a method whose every width is ``width``."""
    shared: dict[str, Any] = {"primary_widths": (width,), "bias": "all", **fields}
    made: dict[str, Any] = {
        "hypernetwork": lambda: Hypernetwork(widths=(width,), **shared),
        "embedding": lambda: Embedding(widths=(width,), embedding_dim=width, **shared),
        "monolithic": lambda: Monolithic(**shared),
        "per-instance": lambda: PerInstance(num_instances=3, **shared),
    }
    method: Method = made[kind]()
    return method


KINDS = ("hypernetwork", "embedding", "monolithic", "per-instance")


def plain_training(setting: Approximation, seed: int) -> tuple[Tensor, list[float]]:
    """Train one trial by a loop of torch's own optimiser on the method as it is; return parameters and losses."""
    dims, batches = setting.target.dims, ApproximationObjective([(setting, seed)], "cpu").batches
    weights = torch.nn.Parameter(setting.method.initialize(dims, [seed]))
    rule, losses = setting.optimizer, []
    if isinstance(rule, Adam):
        optimizer: torch.optim.Optimizer = torch.optim.AdamW([weights], lr=rule.lr, weight_decay=rule.weight_decay)
    else:
        assert isinstance(rule, SGD)
        optimizer = torch.optim.SGD([weights], lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay)
    for step in range(setting.steps):
        optimizer.param_groups[0]["lr"] = rule.lr * rule.schedule.factor(step, setting.steps)
        x, conditioning, y = batches.batch(step)
        optimizer.zero_grad()
        loss = (setting.method.evaluate(dims, weights, x, conditioning) - y).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return weights.detach()[0], losses


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        (kind, activation)
        for kind in KINDS
        for activation in ACTIVATIONS
        if kind in ("hypernetwork", "embedding") or activation in ("tanh", "sigmoid")
    ],
)
def test_padded_training_is_plain_training(kind: str, activation: Any) -> None:
    """After 200 steps in float64 widths 9 and 10, as one program, follow torch's loops to 1e-8; padding stays zero."""
    rules: Sequence[Optimizer] = (
        [Adam(lr=0.003, weight_decay=0.1, schedule=Cosine()), Adam(lr=0.01)]
        if kind in ("hypernetwork", "monolithic")
        else [SGD(lr=0.03, momentum=0.9, weight_decay=0.01, schedule=Cosine()), SGD(lr=0.1, momentum=0.5)]
    )
    members = [
        (approximation(of_width(kind, width, activation=activation), rule, steps=200, precision="float64"), seed)
        for seed, (width, rule) in enumerate(zip((9, 10), rules, strict=True))
    ]
    run = finish(members)
    assert run.params.shape[1] == members[1][0].method.num_params_trained(members[1][0].target.dims)
    for row, (setting, seed) in enumerate(members):
        place = setting.method.positions(setting.target.dims, setting.padded_method)
        expected, losses = plain_training(setting, seed)
        torch.testing.assert_close(run.params[row, place], expected, rtol=1e-8, atol=1e-8)
        surplus = torch.ones(run.params.shape[1], dtype=torch.bool)
        surplus[place] = False
        assert surplus.any() == (setting.method != setting.padded_method)
        assert (run.params[row, surplus] == 0).all()
        stops = curve_steps(200)
        means = [sum(losses[a:b]) / (b - a) for a, b in zip([0, *stops], stops, strict=False)]
        assert run.outcomes()[row].curves["train_loss"][1] == pytest.approx(means, rel=1e-8)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "elu"])
@pytest.mark.parametrize("kind", KINDS)
def test_packs_of_several_widths_give_every_member_its_own_bits(kind: str, activation: Any) -> None:
    """In float32 widths 9 and 10 in one pack end with the outcomes that each has alone, metrics and curves, exactly."""
    members = [
        (approximation(of_width(kind, width, activation=activation), Adam(lr=0.003 * (1 + i)), steps=40), i % 2)
        for i, width in enumerate((10, 9, 10, 9, 9))
    ]
    assert len({setting.program_key() for setting, _ in members}) == 1
    whole = finish(members).outcomes()
    assert [outcome.status for outcome in whole] == ["finished"] * 5
    for member, outcome in zip(members, whole, strict=True):
        assert finish([member]).outcomes() == [outcome]


def test_evaluation_in_chunks_does_not_depend_on_pack_mates() -> None:
    """Widths 60 and 64 want other chunks of a fine grid; whichever is evaluated first, the errors are the same bits."""
    members = [
        (approximation(Monolithic(primary_widths=(width,)), Adam(lr=0.01), steps=2, grid_points=129), seed)
        for seed in range(4)
        for width in (60, 64)
    ]
    alone = [finish([member]).outcomes()[0] for member in members]
    assert finish(members).outcomes() == alone
    assert finish(members[::-1]).outcomes() == alone[::-1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_member_changes_no_bit_of_others_of_other_widths(kind: str, activation: Any, value: float) -> None:
    """One member starting from NaN or infinity ends as diverged; its pack-mates end as in a sound pack, bit for bit."""
    members = [
        (approximation(of_width(kind, width, activation=activation), Adam(lr=0.003), steps=80), seed)
        for seed, width in enumerate((10, 9, 10, 9))
    ]
    sound = finish(members).outcomes()
    run: Any = members[0][0].start(members, "cpu")
    run.params[1] = value
    assert run.advance(60.0)
    assert run.outcomes()[1].status == "diverged"
    for row in (0, 2, 3):
        assert run.outcomes()[row] == sound[row]


# --- generators ------------------------------------------------------------------------------------------------


class DoubleObjective(GenerationObjective):
    """The generators' objective on float64 noise."""

    def _batch(self, step: int) -> Tensor:
        return super()._batch(step).double()


def generation(width: int, weight: float, **fields: Any) -> Generation:
    """Return a tiny generator's setting."""
    own = {name: fields.pop(name) for name in ("activation", "latent_dim") if name in fields}
    return Generation(
        accuracy_weight=weight,
        generator=WeightGenerator(widths=(width, width), init_scale=3, **own),
        target=GaussianMixture(num_components=5),
        **{"optimizer": Adam(lr=0.002), **fields},
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_padded_generator_trains_as_the_plain_one(activation: Any) -> None:
    """After 200 steps in float64 widths 9 and 10, as one program, follow a plain loop to 1e-8; padding stays zero."""
    rule = Adam(lr=0.002, weight_decay=0.01, schedule=Cosine())
    members = [
        (generation(width, 0.5 + width, activation=activation, optimizer=rule, batch_size=8), seed)
        for seed, width in enumerate((9, 10))
    ]
    objective = DoubleObjective(members, "cpu")
    run = TrainingRun(objective, objective.initialize(), [rule, rule], 200)
    for _ in range(200):
        run._train_step()
    for row, (setting, seed) in enumerate(members):
        alone, generator = DoubleObjective([(setting, seed)], "cpu"), setting.generator
        weights = torch.nn.Parameter(generator.initialize(2, [seed]))
        optimizer = torch.optim.AdamW([weights], lr=rule.lr, weight_decay=rule.weight_decay)
        for step in range(200):
            optimizer.param_groups[0]["lr"] = rule.lr * rule.schedule.factor(step, 200)
            optimizer.zero_grad()
            alone._loss_of(generator.generate(2, weights, alone._batch(step))).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        place = generator.shape(2).positions(setting.padded_generator.shape(2))
        torch.testing.assert_close(run.params[row, place], weights.detach()[0], rtol=1e-8, atol=1e-8)
        surplus = torch.ones(run.params.shape[1], dtype=torch.bool)
        surplus[place] = False
        assert surplus.any() == (generator.widths == (9, 9))
        assert (run.params[row, surplus] == 0).all()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu"])
def test_generators_of_several_widths_keep_their_own_bits(activation: Any) -> None:
    """Widths 9 and 10 in one pack, one member broken, end with the outcomes that each has alone, exactly."""
    members = [(generation(w, 1.0 + i, activation=activation, steps=60), i) for i, w in enumerate((10, 9, 9, 10))]
    assert len({setting.program_key() for setting, _ in members}) == 1
    alone = [finish([member]).outcomes()[0] for member in members]
    assert finish(members).outcomes() == alone
    run: Any = members[0][0].start(members, "cpu")
    run.params[2] = math.nan
    assert run.advance(60.0)
    assert [outcome.status for outcome in run.outcomes()] == ["finished", "finished", "diverged", "finished"]
    assert [run.outcomes()[row] for row in (0, 1, 3)] == [alone[row] for row in (0, 1, 3)]
