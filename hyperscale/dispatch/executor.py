"""What an executor is: something that trains packs and reports what became of every trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hyperscale.dispatch.probe import device_key_here, device_memory, measure_here
from hyperscale.packing import Pack, Speed
from hyperscale.settings.setting import Setting
from hyperscale.trial import TrialResult


class Events(Protocol):
    """Where an executor reports to. All calls come from the driver's thread."""

    @property
    def stopping(self) -> bool:
        """Whether the executor should wind down: save checkpoints, start nothing new, return."""

    def lease(self, pack: int) -> bool:
        """Ask, right before its start, whether pack number ``pack`` is this driver's; where not, it is left alone."""

    def placed(self, pack: int, node: str, readings: Mapping[str, Any] | None = None) -> None:
        """Pack number ``pack`` is being trained on ``node``, which measured ``readings`` (``gpu_use``, …)."""

    def lost(self, pack: int, node: str, reason: str) -> None:
        """The worker of pack number ``pack`` was lost on ``node``; the pack, or what is left of it, begins again."""

    def left_out(self, node: str, reason: str) -> None:
        """Node ``node`` gets no more packs, because they keep failing there."""

    def progress(self, pack: int, fraction: float) -> None:
        """Pack number ``pack`` has done ``fraction`` of its work."""

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Trials of pack number ``pack`` have ended; they are durable once this returns."""


class Executor(ABC):
    """Trains packs. An executor keeps no results and writes no journal: the driver does.

    Obligations: every trial is reported exactly once unless the executor was told to stop; a trial's failure is
    a result with a reason, never an exception; packs are started in the order given.
    """

    name: str

    @abstractmethod
    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Train all packs, keeping their checkpoints in ``checkpoints`` where that folder can be reached."""

    @abstractmethod
    def workers(self) -> int:
        """Return how many packs are expected to train at once on the machine at hand, for estimates."""

    def device_key(self) -> str:
        """Return what the device that packs train on is known by, so that measurements of it are found again."""
        return device_key_here()

    def measure(self, members: Sequence[tuple[Setting, int]], memory_bytes: int) -> Speed | None:
        """Measure packs of ``members`` on that device; None where they cannot even be started."""
        return measure_here(members, memory_bytes)

    def memory_per_pack(self) -> int:
        """Return how many bytes a pack may take by default: a share of what this machine's device has free."""
        return device_memory() // (2 * self.workers())
