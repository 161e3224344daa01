"""G(z; phi): a generator that turns noise z into points of a parameter space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from hyperscale.errors import check_choice, check_integer, check_number
from hyperscale.methods.method import MAX_PADDING, PADDED_DIGITS, check_widths, round_up, widths_text
from hyperscale.networks.activations import ACTIVATIONS, Activation, activation_function
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Shape, evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightGenerator:
    """A fully connected generator of weights, z ~ U[-1, 1]^latent_dim (Deutsch 2018; Deutsch et al. 2019).

    ``widths`` are its hidden widths; all layers have biases. Weights and biases start from a normal
    with standard deviation sqrt(init_scale / fan_in), cut at two of these, as in the published toy code (scale 6).
    """

    latent_dim: int = 1
    widths: tuple[int, ...] = (30, 10, 10)
    activation: Activation = "tanh"
    init_scale: float = 6.0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_integer("WeightGenerator.latent_dim", self.latent_dim, 1)
        object.__setattr__(self, "widths", check_widths("WeightGenerator.widths", self.widths))
        check_choice("WeightGenerator.activation", self.activation, ACTIVATIONS)
        check_number("WeightGenerator.init_scale", self.init_scale, above=0)
        object.__setattr__(self, "init_scale", float(self.init_scale))

    @property
    def name(self) -> Literal["WeightGenerator"]:
        """The method's name in claims, tables and legends."""
        return "WeightGenerator"

    def shape(self, output_dim: int) -> Shape:
        """Return the generator's shape for ``output_dim`` generated numbers."""
        return Shape(sizes=(self.latent_dim, *self.widths, output_dim), biases=(True,) * (len(self.widths) + 1))

    def padded(self, output_dim: int) -> WeightGenerator:
        """Return the generator with its widths rounded up to sizes that several widths share, zero units added."""
        for digits in PADDED_DIGITS:
            wider = replace(self, widths=tuple(round_up(width, digits) for width in self.widths))
            if wider.shape(output_dim).num_params <= MAX_PADDING * self.shape(output_dim).num_params:
                return wider
        return self

    def initialize(self, output_dim: int, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters, float64 [len(seeds), num_params]."""
        return initialize(self.shape(output_dim), seeds, "generator", "truncated_normal", self.init_scale)

    def generate(self, output_dim: int, params: Tensor, z: Tensor) -> Tensor:
        """Return G(z), [members, samples, output_dim], for z [members, samples, latent_dim]."""
        return evaluate(self.shape(output_dim).split(params), z, activation_function(self.activation))

    def columns(self) -> dict[str, str | int | float]:
        """Return the generator's fields for tables."""
        return {
            "method": self.name,
            "latent_dim": self.latent_dim,
            "widths": widths_text(self.widths),
            "depth": len(self.widths) + 1,
            "activation": self.activation,
        }
