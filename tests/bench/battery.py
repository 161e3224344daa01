"""The synthetic battery: how often intervals hold the true exponent, and how often verdicts on rates are wrong.

`python -m tests.bench.battery [--replicates 1000] [--workers 2]` draws studies of known exponents with every kind of
noise and optimisation gap, judges them with the code that judges a study, and writes battery.md.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from analysis.calibration import carried, gap_slopes, widened
from analysis.curves import Floats
from analysis.decisions import TOLERANCE, Outcome, decide_rates
from analysis.estimators import Bools, SlopeIntervals, envelope_series, slope_intervals
from analysis.frontier import frontier_slopes, quantile_slopes
from analysis.rates import RateEvidence, edge_exponents, gather_rates
from tests.bench.planted import GAP_EXPONENT, GAP_PER_OCTAVE, NOISES, TRUTHS, Truth, draw_logs, truth
from tests.bench.tables import HERE, publish, table

ESTIMATORS = ("minimum", "low quantile", "frontier", "edge line")
GAPS = ("none", "none, calibrated", "drift", "drift, calibrated")
BOUNDS = ("upper", "lower", "match")
INSIDE = (0.93, 0.97)


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


def document(cells: Sequence[Cell], replicates: int, seconds: float) -> str:
    """Return battery.md."""
    return "\n\n".join(
        [
            "# The synthetic battery",
            f"`python -m tests.bench.battery --replicates {replicates}`, {seconds / 60:.1f} minutes on "
            f"{os.cpu_count()} cores, NumPy {np.__version__}. {len(TRUTHS)} truths × {len(NOISES)} kinds of noise × {len(GAPS)} "
            f"optimisation gaps, {replicates:,} data sets each; the binomial standard error of a cell's coverage is "
            f"{100 * np.sqrt(0.95 * 0.05 / replicates):.1f} points.",
            _EXPLAINED,
            "## Coverage of the 95 % interval, gap none",
            _coverage(cells),
            "## What is blocked, and coverage of the rest",
            _blocked(cells),
            "## Verdicts",
            _verdicts(cells),
            "## Wrong matches, and calibrated coverage",
            _calibrated(cells),
            "## Estimators",
            _estimators(cells),
            "## The known line",
            _line(replicates),
        ]
    )


_EXPLAINED = f"""\
A truth is `exponent, octaves × sizes per octave, seeds, targets`. Noise, in log units: half-normal and exponential
excess of scale .3; log-normal (two-sided, sd .3); Student's t with 3 degrees of freedom, two-sided, scale .3; growing:
half-normal excess whose scale grows 15 % an octave from .3; shared: half-normal excess, levels of targets (sd .3), and
deviations that all seeds of a target and size share (sd .1); outliers: half-normal excess, 3 % of the seeds diverged,
3 % far above. Drift: a mean gap growing {GAP_PER_OCTAVE} nat an octave, {GAP_EXPONENT:.3f} of the exponent. A
calibration is one target of known infimum with the study's sizes, seeds, noise and gap."""


def _percent(share: float, digits: int = 1) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.{digits}f}"


def _chosen(cells: Sequence[Cell], gap: str, noise: str | None = None) -> list[Cell]:
    return [cell for cell in cells if cell.gap == gap and noise in (None, cell.noise)]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _coverage(cells: Sequence[Cell]) -> str:
    noises = list(dict.fromkeys(cell.noise for cell in cells))
    here = {(cell.truth, cell.noise): cell for cell in _chosen(cells, "none")}
    rows = []
    for design in dict.fromkeys(cell.truth for cell in cells):
        rows.append([design.name, *(_marked(here[design, noise].covered) for noise in noises)])
    means = [_mean(cell.covered for cell in here.values() if cell.noise == noise) for noise in noises]
    rows.append(["**mean**", *map(_percent, means)])
    missed = [cell for cell in here.values() if not INSIDE[0] <= cell.covered <= INSIDE[1]]
    told = f"{len(here) - len(missed)} of {len(here)} cells lie between 93 and 97 %"
    overall = _percent(_mean(cell.covered for cell in here.values()), 2)
    return f"{table(['truth', *noises], rows)}\n\nOverall {overall} %. {told}; those that do not are bold."


def _marked(share: float) -> str:
    text = _percent(share)
    return text if INSIDE[0] <= share <= INSIDE[1] else f"**{text}**"


