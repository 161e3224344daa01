"""Learning-rate schedules: a factor of the base rate at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hyperscale.errors import check_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """The base rate throughout."""

    def factor(self, step: int, num_steps: int) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """From 1 down to ``final`` along half a cosine: final + (1 - final) (1 + cos(pi t / T)) / 2."""

    final: float = 0.0

    def __post_init__(self) -> None:
        """Check the final factor."""
        check_number("Cosine.final", self.final, least=0, most=1)
        object.__setattr__(self, "final", float(self.final))

    def factor(self, step: int, num_steps: int) -> float:
        """Return the factor at 0-based ``step`` of ``num_steps``."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * step / num_steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Exponential:
    """Multiplied by ``rate`` after every step: rate^t."""

    rate: float = 0.9999

    def __post_init__(self) -> None:
        """Check the rate."""
        check_number("Exponential.rate", self.rate, above=0, most=1)
        object.__setattr__(self, "rate", float(self.rate))

    def factor(self, step: int, num_steps: int) -> float:  # noqa: ARG002
        """Return the factor at 0-based ``step``."""
        return float(self.rate**step)


Schedule = Constant | Cosine | Exponential
