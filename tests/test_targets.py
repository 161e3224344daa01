"""Tests of `hyperscale.targets`: the Sobolev ball, the inner product and the Gaussian mixture."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints


def values(target: SobolevBall, u: Tensor) -> Tensor:
    """Return y at u = (x, I), [N, m] -> [N]: one x for every I."""
    x, conditioning = u[None, :, None, : target.x_dim], u[None, :, target.x_dim :]
    return target.prepare([target], [0], "cpu").evaluate(x, conditioning).flatten()


def cube_grid(dim: int, points: int) -> Tensor:
    """Return the equispaced grid of [-1, 1]^dim."""
    axis = torch.linspace(-1, 1, points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)


def largest_derivatives(target: SobolevBall, u: Tensor, order: int) -> dict[tuple[int, ...], float]:
    """Return sup abs(D^k y) over the points u for every multi-index of at most the given order, by autograd."""
    dim = u.shape[1]
    u = u.clone().requires_grad_()
    frontier = {(0,) * dim: values(target, u)}
    found = {k: float(v.detach().abs().max()) for k, v in frontier.items()}
    for _ in range(order):
        following: dict[tuple[int, ...], Tensor] = {}
        for k, v in frontier.items():
            (gradient,) = torch.autograd.grad(v.sum(), u, create_graph=True)
            for d in range(dim):
                following[tuple(a + (i == d) for i, a in enumerate(k))] = gradient[:, d]
        found |= {k: float(v.detach().abs().max()) for k, v in following.items()}
        frontier = following
    return found


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("smoothness", [1, 2])
@pytest.mark.parametrize(("x_dim", "conditioning_dim", "per_cell"), [(1, 1, 16), (2, 1, 8)])
def test_sobolev_norm_is_at_most_one_and_not_small(
    x_dim: int, conditioning_dim: int, per_cell: int, smoothness: int, seed: int
) -> None:
    """Sup abs(y) + sum of sup abs(D^k y), measured on a dense grid, lies in (0.5, 1]: near 0.6 to 0.7 at 3 levels."""
    target = SobolevBall(x_dim=x_dim, conditioning_dim=conditioning_dim, smoothness=smoothness, levels=3, seed=seed)
    u = cube_grid(x_dim + conditioning_dim, 8 * per_cell + 1)
    norms = largest_derivatives(target, u, smoothness)
    expected = [k for k in itertools.product(range(smoothness + 1), repeat=u.shape[1]) if sum(k) <= smoothness]
    assert sorted(norms) == sorted(expected)
    assert 0.5 < sum(norms.values()) <= 1


@pytest.mark.parametrize("smoothness", [1, 2])
@pytest.mark.parametrize(("x_dim", "conditioning_dim"), [(1, 1), (2, 1)])
def test_one_level_reaches_the_whole_ball(x_dim: int, conditioning_dim: int, smoothness: int) -> None:
    """With a single level the bound on the norm is an equality, up to the grid."""
    target = SobolevBall(x_dim=x_dim, conditioning_dim=conditioning_dim, smoothness=smoothness, levels=1)
    norms = largest_derivatives(target, cube_grid(x_dim + conditioning_dim, 105), smoothness)
    assert 0.995 < sum(norms.values()) <= 1 + 1e-12


def test_derivatives_of_order_r_are_continuous_across_cells() -> None:
    """Y and its derivatives up to order r = 2 agree on both sides of every cell border."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=3, seed=1)
    borders = torch.arange(-7, 8, dtype=torch.float64) / 8
    other = torch.full_like(borders, 0.137)
    sides = []
    for shift in (-1e-9, 1e-9):
        u = torch.stack([borders + shift, other], dim=1).requires_grad_()
        y = values(target, u)
        (first,) = torch.autograd.grad(y.sum(), u, create_graph=True)
        (second,) = torch.autograd.grad(first[:, 0].sum(), u)
        sides.append(torch.cat([y[:, None], first, second], dim=1).detach())
    torch.testing.assert_close(*sides, rtol=0, atol=1e-6)


