"""The all-scales family of the Sobolev ball: random-sign bumps at every dyadic scale."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_integer
from hyperscale.seeding import random_signs, stream_keys
from hyperscale.targets.bumps import bump_peaks, bump_slopes, evaluate_bumps
from hyperscale.targets.target import PreparedTarget, Target, check_smoothness

_MAX_CELLS_LOG2 = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class SobolevBall(Target):
    """A function of the Sobolev ball W_{r,m} with bumps at the scales 2^-1, ..., 2^-levels.

    y(u) = c sum_l 2^(-r l) sum_cells s_{l,cell} prod_d b(t_d), where u = (x, I) in [-1, 1]^m, level l cuts
    every dimension into 2^l cells, t in [-1, 1] is the position in the cell, b(t) = (1 - t^2)^(r+1) is C^r,
    and the signs s are random, drawn from ``seed``. The constant c makes the sum over levels of
    ``sup abs(y_l) + sum_{1 <= abs(k) <= r} sup abs(D^k y_l)`` equal to 1, so the Sobolev norm of y is at most 1
    (the ball of "On the Modularity of Hypernetworks", section 3; bumps as in its Theorem 1's proof).
    """

    smoothness: int = 1
    levels: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields and the number of cells."""
        Target.__post_init__(self)
        check_integer("SobolevBall.levels", self.levels, 1)
        check_integer("SobolevBall.seed", self.seed, 0)
        if self.levels * self.num_dims > _MAX_CELLS_LOG2:
            raise StudyError(
                f"SobolevBall has {self.levels} levels in {self.num_dims} dimensions, "
                f"2^{self.levels * self.num_dims} cells; allowed: at most 2^22. Take fewer levels."
            )
        check_smoothness("SobolevBall.smoothness", self.smoothness, self.num_dims)

    @property
    def num_dims(self) -> int:
        """The dimension m = x_dim + conditioning_dim."""
        return self.x_dim + self.conditioning_dim

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Uniform on the cube."""
        return "uniform"

    @property
    def is_hard_family(self) -> bool:
        """True: every scale down to `resolution` carries bumps in every cell."""
        return True

    @property
    def varies_with_seed(self) -> bool:
        """False: the target has a seed of its own."""
        return False

    @property
    def amplitudes(self) -> tuple[float, ...]:
        """The height of the bumps of each level, coarsest first."""
        return level_amplitudes(self.num_dims, self.smoothness, self.levels)

    @property
    def resolution(self) -> float | None:
        """The height of the finest bumps."""
        return self.amplitudes[-1]

    def slope_bounds(self) -> tuple[float, ...] | None:
        """Return the sum over levels of height 2^l sup abs(b'), the same in every direction."""
        return (slope_bound(self.amplitudes, self.smoothness),) * self.num_dims

    def program(self) -> object:
        """Everything but the seed."""
        return ("SobolevBall", self.x_dim, self.conditioning_dim, self.smoothness, self.levels)

    def prepare(self, targets: Sequence[SobolevBall], seeds: Sequence[int], device: str) -> PreparedTarget:  # noqa: ARG002
        """Draw the signs of every stream's target; the trials' own seeds play no part."""
        tables = [
            amplitude
            * random_signs(
                stream_keys([t.seed for t in targets], "target", "signs", level), 2 ** (level * self.num_dims)
            )
            for level, amplitude in enumerate(self.amplitudes, start=1)
        ]
        return LevelBumps(tables=[table.to(device) for table in tables], power=self.smoothness + 1)

    def columns(self) -> dict[str, str | int | float]:
        """Add smoothness, levels and seed."""
        row = Target.columns(self)
        return {**row, "smoothness": self.smoothness, "levels": self.levels, "target_seed": self.seed}


@functools.lru_cache(maxsize=64)
def level_amplitudes(num_dims: int, smoothness: int, levels: int) -> tuple[float, ...]:
    """Return the bumps' height at each level, coarsest first, at which the bound of the Sobolev norm is 1."""
    peaks = bump_peaks(smoothness)
    orders = [k for k in itertools.product(range(smoothness + 1), repeat=num_dims) if sum(k) <= smoothness]
    norms = [
        sum(2.0 ** (level * sum(k)) * np.prod([peaks[i] for i in k]) for k in orders) for level in range(1, levels + 1)
    ]
    heights = [2.0 ** (-smoothness * level) for level in range(1, levels + 1)]
    total = sum(height * norm for height, norm in zip(heights, norms, strict=True))
    return tuple(float(height / total) for height in heights)


def slope_bound(amplitudes: Sequence[float], smoothness: int) -> float:
    """Return the sum over levels l of height 2^l sup abs(b'), which bounds every first derivative of the sum."""
    return sum(height * 2.0**level for level, height in enumerate(amplitudes, start=1)) * bump_peaks(smoothness)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelBumps:
    """Signed heights of every cell, [streams, 2^(level m)] per level, ready to be evaluated."""

    tables: list[Tensor]
    power: int

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return y(x, I), [streams, instances, points, 1]."""
        coordinates = [*(x[..., d] for d in range(x.shape[-1]))]
        coordinates += [conditioning[..., None, d] for d in range(conditioning.shape[-1])]
        total = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        for level, table in enumerate(self.tables, start=1):
            total += evaluate_bumps(table, coordinates, 2**level, self.power)
        return total.unsqueeze(-1)

    def slope_intervals(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the first stream's derivatives lie between over boxes of (x, I), [boxes, m] both."""
        low, high = torch.zeros_like(lower), torch.zeros_like(upper)
        for level, table in enumerate(self.tables, start=1):
            least, most = bump_slopes(table, lower, upper, 2**level, self.power)
            low += least
            high += most
        return low, high
