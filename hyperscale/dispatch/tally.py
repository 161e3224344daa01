"""What a launch has come to: its executor's events made durable, counted, and left where `status` finds them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperscale.claims import is_error
from hyperscale.dispatch.checkpoints import discard
from hyperscale.trial import Trial, TrialRecord, TrialResult

if TYPE_CHECKING:
    from hyperscale.dispatch.launch import Launch

_HEARTBEAT_S = 2.0


class Nodes:
    """Which packs are on which machines, and what went wrong there; all of it by the executor's word."""

    def __init__(self) -> None:
        self.where: dict[int, str] = {}
        self.losses: dict[str, int] = {}
        self.left_out: dict[str, str] = {}
        self.readings: dict[str, Mapping[str, Any]] = {}

    @property
    def num_retries(self) -> int:
        """How many packs had to begin again because their worker was lost."""
        return sum(self.losses.values())

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return one entry a node: packs on it now, workers lost there, why it is left out, what it last measured."""
        names = sorted({*self.where.values(), *self.losses, *self.left_out, *self.readings})
        packs = list(self.where.values())
        return {
            name: {
                "packs": packs.count(name),
                "lost": self.losses.get(name, 0),
                "left_out": self.left_out.get(name),
                **self.readings.get(name, {}),
            }
            for name in names
        }


class Tally:
    """Counts, rate and best-so-far of a launch: what a progress display shows. Also the executor's events.

    ``ended`` writes to the journal first; recording and display come after. What an event costs grows with neither
    the number of trials nor that of packs.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.started = time.monotonic()
        self.ended_trials = 0
        self.running_packs = 0
        self.running_trials = 0
        self.stop_requested = threading.Event()
        self._fractions = [0.0] * len(launch.packs)
        self._weights = [pack.estimated_seconds for pack in launch.packs]
        self._whole_weight = sum(self._weights)
        self._done_weight = 0.0
        self._waiting: list[Set[str] | None] = [None] * len(launch.packs)
        self._beat_at = 0.0
        self.nodes = Nodes()
        self._best: dict[str, tuple[float, TrialRecord]] = {}
        self._looked_back = False

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed or a signal asked to end."""
        return self.stop_requested.is_set()

    @property
    def done_fraction(self) -> float:
        """The part of the work that is done, packs weighted by their estimated time."""
        return min(1.0, self._done_weight / self._whole_weight) if self._whole_weight else 1.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the launch."""
        return time.monotonic() - self.started

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds left, or None before there is anything to estimate from."""
        fraction = self.done_fraction
        return self.elapsed_s * (1 - fraction) / fraction if fraction > 0.005 else None

    @property
    def best(self) -> Mapping[str, tuple[float, TrialRecord]]:
        """The smallest error of each method, and its trial. Earlier launches' trials are read at the first look."""
        if not self._looked_back:
            self._looked_back = True
            if is_error(self._metric):
                self._note_best(self.launch.journal.view(trial.digest for trial in self.launch.trials))
        return self._best

    @property
    def _metric(self) -> str:
        return self.launch.study_file.study.metrics[0]

    def lease(self, pack: int) -> bool:  # noqa: ARG002
        """Say whether the pack may be started."""
        return True

    def placed(self, pack: int, node: str, readings: Mapping[str, Any] | None = None) -> None:
        """Note where a pack is being trained and what that machine measured, such as its GPU's use."""
        self.nodes.where[pack] = node
        if readings:
            self.nodes.readings[node] = readings

    def lost(self, pack: int, node: str, reason: str) -> None:
        """Note that a pack's worker was lost; the executor will have the pack begin again."""
        self.nodes.where.pop(pack, None)
        self.nodes.losses[node] = self.nodes.losses.get(node, 0) + 1
        self.launch.warn(f"A worker on {node} was lost: {reason} Its pack begins again from its last checkpoint.")
        self._beat(urgent=True)

    def left_out(self, node: str, reason: str) -> None:
        """Note that a node gets no more packs of this launch."""
        self.nodes.left_out[node] = reason
        self.launch.warn(f"Node {node} is left out of this run: {reason}")
        self._beat(urgent=True)

    def progress(self, pack: int, fraction: float) -> None:
        """Note a pack's progress."""
        self._advance(pack, fraction)
        self._beat()
        self.launch.on_change(self)

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Make results durable, then pass them on. A pack that began anew may report a trial a second time."""
        launch = self.launch
        members = {trial.digest: trial for trial in launch.packs[pack].trials}
        ended = [members[result.digest] for result in results]
        records = launch.journal.append(
            [(trial, _stamp(trial, result, launch)) for trial, result in zip(ended, results, strict=True)]
        )
        self._note_best(records)
        known = self._waiting[pack]
        waiting = members.keys() if known is None else known
        left = frozenset(waiting - {trial.digest for trial in ended})
        self._waiting[pack] = left
        self.ended_trials += len(waiting) - len(left)
        if not left:
            self._advance(pack, 1.0)
            self.nodes.where.pop(pack, None)
            discard(launch.store.checkpoints, launch.packs[pack])
        if launch.recording is not None:
            launch.recording.put(records)
        self._beat()
        launch.on_change(self)

    def _advance(self, pack: int, fraction: float) -> None:
        """Note that a pack has come as far as ``fraction``; it never goes back."""
        old, new = self._fractions[pack], max(self._fractions[pack], fraction)
        self._fractions[pack] = new
        self._done_weight += self._weights[pack] * (new - old)
        begun = (0 < new < 1) - (0 < old < 1)
        self.running_packs += begun
        self.running_trials += begun * len(self.launch.packs[pack].trials)

    def _note_best(self, records: Iterable[TrialRecord]) -> None:
        metric = self._metric
        if not is_error(metric):
            return
        for record in records:
            value, method = record.result.metrics.get(metric), str(record.columns.get("method", ""))
            if value is not None and (method not in self._best or value < self._best[method][0]):
                self._best[method] = (value, record)

    def _beat(self, *, ended: bool = False, urgent: bool = False) -> None:
        """Leave a sign of life for `status`, every few seconds."""
        if not ended and not urgent and time.monotonic() - self._beat_at < _HEARTBEAT_S:
            return
        self._beat_at = time.monotonic()
        with contextlib.suppress(OSError):
            self.launch.store.write_launch(
                self.launch.id,
                {
                    "study": self.launch.study_file.study.name,
                    "trials": len(self.launch.to_run),
                    "ended_trials": self.ended_trials,
                    "running": self.running_trials,
                    "packs": len(self.launch.packs),
                    "running_packs": self.running_packs,
                    "trials_per_minute": round(60 * self.ended_trials / max(self.elapsed_s, 1e-3), 1),
                    "elapsed_s": round(self.elapsed_s, 1),
                    "executor": self.launch.executor.name,
                    "host": socket.gethostname(),
                    "retries": self.nodes.num_retries,
                    "nodes": self.nodes.to_json(),
                    "fraction": round(self.done_fraction, 4),
                    "remaining_s": self.remaining_s,
                    "ended": ended,
                },
            )

    def close(self) -> None:
        """Leave the last sign of life, if there was a first."""
        if self._beat_at:
            self._beat(ended=True)


def _stamp(trial: Trial, result: TrialResult, launch: Launch) -> TrialResult:
    """Add to a trial's result which launch it is of; its digest becomes the trial's own string, kept but once."""
    provenance = {**result.provenance, "launch": launch.id, "executor": launch.executor.name}
    return replace(result, digest=trial.digest, provenance=provenance)
