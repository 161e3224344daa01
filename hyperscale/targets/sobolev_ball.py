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
from hyperscale.targets.target import PreparedTarget, Target

_MAX_CELLS = 2**22


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
        check_integer("SobolevBall.smoothness", self.smoothness, 1)
        check_integer("SobolevBall.levels", self.levels, 1)
        check_integer("SobolevBall.seed", self.seed, 0)
        if 2 ** (self.levels * self.num_dims) > _MAX_CELLS:
            raise StudyError(
                f"SobolevBall has {self.levels} levels in {self.num_dims} dimensions, "
                f"2^{self.levels * self.num_dims} cells; allowed: at most 2^22. Take fewer levels."
            )

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
        return _amplitudes(self.num_dims, self.smoothness, self.levels)

    @property
    def resolution(self) -> float | None:
        """The height of the finest bumps."""
        return self.amplitudes[-1]

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
        return _Bumps(tables=[table.to(device) for table in tables], power=self.smoothness + 1)

    def columns(self) -> dict[str, str | int | float]:
        """Add smoothness, levels and seed."""
        row = Target.columns(self)
        return {**row, "smoothness": self.smoothness, "levels": self.levels, "target_seed": self.seed}


@functools.lru_cache(maxsize=64)
def _amplitudes(num_dims: int, smoothness: int, levels: int) -> tuple[float, ...]:
    bump = np.polynomial.Polynomial([1.0, 0.0, -1.0]) ** (smoothness + 1)
    peaks = [_peak(bump.deriv(order) if order else bump) for order in range(smoothness + 1)]
    orders = [k for k in itertools.product(range(smoothness + 1), repeat=num_dims) if sum(k) <= smoothness]
    norms = [
        sum(2.0 ** (level * sum(k)) * np.prod([peaks[i] for i in k]) for k in orders) for level in range(1, levels + 1)
    ]
    heights = [2.0 ** (-smoothness * level) for level in range(1, levels + 1)]
    total = sum(height * norm for height, norm in zip(heights, norms, strict=True))
    return tuple(float(height / total) for height in heights)


def _peak(polynomial: np.polynomial.Polynomial) -> float:
    """Return the largest absolute value of a polynomial on [-1, 1]."""
    roots = polynomial.deriv().roots() if polynomial.degree() > 0 else np.array([])
    inside = roots[np.isreal(roots)].real if len(roots) else roots
    points = np.concatenate([[-1.0, 1.0], inside[np.abs(inside) <= 1]])
    return float(np.abs(polynomial(points)).max())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bumps:
    """Signed heights of every cell, [streams, 2^(level m)] per level, ready to be evaluated."""

    tables: list[Tensor]
    power: int

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        coordinates = [*(x[..., d] for d in range(x.shape[-1]))]
        coordinates += [conditioning[..., None, d] for d in range(conditioning.shape[-1])]
        total = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        for level, table in enumerate(self.tables, start=1):
            cell: Tensor | None = None
            height: Tensor | None = None
            for coordinate in coordinates:
                position = (coordinate + 1).mul_(2.0 ** (level - 1))
                index = position.floor().clamp_(0, 2**level - 1)
                local = position.sub_(index).mul_(2).sub_(1)
                bump = local.square_().neg_().add_(1).pow_(self.power)
                index = index.to(torch.int64)
                cell = index if cell is None else (cell * 2**level).add_(index)
                height = bump if height is None else height * bump
            assert cell is not None
            assert height is not None
            signs = table.to(x.dtype).gather(1, cell.flatten(1)).view_as(cell)
            total += signs * height
        return total.unsqueeze(-1)
