"""What every kind of setting offers: its columns, its metrics, its cost, and a run of a pack of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hyperscale.identity import canonical, canonical_text, sha256

Scalar = str | int | float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one trial is expected to cost: arithmetic, optimiser steps, memory.

    ``flops`` counts multiply-adds twice, forward, backward and update. ``memory_bytes`` is what each trial of a pack
    adds to the peak, ``shared_bytes`` what a pack needs once (evaluation goes member by member). ``num_activations``
    are the numbers that all steps' elementwise operations pass over, ``evaluation_flops`` what a long evaluation takes.
    """

    flops: float
    num_steps: int
    memory_bytes: int
    shared_bytes: int = 0
    num_activations: float = 0.0
    evaluation_flops: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one member of a pack came to. ``reason`` explains every status but ``finished``."""

    status: str
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)


class PackRun(Protocol):
    """A pack of trials in progress. It can be advanced in slices, saved, and restored bit for bit on CPU.

    A run whose steps are not alike may have ``measure_step(slice_s, synchronize)``, for probes: the seconds of a step
    on average over the whole run, found by about a slice of every part. A run may also have ``restore_part(state,
    members)``, to go on from what a larger run had saved, of which ``members`` are its own: without it the halves of a
    pack that failed begin anew.
    """

    num_steps: int
    step: int

    def advance(self, max_seconds: float) -> bool:
        """Work for about ``max_seconds``; return True once every member has ended."""

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on elsewhere: tensors and plain data only."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""

    def outcomes(self) -> list[Outcome]:
        """Return the members' outcomes in order; valid once `advance` returned True."""


class _Remembered:
    """Room for a setting's digest once it is computed: no field, so it is in no comparison, copy or pickle."""

    __slots__ = ("_digest",)
    _digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting(_Remembered, ABC):
    """One configuration of one kind of work. A new kind is one new file that defines a subclass."""

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of every field, computed once."""
        if not hasattr(self, "_digest"):
            object.__setattr__(self, "_digest", sha256(canonical(self)))
        return self._digest

    @property
    @abstractmethod
    def method_name(self) -> str:
        """The method the setting runs, as claims and legends name it."""

    @abstractmethod
    def columns(self) -> dict[str, Scalar]:
        """What describes the setting in tables and in MLflow: method, sizes, learning rate, and so on."""

    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The metrics a finished trial of this setting reports."""

    @abstractmethod
    def program(self) -> object:
        """What trials must have in common to be trained as one program: the setting less what may vary."""

    @abstractmethod
    def cost(self) -> Cost:
        """The expected cost of one trial."""

    @abstractmethod
    def start(self, members: Sequence[tuple[Any, int]], device: str) -> PackRun:
        """Start a pack whose ``members`` are (setting, seed) pairs of the same program as this setting."""

    def brief(self, num_steps: int | None) -> Setting:  # noqa: ARG002
        """Return a setting of the same program to be measured: little data, ``num_steps`` steps or its own number.

        The default is the setting itself: its evaluation is not measured.
        """
        return self

    def program_key(self) -> str:
        """Return a text equal for exactly those settings that may share a pack."""
        return canonical_text([type(self).__name__, canonical(self.program())])
