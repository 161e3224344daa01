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


def bump_slopes(table: Tensor, lower: Tensor, upper: Tensor, cells: int, power: int) -> tuple[Tensor, Tensor]:
    """Return what every derivative of the sum of bumps lies between over boxes, [boxes, m] both.

    ``table`` [1, cells^m] as in `evaluate_bumps`; ``lower`` and ``upper`` [boxes, m] are the boxes' corners. The
    derivative along d is height * cells * b'(t_d) prod over other e of b(t_e). Within one cell all factors are bounded
    with their signs; over several cells the sign is not known, and the largest size counts both ways.
    """
    position, end = (lower + 1) * (cells / 2), (upper + 1) * (cells / 2)
    index = position.floor().clamp(0, cells - 1)
    start, stop = ((2 * (place - index) - 1).clamp(-1, 1) for place in (position, end))
    within = (end <= index + 1).all(dim=1)
    spans = end > index + 1
    least, most = _values(start, stop, power)
    low, high = _derivatives(start, stop, power)
    (peak,) = _derivatives(-torch.ones_like(low[:1, :1]), torch.ones_like(low[:1, :1]), power)[1][0]
    least, most = torch.where(spans, 0.0, least), torch.where(spans, 1.0, most)
    low, high = torch.where(spans, -peak, low), torch.where(spans, peak, high)
    places = index[:, 0].long()
    for coordinate in range(1, index.shape[1]):
        places = places * cells + index[:, coordinate].long()
    heights = table[0].to(lower)
    signed = cells * torch.where(within, heights[places], heights.abs().amax())[:, None]
    small, large = _products_of_others(least), _products_of_others(most)
    low, high = torch.minimum(low * small, low * large), torch.maximum(high * small, high * large)
    size = torch.maximum(-low, high)
    low, high = torch.where(within[:, None], low, -size), torch.where(within[:, None], high, size)
    return torch.minimum(signed * low, signed * high), torch.maximum(signed * low, signed * high)


def _values(start: Tensor, stop: Tensor, power: int) -> tuple[Tensor, Tensor]:
    """Return the least and the largest b(t) for t from ``start`` to ``stop``."""
    far, near = torch.maximum(start.abs(), stop.abs()), torch.minimum(start.abs(), stop.abs())
    near = torch.where(start * stop <= 0, 0.0, near)
    return (1 - far.square()) ** power, (1 - near.square()) ** power


def _derivatives(start: Tensor, stop: Tensor, power: int) -> tuple[Tensor, Tensor]:
    """Return the least and the largest b'(t) for t from ``start`` to ``stop``: at an end or where b'' is 0."""
    steepest = (2 * power - 1) ** -0.5
    places = [start, stop, torch.clamp(start, -steepest), torch.clamp(start, steepest)]
    slopes = torch.stack([-2 * power * t * (1 - t.square()) ** (power - 1) for t in map(stop.minimum, places)])
    return slopes.amin(dim=0), slopes.amax(dim=0)


def _products_of_others(factors: Tensor) -> Tensor:
    """Return the products over all other columns, [boxes, m]; a column may be 0."""
    columns = factors.unbind(dim=1)
    products = []
    for own in range(len(columns)):
        product = torch.ones_like(columns[0])
        for other, column in enumerate(columns):
            product = product if other == own else product * column
        products.append(product)
    return torch.stack(products, dim=1)
