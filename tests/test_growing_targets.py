"""Tests of `exponents.target_keys` and of verdicts on families whose number of bumps grows with N: planted tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis.exponents.envelope import build_envelope
from analysis.exponents.target_keys import target_keys
from analysis.judging.checks import check
from analysis.judging.verdicts import Cause
from hyperscale.claims import Factor, Monotone, Ordering, ScalingRate, Separation

WIDTHS = (4, 8, 16, 32, 64, 128)
SEPARATION = Separation(faster="A", slower="B", faster_exponent=1.0, slower_exponent=0.5, hard_family=True)


def family(method: str, exponent: float, **given) -> pd.DataFrame:
    """Return trials ``scale * N^-exponent`` on a family with as many cells as the width, N = width * per_unit."""
    wanted = {"per_unit": 3, "scale": 1.0, "seeds": 3, "target_seeds": (0,), "cells": lambda w: w, "noise": 0.02}
    wanted |= given
    generator = np.random.default_rng(given.get("rng", len(method) + ord(method[0])))
    rows = [
        {
            "digest": f"{method}-{w}-{t}-{s}",
            "method": method,
            "target": "BumpFamily",
            "x_dim": 1,
            "conditioning_dim": 1,
            "smoothness": 1,
            "cells": wanted["cells"](w),
            "signs": "random",
            "target_seed": t,
            "primary_width": w,
            "num_params_primary": w * wanted["per_unit"],
            "lr": 0.01,
            "seed": s,
            "status": "finished",
            "sup_error": wanted["scale"] * w**-exponent * np.exp(abs(generator.normal(0, wanted["noise"]))),
        }
        for w, t, s in product(WIDTHS, wanted["target_seeds"], range(wanted["seeds"]))
    ]
    return pd.DataFrame(rows)


def test_a_family_is_one_target_and_its_seeds_are_others() -> None:
    """Cells that are a function of N leave the key; two target seeds remain two targets, with a value at every size."""
    table = family("A", 1.0, target_seeds=(0, 1))
    found = target_keys(table, "num_params_primary")
    assert found.key.nunique() == 2
    assert found.member.nunique() == len(WIDTHS)
    assert found.note.startswith("the target's cells grow with N, from 4 to 128")
    assert target_keys(table).key.nunique() == 2 * len(WIDTHS)
    envelope = build_envelope(table, method="A")
    assert not envelope.missing_note
    assert envelope.log_seed_minima().shape == (len(WIDTHS), 2, 3)
    assert np.isfinite(envelope.log_seed_minima()).all()


@pytest.mark.parametrize("name", ["levels", "cells", "bumps"])
def test_a_rate_on_a_growing_family(name: str) -> None:
    """The planted exponent is attained, and the verdict says what grows; the reason does not call targets missing."""
    table = family("A", 1.0).rename(columns={"cells": name})
    verdict = check(ScalingRate(method="A", bound="upper", exponent=1.0, hard_family=True), table)
    assert verdict.verdict == "attained", verdict.reason
    assert any(f"The target's {name} grow with N, from 4 to 128" in note for note in verdict.notes)
    assert verdict.estimate == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    "cells",
    [
        lambda _: 7,  # the same throughout
        lambda w: 200 - w,  # falls with N
    ],
)
def test_counts_that_do_not_grow_stay_in_the_key(cells) -> None:
    """A fixed count and one that falls tell targets apart, as every other column of the target does."""
    found = target_keys(family("A", 1.0, cells=cells), "num_params_primary")
    assert found.note == ""
    assert (found.member == "").all()


def test_several_counts_at_one_size_are_several_targets() -> None:
    """Two numbers of cells at every size are two targets; the envelope is the worse of them."""
    table = pd.concat([family("A", 1.0), family("A", 1.0, scale=2.0, cells=lambda w: 4 * w)], ignore_index=True)
    assert target_keys(table, "num_params_primary").note == ""
    fixed = pd.concat(
        [family("A", 1.0, cells=lambda _: 8), family("A", 1.0, scale=2.0, cells=lambda _: 64)], ignore_index=True
    )
    assert build_envelope(fixed, method="A").values[0] == pytest.approx(2 / 4, rel=0.1)


def test_a_count_grows_only_if_it_does_in_every_method() -> None:
    """One method with two counts at a size keeps the count in the key of both, so that they can be paired by target."""
    both = pd.concat([family("B", 0.5), family("B", 0.5, cells=lambda w: 2 * w)], ignore_index=True)
    assert target_keys(pd.concat([family("A", 1.0), both], ignore_index=True), "num_params_primary").note == ""
    assert "cells grow" in target_keys(family("A", 1.0), "num_params_primary").note


def test_a_separation_compares_each_method_at_its_own_sizes() -> None:
    """Methods have other members at equal N, each at its own sizes; the exponents' difference is found all the same."""
    table = pd.concat([family("A", 1.0), family("B", 0.5, per_unit=5)], ignore_index=True)
    verdict = check(SEPARATION, table)
    assert verdict.verdict == "supported", verdict.reason
    assert verdict.estimate == pytest.approx(0.5, abs=0.05)
    assert any("cells grow with N" in note for note in verdict.notes)


