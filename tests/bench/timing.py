"""Interleaved rounds: every mode of a row is timed once per round, so that a slow moment of the machine hits all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Station(Protocol):
    """Where programs are kept and timed: this process, or worker processes."""

    def prepare(self, mode: str) -> None:
        """Build the program of ``mode``."""

    def unit(self, mode: str, step_s: float) -> int:
        """Return the number of steps that a fair measurement is a multiple of, when a step takes ``step_s``."""

    def time(self, mode: str, count: int) -> float:
        """Take ``count`` steps and return the seconds of one step of one member."""

    def members(self, mode: str) -> int:
        """Return the number of members of the program of ``mode``."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure: rounds, seconds per measurement, and the longest time worth spending on one mode."""

    rounds: int = 5
    seconds: float = 0.08
    longest_s: float = 4.0


@dataclass(kw_only=True)
class Timing:
    """The seconds per member-step that the rounds gave."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median over rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The distance of the extremes over the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def plan_steps(station: Station, mode: str, effort: Effort) -> tuple[int, float] | None:
    """Warm a mode up; return its steps per round and a step's seconds, or None where its rounds would take too long.

    Two short measurements: the first pays for the first touch of memory, the second tells the speed.
    """
    step_s = station.time(mode, 1) * station.members(mode)
    if step_s * (effort.rounds + 1) > 2 * effort.longest_s:
        return None
    step_s = station.time(mode, station.unit(mode, step_s)) * station.members(mode)
    count = steps_for(effort.seconds, step_s, station.unit(mode, step_s))
    return (count, step_s) if count * step_s * effort.rounds <= effort.longest_s else None


def steps_for(seconds: float, step_s: float, unit: int = 1) -> int:
    """Return how many steps of ``step_s`` fill ``seconds``, a multiple of ``unit``."""
    return unit * max(1, math.ceil(seconds / (step_s * unit)))


def interleave(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    """Call every measure once per round and return what each gave; the order turns from round to round."""
    timings = {name: Timing() for name in measures}
    names = list(measures)
    for number in range(rounds):
        shift = number % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            timings[name].seconds.append(measures[name]())
    return timings
