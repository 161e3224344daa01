"""The Kozachenko-Leonenko estimator of differential entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GUARD = 1e-7


def nearest_distances(points: Tensor) -> Tensor:
    """Return each point's Euclidean distance to its nearest neighbour: [..., N, D] gives [..., N]."""
    gaps = points.unsqueeze(-2) - points.unsqueeze(-3)
    squared = gaps.square().sum(dim=-1)
    own = torch.eye(points.shape[-2], dtype=torch.bool, device=points.device)
    return (squared.masked_fill(own, math.inf).amin(dim=-1) + _GUARD**2).sqrt()


def kozachenko_leonenko(points: Tensor, intrinsic_dim: int) -> Tensor:
    """Estimate the differential entropy in nats of N samples [..., N, D] on a d-dimensional manifold: [...].

    H = psi(N) - psi(1) + log V_d + (d / N) sum_i log eps_i, where eps_i is the distance to the nearest
    neighbour, V_d = pi^(d/2) / Gamma(d/2 + 1) the volume of the unit ball and d = ``intrinsic_dim`` the
    manifold's dimension, not D (Kozachenko & Leonenko, 1987). Scaling the points by c adds
    d log c, up to a guard of 1e-7 on the distances.
    """
    num_points, dim = points.shape[-2], intrinsic_dim
    log_ball = 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1)
    psi = torch.special.digamma(torch.tensor([float(num_points), 1.0], dtype=torch.float64))
    constant = float(psi[0] - psi[1]) + log_ball
    return constant + dim * nearest_distances(points).log().mean(dim=-1)