@pytest.mark.parametrize(
    "claim", [Ordering(metric="sup_error", lower="A", higher="B"), Factor(method="A", reference="B", factor=3)]
)
def test_errors_on_different_members_are_not_compared(claim) -> None:
    """At equal N the methods saw other members: no order, no ratio; along the width they saw the same."""
    table = pd.concat([family("A", 1.0), family("B", 0.5, per_unit=5)], ignore_index=True)
    verdict = check(claim, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.UNDERPOWERED), verdict.reason
    assert "same target" in verdict.reason
    assert any("different members of the target's family" in note for note in verdict.notes)
    along = type(claim)(**{**_fields(claim), "at_each": "primary_width"})
    assert check(along, table).verdict in ("supported", "attained")


def _fields(claim: Ordering | Factor) -> dict:
    names = ("metric", "lower", "higher") if isinstance(claim, Ordering) else ("method", "reference", "factor")
    return {name: getattr(claim, name) for name in names}


def test_members_shared_at_some_sizes_are_compared_there() -> None:
    """Where cells stay the same between two sizes of each method, an interpolated value is on one target."""
    steps = {4: 4, 8: 4, 16: 4, 32: 32, 64: 32, 128: 32}
    table = pd.concat(
        [family("A", 1.0, cells=steps.get), family("B", 0.5, per_unit=4, cells=steps.get)], ignore_index=True
    )
    verdict = check(Ordering(metric="sup_error", lower="A", higher="B"), table)
    assert verdict.verdict == "supported", verdict.reason
    assert any("Left out: " in note for note in verdict.notes)


def test_monotone_along_a_growing_family() -> None:
    """Kendall's tau runs along the family's members, at each width its own."""
    claim = Monotone(method="A", metric="sup_error", along="primary_width", direction="decreasing", each_step=True)
    verdict = check(claim, family("A", 1.0))
    assert (verdict.verdict, verdict.estimate) == ("supported", -1.0), verdict.reason
    assert any("cells grow with primary_width" in note for note in verdict.notes)


def test_predicting_zero_on_shrinking_bumps_attains_nothing() -> None:
    """Bumps of height 1 / cells give predicting 0 the exponent 1: errors as large are untaught, smaller ones say so."""
    table = family("A", 1.0)
    claim = ScalingRate(method="A", bound="upper", exponent=1.0, hard_family=True)
    zero = 1 / table["primary_width"]
    lazy = check(claim, table.assign(zero_sup_error=zero))
    assert (lazy.verdict, lazy.cause) == ("inconclusive", Cause.UNTAUGHT)
    assert "predicting 0 everywhere would fall like N^-1" in lazy.reason
    taught = check(claim, table.assign(zero_sup_error=4 * zero))
    assert taught.verdict == "attained"
    assert any("would fall like N^-1" in note and "0.25 of that" in note for note in taught.notes)


def test_random_tables_raise_no_warning() -> None:
    """Fifteen tables with random holes, divergences and counts: every comparison gets a verdict and no warning."""
    claims = (
        SEPARATION,
        Ordering(metric="sup_error", lower="A", higher="B"),
        Factor(method="A", reference="B", factor=3),
        Factor(method="A", reference_column="per_instance_infimum", factor=3),
        Monotone(method="A", metric="sup_error", along="primary_width", direction="decreasing", each_step=True),
        ScalingRate(method="A", bound="upper", exponent=1.0),
    )
    generator = np.random.default_rng(0)
    for _ in range(15):
        cells = generator.choice([lambda w: w, lambda _: 4])
        table = pd.concat([family("A", 1.0, cells=cells), family("B", 0.5, per_unit=5)], ignore_index=True)
        table["per_instance_infimum"] = table["sup_error"] / 2
        table["zero_sup_error"] = 1.0
        share = generator.uniform(0, 0.9)
        table.loc[generator.random(len(table)) < share, ["sup_error", "status"]] = [np.nan, "diverged"]
        table.loc[generator.random(len(table)) < share, "per_instance_infimum"] = np.nan
        table = table[generator.random(len(table)) > generator.uniform(0, 0.6)]
        for claim in claims:
            verdict = check(claim, table)
            assert verdict.reason
            assert verdict.estimate is None or np.isfinite(verdict.estimate)
            assert verdict.interval is None or np.isfinite(verdict.interval).all()
