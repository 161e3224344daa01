"""h([x, I]): one plain network on the concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperscale.errors import check_choice
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.packed import Joint, PackedModel
from hyperscale.networks.activations import activation_function
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity


@dataclass(frozen=True, kw_only=True, slots=True)
class Monolithic(Method):
    """One network on [x, I]: what Theorem 1's rate speaks of. All of its parameters are primary."""

    initialization: Literal["default", "he_uniform"] = "default"

    def __post_init__(self) -> None:
        """Check the fields, the initialisation among them."""
        Method.__post_init__(self)
        check_choice("Monolithic.initialization", self.initialization, ("default", "he_uniform"))

    def primary_shape(self, dims: Dims) -> Shape:
        """Return the network's shape: its input is x beside I."""
        sizes = (dims.x_dim + dims.conditioning_dim, *self.primary_widths, dims.output_dim)
        return Shape(sizes=sizes, biases=self.primary_biases())

    def num_params_primary(self, dims: Dims) -> int:
        """Return the number of parameters."""
        return self.primary_shape(dims).num_params

    def num_params_total(self, dims: Dims) -> int:
        """Return the number of parameters."""
        return self.primary_shape(dims).num_params

    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of the network once per (x, I)."""
        return float(instances) * points * self.primary_shape(dims).num_weights

    def step_multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of both passes; x and I need no gradient."""
        return float(instances) * points * self.primary_shape(dims).step_multiply_adds

    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters, float64 [len(seeds), N]."""
        return initialize(self.primary_shape(dims), seeds, "h", self.initialization)

    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return h([x, I]), [members, instances, points, output_dim]."""
        beside = features.unsqueeze(-2).expand(*x.shape[:-1], dims.conditioning_dim)
        joint = torch.cat((x, beside), dim=-1).flatten(1, 2)
        layers = self.primary_shape(dims).split(params)
        return evaluate(layers, joint, activation_function(self.activation)).unflatten(1, x.shape[1:3])

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:  # noqa: ARG002
        """Return the fast form."""
        return Joint(self.primary_shape(dims), self.activation, params, gradient)

    def positions(self, dims: Dims, wider: Method) -> Tensor:
        """Return the network's positions."""
        assert isinstance(wider, Monolithic)
        return self.primary_shape(dims).positions(wider.primary_shape(dims))

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Return C(h), [members]."""
        layers = self.primary_shape(dims).split(params)
        return {"spectral_complexity_primary": spectral_complexity(layers, self.activation)}

    def columns(self) -> dict[str, str | int | float]:
        """Add the initialisation."""
        return {**Method.columns(self), "initialization": self.initialization}
