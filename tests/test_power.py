"""Power before a study runs: closed forms, known answers, the package's own verdicts, and the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.exponents.envelope import build_envelope
from analysis.exponents.rates import gather_rates
from analysis.judging.checks import check
from analysis.power.designs import Design, budget_note
from analysis.power.noise import DEFAULT_LACK_OF_FIT, Noise, measure_noise
from analysis.power.power_figures import plot_power
from analysis.power.questions import MonotoneQuestion, OrderingQuestion, RateQuestion
from analysis.power.replicates import Chance, Draws, exponent_intervals, kendall_taus, simulated_logs
from analysis.power.rivals import Rival
from analysis.power.study_power import TARGET, cheapest_changes, octaves_needed
from hyperscale.claims import Calibration, Monotone, Ordering, ScalingRate
from hyperscale.errors import AnalysisError
from tests.bench.power import ENTRIES, Entry

ERRORS = 3.0
UPPER = ScalingRate(method="A", bound="upper", exponent=1.0, metric="error", size="n")
LOWER = ScalingRate(method="A", bound="lower", exponent=1.0, metric="error", size="n", hard_family=True)
MATCH = replace(
    UPPER,
    bound="match",
    hard_family=True,
    calibration=Calibration(where={"target": "Square"}, infimum_constant=1.0, infimum_exponent=2.0),
)


@pytest.fixture(scope="module")
def draws() -> Draws:
    """Return the random numbers that most tests share."""
    return Draws(4000, seed=1)


def rate_question(claim: ScalingRate, design: Design, noise: Noise, draws: Draws, rival: float) -> RateQuestion:
    """Return a question about a rate with a rival of no source."""
    return RateQuestion(
        claim=claim, design=design, noise=noise, draws=draws, rival=Rival(exponent=rival, source="a rival")
    )


def assert_binomial(chance: Chance, expected: float) -> None:
    """Assert that a simulated chance is within three binomial errors of the exact one."""
    spread = math.sqrt(expected * (1 - expected) / chance.num_replicates)
    assert chance.decisive == pytest.approx(expected, abs=ERRORS * spread + 1e-4)


# --- against closed forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octaves", [3, 5, 8])
@pytest.mark.parametrize("claim", [UPPER, LOWER])
def test_power_of_the_slope_test_is_noncentral_t(claim: ScalingRate, octaves: int, draws: Draws) -> None:
    """With normal scatter alone, the chance under the claim is that of a noncentral t exceeding its critical value."""
    design, scatter = Design.spaced(octaves, 2, 3), 0.15
    logs = np.log(design.sizes)
    spread, free = float(((logs - logs.mean()) ** 2).sum()), len(logs) - 2
    critical = stats.t.ppf(0.975, free)
    question = rate_question(claim, design, Noise(excess=0, lack_of_fit=scatter), draws, 0.8)
    holds, fails = question.chances(0, 3)
    distance = 0.1 * math.sqrt(spread) / scatter
    assert_binomial(holds, float(stats.nct.sf(critical, free, distance)))
    assert holds.wrong == pytest.approx(float(stats.nct.cdf(-critical, free, distance)), abs=0.01)
    limit = 0.9 if claim.bound == "upper" else 1.1
    # The rival, 0.8, is on the failing side of an O-claim's limit only; beyond an Omega-claim's it never shows.
    away = (limit - 0.8) * math.sqrt(spread) / scatter
    expected = stats.nct.sf(critical, free, away if claim.bound == "upper" else -away)
    assert_binomial(fails, float(expected))


@pytest.mark.parametrize("num_seeds", [3, 6])
def test_power_of_an_ordering_is_noncentral_t(num_seeds: int, draws: Draws) -> None:
    """Without lack of fit the seeds' mean log ratios are normal, so the chance is a t-test's over the seeds."""
    design = Design.spaced(4, 1, num_seeds)
    claim = Ordering(metric="error", lower="A", higher="B", at_each="num_params")
    question = OrderingQuestion(
        claim=claim, lower=design, higher=design, noise=Noise(excess=0.2, lack_of_fit=0), draws=draws, ratio=0.85
    )
    spread = 0.2 * math.sqrt(2 / 5)
    distance = -math.log(0.85) * math.sqrt(num_seeds) / spread
    critical = stats.t.ppf(0.975, num_seeds - 1)
    assert_binomial(question.chances(0, num_seeds)[0], float(stats.nct.sf(critical, num_seeds - 1, distance)))


def test_the_minimum_over_seeds_scatters_as_an_exponential_of_the_kth_part() -> None:
    """The standard error of the slope is sqrt((excess / k)^2 + lack of fit^2) over the spread of the log sizes."""
    design, noise = Design.spaced(6, 2, 4), Noise(excess=0.4, lack_of_fit=0.05)
    estimates = exponent_intervals(design, noise, Draws(20_000, seed=2), estimator="minimum").slope
    spread = float(((np.log(design.sizes) - np.log(design.sizes).mean()) ** 2).sum())
    assert estimates.std() == pytest.approx(math.sqrt((0.1**2 + 0.05**2) / spread), rel=0.02)


def test_kendalls_tau_is_that_of_scipy() -> None:
    """All taus at once equal SciPy's one by one."""
    values = np.random.default_rng(3).standard_normal((20, 7))
    expected = [stats.kendalltau(np.arange(7), row).statistic for row in values]
    np.testing.assert_allclose(kendall_taus(values), expected, atol=1e-12)


