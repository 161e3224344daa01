"""LipschitzQuotient: how much of its spectral complexity a random network's steepest place takes up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hyperscale.errors import StudyError, brief, check_integer
from hyperscale.identity import canonical
from hyperscale.methods.method import Dims
from hyperscale.methods.monolithic import Monolithic
from hyperscale.settings.setting import Cost, Outcome, PackRun, Scalar, Setting
from hyperscale.training.lipschitz import LipschitzSearch

_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LipschitzQuotient(Setting):
    """Draw a network from its initialisation and search for its steepest place on [-1, 1]^(x_dim + conditioning_dim).

    ``lipschitz_quotient`` is the largest |f(x) - f(x')|_1 / |x - x'|_1 found by `LipschitzSearch`,
    ``spectral_complexity_primary`` is C(f) = L^(k-1) prod_i |W^i|_1, which no quotient exceeds ("On the Modularity of
    Hypernetworks", section 2.1), and ``lipschitz_ratio`` the first over the second, at most 1. The networks are not
    trained; nothing of them depends on the search, nor the draw on its ``pairs`` and ``rounds``.
    """

    method: Monolithic
    x_dim: int = 1
    conditioning_dim: int = 1
    output_dim: int = 1
    pairs: int = 256
    rounds: int = 60

    def __post_init__(self) -> None:
        """Check the parts."""
        if not isinstance(self.method, Monolithic):
            raise StudyError(
                f"LipschitzQuotient.method is {brief(self.method)}; allowed: Monolithic(...), one plain network on "
                "[x, I]."
            )
        for name in ("x_dim", "conditioning_dim", "output_dim", "pairs"):
            check_integer(f"LipschitzQuotient.{name}", getattr(self, name), 1)
        check_integer("LipschitzQuotient.rounds", self.rounds, 1)

    @property
    def dims(self) -> Dims:
        """The dimensions of the network."""
        return Dims(x_dim=self.x_dim, conditioning_dim=self.conditioning_dim, output_dim=self.output_dim)

    @property
    def method_name(self) -> str:
        """The network's name as a method."""
        return self.method.name

    def columns(self) -> dict[str, Scalar]:
        """Return the network, its sizes and the search."""
        return {
            "kind": "lipschitz_quotient",
            **self.method.columns(),
            "num_params_primary": self.method.num_params_primary(self.dims),
            "num_params_total": self.method.num_params_total(self.dims),
            "x_dim": self.x_dim,
            "conditioning_dim": self.conditioning_dim,
            "output_dim": self.output_dim,
            "pairs": self.pairs,
            "rounds": self.rounds,
        }

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics of a finished trial."""
        return ("lipschitz_quotient", "spectral_complexity_primary", "lipschitz_ratio")

    def program(self) -> object:
        """Every field: the members of a pack differ in their seeds, hence in their networks."""
        return [canonical(getattr(self, name)) for name in self.__dataclass_fields__]

    def cost(self) -> Cost:
        """Estimate one trial: a forward pass for the values and one for each input's derivatives, every round."""
        shape = self.method.primary_shape(self.dims)
        places, passes = 2 * self.pairs, 1 + shape.sizes[0]
        activations = places * passes * sum(shape.sizes)
        widest = places * shape.sizes[0] * max(shape.sizes)
        return Cost(
            flops=(self.rounds + 1) * 2.0 * places * passes * shape.num_weights,
            num_steps=self.rounds,
            memory_bytes=_BYTES * (shape.num_params + 4 * widest + places * (8 * shape.sizes[0] + sum(shape.sizes))),
            num_activations=float(self.rounds + 1) * activations,
        )

    def brief(self, num_steps: int | None) -> LipschitzQuotient:
        """Return the same with ``num_steps`` rounds."""
        return replace(self, rounds=num_steps or self.rounds)

    def start(self, members: Sequence[tuple[LipschitzQuotient, int]], device: str) -> PackRun:
        """Start the search on the networks of the members' seeds."""
        return LipschitzRun(self, [seed for _, seed in members], device)


class LipschitzRun:
    """The search on a pack of networks (a `PackRun`); a step is a round."""

    def __init__(self, setting: LipschitzQuotient, seeds: Sequence[int], device: str) -> None:
        self.setting, self.num_steps, self.step = setting, setting.rounds, 0
        dims, method = setting.dims, setting.method
        self._params = method.initialize(dims, seeds).to(device)
        with torch.no_grad():
            self._search = LipschitzSearch(
                method.primary_shape(dims),
                method.activation,
                self._params,
                seeds,
                pairs=setting.pairs,
                rounds=setting.rounds,
            )

    def advance(self, max_seconds: float) -> bool:
        """Work for about ``max_seconds``, at least one round; True once the search has ended."""
        deadline = time.monotonic() + max_seconds
        with torch.no_grad():
            while self.step < self.num_steps:
                self._search.advance()
                self.step = self._search.round
                if time.monotonic() > deadline:
                    break
        return self.step == self.num_steps

    def state(self) -> dict[str, Any]:
        """Return the search's places and what they came to; the networks are drawn again."""
        return self._search.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        self._search.restore(state)
        self.step = self._search.round

    def outcomes(self) -> list[Outcome]:
        """Return every network's quotient, spectral complexity and their ratio."""
        no_input = torch.empty(0, device=self._params.device)
        method, dims = self.setting.method, self.setting.dims
        complexities = method.spectral_complexities(dims, self._params, no_input)["spectral_complexity_primary"]
        outcomes: list[Outcome] = []
        for quotient, complexity in zip(self._search.largest.tolist(), complexities.tolist(), strict=True):
            metrics = {"lipschitz_quotient": quotient, "spectral_complexity_primary": complexity}
            ratio = {"lipschitz_ratio": quotient / complexity} if complexity > 0 else {}
            outcomes.append(Outcome(status="finished", metrics={**metrics, **ratio}))
        return outcomes