def test_function_is_lipschitz_with_its_own_norm() -> None:
    """Neighbouring values of a ball of order 1 differ by no more than the L1 distance: it is continuous."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=6, seed=2)
    generator = torch.Generator().manual_seed(0)
    u = torch.rand((20_000, 2), generator=generator, dtype=torch.float64) * 2 - 1
    v = (u + 0.01 * torch.randn((20_000, 2), generator=generator, dtype=torch.float64)).clamp(-1, 1)
    assert ((values(target, u) - values(target, v)).abs() <= (u - v).abs().sum(dim=1) + 1e-15).all()


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_bumps_vanish_at_cell_borders_and_peak_at_centres(levels: int) -> None:
    """On the coarsest grid of borders y is 0; at a finest cell's centre the finest bump adds its whole height."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=levels, seed=3)
    along = torch.linspace(-1, 1, 101, dtype=torch.float64)
    for border in (-1.0, 0.0, 1.0):
        edge = torch.full_like(along, border)
        assert values(target, torch.stack([edge, along], dim=1)).abs().max() <= 1e-15
        assert values(target, torch.stack([along, edge], dim=1)).abs().max() <= 1e-15
    assert target.resolution == target.amplitudes[-1]
    assert len(target.amplitudes) == levels
    if levels == 1:
        centres = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]], dtype=torch.float64)
        torch.testing.assert_close(values(target, centres).abs(), torch.full((4,), target.amplitudes[0]).double())


