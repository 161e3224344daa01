"""Tests of `judging.limits` and `judging.ceilings`: planted limits, exponents of a width, and bounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.judging.checks import check
from analysis.judging.limits import extrapolate_bias, log_statistic
from analysis.judging.verdicts import Cause
from analysis.theorems import process_limit
from hyperscale.claims import Ceiling, Convergence, WidthExponent

WIDTHS = (16, 32, 64, 128, 256)
LIMIT = Convergence(method="K", metric="kernel", limit=1.0)
BOUND = Ceiling(method="K", metric="kernel", ceiling="bound")
ORDER = WidthExponent(method="K", metric="kernel", exponent=1.0, statistic="median")


def draws(mean, spread=lambda width: width**-0.5, rng: int = 0, widths=WIDTHS, num_draws: int = 200) -> pd.DataFrame:
    """Return one trial per width and seed with normal draws: ``[widths * draws]`` rows, widths first."""
    generator = np.random.default_rng(rng)
    width = np.repeat(np.array(widths, dtype=np.float64), num_draws)
    values = mean(width) + spread(width) * generator.normal(size=len(width))
    seeds = np.tile(np.arange(num_draws), len(widths))
    return pd.DataFrame({"method": "K", "status": "finished", "seed": seeds, "width": width, "kernel": values})


def powers(exponent: float, spread: float = 0.3, rng: int = 0, widths=WIDTHS, num_draws: int = 60) -> pd.DataFrame:
    """Return log-normal draws of random sign about ``width^-exponent``."""
    table = draws(lambda w: 0 * w, lambda w: 0 * w + spread, rng, widths, num_draws)
    signs = np.random.default_rng((rng, 1)).choice([-1.0, 1.0], len(table))
    return table.assign(kernel=signs * table["width"] ** -float(exponent) * np.exp(table["kernel"]))


@pytest.mark.parametrize(
    ("mean", "word"),
    [(lambda w: 1 + 3 / w, "supported"), (lambda w: 1 - 1 / w, "supported"), (lambda w: 1.12 + 3 / w, "contradicted")],
)
def test_convergence_to_a_planted_limit(mean, word: str) -> None:
    """The right limit is supported; one that is off by 12 per cent, as without a factor in a recursion, is not."""
    table = draws(mean)
    verdict = check(LIMIT, table)
    assert verdict.verdict == word, verdict.reason
    assert verdict.predicted == 0.0
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1]
    assert verdict.estimate == pytest.approx(0.12 if word == "contradicted" else 0.0, abs=0.03)
    in_column = replace(LIMIT, limit="closed_form")
    assert check(in_column, table.assign(closed_form=1.0)) == replace(
        verdict,
        claim=in_column.title,
    )


@pytest.mark.parametrize(
    ("table", "cause", "words"),
    [
        (draws(lambda w: 1 + 3 / w, lambda w: 0 * w + 2, num_draws=10), Cause.UNDERPOWERED, "Monte Carlo error"),
        (draws(lambda w: 1 + 3 / w, widths=(16, 64, 256)), Cause.UNDERPOWERED, "3 values of width"),
        (draws(lambda w: 1 + 3 / w, widths=(16, 18, 20, 24)), Cause.UNDERPOWERED, "octaves"),
        (draws(lambda w: 1 + 3 / w, num_draws=3), Cause.UNDERPOWERED, "3 draws at width = 16"),
        (draws(lambda w: 1 + np.sin(w), lambda w: 0 * w + 0.1), Cause.NOT_IDENTIFIED, "do not approach any value"),
        (draws(lambda w: w * np.nan), Cause.UNDERPOWERED, "no finished trial"),
    ],
    ids=["noise", "widths", "octaves", "draws", "no law", "missing values"],
)
def test_convergence_without_enough_to_go_by(table: pd.DataFrame, cause: Cause, words: str) -> None:
    """Noise, few widths, octaves or draws, and widths before the asymptotic range are inconclusive."""
    verdict = check(LIMIT, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", cause), verdict.reason
    assert words in verdict.reason


def test_a_correction_of_higher_order_does_not_contradict() -> None:
    """The right limit reached as 1/w^2, or as 1/w + 1/w^2, is never contradicted where 1/w is claimed."""
    for mean in (lambda w: 1 + 30 / w**2, lambda w: 1 + 2 / w + 40 / w**2, lambda w: 1 - 4 / w + 60 / w**2):
        words = Counter(check(LIMIT, draws(mean, rng=r)).verdict for r in range(10))
        assert words["contradicted"] <= 2
    bent = check(LIMIT, draws(lambda w: 1 + 2 / w + 100 / w**2, lambda w: 0.1 + 0 * w))
    assert bent.verdict == "supported", bent.reason
    assert any("second order" in note for note in bent.notes)


def generated_outputs(width: int, num_draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return ``[num_draws]`` products h(u) h(u') of two-layer ReLU networks whose weights have correlation 0.8.

    z and z' are at an angle of 0.7 and of length sqrt(2), so that Sigma^0 is cos 0.7 off the diagonal; NTK
    parameterisation, as in the infinite-width paper's section 2.
    """
    inputs = np.sqrt(2) * np.array([[1.0, 0.0], [np.cos(0.7), np.sin(0.7)]])
    mix = np.linalg.cholesky([[1, 0.8], [0.8, 1]])
    first = np.einsum("uk,dkwi->duwi", mix, generator.normal(size=(num_draws, 2, width, 2)))
    hidden = np.sqrt(2) * np.maximum(np.einsum("duwi,ui->duw", first, inputs) / np.sqrt(2), 0)
    second = np.einsum("uk,dkw->duw", mix, generator.normal(size=(num_draws, 2, width)))
    outputs = (second * hidden).sum(axis=2) / np.sqrt(width)
    return outputs[:, 0] * outputs[:, 1]


