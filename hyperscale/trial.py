"""A trial (setting x seed), its identity, and what became of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hyperscale.identity import canonical, canonical_text
from hyperscale.settings.setting import Setting


class TrialStatus(StrEnum):
    """How a trial ended. Every status but ``FINISHED`` comes with a reason."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"

    @property
    def settled(self) -> bool:
        """Whether the outcome belongs to the trial itself, so that `run` never repeats it.

        Running out of memory or failing may be the machine's doing: the next `run` tries again.
        """
        return self in (TrialStatus.FINISHED, TrialStatus.DIVERGED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One setting trained from one seed."""

    setting: Setting
    seed: int
    _digest: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def of_setting(cls, setting: Setting, seeds: Iterable[int]) -> list[Trial]:
        """Return the trials of one setting, whose canonical text, most of the work of a digest, is made once."""
        text = canonical_text(canonical(setting))
        trials = [cls(setting=setting, seed=seed) for seed in seeds]
        for trial in trials:
            trial._remember(text)
        return trials

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical setting and the seed; hardware and executor are no part of it."""
        return self._digest or self._remember(canonical_text(canonical(self.setting)))

    def _remember(self, setting_text: str) -> str:
        """Keep the digest of ``{"seed": ..., "setting": ...}``, written here as `canonical_text` would."""
        text = f'{{"seed":{canonical_text(self.seed)},"setting":{setting_text}}}'
        digest = hashlib.sha256(text.encode()).hexdigest()
        object.__setattr__(self, "_digest", digest)
        return digest


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """What became of one trial, as the journal keeps it.

    ``metrics`` holds finite numbers only (what was not measured is absent); ``curves`` maps a name to
    ``[steps, values]``; ``provenance`` tells how it was computed (wall time, device, pack size, versions, when)
    and is the only part that may differ between two computations of the same trial.
    """

    digest: str
    setting_digest: str
    seed: int
    status: TrialStatus
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, sharing what the result holds; `from_json` is the inverse."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialResult:
        """Rebuild a result from `to_json`'s data; unknown keys are ignored, so old readers read new lines.

        Raises ValueError, KeyError or TypeError where the data are of another kind.
        """
        known = {name: data[name] for name in cls.__slots__ if name in data}
        result = cls(**{**known, "status": TrialStatus(known["status"])})
        result.check()
        return result

    def check(self) -> None:
        """Raise TypeError or ValueError where a field is of a wrong type, or a metric no finite number."""
        for name in ("digest", "setting_digest", "reason"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"its {name} is no text")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise TypeError("its seed is no whole number")
        if not 0 <= self.seed < 2**63:
            raise ValueError("its seed is out of range")
        for name in ("metrics", "curves", "provenance"):
            if not isinstance(getattr(self, name), Mapping):
                raise TypeError(f"its {name} are no mapping")
        if not all(map(is_finite, self.metrics.values())):
            raise ValueError("a metric is no finite number")
        if not all(map(_is_curve, self.curves.values())):
            raise ValueError("a curve is no pair of lists of finite numbers")


def is_finite(value: object) -> bool:
    """Whether a value of a journal is a number that a table can hold."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_curve(curve: object) -> bool:
    """Whether it is lists of finite numbers."""
    return isinstance(curve, list | tuple) and all(
        isinstance(part, list | tuple) and all(map(is_finite, part)) for part in curve
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """A result together with its setting's columns: all that the analysis and MLflow need to know."""

    result: TrialResult
    columns: Mapping[str, str | int | float]
