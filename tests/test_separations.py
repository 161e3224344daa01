"""Tests of `judging.separations` and `judging.slopes`: planted rates and factors, and how often noise decides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.judging.checks import check
from analysis.judging.separations import compare_slopes
from analysis.judging.slopes import Estimate, difference_of, mean_of, row_slopes, slope_of_line
from analysis.judging.verdicts import Cause
from hyperscale.claims import Factor, Ordering, Separation

SIZES = (4, 8, 16, 32, 64, 128)
SEPARATION = Separation(faster="A", slower="B", faster_exponent=1.0, slower_exponent=0.5, hard_family=True)
FACTOR = Factor(method="A", reference="B", factor=3.0)


def curve(method: str, exponent: float, **given) -> pd.DataFrame:
    """Return trials of ``scale * N^-exponent`` with log-normal noise: ``[sizes * seeds]`` rows, sizes first."""
    wanted = {"sizes": SIZES, "seeds": range(4), "noise": 0.05, "scale": 1.0, "rng": 0, **given}
    generator = np.random.default_rng(wanted["rng"])
    n, seed = (grid.ravel() for grid in np.meshgrid(wanted["sizes"], list(wanted["seeds"]), indexing="ij"))
    noise = np.exp(generator.normal(0, wanted["noise"], len(n)))
    errors = wanted["scale"] * n ** -float(exponent) * noise
    return pd.DataFrame(
        {"method": method, "status": "finished", "seed": seed, "num_params_primary": n, "sup_error": errors}
    )


def pair(first: float, second: float, rng: int = 0, other: dict | None = None, **given) -> pd.DataFrame:
    """Return trials of methods A and B with the two exponents; ``other`` replaces settings of B."""
    low = curve("A", first, rng=(1, rng), **given)
    return pd.concat([low, curve("B", second, rng=(2, rng), **{**given, **(other or {})})], ignore_index=True)


OTHER_SEEDS = {"seeds": range(10, 14)}
OTHER_SIZES = {"sizes": (5, 10, 20, 40, 80, 160)}


@pytest.mark.parametrize(
    ("exponents", "other", "word", "cause"),
    [
        ((1.0, 0.5), {}, "supported", Cause.NONE),
        ((1.0, 0.5), OTHER_SEEDS, "supported", Cause.NONE),
        ((1.0, 0.5), OTHER_SIZES, "supported", Cause.NONE),
        ((0.5, 1.0), {}, "contradicted", Cause.NONE),
        ((0.5, 1.0), OTHER_SEEDS | OTHER_SIZES, "contradicted", Cause.NONE),
        ((0.7, 0.7), {}, "not attained", Cause.GAP),
    ],
)
def test_separation_of_planted_rates(exponents, other: dict, word: str, cause: Cause) -> None:
    """Two planted exponents give the verdict on their difference, paired or not."""
    verdict = check(SEPARATION, pair(*exponents, other=other))
    assert (verdict.verdict, verdict.cause) == (word, cause), verdict.reason
    assert verdict.interval[0] < exponents[0] - exponents[1] < verdict.interval[1]
    assert verdict.estimate == pytest.approx(exponents[0] - exponents[1], abs=0.1)
    assert (verdict.predicted, verdict.quantity) == (0.5, "difference of exponents")
    note = verdict.notes[0]
    assert ("paired by seed" in note) is (other in ({}, OTHER_SIZES))
    assert ("paired by size" in note) is ("sizes" not in other)


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (pair(1.0, 0.5, sizes=(4, 8, 16)), Cause.UNDERPOWERED),
        (pair(1.0, 0.5, sizes=(4, 5, 6, 8, 10)), Cause.UNDERPOWERED),
        (pair(1.0, 0.5, seeds=range(1)), Cause.UNDERPOWERED),
        (pair(1.0, 0.5, other={"sizes": (500, 1000, 2000, 4000)}), Cause.UNDERPOWERED),
        (pair(0.8, 0.6, noise=1.5, seeds=range(3)), Cause.UNDERPOWERED),
        (pd.concat([pair(1.0, 0.5), curve("A", 1.0, sizes=(4,))], ignore_index=True), Cause.BUDGET),
        (pair(1.0, 0.5, scale=0.0), Cause.NOT_IDENTIFIED),
        (pair(1.0, 0.5).assign(zero_sup_error=0.01), Cause.UNTAUGHT),
    ],
    ids=["sizes", "octaves", "seeds", "no common range", "noise", "budget", "zeros", "untaught"],
)
def test_separation_without_enough_to_go_by(table: pd.DataFrame, cause: Cause) -> None:
    """Few sizes, octaves or seeds, no common range, noise, unequal budgets, zeros: inconclusive, with its cause."""
    verdict = check(SEPARATION, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", cause), verdict.reason
    assert verdict.reason.startswith(f"{cause}: ")


def test_an_easy_or_used_up_target_cannot_contradict_a_separation() -> None:
    """The slower method may be fast on an easy target; below the target's finest structure nothing is said."""
    easy = Separation(faster="A", slower="B", faster_exponent=1.0, slower_exponent=0.5)
    assert check(easy, pair(0.5, 1.0)).cause is Cause.EASY
    assert check(easy, pair(1.0, 0.5)).verdict == "supported"
    fine = Separation(faster="A", slower="B", faster_exponent=1.0, slower_exponent=0.5, resolution=0.02)
    assert check(fine, pair(1.0, 0.5)).cause is Cause.RESOLVED