def test_the_nngp_kernel_of_generated_networks() -> None:
    """Thm. 2 on real draws: the output covariance tends to Lambda^2 = S Sigma^1 and not to Sigma^1."""
    generator = np.random.default_rng(0)
    widths = (8, 16, 32, 64)
    values = [generated_outputs(w, 24000, generator).reshape(40, -1).mean(axis=1) for w in widths]
    index = pd.MultiIndex.from_product([widths, range(40)], names=["width", "seed"]).to_frame(index=False)
    table = index.assign(method="K", status="finished", output_covariance=np.concatenate(values))
    c = 0.8 * np.cos(0.7)
    hidden = (c * (np.pi - np.arccos(c)) + np.sqrt(1 - c**2)) / np.pi
    right = check(process_limit(limit=0.8 * hidden, method="K"), table)
    assert right.verdict == "supported", right.reason
    wrong = check(process_limit(limit=hidden, method="K"), table)
    assert wrong.verdict == "contradicted", wrong.reason


def test_a_large_bias_at_the_largest_width_is_said() -> None:
    """A bias that decays to the limit but is still a tenth of it at the largest width decides nothing yet."""
    verdict = check(LIMIT, draws(lambda w: 1 + 30 / w, lambda w: 0.05 + 0 * w))
    assert verdict.verdict == "inconclusive"
    assert "add larger widths" in verdict.reason
    assert "exponent of 0.9" in verdict.notes[1] or "exponent of 1.0" in verdict.notes[1]


def test_false_words_on_limits_are_rare() -> None:
    """A right limit is contradicted, and one at the margin supported, in at most 5 % (Monte Carlo)."""
    right = Counter(check(LIMIT, draws(lambda w: 1 + 3 / w, rng=r, num_draws=20)).verdict for r in range(40))
    edge = Counter(check(LIMIT, draws(lambda w: 1.0 / 0.95 + 3 / w, rng=r, num_draws=20)).verdict for r in range(40))
    assert right["contradicted"] <= stats.binom.ppf(0.999, 40, 0.05)
    assert edge["supported"] <= stats.binom.ppf(0.999, 40, 0.05)


def test_the_extrapolation_covers() -> None:
    """The interval of the offset covers 0 in 95 % of 500 draws, within three binomial errors, ten a width."""
    generator, widths = np.random.default_rng(1), np.array(WIDTHS, dtype=np.float64)
    covered, decays = 0, 0
    for _ in range(500):
        biases = [3 / w + w**-0.5 * generator.normal(size=10) for w in widths]
        measured = extrapolate_bias(widths, biases, 1.0)
        low, high = measured.offset.interval()
        covered += low <= 0 <= high
        decays += measured.decay[0] <= 1.0 <= measured.decay[1]
    error = 3 * np.sqrt(0.95 * 0.05 / 500)
    assert abs(covered / 500 - 0.95) <= error
    assert decays / 500 >= 0.95 - error


