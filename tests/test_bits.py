"""What training is made of gives a number the same bits wherever it lies: the ground of pack independence."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperscale.networks.activations import ACTIVATIONS, activate_, activation_function, differentiate_
from hyperscale.networks.backprop import affine, affine_input_gradient, differentiate_affine
from hyperscale.networks.mlp import linear
from hyperscale.seeding import normal, stream_keys, uniform_between
from hyperscale.targets.bump_family import BumpFamily
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.structured import Structured
from hyperscale.targets.target import Target
from hyperscale.training.optimizers import SGD, Adam

LENGTHS = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64, 100, 127, 1000)
SIZES = st.one_of(st.just(1), st.integers(1, 12), st.integers(13, 140))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return normal numbers, drawn in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- activations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_rounds_alike_everywhere(activation: Any, dtype: torch.dtype) -> None:
    """Function and derivative of a number are the same bits in long and short tensors, at the front and at the end."""
    z, grad = 2 * drawn(2048, dtype=dtype), drawn(2048, seed=1, dtype=dtype)
    value = activate_(z.clone(), activation)
    slope = grad.clone()
    differentiate_(slope, value, activation)
    for length in LENGTHS:
        for start in (0, 1, 3, 8, 100, 777):
            part = slice(start, start + length)
            assert torch.equal(activate_(z[part].clone(), activation), value[part])
            own = grad[part].clone()
            differentiate_(own, value[part].clone(), activation)
            assert torch.equal(own, slope[part])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_in_place_is_the_function_of_its_name(activation: Any) -> None:
    """In place it equals the plain form to rounding, with its limits at infinity, and NaN stays NaN."""
    z = torch.cat([torch.linspace(-40, 40, 8001, dtype=torch.float64), torch.tensor([-1e4, 1e4, -math.inf, math.inf])])
    own = z.clone()
    assert activate_(own, activation) is own
    torch.testing.assert_close(own, activation_function(activation)(z), rtol=1e-14, atol=1e-15)
    assert activate_(torch.tensor([math.nan]), activation).isnan().all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_derivative_is_that_of_the_function(activation: Any) -> None:
    """Given the value alone, the gradient is multiplied by what automatic differentiation gives, corners apart."""
    z = torch.linspace(-3.001, 3, 1201, dtype=torch.float64).requires_grad_()
    grad = drawn(1201, dtype=torch.float64)
    value = activation_function(activation)(z)
    (expected,) = torch.autograd.grad(value, z, grad)
    differentiate_(grad, value.detach(), activation)
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-13)


# --- layers ----------------------------------------------------------------------------------------------------


def _layer(flat: Tensor, fan_in: int, fan_out: int) -> tuple[Tensor, Tensor | None]:
    count = fan_in * fan_out
    return flat[:, :count].unflatten(-1, (fan_in, fan_out)), flat[:, count:] if flat.shape[1] > count else None


@settings(max_examples=150, deadline=None)
@given(
    networks=st.integers(2, 7), rows=SIZES, fan_in=SIZES, fan_out=SIZES, bias=st.booleans(), before=st.integers(0, 3)
)
def test_a_layer_gives_the_same_bits_alone_and_stacked(
    networks: int, rows: int, fan_in: int, fan_out: int, bias: bool, before: int
) -> None:
    """In float32 outputs and all gradients of a network are those it has among others, and equal to the formulas.

    Parameters and gradients lie in rows that are not aligned, ``before`` numbers of another layer in front.
    """
    x, grad = drawn(networks, rows, fan_in), drawn(networks, rows, fan_out, seed=1)
    flat = drawn(networks, before + fan_in * fan_out + bias * fan_out, seed=2)

    def run(part: slice) -> list[Tensor]:
        own, gradient = flat[part].clone(), torch.full_like(flat[part], math.nan)
        layer, into = (_layer(rows[:, before:], fan_in, fan_out) for rows in (own, gradient))
        outputs = affine(x[part].clone(), layer)
        differentiate_affine(x[part].clone(), grad[part].clone(), into)
        return [outputs, gradient[:, before:], affine_input_gradient(grad[part].clone(), layer)]

    whole = run(slice(0, networks))
    for member in (0, networks - 1):
        for alone, stacked in zip(run(slice(member, member + 1)), whole, strict=True):
            assert torch.equal(alone[0], stacked[member])
    weight, shift = _layer(flat[:, before:].double(), fan_in, fan_out)
    parts = [(x.double().mT @ grad.double()).flatten(1)] + [grad.double().sum(dim=1)] * bias
    expected = [linear(x.double(), (weight, shift)), torch.cat(parts, dim=1), grad.double() @ weight.mT]
    for ours, exact in zip(whole, expected, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(2, 300), (5, 300), (8, 100), (100, 513), (300, 2)])
@pytest.mark.parametrize("stride", [1, None])
def test_a_single_row_gives_the_same_bits_whatever_its_strides(fan_in: int, fan_out: int, stride: int | None) -> None:
    """Where a batch has one row, the row's own stride means nothing, and must not choose the kernel."""
    x, grad, flat = (drawn(3, 1, size, seed=size) for size in (fan_in, fan_out, fan_in * fan_out))

    def laid(row: Tensor) -> Tensor:
        own = row.clone()
        return own if stride is None else own.as_strided(own.shape, (own.shape[-1], stride, 1))

    def run(part: slice) -> list[Tensor]:
        own, gradient = flat[part, 0].clone(), torch.empty_like(flat[part, 0])
        layer, into = (_layer(rows, fan_in, fan_out) for rows in (own, gradient))
        differentiate_affine(laid(x[part]), laid(grad[part]), into)
        return [affine(laid(x[part]), layer), gradient, affine_input_gradient(laid(grad[part]), layer)]

    whole = run(slice(0, 3))
    for alone, stacked in zip(run(slice(1, 2)), whole, strict=True):
        assert torch.equal(alone[0], stacked[1])


