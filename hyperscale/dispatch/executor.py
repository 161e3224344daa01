"""What an executor is: something that trains packs and reports what became of every trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hyperscale.packing import Pack
from hyperscale.trial import TrialResult


class Events(Protocol):
    """Where an executor reports to. All calls come from the driver's thread."""

    @property
    def stopping(self) -> bool:
        """Whether the executor should wind down: save checkpoints, start nothing new, return."""

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
