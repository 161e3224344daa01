"""Tests of `analysis.exponents.calibration` and of what a measured gap does to verdicts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis.exponents.calibration import (
    GAP_COLUMN,
    carried,
    gap_slopes,
    measure_gap,
    trials_for,
    widened,
    without_calibration,
)
from analysis.exponents.estimators import SlopeIntervals
from analysis.judging.checks import check
from analysis.judging.verdicts import Cause
from hyperscale.claims import Calibration, Ordering, ScalingRate
from hyperscale.errors import AnalysisError, StudyError

SIZES = tuple(8 * 2**k for k in range(9))
LAW = Calibration(where={"target": "Square"}, infimum_constant=0.5, infimum_exponent=2.0)


def trials(exponent: float, *, target: str, gap: float = 0.0, noise: float = 0.02, scale: float = 1.0, seed: int = 0):
    """Return trials of a planted law times a gap N^gap: two learning rates, four seeds, the infimum as a column."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "digest": f"{target}-{n}-{lr}-{seed}",
            "method": "M",
            "target": target,
            "num_params_primary": n,
            "optimizer": "adam",
            "lr": lr,
            "seed": seed,
            "status": "finished",
            "infimum": scale * n**-exponent,
            "sup_error": scale * n ** (gap - exponent) * np.exp(abs(generator.normal(0, noise))) * (1 + (lr > 0.01)),
        }
        for n, lr, seed in product(SIZES, (0.01, 0.1), range(4))
    ]
    return pd.DataFrame(rows)


def study(exponent: float = 1.0, gap: float = 0.0, calibrated_gap: float | None = None, **more) -> pd.DataFrame:
    """Return a study's trials and those of its calibration on a target with infimum N^-2 / 2."""
    own = trials(exponent, target="Sobolev", gap=gap, **more)
    known = trials(
        2.0, target="Square", gap=gap if calibrated_gap is None else calibrated_gap, scale=0.5, seed=1, **more
    )
    return pd.concat([own, known], ignore_index=True)


def claim(bound: str, exponent: float = 1.0, **more) -> ScalingRate:
    """Return a claim with the calibration by a law."""
    return ScalingRate(method="M", bound=bound, exponent=exponent, calibration=LAW, **more)


def test_the_gap_is_measured_either_way() -> None:
    """A planted gap N^.144 is found within its interval, by a law of the infimum and by a column alike."""
    by_law = measure_gap(claim("upper"), study(gap=0.144))
    column = Calibration(where={"target": "Square"}, infimum_column="infimum")
    by_column = measure_gap(ScalingRate(method="M", bound="upper", exponent=1.0, calibration=column), study(gap=0.144))
    assert by_law.interval[0] < 0.144 < by_law.interval[1]
    assert by_law.slope == pytest.approx(0.144, abs=0.01)
    assert by_law.upper == by_law.interval[1]
    assert by_column.slope == pytest.approx(by_law.slope)
    assert by_law.envelope.metric == GAP_COLUMN
    assert by_law.envelope.values[0] == pytest.approx(8**0.144, rel=0.05)


@pytest.mark.parametrize(
    ("bound", "true", "gap", "word", "cause"),
    [
        ("upper", 1.0, 0.0, "attained", Cause.NONE),
        ("upper", 1.0, 0.3, "inconclusive", Cause.GAP),
        ("upper", 0.5, 0.1, "not attained", Cause.NONE),
        ("lower", 1.0, 0.0, "not contradicted", Cause.NONE),
        ("lower", 1.0, 0.3, "not contradicted", Cause.NONE),
        ("lower", 1.5, 0.6, "inconclusive", Cause.GAP),
        ("lower", 1.5, 0.1, "contradicted", Cause.NONE),
        ("match", 1.0, 0.0, "supported", Cause.NONE),
        ("match", 1.0, 0.3, "inconclusive", Cause.GAP),
        ("match", 0.5, 0.1, "not attained", Cause.NONE),
        ("match", 1.5, 0.1, "contradicted", Cause.NONE),
        ("match", 0.9, 0.0, "inconclusive", Cause.UNDERPOWERED),
    ],
)
def test_calibrated_verdicts(bound: str, true: float, gap: float, word: str, cause: Cause) -> None:
    """The claim of exponent 1 against a true exponent behind a measured gap."""
    verdict = check(claim(bound, hard_family=True), study(true, gap))
    assert (verdict.verdict, verdict.cause) == (word, cause), verdict.reason
    assert "assumption" in verdict.reason
    assert "prove" not in verdict.reason.lower()
    assert verdict.interval == (verdict.uncertainty.interval[0], verdict.uncertainty.interval[1] + verdict.gap.upper)
    assert verdict.interval[0] < true < verdict.interval[1] + 1e-3


