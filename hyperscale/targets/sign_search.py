"""A search for signs of a grid's bumps that a network with as many parameters as bumps approximates badly."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch

from hyperscale.seeding import random_signs, stream_keys, uniform_between

Array = npt.NDArray[np.float64]

MAX_SEARCHED_CELLS = 2**14
_MAX_RIDGES = 1024
_SWEEPS = 8
_LEAST_GAIN = 1e-9


@functools.lru_cache(maxsize=32)
def search_signs(num_dims: int, cells: int, seed: int) -> Array:
    """Return signs [cells^m] at which no single flip worsens the best fit by fixed random ridge functions further.

    The proxy of the network class is the span of 1 and K functions relu(a . u - b) with random a, b, where
    K = cells^m / (m + 2), at most 1024: a network of that width has about as many parameters as there are bumps.
    With Q an orthonormal basis of the span at the cells' centres, the squared residual of signs s is
    n - abs(Q^T s)^2; flipping s_i changes abs(Q^T s)^2 by 4 abs(q_i)^2 - 4 s_i q_i . Q^T s. Starting from the seed's
    random signs, every flip that lowers it is taken, cell by cell, for at most 8 sweeps.

    A span of fixed features is used because its best error is a projection, exact and cheap, where the best error
    of a trained network is neither; random ridges of a network's size share its preference for slow variation
    along few directions, which the search removes from s. It is a heuristic: the signs are hard for this proxy,
    and for other classes only as far as they resemble it. Gains under 1e-9 are not taken, so that the rounding of
    different linear algebra libraries does not decide.
    """
    count = cells**num_dims
    signs = random_signs(stream_keys([seed], "target", "signs", cells), count)[0].numpy().copy()
    basis = ridge_basis(num_dims, cells, min(_MAX_RIDGES, count // (num_dims + 2)))
    projection = basis.T @ signs
    squares = np.einsum("ij,ij->i", basis, basis)
    for _ in range(_SWEEPS):
        flips = 0
        for i in range(count):
            row = basis[i]
            if signs[i] * float(row @ projection) - squares[i] > _LEAST_GAIN:
                projection -= 2 * signs[i] * row
                signs[i] = -signs[i]
                flips += 1
        if not flips:
            break
    signs.setflags(write=False)
    return signs


def ridge_basis(num_dims: int, cells: int, num_ridges: int, seed: int = 0) -> Array:
    """Return an orthonormal basis [cells^m, columns] of 1 and the ridge functions at the centres of the cells."""
    axis = (2 * np.arange(cells) + 1) / cells - 1
    centres = np.stack(np.meshgrid(*[axis] * num_dims, indexing="ij"), axis=-1).reshape(-1, num_dims)
    keys = stream_keys([seed], "target", "ridges", num_dims)
    draws = uniform_between(keys, num_ridges * 2 * num_dims, -1, 1, torch.float64)[0].numpy()
    direction, anchor = draws.reshape(2, num_ridges, num_dims)
    ridges = np.maximum(centres @ direction.T - np.einsum("kd,kd->k", direction, anchor), 0)
    features = np.concatenate([np.ones((len(centres), 1)), ridges], axis=1)
    features = features[:, np.abs(features).max(axis=0) > 0]
    orthonormal, triangle = np.linalg.qr(features)
    diagonal = np.abs(np.diag(triangle))
    return np.ascontiguousarray(orthonormal[:, diagonal > 1e-9 * diagonal.max()])


def relative_residual(signs: Array, basis: Array) -> float:
    """Return the root-mean-square residual of the signs' least-squares fit by the basis, between 0 and 1."""
    return float(np.sqrt(max(0.0, 1 - float(np.sum((basis.T @ signs) ** 2)) / len(signs))))
