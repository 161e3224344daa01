"""Tests of `hyperscale.training.knots` and of reading and writing splines as networks."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from hyperscale import Embedding, Hypernetwork, Knots, PerInstance
from hyperscale.errors import StudyError
from hyperscale.networks.encoders import HatEncoder
from hyperscale.networks.mlp import Shape, evaluate
from hyperscale.training import splines
from hyperscale.training.equidistribution import equidistributed, second_differences
from hyperscale.training.knots import equispaced
from hyperscale.training.spline_networks import first_layer_knots, network, spline_values
from tests.grid_fits import METHODS, Formula, bumps, make_fit, mean_squares, run_stages


@pytest.mark.parametrize("last_bias", [False, True])
def test_a_spline_is_a_network_and_is_read_back(last_bias: bool) -> None:
    """The network of a spline is NumPy's interpolant of its nodes, and its knots and values are read back."""
    generator = np.random.default_rng(0)
    knots = np.sort(generator.uniform(-1, 1, (4, 6)), axis=1)
    values = generator.normal(size=(4, 8))
    shape = Shape(sizes=(1, 8 - last_bias, 1), biases=(True, last_bias))
    theta = torch.from_numpy(network(shape, knots, values))
    x = np.linspace(-1, 1, 333)
    out = evaluate(shape.split(theta), torch.from_numpy(x)[None, :, None].expand(4, -1, -1), torch.relu)[..., 0]
    for row, own, heights in zip(out.numpy(), knots, values, strict=True):
        np.testing.assert_allclose(row, np.interp(x, [-1, *own, 1], heights), atol=1e-12)
    read = first_layer_knots(shape, theta, 6)
    np.testing.assert_allclose(read, knots, atol=1e-12)
    np.testing.assert_allclose(spline_values(shape, theta, read), values, atol=1e-11)


def test_missing_kinks_halve_the_widest_gaps_and_surplus_ones_go() -> None:
    """One kink inside and two wanted: the second halves the longer side; of three the largest jumps stay."""
    shape = Shape(sizes=(1, 3, 1), biases=(True, False))
    theta = torch.tensor(
        [[1.0, 1.0, -1.0, -0.5, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.5, 0.0, -0.5, 3.0, 1.0, 2.0]]
    )
    knots = first_layer_knots(shape, theta.double(), 2)
    np.testing.assert_allclose(knots, [[-0.25, 0.5], [-0.5, 0.5]])


def test_separated_knots_keep_order_distance_and_place() -> None:
    """Equal and outlying knots end at least 1e-7 apart inside (-1, 1); others stay where they are."""
    knots = splines.separated(np.array([[0.3, 0.3, -1.0, 1.0, 1.0], [-0.5, 0.0, 0.1, 0.2, 0.9]]))
    nodes = splines.nodes_of(knots)
    assert (np.diff(nodes, axis=1) >= 0.99 * splines.MIN_GAP).all()
    np.testing.assert_allclose(knots[1], [-0.5, 0.0, 0.1, 0.2, 0.9], atol=1e-15)


def test_equispaced_knots_stay_within_their_jitter_and_differ_by_seed_and_network() -> None:
    """Each knot is within jitter / 2 spacings of its place; without jitter it is there; seeds and networks differ."""
    places = -1 + 2 / 8 * np.arange(1, 8)
    knots = equispaced([1, 2], 3, 7, 0.5)
    assert knots.shape == (6, 7)
    assert (np.abs(knots - places) <= 0.25 * 2 / 8).all()
    assert len(np.unique(knots)) == knots.size
    np.testing.assert_allclose(equispaced([1], 1, 7, 0.0), [places], atol=1e-15)


@pytest.mark.parametrize("method", [name for name in METHODS if "tanh" not in name and "deep" not in name])
def test_the_start_is_a_good_point_and_differs_by_seed(method: str) -> None:
    """The last layer is solved for: a fifth of the variance of x^2 is left at most (x alone), or less than all."""
    fit = make_fit(METHODS[method], [Formula(name="square")] * 2, [0, 1])
    run_stages(fit, Knots())
    left = 0.2 if method in ("PerInstance", "Hypernetwork") else 0.95
    assert (mean_squares(fit) < left * fit.y.var()).all()
    assert not torch.equal(fit.params[0], fit.params[1])


