"""Tests of `analysis.judging.checks`: every verdict is reached by data made for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis.judging.checks import check
from analysis.judging.verdicts import Cause
from hyperscale.claims import Monotone, Ordering, ScalingRate

SIZES = (4, 8, 16, 32, 64, 128)
UPPER = ScalingRate(method="M", bound="upper", exponent=1.0)
LOWER = ScalingRate(method="M", bound="lower", exponent=0.5, hard_family=True)


def trials(exponent: float, *, noise: float = 0.02, sizes=SIZES, seeds=4, scale=1.0, method="M") -> pd.DataFrame:
    """Return trials of a planted power law with two learning rates, the second one worse."""
    generator = np.random.default_rng(int(1000 * abs(exponent)) + seeds)
    rows = [
        {
            "digest": f"{method}-{n}-{lr}-{seed}",
            "method": method,
            "num_params_primary": n,
            "lr": lr,
            "seed": seed,
            "status": "finished",
            "sup_error": scale * n**-exponent * np.exp(abs(generator.normal(0, noise))) * (1 + (lr > 0.01)),
        }
        for n, lr, seed in product(sizes, (0.01, 0.1), range(seeds))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("claim", "exponent", "noise", "word", "cause"),
    [
        (UPPER, 1.0, 0.02, "attained", Cause.NONE),
        (UPPER, 1.4, 0.02, "attained", Cause.NONE),
        (UPPER, 0.6, 0.02, "not attained", Cause.GAP),
        (UPPER, 0.9, 0.5, "inconclusive", Cause.UNDERPOWERED),
        (LOWER, 0.4, 0.02, "not contradicted", Cause.NONE),
        (LOWER, 0.5, 0.02, "not contradicted", Cause.NONE),
        (LOWER, 0.8, 0.02, "contradicted", Cause.NONE),
        (LOWER, 0.55, 0.5, "inconclusive", Cause.UNDERPOWERED),
    ],
)
def test_rates(claim: ScalingRate, exponent: float, noise: float, word: str, cause: Cause) -> None:
    """The interval of the planted exponent against the claimed one gives the stated verdict."""
    verdict = check(claim, trials(exponent, noise=noise))
    assert (verdict.verdict, verdict.cause) == (word, cause), verdict.reason
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1]
    assert verdict.predicted == claim.exponent
    if word == "inconclusive":
        assert verdict.reason.startswith("underpowered: ")


def test_wording_never_overreaches() -> None:
    """A slow envelope leaves the theorem alone, a kept bound is no support, and nothing is ever proved."""
    slow, kept = check(UPPER, trials(0.6)), check(LOWER, trials(0.4))
    assert "the theorem is not contradicted" in slow.reason
    assert "no support" in kept.reason
    for verdict in (slow, kept, check(UPPER, trials(1.2)), check(LOWER, trials(0.9))):
        assert "prove" not in verdict.reason.lower()


def test_an_easy_target_cannot_contradict() -> None:
    """The same fast envelope contradicts on a hard family only."""
    easy = ScalingRate(method="M", bound="lower", exponent=0.5, hard_family=False)
    verdict = check(easy, trials(0.8))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.EASY)


@pytest.mark.parametrize("sizes", [(4, 16, 64), (4, 5, 6, 8, 10, 12)])
def test_few_sizes_or_octaves_are_underpowered(sizes) -> None:
    """Three sizes, or six within two octaves, decide nothing however clean the data."""
    verdict = check(UPPER, trials(1.5, noise=0.001, sizes=sizes))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.UNDERPOWERED)
    assert "octaves" in verdict.reason
    assert verdict.estimate == pytest.approx(1.5, abs=0.05)


def test_resolved_target() -> None:
    """Errors below the target's finest structure no longer speak of the rate."""
    claim = ScalingRate(method="M", bound="upper", exponent=1.0, resolution=0.05)
    verdict = check(claim, trials(1.2))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.RESOLVED)
    fine = ScalingRate(method="M", bound="upper", exponent=1.0, resolution=1e-5)
    assert check(fine, trials(1.2)).verdict == "attained"


