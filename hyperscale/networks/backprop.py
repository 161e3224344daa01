"""The forward and backward pass of stacked networks written out: no graph, no copies, gradients put in place.

Training the same small network many times is bound by the number of operations and by the memory they touch, not
by arithmetic. Writing the chain rule out saves the bookkeeping of automatic differentiation, lets elementwise steps
overwrite what nobody needs any more, and puts every layer's gradient straight into its place of the flat gradient
[members, num_params], which saves the concatenation. Tests hold it against automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation, activate_, differentiate_
from hyperscale.networks.mlp import Layer

_SMALL_FAN_IN = 4
_NARROW, _MANY_ROWS = 12, 32


def forward(layers: Sequence[Layer], x: Tensor, activation: Activation) -> list[Tensor]:
    """Return the input of every layer and the output, [networks, n, size] each; ``x`` is [networks, n, fan_in]."""
    values = [x]
    for layer in layers[:-1]:
        values.append(activate_(affine(values[-1], layer), activation))
    values.append(affine(values[-1], layers[-1]))
    return values


def backward(
    layers: Sequence[Layer],
    gradients: Sequence[Layer],
    values: Sequence[Tensor],
    grad: Tensor,
    activation: Activation,
    *,
    input_gradient: bool = False,
) -> Tensor | None:
    """Fill ``gradients`` (views shaped as ``layers``) from ``grad`` = dL/d(output); return dL/dx where asked.

    ``values`` are `forward`'s. ``grad`` is overwritten only where it is this function's own.
    """
    for index in range(len(layers) - 1, -1, -1):
        differentiate_affine(values[index], grad, gradients[index])
        if index == 0 and not input_gradient:
            return None
        grad = affine_input_gradient(grad, layers[index])
        if index > 0:
            differentiate_(grad, values[index], activation)
    return grad


def affine(x: Tensor, layer: Layer) -> Tensor:
    """Return ``x W + b``, a new contiguous tensor [networks, n, fan_out], the same bits for one network as for many.

    One output column is summed by hand (a matrix product would take another kernel for one network than for
    several), and so is a single row with a short input (thousands of tiny products are slower than a few passes).
    """
    weight, bias = layer
    if weight.shape[-1] == 1:
        product = (x * weight.mT).sum(dim=-1, keepdim=True)
        return product if bias is None else product.add_(bias.unsqueeze(-2))
    if weight.shape[-2] == 1:
        return x * weight if bias is None else torch.addcmul(bias.unsqueeze(-2), x, weight)
    if x.shape[-2] == 1 and weight.shape[-2] <= _SMALL_FAN_IN:
        columns = [x[..., i : i + 1] for i in range(weight.shape[-2])]
        first = columns[0] * weight[..., 0:1, :]
        result = first if bias is None else first.add_(bias.unsqueeze(-2))
        for i in range(1, len(columns)):
            result.addcmul_(columns[i], weight[..., i : i + 1, :])
        return result
    if _is_narrow(x, weight.shape[-1]):
        product = torch.bmm(weight.mT, x.mT).mT.contiguous()
        return product if bias is None else product.add_(bias.unsqueeze(-2))
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(-2), x, weight)


def differentiate_affine(x: Tensor, grad: Tensor, gradient: Layer) -> None:
    """Put dL/dW = x^T grad and dL/db = sum grad in place."""
    weight, bias = gradient
    if x.shape[-2] == 1:
        torch.mul(x.mT, grad, out=weight)
        if bias is not None:
            bias.copy_(grad.squeeze(-2))
        return
    if weight.shape[-1] == 1:
        torch.sum(x * grad, dim=-2, out=weight.squeeze(-1))
    elif _is_narrow(x, weight.shape[-1]):
        weight.copy_(torch.bmm(grad.mT, x).mT)
    else:
        torch.bmm(x.mT, grad, out=weight)
    if bias is not None:
        torch.sum(grad, dim=-2, out=bias)


def affine_input_gradient(grad: Tensor, layer: Layer) -> Tensor:
    """Return dL/dx = grad W^T, a new tensor [networks, n, fan_in]."""
    weight = layer[0]
    if weight.shape[-1] == 1:
        return grad * weight.mT
    if weight.shape[-2] == 1:
        return (grad * weight).sum(dim=-1, keepdim=True)
    if _is_narrow(grad, weight.shape[-2]):
        return torch.bmm(weight, grad.mT).mT.contiguous()
    if grad.shape[-2] == 1:  # a row may come with strides that send one network to another kernel than several
        grad = grad.squeeze(-2).unsqueeze(-2)
    return torch.bmm(grad, weight.mT)


def _is_narrow(x: Tensor, num_columns: int) -> bool:
    """Whether a product of many rows with few columns is faster the other way round, as it is on CPUs."""
    return num_columns <= _NARROW and x.shape[-2] >= _MANY_ROWS and x.device.type == "cpu"