def _blocked(cells: Sequence[Cell]) -> str:
    rows = []
    for noise in dict.fromkeys(cell.noise for cell in cells):
        here = _chosen(cells, "none", noise)
        most = max(here, key=lambda cell: cell.blocked)
        given = sum(c.covered_given * (1 - c.blocked) for c in here if c.blocked < 1) / sum(1 - c.blocked for c in here)
        rows.append(
            [noise, _percent(_mean(c.blocked for c in here)), _percent(most.blocked), most.truth.name, _percent(given),
             _percent(most.covered_given)]
        )  # fmt: skip
    header = ["noise", "blocked, mean %", "most %", "at truth", "coverage of the rest %", "there %"]
    return table(header, rows) + (
        "\n\nBlocked: the minimum, the low quantile and the frontier differ by more than two standard errors of their "
        "difference, or the envelope rises with N beyond its noise. Where the excess grows with N the minimum and the "
        "low quantile are biased and the frontier is not, so long studies are blocked although the edge line's "
        "interval holds the exponent as often as it should; the few that pass there are a selection."
    )


def _verdicts(cells: Sequence[Cell]) -> str:
    rows = []
    for bound, words in (("upper", "O(N^-s)"), ("lower", "Ω(N^-s), hard family"), ("match", "is the rate")):
        for gap in GAPS:
            here = _chosen(cells, gap)
            shares = {o: _mean(cell.outcomes[bound, o] for cell in here) for o in Outcome}
            told = [f"{_named(o)} {_percent(share)}" for o, share in shares.items() if share > 0]
            rows.append([words, gap, ", ".join(told)])
    return "Shares in per cent of all data sets, the claimed exponent being the true one.\n\n" + table(
        ["claim", "gap", "verdicts"], rows
    )


def _named(outcome: Outcome) -> str:
    return outcome.name.lower().replace("_", " ")


def _calibrated(cells: Sequence[Cell]) -> str:
    rows = []
    for noise in dict.fromkeys(cell.noise for cell in cells):
        row = [noise, *(_percent(max(cell.wrong_match for cell in _chosen(cells, gap, noise))) for gap in GAPS)]
        for gap in GAPS[1::2]:
            here = _chosen(cells, gap, noise)
            least, most = min(c.carried for c in here), max(c.carried for c in here)
            row += [_percent(_mean(c.covered for c in here)), _percent(_mean(c.carried for c in here))]
            row.append(f"{_percent(least)} to {_percent(most)}")
        rows.append(row)
    header = ["noise", *(f"wrong match, {gap}" for gap in GAPS)]
    for gap in GAPS[1::2]:
        header += [f"covered, {gap}", "carried", "cells"]
    drift = _mean(cell.covered for cell in _chosen(cells, "drift"))
    return table(header, rows) + (
        "\n\nWrong match: the largest share over truths, and over claims that are wrong by exactly a tenth or, under "
        "drift, name the trained errors' exponent. Covered: the true exponent lies in the verdict's interval, whose "
        "upper end is raised by the calibration's upper limit; it asks nothing of the gap on the study's own target but "
        "that it grows no faster, so it holds the exponent more often than 95 %. Carried: coverage of exponent plus gap "
        "slope, which is right if the gap carries over exactly. Without calibration the interval under drift covers "
        f"the exponent in {_percent(drift)} %."
    )


def _estimators(cells: Sequence[Cell]) -> str:
    rows = []
    for noise in dict.fromkeys(cell.noise for cell in cells):
        here = _chosen(cells, "none", noise)
        told = [
            f"{_mean(c.means[e] for c in here):+.4f} ± {_mean(c.deviations[e] for c in here):.4f}" for e in ESTIMATORS
        ]
        rows.append([noise, *told])
    return "Mean error and standard deviation of the estimates, averaged over truths; gap none.\n\n" + table(
        ["noise", *ESTIMATORS], rows
    )


def _line(replicates: int) -> str:
    lines = known_line(replicates)
    rows = [[name, *(f"{value:.3f}" for value in means.values())] for name, means in lines]
    return "Mean exponents, true s = 1/2 over 8 octaves, 5 seeds.\n\n" + table(["data", *lines[0][1]], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the battery and write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    cells = measure_all(given.replicates, given.workers)
    text = document(cells, given.replicates, time.perf_counter() - started)
    publish(text + "\n", HERE / "battery.md")


if __name__ == "__main__":
    main()
