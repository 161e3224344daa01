"""What a launch has come to: its executor's events made durable, counted, and left where `status` finds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperscale.claims import is_error
from hyperscale.dispatch.checkpoints import discard
from hyperscale.dispatch.forecast import Forecast
from hyperscale.recording.credentials import hidden
from hyperscale.trial import Trial, TrialRecord, TrialResult

if TYPE_CHECKING:
    from hyperscale.dispatch.launch import Launch

_HEARTBEAT_S = 2.0
_LOOK_AROUND_S = 5.0


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
        self.ran_trials = 0
        self.ran_packs = 0
        self.running_packs = 0
        self.running_trials = 0
        self.stop_requested = threading.Event()
        self.nodes = Nodes()
        self._open = {trial.digest for trial in launch.to_run}
        self._theirs: dict[str, Trial] = {}
        self._whole_weight = self._done_weight = 0.0
        self._beat_at = float("-inf")
        self._best: dict[str, tuple[float, TrialRecord]] = {}
        self._looked_back = False
        self._unseen: list[str] = []
        self._forecast = Forecast()
        self._looked_at = self.started
        self.begin_round()

    def begin_round(self) -> None:
        """Begin with the launch's packs, which may be other ones than before: what is left, packed anew."""
        packs = self.launch.packs
        for trial in (trial for pack in packs for trial in pack.trials if self._theirs):
            self._theirs.pop(trial.digest, None)
        self._reported: dict[int, set[str]] = {}
        self.running_packs = self.running_trials = 0
        self.nodes.where.clear()
        self._forecast.begin_round()
        self._fractions = [0.0] * len(packs)
        self._weights = [pack.estimated_seconds for pack in packs]
        left = sum(self._weights)
        self._whole_weight = self._whole_weight or left
        self._done_weight = max(self._done_weight, self._whole_weight - left)

    @property
    def ended_trials(self) -> int:
        """How many of the trials that were to run have ended, be it here or with another driver."""
        return len(self.launch.to_run) - len(self._open)

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
        return self._forecast.remaining_s(self._done_weight, self._whole_weight)

    @property
    def best(self) -> Mapping[str, tuple[float, TrialRecord]]:
        """The smallest error of each method, and its trial. Other launches' trials are read when somebody looks."""
        if self._unseen or not self._looked_back:
            unseen = self._unseen if self._looked_back else [trial.digest for trial in self.launch.trials]
            self._looked_back, self._unseen = True, []
            if is_error(self._metric):
                self._note_best(self.launch.journal.view(unseen))
        return self._best

    @property
    def _metric(self) -> str:
        return self.launch.study_file.study.metrics[0]

    def lease(self, pack: int) -> bool:
        """Lease the pack's trials; False where one of them is another driver's, or has ended there meanwhile.

        First the lease, then a look at what others have recorded: whoever held it before wrote that down first.
        """
        leases, digests = self.launch.leases, [trial.digest for trial in self.launch.packs[pack].trials]
        taken = self._all_open(digests) and leases.take(digests)
        if taken and leases.meet():
            self.look_around()
            if not self._all_open(digests):
                leases.release(digests)
                taken = False
        if not taken:
            self._give_up(pack)
        return taken

    def _give_up(self, pack: int) -> None:
        self._theirs |= {trial.digest: trial for trial in self.launch.packs[pack].trials}

    def look_around(self) -> None:
        """Read what other drivers have recorded: their trials have ended for this launch too, failed ones included."""
        self._looked_at = time.monotonic()
        gained = self._open.intersection(self.launch.journal.refresh())
        self._open -= gained
        self._unseen += gained
        if gained:
            self._beat()
            self.launch.on_change(self)

    def left(self) -> list[Trial]:
        """Return the trials that were left to other drivers and have not ended."""
        self._theirs = {digest: trial for digest, trial in self._theirs.items() if digest in self._open}
        return list(self._theirs.values())

    def _all_open(self, digests: Iterable[str]) -> bool:
        return self._open.issuperset(digests)

    def placed(self, pack: int, node: str, readings: Mapping[str, Any] | None = None) -> None:
        """Note where a pack is being trained and what that machine measured, such as its GPU's use."""
        self.nodes.where[pack] = node
        if readings:
            self.nodes.readings[node] = readings

    def lost(self, pack: int, node: str, reason: str) -> None:
        """Note that a pack's worker was lost; the executor will have the pack begin again."""
        self.nodes.where.pop(pack, None)
        self._forecast.lost(pack)
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
        others = self.launch.leases.has_others and self.launch.store.remote is None  # a look elsewhere may take long
        if others and time.monotonic() - self._looked_at > _LOOK_AROUND_S:
            self.look_around()
        self._beat()
        self.launch.on_change(self)

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Make results durable, then pass them on. A pack that began anew may report a trial a second time."""
        launch, reported = self.launch, {result.digest for result in results}
        members = {trial.digest: trial for trial in launch.packs[pack].trials}
        kept = self._still_ours(pack, results)
        records = launch.journal.append(
            [(members[result.digest], _stamp(members[result.digest], result, launch)) for result in kept]
        )
        self._note_best(records)
        launch.leases.settle(reported)
        self.ran_trials += len(self._open.intersection(result.digest for result in kept))
        self._open.difference_update(result.digest for result in kept)
        reported |= self._reported.pop(pack, set())
        if len(reported) < len(members):
            self._reported[pack] = reported
        else:
            self.ran_packs += self._fractions[pack] < 1
            self._advance(pack, 1.0)
            self.nodes.where.pop(pack, None)
            if self._theirs.keys().isdisjoint(members):
                discard(launch.store.checkpoints, launch.packs[pack])
        if launch.recording is not None:
            launch.recording.put(records)
        self._beat()
        launch.on_change(self)

    def _still_ours(self, pack: int, results: Sequence[TrialResult]) -> list[TrialResult]:
        """Return the results of trials that are leased by this launch.

        They all are, unless this driver has stood still for so long that others took it for dead.
        """
        leases, journal = self.launch.leases, self.launch.journal
        if leases.heart.faltered:
            leases.confirm()
            self.look_around()
            leases.forfeit(result.digest for result in results if journal.settled(result.digest))
        kept = [result for result in results if not leases.lost(result.digest)]
        if len(kept) < len(results):
            self._give_up(pack)
            self.launch.warn(
                f"This driver stood still for longer than its leases of {leases.heart.lease_s:g} s hold, and others "
                f"have taken {len(results) - len(kept)} of its trials: their results here are left out."
            )
        return kept

    def _advance(self, pack: int, fraction: float) -> None:
        """Note that a pack has come as far as ``fraction``; it never goes back."""
        old, new = self._fractions[pack], max(self._fractions[pack], fraction)
        self._fractions[pack] = new
        self._done_weight += self._weights[pack] * (new - old)
        self._forecast.moved(pack, new, self._done_weight)
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

    def _beat(self, *, urgent: bool = False) -> None:
        """Say every few seconds what the next signs of life are to tell `status`."""
        self.launch.leases.heart.start()
        if not urgent and time.monotonic() - self._beat_at < _HEARTBEAT_S:
            return
        self._beat_at = time.monotonic()
        self.launch.leases.heart.show(self._state(), urgent=urgent)

    def _state(self) -> dict[str, Any]:
        return {
            "study": self.launch.study_file.study.name,
            "trials": len(self.launch.to_run),
            "ended_trials": self.ended_trials,
            "running": self.running_trials,
            "packs": len(self.launch.packs),
            "running_packs": self.running_packs,
            "trials_per_minute": round(60 * self.ended_trials / max(self.elapsed_s, 1e-3), 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "executor": self.launch.executor.name,
            "retries": self.nodes.num_retries,
            "nodes": self.nodes.to_json(),
            "fraction": round(self.done_fraction, 4),
            "remaining_s": self.remaining_s,
        }

    def close(self) -> None:
        """Leave the last sign of life, if there was a first."""
        self.launch.leases.heart.close(self._state())


def _stamp(trial: Trial, result: TrialResult, launch: Launch) -> TrialResult:
    """Add to a trial's result which launch it is of; its digest becomes the trial's own string, kept but once."""
    provenance = {**result.provenance, "launch": launch.id, "executor": launch.executor.name}
    reason = hidden(result.reason) if result.reason else ""
    return replace(result, digest=trial.digest, reason=reason, provenance=provenance)
