"""Tests of `hyperscale.targets.membership`: measured norms of the normalised families."""

from __future__ import annotations

import pytest
import torch

from hyperscale.targets.bump_family import BumpFamily
from hyperscale.targets.grids import grid
from hyperscale.targets.membership import function_norm, selector_membership, sobolev_norm
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.structured import Structured


def test_norm_of_a_polynomial_by_hand() -> None:
    """For f = u v^2 on [-1, 1]^2: 1 + (1 + 2) at order 1, and f_uv = 2, f_vv = 2 (f_uu = 0) more at order 2."""

    def product(u: torch.Tensor) -> torch.Tensor:
        return u[:, 0] * u[:, 1] ** 2

    points = grid(2, 5)
    assert function_norm(product, points, 1) == pytest.approx(4, abs=1e-14)
    assert function_norm(product, points, 2) == pytest.approx(8, abs=1e-14)


@pytest.mark.parametrize("signs", ["random", "alternating", "adversarial"])
@pytest.mark.parametrize(("smoothness", "x_dim", "cells", "points"), [(1, 1, 7, 281), (2, 1, 4, 241), (1, 2, 3, 61)])
def test_bumps_fill_the_ball(smoothness: int, x_dim: int, cells: int, points: int, signs: str) -> None:
    """The measured norm of a grid of bumps is 1 up to the measuring grid, for all signs."""
    target = BumpFamily(x_dim=x_dim, conditioning_dim=1, cells=cells, smoothness=smoothness, signs=signs)  # type: ignore[arg-type]
    assert 0.98 < sobolev_norm(target, points_per_dim=points) <= 1 + 1e-12


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_all_scales_stay_in_the_ball(levels: int) -> None:
    """The measured norm of the all-scales family is at most 1 and above 0.5."""
    ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=levels)
    assert 0.5 < sobolev_norm(ball, points_per_dim=257) <= 1 + 1e-12


@pytest.mark.parametrize("smoothness", [1, 2])
@pytest.mark.parametrize(("conditioning_dim", "points"), [(1, 513), (2, 65)])
def test_selectors_belong_to_their_class(conditioning_dim: int, points: int, smoothness: int) -> None:
    """P's coordinates have measured norms in (0.5, 1], and ||W||_1 is the stated bound."""
    target = Structured(
        x_dim=1, conditioning_dim=conditioning_dim, levels=3, smoothness=smoothness, bound=2.5, effective_dim=4
    )
    found = selector_membership(target, points)
    assert 0.5 < found.coordinate_norm <= 1 + 1e-12
    assert found.matrix_norm == pytest.approx(2.5, rel=1e-12)