def test_a_match_without_calibration_is_never_decided() -> None:
    """However clean the exponent, the gap is not controlled; the same data calibrated match."""
    table = study()
    asked = ScalingRate(method="M", bound="match", exponent=1.0)
    verdict = check(asked, table[table["target"] == "Sobolev"])
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.GAP)
    assert verdict.reason.startswith("optimisation gap not controlled: ")
    assert check(claim("match"), table).verdict == "supported"


def test_an_easy_target_does_not_refute_a_match_from_above() -> None:
    """Falling faster than the rate on an easy target says nothing of the class."""
    verdict = check(claim("match"), study(1.5))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.EASY)


def test_calibration_trials_are_not_the_claims_own() -> None:
    """The envelope is the study's target alone, and reports see the table without calibration trials."""
    table = study(1.0)
    verdict = check(claim("upper"), table)
    assert verdict.envelope.values == check(claim("upper"), table[table["target"] == "Sobolev"]).envelope.values
    assert verdict.estimate == pytest.approx(1.0, abs=0.02)
    other = Ordering(metric="sup_error", lower="M", higher="W")
    claims = (claim("upper"), other)
    assert set(without_calibration(table, claims)["target"]) == {"Sobolev"}
    assert set(trials_for(other, table, claims)["target"]) == {"Sobolev"}
    assert len(trials_for(claims[0], table, claims)) == len(table)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t[t["target"] == "Sobolev"], "No calibration trial has finished"),
        (lambda t: t.drop(columns="target"), "did you mean|no trial has"),
        (lambda t: t.assign(lr=t["lr"].where(t["target"] == "Sobolev", t["lr"] * 2)), "trained with lr"),
        (lambda t: t[(t["target"] == "Sobolev") | (t["num_params_primary"] < 32)], "2 sizes"),
        (lambda t: t.drop(index=t.index[-1]), "unequal numbers of trials"),
    ],
)
def test_an_unusable_calibration_says_why(change, match: str) -> None:
    """The gap is not measured, the error says what to do, and the verdict is the uncalibrated one with a note."""
    table = change(study(1.0))
    with pytest.raises(AnalysisError, match=match):
        measure_gap(claim("match"), table)
    if "target" in table.columns:
        verdict = check(claim("match"), table)
        assert verdict.cause is Cause.GAP
        assert verdict.gap is None
        assert any("not calibrated" in note for note in verdict.notes)


def test_bad_infima_are_refused() -> None:
    """A missing column and an infimum of zero are named."""
    table = study()
    for column, match in (("infimun", "did you mean 'infimum'"), ("zero", "allowed: positive numbers")):
        known = Calibration(where={"target": "Square"}, infimum_column=column)
        asked = ScalingRate(method="M", bound="upper", exponent=1.0, calibration=known)
        with pytest.raises(AnalysisError, match=match):
            measure_gap(asked, table.assign(zero=0.0))


def test_what_a_calibration_cannot_see_is_noted() -> None:
    """Sizes beyond its own are an extrapolation, and errors below the infimum were not fully found."""
    table = study(1.0)
    short = table[(table["target"] == "Sobolev") | (table["num_params_primary"] < 1024)]
    assert any("extrapolated" in note for note in measure_gap(claim("upper"), short).notes)
    halved = table.assign(sup_error=table["sup_error"] / 2)
    assert any("lower bound" in note for note in measure_gap(claim("upper"), halved).notes)


