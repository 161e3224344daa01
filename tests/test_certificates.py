"""Tests of `hyperscale.training.certificates` and the enclosures below it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import ACTIVATIONS, Activation
from hyperscale.networks.encoders import HatEncoder
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.certificates import certify_sup_error
from hyperscale.training.network_enclosures import Boxes, enclose, first_boxes
from hyperscale.training.sup_norm import find_sup_error
from tests.known_slopes import BoundedSobolevBall, Bump, SignedSquare, Square
from tests.test_sup_norm import interpolant


def methods(activation: Activation) -> list[Method]:
    """Return methods of depth 2 and 3, with and without a network or an encoder for I."""
    hat = HatEncoder(knots=5)
    return [
        Monolithic(primary_widths=(7,), activation=activation, bias="all"),
        Monolithic(primary_widths=(6, 5), activation=activation, bias="hidden"),
        Embedding(primary_widths=(6,), embedding_dim=3, activation=activation, bias="all", encoder=hat),
        Embedding(primary_widths=(6, 5), widths=(4,), embedding_dim=3, activation=activation, bias="all"),
        Hypernetwork(primary_widths=(6,), activation=activation, bias="all", encoder=hat),
        Hypernetwork(primary_widths=(5, 4), widths=(6,), activation=activation, bias="all", encoder=hat),
        Hypernetwork(primary_widths=(5,), widths=(4, 4), activation=activation, bias="hidden"),
        PerInstance(primary_widths=(6, 5), activation=activation, bias="all", num_instances=3),
    ]


def small_boxes(method: Method, dims: Dims, count: int, generator: torch.Generator) -> Boxes:
    """Return random small boxes inside the first boxes."""
    networks = torch.arange(method.num_networks(dims)) if isinstance(method, PerInstance) else torch.zeros(1).long()
    whole = first_boxes(method, dims, networks)
    whole = whole[torch.randint(len(whole), (count,), generator=generator)]
    shape = whole.lower.shape
    first = torch.rand(shape, generator=generator, dtype=torch.float64)
    size = (1 - first) * 0.5 ** torch.randint(0, 6, shape, generator=generator)
    lower = whole.lower + first * (whole.upper - whole.lower)
    return Boxes(lower=lower, upper=lower + size * (whole.upper - whole.lower), network=whole.network)


def sampled(method: Method, dims: Dims, params: Tensor, boxes: Boxes, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return h and its gradient at one point of every box, by the method's own code and autograd."""
    leaf = u.clone().requires_grad_()
    if isinstance(method, PerInstance):
        count = method.num_networks(dims)
        x = leaf[None, None].expand(1, count, -1, -1)
        h = method.evaluate(dims, params, x, method.instances(dims)[None])[0, boxes.network, torch.arange(len(u)), 0]
    else:
        h = method.evaluate(dims, params, leaf[None, :, None, : dims.x_dim], leaf[None, :, dims.x_dim :])[0, :, 0, 0]
    (gradient,) = torch.autograd.grad(h.sum(), leaf)
    return h.detach(), gradient


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dims", [Dims(x_dim=1, conditioning_dim=1), Dims(x_dim=1, conditioning_dim=2)])
def test_enclosures_contain_sampled_values_and_slopes(activation: Activation, dims: Dims) -> None:
    """Over random boxes every sampled value and derivative lies inside, and the centre's value in its own interval."""
    generator = torch.Generator().manual_seed(5)
    for seed, method in enumerate(methods(activation)):
        params = 1.5 * method.initialize(dims, [seed])
        boxes = small_boxes(method, dims, 60, generator)
        enclosure = enclose(method, dims, params, boxes)
        at_centre, _ = sampled(method, dims, params, boxes, boxes.centre)
        assert (enclosure.point_lower[:, 0] <= at_centre + 1e-14).all()
        assert (enclosure.point_upper[:, 0] >= at_centre - 1e-14).all()
        assert (enclosure.point_upper - enclosure.point_lower).max() < 1e-11
        for _ in range(30):
            part = torch.rand(boxes.lower.shape, generator=generator, dtype=torch.float64)
            h, gradient = sampled(method, dims, params, boxes, boxes.lower + part * (boxes.upper - boxes.lower))
            assert (enclosure.lower[:, 0] <= h + 1e-14).all()
            assert (enclosure.upper[:, 0] >= h - 1e-14).all()
            assert (enclosure.slope_lower[..., 0] <= gradient + 1e-12).all(), type(method)
            assert (enclosure.slope_upper[..., 0] >= gradient - 1e-12).all(), type(method)


