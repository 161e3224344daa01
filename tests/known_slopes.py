"""Targets with slope bounds, for tests of certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import PreparedTarget, Target


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundedSobolevBall(SobolevBall):
    """The Sobolev ball with its global slope bound: sum over levels of amplitude 2^level peak abs(b')."""

    def slope_bounds(self) -> tuple[float, ...]:
        """The same for every coordinate."""
        t = np.linspace(0, 1, 100_001)
        power = self.smoothness + 1
        peak = float((2 * power * t * (1 - t**2) ** (power - 1)).max()) * (1 + 1e-8)
        slope = sum(height * 2.0**level * peak for level, height in enumerate(self.amplitudes, start=1))
        return (slope,) * self.num_dims


@dataclass(frozen=True, kw_only=True, slots=True)
class Square(Target):
    """y = x^2 for a scalar x, whatever I: the classical case of piecewise linear approximation."""

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Uniform."""
        return "uniform"

    @property
    def smoothness(self) -> int:
        """Two."""
        return 2

    def program(self) -> object:
        """Nothing varies."""
        return "Square"

    def prepare(self, targets: Sequence[Any], seeds: Sequence[int], device: str) -> PreparedTarget:
        """Nothing to draw."""
        return _Square()

    def slope_bounds(self) -> tuple[float, ...]:
        """2 along x."""
        return (2.0,) + (0.0,) * (self.x_dim + self.conditioning_dim - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedSquare(Square):
    """The same with signed slopes over boxes."""

    def slope_intervals(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Along x from 2 lower to 2 upper, else 0."""
        along = torch.zeros_like(lower[0])
        along[0] = 2
        return lower * along, upper * along


@dataclass(frozen=True, kw_only=True, slots=True)
class Bump(Square):
    """y = 1 - |x - x0|^2 - |I - I0|^2 with the peak at irrational places."""

    x_peak: float = 2**0.5 / 3
    conditioning_peak: float = -(3**0.5) / 5

    def prepare(self, targets: Sequence[Any], seeds: Sequence[int], device: str) -> PreparedTarget:
        """The peak."""
        return _Bump(self.x_peak, self.conditioning_peak)

    def slope_bounds(self) -> tuple[float, ...]:
        """Twice the largest distance."""
        return (2 * (1 + self.x_peak), 2 * (1 - self.conditioning_peak))


class _Square:
    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        return x[..., :1].square()


@dataclass(frozen=True)
class _Bump:
    x_peak: float
    conditioning_peak: float

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        away = (conditioning[..., None, :] - self.conditioning_peak).square()
        return 1 - (x - self.x_peak).square() - away
