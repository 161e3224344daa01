"""Studies with known exponents: what the battery draws, all replicates at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from analysis.exponents.curves import Floats

SCALE = 0.3
"""Scale of the seeds' excess or noise, in log units."""
GROWTH = 1.15
"""Factor per octave of a growing scale."""
GAP_PER_OCTAVE = 0.1
"""A drifting optimisation gap's mean, nats per octave."""
GAP_EXPONENT = GAP_PER_OCTAVE / np.log(2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """A design and the exponent behind it: ``octaves * per_octave + 1`` sizes."""

    exponent: Fraction
    octaves: int
    per_octave: int
    num_seeds: int
    num_targets: int

    @property
    def log_sizes(self) -> Floats:
        """Natural logs of the sizes, ``[sizes]``, from 8."""
        return np.log(8) + np.arange(self.octaves * self.per_octave + 1) / self.per_octave * np.log(2)

    @property
    def octave(self) -> Floats:
        """Octaves above the smallest size, ``[sizes]``."""
        return np.arange(self.octaves * self.per_octave + 1) / self.per_octave

    def alone(self) -> Truth:
        """Return the same design with one target: that of a calibration."""
        return replace(self, num_targets=1)

    @property
    def name(self) -> str:
        """For tables: exponent, octaves x sizes per octave, seeds, targets."""
        return f"{self.exponent}, {self.octaves}×{self.per_octave}, {self.num_seeds}, {self.num_targets}"


def truth(exponent: str, octaves: int, per_octave: int, num_seeds: int, num_targets: int) -> Truth:
    """Return a truth given in the order of the tables."""
    return Truth(
        exponent=Fraction(exponent),
        octaves=octaves,
        per_octave=per_octave,
        num_seeds=num_seeds,
        num_targets=num_targets,
    )


TRUTHS = (
    truth("1/6", 8, 2, 5, 1),
    truth("1/4", 12, 1, 3, 2),
    truth("1/3", 6, 2, 3, 1),
    truth("1/3", 11, 2, 5, 3),
    truth("1/2", 5, 1, 5, 1),
    truth("1/2", 8, 2, 5, 1),
    truth("2/3", 10, 1, 4, 4),
    truth("1", 5, 2, 3, 2),
    truth("1", 7, 1, 10, 1),
    truth("1", 12, 2, 3, 1),
    truth("3/2", 9, 1, 5, 2),
    truth("2", 6, 2, 10, 1),
)

Draw = Callable[[np.random.Generator, Truth, tuple[int, int, int, int]], Floats]


def _half_normal(generator: np.random.Generator, _: Truth, shape: tuple[int, int, int, int]) -> Floats:
    return SCALE * np.abs(generator.standard_normal(shape))


def _exponential(generator: np.random.Generator, _: Truth, shape: tuple[int, int, int, int]) -> Floats:
    return SCALE * generator.standard_exponential(shape)


def _log_normal(generator: np.random.Generator, _: Truth, shape: tuple[int, int, int, int]) -> Floats:
    return SCALE * generator.standard_normal(shape)


def _heavy(generator: np.random.Generator, _: Truth, shape: tuple[int, int, int, int]) -> Floats:
    return SCALE * generator.standard_t(3, shape)


def _shared(generator: np.random.Generator, truth: Truth, shape: tuple[int, int, int, int]) -> Floats:
    """Half-normal excess, a level of each target (sd .3), and a deviation that all seeds of a cell share (sd .1)."""
    level = 0.3 * generator.standard_normal((shape[0], 1, shape[2], 1))
    return level + 0.1 * generator.standard_normal((*shape[:3], 1)) + _half_normal(generator, truth, shape)


def _outliers(generator: np.random.Generator, truth: Truth, shape: tuple[int, int, int, int]) -> Floats:
    """Half-normal excess; 3 % of the seeds diverge (no value), 3 % end far above (exponential, mean 3 nats)."""
    values = _half_normal(generator, truth, shape)
    chance = generator.random(shape)
    values = np.where(chance < 0.03, values + 3 * generator.standard_exponential(shape), values)
    return np.where(chance > 0.97, np.nan, values)


def _scaled(draw: Draw, factor: float) -> Draw:
    """Return noise whose scale changes by ``factor`` each octave."""
    return lambda generator, truth, shape: draw(generator, truth, shape) * (factor**truth.octave)[:, None, None]


NOISES: dict[str, Draw] = {
    "half-normal": _half_normal,
    "exponential": _exponential,
    "log-normal": _log_normal,
    "Student t3": _heavy,
    "growing": _scaled(_half_normal, GROWTH),
    "shared": _shared,
    "outliers": _outliers,
}


def _gamma(generator: np.random.Generator, _: Truth, shape: tuple[int, int, int, int]) -> Floats:
    return 0.2 * generator.standard_gamma(2, shape)


BEYOND: dict[str, Draw] = {
    "half-normal, growing 30 %": _scaled(_half_normal, 1.3),
    "exponential, falling 20 %": _scaled(_exponential, 0.8),
    "gamma": _gamma,
    "gamma, growing 15 %": _scaled(_gamma, 1.15),
}
"""Noise that the method was not made for."""


def draw_logs(truth: Truth, noise: str, replicates: int, generator: np.random.Generator, *, gap: float = 0.0) -> Floats:
    """Return log errors ``[replicates, sizes, targets, seeds]`` on the law, ``gap`` nats per octave above it."""
    shape = (replicates, len(truth.log_sizes), truth.num_targets, truth.num_seeds)
    line = -float(truth.exponent) * truth.log_sizes + gap * truth.octave
    return line[:, None, None] + {**NOISES, **BEYOND}[noise](generator, truth, shape)
