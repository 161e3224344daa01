"""Type I of the synthetic experiments: y(x, I) = <x, h(I)> with a random network h."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hyperscale.networks.activations import activate_
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Layer, Shape, evaluate, linear
from hyperscale.targets.target import PreparedTarget, Target

_HIDDEN = (300, 300)


@dataclass(frozen=True, kw_only=True, slots=True)
class InnerProduct(Target):
    """y(x, I) = <x, h(I)>, x and I standard normal (MOD-S1; "On the Modularity of Hypernetworks", Fig. 1).

    h: conditioning_dim -> 300 -> 300 -> x_dim, sigmoid hidden layers, softmax output, He-uniform weights, no
    biases; a fresh h is drawn from every trial's seed. The softmax makes h nearly constant, so a linear map of
    x alone leaves little of the variance: compare with the baselines ``zero_loss`` and ``linear_loss``.
    """

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Standard normal."""
        return "normal"

    @property
    def smoothness(self) -> int:
        """1; the target is smooth, but no theorem's ball is meant."""
        return 1

    def program(self) -> object:
        """The dimensions; h varies with the trial's seed."""
        return ("InnerProduct", self.x_dim, self.conditioning_dim)

    def prepare(self, targets: Sequence[InnerProduct], seeds: Sequence[int], device: str) -> PreparedTarget:  # noqa: ARG002
        """Draw h for every seed."""
        sizes = (self.conditioning_dim, *_HIDDEN, self.x_dim)
        shape = Shape(sizes=sizes, biases=(False,) * 3)
        weights = initialize(shape, seeds, "target", "he_uniform").to(device)
        return _InnerProduct(shape=shape, weights=weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class _InnerProduct:
    shape: Shape
    weights: Tensor

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        layers: list[Layer] = self.shape.split(self.weights.to(x.dtype))
        hidden = activate_(evaluate(layers[:-1], conditioning, lambda z: activate_(z, "sigmoid")), "sigmoid")
        direction = linear(hidden, layers[-1]).softmax(dim=-1)
        return linear(x, (direction.unsqueeze(-1), None))