def test_an_infimum_far_above_the_errors_is_refused() -> None:
    """Trained errors a tenth of the stated infimum mean that it is not the infimum; no gap is read off them."""
    table = study(1.0)
    with pytest.raises(AnalysisError, match=r"times the infimum that is given.*Correct the infimum"):
        measure_gap(claim("upper"), table.assign(sup_error=table["sup_error"] / 10))


def test_no_method_is_judged_on_a_calibration_target() -> None:
    """Another method's trials on the calibration's target leave the study with those of the claim's own method."""
    table = study(1.0)
    other = table.assign(method="Other")
    kept = without_calibration(pd.concat([table, other], ignore_index=True), [claim("upper")])
    assert set(kept["target"]) == {"Sobolev"}
    assert set(kept["method"]) == {*table["method"], "Other"}


@pytest.mark.parametrize(("bound", "exponent"), [("lower", 0.5), ("match", 0.5), ("match", 0.8)])
def test_a_gap_that_shrinks_with_size_forbids_what_it_could_explain(bound: str, exponent: float) -> None:
    """Trained errors N^-.8 with a gap N^-.3 come of infima N^-.5: no bound of .5 is beaten, and .8 is no rate."""
    table = study(0.5, gap=-0.3)
    table["sup_error"] *= 30  # A gap of 30 at N = 1 keeps errors above the infimum at every size.
    verdict = check(claim(bound, exponent, hard_family=True), table)
    assert verdict.gap is not None
    assert verdict.gap.lower < -0.2
    assert verdict.interval[0] < 0.55
    assert verdict.verdict not in ("contradicted", "supported"), verdict.reason


def test_widening_and_carrying() -> None:
    """The upper end rises by the gap's upper limit, never falls; carried slopes add, and so do variances."""
    interval = SlopeIntervals(*map(np.array, ([1.0, 1.0], [0.1, 0.1], [0.8, 0.8], [1.2, 1.2])))
    gap = SlopeIntervals(*map(np.array, ([0.2, -0.5], [0.1, 0.1], [0.0, -0.7], [0.4, -0.3])))
    assert widened(interval, gap).high == pytest.approx([1.6, 1.2])
    # The second gap plainly shrinks with N, so trained errors fall faster than the infima by up to N^.7.
    assert widened(interval, gap).low == pytest.approx([0.8, 0.1])
    moved = carried(interval, gap, (10, 10))
    assert moved.slope == pytest.approx([1.2, 0.5])
    assert moved.high - moved.slope == pytest.approx([2.0860 * np.sqrt(0.02)] * 2, rel=1e-4)  # t with 20 degrees


def test_gap_slopes_have_the_sign_of_growth() -> None:
    """Ratios that grow with N have a positive slope, and the interval holds it in order."""
    x = np.log(np.array(SIZES, dtype=float))
    noise = 0.1 * np.abs(np.random.default_rng(0).normal(size=(len(x), 1, 4)))
    found = gap_slopes(x, 0.3 * x[:, None, None] + noise)
    assert found.low < 0.3 < found.high
    assert found.low < found.slope < found.high


@pytest.mark.parametrize(
    "given",
    [
        {"where": {}},
        {"where": "target"},
        {"where": {"target": "Square"}},
        {"where": {"target": "Square"}, "infimum_column": "infimum", "infimum_constant": 1.0},
        {"where": {"target": "Square"}, "infimum_constant": 1.0},
        {"where": {"target": "Square"}, "infimum_constant": -1.0, "infimum_exponent": 2.0},
    ],
)
def test_a_calibration_names_its_trials_and_one_infimum(given: dict) -> None:
    """No trials, no infimum, two infima or half a law are refused where they are written."""
    with pytest.raises(StudyError, match="Calibration"):
        Calibration(**{"infimum_column": "infimum", **given} if given["where"] in ({}, "target") else given)