def test_a_table_of_embeddings_starts_as_the_identity() -> None:
    """e(I) is I in the first conditioning_dim coordinates, bounded waves in the further ones."""
    method = Embedding(primary_widths=(9,), bias="hidden", embedding_dim=4, encoder=HatEncoder(knots=5))
    target = Formula(name="square", conditioning_dim=2)
    fit = make_fit(method, [target], [0])
    run_stages(fit, Knots())
    table = method.e_shape(fit.dims).split(fit.params[:, : method.e_shape(fit.dims).num_params])[-1][0]
    embedded = fit.features @ table[0]
    torch.testing.assert_close(embedded[:, :2], fit.conditioning)
    assert embedded[:, 2:].abs().max() <= 1
    assert embedded[:, 2:].std(dim=0).min() > 0.05


@pytest.mark.skipif(importlib.util.find_spec("hyperscale.targets.exact") is None, reason="needs the exact infima")
def test_a_greedy_start_has_the_least_possible_error() -> None:
    """x^2 with 7 knots: 1 / (2 * 8^2), whatever the seed; all-scales targets: below the equispaced start."""
    method = PerInstance(primary_widths=(9,), bias="hidden", num_instances=2)
    where = type(make_fit(method, [bumps(1)], [0]).where)(x_points=1025)
    fit = make_fit(method, [Formula(name="square")] * 2, [0, 1], where)
    run_stages(fit, Knots(placement="greedy"))
    torch.testing.assert_close(fit.sup_errors(), torch.full((2,), 1 / 128, dtype=torch.float64), rtol=2e-3, atol=0)
    both = [make_fit(method, [bumps(1)], [0], where) for _ in range(2)]
    run_stages(both[0], Knots())
    run_stages(both[1], Knots(placement="greedy"))
    assert (both[1].sup_errors() < both[0].sup_errors()).all()


def test_greedy_is_refused_where_there_is_no_single_slice() -> None:
    """A hypernetwork's table and networks of two inputs have no greedy knots."""
    dims = make_fit(METHODS["Monolithic"], [bumps(1)], [0]).dims
    table = Hypernetwork(primary_widths=(7,), bias="hidden", encoder=HatEncoder(knots=5))
    for method in (table, METHODS["Monolithic"], METHODS["PerInstance, tanh"]):
        with pytest.raises(StudyError, match="equispaced"):
            Knots(placement="greedy").check(method, dims)
    for method in (METHODS["Embedding"], METHODS["Monolithic"]):
        with pytest.raises(StudyError, match="equidistributed"):
            Knots(placement="equidistributed").check(dims=dims, method=method)
    with pytest.raises(StudyError, match="jitter"):
        Knots(jitter=2.0)
    with pytest.raises(StudyError, match="did you mean 'greedy'"):
        Knots(placement="gredy")  # type: ignore[arg-type]


def test_equidistributed_knots_of_exp_are_the_closed_form() -> None:
    """For e^x the integral of abs(y'')^(1/2) is 2 e^(x / 2); for x^2 and straight lines knots are equispaced."""
    x = np.linspace(-1, 1, 2049)
    shares = np.arange(1, 8)[None] / 8
    at_end, at_start = np.exp(0.5), np.exp(-0.5)
    expected = 2 * np.log(at_start + shares * (at_end - at_start))
    knots = equidistributed(second_differences(np.exp(x)[None]), shares)
    np.testing.assert_allclose(knots, expected, atol=1e-3)
    for straight in (x**2, 1 / 3 + 0.7 * x, 0 * x):
        flat = equidistributed(second_differences(straight[None]), shares)
        np.testing.assert_allclose(flat, 2 * shares - 1, atol=1e-6)


def test_equidistributed_knots_leave_a_straight_part_with_few() -> None:
    """The cube of max(x, 0) is straight on the left half: one of 15 knots lies there at most; ties are kept apart."""
    x = np.linspace(-1, 1, 1025)
    knots = equidistributed(second_differences(np.maximum(x, 0)[None] ** 3), np.arange(1, 16)[None] / 16)
    assert (knots < 0).sum() <= 1
    assert (np.diff(splines.nodes_of(knots)) > 0).all()


@pytest.mark.parametrize("method", ["PerInstance", "Hypernetwork"])
def test_an_equidistributed_start_has_a_smaller_error_on_exp(method: str) -> None:
    """With no jitter the largest error on exp is below that of the equispaced start."""
    fits = [make_fit(METHODS[method], [Formula(name="exp")] * 2, [0, 1]) for _ in range(2)]
    run_stages(fits[0], Knots(jitter=0.0))
    run_stages(fits[1], Knots(placement="equidistributed", jitter=0.0))
    assert (fits[1].sup_errors() < 0.8 * fits[0].sup_errors()).all()