def test_unequal_budget() -> None:
    """One missing trial at one size blocks the verdict; a diverged one does not."""
    table = trials(1.2)
    verdict = check(UPPER, table.iloc[:-1])
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.BUDGET)
    diverged = table.assign(status=["diverged", *["finished"] * (len(table) - 1)])
    assert check(UPPER, diverged).verdict == "attained"


def test_disagreeing_estimators_and_rising_envelopes_block_a_verdict() -> None:
    """A scale of excess that grows with N parts the estimators; a valley rises: both are named, neither is judged."""
    generator = np.random.default_rng(3)
    sizes = tuple(8 * 2**k for k in range(13))
    clean = trials(1.5, sizes=sizes, seeds=10)
    octave = np.log2(clean["num_params_primary"] / 8)
    growing = clean.assign(sup_error=clean["sup_error"] * np.exp(0.05 * 1.35**octave * generator.exponential(size=260)))
    verdict = check(UPPER, growing)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.ESTIMATORS)
    assert "frontier" in verdict.reason
    assert any("scatter drifts" in note for note in verdict.notes)
    valley = check(UPPER, clean.assign(sup_error=clean["sup_error"] * 4.0 ** (octave - 6).clip(lower=0)))
    assert (valley.verdict, valley.cause) == ("inconclusive", Cause.RISING)
    assert "rises from N = " in valley.reason


def test_zero_errors_are_not_identified() -> None:
    """An error of exactly zero has no logarithm, and that is said."""
    table = trials(1.0).assign(sup_error=0.0)
    verdict = check(UPPER, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.NOT_IDENTIFIED)


@pytest.mark.parametrize(
    "claim",
    [
        UPPER,
        Ordering(metric="sup_error", lower="M", higher="W"),
        Monotone(method="M", metric="sup_error", along="num_params_primary", direction="decreasing"),
    ],
)
def test_claims_without_data_are_inconclusive(claim) -> None:
    """An empty table, a table of diverged trials, and a table without the columns all give a reason."""
    nothing = trials(1.0)
    tables = [
        pd.DataFrame(columns=["method", "status"]),
        nothing.assign(status="diverged"),
        nothing.drop(columns="sup_error"),
        nothing.iloc[:0],
        nothing.assign(sup_error=np.nan),
    ]
    for table in tables:
        verdict = check(claim, table)
        assert verdict.verdict == "inconclusive"
        assert verdict.reason


@pytest.mark.parametrize(
    ("other", "seeds", "noise", "word"),
    [
        (2.0, 4, 0.02, "supported"),
        (0.5, 4, 0.02, "contradicted"),
        (1.0, 4, 0.3, "inconclusive"),
        (2.0, 1, 0.02, "inconclusive"),
    ],
)
def test_ordering_at_sizes(other: float, seeds: int, noise: float, word: str) -> None:
    """Errors interpolated at common sizes, paired by seed, give the order or admit that they do not."""
    low = trials(0.7, seeds=seeds, noise=noise)
    high = trials(0.7, seeds=seeds, noise=noise * 1.1, sizes=(5, 11, 21, 43, 90, 200), scale=other, method="W")
    claim = Ordering(metric="sup_error", lower="M", higher="W")
    verdict = check(claim, pd.concat([low, high], ignore_index=True))
    assert verdict.verdict == word, verdict.reason
    assert verdict.estimate == pytest.approx(1 / other, rel=0.25)
    assert ("an optimisation gap of M would look the same" in verdict.reason) is (word == "contradicted")


def test_ordering_uses_complete_seeds_and_says_so() -> None:
    """A seed whose trials are not all there is left out, with a note; unequal grids block the verdict."""
    both = pd.concat([trials(0.7), trials(0.7, scale=2.0, method="W")], ignore_index=True)
    claim = Ordering(metric="sup_error", lower="M", higher="W")
    partial = check(claim, both.iloc[:-1])
    assert partial.verdict == "supported"
    assert "1 seed" in partial.notes[0]
    uneven = both[~((both["method"] == "W") & (both["lr"] > 0.01))]
    assert check(claim, uneven).cause is Cause.BUDGET


