"""g(x; f(I)): a network f of the conditioning input gives every weight of the primary network g."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_choice
from hyperscale.methods.generated import Contracted, Generated
from hyperscale.methods.method import ConditionedMethod, Dims, Method
from hyperscale.methods.packed import PackedModel
from hyperscale.networks.activations import activation_function
from hyperscale.networks.initialization import initialize
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity
from hyperscale.seeding import normal, stream_keys, uniform_between

HyperInitialization = Literal["default", "he_uniform", "primary_fan_in", "hyperfan", "shared_primary"]
_SCHEMES = ("default", "he_uniform", "primary_fan_in", "hyperfan", "shared_primary")
_NUM_PROBES = 256
_LONG_INPUT = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypernetwork(ConditionedMethod):
    """The hypernetwork method h(x, I) = g(x; f(I)) of "On the Modularity of Hypernetworks" (2020).

    f maps I to the N_g weights of g. ``initialization``: ``default`` (torch.nn.Linear's) or ``he_uniform`` for
    every layer of f; ``primary_fan_in`` and ``hyperfan`` rescale f's last layer so that the weights of g start
    with variance 1/(3 fan_in) (torch.nn.Linear's in g) or 2/fan_in for ReLU and 1/fan_in otherwise (the
    fan-in rule of Chang, Flokas & Lipson, 2020, biases of g included), f's last bias zero; ``shared_primary``
    starts from one primary network in torch.nn.Linear's initialisation for every I, f's last layer adding small
    differences.
    """

    initialization: HyperInitialization = "default"

    def __post_init__(self) -> None:
        """Check the fields, the initialisation among them."""
        ConditionedMethod.__post_init__(self)
        check_choice("Hypernetwork.initialization", self.initialization, _SCHEMES)
        table = self.encoder is not None and self.encoder.sums_to_one and not self.widths
        if self.initialization == "shared_primary" and not (table or self.bias in ("f_only", "all")):
            raise StudyError(
                "Hypernetwork.initialization 'shared_primary' puts one initial g into f's last bias, or into every "
                f"row of a table; given bias {self.bias!r}. Use bias 'f_only' or 'all', or HatEncoder and widths=()."
            )

    def primary_shape(self, dims: Dims) -> Shape:
        """Return g's shape."""
        return Shape(sizes=(dims.x_dim, *self.primary_widths, dims.output_dim), biases=self.primary_biases())

    def f_shape(self, dims: Dims) -> Shape:
        """Return f's shape: N_g outputs."""
        return self.conditioning_shape(dims, self.primary_shape(dims).num_params)

    def num_params_primary(self, dims: Dims) -> int:
        """Return N_g, the number of weights f generates."""
        return self.primary_shape(dims).num_params

    def num_params_total(self, dims: Dims) -> int:
        """Return N_f: the hypernetwork trains f alone."""
        return self.f_shape(dims).num_params

    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of f once per I and of g once per x."""
        return instances * (self.f_shape(dims).num_weights + float(points) * self.primary_shape(dims).num_weights)

    def step_multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of both passes; the contraction needs no product for theta's gradient."""
        f, g = self.f_shape(dims), self.primary_shape(dims)
        total = instances * (f.step_multiply_adds + float(points) * g.step_multiply_adds)
        if self.contracts(dims, (instances, points)):
            units, width = f.sizes[-2], self.primary_widths[0]
            through = units * dims.x_dim * width if self.widths else 0
            total -= instances * (through + 2 * width * (dims.x_dim - units))
        return total

    def num_activations(self, dims: Dims, instances: int, points: int) -> int:
        """Add f's hidden layers and the generated weights, which the backward pass keeps."""
        generated = instances * (2 * sum(self.widths) + 2 * self.num_params_primary(dims))
        if self.contracts(dims, (instances, points)):  # x times f's last weights in place of g's first matrix
            units, width = self.f_shape(dims).sizes[-2], self.primary_widths[0]
            generated += 2 * width * (instances * (units - dims.x_dim) + units * dims.x_dim)
        return ConditionedMethod.num_activations(self, dims, instances, points) + generated

    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return f's initial parameters, float64 [len(seeds), N_f]."""
        shape = self.f_shape(dims)
        scheme: Literal["default", "he_uniform"] = "he_uniform" if self.initialization == "he_uniform" else "default"
        params = initialize(shape, seeds, "f", scheme)
        if self.initialization in ("primary_fan_in", "hyperfan"):
            self._rescale_last(dims, seeds, params)
        elif self.initialization == "shared_primary":
            self._share_primary(dims, seeds, params)
        return params

    def _rescale_last(self, dims: Dims, seeds: Sequence[int], params: Tensor) -> None:
        """Scale f's last layer, block by block of g, to the wanted variance of the generated weights."""
        keys = stream_keys(seeds, "init", "f", "probes")
        count = _NUM_PROBES * dims.conditioning_dim
        probes = normal(keys, count) if dims.inputs == "normal" else uniform_between(keys, count, -1, 1, torch.float64)
        layers = self.f_shape(dims).split(params)
        hidden = self.features(probes.unflatten(-1, (_NUM_PROBES, dims.conditioning_dim)))
        if len(layers) > 1:
            activation = activation_function(self.activation)
            hidden = activation(evaluate(layers[:-1], hidden, activation))
        mean_square = hidden.square().sum(dim=-1).mean(dim=-1)
        gain = 2.0 if self.activation == "relu" else 1.0
        weight, bias = layers[-1]
        start = 0
        for fan_in, fan_out, has_bias in self.primary_shape(dims).layers:
            stop = start + fan_in * fan_out + has_bias * fan_out
            variance = (gain if self.initialization == "hyperfan" else 1.0 / 3.0) / fan_in
            present = weight[..., start:stop].square().mean(dim=(-2, -1)) * mean_square
            weight[..., start:stop] *= (variance / present).sqrt()[:, None, None]
            if bias is not None:
                bias[..., start:stop] = 0
            start = stop

    def _share_primary(self, dims: Dims, seeds: Sequence[int], params: Tensor) -> None:
        """Put one initial g into f's last bias (or, on an encoder, into every row) and shrink the rest by 10."""
        start = initialize(self.primary_shape(dims), seeds, "g")
        weight, bias = self.f_shape(dims).split(params)[-1]
        weight *= 0.1
        if bias is not None:
            bias.copy_(start)
        else:
            weight += start.unsqueeze(-2)

    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return g(x; f(I)), [members, instances, points, output_dim]: g's weights are built once per I."""
        theta = self._weights(dims, params, features)
        return evaluate(self.primary_shape(dims).split(theta), x, activation_function(self.activation))

    def generate(self, dims: Dims, params: Tensor, conditioning: Tensor) -> Tensor:
        """Return f(I), the weights of g: [members, instances, N_g]."""
        return self._weights(dims, params, self.features(conditioning))

    def _weights(self, dims: Dims, params: Tensor, features: Tensor) -> Tensor:
        return evaluate(self.f_shape(dims).split(params), features, activation_function(self.activation))

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:
        """Return the fast form: g's first matrix contracted with x instead of generated where each I has one x."""
        f, g = self.f_shape(dims), self.primary_shape(dims)
        form = Contracted if self.contracts(dims, batch) else Generated
        return form(f, g, self.activation, params, gradient)

    def contracts(self, dims: Dims, batch: tuple[int, int]) -> bool:
        """Whether the contraction is the cheaper form: one x for each I, and x long against f's last hidden layer."""
        units = self.f_shape(dims).sizes[-2]
        fits = batch[0] > 1 and batch[1] == 1 and bool(self.primary_widths)
        return fits and dims.x_dim >= max(_LONG_INPUT, units // 2)

    def positions(self, dims: Dims, wider: Method) -> Tensor:
        """Return f's positions; the outputs of f are g's parameters and go where these went."""
        assert isinstance(wider, Hypernetwork)
        columns = self.primary_shape(dims).positions(wider.primary_shape(dims))
        return self.f_shape(dims).positions(wider.f_shape(dims), columns)

    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:
        """Return C(f) and the largest C(g(.; f(I))) over the given I, each [members]."""
        theta = self.generate(dims, params, conditioning)
        primary = spectral_complexity(self.primary_shape(dims).split(theta), self.activation)
        conditioning_network = spectral_complexity(self.f_shape(dims).split(params), self.activation)
        return {
            "spectral_complexity_primary": primary.amax(dim=-1),
            "spectral_complexity_conditioning": conditioning_network,
        }

    def columns(self) -> dict[str, str | int | float]:
        """Add the initialisation."""
        return {**ConditionedMethod.columns(self), "initialization": self.initialization}
