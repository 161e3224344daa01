"""The fast form of the synthetic battery: coverage, wrong matches, and the gap that nothing but calibration sees."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.exponents.decisions import WORDS, Outcome, decide_rates
from analysis.exponents.estimators import envelope_series
from analysis.exponents.rates import edge_exponents, gather_rates
from analysis.judging.verdicts import Cause
from tests.bench.battery import document
from tests.bench.judged import BOUNDS, GAPS, Cell, measure
from tests.bench.planted import NOISES, TRUTHS, draw_logs

REPLICATES = 120
FEW = (TRUTHS[4], TRUTHS[6])


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """Return three truths under every noise and gap."""
    return [cell for truth in FEW for noise in NOISES for cell in measure(truth, noise, REPLICATES)]


@pytest.mark.parametrize("noise", NOISES)
def test_intervals_cover_nominally(noise: str) -> None:
    """Over all truths, 800 data sets each, 95 % intervals hold 93.5 to 96.5 %, and no truth is far outside."""
    generator, replicates, shares = np.random.default_rng(5), 800, []
    for truth in TRUTHS:
        series = envelope_series(truth.log_sizes, draw_logs(truth, noise, replicates, generator))
        found, exponent = edge_exponents(truth.log_sizes, series), float(truth.exponent)
        shares.append(np.mean((found.low <= exponent) & (exponent <= found.high)))
    spread = 3 * np.sqrt(0.95 * 0.05 / replicates)
    assert 0.935 < np.mean(shares) < 0.965
    assert min(shares) > 0.93 - spread
    assert max(shares) < 0.97 + spread


def test_wrong_exponents_are_called_matching_in_at_most_five_percent(cells) -> None:
    """At the very limit of the tolerance, and at the trained errors' exponent under drift; three deviations allowed."""
    assert max(cell.wrong_match for cell in cells) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPLICATES)
    assert np.mean([cell.wrong_match for cell in cells]) <= 0.03


def test_a_drifting_gap_is_answered_by_its_name(cells) -> None:
    """Asked whether it is the rate without a calibration, every data set is told that the gap is not controlled."""
    for cell in cells:
        if "calibrated" not in cell.gap:
            assert cell.outcomes["match", Outcome.GAP] == 1.0
            assert cell.wrong_match == 0.0
    assert WORDS[Outcome.GAP] == ("inconclusive", Cause.GAP)


def test_drift_hides_the_exponent_and_calibration_finds_it(cells) -> None:
    """Uncalibrated intervals of drifting data miss the truth; calibrated ones hold it, carried ones in about 95 %."""
    shares = {gap: np.mean([c.covered for c in cells if c.gap == gap]) for gap in GAPS}
    assert shares["drift"] < 0.4
    assert shares["drift, calibrated"] > 0.95
    assert 0.93 < np.mean([c.carried for c in cells if c.gap == "drift, calibrated"]) < 0.97


def test_shares_of_outcomes_are_complete(cells) -> None:
    """For every claim the outcomes of a cell add up to one, and none of the wrong sort is common."""
    for cell in cells:
        for bound in BOUNDS:
            assert sum(share for (b, _), share in cell.outcomes.items() if b == bound) == pytest.approx(1)
        assert cell.outcomes["lower", Outcome.CONTRADICTED] < 0.05


def test_one_data_set_is_decided_as_among_many() -> None:
    """The outcome of each of 12 data sets alone is its outcome among all."""
    truth = TRUTHS[4]
    logs = draw_logs(truth, "half-normal", 12, np.random.default_rng(1))
    together = gather_rates(truth.log_sizes, logs)
    for bound in BOUNDS:
        many = decide_rates(bound, 0.45, together)
        alone = [int(decide_rates(bound, 0.45, gather_rates(truth.log_sizes, one))) for one in logs]
        assert many.tolist() == alone


def test_the_document_names_every_truth_and_noise(cells, monkeypatch) -> None:
    """The committed table is written from cells alone, each truth a row and each noise a column."""
    monkeypatch.setattr("tests.bench.judged.FRESH", 1000)
    text = document(cells, REPLICATES, 1.0)
    assert all(truth.name in text for truth in FEW)
    assert all(noise in text for noise in NOISES)
