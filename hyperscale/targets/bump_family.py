"""The hard family of the lower bounds: one signed bump in every cell of a grid, the grid as fine as a study asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_choice, check_integer, count_text
from hyperscale.seeding import random_signs, stream_keys
from hyperscale.targets.bumps import bump_peaks, bump_slopes, evaluate_bumps, grid_norm
from hyperscale.targets.sign_search import MAX_SEARCHED_CELLS, search_signs
from hyperscale.targets.target import PreparedTarget, Target, check_smoothness

Signs = Literal["random", "alternating", "adversarial"]
_MAX_CELLS = 2**22


@dataclass(frozen=True, kw_only=True, slots=True)
class BumpFamily(Target):
    """y(u) = h sum_cells s_cell prod_d b(t_d) on a grid of ``cells`` cells per dimension, u = (x, I) in [-1, 1]^m.

    t in [-1, 1] is the position in the cell and b(t) = (1 - t^2)^(r+1). The height h = 1 / sum_{abs(k) <= r}
    cells^abs(k) prod_d sup abs(b^(k_d)) makes the Sobolev norm sup abs(y) + sum_{1 <= abs(k) <= r} sup abs(D^k y)
    equal to 1 for all signs, every supremum being attained in every cell; h cells^r tends to a constant, so the
    height is of order cells^-r (DeVore, Howard & Micchelli 1989; "On the Modularity of Hypernetworks", Theorem 1).

    One member resolves errors down to h only. In a study ``cells`` grows with the number of parameters N
    (cells^m of order N): each size has its own target, and the errors together follow the family's rate.

    ``signs``: ``random`` from ``seed``; ``alternating``, a checkerboard (``seed`` plays no part); ``adversarial``,
    the random ones improved by `search_signs`, at most 2^14 cells.
    """

    cells: int
    smoothness: int = 1
    signs: Signs = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields and the number of cells."""
        Target.__post_init__(self)
        check_integer("BumpFamily.cells", self.cells, 1)
        check_integer("BumpFamily.seed", self.seed, 0)
        check_choice("BumpFamily.signs", self.signs, ("random", "alternating", "adversarial"))
        allowed = MAX_SEARCHED_CELLS if self.signs == "adversarial" else _MAX_CELLS
        if self.num_cells > allowed:
            raise StudyError(
                f"BumpFamily has {self.cells} cells in each of {self.num_dims} dimensions, "
                f"{count_text(self.num_cells)} in all; allowed with {self.signs} signs: at most {allowed}. "
                "Take fewer cells."
            )
        check_smoothness("BumpFamily.smoothness", self.smoothness, self.num_dims)

    @property
    def num_dims(self) -> int:
        """The dimension m = x_dim + conditioning_dim."""
        return self.x_dim + self.conditioning_dim

    @property
    def num_cells(self) -> int:
        """The number of bumps, cells^m."""
        return int(self.cells**self.num_dims)

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Uniform on the cube."""
        return "uniform"

    @property
    def is_hard_family(self) -> bool:
        """True: every cell carries a bump."""
        return True

    @property
    def varies_with_seed(self) -> bool:
        """False: the target has a seed of its own."""
        return False

    @property
    def height(self) -> float:
        """The height h of every bump."""
        return 1 / grid_norm(self.num_dims, self.smoothness, self.cells)

    @property
    def resolution(self) -> float | None:
        """The height of the bumps."""
        return self.height

    def slope_bounds(self) -> tuple[float, ...] | None:
        """Return h cells sup abs(b') for every direction; it is attained."""
        return (self.height * self.cells * bump_peaks(self.smoothness)[1],) * self.num_dims

    def program(self) -> object:
        """Everything but the seed."""
        return ("BumpFamily", self.x_dim, self.conditioning_dim, self.smoothness, self.cells, self.signs)

    def sign_table(self) -> Tensor:
        """Return the sign of every cell, float64 [cells^m], the last dimension of (x, I) running fastest."""
        if self.signs == "alternating":
            index = torch.arange(self.num_cells)
            parity = sum(index // self.cells**d % self.cells for d in range(self.num_dims)) % 2
            return 1.0 - 2.0 * torch.as_tensor(parity, dtype=torch.float64)
        if self.signs == "adversarial":
            return torch.tensor(search_signs(self.num_dims, self.cells, self.seed), dtype=torch.float64)
        return random_signs(stream_keys([self.seed], "target", "signs", self.cells), self.num_cells)[0]

    def prepare(self, targets: Sequence[BumpFamily], seeds: Sequence[int], device: str) -> PreparedTarget:  # noqa: ARG002
        """Make the table of every stream's target; the trials' own seeds play no part."""
        table = self.height * torch.stack([target.sign_table() for target in targets])
        return _GridBumps(table=table.to(device), cells=self.cells, power=self.smoothness + 1)

    def columns(self) -> dict[str, str | int | float]:
        """Add smoothness, cells, signs and seed."""
        row = {**Target.columns(self), "smoothness": self.smoothness, "cells": self.cells}
        return {**row, "signs": self.signs, "target_seed": self.seed}


@dataclass(frozen=True, kw_only=True, slots=True)
class _GridBumps:
    """Signed heights of every cell, [streams, cells^m], ready to be evaluated."""

    table: Tensor
    cells: int
    power: int

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        coordinates = [*(x[..., d] for d in range(x.shape[-1]))]
        coordinates += [conditioning[..., None, d] for d in range(conditioning.shape[-1])]
        return evaluate_bumps(self.table, coordinates, self.cells, self.power).unsqueeze(-1)

    def slope_intervals(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return bump_slopes(self.table, lower, upper, self.cells, self.power)
