"""A base for settings that only lend their columns to a test and are never trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperscale.settings.setting import Cost, Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Untrained(Setting):
    """A setting without a program: a test that starts it fails."""

    def program(self) -> object:
        """One program for all."""
        return None

    def cost(self) -> Cost:
        """Next to nothing."""
        return Cost(flops=1.0, num_steps=1, memory_bytes=1)

    def start(self, members: Sequence[tuple[Any, int]], device: str) -> Any:
        """Refuse."""
        raise AssertionError(f"{type(self).__name__} is never trained")


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing(Untrained):
    """A setting of one method, one size and one metric."""

    width: int = 1

    @property
    def method_name(self) -> str:
        """The method."""
        return "Nothing"

    def columns(self) -> dict[str, Any]:
        """An integer, a float and a text."""
        return {"method": "Nothing", "width": self.width, "lr": 1.0}

    def metric_names(self) -> tuple[str, ...]:
        """One metric."""
        return ("rmse",)
