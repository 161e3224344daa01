"""Studies with known exponents, judged as a study is: cells of the battery, all replicates of each at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from analysis.exponents.calibration import carried, gap_slopes, widened
from analysis.exponents.curves import Floats
from analysis.exponents.decisions import TOLERANCE, Outcome, decide_rates
from analysis.exponents.estimators import Bools, SlopeIntervals, envelope_series, slope_intervals
from analysis.exponents.frontier import frontier_slopes, quantile_slopes
from analysis.exponents.rates import RateEvidence, edge_exponents, gather_rates
from tests.bench.planted import GAP_EXPONENT, GAP_PER_OCTAVE, NOISES, TRUTHS, Truth, draw_logs, truth

ESTIMATORS = ("minimum", "low quantile", "frontier", "edge line")
GAPS = ("none", "none, calibrated", "drift", "drift, calibrated")
BOUNDS = ("upper", "lower", "match")
FRESH = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What all replicates of one truth, noise and gap came to. Shares are of the replicates."""

    truth: Truth
    noise: str
    gap: str
    covered: float
    covered_given: float
    """Coverage among the data sets that nothing blocks (NaN where everything is blocked)."""
    blocked: float
    carried: float
    """Coverage of the exponent corrected by the calibration's slope (NaN without one)."""
    wrong_match: float
    """The largest share called matching, over claims that are wrong by a tenth or more."""
    outcomes: dict[tuple[str, Outcome], float]
    means: dict[str, float]
    """Mean error of each estimator, and its standard deviation."""
    deviations: dict[str, float]


def measure(truth: Truth, noise: str, replicates: int, seed: int = 0) -> list[Cell]:
    """Return the cells of one truth and noise, one for each gap, on the same random numbers but for the gap."""
    stream = zlib.crc32(f"{truth.name} {noise}".encode())
    cells = []
    for name, drift in (("none", 0.0), ("drift", GAP_PER_OCTAVE)):
        generator = np.random.default_rng([seed, stream])
        found = gather_rates(truth.log_sizes, draw_logs(truth, noise, replicates, generator, gap=drift))
        slopes = _calibration(truth, noise, replicates, generator, drift)
        cells.append(_cell(truth, noise, name, found, None))
        cells.append(_cell(truth, noise, f"{name}, calibrated", found, slopes))
    return cells


def _calibration(
    truth: Truth, noise: str, replicates: int, generator: np.random.Generator, drift: float
) -> SlopeIntervals:
    """Return the measured slope of the gap: one calibration target, the study's sizes, seeds, noise and drift."""
    known = truth.alone()
    ratios = draw_logs(known, noise, replicates, generator, gap=drift)
    ratios = ratios + float(truth.exponent) * truth.log_sizes[:, None, None]  # divided by the known infimum
    return gap_slopes(truth.log_sizes, ratios)


def _cell(truth: Truth, noise: str, gap: str, found: RateEvidence, slopes: SlopeIntervals | None) -> Cell:
    s, free = float(truth.exponent), len(truth.log_sizes) - 2
    interval = found.interval if slopes is None else widened(found.interval, slopes)
    covered, blocked = _holds(interval, s), found.disagree | found.rises
    wrong = [s / (1 + TOLERANCE), s / (1 - TOLERANCE)]
    looks = s - GAP_EXPONENT if gap.startswith("drift") else 0.0  # what the trained errors look like
    if looks > 0 and not 1 - TOLERANCE < s / looks < 1 + TOLERANCE:
        wrong.append(looks)
    decided = {bound: decide_rates(bound, s, found, gap=slopes, hard_family=True) for bound in BOUNDS}
    errors = {
        name: slope - s
        for name, slope in zip(
            ESTIMATORS,
            (found.minimum.slope, found.quantile.slope, found.frontier.slope, found.interval.slope),
            strict=True,
        )
    }
    return Cell(
        truth=truth,
        noise=noise,
        gap=gap,
        covered=float(covered.mean()),
        covered_given=_share(covered[~blocked]),
        blocked=float(blocked.mean()),
        carried=_share(_holds(carried(found.interval, slopes, (free, free)), s)) if slopes else float("nan"),
        wrong_match=max(
            float((decide_rates("match", c, found, gap=slopes, hard_family=True) == Outcome.MATCHED).mean())
            for c in wrong
        ),
        outcomes={(bound, o): float((decided[bound] == o).mean()) for bound in BOUNDS for o in Outcome},
        means={name: float(values.mean()) for name, values in errors.items()},
        deviations={name: float(values.std()) for name, values in errors.items()},
    )


def _share(found: Bools) -> float:
    return float(found.mean()) if found.size else float("nan")


def _holds(interval: SlopeIntervals, exponent: float) -> Bools:
    return (interval.low <= exponent) & (exponent <= interval.high)


def measure_all(
    replicates: int, workers: int, truths: Sequence[Truth] = TRUTHS, noises: Iterable[str] = tuple(NOISES)
) -> list[Cell]:
    """Return all cells, truths first."""
    tasks = [(truth, noise) for truth in truths for noise in noises]
    with ProcessPoolExecutor(workers) as pool:
        groups = pool.map(measure, *zip(*tasks, strict=True), [replicates] * len(tasks))
        return [cell for group in groups for cell in group]


def known_line(replicates: int, seed: int = 0) -> list[tuple[str, dict[str, float]]]:
    """Return the mean exponents of every estimator on the line that is known: s = 1/2, 8 octaves, 5 seeds, 1 target.

    "least squares" is through all trials' values, the others are those of a verdict.
    """
    design, rows = truth("1/2", 8, 2, 5, 1), []
    for name, noise, gap in (
        ("clean (half-normal excess .3)", "half-normal", 0.0),
        ("excess scale growing 15 % an octave", "growing", 0.0),
        ("mean gap growing .1 nat an octave", "half-normal", GAP_PER_OCTAVE),
    ):
        logs = draw_logs(design, noise, replicates, np.random.default_rng(seed), gap=gap)
        rows.append((name, _mean_exponents(design.log_sizes, logs)))
    return rows


def _mean_exponents(x: Floats, logs: Floats) -> dict[str, float]:
    series = envelope_series(x, logs)
    slopes = {
        "least squares": -slope_intervals(x, logs.mean(axis=(-2, -1))).slope,
        "minimum": -slope_intervals(x, series.minimum).slope,
        "low quantile": -quantile_slopes(x, logs).slope,
        "frontier": -frontier_slopes(x, logs).slope,
        "edge line": edge_exponents(x, series).slope,
    }
    return {name: float(values.mean()) for name, values in slopes.items()}


def fresh_coverage(truth: Truth, noise: str) -> float:
    """Return the interval's coverage on data sets that no cell has seen: whether a miss was the simulation's noise."""
    generator = np.random.default_rng([1, zlib.crc32(f"{truth.name} {noise}".encode())])
    held = []
    for _ in range(FRESH // 1000):
        series = envelope_series(truth.log_sizes, draw_logs(truth, noise, 1000, generator))
        held.append(_holds(edge_exponents(truth.log_sizes, series), float(truth.exponent)))
    return _share(np.concatenate(held))