@pytest.mark.parametrize(
    ("claim", "exponent", "word"),
    [
        (ORDER, 1.0, "supported"),
        (ORDER, 0.0, "contradicted"),
        (ORDER, 2.0, "contradicted"),
        (replace(ORDER, sense="at least"), 2.0, "supported"),
        (replace(ORDER, sense="at least"), 0.2, "contradicted"),
        (replace(ORDER, exponent=0.0, sense="vanishing"), 0.5, "supported"),
        (replace(ORDER, exponent=0.0, sense="vanishing"), 0.0, "inconclusive"),
        (replace(ORDER, exponent=0.0, sense="vanishing"), -0.5, "contradicted"),
        (replace(ORDER, exponent=-1.0), -1.0, "supported"),
        (replace(ORDER, statistic="geometric mean"), 1.0, "supported"),
        (replace(ORDER, statistic="root mean square"), 1.0, "supported"),
        (replace(ORDER, statistic="variance", exponent=2.0, tolerance=0.5), 1.0, "supported"),
        (replace(ORDER, statistic="variance", exponent=2.0, tolerance=0.5), 0.0, "contradicted"),
    ],
)
def test_exponents_of_a_width(claim: WidthExponent, exponent: float, word: str) -> None:
    """A planted exponent against a claimed one, in every sense and statistic, gives the stated word."""
    verdict = check(claim, powers(exponent))
    factor = 2 if claim.statistic == "variance" else 1
    assert verdict.verdict == word, verdict.reason
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1]
    assert verdict.estimate == pytest.approx(factor * exponent, abs=0.2)
    assert verdict.predicted == claim.exponent


def test_the_difference_of_two_slopes() -> None:
    """With ``relative_to`` the exponent is that of the ratio, and what both metrics share cancels in the draws."""
    table = powers(1.6, spread=0.1)
    common = np.exp(np.random.default_rng(2).normal(0, 1, len(table)))
    table = table.assign(kernel=table["kernel"] * common, lower=table["width"] ** -0.7 * common)
    claim = WidthExponent(method="K", metric="kernel", relative_to="lower", exponent=1.0)
    verdict = check(claim, table)
    assert verdict.verdict == "supported", verdict.reason
    assert verdict.estimate == pytest.approx(0.9, abs=0.05)
    assert verdict.interval[1] - verdict.interval[0] < 0.2


