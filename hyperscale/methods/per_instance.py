"""g_I fitted to each y_I alone: what modularity compares a hypernetwork with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.errors import check_integer
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.packed import PackedModel, Separate
from hyperscale.networks.activations import activation_function
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity


@dataclass(frozen=True, kw_only=True, slots=True)
class PerInstance(Method):
    """A separate primary network g_I for each of ``num_instances`` fixed values of I.

    The values are the centres of an equispaced grid of [-1, 1]^conditioning_dim with ``num_instances`` cells per
    dimension (a target's finest bumps stand in such cells and vanish on their borders). Each network sees its own
    y(., I) only, so ``sup_error`` is a trained upper bound of sup_I inf_g sup_x abs(g - y) over that grid: the
    error Theorem 4 lets a hypernetwork come near. Every instance is attempted ``restarts`` times from different
    initial weights, and its best attempt counts; the trial diverges where any attempt does.
    """

    num_instances: int = 32
    restarts: int = 1

    def __post_init__(self) -> None:
        """Check the fields, the number of instances among them."""
        Method.__post_init__(self)
        check_integer("PerInstance.num_instances", self.num_instances, 2)
        check_integer("PerInstance.restarts", self.restarts, 1)

    def instances(self, dims: Dims) -> Tensor:
        """Return the grid of I, each value ``restarts`` times: float64 [num_networks, conditioning_dim]."""
        axis = (2 * torch.arange(self.num_instances, dtype=torch.float64) + 1) / self.num_instances - 1
        grid = torch.cartesian_prod(*[axis] * dims.conditioning_dim).reshape(-1, dims.conditioning_dim)
        return grid.repeat_interleave(self.restarts, dim=0)

    def num_networks(self, dims: Dims) -> int:
        """Return the number of networks in training: instances times restarts."""
        return int(self.num_instances**dims.conditioning_dim) * self.restarts

    def primary_shape(self, dims: Dims) -> Shape:
        """Return g's shape."""
        return Shape(sizes=(dims.x_dim, *self.primary_widths, dims.output_dim), biases=self.primary_biases())

    def num_params_primary(self, dims: Dims) -> int:
        """Return N_g, the parameters of one instance's network."""
        return self.primary_shape(dims).num_params

    def num_params_total(self, dims: Dims) -> int:
        """Return N_g times the number of instances: one network is kept for each."""
        return self.num_params_primary(dims) * int(self.num_instances**dims.conditioning_dim)

    def num_params_trained(self, dims: Dims) -> int:
        """Return N_g times the number of networks in training."""
        return self.num_params_primary(dims) * self.num_networks(dims)

    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of each instance's network on its points."""
        return float(instances) * points * self.primary_shape(dims).num_weights

    def step_multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of both passes; x and I need no gradient."""
        return float(instances) * points * self.primary_shape(dims).step_multiply_adds

    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters, float64 [len(seeds), num_networks * N_g]: every g_I its own draw."""
        shape = self.primary_shape(dims)
        return torch.cat([initialize(shape, seeds, f"g{index}") for index in range(self.num_networks(dims))], dim=-1)

    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return g_I(x), [members, instances, points, output_dim]; the instances must be the method's own grid."""
        assert features.shape[1] == self.num_networks(dims)
        theta = params.unflatten(-1, (features.shape[1], -1))
        return evaluate(self.primary_shape(dims).split(theta), x, activation_function(self.activation))

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:  # noqa: ARG002
        """Return the fast form."""
        return Separate(self.primary_shape(dims), self.activation, params, gradient)

    def positions(self, dims: Dims, wider: Method) -> Tensor:
        """Return every network's positions, one network after the other."""
        assert isinstance(wider, PerInstance)
        own = self.primary_shape(dims).positions(wider.primary_shape(dims))
        starts = wider.num_params_primary(dims) * torch.arange(self.num_networks(dims))
        return (starts[:, None] + own).flatten()

    def keep_best(self, largest: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Keep, for every instance, the attempt with the smallest largest error."""
        attempts = largest.unflatten(1, (-1, self.restarts))
        best = attempts.nan_to_num(nan=math.inf, posinf=math.inf).argmin(dim=-1, keepdim=True)
        kept = squared.unflatten(1, (-1, self.restarts)).gather(-1, best)
        return attempts.gather(-1, best).squeeze(-1), kept.squeeze(-1)

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:
        """Return the largest C(g_I) of all attempts, [members]."""
        layers = self.primary_shape(dims).split(params.unflatten(-1, (conditioning.shape[1], -1)))
        return {"spectral_complexity_primary": spectral_complexity(layers, self.activation).amax(dim=-1)}

    def columns(self) -> dict[str, str | int | float]:
        """Add the number of instances."""
        return {**Method.columns(self), "num_instances": self.num_instances, "restarts": self.restarts}
