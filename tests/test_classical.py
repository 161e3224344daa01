"""Tests of `hyperscale.targets.classical`: values, norm, infimum and slopes of the tilted profiles."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import hyperscale
from hyperscale.errors import StudyError
from hyperscale.identity import canonical, sha256
from hyperscale.targets.classical import Tilted
from hyperscale.targets.exact import infimum_bracket, interpolation_error
from tests.test_targets import cube_grid, largest_derivatives

PROFILES: tuple[Literal["square", "exponential"], ...] = ("square", "exponential")


def slices(target: Tilted, x: Tensor, conditioning: Tensor) -> Tensor:
    """Return y_I at all x [points], [instances, points]."""
    points = x[None, None, :, None].expand(1, len(conditioning), -1, -1)
    return target.prepare([target], [0], "cpu").evaluate(points, conditioning[None])[0, :, :, 0]


@pytest.mark.parametrize("profile", PROFILES)
def test_values_are_the_formula(profile: Literal["square", "exponential"]) -> None:
    """Y = c (p(x) + x mean(I)) for a handful of points, with c by hand: 1/6 and 1/(2e + 3) at smoothness 1."""
    target = Tilted(x_dim=1, conditioning_dim=2, profile=profile)
    found = slices(target, torch.tensor([-1.0, 0.5]).double(), torch.tensor([[0.25, 0.5], [-1.0, 1.0]]).double())
    p = (lambda x: x * x) if profile == "square" else math.exp
    c = 1 / 6 if profile == "square" else 1 / (2 * math.e + 3)
    expected = [[c * (p(-1) - 0.375), c * (p(0.5) + 0.1875)], [c * p(-1), c * p(0.5)]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("smoothness", "conditioning_dim"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
def test_sobolev_norm_is_exactly_one(profile: Any, smoothness: int, conditioning_dim: int) -> None:
    """Sup abs(y) + sum of sup abs(D^k y), by autograd on a grid with the corners, is 1."""
    target: Any = Tilted(x_dim=1, conditioning_dim=conditioning_dim, profile=profile, smoothness=smoothness)
    plus: Any = _WithZeroDerivatives(target)
    norms = largest_derivatives(plus, cube_grid(1 + conditioning_dim, 9), smoothness)
    assert sum(norms.values()) == pytest.approx(1, rel=1e-12)


class _WithZeroDerivatives:
    """The target plus 0 u^4, so that autograd can take derivatives that vanish."""

    def __init__(self, target: Tilted) -> None:
        self.target, self.x_dim = target, target.x_dim

    def prepare(self, targets: object, seeds: object, device: str) -> _WithZeroDerivatives:
        return self

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        y = self.target.prepare([self.target], [0], "cpu").evaluate(x, conditioning)
        return y + 0 * (x.pow(4).sum(dim=-1, keepdim=True) * conditioning.pow(4).sum(dim=-1)[..., None, None])


@pytest.mark.parametrize("profile", PROFILES)
def test_infimum_is_that_of_every_slice(profile: Any) -> None:
    """The bracket of the exact algorithm for every I has `infimum` inside, and is narrow at small k."""
    target = Tilted(x_dim=1, conditioning_dim=1, profile=profile)
    num_knots = [0, 1, 2, 5, 12]
    y = slices(target, torch.linspace(-1, 1, 1025, dtype=torch.float64), torch.tensor([[-1.0], [0.0], [0.7]]).double())
    bound = interpolation_error(1025, curvature=target.scale * math.e)
    least, most = infimum_bracket(y, num_knots, interpolation_error=bound)
    truth = torch.tensor([[target.infimum(k)] for k in num_knots], dtype=torch.float64)
    assert (least <= truth).all()
    assert (truth <= most).all()
    assert ((most - least)[0] < 2e-5 * truth[0]).all()


def test_infimum_of_the_square_is_closed_and_of_the_exponential_asymptotic() -> None:
    """E_k is c / (2 (k + 1)^2); for exp (k + 1)^2 E_k -> c .2715403174, the excess falling like 1 / (k + 1)^2."""
    square = Tilted(x_dim=1, conditioning_dim=1)
    assert square.infimum(7) == pytest.approx(1 / 6 / 128, rel=1e-14)
    exponential = Tilted(x_dim=1, conditioning_dim=1, profile="exponential")
    limit = (math.exp(0.5) - math.exp(-0.5)) ** 2 / 4
    excess = {n: n**2 * exponential.infimum(n - 1) / exponential.scale / limit - 1 for n in (1, 8, 64, 256)}
    assert limit == pytest.approx(0.2715403174, rel=1e-9)
    assert excess[8] / excess[64] == pytest.approx(64, rel=0.01)
    assert excess[64] / excess[256] == pytest.approx(16, rel=0.01)
    # One piece, by hand: half the largest distance of the chord, of slope sinh 1, above exp.
    slope = math.sinh(1)
    gap = math.cosh(1) + slope * math.log(slope) - slope
    assert exponential.infimum(0) / exponential.scale == pytest.approx(gap / 2, rel=1e-12)


@pytest.mark.parametrize("profile", PROFILES)
def test_slope_bounds_are_the_largest_slopes(profile: Any) -> None:
    """The bounds, x first, equal the largest slopes by autograd on a grid with the corners."""
    target: Any = Tilted(x_dim=1, conditioning_dim=2, profile=profile)
    norms = largest_derivatives(target, cube_grid(3, 9), 1)
    measured = [norms[tuple(int(i == d) for i in range(3))] for d in range(3)]
    assert target.slope_bounds() == pytest.approx(measured, rel=1e-12)


def test_every_field_counts_and_nothing_is_drawn() -> None:
    """Each field changes program, columns' values and digest; seeds change nothing; the name is public."""
    target = Tilted(x_dim=1, conditioning_dim=1)
    others = [
        dataclasses.replace(target, **change)
        for change in ({"profile": "exponential"}, {"smoothness": 2}, {"conditioning_dim": 2})
    ]
    assert len({sha256(canonical(t)) for t in (target, *others)}) == 4
    assert len({t.program() for t in (target, *others)}) == 4
    assert not target.varies_with_seed
    assert not target.is_hard_family
    assert target.columns() == {
        "target": "Tilted",
        "x_dim": 1,
        "conditioning_dim": 1,
        "profile": "square",
        "smoothness": 1,
    }
    assert hyperscale.Tilted is Tilted
    x, conditioning = torch.rand(3, 4, 5, 1), torch.rand(3, 4, 1)
    packed = target.prepare([target] * 3, [0, 1, 2], "cpu").evaluate(x, conditioning)
    assert packed.shape == (3, 4, 5, 1)
    assert torch.equal(packed[1:2], target.prepare([target], [9], "cpu").evaluate(x[1:2], conditioning[1:2]))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"x_dim": 2}, "Tilted.x_dim"),
        ({"profile": "cube"}, "Tilted.profile"),
        ({"smoothness": 0}, "Tilted.smoothness"),
        ({"conditioning_dim": 0}, "Tilted.conditioning_dim"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError, match=named):
        Tilted(**{"x_dim": 1, "conditioning_dim": 1, **fields})
