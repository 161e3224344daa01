"""Tests of `analysis.reporting.evidence` and its figure: what stands behind a verdict on a rate."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.exponents.curves import fit_power_law
from analysis.judging.checks import check
from analysis.judging.verdicts import Verdict
from analysis.reporting.evidence import Evidence, edge_exponent, find_local_slopes, gather_evidence
from analysis.reporting.evidence_figures import plot_evidence
from hyperscale.claims import Monotone, ScalingRate
from hyperscale.errors import AnalysisError
from tests.test_checks import trials

SIZES = tuple(2**k for k in range(2, 13))
CLAIM = ScalingRate(method="M", bound="upper", exponent=1.0, theorem="Thm. 4", statement="error ≤ c N^-1.")


def evidence_of(table: object, claim: ScalingRate = CLAIM) -> tuple[Verdict, Evidence]:
    """Return the verdict on planted trials and what stands behind it."""
    verdict = check(claim, table)
    return verdict, gather_evidence(verdict)


def test_a_clean_power_law_is_the_same_from_everywhere() -> None:
    """Every window, estimator and local slope of a planted exponent holds it, and no bend is claimed."""
    _, evidence = evidence_of(trials(0.7, noise=0.05, sizes=SIZES))
    for row in evidence.sensitivity:
        if row.kind != "model" or row.estimate is not None:
            assert row.estimate == pytest.approx(0.7, abs=0.1), row
    # Eleven intervals at 95 % of overlapping windows: one may miss.
    assert sum(not s.interval[0] <= 0.7 <= s.interval[1] for s in evidence.local_slopes) <= 1
    assert {row.kind for row in evidence.sensitivity} == {"window", "estimator", "model"}
    assert evidence.outside == ()
    assert "No other window" in evidence.stability_text


def test_a_bent_curve_hangs_on_its_window() -> None:
    """Where the exponent changes in the middle, the halves' intervals lie elsewhere and are named."""
    table = trials(0.3, noise=0.01, sizes=SIZES)
    bent = table["sup_error"] * np.maximum(table["num_params_primary"] / 128, 1.0) ** -0.9
    _, evidence = evidence_of(table.assign(sup_error=bent))
    assert {"smaller half", "larger half"} & set(evidence.outside)
    assert "hangs on choices" in evidence.stability_text
    broken = next(row for row in evidence.sensitivity if row.choice == "broken power")
    assert broken.estimate == pytest.approx(1.2, abs=0.15)
    assert evidence.local_slopes[0].exponent == pytest.approx(0.3, abs=0.1)
    assert evidence.local_slopes[-1].exponent == pytest.approx(1.2, abs=0.1)


def test_residuals_are_those_of_the_fit() -> None:
    """A size's residual is its log minimum less the fit's, and its smallest seed residual is the same number."""
    verdict, evidence = evidence_of(trials(0.7, noise=0.3))
    fit = fit_power_law(verdict.envelope.sizes, verdict.envelope.values)
    expected = np.log(verdict.envelope.values) - np.log(fit.predict(verdict.envelope.sizes))
    assert evidence.residuals == pytest.approx(expected)
    assert [min(seeds) for seeds in evidence.seed_residuals] == pytest.approx(evidence.residuals)


def test_local_slopes_by_hand() -> None:
    """On sizes 1, 2, 4, ... a window is three sizes, and its slope is that of its ends on a straight line."""
    verdict, _ = evidence_of(trials(0.5, noise=1e-9, sizes=(4, 8, 16, 32, 64)))
    slopes = list(find_local_slopes(verdict.envelope, 0.1))
    assert [(s.first, s.last) for s in slopes] == [(4, 16), (8, 32), (16, 64)]
    assert [s.size for s in slopes] == pytest.approx([8, 16, 32])
    assert [s.exponent for s in slopes] == pytest.approx([0.5] * 3, abs=1e-6)
    # t quantile of 3 degrees of freedom, scatter .1, spread 2 (log 2)^2.
    assert slopes[0].interval[1] - 0.5 == pytest.approx(3.182446 * 0.1 / np.sqrt(2 * np.log(2) ** 2), rel=1e-5)


def test_all_sizes_are_the_verdict_itself() -> None:
    """The first row repeats the verdict's numbers, and dropping nothing gives them again."""
    verdict, evidence = evidence_of(trials(0.7, noise=0.3))
    assert evidence.sensitivity[0].estimate == verdict.uncertainty.estimate
    estimate, interval = edge_exponent(verdict.envelope)
    assert estimate == pytest.approx(verdict.estimate)
    assert interval == pytest.approx(verdict.interval)


def test_few_sizes_say_what_is_missing() -> None:
    """Models that need more sizes have no estimate and say how many they need."""
    _, evidence = evidence_of(trials(0.7))
    notes = {row.choice: row.note for row in evidence.sensitivity if row.kind == "model"}
    assert notes["broken power"] == "needs 7 sizes"


def test_other_claims_have_a_sentence_and_no_figure() -> None:
    """What is no rate gives its estimate in words; drawing it is refused."""
    claim = Monotone(method="M", metric="sup_error", along="num_params_primary", direction="decreasing")
    verdict = check(claim, trials(1.0))
    evidence = gather_evidence(verdict)
    assert evidence.sentence.startswith("Kendall's tau -1 ")
    assert evidence.sensitivity == ()
    with pytest.raises(AnalysisError, match="no fit to draw"):
        plot_evidence(verdict, evidence)


def test_the_figure_shows_what_the_record_says() -> None:
    """Four panels: theorem's slope, a mark per size, one local exponent per window, one row per choice."""
    verdict, evidence = evidence_of(trials(0.7, noise=0.1, sizes=SIZES))
    envelope, slopes, residuals, forest = plot_evidence(verdict, evidence).axes
    assert [axes.get_title(loc="left") or axes.get_title() for axes in (envelope, slopes, residuals, forest)] == [
        "Envelope and fit",
        "Local exponents",
        "Residuals (grey: each seed)",
        "Sensitivity",
    ]
    assert [text.get_text() for text in forest.get_yticklabels()] == [row.choice for row in evidence.sensitivity]
    theorem = next(line for line in envelope.lines if line.get_linestyle() == "--")
    x, y = np.log(theorem.get_xdata()), np.log(theorem.get_ydata())
    assert np.polyfit(x, y, 1)[0] == pytest.approx(-1.0)
    heights = sorted(line.get_ydata()[0] for line in slopes.lines if len(line.get_ydata()) == 1)
    assert heights == pytest.approx(sorted(s.exponent for s in evidence.local_slopes))