def test_the_worst_target_counts() -> None:
    """With two targets each seed's value at a size is the larger of the two, as the rates bound the worst one."""
    easy = pair(3.0, 3.0, scale=0.1).assign(target="easy")
    hard = pair(1.0, 0.5).assign(target="hard")
    both = check(SEPARATION, pd.concat([easy, hard], ignore_index=True))
    assert both.estimate == check(SEPARATION, hard).estimate


def test_a_bend_common_to_both_methods_is_no_separation() -> None:
    """Sizes outside the common range are left out, so a bend there does not pass for a difference of methods."""
    sizes = np.array([4, 8, 16, 32, 64, 128, 256, 512])
    bent = pair(0.5, 0.5, sizes=tuple(sizes), noise=0.02)
    steep = bent["num_params_primary"] > 64
    bent.loc[steep, "sup_error"] *= (bent["num_params_primary"] / 64.0)[steep] ** -1.0
    cut = bent[(bent["method"] == "A") | ~steep]
    assert check(SEPARATION, cut).verdict == "not attained"


def test_null_separations_are_seldom_called() -> None:
    """Equal exponents with noise of seeds and of sizes: called a separation either way in at most 5 % (Monte Carlo)."""
    words: Counter[str] = Counter()
    for draw in range(50):
        generator = np.random.default_rng((7, draw))
        table = pair(0.7, 0.7, rng=draw, noise=0.15, seeds=range(3))
        sizes, at = np.unique(table["method"] + table["num_params_primary"].astype(str), return_inverse=True)
        table["sup_error"] *= np.exp(generator.normal(0, 0.1, len(sizes)))[at]
        words[check(SEPARATION, table).verdict] += 1
    assert words["supported"] + words["contradicted"] <= stats.binom.ppf(0.999, 50, 0.05)


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_of_a_difference_covers(paired: bool) -> None:
    """Over 200 draws the hull covers the true difference in at least 95 % less three binomial errors."""
    generator = np.random.default_rng(5)
    x, covered = np.log(SIZES), 0
    for _ in range(200):
        logs = -np.outer([1.0, 0.5], x)[:, None] + generator.normal(0, 0.2, (2, 3, len(x)))
        frames = [
            pd.DataFrame(np.exp(logs[i]), index=[0, 1, 2] if paired or i == 0 else [7, 8, 9], columns=SIZES)
            for i in (0, 1)
        ]
        low, high = compare_slopes(*frames).interval
        covered += low <= 0.5 <= high
    assert covered / 200 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)


@pytest.mark.parametrize(
    ("scale", "word", "cause"),
    [(1.5, "attained", Cause.NONE), (5.0, "not attained", Cause.GAP), (3.0, "inconclusive", Cause.UNDERPOWERED)],
)
def test_factor(scale: float, word: str, cause: Cause) -> None:
    """A planted ratio below, above and at the factor is attained, not attained and left open."""
    table = pair(0.7, 0.7, scale=scale, other={"scale": 1.0})
    verdict = check(FACTOR, table)
    assert (verdict.verdict, verdict.cause) == (word, cause), verdict.reason
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1]
    assert verdict.estimate == pytest.approx(scale, rel=0.1)
    assert verdict.predicted == 3.0
    assert "On average over 6 values the ratio is" in verdict.notes[0]


