"""The planner: measures the programs of a study on the device at hand, and makes its packs accordingly."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperscale.dispatch.executor import Executor
from hyperscale.dispatch.probe import next_size, speed_from_json, speed_to_json
from hyperscale.errors import ResourceError
from hyperscale.identity import sha256
from hyperscale.packing import MAX_MEMBERS, Pack, Speed, estimated_speed, make_packs, programs
from hyperscale.recording.notes import read_note
from hyperscale.trial import Trial

SPEEDS = "probes.json"

_PROBED_PART = 0.04
_LEAST_WORK_S = 2.0
_PROBED_STEPS = 8
_PROBE_S = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a pack may be at most: trials, and bytes of memory; None leaves it to the planner."""

    max_members: int | None = None
    memory_bytes: int | None = None


def no_notice(number: int, total: int) -> None:
    """Say nothing about probe ``number`` of ``total``."""


class Planner:
    """Makes packs of a size that pays, by measurements kept in ``folder`` per device and program.

    What was never measured is measured when the work ahead is worth it: in all at most about 4 % of the expected
    time. ``on_probe`` is told the number of the probe that begins and how many there are.
    """

    def __init__(
        self,
        folder: Path,
        executor: Executor,
        limits: Limits | None = None,
        *,
        measures: bool = True,
        on_probe: Callable[[int, int], None] = no_notice,
    ) -> None:
        self.path = folder / SPEEDS
        self.executor, self.limits = executor, limits or Limits()
        self.measures, self.on_probe = measures, on_probe

    @property
    def memory_bytes(self) -> int:
        """The memory a pack may take: as told, else the executor's share of the device."""
        return self.limits.memory_bytes or self.executor.memory_per_pack()

    def __call__(self, trials: Sequence[Trial]) -> list[Pack]:
        """Return the packs of ``trials``; raise `ResourceError` where a single trial exceeds the told budget."""
        if not trials:
            return []
        groups = programs(trials)
        self._check_budget(groups)
        speeds = self._speeds(groups)
        return make_packs(
            trials,
            max_members=self.limits.max_members,
            memory_bytes=self.memory_bytes,
            speeds=speeds,
            workers=self.executor.workers(),
        )

    def _check_budget(self, groups: Mapping[str, Sequence[Trial]]) -> None:
        budget = self.limits.memory_bytes
        if budget is None:
            return
        costs = [(group[0].setting.cost(), group[0]) for group in groups.values()]
        needed = [(cost.memory_bytes + cost.shared_bytes, trial) for cost, trial in costs]
        most, trial = max(needed, key=lambda pair: pair[0])
        if most > budget:
            columns = trial.setting.columns()
            what = f"{columns.get('method')} with {columns.get('num_params_total', 0):,} parameters"
            raise ResourceError(
                f"A pack may take {budget / 2**20:.0f} MiB (--pack-memory), and one trial alone ({what}) wants about "
                f"{most / 2**20:.0f} MiB. Raise --pack-memory, or leave it out; or take a smaller network or sample."
            )

    def _speeds(self, groups: Mapping[str, Sequence[Trial]]) -> dict[str, Speed]:
        """Return what is known of the programs, measuring what is not known and worth it, the longest first."""
        kept, measures = self._read(), self.measures and self.limits.max_members != 1
        if not kept and not measures:
            return {}
        device = self.executor.device_key()
        if not isinstance(kept.get(device), dict):
            kept[device] = {}
        names = {key: sha256(key)[:16] for key in groups}
        read = {key: speed_from_json(kept[device].get(name)) for key, name in names.items()}
        speeds = {key: speed for key, speed in read.items() if speed is not None}
        missing = {key: group for key, group in groups.items() if measures and self._is_wanting(read[key], group)}
        chosen = self._worth_measuring(missing)
        for number, key in enumerate(chosen, start=1):
            self.on_probe(number, len(chosen))
            members = [(trial.setting, trial.seed) for trial in groups[key][: self._most_members]]
            speed = self.executor.measure(members, self.memory_bytes)
            if speed is not None:
                speeds[key], kept[device][names[key]] = speed, speed_to_json(speed)
        if chosen:
            self._write(kept)
        return speeds

    @property
    def _most_members(self) -> int:
        return self.limits.max_members or MAX_MEMBERS

    def _is_wanting(self, speed: Speed | None, group: Sequence[Trial]) -> bool:
        """Whether there is no measurement, or one that broke off for want of trials or memory there is now."""
        if speed is None or not speed.open_ended:
            return speed is None
        largest, available = speed.members[-1], min(len(group), self._most_members)
        return next_size(group[0].setting.cost(), largest, available, self.memory_bytes) >= 2 * largest

    def _worth_measuring(self, groups: Mapping[str, Sequence[Trial]]) -> list[str]:
        """Return the programs to measure: those with most work ahead, as long as probes are a small part of it."""
        work = {key: sum(pack.estimated_seconds for pack in make_packs(group)) for key, group in groups.items()}
        total = sum(work.values())
        if total < _LEAST_WORK_S:
            return []
        by_work = sorted((key for key in work if len(groups[key]) > 1), key=lambda key: -work[key])
        # A probe takes some slices of training of a few members, and two evaluations. Either is long for some settings:
        # a step of a chain of solvers may be all of its training.
        guesses = [estimated_speed(groups[key][0].setting) for key in by_work]
        costs = [_PROBE_S + 2 * guess.evaluation_s + _PROBED_STEPS * guess.step_seconds[0] for guess in guesses]
        ends = itertools.accumulate(costs)
        return [
            key for i, (key, end) in enumerate(zip(by_work, ends, strict=True)) if not i or end <= _PROBED_PART * total
        ]

    def _read(self) -> dict[str, Any]:
        """Return what was kept; a damaged file is as good as none."""
        data = read_note(self.path)
        return data if isinstance(data, dict) else {}

    def _write(self, kept: Mapping[str, Any]) -> None:
        """Keep the measurements; a store that cannot be written to costs another measurement, nothing else."""
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(kept, indent=1))
            draft.replace(self.path)
        except OSError:
            return
