"""Simulated studies, all replicates at once: intervals of exponents, of orderings and of directions.

The same random numbers serve every size, seed count and rate, so that a larger study is compared with a smaller one
on the same luck. Everything here is seeded and depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from analysis.curves import Floats
from analysis.designs import Design
from analysis.estimators import LEVEL, Bools, envelope_series, slope_intervals
from analysis.noise import Noise
from hyperscale.errors import AnalysisError

REPLICATES = 4000
Estimator = Literal["edge", "minimum"]


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
    """Seeded random numbers, handed out so that more sizes or seeds leave the earlier ones as they are."""

    def __init__(self, replicates: int = REPLICATES, seed: int = 0) -> None:
        if replicates < 1:
            raise AnalysisError(f"{replicates} replicates were asked for; allowed: a whole number of at least 1.")
        self.replicates, self._seed = replicates, seed
        self._kept: dict[int, Floats] = {}

    def exponentials(self, sizes: int, targets: int, seeds: int) -> Floats:
        """Return numbers of mean 1, ``[replicates, sizes, targets, seeds]``; every size has a stream of its own."""
        rows = seeds * targets
        blocks = [self._block(size, rows)[:rows].reshape(seeds, targets, -1) for size in range(sizes)]
        numbers: Floats = np.stack(blocks).transpose(3, 0, 2, 1)
        return numbers

    def _block(self, size: int, rows: int) -> Floats:
        """Return at least ``rows`` rows ``[rows, replicates]`` of one size's stream."""
        kept = self._kept.get(size)
        if kept is None or len(kept) < rows:
            stream = np.random.default_rng([self._seed, 0, size])
            kept = self._kept[size] = stream.standard_exponential((rows, self.replicates))
        return kept

    def normals(self, block: int, columns: int) -> Floats:
        """Return normal numbers ``[replicates, columns]`` of one numbered block, whatever was asked for before."""
        stream = np.random.default_rng([self._seed, 1, block])
        return stream.standard_normal((columns, self.replicates)).T


def exponent_intervals(
    design: Design, noise: Noise, draws: Draws, *, level: float = LEVEL, estimator: Estimator = "edge"
) -> tuple[Floats, Floats, Floats]:
    """Return (estimate, low, high) of the exponent, each ``[replicates]``, where the true one is 0.

    All estimators are equivariant: with true exponent s the three are larger by s. ``edge`` is what verdicts use
    (`analysis.uncertainty`), ``minimum`` the least squares line through the minima.
    """
    num_sizes, x = len(design.sizes), np.log(design.sizes)
    normals = draws.normals(0, num_sizes)
    logs = noise.log_values(draws.exponentials(num_sizes, design.num_targets, design.num_seeds), normals)
    if estimator == "minimum":
        found = slope_intervals(x, logs.min(axis=-1).max(axis=-1), level)
    else:
        series = envelope_series(x, logs)
        found = slope_intervals(x, series.edge, level, seed_variance=series.seed_variance)
    return -found.slope, -found.high, -found.low


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
