"""q(x, e(I)) in training: the embedding enters once per I; e's last and q's first layer composed where cheaper."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperscale.methods.packed import layers_of
from hyperscale.networks.activations import Activation, activate_, differentiate_
from hyperscale.networks.backprop import affine, affine_input_gradient, backward, differentiate_affine, forward
from hyperscale.networks.mlp import Layer, Shape

_FEW = 4


class Embedded:
    """``W_x x + W_e e(I) + b`` is q's first layer: the part of I is computed once per I.

    With ``composes``, e's last layer and W_e, both linear, are multiplied first: (s V) W_e becomes s (V W_e). Worth it
    where the embedding is long and q's first layer narrow, and possible only while ``embedding_activation``, which
    is applied to e's output, is the identity.
    """

    def __init__(
        self,
        shapes: tuple[Shape, Shape],
        activation: Activation,
        params: Tensor,
        gradient: Tensor,
        *,
        composes: bool,
        embedding_activation: Activation = "identity",
    ) -> None:
        assert embedding_activation == "identity" or not composes
        e, q = shapes
        self.activation, self.composes, self.embedding_activation = activation, composes, embedding_activation
        parts = [flat.split([e.num_params, q.num_params], dim=-1) for flat in (params, gradient)]
        (self.e, self.q), (self.e_gradient, self.q_gradient) = ((layers_of(e, a), layers_of(q, b)) for a, b in parts)
        x_dim = q.sizes[0] - e.sizes[-1]
        self.first = _rows(self.q.pop(0), x_dim)
        self.first_gradient = _rows(self.q_gradient.pop(0), x_dim)
        if composes:
            self.last, self.last_gradient = self.e.pop(), self.e_gradient.pop()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Evaluate e once per I and q on that I's points."""
        self._x = x
        if self.composes:
            self._values = [features]
            for layer in self.e:
                self._values.append(activate_(affine(self._values[-1], layer), self.activation))
            self._compose()
            shift = affine(self._values[-1], self._composed)
        else:
            self._values = forward(self.e, features, self.activation)
            activate_(self._values[-1], self.embedding_activation)
            shift = affine(self._values[-1], self.first[1])
        hidden = self._first_layer(x, shift)
        if not self.q:
            return hidden.unflatten(1, x.shape[1:3])
        self._q_values = forward(self.q, activate_(hidden, self.activation), self.activation)
        return self._q_values[-1].unflatten(1, x.shape[1:3])

    def _first_layer(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return q's first pre-activations, [members, instances * points, width]."""
        weight = self.first[0][0]
        wide = shift.unsqueeze(2)
        if weight.shape[1] > _FEW:
            own = affine(x.flatten(1, 2), (weight, None))
            own.unflatten(1, x.shape[1:3]).add_(wide)
            return own
        hidden = torch.addcmul(wide, x[..., 0:1], weight[:, None, 0:1])
        for i in range(1, weight.shape[1]):
            hidden.addcmul_(x[..., i : i + 1], weight[:, None, i : i + 1])
        return hidden.flatten(1, 2)

    def _compose(self) -> None:
        (last, last_bias), (weight, bias) = self.last, self.first[1]
        matrix = affine(last, (weight, None))
        if last_bias is not None:
            through = affine(last_bias.unsqueeze(1), (weight, None)).squeeze(1)
            bias = through if bias is None else through + bias
        self._composed: Layer = (matrix, bias)

    def backward(self, grad: Tensor) -> None:
        """Fill the gradients of q and e."""
        grad = grad.flatten(1, 2)
        if self.q:
            back = backward(self.q, self.q_gradient, self._q_values, grad, self.activation, input_gradient=True)
            assert back is not None
            differentiate_(back, self._q_values[0], self.activation)
            grad = back
        differentiate_affine(self._x.flatten(1, 2), grad, self.first_gradient[0])
        shift = grad.unflatten(1, self._x.shape[1:3])
        shift = shift.squeeze(2) if shift.shape[2] == 1 else shift.sum(dim=2)
        if self.composes:
            self._differentiate_composed(shift)
            if not self.e:
                return
            back = affine_input_gradient(shift, self._composed)
            differentiate_(back, self._values[-1], self.activation)
        else:
            differentiate_affine(self._values[-1], shift, self.first_gradient[1])
            back = affine_input_gradient(shift, self.first[1])
            differentiate_(back, self._values[-1], self.embedding_activation)
        backward(self.e, self.e_gradient, self._values, back, self.activation)

    def _differentiate_composed(self, shift: Tensor) -> None:
        """Fill the gradients of e's last layer and of W_e by way of their product's."""
        s, (last, last_bias), (weight, _) = self._values[-1], self.last, self.first[1]
        (last_gradient, last_bias_gradient), (weight_gradient, bias_gradient) = (
            self.last_gradient,
            self.first_gradient[1],
        )
        matrix = torch.empty_like(self._composed[0])
        differentiate_affine(s, shift, (matrix, None))
        torch.bmm(matrix, weight.mT, out=last_gradient)
        differentiate_affine(last, matrix, (weight_gradient, None))
        through = shift.sum(dim=1)
        if bias_gradient is not None:
            bias_gradient.copy_(through)
        if last_bias is not None and last_bias_gradient is not None:
            last_bias_gradient.copy_(affine_input_gradient(through.unsqueeze(1), (weight, None)).squeeze(1))
            weight_gradient += last_bias.unsqueeze(-1) * through.unsqueeze(1)


def _rows(layer: Layer, x_dim: int) -> tuple[Layer, Layer]:
    """Split q's first layer into the rows of x, without bias, and the rows of the embedding, with it."""
    weight, bias = layer
    return (weight[:, :x_dim], None), (weight[:, x_dim:], bias)
