"""The executor for debugging: packs one after another in this process, no Ray, no MLflow."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from hyperscale.dispatch.executor import Events, Executor
from hyperscale.dispatch.worker import CHECKPOINT_INTERVAL_S, PackWorker, default_device
from hyperscale.packing import Pack

SLICE_S = 0.5


class InProcess(Executor):
    """Trains packs one after another in the calling process, on one thread or on the GPU."""

    name = "in-process"

    def __init__(self, device: str | None = None, *, checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S) -> None:
        self.device = device or default_device()
        self.checkpoint_interval_s = checkpoint_interval_s

    def workers(self) -> int:
        """One pack at a time."""
        return 1

    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Train the packs in order; on stopping, save the running one's checkpoint."""
        node = socket.gethostname()
        for index, pack in enumerate(packs):
            if not events.lease(index):
                continue
            events.placed(index, node)
            worker = PackWorker(
                pack,
                device=self.device,
                checkpoints=checkpoints,
                checkpoint_interval_s=self.checkpoint_interval_s,
            )
            while not worker.done:
                if events.stopping:
                    worker.save()
                    return
                results = worker.advance(SLICE_S)
                if results:
                    events.ended(index, results)
                events.progress(index, worker.fraction)
