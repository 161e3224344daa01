"""Fixed encoders of the conditioning input I, put in front of f and e alike."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hyperscale.errors import check_integer, check_number
from hyperscale.seeding import normal, stream_keys, uniform_between


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder(ABC):
    """A fixed map of the conditioning input, without parameters, the same for the hypernetwork and the embedding.

    The theorems let f and e be as large as we wish. With a linear layer on an encoder there is one number to raise
    until it no longer limits the error, and training stays a problem with few local minima. Raise it until twice as
    many features leave the error unchanged; `HatEncoder` and `FourierEncoder` say where to begin.
    """

    cube_only: ClassVar[bool] = False
    """Whether I must lie in [-1, 1]^conditioning_dim."""
    sums_to_one: ClassVar[bool] = False
    """Whether the features of every I sum to 1, so that equal rows of a linear layer are a constant function."""

    @abstractmethod
    def num_features(self, conditioning_dim: int) -> int:
        """Return the number of features of an I in ``conditioning_dim`` dimensions."""

    @abstractmethod
    def encode(self, conditioning: Tensor) -> Tensor:
        """Map I [..., conditioning_dim] to features [..., num_features], in the precision and on the device of I."""

    @abstractmethod
    def lipschitz_bound(self, conditioning_dim: int) -> float:
        """Return a bound of the encoding's Lipschitz constant over the cube, from the l1 to the l1 norm."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The encoder and all of its fields for tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HatEncoder(Encoder):
    """Hat functions on an equispaced grid of [-1, 1]^conditioning_dim: fixed, no parameters.

    With spacing h = 2 / (knots - 1) and knots t_j, coordinate features are ``max(0, 1 - abs(I - t_j) / h)``;
    several coordinates combine by products. The features sum to 1, so a linear layer on them is a
    table of values at the knots, interpolated (multi)linearly: as flexible in I as its resolution.

    What it loses: a function of I with Lipschitz constant c is met to c h / 2 per coordinate, one with second
    derivative at most c to c h^2 / 8. So take ``knots`` - 1 at least four times the number of features of the
    target along I. Features are ``knots ** conditioning_dim``: from three dimensions on, prefer `FourierEncoder`.
    """

    cube_only: ClassVar[bool] = True
    sums_to_one: ClassVar[bool] = True

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

    def lipschitz_bound(self, conditioning_dim: int) -> float:  # noqa: ARG002
        """Return 2/h = knots - 1, which is attained: along a coordinate one hat falls as another rises, by 1/h each."""
        return float(self.knots - 1)

    @property
    def label(self) -> str:
        """The encoder for tables: ``hat(33)``."""
        return f"hat({self.knots})"


@dataclass(frozen=True, kw_only=True, slots=True)
class FourierEncoder(Encoder):
    """Random Fourier features cos(W I + b), W ~ N(0, scale^2), b ~ U[-pi, pi]: fixed, no parameters.

    Remark 2 of "On Infinite-Width Hypernetworks" (scale 1), after Rahimi & Recht (2007): the mean over features of
    p(I) p(I') tends to ``exp(-scale^2 |I - I'|^2 / 2) / 2``, so only the difference of two I is seen. W and b are
    drawn from ``seed``, the encoder's own, once for all trials, members and devices.

    What it loses: structure in I finer than about 1/scale, so let ``scale`` be the largest angular frequency of the
    target along I; smooth targets below it are met to a small part as soon as there are a few times as many features
    as independent functions, ``frequencies`` >= 4 (1 + 4 scale / pi)^conditioning_dim. Features with a frequency far
    above the target's only make the problem worse conditioned.
    """

    frequencies: int = 256
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_integer("FourierEncoder.frequencies", self.frequencies, 1)
        check_number("FourierEncoder.scale", self.scale, above=0)
        check_integer("FourierEncoder.seed", self.seed, 0)
        object.__setattr__(self, "scale", float(self.scale))

    def num_features(self, conditioning_dim: int) -> int:  # noqa: ARG002
        """Return ``frequencies``, in any dimension."""
        return self.frequencies

    def weights(self, conditioning_dim: int) -> tuple[Tensor, Tensor]:
        """Return W [conditioning_dim, frequencies] and b [frequencies], float64 on the CPU; not to be changed."""
        return _fourier_weights(self, conditioning_dim)

    def encode(self, conditioning: Tensor) -> Tensor:
        """Map I [..., conditioning_dim] to cos(I W + b), [..., frequencies].

        The phases are summed coordinate by coordinate: a matrix product's last bits would depend on how many I come.
        """
        weight, shift = (part.to(conditioning) for part in self.weights(conditioning.shape[-1]))
        phases = conditioning[..., :1] * weight[0]
        for coordinate in range(1, len(weight)):
            phases += conditioning[..., coordinate, None] * weight[coordinate]
        return (phases + shift).cos_()

    def lipschitz_bound(self, conditioning_dim: int) -> float:
        """Return the largest row sum of abs(W): no cosine changes faster than its phase."""
        return float(self.weights(conditioning_dim)[0].abs().sum(dim=-1).max())

    @property
    def label(self) -> str:
        """The encoder for tables: ``fourier(256, scale 4, seed 0)``."""
        return f"fourier({self.frequencies}, scale {self.scale:g}, seed {self.seed})"


@functools.lru_cache(maxsize=64)
def _fourier_weights(encoder: FourierEncoder, conditioning_dim: int) -> tuple[Tensor, Tensor]:
    """Draw W and b on the CPU, where every machine's are the same."""
    keys = stream_keys([encoder.seed], "init", "fourier_encoder", "weight")
    count = conditioning_dim * encoder.frequencies
    weight = normal(keys, count)[0].unflatten(-1, (conditioning_dim, encoder.frequencies)) * encoder.scale
    keys = stream_keys([encoder.seed], "init", "fourier_encoder", "bias")
    return weight, uniform_between(keys, encoder.frequencies, -math.pi, math.pi, torch.float64)[0]
