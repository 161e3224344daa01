"""The shape of a fully connected network, and its evaluation on stacked flat parameters.

``f(x) = W^k s(W^(k-1) ... s(W^1 x + b^1) ...) + b^k`` with any subset of the biases. Parameters of P members lie
in one tensor [..., num_params], layer after layer, each layer its weight [fan_in, fan_out] then its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation, lipschitz_constant

Layer = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Layer sizes (input first) and which layers carry a bias."""

    sizes: tuple[int, ...]
    biases: tuple[bool, ...]

    @property
    def depth(self) -> int:
        """The number k of weight layers."""
        return len(self.sizes) - 1

    @property
    def layers(self) -> tuple[tuple[int, int, bool], ...]:
        """(fan_in, fan_out, has_bias) of each layer."""
        return tuple(zip(self.sizes[:-1], self.sizes[1:], self.biases, strict=True))

    @property
    def num_params(self) -> int:
        """The number of weights and biases."""
        return sum(fan_in * fan_out + bias * fan_out for fan_in, fan_out, bias in self.layers)

    @property
    def num_weights(self) -> int:
        """The number of weights, biases apart: multiply-adds of one evaluation."""
        return sum(fan_in * fan_out for fan_in, fan_out, _ in self.layers)

    @property
    def step_multiply_adds(self) -> int:
        """Multiply-adds of a forward and a backward pass on one row of inputs that need no gradient.

        Three a weight (output, the weight's gradient, the input's), two a weight of the first layer.
        """
        return 3 * self.num_weights - self.sizes[0] * self.sizes[1]

    def part_sizes(self) -> list[int]:
        """Return the lengths of the flat parameter's parts: weight and, where there is one, bias of each layer."""
        parts: list[int] = []
        for fan_in, fan_out, bias in self.layers:
            parts.extend([fan_in * fan_out, fan_out] if bias else [fan_in * fan_out])
        return parts

    def positions(self, wider: Shape, columns: Tensor | None = None) -> Tensor:
        """Return where each of these parameters lies in a network at least as wide: int64 [num_params].

        Units keep their numbers; ``columns`` says where the outputs went, if not to the same numbers.
        """
        parts: list[Tensor] = []
        start = 0
        for index, ((fan_in, fan_out, bias), (wide_in, wide_out, _)) in enumerate(
            zip(self.layers, wider.layers, strict=True)
        ):
            last = index == self.depth - 1
            units = columns if last and columns is not None else torch.arange(fan_out)
            parts.append((start + wide_out * torch.arange(fan_in)[:, None] + units).flatten())
            start += wide_in * wide_out
            if bias:
                parts.append(start + units)
                start += wide_out
        return torch.cat(parts)

    def split(self, theta: Tensor) -> list[Layer]:
        """View flat parameters [..., num_params] as layers of weight [..., fan_in, fan_out], bias [..., fan_out].

        One split node serves all parts, so that the gradient is assembled by a single concatenation.
        """
        parts = iter(theta.split(self.part_sizes(), dim=-1))
        return [
            (next(parts).unflatten(-1, (fan_in, fan_out)), next(parts) if bias else None)
            for fan_in, fan_out, bias in self.layers
        ]


def linear(x: Tensor, layer: Layer) -> Tensor:
    """Return ``x W + b`` for x [..., n, fan_in] and a layer with the same leading dimensions.

    One output column is summed by hand: a matrix product would take another kernel for one member than for
    several, and a trial's last bits would depend on its pack.
    """
    weight, bias = layer
    if weight.shape[-1] == 1:
        product = (x * weight.mT).sum(dim=-1, keepdim=True)
    else:  # one input needs no matrix product, which gives the same bits and is several times slower
        product = x * weight if weight.shape[-2] == 1 else x @ weight
    return product if bias is None else product + bias.unsqueeze(-2)


def evaluate(layers: Sequence[Layer], x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Evaluate the network on x [..., n, sizes[0]]: [..., n, sizes[-1]]; no activation after the last layer."""
    for layer in layers[:-1]:
        x = activation(linear(x, layer))
    return linear(x, layers[-1])


def spectral_complexity(layers: Sequence[Layer], activation: Activation) -> Tensor:
    """Return C(f) = L^(k-1) prod_i ||W^i||_1 with induced L1 norms, leading dimensions kept.

    It bounds the Lipschitz constant of f from the L1 to the L1 norm ("On the Modularity of Hypernetworks",
    section 3). A weight [fan_in, fan_out] acts as x W, so its induced L1 norm is the largest row sum of abs(W).
    """
    product = None
    for weight, _ in layers:
        norm = weight.abs().sum(dim=-1).amax(dim=-1)
        product = norm if product is None else product * norm
    assert product is not None
    return product * lipschitz_constant(activation) ** (len(layers) - 1)
