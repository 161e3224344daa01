"""What every method offers: exact parameter counts, initial parameters, and a stacked forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hyperscale.errors import StudyError, brief, check_choice, check_integer
from hyperscale.methods.packed import Differentiated, PackedModel
from hyperscale.networks.activations import ACTIVATIONS, Activation
from hyperscale.networks.encoders import Encoder
from hyperscale.networks.mlp import Shape

Bias = Literal["none", "f_only", "primary_only", "hidden", "all"]
_BIAS: dict[str, tuple[bool, bool, bool, bool]] = {
    # conditioning network: hidden, last; primary network: hidden, last
    "none": (False, False, False, False),
    "f_only": (True, True, False, False),
    "primary_only": (False, False, True, False),
    "hidden": (True, False, True, False),
    "all": (True, True, True, True),
}

# Widths are padded to the next number with this many leading binary digits (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …), else
# with one more, where that costs at most a quarter more arithmetic and a step is small enough to be bound by launches.
PADDED_DIGITS = (3, 4)
MAX_PADDING = 1.25
_MOST_LAYERS = 1000
_MAX_PADDED_MULTIPLY_ADDS = 2**21


@dataclass(frozen=True, kw_only=True, slots=True)
class Dims:
    """The dimensions of a task, m1 = ``x_dim``, m2 = ``conditioning_dim``, the outputs, and the law of x and I.

    ``inputs`` is ``uniform`` on the cube [-1, 1]^m or standard ``normal``.
    """

    x_dim: int
    conditioning_dim: int
    output_dim: int = 1
    inputs: Literal["uniform", "normal"] = "uniform"


@dataclass(frozen=True, kw_only=True, slots=True)
class Method(ABC):
    """A way to compute h(x, I). Subclasses are frozen; all of their fields are part of a setting's identity.

    ``primary_widths`` are the hidden widths of the network that sees x. ``bias`` says which layers have one:
    ``none`` (the counting formulas of "On the Modularity of Hypernetworks"), ``f_only`` (only the network that
    sees I), ``primary_only`` (only the hidden layers of the primary network: Theorem 2's e has zero biases),
    ``hidden`` (every layer but each network's last: the paper's network class), ``all``.
    """

    primary_widths: tuple[int, ...]
    activation: Activation = "relu"
    bias: Bias = "none"

    def __post_init__(self) -> None:
        """Normalise widths to tuples and check every field."""
        place = type(self).__name__
        for field in fields(self):
            if field.name.endswith("widths"):
                object.__setattr__(self, field.name, check_widths(f"{place}.{field.name}", getattr(self, field.name)))
        check_choice(f"{place}.activation", self.activation, ACTIVATIONS)
        check_choice(f"{place}.bias", self.bias, _BIAS)

    @property
    def name(self) -> str:
        """The method's name in claims, tables and legends."""
        return type(self).__name__

    def primary_biases(self) -> tuple[bool, ...]:
        """Return which layers of the primary network have a bias."""
        _, _, hidden, last = _BIAS[self.bias]
        return (hidden,) * len(self.primary_widths) + (last,)

    @abstractmethod
    def num_params_primary(self, dims: Dims) -> int:
        """Return N_g or N_q: the parameters of the network that sees x."""

    @abstractmethod
    def num_params_total(self, dims: Dims) -> int:
        """Return the number of trained parameters."""

    def num_params_trained(self, dims: Dims) -> int:
        """Return how many numbers the optimiser changes: the total, unless several attempts are made at a network."""
        return self.num_params_total(dims)

    @abstractmethod
    def multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of one forward pass on ``instances`` values of I with ``points`` x each."""

    def step_multiply_adds(self, dims: Dims, instances: int, points: int) -> float:
        """Return the multiply-adds of a training step's forward and backward pass, as the fast form does them."""
        return 3 * self.multiply_adds(dims, instances, points)

    @abstractmethod
    def initialize(self, dims: Dims, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters, float64 [len(seeds), num_params_trained]."""

    def evaluate(self, dims: Dims, params: Tensor, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return h(x, I), [members, instances, points, output_dim].

        ``params`` [members, num_params_trained], ``x`` [members, instances, points, x_dim],
        ``conditioning`` [members, instances, conditioning_dim].
        """
        return self.respond(dims, params, x, self.features(conditioning))

    def features(self, conditioning: Tensor) -> Tensor:
        """Return what the networks see of I [..., conditioning_dim]: I itself, unless an encoder comes first."""
        return conditioning

    @abstractmethod
    def respond(self, dims: Dims, params: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return `evaluate`'s h(x, I), given I's `features`."""

    def packed(self, dims: Dims, params: Tensor, gradient: Tensor, batch: tuple[int, int]) -> PackedModel:  # noqa: ARG002
        """Return the method bound to a pack's parameters and gradient, for batches of (instances, points).

        The default differentiates `respond`; a method may offer a faster form, equal to rounding, chosen by sizes
        alone so that no result depends on the machine.
        """
        return Differentiated(lambda leaf, x, features: self.respond(dims, leaf, x, features), params, gradient)

    def padded(self, dims: Dims, batch: tuple[int, int]) -> Method:
        """Return the method with its hidden widths rounded up to sizes that several widths share.

        The surplus units are zero and stay zero, so the function is the same. The rule looks at this method alone:
        a trial is padded the same way in every pack, and its results are the same bits. A method that does not say
        where its parameters go (`positions`) stays as it is.
        """
        if type(self).positions is Method.positions:
            return self
        for digits in PADDED_DIGITS:
            wider = replace(self, **self._rounded(digits))
            sizes = [(m.multiply_adds(dims, *batch), m.num_params_trained(dims)) for m in (self, wider)]
            (own, own_params), (more, more_params) = sizes
            if more <= min(_MAX_PADDED_MULTIPLY_ADDS, MAX_PADDING * own) and more_params <= MAX_PADDING * own_params:
                return wider
        return self

    def _rounded(self, digits: int) -> dict[str, Any]:
        """Return the fields that padding changes, rounded up to ``digits`` leading binary digits."""
        names = [field.name for field in fields(self) if field.name.endswith("widths")]
        return {name: tuple(round_up(width, digits) for width in getattr(self, name)) for name in names}

    def positions(self, dims: Dims, wider: Method) -> Tensor:
        """Return where this method's parameters lie in those of `padded`'s ``wider``: int64 [num_params_trained]."""
        assert wider == self, f"{self.name} is not padded"
        return torch.arange(self.num_params_trained(dims))

    def keep_best(self, largest: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce errors per instance, each [members, instances], where several attempts were made at an instance."""
        return largest, squared

    @abstractmethod
    def spectral_complexities(self, dims: Dims, params: Tensor, conditioning: Tensor) -> dict[str, Tensor]:
        """Return spectral complexities by name, each [members]; the primary's is the largest over I."""

    def num_activations(self, dims: Dims, instances: int, points: int) -> int:
        """Return how many numbers one member's forward pass keeps for the backward pass (for memory)."""
        return instances * points * (dims.x_dim + 2 * sum(self.primary_widths) + 2 * dims.output_dim)

    def columns(self) -> dict[str, str | int | float]:
        """Return the method's fields for tables: widths as text, widest layer and depth as numbers."""
        row: dict[str, str | int | float] = {
            "method": self.name,
            "activation": self.activation,
            "bias": self.bias,
        }
        row["primary_widths"] = widths_text(self.primary_widths)
        row["primary_width"] = max(self.primary_widths, default=0)
        row["primary_depth"] = len(self.primary_widths) + 1
        return row


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionedMethod(Method):
    """A method with a network of its own for I: f of the hypernetwork, e of the embedding method.

    ``widths`` are that network's hidden widths, so its depth is ``len(widths) + 1`` weight layers.
    """

    widths: tuple[int, ...] = ()
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        """Check the fields, the encoder among them."""
        Method.__post_init__(self)
        if self.encoder is not None and not isinstance(self.encoder, Encoder):
            raise StudyError(
                f"{type(self).__name__}.encoder is {brief(self.encoder)}; "
                "allowed: None, HatEncoder(knots=...) or FourierEncoder(frequencies=..., scale=...)."
            )

    def conditioning_shape(self, dims: Dims, num_outputs: int) -> Shape:
        """Return the shape of the network that sees I, encoded or not, and gives ``num_outputs`` numbers."""
        hidden, last, _, _ = _BIAS[self.bias]
        features = dims.conditioning_dim if self.encoder is None else self.encoder.num_features(dims.conditioning_dim)
        biases = (hidden,) * len(self.widths) + (last,)
        return Shape(sizes=(features, *self.widths, num_outputs), biases=biases)

    def features(self, conditioning: Tensor) -> Tensor:
        """Apply the encoder, if there is one, to I [..., conditioning_dim]."""
        return conditioning if self.encoder is None else self.encoder.encode(conditioning)

    def columns(self) -> dict[str, str | int | float]:
        """Add the depth and widths of the network that sees I."""
        row = Method.columns(self)
        row["widths"] = widths_text(self.widths)
        row["width"] = max(self.widths, default=0)
        row["depth"] = len(self.widths) + 1
        if self.encoder is not None:
            row["encoder"] = self.encoder.label
        return row


def round_up(width: int, digits: int) -> int:
    """Return the smallest number of at least ``width`` with at most ``digits`` leading binary digits."""
    step = 2 ** max(0, width.bit_length() - digits)
    return -(-width // step) * step


def widths_text(widths: tuple[int, ...]) -> str:
    """Return hidden widths for reading: ``-`` for none, ``[100 x 8]`` for eight times 100, else ``[8, 16]``."""
    if not widths:
        return "-"
    if len(widths) > 1 and len(set(widths)) == 1:
        return f"[{widths[0]} x {len(widths)}]"
    return str(list(widths))


def check_widths(place: str, given: object) -> tuple[int, ...]:
    """Return hidden widths as a tuple of positive integers, or raise `StudyError`."""
    if isinstance(given, str) or not isinstance(given, list | tuple | range):
        raise StudyError(f"{place} is {brief(given)}; allowed: a tuple of whole numbers such as (16,) or (100, 100).")
    if len(given[: _MOST_LAYERS + 1]) > _MOST_LAYERS:
        raise StudyError(f"{place} is {brief(given)}; allowed: at most {_MOST_LAYERS} hidden layers.")
    for index, width in enumerate(given):
        check_integer(f"{place}[{index}]", width, 1)
    return tuple(given)
