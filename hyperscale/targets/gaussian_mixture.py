"""The two-dimensional Gaussian mixture of the toy problem of generated networks."""

from __future__ import annotations

import functools
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
        return _components(self.num_components, self.seed)[0]

    def deviations(self) -> Tensor:
        """Return the standard deviations, float64 [num_components]."""
        return _components(self.num_components, self.seed)[1]

    def weights(self) -> Tensor:
        """Return the weights, summing to 1, float64 [num_components]."""
        return _components(self.num_components, self.seed)[2]

    def value(self, points: Tensor) -> Tensor:
        """Return v at ``points`` [..., 2]: [...]."""
        means, deviations, weights = (part.to(points) for part in _components(self.num_components, self.seed))
        squared = (points.unsqueeze(-2) - means).square().sum(dim=-1)
        variance = deviations.square()
        return (weights * 2 * math.pi * variance * torch.exp(-squared / (2 * variance))).sum(dim=-1)


@functools.lru_cache(maxsize=64)
def _components(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return means, standard deviations and weights; drawn once, asked for at every step."""
    draws = ((2 * count, "means", -5, 5), (count, "sd", 1, 1.1), (count, "p", 1, 3))
    means, deviations, raw = (
        uniform_between(stream_keys([seed], "target", label)[0], size, low, high, torch.float64)
        for size, label, low, high in draws
    )
    return means.reshape(-1, 2), deviations, raw / raw.sum()
