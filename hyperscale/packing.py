"""Which trials may share a program, how many of them make a pack, and what it costs."""

from __future__ import annotations

import bisect
import heapq
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hyperscale.identity import sha256
from hyperscale.settings.setting import Cost, Setting
from hyperscale.trial import Trial

# Where nothing was measured: seconds of one optimiser step before any arithmetic, and arithmetic operations and
# activations a second of one core, as found on a 2-core machine with the small networks of the quickstart.
STEP_OVERHEAD_S = 1.5e-4
FLOPS_PER_SECOND = 6e10
ACTIVATIONS_PER_SECOND = 1.2e9
EVALUATION_S = 0.005
MAX_MEMBERS = 1024
DEFAULT_MEMORY_BYTES = 3 * 2**30

_GOOD_ENOUGH = 1.07
_OVERHEAD_PART = 0.1
_ESTIMATED_MEMBERS = 256
_FINEST_DIVISION = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast packs of one program train on one core or device.

    ``step_seconds`` are those of one optimiser step of a pack of ``members`` trials, size by size in rising order;
    ``evaluation_s`` is a member's evaluation at the end; ``member_bytes`` is what each member adds to the peak of
    memory, ``shared_bytes`` what a pack needs once. ``open_ended``: larger packs may pay, and went unmeasured for want
    of trials or memory.
    """

    members: tuple[int, ...]
    step_seconds: tuple[float, ...]
    evaluation_s: float
    member_bytes: int
    shared_bytes: int = 0
    measured: bool = True
    open_ended: bool = False

    def seconds(self, num_members: int) -> float:
        """Return the seconds of a step of ``num_members`` trials, linear between measured sizes and beyond."""
        if len(self.members) == 1:
            return self.step_seconds[0] * max(1.0, num_members / self.members[0])
        at = min(max(bisect.bisect_left(self.members, num_members), 1), len(self.members) - 1)
        (low, high), (first, second) = self.members[at - 1 : at + 1], self.step_seconds[at - 1 : at + 1]
        return max(first + (second - first) * (num_members - low) / (high - low), 0.5 * self.step_seconds[0])

    @property
    def best_members(self) -> int:
        """The smallest measured size whose time a member is within 7 % of the best, for noise is no reason."""
        each = [seconds / members for members, seconds in zip(self.members, self.step_seconds, strict=True)]
        return next(m for m, time in zip(self.members, each, strict=True) if time <= _GOOD_ENOUGH * min(each))


def estimated_speed(setting: Setting) -> Speed:
    """Return a program's speed by a fixed model: launches, matrix products, elementwise passes."""
    cost = setting.cost()
    each = (cost.flops / FLOPS_PER_SECOND + cost.num_activations / ACTIVATIONS_PER_SECOND) / cost.num_steps
    most = int(min(_ESTIMATED_MEMBERS, max(1.0, STEP_OVERHEAD_S / (_OVERHEAD_PART * max(each, 1e-12)))))
    sizes = (1, most) if most > 1 else (1,)
    return Speed(
        members=sizes,
        step_seconds=tuple(STEP_OVERHEAD_S + size * each for size in sizes),
        evaluation_s=EVALUATION_S + cost.evaluation_flops / FLOPS_PER_SECOND,
        member_bytes=cost.memory_bytes,
        shared_bytes=cost.shared_bytes,
        measured=False,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """Trials trained as one vectorised program; ``speed`` is the program's, where it is known."""

    trials: tuple[Trial, ...]
    speed: Speed | None = field(default=None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the members' digests in order: it names the pack's checkpoint."""
        return sha256([trial.digest for trial in self.trials])

    @property
    def cost(self) -> Cost:
        """What the pack costs as a whole: the members' arithmetic and memory, the longest member's steps."""
        costs = [cost for _, cost in _costs(self.trials)]
        return Cost(
            flops=sum(cost.flops for cost in costs),
            num_steps=max(cost.num_steps for cost in costs),
            memory_bytes=sum(cost.memory_bytes for cost in costs),
            shared_bytes=max(cost.shared_bytes for cost in costs),
            num_activations=sum(cost.num_activations for cost in costs),
            evaluation_flops=sum(cost.evaluation_flops for cost in costs),
        )

    @property
    def memory_bytes(self) -> int:
        """The pack's expected peak memory."""
        if self.speed is not None:
            return self.speed.shared_bytes + self.speed.member_bytes * len(self.trials)
        return self.cost.shared_bytes + self.cost.memory_bytes

    @property
    def estimated_seconds(self) -> float:
        """The expected time on one core or device: steps, fewer members as shorter ones end, then evaluations."""
        speed = self.speed or estimated_speed(self.trials[0].setting)
        lengths = sorted(cost.num_steps for _, cost in _costs(self.trials))
        seconds, done = len(lengths) * speed.evaluation_s, 0
        for index, length in enumerate(lengths):
            if length > done:
                seconds += (length - done) * speed.seconds(len(lengths) - index)
                done = length
        return seconds

    def halves(self) -> tuple[Pack, Pack]:
        """Split into two packs, for when the whole does not fit or fails."""
        assert len(self.trials) > 1
        middle = len(self.trials) // 2
        first, second = self.trials[:middle], self.trials[middle:]
        return Pack(trials=first, speed=self.speed), Pack(trials=second, speed=self.speed)


def _costs(trials: Sequence[Trial]) -> list[tuple[Trial, Cost]]:
    """Return every trial with its setting's cost, each setting asked once."""
    known: dict[int, Cost] = {}
    for trial in trials:
        if id(trial.setting) not in known:
            known[id(trial.setting)] = trial.setting.cost()
    return [(trial, known[id(trial.setting)]) for trial in trials]


def programs(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by program, in the order in which programs first appear; within one, the longest first."""
    keys: dict[int, tuple[str, int]] = {}
    groups: dict[str, list[tuple[int, Trial]]] = {}
    for trial in trials:
        if id(trial.setting) not in keys:
            keys[id(trial.setting)] = trial.setting.program_key(), trial.setting.cost().num_steps
        key, steps = keys[id(trial.setting)]
        groups.setdefault(key, []).append((-steps, trial))
    return {key: [trial for _, trial in sorted(group, key=lambda pair: pair[0])] for key, group in groups.items()}


def make_packs(
    trials: Iterable[Trial],
    *,
    max_members: int | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    speeds: Mapping[str, Speed] | None = None,
    workers: int = 1,
) -> list[Pack]:
    """Group trials of the same program into packs, the longest first so that no long one ends last.

    A pack is as large as its program's `Speed` pays for (``speeds`` by program key, else the fixed model), at most
    ``max_members`` and ``memory_bytes``, but at least one trial; members are spread evenly: 17 trials at 16 become
    9 and 8. Where too few packs would leave ``workers`` idle, all are made smaller until that no longer saves time.
    """
    groups = programs(trials)
    known = speeds or {}
    pace = {key: known.get(key) or estimated_speed(group[0].setting) for key, group in groups.items()}
    sizes: dict[str, int] = {}
    for key, speed in pace.items():
        fitting = (memory_bytes - speed.shared_bytes) // max(speed.member_bytes, 1)
        wanted = speed.best_members if max_members is None or speed.measured else MAX_MEMBERS
        sizes[key] = int(max(1, min(wanted, max_members or MAX_MEMBERS, fitting)))
    best: tuple[float, list[Pack]] | None = None
    division = 1
    while division <= _FINEST_DIVISION and (division == 1 or workers > 1):
        packs = [
            Pack(trials=tuple(part), speed=pace[key])
            for key, group in groups.items()
            for part in _spread(group, max(1, sizes[key] // division))
        ]
        wall = estimated_wall_seconds(packs, workers)
        if best is None or wall < 0.98 * best[0]:
            best = wall, packs
        if len(packs) >= 8 * workers:
            break
        division *= 2
    assert best is not None
    return [pack for _, _, pack in sorted((-p.estimated_seconds, i, p) for i, p in enumerate(best[1]))]


def _spread(group: Sequence[Trial], fitting: int) -> list[Sequence[Trial]]:
    count = -(-len(group) // fitting)
    bounds = [round(index * len(group) / count) for index in range(count + 1)]
    return [group[start:stop] for start, stop in itertools.pairwise(bounds)]


def estimated_wall_seconds(packs: Sequence[Pack], workers: int | None = None) -> float:
    """Return the estimated time of ``packs`` on ``workers`` cores (default: this machine's), longest first."""
    loads = [0.0] * max(1, workers or os.cpu_count() or 1)
    for seconds in sorted((pack.estimated_seconds for pack in packs), reverse=True):
        heapq.heapreplace(loads, loads[0] + seconds)
    return max(loads)
