"""Tests of `judging.column_factors`: a method within a factor of a known infimum, size by size."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis import theorems
from analysis.judging.checks import check
from analysis.judging.verdicts import Cause
from analysis.reporting.evidence import gather_evidence
from analysis.reporting.evidence_sections import evidence_sections
from analysis.reporting.report_data import strict, verdict_data
from hyperscale.claims import Factor
from hyperscale.errors import StudyError

SIZES = (10, 16, 28, 52, 100, 196)
CLAIM = Factor(method="H", reference_column="per_instance_infimum", factor=3.0)


def trials(ratio: float = 1.5, bound: float | None = None, targets: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """Return errors of ``ratio`` times an infimum 1 / N (the second seed errs 1.5 times as much), certified or not."""
    rows = [
        {
            "digest": f"{n}-{t}-{s}",
            "method": "H",
            "target": "BumpFamily",
            "cells": n // 2,
            "target_seed": t,
            "num_params_primary": n,
            "seed": s,
            "status": "finished",
            "sup_error": ratio * (1 + s / 2) / n,
            "per_instance_infimum": 1 / n,
            **({} if bound is None else {"sup_error_bound": bound * (1 + s / 2) / n}),
        }
        for n, t, s in product(SIZES, targets, range(2))
    ]
    return pd.DataFrame(rows)


def test_within_the_factor_at_every_size() -> None:
    """The best seed counts: 1.5 at each of six sizes, by what was found; the notes have every size's number."""
    verdict = check(CLAIM, trials())
    assert (verdict.verdict, verdict.predicted) == ("attained", 3.0)
    assert verdict.estimate == pytest.approx(1.5)
    assert "at 6 of 6 sizes" in verdict.reason
    assert "lower bounds on the networks' sup norms; none is certified" in verdict.reason
    assert "Ratio at each N: 10: 1.5, 16: 1.5" in verdict.notes[0]
    assert [(one.at, one.certified) for one in verdict.ratios] == [(float(n), None) for n in SIZES]


def test_certified_bounds_decide_with_what_was_found() -> None:
    """Both within: attained, certified. Only what was found within: left open, with both counts."""
    sure = check(CLAIM, trials(bound=2.0))
    assert sure.verdict == "attained"
    assert "By sup_error_bound, which is certified, it holds at 6 of 6 sizes too" in sure.reason
    assert "lies between 1.5, found, and 2, certified" in sure.notes[1]
    wide = trials(bound=2.0)
    wide.loc[wide["num_params_primary"] >= 100, "sup_error_bound"] *= 3
    verdict = check(CLAIM, wide)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.NOT_IDENTIFIED)
    assert "at 6 of 6 sizes" in verdict.reason
    assert "it holds at 4 of 6" in verdict.reason


def test_one_size_above_the_factor_is_named() -> None:
    """Four times the infimum at one size: not attained, at 5 of 6 sizes, and the theorem is not contradicted."""
    table = trials()
    table.loc[table["num_params_primary"] == 52, "sup_error"] *= 4 / 1.5
    verdict = check(CLAIM, table)
    assert (verdict.verdict, verdict.cause) == ("not attained", Cause.GAP)
    assert "at 5 of 6 sizes" in verdict.reason
    assert "It is above at N = 52" in verdict.reason
    assert "the theorem is not contradicted" in verdict.reason
    assert verdict.estimate == pytest.approx(4.0)


def test_the_worst_target_counts_against_its_own_infimum() -> None:
    """A target of ten times the error and infimum changes nothing; one at twice the ratio is what counts."""
    table = trials(targets=(0, 1))
    second = table["target_seed"] == 1
    scaled = table.copy()
    scaled.loc[second, ["sup_error", "per_instance_infimum"]] *= 10
    assert check(CLAIM, scaled).estimate == pytest.approx(1.5)
    harder = table.copy()
    harder.loc[second, "sup_error"] *= 1.8
    assert check(CLAIM, harder).estimate == pytest.approx(2.7)


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (lambda t: t.assign(per_instance_infimum=np.nan), Cause.NO_DATA, "per_instance_infimum"),
        (lambda t: t.assign(per_instance_infimum=0.0), Cause.NOT_IDENTIFIED, "0 or less at N = 10"),
        (lambda t: t.assign(sup_error=t["sup_error"] / 5), Cause.NOT_IDENTIFIED, "Correct the column"),
        (lambda t: t[t["num_params_primary"] < 50], Cause.UNDERPOWERED, "at 3 of 3 sizes"),
        (lambda t: t.drop(columns="per_instance_infimum"), Cause.NO_DATA, "no trial reports per_instance_infimum"),
    ],
)
def test_what_leaves_no_verdict(change, cause: Cause, words: str) -> None:
    """Without infima, at infima of 0 or above every error, and with few sizes the reason says what is wrong."""
    verdict = check(CLAIM, change(trials()))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", cause)
    assert words in verdict.reason


def test_errors_a_little_below_the_infimum_are_noted() -> None:
    """0.97 of the infimum is what a grid may find; sizes without the column and diverged trials are named."""
    table = trials(ratio=0.97)
    table.loc[table["num_params_primary"] == 10, "per_instance_infimum"] = np.nan
    table.loc[(table["num_params_primary"] == 16) & (table["seed"] == 1), "status"] = "diverged"
    verdict = check(CLAIM, table)
    assert verdict.verdict == "attained"
    notes = " ".join(verdict.notes)
    for words in ("0.97 times", "lower bound", "no trial there has per_instance_infimum: N = 10", "1 diverged trial"):
        assert words in notes


def test_the_evidence_has_a_row_per_size() -> None:
    """The report's data and its sections hold each size's error, infimum, ratio and certified ratio."""
    verdict = check(CLAIM, trials(bound=2.0))
    data = strict(verdict_data(verdict, gather_evidence(verdict)))
    assert data["evidence"]["ratios"][0] == {
        "at": 10.0,
        "error": pytest.approx(0.15),
        "reference": pytest.approx(0.1),
        "ratio": pytest.approx(1.5),
        "certified": pytest.approx(2.0),
    }
    (section,) = (s for s in evidence_sections(data, "none", {}) if s["title"] == "The ratio at each size")
    assert len(section["rows"]) == len(SIZES)


def test_the_theorem_and_the_claim() -> None:
    """Eq. 4 against the infimum: factor 3 or 4, one method, the column read; two references or none are refused."""
    claim = theorems.infimum_factor()
    assert (claim.factor, claim.methods, claim.reference_column) == (3, ("Hypernetwork",), "per_instance_infimum")
    assert claim.columns == ("sup_error", "per_instance_infimum", "num_params_primary")
    assert theorems.infimum_factor(appendix=True).factor == 4
    assert "≤ 3 × per_instance_infimum" in claim.title
    for given in ({}, {"reference": "P", "reference_column": "c"}):
        with pytest.raises(StudyError, match="allowed: one of them"):
            Factor(method="H", factor=3, **given)
    with pytest.raises(StudyError, match="the metric itself"):
        Factor(method="H", factor=3, reference_column="sup_error")
