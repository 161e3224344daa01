"""Tests of `hyperscale.networks`: shapes, activations, initial values and spectral complexity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from hyperscale.networks.activations import ACTIVATIONS, activation_function, lipschitz_constant
from hyperscale.networks.initialization import Scheme, initialize
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity
from tests.contracts import MODULES, sequential


def test_shape_counts_and_parts() -> None:
    """A 3-4-2 network with one bias has 12 + 4 + 8 parameters in that order."""
    shape = Shape(sizes=(3, 4, 2), biases=(True, False))
    assert (shape.depth, shape.num_params, shape.num_weights) == (2, 24, 20)
    assert shape.part_sizes() == [12, 4, 8]
    (weight, bias), (last, none) = shape.split(torch.arange(24.0))
    assert bias is not None
    assert weight[1].tolist() == [4, 5, 6, 7]
    assert bias.tolist() == [12, 13, 14, 15]
    assert last.tolist()[0] == [16, 17]
    assert none is None


def test_shape_refuses_a_wrong_number_of_biases() -> None:
    """Sizes and biases must fit together."""
    with pytest.raises(ValueError, match="shorter"):
        _ = Shape(sizes=(3, 4, 2), biases=(True,)).num_params


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_equals_torchs_module(activation: Any) -> None:
    """Each activation is the function of its name."""
    z = torch.linspace(-4, 4, 801, dtype=torch.float64)
    torch.testing.assert_close(activation_function(activation)(z), MODULES[activation](z), rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lipschitz_constant_is_the_largest_slope(activation: Any) -> None:
    """The stated constant is never exceeded by difference quotients, and nearly reached."""
    z = torch.linspace(-4, 4, 800_001, dtype=torch.float64)
    slopes = activation_function(activation)(z).diff().abs() / z.diff()
    bound = lipschitz_constant(activation)
    assert slopes.max() <= bound * (1 + 1e-8)
    assert slopes.max() >= bound * (1 - 1e-4)


def test_evaluation_equals_plain_modules() -> None:
    """Stacked evaluation over two leading dimensions equals one torch.nn.Sequential each."""
    shape = Shape(sizes=(3, 5, 4, 2), biases=(True, False, True))
    theta = initialize(shape, range(6), "f").unflatten(0, (2, 3))
    x = torch.randn((2, 3, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stacked = evaluate(shape.split(theta), x, torch.tanh)
    for i in range(2):
        for j in range(3):
            plain = sequential(shape.sizes, shape.biases, theta[i, j], "tanh")(x[i, j])
            torch.testing.assert_close(stacked[i, j], plain, rtol=1e-13, atol=1e-14)


# --- initial values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "scale", "weight_law", "bias_law"),
    [
        ("default", 1.0, stats.uniform(-1 / 3, 2 / 3), stats.uniform(-1 / 3, 2 / 3)),
        ("he_uniform", 1.0, stats.uniform(-math.sqrt(6 / 9), 2 * math.sqrt(6 / 9)), None),
        (
            "truncated_normal",
            6.0,
            stats.truncnorm(-2, 2, scale=math.sqrt(6 / 9)),
            stats.truncnorm(-2, 2, scale=math.sqrt(6 / 9)),
        ),
    ],
)
def test_initial_values_follow_their_law(scheme: Scheme, scale: float, weight_law: Any, bias_law: Any) -> None:
    """Weights and biases of a layer with fan-in 9 pass a Kolmogorov-Smirnov test against the stated law."""
    shape = Shape(sizes=(9, 40), biases=(True,))
    params = initialize(shape, range(30), "f", scheme, scale)
    ((weight, bias),) = shape.split(params)
    assert stats.kstest(weight.flatten().numpy(), weight_law.cdf).pvalue > 0.01
    assert bias is not None
    if bias_law is None:
        assert (bias == 0).all()
    else:
        assert stats.kstest(bias.flatten().numpy(), bias_law.cdf).pvalue > 0.01


def test_initial_values_differ_between_networks_and_layers() -> None:
    """Two labels, and two layers of the same shape, share no numbers."""
    shape = Shape(sizes=(4, 4, 4), biases=(True, True))
    first, second = initialize(shape, [0], "f"), initialize(shape, [0], "g")
    assert len(set(torch.cat([first, second], dim=1).flatten().tolist())) == 2 * shape.num_params


# --- spectral complexity ---------------------------------------------------------------------------------------


def test_spectral_complexity_of_a_small_case() -> None:
    """Rows are inputs: norms max(1+2, 3+1) = 4 and max(2, 5) = 5, so C = L 4 5, with L = 1/4 for the sigmoid."""
    first = torch.tensor([[1.0, -2.0], [3.0, 1.0]])
    second = torch.tensor([[-2.0], [5.0]])
    layers = [(first, torch.tensor([9.0, 9.0])), (second, None)]
    assert spectral_complexity(layers, "relu").item() == 20
    assert spectral_complexity(layers, "sigmoid").item() == 5
    assert spectral_complexity(layers[:1], "sigmoid").item() == 4


def _pairs(inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    base = torch.randn((2000, inputs), generator=generator, dtype=torch.float64) * 2
    far = torch.randn((2000, inputs), generator=generator, dtype=torch.float64) * 2
    near = base + 1e-4 * torch.randn((2000, inputs), generator=generator, dtype=torch.float64)
    along = base.clone()
    along[torch.arange(2000), torch.arange(2000) % inputs] += 1e-3
    return base.repeat(3, 1), torch.cat([far, near, along])


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "clipped_relu", "elu"])
@pytest.mark.parametrize("seed", range(4))
def test_spectral_complexity_bounds_the_lipschitz_ratio(activation: Any, seed: int) -> None:
    """No pair of points is stretched by more than C(f) from the L1 to the L1 norm, biases or not."""
    shape = Shape(sizes=(3, 6, 5, 2), biases=(True, True, False))
    params = 3 * initialize(shape, [seed], "f")[0]
    layers = shape.split(params)
    first, second = _pairs(3, torch.Generator().manual_seed(seed))
    function = activation_function(activation)
    rise = (evaluate(layers, first, function) - evaluate(layers, second, function)).abs().sum(dim=-1)
    ratio = (rise / (first - second).abs().sum(dim=-1)).max().item()
    bound = spectral_complexity(layers, activation).item()
    assert ratio <= bound * (1 + 1e-6)
    assert ratio > 0


def test_spectral_complexity_is_attained_by_a_positive_network() -> None:
    """With one input, non-negative weights and positive activations of a ReLU network, the bound is an equality."""
    shape = Shape(sizes=(1, 4, 1), biases=(False, False))
    weight, last = torch.rand(1, 4, dtype=torch.float64), torch.full((4, 1), 0.7, dtype=torch.float64)
    layers = shape.split(torch.cat([weight.flatten(), last.flatten()]))
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    low, high = evaluate(layers, x, torch.relu).flatten().tolist()
    assert high - low == pytest.approx(spectral_complexity(layers, "relu").item(), rel=1e-14)