# --- targets and draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        InnerProduct(x_dim=3, conditioning_dim=2),
        InnerProduct(x_dim=1000, conditioning_dim=50),
        SobolevBall(x_dim=2, conditioning_dim=1, levels=3),
        BumpFamily(x_dim=2, conditioning_dim=1, cells=5),
        Structured(x_dim=2, conditioning_dim=2, levels=3),
    ],
    ids=lambda target: f"{type(target).__name__} {target.x_dim}",
)
@pytest.mark.parametrize("instances", [1, 7, 50])
def test_a_target_gives_the_same_bits_to_a_stream_alone_and_among_others(target: Target, instances: int) -> None:
    """In float32, y of one seed's points does not depend on the other seeds of a pack."""
    points = 1 if isinstance(target, InnerProduct) else 9
    x = drawn(4, instances, points, target.x_dim)
    conditioning = drawn(4, instances, target.conditioning_dim, seed=1)
    whole = target.prepare([target] * 4, range(4), "cpu").evaluate(x, conditioning)
    for row in range(4):
        alone = target.prepare([target], [row], "cpu")
        own = alone.evaluate(x[row : row + 1].clone(), conditioning[row : row + 1].clone())
        assert torch.equal(own[0], whole[row])


def test_a_mixtures_value_is_the_same_bits_for_a_member_alone_and_among_others() -> None:
    """In float32, v(y) of one member's points does not depend on its pack-mates'."""
    target, points = GaussianMixture(num_components=7), drawn(5, 3, 2)
    whole = target.value(points)
    for row in range(5):
        assert torch.equal(target.value(points[row : row + 1].clone())[0], whole[row])


@pytest.mark.parametrize("count", [1, 3, 17, 1001])
def test_draws_are_the_same_bits_for_a_stream_alone_and_among_others(count: int) -> None:
    """Uniform and normal numbers of one seed do not depend on the other seeds drawn at once."""
    whole = stream_keys(range(5), "batches")
    for row in range(5):
        alone = stream_keys([row], "batches")
        assert torch.equal(normal(alone, count)[0], normal(whole, count)[row])
        own, shared = (uniform_between(keys, count, -1, 1, torch.float32) for keys in (alone, whole))
        assert torch.equal(own[0], shared[row])


# --- updates ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(members=st.integers(2, 9), size=st.integers(1, 130), kind=st.sampled_from(["sgd", "momentum", "adam"]))
def test_an_update_gives_the_same_bits_alone_and_stacked(members: int, size: int, kind: str) -> None:
    """In float32 three steps of a member in a pack of odd sizes are those it takes alone."""
    decays = [0.1 * (row % 2) for row in range(members)]
    rules = [
        Adam(lr=0.1 * (1 + row), weight_decay=decay)
        if kind == "adam"
        else SGD(lr=0.1 * (1 + row), weight_decay=decay, momentum=0.9 if kind == "momentum" else 0.0)
        for row, decay in enumerate(decays)
    ]

    def run(part: slice) -> Tensor:
        params, gradient = drawn(members, size)[part].clone(), torch.empty(members, size)[part].clone()
        chosen = rules[part]
        packed = chosen[0].start(chosen, params, gradient, [3] * len(chosen))
        for step in range(3):
            gradient.copy_(drawn(members, size, seed=1 + step)[part])
            packed.update(step)
        return params

    whole = run(slice(0, members))
    for row in (0, members - 1):
        assert torch.equal(run(slice(row, row + 1))[0], whole[row])