# --- best approximations: a calibration by a column, for two methods, with seeds that all but agree ------------------


def approximations(*, gap: float = 1.0, noise: float = 0.0, grid: str = "4096") -> pd.DataFrame:
    """Return best approximations of a growing family and of Tilted targets, whose infimum is a column, by two methods.

    Errors are ``gap`` times the infimum at k = 3 to 129 knots (1.2 times more for the hypernetwork on the family).
    """
    generator = np.random.default_rng(0)
    rows = []
    for method, k, seed, known in product(
        ("PerInstance", "Hypernetwork"), (3, 5, 9, 17, 33, 65, 129), range(3), (False, True)
    ):
        infimum = 1 / (2 * (k + 1) ** 2) if known else 0.3 / k
        more = 1.2 if method == "Hypernetwork" and not known else 1.0
        rows.append(
            {
                "digest": f"{method}-{k}-{seed}-{known}",
                "kind": "best_approximation",
                "method": method,
                "target": "Tilted" if known else "BumpFamily",
                "smoothness": 2 if known else 1,
                "cells": pd.NA if known else k + 1,
                "signs": None if known else "random",
                "curvature": 0.5 if known else np.nan,
                "num_params_primary": 3 * k + 1,
                "optimizer": "VarPro(200) > OuterLP(20)",
                "batch": "4096" if known else grid,
                "seed": seed,
                "status": "finished",
                "sup_error": infimum * gap * more * np.exp(noise * abs(generator.normal())),
                "per_instance_reached": infimum,
            }
        )
    return pd.DataFrame(rows).astype({"cells": "Int64"})


@pytest.mark.parametrize("method", ["PerInstance", "Hypernetwork"])
@pytest.mark.parametrize(("gap", "noise"), [(1.0, 0.0), (1.0, 1e-12), (1.0, 1e-4), (0.97, 0.0), (1.05, 0.02)])
def test_gaps_near_one_by_a_column(method: str, gap: float, noise: float) -> None:
    """Ratios near 1 with no or tiny scatter measure a gap of slope 0 and decide; ratios below 1 carry a note."""
    calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")
    asked = ScalingRate(method=method, bound="match", exponent=1.0, hard_family=True, calibration=calibration)
    verdict = check(asked, approximations(gap=gap, noise=noise))
    assert verdict.verdict == "supported", verdict.reason
    assert verdict.gap is not None
    assert verdict.gap.slope == pytest.approx(0.0, abs=0.01)
    assert np.isfinite(verdict.gap.interval).all()
    assert any("a lower bound, or the networks are a little more" in note for note in verdict.notes) is (gap < 1)


def test_each_method_has_its_own_calibration() -> None:
    """A gap that grows for one method only widens that method's interval; neither is judged on Tilted."""
    table = approximations()
    theirs = (table["method"] == "Hypernetwork") & (table["target"] == "Tilted")
    table.loc[theirs, "sup_error"] *= table.loc[theirs, "num_params_primary"] ** 0.2
    calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")
    claims = [
        ScalingRate(method=method, bound="upper", exponent=1.0, calibration=calibration)
        for method in ("PerInstance", "Hypernetwork")
    ]
    gaps = [check(claim, trials_for(claim, table, claims)).gap for claim in claims]
    assert [gap.upper for gap in gaps if gap] == pytest.approx([0.0, 0.2], abs=0.001)
    assert set(without_calibration(table, claims)["target"]) == {"BumpFamily"}


def test_a_grid_of_the_target_does_not_block_a_calibration() -> None:
    """Fits on a grid may have another number of pairs for another target, which is noted; other kinds may not."""
    calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")
    asked = ScalingRate(method="PerInstance", bound="upper", exponent=1.0, calibration=calibration)
    table = approximations(grid="9999")
    assert any("grids have 4096 pairs" in note and "9999" in note for note in measure_gap(asked, table).notes)
    with pytest.raises(AnalysisError, match="trained with batch 4096"):
        measure_gap(asked, table.assign(kind="approximation"))