def test_ordering_at_each_value_of_a_column() -> None:
    """At a column that is no size, only shared values are compared, and the others are named."""
    low = trials(0.5).assign(depth=lambda t: t["num_params_primary"])
    high = trials(0.5, scale=3.0, method="W", sizes=SIZES[:-1]).assign(depth=lambda t: t["num_params_primary"])
    claim = Ordering(metric="sup_error", lower="M", higher="W", at_each="depth")
    verdict = check(claim, pd.concat([low, high], ignore_index=True))
    assert verdict.verdict == "supported"
    assert "5 of 5" in verdict.reason
    assert "depth = 128" in verdict.notes[0]
    assert verdict.interval[1] < 0.5


@pytest.mark.parametrize(
    ("direction", "exponent", "noise", "seeds", "word"),
    [
        ("decreasing", 1.0, 0.02, 3, "supported"),
        ("increasing", 1.0, 0.02, 3, "contradicted"),
        ("decreasing", 0.0, 0.3, 6, "inconclusive"),
        ("decreasing", 1.0, 0.02, 1, "inconclusive"),
    ],
)
def test_monotone(direction, exponent: float, noise: float, seeds: int, word: str) -> None:
    """Kendall's tau across seeds supports a direction, contradicts it, or leaves it open."""
    claim = Monotone(method="M", metric="sup_error", along="num_params_primary", direction=direction)
    verdict = check(claim, trials(exponent, noise=noise, seeds=seeds))
    assert verdict.verdict == word, verdict.reason
    assert -1 <= verdict.estimate <= 1


@pytest.mark.parametrize("each_step", [False, True])
def test_an_error_that_rises_may_be_the_optimisers(each_step: bool) -> None:
    """A best error said to fall that rises is contradicted of trained networks; another metric has no such caveat."""
    table = trials(-1.0, noise=0.02, seeds=3)
    claim = Monotone(
        method="M", metric="sup_error", along="num_params_primary", direction="decreasing", each_step=each_step
    )
    verdict = check(claim, table)
    assert verdict.verdict == "contradicted"
    assert "upper bound on the best one, an optimisation gap of M would look the same" in verdict.reason
    other = replace(claim, metric="spectral_complexity_primary")
    plain = check(other, table.rename(columns={"sup_error": "spectral_complexity_primary"}))
    assert plain.verdict == "contradicted"
    assert "optimisation" not in plain.reason


def test_monotone_on_two_values_is_underpowered() -> None:
    """Two values and three seeds agree by chance once in four: no verdict."""
    claim = Monotone(method="M", metric="sup_error", along="num_params_primary", direction="decreasing")
    verdict = check(claim, trials(1.0, sizes=(4, 64), seeds=3))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.UNDERPOWERED)


def test_an_ordering_of_untaught_networks_is_no_ordering() -> None:
    """Where one method's trials are no better than predicting 0, even a clear order is inconclusive."""
    table = pd.concat([trials(1.0, method="A"), trials(1.0, method="B", scale=3.0)])
    claim = Ordering(metric="sup_error", lower="A", higher="B")
    assert check(claim, table.assign(zero_sup_error=10.0)).verdict == "supported"
    verdict = check(claim, table.assign(zero_sup_error=0.1))
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.UNTAUGHT)
    assert "predicting 0" in verdict.reason


def test_pooled_settings_are_named() -> None:
    """A minimum taken over two activations at one size is said to be so, in the verdict's notes."""
    table = pd.concat([trials(1.0).assign(activation="relu"), trials(1.0, scale=1.1).assign(activation="tanh")])
    assert any("activation (relu, tanh)" in note for note in check(UPPER, table).notes)
    assert not any("activation" in note for note in check(UPPER, trials(1.0).assign(activation="relu")).notes)
