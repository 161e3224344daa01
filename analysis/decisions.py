"""What an exponent's interval decides of a claimed rate: for one study, or for all replicates of a simulation.

One-sided tests for O and Omega at half of 1 - level (the reported interval lies wholly on one side of the claimed
exponent, a tenth of it allowed); for "is the rate" two one-sided tests at 1 - level (Schuirmann 1987), which ask
that the interval at ``2 level - 1`` lies within a tenth on both sides.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import widened
from analysis.estimators import SlopeIntervals
from analysis.rates import RateEvidence
from analysis.verdicts import Cause, Word

TOLERANCE = 0.1
MIN_SIZES = 4
MIN_OCTAVES = 3.0
Bound = Literal["upper", "lower", "match"]
Outcomes = NDArray[np.int64]


class Outcome(IntEnum):
    """What can come of a claim on a rate."""

    UNDERPOWERED = 0
    GAP = 1
    ATTAINED = 2
    NOT_ATTAINED = 3
    NOT_ATTAINED_GAP = 4
    NOT_CONTRADICTED = 5
    CONTRADICTED = 6
    EASY = 7
    MATCHED = 8
    NOT_MATCHED = 9
    ESTIMATORS = 10
    RISING = 11


WORDS: dict[Outcome, tuple[Word, Cause]] = {
    Outcome.UNDERPOWERED: ("inconclusive", Cause.UNDERPOWERED),
    Outcome.GAP: ("inconclusive", Cause.GAP),
    Outcome.ATTAINED: ("attained", Cause.NONE),
    Outcome.NOT_ATTAINED: ("not attained", Cause.NONE),
    Outcome.NOT_ATTAINED_GAP: ("not attained", Cause.GAP),
    Outcome.NOT_CONTRADICTED: ("not contradicted", Cause.NONE),
    Outcome.CONTRADICTED: ("contradicted", Cause.NONE),
    Outcome.EASY: ("inconclusive", Cause.EASY),
    Outcome.MATCHED: ("supported", Cause.NONE),
    Outcome.NOT_MATCHED: ("contradicted", Cause.NONE),
    Outcome.ESTIMATORS: ("inconclusive", Cause.ESTIMATORS),
    Outcome.RISING: ("inconclusive", Cause.RISING),
}


def decide_rates(
    bound: Bound, exponent: float, found: RateEvidence, *, gap: SlopeIntervals | None = None, hard_family: bool = False
) -> Outcomes:
    """Return the `Outcome` of every data set ``[...]``; ``gap`` are the slopes that a calibration measured.

    Without a calibration a match is never decided: an optimisation gap that drifts with N shifts the exponent of
    trained errors, and nothing in them tells it from a rate.
    """
    if bound == "match":
        outcomes = _match(exponent, found, gap, hard_family)
    elif bound == "upper":
        outcomes = _upper(exponent * (1 - TOLERANCE), found.interval, gap)
    else:
        outcomes = _lower(exponent * (1 + TOLERANCE), found.interval, gap, hard_family)
    outcomes = np.where(found.rises, Outcome.RISING, outcomes)
    return np.where(found.disagree, Outcome.ESTIMATORS, outcomes)


def _upper(least: float, interval: SlopeIntervals, gap: SlopeIntervals | None) -> Outcomes:
    slower = interval.high < least
    if gap is None:
        otherwise = np.where(slower, Outcome.NOT_ATTAINED_GAP, Outcome.UNDERPOWERED)
    else:
        allowed = widened(interval, gap).high < least
        otherwise = np.where(allowed, Outcome.NOT_ATTAINED, np.where(slower, Outcome.GAP, Outcome.UNDERPOWERED))
    return np.where(interval.low >= least, Outcome.ATTAINED, otherwise)


def _lower(most: float, interval: SlopeIntervals, gap: SlopeIntervals | None, hard_family: bool) -> Outcomes:
    high = interval.high if gap is None else widened(interval, gap).high
    slower = np.where(interval.high <= most, Outcome.GAP, Outcome.UNDERPOWERED)
    otherwise = np.where(high <= most, Outcome.NOT_CONTRADICTED, slower)
    faster = Outcome.CONTRADICTED if hard_family else Outcome.EASY
    return np.where(interval.low > most, faster, otherwise)


def _match(exponent: float, found: RateEvidence, gap: SlopeIntervals | None, hard_family: bool) -> Outcomes:
    if gap is None:
        return np.full(found.interval.slope.shape, int(Outcome.GAP))
    least, most = exponent * (1 - TOLERANCE), exponent * (1 + TOLERANCE)
    narrow, wide = widened(found.narrow, gap), widened(found.interval, gap)
    matched = (narrow.low >= least) & (narrow.high <= most)
    # What the trained errors alone would decide, the gap's possible growth leaves open.
    open_by_gap = (found.interval.high < least) | ((narrow.low >= least) & (found.narrow.high <= most))
    outcomes = np.where(open_by_gap, Outcome.GAP, Outcome.UNDERPOWERED)
    outcomes = np.where(found.interval.low > most, Outcome.NOT_MATCHED if hard_family else Outcome.EASY, outcomes)
    outcomes = np.where(wide.high < least, Outcome.NOT_MATCHED, outcomes)
    return np.where(matched, Outcome.MATCHED, outcomes)
