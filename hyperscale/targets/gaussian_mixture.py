"""The two-dimensional Gaussian mixture of the toy problem of generated networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.errors import check_integer
from hyperscale.seeding import stream_keys, uniform_between


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianMixture:
    """v(y) = sum_i p_i 2 pi s_i^2 exp(-abs(y - mu_i)^2 / (2 s_i^2)) in the plane (GEN-TOY).

    Means are uniform on [-5, 5]^2, standard deviations on [1, 1.1], weights on [1, 3] and then normalised; all
    drawn from ``seed``. The factor 2 pi s^2 multiplies instead of dividing, as in the published code: v is the
    value to be collected, not a density.
    """

    num_components: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_integer("GaussianMixture.num_components", self.num_components, 1)
        check_integer("GaussianMixture.seed", self.seed, 0)

    def means(self) -> Tensor:
        """Return the means, float64 [num_components, 2]."""
        keys = stream_keys([self.seed], "target", "means")[0]
        return uniform_between(keys, 2 * self.num_components, -5, 5, torch.float64).reshape(-1, 2)

    def deviations(self) -> Tensor:
        """Return the standard deviations, float64 [num_components]."""
        return uniform_between(stream_keys([self.seed], "target", "sd")[0], self.num_components, 1, 1.1, torch.float64)

    def weights(self) -> Tensor:
        """Return the weights, summing to 1, float64 [num_components]."""
        raw = uniform_between(stream_keys([self.seed], "target", "p")[0], self.num_components, 1, 3, torch.float64)
        return raw / raw.sum()

    def value(self, points: Tensor) -> Tensor:
        """Return v at ``points`` [..., 2]: [...]."""
        means, deviations, weights = (part.to(points) for part in (self.means(), self.deviations(), self.weights()))
        squared = (points.unsqueeze(-2) - means).square().sum(dim=-1)
        variance = deviations.square()
        return (weights * 2 * math.pi * variance * torch.exp(-squared / (2 * variance))).sum(dim=-1)
