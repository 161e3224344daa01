"""Tests of `hyperscale.training.lipschitz` and `hyperscale.settings.lipschitz`: quotients, their ceiling, packs."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims
from hyperscale.methods.monolithic import Monolithic
from hyperscale.networks.activations import ACTIVATIONS, Activation, activation_function
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity
from hyperscale.settings.lipschitz import LipschitzQuotient, LipschitzRun
from hyperscale.training.lipschitz import LipschitzSearch, induced_l1_norm, jacobian, largest_quotient


def draw(shape: Shape, networks: int = 4, seed: int = 0) -> Tensor:
    """Return normal parameters, [networks, num_params]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((networks, shape.num_params), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(3, 2), (2, 5, 1), (3, 5, 4, 2), (1, 1, 1)])
def test_jacobian_equals_automatic_differentiation(sizes: tuple[int, ...], activation: Activation) -> None:
    """Values and derivatives at random points are those of torch, to 1e-12, for every activation and depth."""
    shape = Shape(sizes=sizes, biases=(True,) * (len(sizes) - 1))
    layers = shape.split(draw(shape))
    x = torch.randn((4, 6, sizes[0]), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, found = jacobian(layers, x, activation)
    leaf = x.clone().requires_grad_()
    outputs = evaluate(layers, leaf, activation_function(activation))
    rows = [torch.autograd.grad(outputs[..., o].sum(), leaf, retain_graph=True)[0] for o in range(sizes[-1])]
    torch.testing.assert_close(values, outputs.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, torch.stack(rows, dim=-1), rtol=1e-12, atol=1e-12)


def test_a_linear_networks_quotient_is_its_matrixs_norm() -> None:
    """With the identity as activation the constant is the induced L1 norm of the product, met to 1e-11."""
    shape = Shape(sizes=(3, 5, 2), biases=(True, False))
    params = draw(shape)
    (first, _), (last, _) = shape.split(params)
    found = largest_quotient(shape, "identity", params, range(4), pairs=16, rounds=6)
    torch.testing.assert_close(found, induced_l1_norm(first @ last), rtol=1e-11, atol=0)


def steepest_piece(params: Tensor, width: int) -> float:
    """Return the largest abs(slope) on [-1, 1] of a ReLU network 1 -> width -> 1, by all of its pieces."""
    weight, bias, last = params[:width].numpy(), params[width : 2 * width].numpy(), params[2 * width :].numpy()
    corners = -bias / weight
    edges = np.concatenate([[-1.0], np.sort(corners[np.abs(corners) < 1]), [1.0]])
    middles = (edges[1:] + edges[:-1]) / 2
    return float(np.abs((np.outer(middles, weight) + bias > 0) @ (weight * last)).max())


@pytest.mark.parametrize("width", [4, 12])
def test_the_search_finds_the_steepest_piece_of_relu_networks(width: int) -> None:
    """On one input the largest slope of all linear pieces, listed one by one, is found to 1e-11 in 20 networks."""
    shape = Shape(sizes=(1, width, 1), biases=(True, False))
    params = draw(shape, networks=20, seed=width)
    found = largest_quotient(shape, "relu", params, range(20))
    exact = torch.tensor([steepest_piece(row, width) for row in params], dtype=torch.float64)
    torch.testing.assert_close(found, exact, rtol=1e-11, atol=0)


def test_the_search_finds_the_steepest_place_of_smooth_networks() -> None:
    """A tanh network on one input: the largest derivative on a grid of 200,001 points is reached to 1 part in 10^5."""
    shape = Shape(sizes=(1, 6, 5, 1), biases=(True, True, False))
    params = draw(shape, networks=5)
    found = largest_quotient(shape, "tanh", params, range(5))
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64).expand(5, -1).unsqueeze(-1)
    exact = induced_l1_norm(jacobian(shape.split(params), x, "tanh")[1]).amax(dim=-1)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_quotient_exceeds_the_spectral_complexity(activation: Activation) -> None:
    """For every activation and 12 networks with three inputs and two outputs the ratio to C is above 0, at most 1."""
    shape = Shape(sizes=(3, 4, 3, 2), biases=(True, True, True))
    params = draw(shape, networks=12)
    found = largest_quotient(shape, activation, params, range(12), pairs=64, rounds=30)
    ratio = found / spectral_complexity(shape.split(params), activation)
    assert (ratio > 0.01).all()
    assert (ratio <= 1 + 1e-11).all()


