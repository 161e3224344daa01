"""Tests of `hyperscale.methods.packed` and the fast forms: against automatic differentiation, and which is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedded import Embedded
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.generated import Contracted, Generated
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.packed import Differentiated, Joint, PackedModel, Separate
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import ACTIVATIONS
from hyperscale.networks.encoders import HatEncoder
from hyperscale.settings.approximation import Approximation
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from tests.contracts import BIASES, MethodContract, assert_packed_is_differentiated

SMALL = Dims(x_dim=2, conditioning_dim=3, output_dim=2)
LONG = Dims(x_dim=40, conditioning_dim=3, output_dim=2)
DEPTHS = ((), (5,), (5, 3))


def check(method: Method, dims: Dims, instances: int, points: int) -> PackedModel:
    """Hold the method's fast form against automatic differentiation at random points, biases of their own included."""
    generator = torch.Generator().manual_seed(instances + 10 * points)
    instances = method.num_networks(dims) if isinstance(method, PerInstance) else instances

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1

    params = method.initialize(dims, [0, 7])
    params += 0.1 * draw(*params.shape)
    x, conditioning = draw(2, instances, points, dims.x_dim), draw(2, instances, dims.conditioning_dim)
    if isinstance(method, PerInstance):
        conditioning = method.instances(dims).expand(2, -1, -1).contiguous()
    return assert_packed_is_differentiated(method, dims, params, x, conditioning)


# --- every form, every bias, every activation ------------------------------------------------------------------


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
class TestForms:
    """Outputs and gradients equal automatic differentiation's to 1e-11 at every depth, for few rows and for many."""

    def test_generated(self, activation: Any, bias: Any) -> None:
        """Weights of g built for every I, one x each and several."""
        for widths in DEPTHS:
            for primary in ((), (4,), (4, 3)):
                method = Hypernetwork(primary_widths=primary, widths=widths, activation=activation, bias=bias)
                for instances, points in ((5, 1), (5, 3), (40, 1), (40, 2)):
                    assert isinstance(check(method, SMALL, instances, points), Generated)

    def test_contracted(self, activation: Any, bias: Any) -> None:
        """Contracts x with f's last weights: x of 40 numbers, one for each I."""
        for widths in DEPTHS:
            for primary in ((4,), (4, 3)):
                method = Hypernetwork(primary_widths=primary, widths=widths, activation=activation, bias=bias)
                for instances in (5, 40):
                    assert isinstance(check(method, LONG, instances, 1), Contracted)

    @pytest.mark.parametrize("dims", [SMALL, LONG], ids=["short", "long"])
    def test_embedded(self, dims: Dims, activation: Any, bias: Any) -> None:
        """The embedding enters q once per I, in q of any depth and with x short or long."""
        for widths in DEPTHS:
            for primary in ((), (4,), (4, 3)):
                method = Embedding(
                    primary_widths=primary, widths=widths, embedding_dim=3, activation=activation, bias=bias
                )
                for instances, points in ((5, 1), (5, 3), (40, 2)):
                    model = check(method, dims, instances, points)
                    assert isinstance(model, Embedded)
                    assert model.composes == method.composes(dims, instances) == (instances == 40 and model.composes)

    def test_composed(self, activation: Any, bias: Any) -> None:
        """Multiplies e's last layer and q's part of the embedding first: a long embedding, many I."""
        for widths in DEPTHS:
            for primary in ((), (4,), (4, 3)):
                method = Embedding(
                    primary_widths=primary, widths=widths, embedding_dim=90, activation=activation, bias=bias
                )
                for points in (1, 3):
                    model = check(method, SMALL, 40, points)
                    assert isinstance(model, Embedded)
                    assert model.composes

    def test_activated(self, activation: Any, bias: Any) -> None:
        """A nonlinearity on the embedding: e of any depth, never composed, not even where it is long."""
        for embedding_activation, embedding_dim in (("tanh", 3), ("relu", 90)):
            for widths in DEPTHS:
                method = ActivatedEmbedding(
                    primary_widths=(4,),
                    widths=widths,
                    embedding_dim=embedding_dim,
                    activation=activation,
                    bias=bias,
                    embedding_activation=embedding_activation,
                )
                for instances, points in ((5, 1), (40, 2)):
                    model = check(method, SMALL, instances, points)
                    assert isinstance(model, Embedded)
                    assert not model.composes

    def test_joint_and_separate(self, activation: Any, bias: Any) -> None:
        """One network on [x, I], and one of its own for every I."""
        for primary in ((), (4,), (4, 3)):
            shared: dict[str, Any] = {"primary_widths": primary, "activation": activation, "bias": bias}
            for points in (1, 3, 40):
                assert isinstance(check(Monolithic(**shared), SMALL, 5, points), Joint)
                assert isinstance(check(PerInstance(num_instances=2, **shared), SMALL, 8, points), Separate)


@pytest.mark.parametrize("points", [1, 4])
@pytest.mark.parametrize("widths", DEPTHS)
def test_forms_behind_an_encoder(widths: tuple[int, ...], points: int) -> None:
    """With hat features in front of f or e, tables included, every form still follows automatic differentiation."""
    shared: dict[str, Any] = {"primary_widths": (4,), "widths": widths, "activation": "tanh", "bias": "all"}
    encoder, dims = HatEncoder(knots=9), Dims(x_dim=2, conditioning_dim=1)
    check(Hypernetwork(encoder=encoder, **shared), dims, 12, points)
    check(Embedding(encoder=encoder, embedding_dim=3, **shared), dims, 12, points)
    composed = check(Embedding(encoder=encoder, embedding_dim=200, **shared), dims, 60, points)
    assert isinstance(composed, Embedded)
    assert composed.composes
    long = Dims(x_dim=33, conditioning_dim=1)
    assert isinstance(check(Hypernetwork(encoder=encoder, **shared), long, 12, 1), Contracted)


