"""Tests of `hyperscale.targets.bump_family`, of the sign search, and of the slope bounds of bumps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from hyperscale.errors import StudyError
from hyperscale.identity import canonical, sha256
from hyperscale.targets.bump_family import BumpFamily, Signs
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sign_search import relative_residual, ridge_basis, search_signs
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.structured import Structured
from hyperscale.targets.target import Target


def plane_values(target: Target, points: int) -> torch.Tensor:
    """Return y on the equispaced grid of [-1, 1]^2, [I, x]."""
    axis = torch.linspace(-1, 1, points, dtype=torch.float64)
    x, conditioning = axis[None, None, :, None].expand(1, points, -1, -1), axis[None, :, None]
    return target.prepare([target], [0], "cpu").evaluate(x, conditioning)[0, ..., 0]


@pytest.mark.parametrize("signs", ["random", "alternating", "adversarial"])
@pytest.mark.parametrize("cells", [1, 3, 10])
def test_centres_carry_the_height_and_the_signs_borders_nothing(cells: int, signs: Signs) -> None:
    """At the cells' centres y is sign times height; on the lines between cells it is 0."""
    target = BumpFamily(x_dim=1, conditioning_dim=1, cells=cells, signs=signs, seed=3)
    y = plane_values(target, 2 * cells + 1)
    expected = target.height * target.sign_table().view(cells, cells).T  # the table runs over I fastest
    torch.testing.assert_close(y[1::2, 1::2], expected, rtol=1e-12, atol=0)
    assert max(float(y[::2].abs().max()), float(y[:, ::2].abs().max())) < 1e-15


def test_height_by_hand_and_its_rate() -> None:
    """At r = 1, m = 2 the height is 1 / (1 + 2 d sup|b'|), sup|b'| = 8 / (3 sqrt 3); it falls as d^-r."""
    target = BumpFamily(x_dim=1, conditioning_dim=1, cells=7)
    assert target.height == target.resolution == pytest.approx(1 / (1 + 14 * 8 / (3 * 3**0.5)), rel=1e-12)
    for smoothness in (1, 2, 3):
        heights = [BumpFamily(x_dim=1, conditioning_dim=1, cells=d, smoothness=smoothness).height for d in (500, 1000)]
        assert np.log2(heights[0] / heights[1]) == pytest.approx(smoothness, abs=0.01)


def test_alternating_signs_differ_between_all_neighbours() -> None:
    """Along every dimension each cell's sign is the opposite of the next one's, for odd and even grids."""
    for cells in (4, 5):
        table = BumpFamily(x_dim=2, conditioning_dim=1, cells=cells, signs="alternating").sign_table()
        for d in range(3):
            assert (table.view(cells, cells, cells).diff(dim=d).abs() == 2).all()


def test_a_dyadic_grid_agrees_with_the_all_scales_family() -> None:
    """With one level and d = 2 the two families have the same height."""
    ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=1)
    assert BumpFamily(x_dim=1, conditioning_dim=1, cells=2).height == pytest.approx(ball.amplitudes[0], rel=1e-14)


def test_search_raises_the_best_residual_and_ends_at_a_local_maximum() -> None:
    """The ridge fit's exact residual grows from about 0.86 to above 0.97, and no single flip raises it by more."""
    for cells in (9, 16):
        signs = search_signs(2, cells, 4)
        start = BumpFamily(x_dim=1, conditioning_dim=1, cells=cells, seed=4).sign_table().numpy()
        basis = ridge_basis(2, cells, cells**2 // 4)
        found = relative_residual(signs, basis)
        assert relative_residual(start, basis) + 0.05 < found
        assert found > 0.97
        for i in range(0, cells**2, 7):
            flipped = signs.copy()
            flipped[i] *= -1
            assert relative_residual(flipped, basis) <= found + 1e-9
        explained = np.linalg.lstsq(basis, signs, rcond=None)[0]
        assert found == pytest.approx(np.sqrt(np.mean((signs - basis @ explained) ** 2)), abs=1e-10)


def test_search_is_harder_for_ridges_it_has_not_seen() -> None:
    """Over 6 seeds the residual by other random ridge functions grows too: the search is not against one draw."""
    gains = []
    for seed in range(6):
        start = BumpFamily(x_dim=1, conditioning_dim=1, cells=16, seed=seed).sign_table().numpy()
        basis = ridge_basis(2, 16, 64, seed=100 + seed)
        gains.append(relative_residual(search_signs(2, 16, seed), basis) - relative_residual(start, basis))
    assert np.mean(gains) > 0.03


def test_function_depends_on_the_target_seed_alone_in_any_pack() -> None:
    """Packed with others a target keeps its bits, and seeds differ."""
    targets = [BumpFamily(x_dim=1, conditioning_dim=1, cells=6, signs="adversarial", seed=s) for s in (0, 1, 0)]
    u = torch.rand((3, 20, 5, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)[:1] * 2 - 1
    x, conditioning = u[..., :1], u[:, :, 0, 1:]
    packed = (
        targets[0].prepare(targets, [5, 6, 7], "cpu").evaluate(x.expand(3, -1, -1, -1), conditioning.expand(3, -1, -1))
    )
    for row, target in enumerate(targets):
        assert torch.equal(packed[row], target.prepare([target], [9], "cpu").evaluate(x, conditioning)[0])
    assert torch.equal(packed[0], packed[2])
    assert not torch.equal(packed[0], packed[1])


@pytest.mark.parametrize("smoothness", [1, 2])
def test_difference_quotients_come_near_the_bound_and_never_exceed_it(smoothness: int) -> None:
    """On 1001^2 points quotients of bumps reach 0.99 of the slope bound, those of the all-scales family stay below."""
    grid_of_bumps = BumpFamily(x_dim=1, conditioning_dim=1, cells=5, smoothness=smoothness)
    ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=4, smoothness=smoothness)
    for target, least in ((grid_of_bumps, 0.99), (ball, 0.4)):
        bounds = target.slope_bounds()
        assert bounds is not None
        y = plane_values(target, 1001)
        for bound, dim in zip(bounds, (1, 0), strict=True):
            steepest = float(y.diff(dim=dim).abs().max()) * 500
            assert least * bound < steepest <= bound * (1 + 1e-12)
    assert InnerProduct(x_dim=2, conditioning_dim=1).slope_bounds() is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cells": 0}, "BumpFamily.cells"),
        ({"cells": 2.5}, "BumpFamily.cells"),
        ({"cells": 4, "signs": "worst"}, "BumpFamily.signs"),
        ({"cells": 3000}, "fewer cells"),
        ({"cells": 200, "signs": "adversarial"}, "at most 16384"),
        ({"cells": 4, "smoothness": 0}, "BumpFamily.smoothness"),
        ({"cells": 4, "seed": -1}, "BumpFamily.seed"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        BumpFamily(x_dim=1, conditioning_dim=1, **fields)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [BumpFamily(x_dim=1, conditioning_dim=1, cells=4), Structured(x_dim=1, conditioning_dim=1, levels=2)],
    ids=lambda target: type(target).__name__,
)
def test_every_field_changes_the_identity(target: Target) -> None:
    """Another value of any single field is another target, and only the seed leaves the pack's program."""
    fields = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    others = [
        dataclasses.replace(target, **{name: "alternating" if name == "signs" else value + 1})  # type: ignore[arg-type]
        for name, value in fields.items()
    ]
    assert len({sha256(canonical(other)) for other in (target, *others)}) == len(fields) + 1
    assert [n for n, o in zip(fields, others, strict=True) if o.program() == target.program()] == ["seed"]
