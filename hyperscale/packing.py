"""Which trials may share a program, how many fit, and what it costs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hyperscale.identity import sha256
from hyperscale.settings.setting import Cost, Setting
from hyperscale.trial import Trial

# Seconds of one optimiser step before any arithmetic, and arithmetic operations and activations a second of one core,
# measured on the packs of the quickstart on a 2-core machine. They order the packs and give `plan` its estimate;
# nothing else depends on them.
STEP_OVERHEAD_S = 6e-4
FLOPS_PER_SECOND = 5e10
ACTIVATIONS_PER_SECOND = 8e8
DEFAULT_MAX_MEMBERS = 16
DEFAULT_MEMORY_BYTES = 3 * 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """Trials trained as one vectorised program."""

    trials: tuple[Trial, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the members' digests in order: it names the pack's checkpoint."""
        return sha256([trial.digest for trial in self.trials])

    @property
    def cost(self) -> Cost:
        """What the pack costs as a whole: the members' arithmetic and memory, one member's number of steps."""
        known = {id(setting): setting.cost() for setting in _settings(self.trials)}
        costs = [known[id(trial.setting)] for trial in self.trials]
        return Cost(
            flops=sum(cost.flops for cost in costs),
            num_steps=max(cost.num_steps for cost in costs),
            memory_bytes=sum(cost.memory_bytes for cost in costs),
            num_activations=sum(cost.num_activations for cost in costs),
        )

    @property
    def estimated_seconds(self) -> float:
        """A rough time on one CPU core: launch overhead of every step, matrix products, elementwise passes."""
        cost = self.cost
        arithmetic = cost.flops / FLOPS_PER_SECOND + cost.num_activations / ACTIVATIONS_PER_SECOND
        return cost.num_steps * STEP_OVERHEAD_S + arithmetic

    def halves(self) -> tuple[Pack, Pack]:
        """Split into two packs, for when the whole does not fit or fails."""
        assert len(self.trials) > 1
        middle = len(self.trials) // 2
        return Pack(trials=self.trials[:middle]), Pack(trials=self.trials[middle:])


def make_packs(
    trials: Iterable[Trial],
    *,
    max_members: int = DEFAULT_MAX_MEMBERS,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> list[Pack]:
    """Group trials of the same program into packs, the longest first so that no long one ends last.

    A pack holds at most ``max_members`` trials and at most ``memory_bytes`` of estimated memory, but at least
    one trial. Members are spread evenly: 17 trials at 16 become 9 and 8, not 16 and 1.
    """
    groups: dict[str, list[Trial]] = {}
    for _, same in itertools.groupby(trials, key=lambda trial: id(trial.setting)):
        members = list(same)
        groups.setdefault(members[0].setting.program_key(), []).extend(members)
    packs: list[Pack] = []
    for group in groups.values():
        memory = max(setting.cost().memory_bytes for setting in _settings(group))
        fitting = max(1, min(max_members, memory_bytes // max(memory, 1)))
        packs.extend(Pack(trials=tuple(part)) for part in _spread(group, fitting))
    return sorted(packs, key=lambda pack: -pack.estimated_seconds)


def _settings(trials: Iterable[Trial]) -> list[Setting]:
    """Return the settings of ``trials``, each object once: what is asked of a setting need not be asked per seed."""
    return list({id(trial.setting): trial.setting for trial in trials}.values())


def _spread(group: Sequence[Trial], fitting: int) -> list[Sequence[Trial]]:
    count = -(-len(group) // fitting)
    bounds = [round(index * len(group) / count) for index in range(count + 1)]
    return [group[start:stop] for start, stop in itertools.pairwise(bounds)]


def estimated_wall_seconds(packs: Sequence[Pack], workers: int | None = None) -> float:
    """Return the estimated time of ``packs`` on ``workers`` cores (default: this machine's), longest first."""
    loads = [0.0] * max(1, workers or os.cpu_count() or 1)
    for pack in packs:
        loads[loads.index(min(loads))] += pack.estimated_seconds
    return max(loads)
