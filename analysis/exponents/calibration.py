"""The optimisation gap, measured where the infimum is known: trained error over infimum, and its slope in N.

A trained error is an infimum times a gap, and a gap that grows like N^gamma hides gamma of the exponent from every
envelope. The same method, sizes and optimiser on a target whose infimum is known show gamma; that it is the same on
another target is an assumption, which a verdict says. So the exponent of the infima lies in [low, high + gamma's
upper limit], gamma taken to be at least 0, with (low, high) the interval of the trained errors' exponent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.exponents.curves import Floats
from analysis.exponents.envelope import Envelope, build_envelope
from analysis.exponents.estimators import LEVEL, SlopeIntervals, envelope_series
from analysis.exponents.rates import edge_exponents
from analysis.exponents.uncertainty import Interval
from hyperscale.claims import Calibration, ScalingRate
from hyperscale.errors import AnalysisError, did_you_mean

GAP_COLUMN = "trained_over_infimum"
MIN_GAP_SIZES = 3
LEAST_RATIO = 0.4
"""The least ratio of trained error to infimum that is believed.

What is found on a grid is a lower bound on the largest error, and the networks may be a little more than the class
whose infimum it is; but not by this much: then the infimum is wrong. Ratios between this and 1 are noted.
"""
_SAME = (
    "optimizer", "lr", "schedule", "steps", "batch", "precision", "seed",
    "depth", "primary_depth", "activation", "bias", "initialization",
)  # fmt: skip
"""What a calibration must share with the trials it speaks for, as far as the table has these columns."""
_OF_THE_TARGET = ("batch",)
"""Of these, what fits on a fixed grid (kind "best_approximation") may owe to the target: the pairs (x, I) of its grid
depend on the target's dimensions and finest bumps. A difference is noted."""
_GRID_KIND = "best_approximation"


@dataclass(frozen=True, kw_only=True, slots=True)
class GapSlope:
    """How the optimisation gap grows: trained error / infimum ~ N^slope, with its interval.

    ``envelope`` is that of the ratios. ``notes`` say what the slope's use rests on.
    """

    slope: float
    standard_error: float
    interval: Interval
    level: float
    envelope: Envelope
    notes: tuple[str, ...] = ()

    @property
    def upper(self) -> float:
        """The largest growth that the calibration allows, at least 0: what an exponent's upper end is raised by."""
        return max(0.0, self.interval[1])

    @property
    def lower(self) -> float:
        """What an exponent's lower end falls by (at most 0): the lower limit of a gap that plainly shrinks, else 0."""
        return self.interval[0] if self.interval[1] < 0 else 0.0


def gap_slopes(log_sizes: Floats, log_ratios: Floats, level: float = LEVEL) -> SlopeIntervals:
    """Return the slopes of gaps ``[..., sizes, targets, seeds]`` (natural logs), positive where the gap grows."""
    falling = edge_exponents(log_sizes, envelope_series(log_sizes, log_ratios), level)
    return SlopeIntervals(-falling.slope, falling.standard_error, -falling.high, -falling.low)


def widened(interval: SlopeIntervals, gap: SlopeIntervals) -> SlopeIntervals:
    """Return exponents' intervals ``[...]`` whose upper ends are raised by the gaps' upper limits, at least by 0.

    Where a gap plainly shrinks with N (its whole interval is negative), trained errors fall faster than the infima do,
    and the lower end falls by the gap's lower limit.
    """
    shrinks = np.where(gap.high < 0, gap.low, 0.0)
    return interval._replace(low=interval.low + shrinks, high=interval.high + np.maximum(gap.high, 0.0))


