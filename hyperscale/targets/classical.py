"""Targets whose infimum is known in closed form: what the gap of an optimiser is measured against."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy.optimize import brentq
from torch import Tensor

from hyperscale.errors import StudyError, check_choice, check_integer
from hyperscale.targets.target import PreparedTarget, Target, check_smoothness

Profile = Literal["square", "exponential"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tilted(Target):
    """y(x, I) = c (p(x) + x mean(I)), with the profile p(x) = x^2 ("square") or exp(x) ("exponential"), x_dim = 1.

    An affine function of x added to a target does not change its best piecewise-linear approximation, so every
    y_I has the error c E_k(p) (`infimum`), and no two I the same function. The constant c makes the norm of the
    Sobolev ball W_{r,m} exactly 1: sup abs(y) + sum over 1 <= abs(k) <= r of sup abs(D^k y) on [-1, 1]^m.
    """

    profile: Profile = "square"
    smoothness: int = 1

    def __post_init__(self) -> None:
        """Check the fields."""
        Target.__post_init__(self)
        check_choice("Tilted.profile", self.profile, get_args(Profile))
        check_smoothness("Tilted.smoothness", self.smoothness)
        if self.x_dim != 1:
            raise StudyError(f"Tilted.x_dim is {self.x_dim}; allowed: 1, where the infimum is known.")

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Uniform on the cube."""
        return "uniform"

    @property
    def varies_with_seed(self) -> bool:
        """False: there is nothing random in it."""
        return False

    @property
    def scale(self) -> float:
        """The constant c: 1 / the norm of p(x) + x mean(I).

        With t = mean(I) in [-1, 1]: sup abs(p + x t) = p(1) + 1; sup abs(p' + t) = p'(1) + 1; each of the m2
        derivatives by a coordinate of I is x / m2, and their sups add up to 1; the mixed ones (x and one
        coordinate of I) are 1 / m2 and add up to 1; those by x alone of order j >= 2 are p^(j), at most p^(j)(1).
        """
        pure = [self._highest_derivative(order) for order in range(self.smoothness + 1)]
        mixed = 1.0 if self.smoothness >= 2 else 0.0
        return 1 / ((pure[0] + 1) + (pure[1] + 1) + 1 + mixed + sum(pure[2:]))

    def _highest_derivative(self, order: int) -> float:
        """Return sup abs(p^(order)) on [-1, 1], taken at x = 1 by both profiles."""
        if self.profile == "exponential":
            return math.e
        return (1.0, 2.0, 2.0)[order] if order <= 2 else 0.0

    def infimum(self, num_knots: int) -> float:
        """Return c E_k(p), the least sup error of continuous piecewise-linear functions with ``num_knots`` knots in x.

        E_k of the square is 1 / (2 (k + 1)^2); that of the exponential comes from `_exponential_infimum`.
        """
        check_integer("Tilted.infimum: num_knots", num_knots, 0)
        if self.profile == "square":
            return self.scale / (2 * (num_knots + 1) ** 2)
        return self.scale * _exponential_infimum(num_knots)

    def slope_bounds(self) -> tuple[float, ...]:
        """Return sup abs(dy/du_d) for every coordinate, x first and then those of I; exact."""
        along_x = self.scale * (self._highest_derivative(1) + 1)
        return (along_x, *(self.scale / self.conditioning_dim,) * self.conditioning_dim)

    def program(self) -> object:
        """Every field."""
        return ("Tilted", self.x_dim, self.conditioning_dim, self.profile, self.smoothness)

    def prepare(self, targets: Sequence[Tilted], seeds: Sequence[int], device: str) -> PreparedTarget:  # noqa: ARG002
        """Return the function; nothing is drawn."""
        return _Tilted(profile=self.profile, scale=self.scale)

    def columns(self) -> dict[str, str | int | float]:
        """Add profile and smoothness."""
        return {**Target.columns(self), "profile": self.profile, "smoothness": self.smoothness}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tilted:
    profile: Profile
    scale: float

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        bent = x.square() if self.profile == "square" else torch.exp(x)
        return self.scale * (bent + x * conditioning.mean(dim=-1)[..., None, None])

    def slope_intervals(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return self._slopes(lower), self._slopes(upper)

    def _slopes(self, point: Tensor) -> Tensor:
        """Return the derivatives at points of (x, I), [points, m]: each of them rises with every coordinate."""
        x, conditioning = point[:, :1], point[:, 1:]
        steep = 2 * x if self.profile == "square" else torch.exp(x)
        along_x = steep + conditioning.mean(dim=1, keepdim=True)
        return self.scale * torch.cat([along_x, (x / conditioning.shape[1]).expand_as(conditioning)], dim=1)


@functools.lru_cache(maxsize=1024)
def _exponential_infimum(num_knots: int) -> float:
    """Return E_k of exp on [-1, 1]: the d for which k + 1 pieces of error d reach from -1 to 1 exactly.

    The best function of a convex one has pieces that err by +d at their ends and by -d in between, so that f - d is
    the interpolant in the knots: a piece [a, a + w] has half the interpolation error, exp(a) gap(w) / 2. The knots
    are found one after another from -1; d is near (integral of sqrt(exp))^2 / (16 (k + 1)^2), from which 1.05 times
    that (k = 0: 2.7 %) is an upper bound and, d being the larger, the asymptotic value itself a lower one.
    """
    pieces = num_knots + 1
    asymptote = (2 * (math.exp(0.5) - math.exp(-0.5)) / pieces) ** 2 / 16

    def overshoot(root: float) -> float:
        knot = -1.0
        for _ in range(pieces):
            knot += _piece_width(2 * asymptote * root**2 * math.exp(-knot))
        return knot - 1

    root = float(brentq(overshoot, 0.99, math.sqrt(1.05), xtol=1e-15, rtol=1e-14))
    return asymptote * root**2


def _piece_width(gap: float) -> float:
    """Return the w > 0 whose chord of exp on [0, w] lies at most ``gap`` above exp, by Newton on sqrt(gap).

    sqrt(gap) is w / sqrt(8) to first order and convex, so that the steps from there come down to the root.
    """
    width = math.sqrt(8 * gap)
    for _ in range(50):
        found = _chord_gap(width)
        slope = (math.expm1(width) * (width - 1) + width) / width**2 if width > 0.1 else 0.5 + width / 3
        step = 2 * (found - math.sqrt(found * gap)) / (math.log(math.expm1(width) / width) * slope)
        width -= step
        if abs(step) <= 4e-16 * width:
            break
    return width


def _chord_gap(width: float) -> float:
    """Return the largest distance of the chord of exp on [0, width] from exp, free of cancellation.

    With s = 1 + u and u = (expm1(w) - w) / w it is (1 + u) log1p(u) - u; both by their series where w is small.
    """
    if width < 0.5:
        term = excess = width / 2
        for order in range(3, 20):
            term *= width / order
            excess += term
    else:
        excess = math.expm1(width) / width - 1
    if excess < 0.1:  # (1 + u) log(1 + u) - u = sum over j >= 2 of (-u)^j / (j (j - 1))
        return sum((-excess) ** j / (j * (j - 1)) for j in range(2, 20))
    return (1 + excess) * math.log1p(excess) - excess