def test_a_selection_keeps_the_settings_that_the_claim_speaks_of() -> None:
    """Trials of another depth are kept out by ``where``; pooled without it, that is said; so are missing numbers."""
    both = pd.concat([powers(1.0).assign(primary_depth=1), powers(0.0, rng=1).assign(primary_depth=2)])
    chosen = check(replace(ORDER, where={"primary_depth": 1}), both)
    assert chosen.verdict == "supported", chosen.reason
    assert chosen.claim.endswith("width^-1, primary_depth = 1")
    assert check(ORDER, both).notes[-1].startswith("Up to 2 trials of one seed at one width are averaged")
    assert check(replace(ORDER, where={"primary_depth": 3}), both).verdict == "inconclusive"
    holes = powers(1.0)
    holes.loc[[3, 70], "kernel"] = [np.nan, np.inf]
    assert check(ORDER, holes).notes[-1] == "2 finished trials without a finite value left out."
    kept = check(replace(BOUND, where=(("primary_depth", 1),)), both.assign(kernel=1.0, bound=1e9))
    assert "none of 300 trials" in kept.reason


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (powers(1.25, spread=2.0), Cause.UNDERPOWERED),
        (powers(1.0, num_draws=10), Cause.UNDERPOWERED),
        (powers(1.0, widths=(16, 64, 256)), Cause.UNDERPOWERED),
        (powers(1.0).assign(kernel=0.0), Cause.NOT_IDENTIFIED),
    ],
    ids=["noise", "draws", "widths", "zeros"],
)
def test_exponents_without_enough_to_go_by(table: pd.DataFrame, cause: Cause) -> None:
    """Noise, few draws, few widths and zeros are inconclusive, each with its cause."""
    verdict = check(ORDER, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", cause), verdict.reason


def test_an_exponent_at_the_margin_is_seldom_called() -> None:
    """With the truth at the edge of the tolerance either decisive word comes in at most 5 % (Monte Carlo)."""
    claim = replace(ORDER, statistic="geometric mean", tolerance=0.25)
    words = Counter(check(claim, powers(1.25, rng=r, spread=0.5, num_draws=20)).verdict for r in range(60))
    assert words["supported"] <= stats.binom.ppf(0.999, 60, 0.05)
    assert words["contradicted"] <= stats.binom.ppf(0.999, 60, 0.05)


def test_the_error_of_a_log_median() -> None:
    """The bootstrap's error of a log median is that of theory, 1 / (2 f sqrt n) with f the density of the log."""
    values = np.exp(np.random.default_rng(0).normal(0, 1, (4000, 1)))
    found = log_statistic(values, "median", np.random.default_rng(1))
    assert found.value == pytest.approx(0, abs=0.06)
    assert found.standard_error == pytest.approx(np.sqrt(np.pi / 2 / 4000), rel=0.15)


CLOSER = replace(BOUND, always=False)


@pytest.mark.parametrize(
    ("claim", "scale", "num_seeds", "word"),
    [
        (BOUND, 2.0, 8, "not contradicted"),
        (BOUND, 0.9, 8, "contradicted"),
        (BOUND, 2.0, 3, "inconclusive"),
        (CLOSER, 2.0, 8, "supported"),
        (CLOSER, 0.5, 8, "contradicted"),
        (CLOSER, 1.0, 8, "inconclusive"),
        (CLOSER, 2.0, 1, "inconclusive"),
        (replace(BOUND, ceiling=2.0), 1.0, 8, "not contradicted"),
        (replace(BOUND, ceiling=0.5), 1.0, 8, "contradicted"),
    ],
)
def test_ceilings(claim: Ceiling, scale: float, num_seeds: int, word: str) -> None:
    """A bound is kept in every trial or on average, is exceeded, or has too few trials to say."""
    noise = np.exp(np.random.default_rng(4).normal(0, 0.1, num_seeds))
    table = pd.DataFrame({"method": "K", "status": "finished", "seed": range(num_seeds), "kernel": noise})
    verdict = check(claim, table.assign(bound=scale))
    assert verdict.verdict == word, verdict.reason
    assert verdict.estimate is not None
    assert verdict.predicted == 1.0


def test_one_trial_above_its_bound_is_enough_and_rounding_is_not() -> None:
    """One quotient above the bound contradicts it with the seed named; equality up to rounding does not."""
    table = pd.DataFrame({"method": "K", "status": "finished", "seed": range(20), "kernel": 1.0, "bound": 1.0})
    kept = check(BOUND, table.assign(kernel=1 + 1e-9))
    assert kept.verdict == "not contradicted"
    assert "at most 0.14" in kept.reason
    table.loc[13, "kernel"] = 1.5
    verdict = check(BOUND, table)
    assert verdict.verdict == "contradicted"
    assert "1 of 20 trials" in verdict.reason
    assert "seed 13" in verdict.reason
    for wrong in (table.assign(bound=-1.0), table.assign(bound=0.0)):
        assert check(BOUND, wrong).cause is Cause.NOT_IDENTIFIED
    assert check(CLOSER, table.assign(kernel=0.0)).cause is Cause.NOT_IDENTIFIED


def test_equal_metrics_are_seldom_ordered() -> None:
    """Two metrics with the same mean log are ordered in at most 5 % of 60 draws (Monte Carlo), either way together."""
    generator, called = np.random.default_rng(9), 0
    for _ in range(60):
        values = np.exp(generator.normal(0, 0.3, (6, 2)))
        table = pd.DataFrame({"method": "K", "status": "finished", "seed": range(6), "kernel": values[:, 0]})
        called += check(CLOSER, table.assign(bound=values[:, 1])).verdict != "inconclusive"
    assert called <= stats.binom.ppf(0.999, 60, 0.05)