def carried(
    interval: SlopeIntervals, gap: SlopeIntervals, free: tuple[int, int], level: float = LEVEL
) -> SlopeIntervals:
    """Return the exponents corrected by the gap's slope as if it carried over exactly, ``[...]``.

    Exponent and slope are added, their variances too, with Welch and Satterthwaite's degrees of freedom for the
    two regressions' own, ``free``.
    """
    variances = interval.standard_error**2, gap.standard_error**2
    total = variances[0] + variances[1]
    degrees = total**2 / (variances[0] ** 2 / free[0] + variances[1] ** 2 / free[1])
    half = stats.t.ppf(0.5 + level / 2, degrees) * np.sqrt(total)
    centre = interval.slope + gap.slope
    return SlopeIntervals(centre, np.sqrt(total), centre - half, centre + half)


def calibration_rows(claim: ScalingRate, table: pd.DataFrame) -> pd.Series:
    """Return a boolean per row: whether it is a calibration trial of the claim's own method."""
    chosen = _calibration_target(claim, table)
    if "method" not in table.columns:
        return chosen
    return chosen & (table["method"] == claim.methods[0]).fillna(False).astype(bool)


def _calibration_target(claim: ScalingRate, table: pd.DataFrame) -> pd.Series:
    """Return a boolean per row: whether its target is that of the calibration (never, where a column is missing)."""
    where = {} if claim.calibration is None else claim.calibration.where
    if not where or any(name not in table.columns for name in where):
        return pd.Series(False, index=table.index)
    chosen = pd.Series(True, index=table.index)
    for name, value in where.items():
        chosen &= (table[name] == value).fillna(False).astype(bool)
    return chosen


def without_calibration(table: pd.DataFrame, claims: Iterable[object]) -> pd.DataFrame:
    """Return the table without trials on any claim's calibration target, by any method: it is not the study's."""
    kept = pd.Series(True, index=table.index)
    for claim in claims:
        if isinstance(claim, ScalingRate):
            kept &= ~_calibration_target(claim, table)
    return table[kept]


def trials_for(claim: object, table: pd.DataFrame, claims: Iterable[object]) -> pd.DataFrame:
    """Return the table without calibration trials of ``claims``, except those that ``claim`` itself names."""
    kept = pd.Series(False, index=table.index)
    if isinstance(claim, ScalingRate):
        kept = calibration_rows(claim, table)
    return table[kept | table.index.isin(without_calibration(table, claims).index)]


def measure_gap(claim: ScalingRate, table: pd.DataFrame, *, level: float = LEVEL) -> GapSlope:
    """Return the slope of the optimisation gap from the claim's calibration trials.

    Raises `AnalysisError` where they cannot say it: no such trial, no or a non-positive infimum, unequal budgets,
    another optimiser or other seeds than the claim's own trials, fewer than three sizes.
    """
    calibration = claim.calibration
    assert calibration is not None
    chosen = calibration_rows(claim, table)
    rows, own = table[chosen], table[~chosen & (table["method"] == claim.methods[0])]
    _require_rows(calibration, table, rows)
    grid_notes = _require_same(rows, own)
    infimum = _infimum(calibration, claim.size, rows)
    ratios = rows.assign(**{GAP_COLUMN: rows[claim.metric].astype("float64") / infimum})
    least = float(ratios.loc[ratios["status"] == "finished", GAP_COLUMN].min())
    if least < LEAST_RATIO:
        raise AnalysisError(
            f"A calibration trial errs {least:.3g} times the infimum that is given, and no network errs less than "
            "the infimum. Correct the infimum, or look for the largest error on a finer grid."
        )
    envelope = build_envelope(ratios, method=claim.methods[0], metric=GAP_COLUMN, size=claim.size)
    if len(envelope.points) < MIN_GAP_SIZES or min(envelope.values, default=0) <= 0:
        raise AnalysisError(
            f"The calibration has positive errors at {len(envelope.points)} sizes; allowed: at least {MIN_GAP_SIZES}. "
            "Train it at the claim's sizes."
        )
    if envelope.budget_note:
        raise AnalysisError(f"In the calibration {envelope.budget_note}. Let it run to its end.")
    found = gap_slopes(np.log(np.asarray(envelope.sizes)), envelope.log_seed_minima(), level)
    return GapSlope(
        slope=float(found.slope) + 0.0,  # Equal ratios have slope 0, and not -0.
        standard_error=float(found.standard_error),
        interval=(float(found.low) + 0.0, float(found.high) + 0.0),
        level=level,
        envelope=envelope,
        notes=(*grid_notes, *_notes(envelope, own[claim.size].astype("float64"))),
    )


