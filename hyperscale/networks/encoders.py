"""Fixed encoders of the conditioning input I, put in front of f and e alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.errors import check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class HatEncoder:
    """Hat functions on an equispaced grid of [-1, 1]^conditioning_dim: fixed, no parameters.

    With spacing h = 2 / (knots - 1) and knots t_j, coordinate features are ``max(0, 1 - abs(I - t_j) / h)``;
    several coordinates combine by products. The features sum to 1, so a linear layer on them is a
    table of values at the knots, interpolated (multi)linearly: as flexible in I as its resolution.
    """

    knots: int = 33

    def __post_init__(self) -> None:
        """Check the number of knots."""
        check_integer("HatEncoder.knots", self.knots, 2)

    def num_features(self, conditioning_dim: int) -> int:
        """Return ``knots ** conditioning_dim``."""
        return int(self.knots**conditioning_dim)

    def encode(self, conditioning: Tensor) -> Tensor:
        """Map I [..., conditioning_dim] to features [..., knots ** conditioning_dim]."""
        knots = torch.linspace(-1, 1, self.knots, dtype=conditioning.dtype, device=conditioning.device)
        spacing = 2.0 / (self.knots - 1)
        hats = (1 - (conditioning.unsqueeze(-1) - knots).abs() / spacing).clamp_min(0)
        features = hats[..., 0, :]
        for coordinate in range(1, conditioning.shape[-1]):
            features = (features.unsqueeze(-1) * hats[..., coordinate, None, :]).flatten(-2)
        return features
