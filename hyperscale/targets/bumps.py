"""Bumps in the cells of a grid of the cube: their peaks, their Sobolev norm, and the sum of them that a table gives.

With the position t in [-1, 1] in a cell, b(t) = (1 - t^2)^(r+1) is C^r; a cell's bump is the product of b over the
dimensions. With d cells per dimension dt/du = d, so sup abs(D^k) of the bump is d^abs(k) times the peaks' product.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


@functools.lru_cache(maxsize=64)
def bump_peaks(smoothness: int) -> tuple[float, ...]:
    """Return sup abs(b^(i)) of b(t) = (1 - t^2)^(r+1) on [-1, 1] for i = 0, ..., r."""
    bump = np.polynomial.Polynomial([1.0, 0.0, -1.0]) ** (smoothness + 1)
    return tuple(_peak(bump.deriv(order) if order else bump) for order in range(smoothness + 1))


def _peak(polynomial: np.polynomial.Polynomial) -> float:
    """Return the largest absolute value of a polynomial on [-1, 1]."""
    roots = polynomial.deriv().roots() if polynomial.degree() > 0 else np.array([])
    inside = roots[np.isreal(roots)].real if len(roots) else roots
    points = np.concatenate([[-1.0, 1.0], inside[np.abs(inside) <= 1]])
    return float(np.abs(polynomial(points)).max())


@functools.lru_cache(maxsize=1024)
def grid_norm(num_dims: int, smoothness: int, cells: int) -> float:
    """Return sum over abs(k) <= r of sup abs(D^k y) for bumps of height 1, any signs, on a grid of ``cells``^m."""
    peaks = bump_peaks(smoothness)
    orders = [k for k in itertools.product(range(smoothness + 1), repeat=num_dims) if sum(k) <= smoothness]
    return float(sum(float(cells) ** sum(k) * np.prod([peaks[i] for i in k]) for k in orders))


def evaluate_bumps(table: Tensor, coordinates: Sequence[Tensor], cells: int, power: int) -> Tensor:
    """Return the sum over cells of height times bump at the points: the coordinates' broadcast shape [streams, ...].

    ``table`` [streams, cells^m] holds the signed heights, the last dimension running fastest.
    """
    cell: Tensor | None = None
    height: Tensor | None = None
    for coordinate in coordinates:
        position = (coordinate + 1).mul_(cells / 2)
        index = position.floor().clamp_(0, cells - 1)
        local = position.sub_(index).mul_(2).sub_(1)
        bump = local.square_().neg_().add_(1).pow_(power)
        index = index.to(torch.int64)
        cell = index if cell is None else (cell * cells).add_(index)
        height = bump if height is None else height * bump
    assert cell is not None
    assert height is not None
    return table.to(height.dtype).gather(1, cell.flatten(1)).view_as(cell) * height