def test_one_size_is_enough_to_miss_a_factor() -> None:
    """A ratio of 1.5 everywhere but 6 at one size is not within 3 at each size, and the size is named."""
    table = pair(0.7, 0.7, scale=1.5, other={"scale": 1.0})
    table.loc[(table["method"] == "A") & (table["num_params_primary"] == 32), "sup_error"] *= 4
    verdict = check(FACTOR, table)
    assert verdict.verdict == "not attained"
    assert "num_params_primary = 32" in verdict.reason
    assert "theorem is not contradicted" in verdict.reason


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (pair(0.7, 0.7, seeds=range(1)), Cause.UNDERPOWERED),
        (pair(0.7, 0.7, other={"sizes": (500, 1000)}), Cause.UNDERPOWERED),
        (pair(0.7, 0.7, scale=0.0), Cause.NOT_IDENTIFIED),
        (pair(0.7, 0.7).assign(zero_sup_error=0.01), Cause.UNTAUGHT),
        (pd.concat([pair(0.7, 0.7), curve("A", 0.7)], ignore_index=True), Cause.BUDGET),
    ],
)
def test_factor_without_enough_to_go_by(table: pd.DataFrame, cause: Cause) -> None:
    """One seed, no common size, zeros, untaught networks and unequal budgets are inconclusive."""
    verdict = check(FACTOR, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", cause), verdict.reason


def test_a_ratio_at_the_factor_is_seldom_called() -> None:
    """With the ratio at the factor at every size, either decisive word comes in at most 5 % (Monte Carlo)."""
    words: Counter[str] = Counter(
        check(FACTOR, pair(0.7, 0.7, rng=draw, scale=3.0, other={"scale": 1.0})).verdict for draw in range(50)
    )
    assert words["attained"] <= stats.binom.ppf(0.999, 50, 0.05)
    assert words["not attained"] <= stats.binom.ppf(0.999, 50, 0.05)


def test_estimates_agree_with_scipy() -> None:
    """Slopes, their errors and Welch's interval are SciPy's."""
    generator = np.random.default_rng(3)
    x, y = np.arange(7.0), generator.normal(size=7)
    line = stats.linregress(x, y)
    slope = slope_of_line(x, y)
    assert (slope.value, slope.standard_error) == pytest.approx((line.slope, line.stderr))
    a, b = generator.normal(size=5), generator.normal(1, 3, size=9)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert difference_of(mean_of(a), mean_of(b)).interval() == pytest.approx((welch.low, welch.high))
    assert Estimate(value=1.0, variance=0.0, degrees=4).interval() == (1.0, 1.0)


def test_row_slopes_leave_missing_points_out() -> None:
    """Each row's slope is that of its own finite points; a row with one point has none."""
    x = np.array([0.0, 1.0, 2.0, 4.0])
    rows = np.array([[0, 2, 4, 8.0], [1, np.nan, 3, 5.0], [np.nan, 1, np.nan, np.nan]])
    assert row_slopes(x, rows) == pytest.approx(np.array([2.0, 1.0, np.nan]), nan_ok=True)


@pytest.mark.parametrize(
    "claim",
    [SEPARATION, FACTOR, Ordering(metric="sup_error", lower="A", higher="B")],
)
def test_diverged_trials_are_named(claim) -> None:
    """What a comparison leaves out is in its notes: how many diverged trials, of which method, at which sizes."""
    table = pair(1.0, 0.5)
    lost = (table["method"] == "B") & (table["num_params_primary"] == 64) & (table["seed"] < 2)
    table.loc[lost, ["status", "sup_error"]] = ["diverged", np.nan]
    notes = check(claim, table).notes
    assert "2 diverged trials count as spent and left out otherwise: 2 of B at num_params_primary = 64." in notes
    assert not any("diverged" in note for note in check(claim, pair(1.0, 0.5)).notes)
