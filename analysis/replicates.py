"""Simulated studies, all replicates at once: intervals of exponents, of orderings and of directions.

The same random numbers serve every size, seed count and rate, so that a larger study is compared with a smaller one
on the same luck. Everything here is seeded and depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Floats
from analysis.designs import Design
from analysis.noise import Noise
from analysis.uncertainty import LEVEL
from hyperscale.errors import AnalysisError

REPLICATES = 4000
Bools = NDArray[np.bool_]


def slope_intervals(
    log_sizes: Floats, log_values: Floats, level: float = LEVEL
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return (slope, standard error, low, high) of least squares lines, vectorised over leading dimensions.

    ``log_sizes`` is ``[sizes]``, ``log_values`` ``[..., sizes]``; the interval is Student's with n - 2 degrees of
    freedom.
    """
    count = len(log_sizes)
    if count < 3:
        raise AnalysisError(f"An interval of a slope needs at least 3 sizes, and there are {count}. Add sizes.")
    centred = log_sizes - log_sizes.mean()
    spread = float(centred @ centred)
    slope = log_values @ centred / spread
    residuals = log_values - log_values.mean(axis=-1, keepdims=True) - slope[..., None] * centred
    standard_error = np.sqrt((residuals**2).sum(axis=-1) / (count - 2) / spread)
    half = float(stats.t.ppf(0.5 + level / 2, count - 2)) * standard_error
    return slope, standard_error, slope - half, slope + half


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """How often simulated studies end in the right verdict, and in the wrong one, when ``truth`` holds.

    ``exponent`` is the true one where the claim is about exponents.
    """

    truth: str
    decisive: float
    wrong: float
    num_replicates: int
    exponent: float | None = None

    @property
    def standard_error(self) -> float:
        """Binomial standard error of ``decisive``, with half a success and half a failure added so it is never 0."""
        share = (self.decisive * self.num_replicates + 0.5) / (self.num_replicates + 1)
        return math.sqrt(share * (1 - share) / self.num_replicates)


def chance_of(right: Bools, wrong: Bools, truth: str, exponent: float | None) -> Chance:
    """Return the shares of two boolean arrays ``[replicates]``."""
    shares = float(np.mean(right)), float(np.mean(wrong))
    return Chance(truth=truth, decisive=shares[0], wrong=shares[1], num_replicates=len(right), exponent=exponent)


class Draws:
    """Seeded uniform and normal numbers ``[replicates, columns]``, drawn once and handed out as prefixes."""

    def __init__(self, replicates: int = REPLICATES, seed: int = 0) -> None:
        if replicates < 1:
            raise AnalysisError(f"{replicates} replicates were asked for; allowed: at least 1.")
        self.replicates, self._seed, self._columns = replicates, seed, 0
        self._numbers: tuple[Floats, Floats] | None = None

    def first(self, columns: int) -> tuple[Floats, Floats]:
        """Return the first ``columns`` columns; each is the same whatever was asked for before."""
        if self._numbers is None or columns > self._columns:
            # A stream for every column: more columns leave the earlier ones as they are.
            self._columns = max(columns, 2 * self._columns)
            streams = [np.random.default_rng([self._seed, column]) for column in range(self._columns)]
            uniforms = np.stack([stream.random(self.replicates) for stream in streams], axis=1)
            normals = np.stack([stream.standard_normal(self.replicates) for stream in streams], axis=1)
            self._numbers = uniforms, normals
        return self._numbers[0][:, :columns], self._numbers[1][:, :columns]

    def normals(self, block: int, columns: int) -> Floats:
        """Return normal numbers ``[replicates, columns]`` of one numbered block, apart from the columns above."""
        return np.random.default_rng([self._seed, block, columns]).standard_normal((self.replicates, columns))


def exponent_intervals(
    design: Design, noise: Noise, draws: Draws, *, level: float = LEVEL
) -> tuple[Floats, Floats, Floats]:
    """Return (estimate, low, high) of the exponent, each ``[replicates]``, where the true one is 0.

    Least squares are equivariant: with true exponent s all three are larger by s.
    """
    logs = noise.log_minima(*draws.first(len(design.sizes)), num_seeds=design.num_seeds, num_targets=design.num_targets)
    slope, _, low, high = slope_intervals(np.log(design.sizes), logs, level)
    return -slope, -high, -low


def mean_signs(per_seed: Floats, level: float = LEVEL) -> tuple[Bools, Bools]:
    """Return whether the t-interval of the mean over seeds lies below 0, and above; ``per_seed`` is ``[..., seeds]``.

    The interval is that of `analysis.uncertainty.mean_interval`; one seed has none.
    """
    count = per_seed.shape[-1]
    mean = per_seed.mean(axis=-1)
    if count < 2:
        never = np.zeros(mean.shape, dtype=bool)
        return never, never
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * per_seed.std(axis=-1, ddof=1) / math.sqrt(count)
    return mean + half < 0, mean - half > 0


def interpolation_weights(sizes: Floats, wanted: Floats) -> Floats:
    """Return ``[sizes]``: what each of ``sizes`` counts in the mean of linear interpolations in log N at ``wanted``."""
    known, at = np.log(sizes), np.log(wanted)
    columns = [np.interp(at, known, unit) for unit in np.eye(len(sizes))]
    weights: Floats = np.mean(columns, axis=1)
    return weights


def kendall_taus(values: Floats) -> Floats:
    """Return Kendall's tau of ``[..., values]`` against their order, ties counting 0: ``[...]``."""
    count = values.shape[-1]
    signs = [np.sign(values[..., lag:] - values[..., :-lag]).sum(axis=-1) for lag in range(1, count)]
    taus: Floats = np.sum(signs, axis=0) / (count * (count - 1) / 2)
    return taus
