"""Activation functions by name, with the Lipschitz constants that spectral complexity needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["relu", "clipped_relu", "tanh", "sigmoid", "elu", "leaky_relu", "identity"]

_LEAK = 0.05

_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (torch.relu, 1.0),
    "clipped_relu": (lambda z: z.clamp(0.0, 1.0), 1.0),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 0.25),
    "elu": (torch.nn.functional.elu, 1.0),
    "leaky_relu": (lambda z: torch.nn.functional.leaky_relu(z, _LEAK), 1.0),
    "identity": (lambda z: z, 1.0),
}

_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "clipped_relu": lambda z: z.clamp_(0.0, 1.0),
    "tanh": torch.tanh_,
    "sigmoid": torch.sigmoid_,
    "elu": torch.nn.functional.elu_,
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu_(z, _LEAK),
    "identity": lambda z: z,
}

ACTIVATIONS = tuple(_FUNCTIONS)


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """Return the elementwise function: clipped ReLU is min(max(z, 0), 1), leaky ReLU has slope 0.05."""
    return _FUNCTIONS[name][0]


def activate_(z: Tensor, name: Activation) -> Tensor:
    """Apply the elementwise function in place and return ``z``."""
    return _IN_PLACE[name](z)


def differentiate_(grad: Tensor, value: Tensor, name: Activation) -> None:
    """Multiply ``grad`` in place by the function's derivative, given its ``value`` s(z) instead of z.

    At the corners of ReLU, clipped ReLU and leaky ReLU the derivative is that of the left (0, 0 and the slope).
    """
    aten = torch.ops.aten
    if name == "relu":
        aten.threshold_backward.grad_input(grad, value, 0, grad_input=grad)
    elif name == "tanh":
        aten.tanh_backward.grad_input(grad, value, grad_input=grad)
    elif name == "sigmoid":
        aten.sigmoid_backward.grad_input(grad, value, grad_input=grad)
    elif name == "clipped_relu":
        aten.hardtanh_backward.grad_input(grad, value, 0, 1, grad_input=grad)
    elif name == "elu":
        aten.elu_backward.grad_input(grad, 1.0, 1.0, 1.0, True, value, grad_input=grad)
    elif name == "leaky_relu":
        aten.leaky_relu_backward.grad_input(grad, value, _LEAK, True, grad_input=grad)


def vanishes_at_zero(name: Activation) -> bool:
    """Whether s(0) = 0: a padded unit of such a network stays silent by itself."""
    return name != "sigmoid"


def lipschitz_constant(name: Activation) -> float:
    """Return the smallest L with abs(s(a) - s(b)) <= L abs(a - b); 1/4 for the sigmoid."""
    return _FUNCTIONS[name][1]