def _require_rows(calibration: Calibration, table: pd.DataFrame, rows: pd.DataFrame) -> None:
    for name in calibration.where:
        if name not in table.columns:
            raise AnalysisError(
                f"The calibration names column {name!r}, which no trial has"
                f"{did_you_mean(name, map(str, table.columns))}; there are: {', '.join(map(str, table.columns))}."
            )
    if rows.empty or not (rows["status"] == "finished").any():
        wanted = ", ".join(f"{name} = {value!r}" for name, value in calibration.where.items())
        raise AnalysisError(f"No calibration trial has finished ({wanted}). Add its settings to the study and run it.")


def _require_same(rows: pd.DataFrame, own: pd.DataFrame) -> tuple[str, ...]:
    """Raise unless calibration and claim were trained alike, as far as the table tells; return notes on the grids."""
    on_grid = "kind" in rows.columns and {*rows["kind"].dropna(), *own["kind"].dropna()} == {_GRID_KIND}
    notes = []
    for name in _SAME:
        if name not in rows.columns:
            continue
        there, here = set(rows[name].dropna()), set(own[name].dropna())
        if there == here:
            continue
        shown = [", ".join(sorted(map(str, values))[:8]) or "none" for values in (there, here)]
        if on_grid and name in _OF_THE_TARGET:
            notes.append(
                f"the calibration's grids have {shown[0]} pairs (x, I), those of the claim's trials {shown[1]}"
            )
            continue
        raise AnalysisError(
            f"The calibration was trained with {name} {shown[0]} and the claim's trials with {shown[1]}, so "
            "its gap is not theirs. Train both alike."
        )
    return tuple(notes)


def _infimum(calibration: Calibration, size: str, rows: pd.DataFrame) -> pd.Series:
    """Return the known infimum of every row, positive wherever the trial finished."""
    if calibration.infimum_column is None:
        constant, exponent = calibration.infimum_constant, calibration.infimum_exponent
        assert constant is not None
        assert exponent is not None
        return constant * rows[size].astype("float64") ** -exponent
    name = calibration.infimum_column
    if name not in rows.columns:
        raise AnalysisError(
            f"The calibration's infimum is column {name!r}, which no trial has"
            f"{did_you_mean(name, map(str, rows.columns))}; there are: {', '.join(map(str, rows.columns))}."
        )
    values = pd.to_numeric(rows[name], errors="coerce").astype("float64")
    wrong = values[(rows["status"] == "finished") & ~(values > 0)]
    if not wrong.empty:
        raise AnalysisError(
            f"The calibration's infimum {name!r} is {wrong.iloc[0]:g} in a finished trial; allowed: positive numbers. "
            "Calibrate on a target that no network of the sizes tried represents exactly."
        )
    return values


def _notes(envelope: Envelope, own_sizes: pd.Series) -> tuple[str, ...]:
    notes = []
    low, high = float(own_sizes.min()), float(own_sizes.max())
    if envelope.sizes[0] > low or envelope.sizes[-1] < high:
        notes.append(
            f"the calibration covers N = {envelope.sizes[0]:g} to {envelope.sizes[-1]:g} only, the claim's trials "
            f"{low:g} to {high:g}: its slope is extrapolated"
        )
    if min(envelope.values) < 1:
        notes.append(
            f"a calibration trial's error is {min(envelope.values):.3g} times the infimum: what was found of it is a "
            "lower bound, or the networks are a little more than the class that the infimum is of"
        )
    return tuple(notes)
