"""Ended trials held back until their whole setting has ended, for studies recorded one run per setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hyperscale.study import PER_SETTING, Study
from hyperscale.trial import Trial, TrialRecord

_MOST_HELD = 4096


class Gathering:
    """Passes records on by settings: once all trials of a setting that the launch runs have ended.

    What is held is bounded: beyond ``most`` records the settings that have waited longest are given up. Nothing is
    lost with them, for whatever was not passed on is read from the journal at the end of the launch. A study that
    is recorded one run per trial has every record passed on at once.
    """

    def __init__(self, study: Study, trials: Sequence[Trial], most: int = _MOST_HELD) -> None:
        self._most = most
        self._held: dict[str, dict[str, TrialRecord]] = {}
        self._awaited: dict[str, int] = {}
        if study.mlflow_runs == PER_SETTING:
            settings = {id(trial.setting): trial.setting for trial in trials}
            counts = Counter(id(trial.setting) for trial in trials)
            self._awaited = {setting.digest(): counts[key] for key, setting in settings.items()}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def add(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Take records; return those whose setting is complete with them."""
        complete: list[TrialRecord] = []
        for record in records:
            key = record.result.setting_digest
            group = self._held.setdefault(key, {})
            group[record.result.digest] = record
            if len(group) >= self._awaited.get(key, 1):
                complete += self._held.pop(key).values()
        return complete

    def give_up(self) -> int:
        """Let go of what is too much to hold, the oldest first; return how many records that was."""
        before = held = len(self)
        while held > self._most:
            held -= len(self._held.pop(next(iter(self._held))))
        return before - held

    def clear(self) -> None:
        """Let go of everything."""
        self._held.clear()
