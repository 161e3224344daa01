"""q(x, e(I)): a network e embeds the conditioning input, the primary network q sees x beside the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hyperscale.errors import check_choice, check_integer
from hyperscale.methods.embedded import Embedded
from hyperscale.methods.method import ConditionedMethod, Dims, Method, round_up
from hyperscale.methods.packed import PackedModel
from hyperscale.networks.activations import activation_function
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Shape, evaluate, linear, spectral_complexity


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding(ConditionedMethod):
    """The embedding method h(x, I) = q([x, e(I)]) of "On the Modularity of Hypernetworks" (2020).

    It is the hypernetwork whose f gives only the first layer's biases: the embedding enters q's first layer
    additively, ``W_x x + W_e e(I)``, and is computed once per I.
    """

    embedding_dim: int
    initialization: Literal["default", "he_uniform"] = "default"

    def __post_init__(self) -> None:
        """Check the fields, the embedding size among them."""
        ConditionedMethod.__post_init__(self)
        check_integer("Embedding.embedding_dim", self.embedding_dim, 1)
        check_choice("Embedding.initialization", self.initialization, ("default", "he_uniform"))

    def primary_shape(self, dims: Dims) -> Shape:
        """Return q's shape: its input is x beside e(I)."""
        sizes = (dims.x_dim + self.embedding_dim, *self.primary_widths, dims.output_dim)
        return Shape(sizes=sizes, biases=self.primary_biases())

    def e_shape(self, dims: Dims) -> Shape:
        """Return e's shape: ``embedding_dim`` outputs."""
        return self.conditioning_shape(dims, self.embedding_dim)

    def num_params_primary(self, dims: Dims) -> int:
        """Return N_q."""
        return self.primary_shape(dims).num_params

    def num_params_total(self, dims: Dims) -> int:
        """Return N_e + N_q."""
        return self.e_shape(dims).num_params + self.primary_shape(dims).num_params

    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of e and q's embedding part once per I, the rest of q once per x."""
        primary = self.primary_shape(dims)
        first = self.embedding_dim * primary.sizes[1]
        per_instance = self.e_shape(dims).num_weights + first
        return instances * (per_instance + float(points) * (primary.num_weights - first))

    def step_multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of both passes, of composed layers by way of their product."""
        e, q = self.e_shape(dims), self.primary_shape(dims)
        units, width = e.sizes[-2], q.sizes[1]
        of_embedding = 3 * self.embedding_dim * width
        total = instances * (e.step_multiply_adds + of_embedding)
        if self.composes(dims, instances):
            passes = 3 if self.widths else 2
            apart = instances * (passes * units * self.embedding_dim + of_embedding)
            total += 3 * units * self.embedding_dim * width + passes * instances * units * width - apart
        return total + float(instances) * points * (q.step_multiply_adds - 2 * self.embedding_dim * width)

    def num_activations(self, dims: Dims, instances: int, points: int) -> int:
        """Add e's hidden layers and, unless they are composed away, the embeddings."""
        inner = 0 if self.composes(dims, instances) else self.embedding_dim
        embedded = instances * 2 * (sum(self.widths) + inner)
        return ConditionedMethod.num_activations(self, dims, instances, points) + embedded

    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return e's then q's initial parameters, float64 [len(seeds), N_e + N_q]."""
        networks = ((self.e_shape(dims), "e"), (self.primary_shape(dims), "q"))
        return torch.cat([initialize(shape, seeds, label, self.initialization) for shape, label in networks], dim=-1)

    def split_networks(self, dims: Dims, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of e's parameters [members, N_e] and of q's [members, N_q]."""
        e_params, q_params = params.split([self.e_shape(dims).num_params, self.num_params_primary(dims)], dim=-1)
        return e_params, q_params

    def embed(self, dims: Dims, e_params: Tensor, features: Tensor) -> Tensor:
        """Return e(I), [members, instances, embedding_dim], for I's features and e's parameters."""
        return evaluate(self.e_shape(dims).split(e_params), features, activation_function(self.activation))

    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return q([x, e(I)]), [members, instances, points, output_dim]."""
        activation = activation_function(self.activation)
        e_params, q_params = self.split_networks(dims, params)
        embedded = self.embed(dims, e_params, features)
        (weight, bias), *rest = self.primary_shape(dims).split(q_params)
        weight_x, weight_e = weight.split([dims.x_dim, self.embedding_dim], dim=-2)
        shift = linear(embedded, (weight_e, bias)).unsqueeze(-2)
        first = x.flatten(1, 2) @ weight_x
        hidden = first.unflatten(1, x.shape[1:3]) + shift
        if not rest:
            return hidden
        hidden = activation(hidden).flatten(1, 2)
        return evaluate(rest, hidden, activation).unflatten(1, x.shape[1:3])

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:
        """Return the fast form: e's last layer and q's part of the embedding multiplied first where that is cheaper."""
        shapes = (self.e_shape(dims), self.primary_shape(dims))
        return Embedded(shapes, self.activation, params, gradient, composes=self.composes(dims, batch[0]))

    def composes(self, dims: Dims, instances: int) -> bool:
        """Whether composing the two linear layers at least halves their multiply-adds."""
        units, width = self.e_shape(dims).sizes[-2], self.primary_shape(dims).sizes[1]
        apart = instances * self.embedding_dim * (units + width)
        return 2 * (units * width * (self.embedding_dim + instances)) <= apart

    def _rounded(self, digits: int) -> dict[str, Any]:
        return {
            **ConditionedMethod._rounded(self, digits),
            "embedding_dim": round_up(self.embedding_dim, digits),
        }

    def positions(self, dims: Dims, wider: Method) -> Tensor:
        """Return e's positions, then q's: q sees the embedding after x."""
        assert isinstance(wider, Embedding)
        e = self.e_shape(dims).positions(wider.e_shape(dims))
        q = self.primary_shape(dims).positions(wider.primary_shape(dims))
        return torch.cat([e, wider.e_shape(dims).num_params + q])

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Return C(e) and C(q), each [members]."""
        e_params, q_params = self.split_networks(dims, params)
        return {
            "spectral_complexity_primary": spectral_complexity(
                self.primary_shape(dims).split(q_params), self.activation
            ),
            "spectral_complexity_conditioning": spectral_complexity(
                self.e_shape(dims).split(e_params), self.activation
            ),
        }

    def columns(self) -> dict[str, str | int | float]:
        """Add the embedding size."""
        row = {**ConditionedMethod.columns(self), "embedding_dim": self.embedding_dim}
        return {**row, "initialization": self.initialization}
