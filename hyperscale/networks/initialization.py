"""Initial parameters of many members at once, each from its own seed's ``init`` stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from hyperscale.networks.mlp import Shape
from hyperscale.seeding import stream_keys, truncated_normal, uniform_between

Scheme = Literal["default", "he_uniform", "truncated_normal"]

Draw = Callable[[Tensor, int, int], Tensor]


def _default(keys: Tensor, count: int, fan_in: int) -> Tensor:
    bound = 1.0 / math.sqrt(fan_in)
    return uniform_between(keys, count, -bound, bound, torch.float64)


def _he_uniform(keys: Tensor, count: int, fan_in: int) -> Tensor:
    bound = math.sqrt(6.0 / fan_in)
    return uniform_between(keys, count, -bound, bound, torch.float64)


def initialize(
    shape: Shape, seeds: Sequence[int], label: str, scheme: Scheme = "default", scale: float = 1.0
) -> Tensor:
    """Return initial parameters, float64 [len(seeds), shape.num_params].

    ``default`` is torch.nn.Linear's: weights and biases U(-b, b), b = 1/sqrt(fan_in). ``he_uniform`` has
    b = sqrt(6/fan_in) for weights and zero biases. ``truncated_normal`` draws weights and biases from a normal
    cut at two standard deviations with sd sqrt(scale/fan_in). ``label`` names the network within the trial.
    """
    parts: list[Tensor] = []
    for index, (fan_in, fan_out, bias) in enumerate(shape.layers):
        counts = [("weight", fan_in * fan_out)] + ([("bias", fan_out)] if bias else [])
        for role, count in counts:
            keys = stream_keys(seeds, "init", label, index, role)
            if scheme == "he_uniform" and role == "bias":
                parts.append(torch.zeros(len(seeds), count, dtype=torch.float64))
            elif scheme == "he_uniform":
                parts.append(_he_uniform(keys, count, fan_in))
            elif scheme == "truncated_normal":
                parts.append(truncated_normal(keys, count) * math.sqrt(scale / fan_in))
            else:
                parts.append(_default(keys, count, fan_in))
    return torch.cat(parts, dim=-1)
