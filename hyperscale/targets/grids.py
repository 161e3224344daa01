"""Equispaced grids of the cube."""

from __future__ import annotations

import torch
from torch import Tensor


def grid(dim: int, points: int) -> Tensor:
    """Return the equispaced grid of [-1, 1]^dim with ``points`` per dimension, float64 [points ** dim, dim]."""
    axis = torch.linspace(-1, 1, points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