# --- which form is chosen --------------------------------------------------------------------------------------


def test_contraction_is_for_one_long_x_per_instance() -> None:
    """One x for each of several I, x of at least 32 numbers and half of f's last width, and a g with hidden units."""
    wide = Hypernetwork(primary_widths=(4,), widths=(8, 100))
    dims = {x_dim: Dims(x_dim=x_dim, conditioning_dim=3) for x_dim in (31, 32, 49, 50)}
    narrow = Hypernetwork(primary_widths=(4,), widths=(8, 64))
    assert [narrow.contracts(dims[x_dim], (5, 1)) for x_dim in (31, 32)] == [False, True]
    assert [wide.contracts(dims[x_dim], (5, 1)) for x_dim in (49, 50)] == [False, True]
    assert not wide.contracts(dims[50], (5, 2))
    assert not wide.contracts(dims[50], (1, 1))
    assert not Hypernetwork(primary_widths=(), widths=(8, 100)).contracts(dims[50], (5, 1))
    table = Hypernetwork(primary_widths=(4,), encoder=HatEncoder(knots=5))  # 125 features stand in for f's last width
    assert not table.contracts(dims[50], (5, 1))
    assert table.contracts(Dims(x_dim=62, conditioning_dim=3), (5, 1))


@given(
    units=st.integers(1, 64), embedding=st.integers(1, 3000), width=st.integers(1, 64), instances=st.integers(1, 500)
)
def test_composition_is_for_half_the_multiply_adds(units: int, embedding: int, width: int, instances: int) -> None:
    """S V W_e costs instances (units E + E width) from the left, E units width + instances units width composed."""
    method = Embedding(primary_widths=(width,), widths=(7, units), embedding_dim=embedding)
    from_the_left = instances * (units * embedding + embedding * width)
    composed = embedding * units * width + instances * units * width
    assert method.composes(SMALL, instances) == (2 * composed <= from_the_left)


@settings(max_examples=30, deadline=None)
@given(bias=st.sampled_from(list(BIASES)), activation=st.sampled_from(ACTIVATIONS), seed=st.integers(0, 5))
def test_the_form_is_chosen_by_sizes_alone(bias: Any, activation: Any, seed: int) -> None:
    """Parameters, their number of members, precision, biases and activation have no say."""
    shared: dict[str, Any] = {"widths": (5,), "activation": activation, "bias": bias}
    generator = torch.Generator().manual_seed(seed)
    for method, batch, form in (
        (Hypernetwork(primary_widths=(4,), **shared), (5, 1), Contracted),
        (Hypernetwork(primary_widths=(4,), **shared), (5, 2), Generated),
        (Embedding(primary_widths=(4,), embedding_dim=90, **shared), (40, 1), Embedded),
    ):
        for members, dtype in ((1, torch.float32), (3, torch.float64)):
            params = torch.randn(members, method.num_params_trained(LONG), generator=generator, dtype=dtype)
            model = method.packed(LONG, params, torch.empty_like(params), batch)
            assert type(model) is form
            assert not isinstance(model, Embedded) or model.composes


# --- a method without a fast form ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Bilinear(Method):
    """h(x, I) = s(x W I) for each output: a new method that says only what it must."""

    def num_params_primary(self, dims: Dims) -> int:
        """Return one number for each pair of coordinates and output."""
        return dims.output_dim * dims.x_dim * dims.conditioning_dim

    def num_params_total(self, dims: Dims) -> int:
        """Return the same."""
        return self.num_params_primary(dims)

    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return one for each parameter and pair."""
        return float(instances) * points * self.num_params_primary(dims)

    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return numbers of the seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        count = self.num_params_primary(dims)
        return torch.stack([torch.randn(count, generator=own, dtype=torch.float64) for own in generators])

    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return tanh(x W I)."""
        weight = params.unflatten(-1, (dims.output_dim, dims.x_dim, dims.conditioning_dim))
        return torch.einsum("soxc,sbnx,sbc->sbno", weight, x, features).tanh()

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:
        """Return the norm of W."""
        return {"spectral_complexity_primary": params.abs().sum(dim=-1)}


class TestNewMethod(MethodContract):
    """A method without a fast form and without padding passes all of the contract that needs no second writing."""

    test_stacked_evaluation_equals_plain_modules = None  # type: ignore[assignment]

    @pytest.fixture
    def method(self) -> Method:
        """Give the method, with a width that others would pad."""
        return Bilinear(primary_widths=(9,), activation="tanh")

    def test_it_trains_by_automatic_differentiation(self, method: Method) -> None:
        """The default form is `Differentiated`, and a pack of it ends as finished with all of its metrics."""
        params = method.initialize(SMALL, [0])
        assert isinstance(method.packed(SMALL, params, torch.empty_like(params), (4, 4)), Differentiated)
        target, points = SobolevBall(x_dim=1, conditioning_dim=1, levels=2), FreshPoints(instances=4, points=4)
        setting = Approximation(method=method, target=target, points=points, steps=20, grid_points=9)
        run: Any = setting.start([(setting, seed) for seed in range(3)], "cpu")
        assert run.advance(60.0)
        for outcome in run.outcomes():
            assert outcome.status == "finished"
            assert sorted(outcome.metrics) == sorted(setting.metric_names())