# --- against known answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.dims} {e.question}")
def test_the_known_table_of_octaves(entry: Entry, draws: Draws) -> None:
    """Every entry is found, or missed by one octave where the power there is within three errors of 90 %."""
    found = entry.simulate(draws, "minimum")
    assert abs(found - entry.known) <= 1
    if found != entry.known:
        power, standard_error = entry.power(min(found, entry.known), draws)
        assert power == pytest.approx(TARGET, abs=ERRORS * standard_error)


def test_the_verdicts_interval_needs_no_fewer_octaves_than_the_minima(draws: Draws) -> None:
    """Taking the seeds' excess off costs scatter: the edge line never needs fewer octaves here."""
    needed = {
        estimator: octaves_needed(1 / 3, num_seeds=5, draws=draws, estimator=estimator)
        for estimator in ("minimum", "edge")
    }
    assert needed["minimum"] is not None
    assert needed["edge"] is not None
    assert needed["edge"] >= needed["minimum"]


# --- against the package's own verdicts ----------------------------------------------------------------------------


def trial_table(design: Design, logs: np.ndarray, exponent: float, target: str = "own") -> pd.DataFrame:
    """Return the trials of one simulated study, ``logs`` ``[sizes, seeds]`` about a power law."""
    rows = [
        {
            "method": "A", "target": target, "status": "finished", "seed": seed, "digest": f"{index}-{seed}", "n": size,
            "error": math.exp(logs[index, seed]) * size**-exponent,
        }
        for index, size in enumerate(design.sizes)
        for seed in range(design.num_seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("claim", "exponent", "words"),
    [
        (UPPER, 1.0, ("attained", "not attained")),
        (UPPER, 0.7, ("not attained", "attained")),
        (LOWER, 1.0, ("not contradicted", "contradicted")),
        (LOWER, 1.4, ("contradicted", "not contradicted")),
        (MATCH, 0.6, ("not attained", "supported")),
    ],
)
def test_simulated_verdicts_are_those_of_check(claim: ScalingRate, exponent: float, words: tuple[str, str]) -> None:
    """Study by study, the tables of the same random numbers get the verdicts that the chances count."""
    draws, design, noise = Draws(12, seed=4), Design.spaced(5, 1, 5), Noise(excess=0.25, lack_of_fit=0.05)
    logs, gaps = (simulated_logs(design, noise, draws, part=part)[:, :, 0] for part in (0, 1))
    found = []
    for own, gap in zip(logs, gaps, strict=True):
        table = trial_table(design, own, exponent)
        if claim.calibration is not None:
            table = pd.concat([table, trial_table(design, gap, 2.0, "Square")], ignore_index=True)
        found.append(check(claim, table).verdict)
    question = rate_question(claim, design, noise, draws, exponent if exponent != 1 else 0.5)
    chance = question.chances(0, 5)[0 if exponent == 1 else 1]
    assert found.count(words[0]) == round(12 * chance.decisive)
    assert found.count(words[1]) == round(12 * chance.wrong)
    assert 0 < found.count(words[0]) < 12 or exponent != 1


def test_estimators_rarely_disagree_under_this_noise() -> None:
    """What the simulated verdicts leave out, the agreement of three estimators, forbids at most 3 % of verdicts."""
    design = Design.spaced(5, 1, 4)
    found = gather_rates(np.log(design.sizes), simulated_logs(design, Noise(), Draws(400, seed=8)))
    assert found.disagree.mean() <= 0.03


@pytest.mark.parametrize(("octaves", "per_octave"), [(2, 3), (3, 1)])
def test_too_few_sizes_or_octaves_never_decide(octaves: int, per_octave: int, draws: Draws) -> None:
    """Below 3 octaves no noise-free law decides; at 3 octaves with 4 sizes it does, as in `check`."""
    design = Design.spaced(octaves, per_octave, 3)
    question = rate_question(UPPER, design, Noise(excess=0, lack_of_fit=1e-6), draws, 0.5)
    assert [chance.decisive for chance in question.chances(0, 3)] == [float(octaves == 3)] * 2


# --- monotone, reproducible ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [UPPER, LOWER])
def test_power_rises_with_octaves_and_with_seeds(claim: ScalingRate, draws: Draws) -> None:
    """On the same random numbers more octaves or more seeds never lose more than two standard errors."""
    question = rate_question(claim, Design.spaced(4, 1, 3), Noise(), draws, 0.5 if claim.bound == "upper" else 1.6)
    along = [[question.chances(octaves, 3) for octaves in range(6)], [question.chances(0, k) for k in (2, 4, 8, 16)]]
    for line in along:
        for truth in (0, 1):
            values = np.array([chances[truth].decisive for chances in line])
            assert (np.diff(values) > -0.01).all()
        assert line[-1][0].decisive > line[0][0].decisive + 0.2


def test_lack_of_fit_limits_what_seeds_can_do(draws: Draws) -> None:
    """No number of seeds helps where sizes scatter by themselves: only octaves are proposed."""
    noisy = Noise(excess=0.05, lack_of_fit=0.2)
    changes = cheapest_changes(rate_question(UPPER, Design.spaced(5, 1, 3), noisy, draws, 0.5))
    assert changes
    assert all(change.octaves > 0 for change in changes)


# --- the cheapest change -------------------------------------------------------------------------------------------


def test_changes_reach_the_target_and_smaller_ones_do_not(draws: Draws) -> None:
    """Each proposal reaches 90 % (other random numbers, three errors); an octave or a rung of seeds less does not."""
    design = Design.spaced(5, 1, 4)
    question = rate_question(UPPER, design, Noise(excess=0.3, lack_of_fit=0.03), draws, 0.5)
    changes = cheapest_changes(question)
    assert {change.octaves > 0 for change in changes} == {True, False}
    assert [change.price for change in changes] == sorted(change.price for change in changes)
    again = replace(question, draws=Draws(4000, seed=99))
    for change in changes:
        worst = min(again.chances(change.octaves, change.num_seeds), key=lambda chance: chance.decisive)
        assert worst.decisive > TARGET - ERRORS * worst.standard_error
        less = (change.octaves - 1, change.num_seeds) if change.octaves else (0, change.num_seeds - 1)
        assert min(chance.decisive for chance in question.chances(*less)) < TARGET
        larger = design.extended(change.octaves, change.num_seeds)
        assert change.added_trials == larger.num_trials - design.num_trials
        assert change.largest_size == larger.sizes[-1]
    assert "more octave" in next(change.words for change in changes if change.octaves)
    assert "seeds instead of 4" in next(change.words for change in changes if not change.octaves)


def test_time_decides_what_is_cheapest(draws: Draws) -> None:
    """Where time grows with N, octaves that cost few trials come after seeds that cost many."""
    design = Design.spaced(5, 1, 4)
    by_trials = cheapest_changes(rate_question(UPPER, design, Noise(), draws, 0.5))
    timed = replace(design, trial_seconds=tuple(0.1 * size for size in design.sizes))
    by_time = cheapest_changes(rate_question(UPPER, timed, Noise(), draws, 0.5))
    assert by_trials[0].octaves > 0
    assert by_time[0].octaves == 0
    seeds = by_time[0].num_seeds
    assert by_time[0].added_seconds == pytest.approx((seeds - 4) * 0.1 * sum(design.sizes))


def test_a_design_grows_as_dense_as_it_is() -> None:
    """Two sizes in each octave stay two; trials go on as at the largest size, time linearly in N."""
    design = Design(sizes=(10, 14.1421356, 20), num_seeds=2, trials_per_seed=(3, 3, 3), trial_seconds=(2.0, 2.4, 3.0))
    larger = design.extended(1, 5)
    assert larger.sizes == pytest.approx((10, 14.1421356, 20, 28.2842712, 40))
    assert larger.num_trials == 75
    assert larger.trial_seconds[-1] == pytest.approx(3 + 20 * 0.6 / 5.8578644)
    assert larger.octaves == pytest.approx(2)
    assert larger.shortened(1.0).sizes == pytest.approx(design.sizes)


# --- other claims ----------------------------------------------------------------------------------------------------


def test_an_easy_target_cannot_contradict_a_lower_bound(draws: Draws) -> None:
    """Without a hard family only the bound's holding can be decided, as `check` has it."""
    question = rate_question(replace(LOWER, hard_family=False), Design.spaced(6, 2, 5), Noise(), draws, 2.0)
    assert [chance.exponent for chance in question.chances(0, 5)] == [1.0]


def test_an_equivalence_is_harder_than_a_bound(draws: Draws) -> None:
    """Being within 10 % on both sides is decided less often than being above 0.9 s."""
    question = rate_question(UPPER, Design.spaced(6, 1, 4), Noise(), draws, 0.5)
    assert question.equivalence().decisive < question.chances(0, 4)[0].decisive


def test_a_direction_is_decided_by_seeds(draws: Draws) -> None:
    """A trend of three deviations over five values: one seed cannot decide, eight nearly always do."""
    claim = Monotone(method="A", metric="entropy", along="λ", direction="decreasing")
    question = MonotoneQuestion(claim=claim, design=Design.spaced(4, 1, 2), draws=draws)
    chances = [question.chances(0, count)[0] for count in (1, 3, 8)]
    assert chances[0].decisive == 0
    assert chances[0].decisive < chances[1].decisive < chances[2].decisive
    assert chances[2].decisive > 0.95
    assert chances[2].wrong < 0.01


def test_unequal_budgets_are_found_before_the_run() -> None:
    """A size with fewer trials than the others blocks every verdict, and the note names both."""
    full, short = Design(sizes=(1, 2), num_seeds=1, trials_per_seed=(3, 3)), (3, 2)
    assert budget_note([full], ["A"]) == ""
    note = budget_note([full, replace(full, trials_per_seed=short)], ["A", "B"])
    assert note == "unequal numbers of trials for each seed: 2 of B at 2, but 3 of A at 2"


# --- noise ---------------------------------------------------------------------------------------------------------


def simulated_envelope(noise: Noise, *, sizes: int, seeds: int, seed: int) -> pd.DataFrame:
    """Return the trials of one study drawn from ``noise``."""
    draws = Draws(1, seed)
    logs = noise.log_values(draws.exponentials(sizes, 1, seeds), draws.normals(0, sizes))[0, :, 0]
    return trial_table(Design.spaced(sizes - 1, 1, seeds), logs, 0.7)


def test_noise_is_measured_from_trials() -> None:
    """Planted levels come back within 10 % from enough trials; the source says that they were measured."""
    table = simulated_envelope(Noise(excess=0.25, lack_of_fit=0.3), sizes=60, seeds=20, seed=5)
    found = measure_noise([build_envelope(table, method="A", metric="error", size="n")])
    assert found.excess == pytest.approx(0.25, rel=0.1)
    assert found.lack_of_fit == pytest.approx(0.3, rel=0.25)
    assert found.measured
    assert "measured from 1200 seeds' best trials" in found.source


def test_few_trials_measure_no_noise() -> None:
    """One seed says nothing of the excess; a lucky fit does not lower the lack of fit below the default."""
    alone = simulated_envelope(Noise(), sizes=5, seeds=1, seed=6)
    assert measure_noise([build_envelope(alone, method="A", metric="error", size="n")]) == Noise()
    exact = simulated_envelope(Noise(excess=0.1, lack_of_fit=0), sizes=6, seeds=4, seed=6)
    found = measure_noise([build_envelope(exact, method="A", metric="error", size="n")])
    assert found.lack_of_fit >= DEFAULT_LACK_OF_FIT


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(excess=-0.1), "Noise.excess is -0.1; allowed: a finite number of at least 0"),
        (lambda: Noise(lack_of_fit=math.nan), "Noise.lack_of_fit is nan"),
        (lambda: Draws(0), "0 replicates were asked for"),
        (lambda: Design(sizes=(), num_seeds=1, trials_per_seed=()), "in rising order"),
        (lambda: Design(sizes=(2, 1), num_seeds=1, trials_per_seed=(1, 1)), "in rising order"),
        (lambda: Design(sizes=(1, 2), num_seeds=0, trials_per_seed=(1, 1)), "Design.num_seeds is 0"),
        (lambda: Design.spaced(0, 2, 1), "allowed: more than 0 octaves"),
        (lambda: Design.spaced(2, 0, 1), "at least 1 size in each"),
        (lambda: plot_power([]), "no claim about a rate"),
    ],
)
def test_bad_input_is_one_clear_error(make: Callable[[], object], message: str) -> None:
    """The error repeats what was given and says what is allowed."""
    with pytest.raises(AnalysisError, match=message):
        make()