def test_ascent_and_random_moves_only_gain() -> None:
    """The largest quotient never falls from round to round, and both halves of the search raise it somewhere."""
    shape = Shape(sizes=(2, 16, 16, 1), biases=(True, True, False))
    params = draw(shape, networks=20)
    with torch.no_grad():
        search = LipschitzSearch(shape, "tanh", params, range(20), pairs=8, rounds=20)
        trace, pairs = [search.largest], [search.quotients.amax(dim=-1)]
        while not search.advance():
            trace.append(search.largest)
            pairs.append(search.quotients.amax(dim=-1))
    assert all((later >= earlier).all() for earlier, later in itertools.pairwise(trace))
    assert (pairs[10] > 1.05 * pairs[0]).all(), "gradient ascent lengthens every network's best quotient"
    assert (trace[-1] > trace[10]).any()


# --- the setting kind ------------------------------------------------------------------------------------------


def setting(**fields: Any) -> LipschitzQuotient:
    """Return a small setting."""
    method = Monolithic(primary_widths=(6, 5), activation="relu", bias="hidden")
    return LipschitzQuotient(**{"method": method, "pairs": 12, "rounds": 8, **fields})


def finish(given: LipschitzQuotient, seeds: range) -> list[dict[str, float]]:
    """Run a pack and return its metrics."""
    run = given.start([(given, seed) for seed in seeds], "cpu")
    while not run.advance(60.0):
        pass
    outcomes = run.outcomes()
    assert all(outcome.status == "finished" for outcome in outcomes)
    return [dict(outcome.metrics) for outcome in outcomes]


@pytest.mark.parametrize("activation", ["relu", "tanh", "clipped_relu"])
def test_metrics_are_those_named_and_the_networks_the_methods_own(activation: Activation) -> None:
    """The networks are Monolithic's initial ones, so their complexity is known; the ratio is that of the others."""
    given = setting(method=Monolithic(primary_widths=(6, 5), activation=activation, initialization="he_uniform"))
    params = given.method.initialize(given.dims, range(5))
    complexity = given.method.spectral_complexities(given.dims, params, torch.empty(0))["spectral_complexity_primary"]
    for metrics, expected in zip(finish(given, range(5)), complexity.tolist(), strict=True):
        assert tuple(metrics) == given.metric_names()
        assert metrics["spectral_complexity_primary"] == expected
        assert metrics["lipschitz_ratio"] == metrics["lipschitz_quotient"] / expected
        assert 0 < metrics["lipschitz_ratio"] <= 1


@pytest.mark.parametrize("fields", [{}, {"x_dim": 3, "output_dim": 2}, {"pairs": 100}])
def test_results_do_not_depend_on_the_pack(fields: dict[str, Any]) -> None:
    """Networks of a pack of 6 and alone have the same numbers, bit for bit."""
    given = setting(**fields)
    whole = finish(given, range(6))
    for seed in range(6):
        assert finish(given, range(seed, seed + 1)) == whole[seed : seed + 1]
    assert len({metrics["lipschitz_quotient"] for metrics in whole}) == 6


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_an_interrupted_search_gives_the_same_bits(stop: int) -> None:
    """Saved after some rounds, loaded as plain data and taken up elsewhere, it ends as if never interrupted."""
    given = setting()
    members = [(given, seed) for seed in range(3)]
    run = given.start(members, "cpu")
    while run.step < stop:
        run.advance(0.0)
    file = io.BytesIO()
    torch.save(run.state(), file)
    file.seek(0)
    other = given.start(members, "cpu")
    other.restore(torch.load(file, weights_only=True))
    assert isinstance(other, LipschitzRun)
    assert other.step == stop
    while not other.advance(60.0):
        pass
    assert [dict(outcome.metrics) for outcome in other.outcomes()] == finish(given, range(3))


def test_cost_grows_with_rounds_and_brief_is_the_same_program_but_shorter() -> None:
    """Arithmetic is proportional to the rounds plus the start, and a brief setting has the rounds asked for."""
    given = setting()
    assert given.cost().flops / 9 == replace(given, rounds=17).cost().flops / 18
    assert given.brief(1).cost().num_steps == 1
    assert given.brief(None) == given
    assert setting(pairs=13).program_key() != given.program_key() == setting().program_key()
    assert len(finish(given.brief(1), range(2))) == 2


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"method": Hypernetwork(primary_widths=(4,))}, "method"),
        ({"method": None}, "method"),
        ({"x_dim": 0}, "x_dim"),
        ({"output_dim": 1.0}, "output_dim"),
        ({"pairs": 0}, "pairs"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], place: str) -> None:
    """Other methods and counts below one are errors that name the field."""
    with pytest.raises(StudyError, match=rf"LipschitzQuotient\.{place}"):
        setting(**fields)


def test_dims_are_the_inputs_of_the_network() -> None:
    """The network sees x_dim + conditioning_dim numbers."""
    given = setting(x_dim=2, conditioning_dim=3)
    assert given.dims == Dims(x_dim=2, conditioning_dim=3)
    assert given.columns()["num_params_total"] == 5 * 6 + 6 + 6 * 5 + 5 + 5
