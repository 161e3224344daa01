"""Tests of `hyperscale.networks.encoders`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from hyperscale.errors import StudyError
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.networks.encoders import Encoder, FourierEncoder, HatEncoder


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


# --- Fourier features ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("dim", [1, 2])
def test_fourier_features_have_the_gaussian_kernel(dim: int, scale: float) -> None:
    """Over 10^5 features the mean of p(I) p(I') is exp(-scale^2 |d|^2 / 2) / 2, to five standard errors (0.006)."""
    encoder = FourierEncoder(frequencies=100_000, scale=scale, seed=1)
    points = torch.rand((12, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    features = encoder.encode(points)
    kernel = torch.exp(-0.5 * scale**2 * torch.cdist(points, points).square()) / 2
    torch.testing.assert_close(features @ features.T / 100_000, kernel, rtol=0, atol=0.006)


def test_fourier_features_depend_on_their_own_seed_alone() -> None:
    """Equal encoders are the same map, bit for bit; another seed, or scale, gives another."""
    points = torch.linspace(-1, 1, 5, dtype=torch.float64).unsqueeze(-1)
    first = FourierEncoder(frequencies=6, scale=2, seed=3)
    assert first == FourierEncoder(frequencies=6, scale=2.0, seed=3)
    assert torch.equal(first.encode(points), FourierEncoder(frequencies=6, scale=2.0, seed=3).encode(points))
    for other in (FourierEncoder(frequencies=6, scale=2, seed=4), FourierEncoder(frequencies=6, scale=1, seed=3)):
        assert not torch.equal(first.encode(points), other.encode(points))
    weight, shift = first.weights(2)
    assert weight.shape == (2, 6)
    assert shift.shape == (6,)
    assert (shift.abs() <= math.pi).all()


def test_fourier_features_of_a_point_do_not_depend_on_its_company() -> None:
    """One I has the same bits alone and among others, in both precisions."""
    encoder = FourierEncoder(frequencies=37, scale=3)
    for dtype in (torch.float32, torch.float64):
        points = torch.rand((5, 11, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
        features = encoder.encode(points)
        assert features.shape == (5, 11, encoder.num_features(2))
        assert features.dtype == dtype
        assert torch.equal(features[4], encoder.encode(points[4]))
        assert torch.equal(features[2, 7], encoder.encode(points[2, 7]))


@pytest.mark.parametrize("frequency", [2.0, 4.0])
def test_enough_frequencies_do_not_limit_the_error(frequency: float) -> None:
    """With as many features as the docstring says a linear layer meets cos and sin of that frequency to 1e-4."""
    points = torch.linspace(-1, 1, 401, dtype=torch.float64).unsqueeze(-1)
    encoder = FourierEncoder(frequencies=math.ceil(4 * (1 + 4 * frequency / math.pi)), scale=frequency)
    wanted = torch.cat([(frequency * points).cos(), (frequency * points).sin()], dim=-1)
    features = encoder.encode(points)
    coefficients = torch.linalg.lstsq(features, wanted, driver="gelsd").solution
    assert (features @ coefficients - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("encoder", [HatEncoder(knots=5), FourierEncoder(frequencies=20, scale=2.0)])
@pytest.mark.parametrize("dim", [1, 2])
def test_no_pair_exceeds_the_lipschitz_bound(encoder: Encoder, dim: int) -> None:
    """Close pairs in the cube never exceed the l1 bound; hats attain it along a coordinate, cosines come near it."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand((4000, dim), generator=generator, dtype=torch.float64) * 1.9 - 0.95
    step = torch.zeros(4000, dim, dtype=torch.float64)
    step[torch.arange(4000), torch.randint(dim, (4000,), generator=generator)] = 1e-4
    step[:2000] = 1e-4 * torch.randn((2000, dim), generator=generator, dtype=torch.float64)
    change = (encoder.encode(points + step) - encoder.encode(points)).abs().sum(dim=-1)
    quotients = change / step.abs().sum(dim=-1)
    bound = encoder.lipschitz_bound(dim)
    assert quotients.max() <= bound * (1 + 1e-9)
    assert quotients.max() >= (1 - 1e-9 if isinstance(encoder, HatEncoder) else 0.7) * bound


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"frequencies": 0}, "frequencies"),
        ({"frequencies": 2.0}, "frequencies"),
        ({"scale": 0}, "scale"),
        ({"scale": "1"}, "scale"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_fourier_encoder_is_named(fields: dict[str, Any], place: str) -> None:
    """Sizes, scales and seeds that make no sense are errors that name the field."""
    with pytest.raises(StudyError, match=rf"FourierEncoder\.{place}"):
        FourierEncoder(**fields)


def test_one_primary_network_for_every_instance_needs_features_that_sum_to_one() -> None:
    """'shared_primary' on a table of Fourier features is refused: equal rows would not be one network."""
    shared: dict[str, Any] = {"primary_widths": (4,), "initialization": "shared_primary"}
    Hypernetwork(encoder=HatEncoder(knots=3), **shared)
    Hypernetwork(encoder=FourierEncoder(frequencies=3), bias="f_only", **shared)
    with pytest.raises(StudyError, match="shared_primary"):
        Hypernetwork(encoder=FourierEncoder(frequencies=3), **shared)
