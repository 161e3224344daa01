"""Knots that give every piece the same share of a density, for smooth targets: de Boor's equidistribution."""

from __future__ import annotations

import numpy as np

from hyperscale.training.splines import Array, separated

_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # second differences below this share of max abs(y) count as 0
_FLOOR = 1e-3  # of the mean density: pieces stay finite where y is straight


def second_differences(y: Array) -> Array:
    """Return abs(y_{i-1} - 2 y_i + y_{i+1}), [..., points - 2], of samples ``y`` [..., points]; rounding as 0."""
    size = np.abs(np.diff(y, n=2, axis=-1))
    size[size < _ROUNDING * np.abs(y).max(axis=-1, keepdims=True)] = 0.0
    return size


def equidistributed(differences: Array, shares: Array) -> Array:
    """Return knots [problems, k] with the ``shares`` [problems, k] of the integral of abs(y'')^(1/2) before them.

    The best line on a piece of length h errs by about h^2 abs(y'') / 16, so that errors are equal where the integrals
    of abs(y'')^(1/2) are (de Boor, "Good approximation by splines with variable knots", 1973). ``differences``
    [problems, points - 2] are the second differences on the equispaced grid of [-1, 1]; a kink's weight falls with
    the grid's spacing. Where y is straight throughout, the knots have equal distances.
    """
    density = np.sqrt(np.pad(differences, ((0, 0), (1, 1)), mode="edge"))
    total = np.cumsum(density, axis=1)[:, -1:]
    density += np.where(total > 0, _FLOOR * total / density.shape[1], 1.0)
    sums = np.zeros_like(density)
    np.cumsum(0.5 * (density[:, 1:] + density[:, :-1]), axis=1, out=sums[:, 1:])
    x = np.linspace(-1.0, 1.0, density.shape[1])
    rows = zip(shares, sums, strict=True)
    return separated(np.stack([np.interp(share * row[-1], row, x) for share, row in rows]))
