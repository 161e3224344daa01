"""Projections of stacked networks onto bounds of their weights' induced L1 norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation
from hyperscale.networks.mlp import Layer, spectral_complexity

_SLACK = 1e-12
_HOMOGENEOUS = ("relu", "leaky_relu", "identity")


def row_norms(weight: Tensor) -> Tensor:
    """Return the L1 norms of the rows of weights [..., fan_in, fan_out]; the largest is the induced L1 norm."""
    return weight.abs().sum(dim=-1)


def slack(numbers: Tensor) -> float:
    """Return by how much, relatively, a bound may be exceeded: so that rounding alone never moves anything."""
    return max(_SLACK, 64 * torch.finfo(numbers.dtype).eps)


def project_network(
    layers: Sequence[Layer], activation: Activation, complexity: float | None, first_layer: float | None = None
) -> None:
    """Bring C = L^(k-1) prod_i |W^i|_1 and |W^1|_1 of stacked networks within their bounds, in place.

    On positively homogeneous activations (ReLU, leaky ReLU, the identity) the units of a network beyond a bound are
    rescaled first, which changes C but not the function (`_rebalance`); only where that is not enough does the function
    shrink, by one factor. On the others, rows of the first weight that are too long go to the nearest point of the L1
    ball, and then, where C is too large, all layers shrink by the same factor. Networks within the bounds are not
    touched.
    """
    if activation in _HOMOGENEOUS and len(layers) > 1:
        _rebalance(layers, activation, complexity or math.inf, first_layer or math.inf)
        return
    if first_layer is not None:
        project_rows(layers[0][0], first_layer)
    if complexity is not None:
        product = spectral_complexity(layers, activation)
        excess = product > complexity * (1 + slack(product))
        factor = torch.where(excess, (complexity / product) ** (1 / len(layers)), 1.0)
        for weight, _ in layers:
            weight.mul_(factor[:, None, None])


def project_rows(weight: Tensor, radius: float) -> None:
    """Move the rows of [members, fan_in, fan_out] with too large an L1 norm to the nearest allowed, in place."""
    excess = row_norms(weight) > radius * (1 + slack(weight))
    if excess.any():
        weight[excess] = project_onto_l1_ball(weight[excess], radius)


def project_onto_l1_ball(rows: Tensor, radius: float) -> Tensor:
    """Return the nearest point, in the Euclidean norm, with L1 norm at most ``radius``, for rows [..., n].

    It is sign(v) max(abs(v) - t, 0) with the one t that gives that norm, found from the sorted entries (Held, Wolfe &
    Crowder 1974; Duchi et al. 2008).
    """
    sizes = rows.abs()
    ordered = sizes.sort(dim=-1, descending=True).values
    counts = torch.arange(1, rows.shape[-1] + 1, dtype=rows.dtype, device=rows.device)
    thresholds = (ordered.cumsum(dim=-1) - radius) / counts
    kept = (ordered > thresholds).sum(dim=-1, keepdim=True).clamp_min(1)
    threshold = thresholds.gather(-1, kept - 1).clamp_min(0)
    result = rows.sign() * (sizes - threshold).clamp_min(0)
    norms = result.abs().sum(dim=-1, keepdim=True)  # what cancellation left above the radius is taken off
    return result * torch.where(norms > radius, radius / norms, 1.0)


def _rebalance(layers: Sequence[Layer], activation: Activation, complexity: float, first_layer: float) -> None:
    """Rescale the units of networks beyond a bound so that C is smallest, then shrink the function as far as needed.

    With s(t z) = t s(z) for t > 0, what comes into a unit may be multiplied by t and what goes out divided by it.
    Done from the last layer back, with t the L1 norm of what goes out, every norm but the first becomes 1 and C the
    largest sum over the paths from one input of abs(products of weights), below which no rescaling can bring it. The
    layers then share C equally, the first within its bound, the biases of hidden units following.
    """
    product = spectral_complexity(layers, activation)
    norm = row_norms(layers[0][0]).amax(dim=-1)
    excess = (product > complexity * (1 + slack(product))) | (norm > first_layer * (1 + slack(norm)))
    if not excess.any():
        return
    weights = [weight[excess] for weight, _ in layers]
    shifts = [None if bias is None else bias[excess] for _, bias in layers]
    for index in range(len(layers) - 1, 0, -1):
        sizes = row_norms(weights[index])
        sizes = torch.where(sizes > 0, sizes, 1.0)
        weights[index] = weights[index] / sizes[..., None]
        weights[index - 1] = weights[index - 1] * sizes[:, None, :]
        if (shift := shifts[index - 1]) is not None:
            shifts[index - 1] = shift * sizes
    paths = row_norms(weights[0]).amax(dim=-1)
    wanted = paths.clamp_max(complexity)
    first = (wanted ** (1 / len(layers))).clamp_max(first_layer)
    later = (wanted / first) ** (1 / (len(layers) - 1))
    scale = torch.ones_like(paths)
    for index, ((weight, bias), own, shift) in enumerate(zip(layers, weights, shifts, strict=True)):
        factor = later if index else first / paths
        scale = scale * factor
        weight[excess] = own * factor[:, None, None]
        if bias is not None and shift is not None and index < len(layers) - 1:
            bias[excess] = shift * scale[:, None]
