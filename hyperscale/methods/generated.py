"""g(x; f(I)) in training: g's weights generated for every I, or contracted with x where that is cheaper."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperscale.methods.packed import layers_of
from hyperscale.networks.activations import Activation, activate_, differentiate_
from hyperscale.networks.backprop import affine, affine_input_gradient, backward, differentiate_affine, forward
from hyperscale.networks.mlp import Layer, Shape


class Generated:
    """f gives the weights of g, once per I; g's gradient goes back through them into f."""

    def __init__(self, f: Shape, g: Shape, activation: Activation, params: Tensor, gradient: Tensor) -> None:
        self.g, self.activation = g, activation
        self.layers, self.gradients = layers_of(f, params), layers_of(f, gradient)
        self._theta_gradient = torch.empty(0, device=params.device)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Generate g's weights for every I and evaluate g on that I's points."""
        self._values = forward(self.layers, features, self.activation)
        theta = self._values[-1]
        if self._theta_gradient.shape != theta.shape:
            self._theta_gradient = torch.empty_like(theta)
            self._g_gradients = layers_of(self.g, self._theta_gradient.view(-1, theta.shape[-1]))
        self._g_layers = layers_of(self.g, theta.flatten(0, 1))
        self._g_values = forward(self._g_layers, x.flatten(0, 1), self.activation)
        return self._g_values[-1].unflatten(0, x.shape[:2])

    def backward(self, grad: Tensor) -> None:
        """Fill f's gradient by way of the generated weights'."""
        backward(self._g_layers, self._g_gradients, self._g_values, grad.flatten(0, 1), self.activation)
        backward(self.layers, self.gradients, self._values, self._theta_gradient, self.activation)


class Contracted:
    """The same function for one x per I, without building g's first weight matrix.

    With s = f's last hidden layer and W_h the weights that carry unit h into g's first matrix, x (sum_h s_h W_h) is
    computed as sum_h s_h (x W_h). It saves writing and reading x_dim numbers per I and unit of g, and one of three
    large products, since x needs no gradient. The rest of g is generated as usual. g must have a hidden layer.
    """

    def __init__(self, f: Shape, g: Shape, activation: Activation, params: Tensor, gradient: Tensor) -> None:
        self.activation = activation
        x_dim, width, self.has_bias = g.layers[0]
        self.width = width
        self.rest = Shape(sizes=g.sizes[1:], biases=g.biases[1:])
        self.layers, self.gradients = layers_of(f, params), layers_of(f, gradient)
        self.first, self.last = _part(self.layers.pop(), x_dim, width)
        self.first_gradient, self.last_gradient = _part(self.gradients.pop(), x_dim, width)
        self._theta_gradient = self._columns = torch.empty(0, device=params.device)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Evaluate; x is [members, instances, 1, x_dim]."""
        self._x = x.squeeze(2)
        self._values = [features]
        for layer in self.layers:
            self._values.append(activate_(affine(self._values[-1], layer), self.activation))
        theta = affine(self._values[-1], self.last)
        if self._theta_gradient.shape != theta.shape:
            self._theta_gradient = torch.empty_like(theta)
        self._hidden = self._contract(self._values[-1])
        if self.has_bias:
            self._hidden += theta[..., : self.width]
        activate_(self._hidden, self.activation)
        self._g_layers, self._g_gradients = (self._rest_of(part) for part in (theta, self._theta_gradient))
        self._g_values = forward(self._g_layers, self._hidden.flatten(0, 1).unsqueeze(1), self.activation)
        return self._g_values[-1].unflatten(0, x.shape[:2])

    def _rest_of(self, theta: Tensor) -> list[Layer]:
        flat = theta.view(-1, theta.shape[-1])  # never a copy: gradients are put into it
        return layers_of(self.rest, flat[:, self.width :] if self.has_bias else flat)

    def _contract(self, s: Tensor) -> Tensor:
        """Return g's first pre-activations, bias apart, and keep x W for every unit of f."""
        weight, bias = self.first
        members, units, x_dim, width = weight.shape
        if self._columns.numel() == 0:
            self._columns = torch.empty(members, x_dim, units, width, dtype=weight.dtype, device=weight.device)
        self._columns.copy_(weight.transpose(1, 2))
        self._products = affine(self._x, (self._columns.flatten(2), None)).view(-1, units, width)
        hidden = torch.bmm(s.reshape(-1, 1, units), self._products).view(*s.shape[:2], width)
        if bias is None:
            return hidden
        if width == 1:  # one column, as in `affine`
            return hidden.add_(affine(self._x, (bias, None)))
        return hidden.baddbmm_(self._x, bias)

    def backward(self, grad: Tensor) -> None:
        """Fill f's gradient: the rest of g by way of its generated weights, its first layer directly."""
        back = backward(
            self._g_layers, self._g_gradients, self._g_values, grad.flatten(0, 1), self.activation, input_gradient=True
        )
        assert back is not None
        differentiate_(back, self._g_values[0], self.activation)
        first = back.view_as(self._hidden)
        if self.has_bias:
            self._theta_gradient[..., : self.width] = first
        s = self._values[-1]
        differentiate_affine(s, self._theta_gradient, self.last_gradient)
        self._differentiate_contraction(s, first)
        if self.layers:
            back = affine_input_gradient(self._theta_gradient, self.last)
            back += torch.bmm(self._products, first.reshape(-1, self.width, 1)).view_as(back)
            differentiate_(back, s, self.activation)
            backward(self.layers, self.gradients, self._values, back, self.activation)

    def _differentiate_contraction(self, s: Tensor, first: Tensor) -> None:
        """Fill the gradient of the weights that make g's first matrix."""
        weight, bias = self.first_gradient
        spread = s.unsqueeze(-1) * first.unsqueeze(-2)
        columns = torch.bmm(self._x.mT, spread.flatten(2))
        weight.copy_(columns.view(self._columns.shape).transpose(1, 2))
        if bias is not None:
            torch.bmm(self._x.mT, first, out=bias)


def _part(layer: Layer, x_dim: int, width: int) -> tuple[Layer, Layer]:
    """Split f's last layer into what makes g's first matrix, [members, units, x_dim, width], and the rest."""
    weight, bias = layer
    size = x_dim * width
    first = weight[:, :, :size].unflatten(-1, (x_dim, width))
    if bias is None:
        return (first, None), (weight[:, :, size:], None)
    return (first, bias[:, :size].unflatten(-1, (x_dim, width))), (weight[:, :, size:], bias[:, size:])
