"""What comes back from workers through Tune: results wrapped up small, and handed to the driver as they arrive."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperscale.dispatch.executor import Events
from hyperscale.dispatch.pack_queue import PackQueue, Part
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

    def __init__(self, events: Events, queue: PackQueue) -> None:
        self.events, self.queue = events, queue
        self.problem: HyperscaleError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def stopping(self) -> bool:
        """Whether to end everything: the driver winds down, or it can keep no more results."""
        return self.problem is not None or self.events.stopping

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to hand out, now or later."""
        return self.stopping or self.queue.finished

    def next(self, key: str) -> Part | None:
        """Hand out the next part, unless everything ends."""
        if self.stopping:
            return None
        try:
            return self.queue.next(key)
        except HyperscaleError as problem:
            self.problem = problem
            return None

    def take(self, key: str, result: dict[str, Any], node: str) -> None:
        """Hand a pack's results to the driver as they arrive, and leave Tune nothing to keep of them."""
        parcel = result.pop(RESULTS, None)
        pack = self.queue.members(key)
        if pack is None:
            return
        try:
            self.events.placed(pack, node, result.pop("readings", None))
            if parcel is not None:
                self.events.ended(pack, parcel.results())
            self.queue.heard(key, node, float(result.get("fraction", 0.0)), done=bool(result.get("done")))
        except HyperscaleError as problem:
            self.problem = problem

    def lost(self, key: str, reason: str, node: str | None, *, out_of_memory: bool) -> None:
        """Tell the queue that a pack's worker was lost, unless it was ended because everything ends."""
        if self.stopping:
            return
        try:
            self.queue.lost(key, reason, node, out_of_memory=out_of_memory)
        except HyperscaleError as problem:
            self.problem = problem
