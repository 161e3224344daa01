"""What comes back from workers through Tune: results wrapped up small, and handed to the driver as they arrive."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperscale.dispatch.executor import Events
from hyperscale.errors import HyperscaleError
from hyperscale.trial import TrialResult

RESULTS = "results"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A pack's results on their way through Tune, which writes out and copies what it carries: small and opaque."""

    data: bytes

    @classmethod
    def of(cls, results: Sequence[TrialResult]) -> Parcel:
        """Wrap results up."""
        return cls(zlib.compress(json.dumps([result.to_json() for result in results]).encode(), 1))

    def results(self) -> list[TrialResult]:
        """Unwrap them."""
        return [TrialResult.from_json(data) for data in json.loads(zlib.decompress(self.data))]

    def __repr__(self) -> str:
        return f"Parcel({len(self.data)} bytes)"


class Reports:
    """What the driver learns from Tune; never saved with Tune's own state, for it holds open files and locks."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.done: set[int] = set()
        self.problem: HyperscaleError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def stopping(self) -> bool:
        """Whether to end everything: the driver winds down, or it can keep no more results."""
        return self.problem is not None or self.events.stopping

    def take(self, index: int, result: dict[str, Any]) -> None:
        """Hand a pack's results to the driver as they arrive, and leave Tune nothing to keep of them."""
        parcel = result.pop(RESULTS, None)
        try:
            if parcel is not None:
                self.events.ended(index, parcel.results())
            self.events.progress(index, float(result.get("fraction", 0.0)))
        except HyperscaleError as problem:
            self.problem = problem
        if result.get("done"):
            self.done.add(index)
