"""Tests of `hyperscale.targets.structured`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperscale.errors import StudyError
from hyperscale.networks.mlp import evaluate
from hyperscale.targets.structured import Structured


def sample(target: Structured, instances: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x [1, instances, points, x_dim] and I [1, instances, conditioning_dim], uniform."""
    generator = torch.Generator().manual_seed(7)
    x = torch.rand((1, instances, points, target.x_dim), generator=generator, dtype=torch.float64) * 2 - 1
    conditioning = torch.rand((1, instances, target.conditioning_dim), generator=generator, dtype=torch.float64)
    return x, conditioning * 2 - 1


@pytest.mark.parametrize(("x_dim", "conditioning_dim", "effective_dim"), [(1, 1, 2), (2, 1, 4), (1, 2, 3)])
def test_values_are_c_times_the_network_with_the_selectors_weights(
    x_dim: int, conditioning_dim: int, effective_dim: int
) -> None:
    """Y equals c times the project's network at the flat parameters W P(I)."""
    target = Structured(
        x_dim=x_dim, conditioning_dim=conditioning_dim, effective_dim=effective_dim, levels=3, seed=2, bound=1.7
    )
    x, conditioning = sample(target, 20, 6)
    repeated = conditioning[0, None, :, None].expand(effective_dim - 1, -1, -1, -1)
    p = target.prepare_selector([target], "cpu").evaluate(repeated, repeated[:, :, 0, :0])[..., 0, 0]
    p = torch.cat([torch.ones_like(p[:1]), p])
    theta = (target.selector_matrix() @ p).T
    expected = target.scale() * evaluate(target.primary_shape.split(theta), x[0], torch.relu)
    y = target.prepare([target], [0], "cpu").evaluate(x, conditioning)[0]
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("x_dim", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_function_is_bounded_spread_in_x_and_varies_with_the_instance(x_dim: int, seed: int) -> None:
    """Sup|y| <= 1, knots stay inside (x_dim 1), slopes stay below their bounds, the interaction is over a fifth."""
    target = Structured(x_dim=x_dim, conditioning_dim=1, levels=3, seed=seed)
    axis = torch.linspace(-1, 1, 201, dtype=torch.float64)
    x = axis[None, None, :, None].repeat(1, 201, 1, x_dim)
    y = target.prepare([target], [0], "cpu").evaluate(x, axis[None, :, None])[0, ..., 0]
    assert 0.01 < float(y.abs().max()) <= 1
    both = y - y.mean(dim=0, keepdim=True) - y.mean(dim=1, keepdim=True) + y.mean()
    assert float(both.var() / y.var()) > 0.2
    bounds = target.slope_bounds()
    assert bounds is not None
    assert len(bounds) == x_dim + 1
    assert float(y.diff(dim=1).abs().max()) * 100 <= sum(bounds[:x_dim])  # x moves along the diagonal
    assert float(y.diff(dim=0).abs().max()) * 100 <= bounds[-1]
    weight, bias, _ = target.split_columns()
    most = bias[:, 0].abs() + sum(target.amplitudes) * bias[:, 1:].abs().sum(dim=1)
    assert (most < weight.abs().sum(dim=0)).all()


def test_packs_seeds_and_shapes() -> None:
    """A target keeps its bits among others, float32 included, and other seeds are other functions."""
    targets = [Structured(x_dim=2, conditioning_dim=1, levels=2, seed=s) for s in (0, 1, 0)]
    x, conditioning = sample(targets[0], 7, 5)
    for dtype in (torch.float64, torch.float32):
        points = x.to(dtype), conditioning.to(dtype)
        packed = (
            targets[0]
            .prepare(targets, [5, 6, 7], "cpu")
            .evaluate(points[0].repeat(3, 1, 1, 1), points[1].repeat(3, 1, 1))
        )
        assert packed.dtype == dtype
        for row, target in enumerate(targets):
            assert torch.equal(packed[row], target.prepare([target], [9], "cpu").evaluate(*points)[0])
        assert not torch.equal(packed[0], packed[1])
    assert len({t.program() for t in targets}) == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"primary_width": 0}, "Structured.primary_width"),
        ({"effective_dim": 1}, "Structured.effective_dim"),
        ({"bound": 0.0}, "Structured.bound"),
        ({"bound": float("nan")}, "Structured.bound"),
        ({"levels": 23}, "fewer levels"),
        ({"smoothness": 0}, "Structured.smoothness"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        Structured(x_dim=1, conditioning_dim=1, **fields)
    assert named in str(caught.value)
