"""Which packs wait, run and begin again: retries with a bound, halving, silence, and nodes that fail too often.

Knows no scheduler: one asks for the next `Part`, says where it runs and what came of it. Times are ``clock``'s seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperscale.dispatch.checkpoints import discard
from hyperscale.dispatch.executor import Events
from hyperscale.packing import Pack
from hyperscale.trial import Trial, TrialResult, TrialStatus

UNKNOWN_NODE = "a node unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How much trouble is borne before something is given up.

    A pack whose worker is lost ``max_failures`` times more than once is halved, and a single trial fails. Losses with a
    whole node are not the pack's fault: ``max_node_losses`` of them are borne. ``silence_s`` without a word, or
    ``time_limit_s`` in all, end a worker (None: 20 times the estimate and an hour at least). A node on which
    ``node_failures`` packs failed that failed nowhere else, with no success between, is left out.
    """

    max_failures: int = 2
    max_node_losses: int = 10
    silence_s: float = 1800.0
    time_limit_s: float | None = None
    node_failures: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Members ``first`` up to ``last`` of pack number ``pack``, and what has befallen them so far.

    ``origins`` are the members of the parts that it is a half of, the smallest first: it goes on from what they saved.
    """

    pack: int
    first: int
    last: int
    attempt: int = 0
    failures: int = 0
    node_losses: int = 0
    nodes: tuple[str, ...] = ()
    reason: str = ""
    origins: tuple[tuple[int, int], ...] = ()

    @property
    def num_members(self) -> int:
        """How many trials it has."""
        return self.last - self.first

    def halves(self, failures: int) -> tuple[Part, Part]:
        """Return two parts that begin with ``failures`` on their account."""
        middle = (self.first + self.last + 1) // 2
        fresh = replace(
            self, failures=failures, attempt=self.attempt + 1, origins=((self.first, self.last), *self.origins)
        )
        return replace(fresh, last=middle), replace(fresh, first=middle)


@dataclass(slots=True)
class _Run:
    part: Part
    started_at: float = float("inf")
    heard_at: float = float("inf")
    limit_s: float = float("inf")
    node: str | None = None
    fraction: float = 0.0


@dataclass(slots=True)
class _Node:
    """The packs that failed on a node and nowhere else, since something last succeeded there."""

    suspects: set[int] = field(default_factory=set)


class PackQueue:
    """The packs of one go, from the first that waits to the last that ended.

    ``alive`` returns the nodes that are up; it is asked only when something went wrong.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        events: Events,
        checkpoints: Path,
        *,
        patience: Patience | None = None,
        alive: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.packs, self.events, self.checkpoints = packs, events, checkpoints
        self.patience = patience or Patience()
        self.alive, self._clock = alive, clock
        self.left_out: dict[str, str] = {}
        self._waiting = deque(Part(pack=index, first=0, last=len(pack.trials)) for index, pack in enumerate(packs))
        self._running: dict[str, _Run] = {}
        self._ended_members = [0] * len(packs)
        self._nodes: dict[str, _Node] = {}
        self._ready: Part | None = None
        self._halved: dict[int, list[Part]] = {}

    @property
    def finished(self) -> bool:
        """Whether nothing waits and nothing runs; asking may lease the next pack."""
        return not self._running and not self._prepare()

    @property
    def num_running(self) -> int:
        """How many parts have been handed out and have not ended."""
        return len(self._running)

    def next(self, key: str) -> Part | None:
        """Hand out the next part under a key of the caller's, or None where nothing waits just now."""
        if not self._prepare():
            return None
        part, self._ready = self._ready, None
        assert part is not None
        self._running[key] = _Run(part=part)
        return part

    def _prepare(self) -> bool:
        """Have the next part that is this driver's at hand; return whether there is one."""
        while self._ready is None and self._waiting:
            part = self._waiting.popleft()
            if part.attempt > 0 or self.events.lease(part.pack):
                self._ready = part
        return self._ready is not None

    def avoided(self, part: Part) -> tuple[str, ...]:
        """Return the nodes ``part`` is to keep away from: those left out, and where it failed, if others are up."""
        here = set(self.left_out)
        others = set(self.alive()) - here - set(part.nodes) if part.nodes else set()
        return tuple(sorted(here | set(part.nodes) if others else here))

    def started(self, key: str) -> None:
        """Note that a part's worker was started: its time runs from now."""
        run = self._running.get(key)
        if run is not None:
            run.started_at = run.heard_at = self._clock()
            limit = self.patience.time_limit_s
            run.limit_s = limit or max(3600.0, 20 * self.packs[run.part.pack].estimated_seconds)

    def heard(self, key: str, node: str, fraction: float, *, done: bool) -> None:
        """Note a worker's word: where it is and how far it has come."""
        run = self._running.get(key)
        if run is None:
            return
        run.heard_at, run.node, run.fraction = self._clock(), node, fraction
        part = run.part
        if done:
            del self._running[key]
            self._ended_members[part.pack] += part.num_members
            self._nodes.setdefault(node, _Node()).suspects.clear()
            self._forget(part)
        self.events.progress(part.pack, self._fraction(part.pack))

    def members(self, key: str) -> int | None:
        """Return the number of the pack whose part runs under ``key``; None where none does any more."""
        run = self._running.get(key)
        return None if run is None else run.part.pack

    def _fraction(self, pack: int) -> float:
        running = sum(run.fraction * run.part.num_members for run in self._running.values() if run.part.pack == pack)
        return min(1.0, (self._ended_members[pack] + running) / len(self.packs[pack].trials))

    def overdue(self) -> list[tuple[str, str]]:
        """Return the keys of workers to end, and why: too long silent or too long at it."""
        now, found = self._clock(), []
        for key, run in self._running.items():
            if now - run.heard_at > self.patience.silence_s:
                found.append((key, f"no word for {self.patience.silence_s:g} s (--silence-limit)"))
            elif now - run.started_at > run.limit_s:
                found.append((key, f"still not done after {run.limit_s:g} s (--pack-time-limit)"))
        return found

    def put_back(self) -> None:
        """Have everything that runs begin again, nobody being at fault: the whole cluster was lost."""
        parts = [replace(run.part, attempt=run.part.attempt + 1) for run in self._running.values()]
        self._running.clear()
        self._waiting.extendleft(reversed(parts))

    def lost(self, key: str, reason: str, node: str | None = None, *, out_of_memory: bool = False) -> None:
        """Note that a part's worker was lost, and have the part begin again, halved, or fail."""
        run = self._running.pop(key, None)
        if run is None:
            return
        where = node or run.node or UNKNOWN_NODE
        node_died = where != UNKNOWN_NODE and where not in self.alive()
        part = replace(run.part, attempt=run.part.attempt + 1, reason=reason)
        if node_died:
            part = replace(part, node_losses=part.node_losses + 1)
        else:
            part = replace(part, failures=part.failures + 1, nodes=tuple(dict.fromkeys((*part.nodes, where))))
            self._suspect(where, part)
        if part.failures <= self.patience.max_failures and part.node_losses <= self.patience.max_node_losses:
            self.events.lost(part.pack, where, f"{reason}.")
            self._waiting.append(part)
        elif part.num_members > 1 and part.node_losses <= self.patience.max_node_losses:
            self.events.lost(part.pack, where, f"{reason}; of its {part.num_members} trials halves are tried.")
            self._waiting.extend(part.halves(max(0, self.patience.max_failures - 1)))
            self._halved.setdefault(part.pack, []).append(part)
        else:
            self._give_up(part, out_of_memory=out_of_memory)

    def _suspect(self, where: str, part: Part) -> None:
        """Count a failure against a node, unless the pack fails elsewhere too; leave the node out at its third."""
        if where == UNKNOWN_NODE:
            return
        self._nodes.setdefault(where, _Node())
        if len(part.nodes) > 1:
            for name in part.nodes:
                self._nodes.setdefault(name, _Node()).suspects.discard(part.pack)
            return
        suspects = self._nodes[where].suspects
        suspects.add(part.pack)
        others = set(self.alive()) - set(self.left_out) - {where}
        if len(suspects) >= self.patience.node_failures and others and where not in self.left_out:
            self.left_out[where] = f"{len(suspects)} packs failed there and nowhere else, the last with: {part.reason}."
            self.events.left_out(where, self.left_out[where])

    def _give_up(self, part: Part, *, out_of_memory: bool) -> None:
        nodes = ", ".join(part.nodes) or "nodes that died"
        reason = f"its worker was lost {part.failures + part.node_losses} times, on {nodes}: {part.reason}"
        status = TrialStatus.OUT_OF_MEMORY if out_of_memory else TrialStatus.FAILED
        trials = self.packs[part.pack].trials[part.first : part.last]
        self._ended_members[part.pack] += part.num_members
        self._forget(part)
        self.events.ended(part.pack, [given_up(trial, status, reason) for trial in trials])
        self.events.progress(part.pack, self._fraction(part.pack))

    def _forget(self, part: Part) -> None:
        """Remove the checkpoint of a part that needs none any more; a whole pack's is the driver's."""
        pack = self.packs[part.pack]
        ended = self._ended_members[part.pack] >= len(pack.trials)
        for one in (part, *(self._halved.pop(part.pack, ()) if ended else ())):
            if one.num_members < len(pack.trials):
                discard(self.checkpoints, members_of(pack, one.first, one.last))


def members_of(pack: Pack, first: int, last: int) -> Pack:
    """Return the pack of some of a pack's members."""
    return pack if (first, last) == (0, len(pack.trials)) else Pack(trials=pack.trials[first:last], speed=pack.speed)


def given_up(trial: Trial, status: TrialStatus, reason: str) -> TrialResult:
    """Return the result of a trial that no worker could bring to an end."""
    return TrialResult(
        digest=trial.digest, setting_digest=trial.setting.digest(), seed=trial.seed, status=status, reason=reason
    )
