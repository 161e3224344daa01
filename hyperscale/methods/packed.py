"""Methods on stacked parameters in training: a forward pass, and a backward pass into a flat gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation
from hyperscale.networks.backprop import backward, forward
from hyperscale.networks.mlp import Layer, Shape


class PackedModel(Protocol):
    """A method bound to a pack's ``params`` and ``gradient``, both [members, num_params] and changed in place."""

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return h(x, I), [members, instances, points, output_dim], and keep what `backward` needs.

        The caller may change what is returned.
        """

    def backward(self, grad: Tensor) -> None:
        """Fill the gradient from dL/dh of the last `forward`; member i's from row i alone."""


class Differentiated:
    """Any method, by automatic differentiation of its plain form: what a new method has for nothing."""

    def __init__(self, respond: Callable[[Tensor, Tensor, Tensor], Tensor], params: Tensor, gradient: Tensor) -> None:
        self.respond, self.params, self.gradient = respond, params, gradient

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Run the plain form on parameters that want a gradient."""
        with torch.enable_grad():
            self._leaf = self.params.detach().requires_grad_()
            self._output = self.respond(self._leaf, x, features)
        return self._output.detach().clone()

    def backward(self, grad: Tensor) -> None:
        """Copy the gradient into its place."""
        (gradient,) = torch.autograd.grad(self._output, self._leaf, grad)
        self.gradient.copy_(gradient)


def layers_of(shape: Shape, flat: Tensor) -> list[Layer]:
    """View flat parameters [networks, num_params], as stacked layers [networks, fan_in, fan_out]; no copies."""
    layers: list[Layer] = []
    start = 0
    for fan_in, fan_out, has_bias in shape.layers:
        stop = start + fan_in * fan_out
        weight = flat[:, start:stop].unflatten(-1, (fan_in, fan_out))
        layers.append((weight, flat[:, stop : stop + fan_out] if has_bias else None))
        start = stop + has_bias * fan_out
    return layers


class Joint:
    """One plain network on [x, I]."""

    def __init__(self, shape: Shape, activation: Activation, params: Tensor, gradient: Tensor) -> None:
        self.activation = activation
        self.layers, self.gradients = layers_of(shape, params), layers_of(shape, gradient)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Evaluate on the concatenation, all points of a member at once."""
        beside = features.unsqueeze(-2).expand(*x.shape[:-1], features.shape[-1])
        self._values = forward(self.layers, torch.cat((x, beside), dim=-1).flatten(1, 2), self.activation)
        return self._values[-1].unflatten(1, x.shape[1:3])

    def backward(self, grad: Tensor) -> None:
        """Fill the gradient."""
        backward(self.layers, self.gradients, self._values, grad.flatten(1, 2), self.activation)


class Separate:
    """A network of its own for every instance: members times instances stacked networks."""

    def __init__(self, shape: Shape, activation: Activation, params: Tensor, gradient: Tensor) -> None:
        self.activation = activation
        self.layers = layers_of(shape, params.reshape(-1, shape.num_params))
        self.gradients = layers_of(shape, gradient.view(-1, shape.num_params))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:  # noqa: ARG002
        """Evaluate every instance's network on its own points."""
        self._values = forward(self.layers, x.flatten(0, 1), self.activation)
        return self._values[-1].unflatten(0, x.shape[:2])

    def backward(self, grad: Tensor) -> None:
        """Fill the gradient."""
        backward(self.layers, self.gradients, self._values, grad.flatten(0, 1), self.activation)