def test_values_equal_the_formula_cell_by_cell() -> None:
    """Y equals the docstring's double sum, written with plain loops over levels and dimensions."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=3, seed=5)
    prepared: Any = target.prepare([target], [0], "cpu")
    u = torch.rand((40, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    for point, value in zip(u.tolist(), values(target, u).tolist(), strict=True):
        total = 0.0
        for level, table in enumerate(prepared.tables, start=1):
            cells = [math.floor((c + 1) / 2 * 2**level) for c in point]
            inside = [2 * ((c + 1) / 2 * 2**level - cell) - 1 for c, cell in zip(point, cells, strict=True)]
            sign = table[0, cells[0] * 2**level + cells[1]].sign().item()
            total += target.amplitudes[level - 1] * sign * math.prod((1 - t * t) ** 3 for t in inside)
        assert value == pytest.approx(total, rel=1e-12, abs=1e-16)
    ratios = np.array(target.amplitudes[1:]) / np.array(target.amplitudes[:-1])
    np.testing.assert_allclose(ratios, 2.0**-2, rtol=1e-14)


def test_function_depends_on_the_target_seed_alone() -> None:
    """The same target is the same function for every trial seed and in every pack; another target seed differs."""
    targets = [SobolevBall(x_dim=1, conditioning_dim=1, levels=3, seed=seed) for seed in (4, 9, 4, 0)]
    u = torch.rand((50, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    x, conditioning = u[None, :, None, :1].expand(4, -1, -1, -1), u[None, :, 1:].expand(4, -1, -1)
    packed = targets[0].prepare(targets, [0, 1, 2, 3], "cpu").evaluate(x, conditioning).flatten(1)
    for row, target in enumerate(targets):
        assert torch.equal(packed[row], values(target, u))
    assert torch.equal(packed[0], packed[2])
    assert (packed[0] - packed[1]).abs().max() > 1e-3
    again = targets[0].prepare(targets, [8, 8, 8, 8], "cpu").evaluate(x, conditioning).flatten(1)
    assert torch.equal(packed, again)


def test_points_of_an_instance_share_it() -> None:
    """Several x beside one I give what one x each gives."""
    target = SobolevBall(x_dim=2, conditioning_dim=1, levels=2, seed=1)
    prepared = target.prepare([target], [0], "cpu")
    generator = torch.Generator().manual_seed(4)
    x = torch.rand((1, 3, 5, 2), generator=generator, dtype=torch.float64) * 2 - 1
    conditioning = torch.rand((1, 3, 1), generator=generator, dtype=torch.float64) * 2 - 1
    together = prepared.evaluate(x, conditioning)
    assert together.shape == (1, 3, 5, 1)
    for i in range(5):
        assert torch.equal(together[:, :, i : i + 1], prepared.evaluate(x[:, :, i : i + 1], conditioning))


def test_both_signs_occur_equally_often() -> None:
    """Of 2^12 finest cells about half are positive (a binomial test at fixed seed)."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=6)
    prepared: Any = target.prepare([target], [0], "cpu")
    positive = int((prepared.tables[-1] > 0).sum())
    assert abs(positive - 2048) < 3 * 32


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (SobolevBall, {"x_dim": 0, "conditioning_dim": 1}, "SobolevBall.x_dim"),
        (SobolevBall, {"x_dim": 1, "conditioning_dim": 0}, "SobolevBall.conditioning_dim"),
        (SobolevBall, {"x_dim": 1, "conditioning_dim": 1, "smoothness": 0}, "SobolevBall.smoothness"),
        (SobolevBall, {"x_dim": 1, "conditioning_dim": 1, "levels": 0}, "SobolevBall.levels"),
        (SobolevBall, {"x_dim": 1, "conditioning_dim": 1, "levels": 12}, "fewer levels"),
        (SobolevBall, {"x_dim": 1, "conditioning_dim": 1, "seed": -1}, "SobolevBall.seed"),
        (InnerProduct, {"x_dim": 1.5, "conditioning_dim": 1}, "InnerProduct.x_dim"),
        (GaussianMixture, {"num_components": 0}, "GaussianMixture.num_components"),
        (GaussianMixture, {"seed": True}, "GaussianMixture.seed"),
        (FreshPoints, {"instances": 0}, "FreshPoints.instances"),
        (FreshPoints, {"points": "9"}, "FreshPoints.points"),
        (FixedSample, {"size": 10, "batch_size": 20}, "FixedSample.size"),
        (FixedSample, {"test_size": 0}, "FixedSample.test_size"),
    ],
)
def test_bad_fields_are_named(kind: Any, fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        kind(**fields)
    assert named in str(caught.value)


# --- inner product ---------------------------------------------------------------------------------------------


def _inner_product_sample(seeds: list[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    target = InnerProduct(x_dim=100, conditioning_dim=100)
    generator = torch.Generator().manual_seed(12)
    x = torch.randn((len(seeds), count, 1, 100), generator=generator, dtype=torch.float64)
    conditioning = torch.randn((len(seeds), count, 100), generator=generator, dtype=torch.float64)
    y = target.prepare([target] * len(seeds), seeds, "cpu").evaluate(x, conditioning)
    return x[:, :, 0], conditioning, y[:, :, 0, 0]


def test_inner_product_has_the_published_probes_statistics() -> None:
    """At d = 100, over 4 draws of h: Var(y) 1.7e-2 within 10 %, linear floor 2.1e-4 (1.2 %) within 20 %."""
    x, _, y = _inner_product_sample([0, 1, 2, 3], 4000)
    assert float(y.square().mean()) == pytest.approx(1.7e-2, rel=0.1)
    fit = torch.linalg.lstsq(x[:, :3000], y[:, :3000, None]).solution
    floor = float((x[:, 3000:] @ fit - y[:, 3000:, None]).square().mean()) / (1 + 100 / 2900)
    assert floor == pytest.approx(2.1e-4, rel=0.2)
    assert floor / float(y.square().mean()) == pytest.approx(0.012, rel=0.2)


def test_inner_product_is_linear_in_x_with_weights_on_the_simplex() -> None:
    """Unit vectors x read off h(I): positive numbers that sum to 1, as the softmax says."""
    target = InnerProduct(x_dim=5, conditioning_dim=3)
    conditioning = torch.randn((2, 4, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = torch.eye(5, dtype=torch.float64).expand(2, 4, 5, 5)
    direction = target.prepare([target] * 2, [0, 1], "cpu").evaluate(x, conditioning)[..., 0]
    assert (direction > 0).all()
    torch.testing.assert_close(direction.sum(dim=-1), torch.ones(2, 4, dtype=torch.float64))
    assert (direction[:, 0] - direction[:, 1]).abs().max() > 1e-3


def test_inner_product_draws_h_from_the_trials_seed() -> None:
    """Another trial seed is another function, the same seed the same one in any pack."""
    target = InnerProduct(x_dim=3, conditioning_dim=2)
    x = torch.randn((1, 6, 1, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    conditioning = torch.randn((1, 6, 2), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    seeds = [5, 2, 5]
    packed = target.prepare([target] * 3, seeds, "cpu").evaluate(
        x.expand(3, -1, -1, -1), conditioning.expand(3, -1, -1)
    )
    assert torch.equal(packed[0], packed[2])
    assert (packed[0] - packed[1]).abs().max() > 1e-3
    alone = target.prepare([target], [2], "cpu").evaluate(x, conditioning)
    torch.testing.assert_close(packed[1], alone[0], rtol=1e-13, atol=1e-15)


# --- Gaussian mixture ------------------------------------------------------------------------------------------


def test_mixture_has_the_stated_ingredients() -> None:
    """Means lie in [-5, 5]^2, deviations in [1, 1.1], weights sum to 1 within a ratio of 3; seeds differ."""
    for seed in range(20):
        mixture = GaussianMixture(seed=seed)
        assert mixture.means().shape == (10, 2)
        assert mixture.means().abs().max() <= 5
        assert 1 <= mixture.deviations().min() <= mixture.deviations().max() <= 1.1
        assert mixture.weights().sum().item() == pytest.approx(1, rel=1e-14)
        assert mixture.weights().max() <= 3 * mixture.weights().min()
    assert not torch.equal(GaussianMixture(seed=0).means(), GaussianMixture(seed=1).means())


def test_value_at_an_isolated_mean() -> None:
    """Where the other component is over 12 standard deviations away, v is p 2 pi s^2 (a factor, not a divisor)."""
    mixture = GaussianMixture(num_components=2, seed=0)
    means, deviations, weights = mixture.means(), mixture.deviations(), mixture.weights()
    assert (means[0] - means[1]).norm() > 12
    expected = weights * 2 * math.pi * deviations**2
    torch.testing.assert_close(mixture.value(means), expected, rtol=1e-10, atol=0)


def test_value_equals_the_sum_of_scipys_densities() -> None:
    """V is the sum of p (2 pi s^2)^2 times the normal density of each component."""
    from scipy.stats import multivariate_normal

    mixture = GaussianMixture(num_components=4, seed=3)
    points = torch.rand((50, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 12 - 6
    expected = np.zeros(50)
    parts = (mixture.means().numpy(), mixture.deviations().tolist(), mixture.weights().tolist())
    for mean, deviation, weight in zip(*parts, strict=True):
        density = multivariate_normal(mean, deviation**2).pdf(points.numpy())
        expected += weight * (2 * math.pi * deviation**2) ** 2 * density
    np.testing.assert_allclose(mixture.value(points).numpy(), expected, rtol=1e-12)


def test_gradient_of_the_mixture_equals_finite_differences() -> None:
    """The gradient by autograd equals central differences to 1e-7."""
    mixture = GaussianMixture(seed=1)
    points = torch.rand((30, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 10 - 5
    leaf = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.value(leaf).sum(), leaf)
    for d in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[d] = 1e-5
        slope = (mixture.value(points + step) - mixture.value(points - step)) / 2e-5
        torch.testing.assert_close(gradient[:, d], slope, rtol=0, atol=1e-7)