def test_enclosures_tighten_to_the_derivative() -> None:
    """On boxes of width 1e-9 inside one linear piece the slopes' range is as narrow as rounding and curvature allow."""
    dims = Dims(x_dim=1, conditioning_dim=1)
    generator = torch.Generator().manual_seed(1)
    for method in methods("tanh"):
        boxes = small_boxes(method, dims, 50, generator)
        tiny = Boxes(lower=boxes.centre, upper=boxes.centre + 1e-9, network=boxes.network)
        enclosure = enclose(method, dims, method.initialize(dims, [0]), tiny)
        assert (enclosure.slope_upper - enclosure.slope_lower).max() < 1e-6


@pytest.mark.parametrize("target", [Square(x_dim=1, conditioning_dim=1), SignedSquare(x_dim=1, conditioning_dim=1)])
def test_bracket_contains_the_interpolation_error_of_the_square(target: Square) -> None:
    """For x^2 and its interpolant with spacing s the truth is s^2 / 4 over both signs of curvature 2: s^2 f'' / 8."""
    method = PerInstance(primary_widths=(9,), bias="hidden", num_instances=2)
    params, truth = interpolant(9).repeat(1, 2), 0.25**2 * 2 / 8
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=50)
    bound = certify_sup_error(method, target.dims, params, target, 0, found=found.value, tolerance=0.05)
    assert found.value <= truth * (1 + 1e-12)
    assert truth <= bound <= 1.051 * truth


def test_bracket_of_zero_against_a_bump_and_of_fewer_boxes() -> None:
    """With h = 0 the bound holds sup abs(y), and more boxes never loosen it."""
    target, method = Bump(x_dim=1, conditioning_dim=1), Monolithic(primary_widths=(3,))
    params = torch.zeros(1, method.num_params_trained(target.dims), dtype=torch.float64)
    truth = (1 + target.x_peak) ** 2 + (1 - target.conditioning_peak) ** 2 - 1
    bounds = [
        certify_sup_error(method, target.dims, params, target, 0, found=0.5, tolerance=0.02, max_cells=cells)
        for cells in (1, 20, 200, 20_000)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > 2 * truth
    assert truth <= bounds[-1] <= 1.021 * truth


@pytest.mark.parametrize("method", [m for m in methods("relu") if not isinstance(m, PerInstance)], ids=lambda m: m.name)
def test_bracket_of_every_method_closes(method: Method) -> None:
    """On a Sobolev ball the bound of a random network lies within the tolerance of the value found, and above it."""
    target = BoundedSobolevBall(x_dim=1, conditioning_dim=1, levels=3)
    params = method.initialize(target.dims, [1])
    found = find_sup_error(method, target.dims, params, target.prepare([target], [0], "cpu"), grid_points=65)
    bound = certify_sup_error(method, target.dims, params, target, 0, found=found.value)
    assert found.value <= bound <= 1.1 * found.value * (1 + 1e-9)


def test_restarts_are_certified_by_the_attempt_that_counts() -> None:
    """The bound of `PerInstance` is that of its best attempts, with or without being told which they are."""
    target = Square(x_dim=1, conditioning_dim=1)
    method = PerInstance(primary_widths=(5,), bias="hidden", num_instances=2, restarts=2)
    good = interpolant(5)
    params = torch.cat([good, torch.zeros_like(good)], dim=1).repeat(1, 2)
    for attempts in (None, torch.tensor([0, 2])):
        bound = certify_sup_error(method, target.dims, params, target, 0, found=0.0625, attempts=attempts)
        assert 0.0625 <= bound <= 0.0688


def test_what_cannot_be_certified_is_infinite() -> None:
    """Targets without slope bounds, four dimensions and networks that are not finite have no bound."""
    plain = SobolevBall(x_dim=1, conditioning_dim=1, levels=2)
    wide = BoundedSobolevBall(x_dim=2, conditioning_dim=2, levels=1)
    bounded = BoundedSobolevBall(x_dim=1, conditioning_dim=1, levels=2)
    method = Monolithic(primary_widths=(3,))
    for target, factor in ((plain, 1.0), (wide, 1.0), (bounded, math.nan)):
        if target is plain and getattr(target, "slope_bounds", None) is not None:
            continue
        params = method.initialize(target.dims, [0]) * factor
        assert certify_sup_error(method, target.dims, params, target, 0, found=0.1) == math.inf
