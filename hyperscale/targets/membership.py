"""Membership in the theorems' classes, measured: Sobolev norms on a grid, and the selector of a structured target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.targets.grids import grid
from hyperscale.targets.structured import Structured
from hyperscale.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectorMembership:
    """What P_{r,w,c} asks of a selector W P: the largest Sobolev norm of P's coordinates, and ||W||_1."""

    coordinate_norm: float
    matrix_norm: float


def sobolev_norm(target: Target, seed: int = 0, points_per_dim: int = 257) -> float:
    """Return sup abs(y) + sum_{1 <= abs(k) <= r} sup abs(D^k y) over an equispaced grid of [-1, 1]^m.

    Derivatives are exact, by automatic differentiation; the suprema over a grid are lower bounds, so this is a
    lower bound of the norm of W_{r,m} ("On the Modularity of Hypernetworks", section 3). ``seed`` is the trial's.
    """
    prepared = target.prepare([target], [seed], "cpu")

    def evaluate(u: Tensor) -> Tensor:
        x, conditioning = u[None, :, None, : target.x_dim], u[None, :, target.x_dim :]
        return prepared.evaluate(x, conditioning).flatten()

    return function_norm(evaluate, grid(target.x_dim + target.conditioning_dim, points_per_dim), target.smoothness)


def function_norm(evaluate: Callable[[Tensor], Tensor], u: Tensor, order: int) -> float:
    """Return the sum over abs(k) <= order of the largest abs(D^k f) at the points u [N, m]; f maps u to [N]."""
    u = u.clone().requires_grad_()
    values = evaluate(u)
    total = float(values.detach().abs().max())
    frontier = {(0,) * u.shape[1]: values}
    for _ in range(order):
        following: dict[tuple[int, ...], Tensor] = {}
        for k, values in frontier.items():
            (gradient,) = torch.autograd.grad(values.sum(), u, create_graph=True)
            for d in range(u.shape[1]):
                following[tuple(a + (i == d) for i, a in enumerate(k))] = gradient[:, d]
        total += sum(float(v.detach().abs().max()) for v in following.values())
        frontier = following
    return total


def selector_membership(target: Structured, points_per_dim: int = 257) -> SelectorMembership:
    """Return the largest measured norm of P_2, ..., P_w in W_{r,m2} (P_1 = 1 has norm 1), and the induced ||W||_1."""
    selector = target.prepare_selector([target], "cpu")
    points = grid(target.conditioning_dim, points_per_dim)
    count = target.effective_dim - 1

    def coordinate(index: int) -> Callable[[Tensor], Tensor]:
        def evaluate(u: Tensor) -> Tensor:
            repeated = u[None, :, None].expand(count, -1, -1, -1)
            return selector.evaluate(repeated, repeated[:, :, 0, :0])[index, :, 0, 0]

        return evaluate

    norm = max(function_norm(coordinate(index), points, target.smoothness) for index in range(count))
    return SelectorMembership(coordinate_norm=norm, matrix_norm=float(target.selector_matrix().abs().sum(dim=0).max()))
