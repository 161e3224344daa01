"""Activation functions by name, with the Lipschitz constants that spectral complexity needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["relu", "clipped_relu", "tanh", "sigmoid", "elu", "leaky_relu", "identity"]

_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (torch.relu, 1.0),
    "clipped_relu": (lambda z: z.clamp(0.0, 1.0), 1.0),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 0.25),
    "elu": (torch.nn.functional.elu, 1.0),
    "leaky_relu": (lambda z: torch.nn.functional.leaky_relu(z, 0.05), 1.0),
    "identity": (lambda z: z, 1.0),
}

ACTIVATIONS = tuple(_FUNCTIONS)


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """Return the elementwise function: clipped ReLU is min(max(z, 0), 1), leaky ReLU has slope 0.05."""
    return _FUNCTIONS[name][0]


def lipschitz_constant(name: Activation) -> float:
    """Return the smallest L with abs(s(a) - s(b)) <= L abs(a - b); 1/4 for the sigmoid."""
    return _FUNCTIONS[name][1]
