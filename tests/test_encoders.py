"""Tests of `hyperscale.networks.encoders`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from hyperscale.errors import StudyError
from hyperscale.networks.encoders import HatEncoder


@pytest.mark.parametrize(("knots", "dim"), [(2, 1), (5, 1), (33, 1), (4, 2), (3, 3)])
def test_features_are_a_partition_of_unity(knots: int, dim: int) -> None:
    """On the cube the features are non-negative, sum to 1, and at most 2^dim of them are not zero."""
    points = torch.rand((200, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    features = HatEncoder(knots=knots).encode(points)
    assert features.shape == (200, HatEncoder(knots=knots).num_features(dim)) == (200, knots**dim)
    assert (features >= 0).all()
    torch.testing.assert_close(features.sum(dim=-1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-13)
    assert ((features > 0).sum(dim=-1) <= 2**dim).all()


@pytest.mark.parametrize("knots", [2, 3, 33])
def test_features_are_unit_vectors_at_the_knots(knots: int) -> None:
    """At knot j feature j is 1 and the others are 0; the end points are knots."""
    points = torch.linspace(-1, 1, knots, dtype=torch.float64).unsqueeze(-1)
    identity = torch.eye(knots, dtype=torch.float64)
    torch.testing.assert_close(HatEncoder(knots=knots).encode(points), identity, rtol=0, atol=1e-13)


def test_linear_layer_on_features_interpolates_linearly() -> None:
    """A table at the knots gives numpy's linear interpolation between them."""
    table = np.random.default_rng(0).normal(size=9)
    points = torch.linspace(-1, 1, 501, dtype=torch.float64)
    values = HatEncoder(knots=9).encode(points.unsqueeze(-1)) @ torch.from_numpy(table)
    np.testing.assert_allclose(values.numpy(), np.interp(points.numpy(), np.linspace(-1, 1, 9), table), atol=1e-13)


def test_two_dimensions_are_a_tensor_product() -> None:
    """In the plane a table gives scipy's bilinear interpolation, the first coordinate varying slowest."""
    table = np.random.default_rng(1).normal(size=(6, 6))
    points = torch.rand((300, 2), generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 - 1
    values = HatEncoder(knots=6).encode(points) @ torch.from_numpy(table.flatten())
    axis = np.linspace(-1, 1, 6)
    np.testing.assert_allclose(values.numpy(), RegularGridInterpolator((axis, axis), table)(points.numpy()), atol=1e-13)


def test_leading_dimensions_and_precision_are_kept() -> None:
    """A batch is encoded point by point, in the precision of the points."""
    points = torch.rand((2, 5, 2), generator=torch.Generator().manual_seed(2)) * 2 - 1
    features = HatEncoder(knots=4).encode(points)
    assert features.shape == (2, 5, 16)
    assert features.dtype == torch.float32
    assert torch.equal(features[1, 3], HatEncoder(knots=4).encode(points[1, 3]))


@pytest.mark.parametrize("knots", [1, 0, 2.5, True, "9"])
def test_a_wrong_number_of_knots_is_named(knots: object) -> None:
    """Fewer than two knots, or no whole number, is an error that names the field."""
    with pytest.raises(StudyError, match=r"HatEncoder\.knots"):
        HatEncoder(knots=knots)  # type: ignore[arg-type]
