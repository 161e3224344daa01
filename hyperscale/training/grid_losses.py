"""Losses of grid fits and their gradients, by the methods' packed forms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hyperscale.methods.method import ConditionedMethod, Dims, Method
from hyperscale.training.grid_fit import GridFit, TrainingGrid


class GridLoss:
    """The loss ``mean |(h - y) / scale|^power`` of every network at ``params``, and its gradient.

    A network is a member, or one of `PerInstance`'s, which share nothing. ``params`` and ``gradient`` [members,
    num_params] lie where they lie; ``mean_squares`` and ``scale`` are [members * num_networks].
    """

    def __init__(self, fit: GridFit, params: Tensor, power: int = 2) -> None:
        assert power % 2 == 0, "an odd power has no smooth gradient at 0"
        self.power, self.y = power, fit.y
        self.gradient = torch.zeros_like(params)
        members, self.networks = len(params), len(params) * fit.num_networks
        self.x = fit.x.expand(members, *fit.x.shape).contiguous()
        self.features = fit.features.expand(members, *fit.features.shape).contiguous()
        self.model = fit.method.packed(fit.dims, params, self.gradient, (fit.x.shape[0], fit.x.shape[1]))
        self.scale = torch.ones(self.networks, dtype=params.dtype, device=params.device)
        self.mean_squares = torch.zeros_like(self.scale)

    def differentiate(self, *, rescale: bool = False) -> Tensor:
        """Return the losses at the parameters, [members * num_networks], and fill the gradient.

        With ``rescale`` the largest residuals become the scale first, so that high powers neither vanish nor overflow.
        """
        residual = self.model.forward(self.x, self.features)
        shape = residual.shape
        flat = residual.view(self.networks, -1)
        flat.sub_(self.y.view(self.networks, -1))
        if rescale:
            largest = flat.abs().amax(dim=1)
            self.scale = torch.where(largest > 0, largest, 1.0)
        flat.div_(self.scale.unsqueeze(1))
        square = flat.square()
        self.mean_squares = square.mean(dim=1) * self.scale.square()
        if self.power > 2:
            factor = whole_power(square, self.power // 2 - 1)  # may be ``square`` itself
            flat *= factor
            square = square * factor
        losses = square.mean(dim=1)
        slope = self.power / (flat.shape[1] * self.scale)
        self.model.backward(flat.mul_(slope.unsqueeze(1)).view(shape))
        return losses


def whole_power(values: Tensor, exponent: int) -> Tensor:
    """Return ``values ** exponent`` for an exponent of at least 1 by products, which are the same bits everywhere."""
    result: Tensor | None = None
    while exponent:
        if exponent & 1:
            result = values if result is None else result * values
        values = values * values if exponent > 1 else values
        exponent >>= 1
    assert result is not None
    return result


def pass_flops(method: Method, dims: Dims, where: TrainingGrid) -> float:
    """Return the operations of one loss and gradient of a member."""
    instances, points = where.num_instances(method, dims), where.x_points**dims.x_dim
    return 2.0 * method.step_multiply_adds(dims, instances, points) + 8.0 * instances * points


def pass_bytes(method: Method, dims: Dims, where: TrainingGrid) -> int:
    """Return what a member's inputs, activations and gradient take in float64."""
    instances, points = where.num_instances(method, dims), where.x_points**dims.x_dim
    numbers = instances * points * (dims.x_dim + 3) + instances * num_features(method, dims)
    numbers += method.num_params_trained(dims)
    return 8 * math.ceil(numbers + 2.2 * method.num_activations(dims, instances, points))


def num_features(method: Method, dims: Dims) -> int:
    """Return how many numbers the networks see of I."""
    encoder = method.encoder if isinstance(method, ConditionedMethod) else None
    return dims.conditioning_dim if encoder is None else encoder.num_features(dims.conditioning_dim)
