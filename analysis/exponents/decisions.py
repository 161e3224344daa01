"""What an exponent's interval decides of a claimed rate: for one study, or for all replicates of a simulation.

Every test is read off the one interval that is reported. O and Omega are one-sided tests: it lies wholly on one side
of the claimed exponent, a tenth of it allowed. "Is the rate" is an equivalence test, two one-sided ones (Schuirmann
1987): it lies within a tenth on both sides. At level 95 % each one-sided test errs in at most 2.5 %, at the very limit.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.exponents.calibration import widened
from analysis.exponents.estimators import SlopeIntervals
from analysis.exponents.rates import RateEvidence
from analysis.judging.verdicts import Cause, Word

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
    if bound == "match" and gap is None:
        return np.full(found.interval.slope.shape, int(Outcome.GAP))
    if bound == "match":
        outcomes = _match(exponent, found.interval, gap, hard_family)
    elif bound == "upper":
        outcomes = _upper(exponent * (1 - TOLERANCE), found.interval, gap)
    else:
        outcomes = _lower(exponent * (1 + TOLERANCE), found.interval, gap, hard_family)
    outcomes = np.where(found.disagree, Outcome.ESTIMATORS, outcomes)
    # Where it rises the envelope is no power law, and estimators of its exponent have no reason to agree.
    return np.where(found.rises, Outcome.RISING, outcomes)


def _upper(least: float, interval: SlopeIntervals, gap: SlopeIntervals | None) -> Outcomes:
    slower = interval.high < least
    if gap is None:
        otherwise = np.where(slower, Outcome.NOT_ATTAINED_GAP, Outcome.UNDERPOWERED)
    else:
        allowed = widened(interval, gap).high < least
        otherwise = np.where(allowed, Outcome.NOT_ATTAINED, np.where(slower, Outcome.GAP, Outcome.UNDERPOWERED))
    return np.where(interval.low >= least, Outcome.ATTAINED, otherwise)


def _lower(most: float, interval: SlopeIntervals, gap: SlopeIntervals | None, hard_family: bool) -> Outcomes:
    allowed = interval if gap is None else widened(interval, gap)
    high = allowed.high
    slower = np.where(interval.high <= most, Outcome.GAP, Outcome.UNDERPOWERED)
    otherwise = np.where(high <= most, Outcome.NOT_CONTRADICTED, slower)
    faster = Outcome.CONTRADICTED if hard_family else Outcome.EASY
    beyond = np.where(allowed.low > most, faster, Outcome.GAP)
    return np.where(interval.low > most, beyond, otherwise)


def _match(exponent: float, interval: SlopeIntervals, gap: SlopeIntervals | None, hard_family: bool) -> Outcomes:
    assert gap is not None
    least, most = exponent * (1 - TOLERANCE), exponent * (1 + TOLERANCE)
    raised = widened(interval, gap)
    # What the trained errors alone would decide, the gap's possible growth leaves open.
    open_by_gap = (interval.high < least) | ((interval.low >= least) & (interval.high <= most))
    outcomes = np.where(open_by_gap, Outcome.GAP, Outcome.UNDERPOWERED)
    outcomes = np.where(interval.low > most, Outcome.GAP, outcomes)
    outcomes = np.where(raised.low > most, Outcome.NOT_MATCHED if hard_family else Outcome.EASY, outcomes)
    # A trained error is an upper bound: falling too slowly never speaks against the infima's rate.
    outcomes = np.where(raised.high < least, Outcome.NOT_ATTAINED, outcomes)
    return np.where((raised.low >= least) & (raised.high <= most), Outcome.MATCHED, outcomes)
