"""q(x, s(e(I))): the embedding method with a nonlinearity on the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from hyperscale.errors import check_choice
from hyperscale.methods.embedded import Embedded
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.method import Dims
from hyperscale.methods.packed import PackedModel
from hyperscale.networks.activations import (
    Activation,
    activation_function,
    lipschitz_constant,
    vanishes_at_zero,
)

_ALLOWED = tuple(name for name in get_args(Activation) if name != "identity" and vanishes_at_zero(name))


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivatedEmbedding(Embedding):
    """The embedding method with e(I) = s(W^k ... ) in place of e(I) = W^k ...: a nonlinearity on e's output.

    In `Embedding` e's last and q's first layer, both linear, act as one matrix of rank at most q's first width, so an
    embedding longer than that adds nothing. Theorem 3 of "On the Modularity of Hypernetworks", whose embedding grows,
    says something of its own only where q is wider than the embedding is long, or here. Tables and claims name the
    method ``Embedding``; the column ``embedding_activation`` tells the two apart. Activations with s(0) != 0 are
    excluded, as in the theorem.
    """

    embedding_activation: Activation = "tanh"

    def __post_init__(self) -> None:
        """Check the fields, the embedding's activation among them."""
        Embedding.__post_init__(self)
        check_choice("ActivatedEmbedding.embedding_activation", self.embedding_activation, _ALLOWED)

    @property
    def name(self) -> str:
        """The method's name in claims, tables and legends: that of the embedding method."""
        return "Embedding"

    def embed(self, dims: Dims, e_params: Tensor, features: Tensor) -> Tensor:
        """Return s(e(I)), [members, instances, embedding_dim]."""
        return activation_function(self.embedding_activation)(Embedding.embed(self, dims, e_params, features))

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:  # noqa: ARG002
        """Return the fast form, which evaluates e once per I."""
        shapes = (self.e_shape(dims), self.primary_shape(dims))
        return Embedded(
            shapes,
            self.activation,
            params,
            gradient,
            composes=False,
            embedding_activation=self.embedding_activation,
        )

    def composes(self, dims: Dims, instances: int) -> bool:  # noqa: ARG002
        """Return False: with a nonlinearity between them two layers are not one."""
        return False

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:
        """Return C(e) and C(q), each [members]; the activation of e's output counts in C(e) by its constant."""
        values = Embedding.spectral_complexities(self, dims, params, conditioning)
        values["spectral_complexity_conditioning"] *= lipschitz_constant(self.embedding_activation)
        return values

    def columns(self) -> dict[str, str | int | float]:
        """Add the embedding's activation."""
        return {**Embedding.columns(self), "embedding_activation": self.embedding_activation}
