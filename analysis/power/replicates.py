"""Simulated studies, all replicates at once: intervals of exponents, of orderings and of directions.

The same random numbers serve every size, seed count and rate, so that a larger study is compared with a smaller one
on the same luck. Everything here is seeded and depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from analysis.exponents.calibration import gap_slopes
from analysis.exponents.curves import Floats
from analysis.exponents.estimators import LEVEL, Bools, EnvelopeSeries, SlopeIntervals, envelope_series, slope_intervals
from analysis.exponents.frontier import Slopes
from analysis.exponents.rates import RateEvidence, edge_exponents, rises_beyond_noise
from analysis.power.designs import Design
from analysis.power.noise import Noise
from hyperscale.errors import AnalysisError

REPLICATES = 4000
_CALIBRATION_BLOCK = 10**6  # beyond the blocks of any number of seeds
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
        self._kept: dict[tuple[int, int], Floats] = {}

    def exponentials(self, sizes: int, targets: int, seeds: int, *, part: int = 0) -> Floats:
        """Return numbers of mean 1, ``[replicates, sizes, targets, seeds]``; every size has a stream of its own.

        ``part`` tells the independent parts of a study apart: 0 the claim's own trials, 1 its calibration's.
        """
        rows = seeds * targets
        blocks = [self._block(part, size, rows)[:rows].reshape(seeds, targets, -1) for size in range(sizes)]
        numbers: Floats = np.stack(blocks).transpose(3, 0, 2, 1)
        return numbers

    def _block(self, part: int, size: int, rows: int) -> Floats:
        """Return at least ``rows`` rows ``[rows, replicates]`` of the stream of one size of one part."""
        kept = self._kept.get((part, size))
        if kept is None or len(kept) < rows:
            stream = np.random.default_rng([self._seed, 2 * part, size])
            kept = self._kept[part, size] = stream.standard_exponential((rows, self.replicates))
        return kept

    def normals(self, block: int, columns: int) -> Floats:
        """Return normal numbers ``[replicates, columns]`` of one numbered block, whatever was asked for before."""
        stream = np.random.default_rng([self._seed, 1, block])
        return stream.standard_normal((columns, self.replicates)).T


def simulated_logs(design: Design, noise: Noise, draws: Draws, *, part: int = 0) -> Floats:
    """Return the log errors of studies of exponent 0, ``[replicates, sizes, targets, seeds]``."""
    num_sizes = len(design.sizes)
    numbers = draws.exponentials(num_sizes, design.num_targets, design.num_seeds, part=part)
    return noise.log_values(numbers, draws.normals(_CALIBRATION_BLOCK * part, num_sizes))


def exponent_intervals(
    design: Design, noise: Noise, draws: Draws, *, level: float = LEVEL, estimator: Estimator = "edge"
) -> SlopeIntervals:
    """Return the exponents' intervals, ``[replicates]``, where the true exponent is 0.

    All estimators are equivariant: with true exponent s everything is larger by s. ``edge`` is what verdicts use
    (`analysis.exponents.rates`), ``minimum`` the least squares line through the minima.
    """
    x, logs = np.log(design.sizes), simulated_logs(design, noise, draws)
    if estimator == "minimum":
        found = slope_intervals(x, logs.min(axis=-1).max(axis=-1), level)
        return SlopeIntervals(-found.slope, found.standard_error, -found.high, -found.low)
    return edge_exponents(x, envelope_series(x, logs), level)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRates:
    """Simulated studies of true exponent 0 as `exponents.decisions` wants them, ready to be moved to another truth.

    The two further estimators, which cost a thousand times as much, are left out: under this noise they disagree
    with the minimum, and so forbid a verdict, in about one study in a hundred.
    """

    log_sizes: Floats
    num_seeds: int
    interval: SlopeIntervals
    series: EnvelopeSeries
    gap: SlopeIntervals | None

    @classmethod
    def of(cls, design: Design, noise: Noise, draws: Draws, *, calibrated: bool) -> SimulatedRates:
        """Simulate a design; ``calibrated`` adds a calibration with the same sizes and seeds, whose gap stays put."""
        x = np.log(design.sizes)
        series = envelope_series(x, simulated_logs(design, noise, draws))
        gap = None
        if calibrated:
            single = replace(design, num_targets=1)
            gap = gap_slopes(x, simulated_logs(single, noise, draws, part=1))
        return cls(
            log_sizes=x,
            num_seeds=design.num_seeds,
            interval=edge_exponents(x, series),
            series=series,
            gap=gap,
        )

    def at(self, exponent: float) -> RateEvidence:
        """Return the evidence of studies whose true exponent is ``exponent``."""
        series = replace(self.series, minimum=self.series.minimum - exponent * self.log_sizes)
        absent = np.full(self.interval.slope.shape, np.nan)
        return RateEvidence(
            interval=_moved(self.interval, exponent),
            minimum=_moved(self.interval, exponent),
            quantile=Slopes(absent, absent),
            frontier=Slopes(absent, absent),
            disagree=np.zeros(absent.shape, dtype=np.bool_),
            rises=rises_beyond_noise(self.log_sizes, series, self.num_seeds),
            series=series,
        )


def _moved(found: SlopeIntervals, exponent: float) -> SlopeIntervals:
    return found._replace(slope=found.slope + exponent, low=found.low + exponent, high=found.high + exponent)


def mean_signs(per_seed: Floats, level: float = LEVEL) -> tuple[Bools, Bools]:
    """Return whether the t-interval of the mean over seeds lies below 0, and above; ``per_seed`` is ``[..., seeds]``.

    The interval is that of `analysis.exponents.uncertainty.mean_interval`; one seed has none.
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
