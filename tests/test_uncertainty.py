"""Tests of `analysis.exponents.uncertainty`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.exponents.curves import fit_power_law
from analysis.exponents.envelope import Envelope, build_envelope
from analysis.exponents.estimators import envelope_series
from analysis.exponents.uncertainty import (
    exponent_interval,
    fit_band,
    hull,
    mean_interval,
    profile_interval,
    regression_interval,
    resample_fits,
    slope_intervals,
    subsample_interval,
)
from hyperscale.errors import AnalysisError

SIZES = np.array([4, 8, 16, 32, 64, 128.0])


def envelope_of(values: np.ndarray) -> Envelope:
    """Return the envelope of values ``[size, seed]``."""
    rows = [
        {
            "digest": f"{i}-{j}",
            "method": "M",
            "num_params_primary": SIZES[i],
            "seed": j,
            "status": "finished",
            "sup_error": value,
        }
        for i, row in enumerate(values)
        for j, value in enumerate(row)
    ]
    return build_envelope(pd.DataFrame(rows), method="M")


@pytest.mark.parametrize("kind", ["half-normal", "two-sided", "growing", "t"])
def test_the_verdicts_interval_covers_nominally(kind: str) -> None:
    """Over 2,000 data sets of 5 noisy seeds the 95 % interval covers the planted exponent in 93 to 97 %."""
    generator = np.random.default_rng(11)
    noise = generator.normal(0, 0.3, (2000, len(SIZES), 1, 5))
    if kind == "t":
        noise = 0.3 * generator.standard_t(3, noise.shape)
    if kind in ("half-normal", "growing"):
        noise = np.abs(noise)
    if kind == "growing":
        noise = noise * 1.15 ** np.arange(len(SIZES))[:, None, None]
    x = np.log(SIZES)
    series = envelope_series(x, noise - 0.5 * x[:, None, None])
    found = slope_intervals(x, series.edge, seed_variance=series.seed_variance)
    covered = np.mean((found.low <= -0.5) & (found.high >= -0.5))
    assert 0.93 < covered < 0.97


def test_one_data_set_and_many_have_the_same_interval() -> None:
    """The record of one envelope is the vectorised core's row for its data."""
    values = SIZES[:, None] ** -1 * np.exp(np.abs(np.random.default_rng(4).normal(0, 0.3, (6, 4))))
    sure, x = exponent_interval(envelope_of(values)), np.log(SIZES)
    many = np.stack([np.log(values)[:, None, :], np.log(values[::-1])[:, None, :]])
    series = envelope_series(x, many)
    found = slope_intervals(x, series.edge, seed_variance=series.seed_variance)
    assert sure.interval == pytest.approx((-found.high[0], -found.low[0]))
    assert sure.estimate == pytest.approx(-found.slope[0])


def test_the_regression_interval_covers_nominally() -> None:
    """With normal scatter about the line the t-interval covers 95 %, within three binomial deviations."""
    generator = np.random.default_rng(12)
    trials, covered = 800, 0
    for _ in range(trials):
        values = SIZES**-0.8 * np.exp(generator.normal(0, 0.2, len(SIZES)))
        low, high = regression_interval(fit_power_law(SIZES, values))
        covered += low <= 0.8 <= high
    assert abs(covered / trials - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)


def test_the_views_of_one_exponent_are_kept_apart() -> None:
    """Bootstrap, subsample, regression, profile and Theil-Sen intervals differ, and all hold a clean exponent."""
    generator = np.random.default_rng(3)
    sure = exponent_interval(envelope_of(SIZES[:, None] ** -1 * np.exp(generator.normal(0, 0.3, (6, 4)))))
    views = [sure.interval, sure.bootstrap, sure.subsample, sure.regression, sure.profile, sure.theil_sen]
    assert len(set(views)) == len(views)
    assert all(low < high for low, high in views)
    assert sure.interval[0] < sure.estimate < sure.interval[1]
    assert hull(*views) == (min(low for low, _ in views), max(high for _, high in views))


def test_resampling_is_seeded_and_redraws_whole_seeds() -> None:
    """The same seed gives the same draws, another differs, and every draw is an envelope of seeds seen."""
    values = np.exp(np.random.default_rng(0).normal(0, 0.5, (6, 3)))
    envelope = envelope_of(values)
    draws = resample_fits(envelope, num_resamples=50, seed=7)
    assert draws.shape == (50, 2)
    assert np.array_equal(draws, resample_fits(envelope, num_resamples=50, seed=7))
    assert not np.array_equal(draws, resample_fits(envelope, num_resamples=50, seed=8))


def test_bootstrap_agrees_with_its_exact_law() -> None:
    """Mean and variance of the refitted exponents equal those computed from the law of a redrawn minimum.

    The minimum of n draws from n sorted values is the k-th with probability ((n-k+1)/n)^n - ((n-k)/n)^n.
    """
    n = 4
    logs = np.sort(np.log(np.exp(np.random.default_rng(5).normal(0, 0.4, (6, n))) / SIZES[:, None]), axis=1)
    k = np.arange(1, n + 1)
    chance = ((n - k + 1) / n) ** n - ((n - k) / n) ** n
    centred = np.log(SIZES) - np.log(SIZES).mean()
    weights = -centred / (centred @ centred)
    mean, square = logs @ chance, logs**2 @ chance
    expected, deviation = weights @ mean, np.sqrt(weights**2 @ (square - mean**2))
    draws = resample_fits(envelope_of(np.exp(logs)), num_resamples=20_000, seed=1)[:, 1]
    assert abs(draws.mean() - expected) < 4 * deviation / np.sqrt(len(draws))
    assert draws.std() == pytest.approx(deviation, rel=0.03)


def test_targets_are_redrawn_first_and_alike_at_every_size() -> None:
    """Of two targets a quarter of the resamples has the easy one alone, a quarter the hard one, half their worst."""
    rows = [
        {
            "digest": f"{target}{n}{seed}",
            "method": "M",
            "target": target,
            "num_params_primary": n,
            "seed": seed,
            "status": "finished",
            "sup_error": level * n**-exponent,
        }
        for target, level, exponent in (("easy", 1.0, 1.0), ("hard", 10.0, 0.5))
        for n in SIZES
        for seed in range(2)
    ]
    draws = resample_fits(build_envelope(pd.DataFrame(rows), method="M"), num_resamples=4000, seed=2)[:, 1]
    assert set(np.round(draws, 9)) == {0.5, 1.0}
    assert np.mean(draws > 0.75) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))


def test_the_profile_interval_is_where_the_likelihood_says() -> None:
    """At its ends twice the drop of the profile log likelihood, refitted there, is chi-squared's 95 % point."""
    values = SIZES**-0.8 * np.exp(np.random.default_rng(8).normal(0, 0.2, len(SIZES)))
    fit = fit_power_law(SIZES, values)

    def squares(exponent: float) -> float:
        rest = np.log(values) + exponent * np.log(SIZES)
        return float(np.sum((rest - rest.mean()) ** 2))

    for end in profile_interval(fit):
        assert len(SIZES) * np.log(squares(end) / squares(fit.exponent)) == pytest.approx(stats.chi2.ppf(0.95, 1))


def test_the_subsample_interval_is_scaled_by_m_over_n() -> None:
    """With 8 seeds, 4 are drawn and deviations halved; fewer than three seeds have no such interval."""
    values = SIZES[:, None] ** -1 * np.exp(np.abs(np.random.default_rng(9).normal(0, 0.3, (6, 8))))
    envelope = envelope_of(values)
    draws = resample_fits(envelope, num_resamples=500, seed=3, keep=2 / 3)[:, 1]
    low, high = subsample_interval(envelope, num_resamples=500, seed=3)
    exponent = fit_power_law(envelope.sizes, envelope.values).exponent
    spread = np.quantile(draws - draws.mean(), [0.025, 0.975])
    assert (low, high) == pytest.approx((exponent - spread[1] / 2, exponent - spread[0] / 2))
    assert subsample_interval(envelope_of(values[:, :2])) is None


def test_one_seed_has_no_bootstrap_and_two_sizes_no_interval() -> None:
    """What cannot be known is None: seeds from one seed, lack of fit from two sizes."""
    single = exponent_interval(envelope_of(SIZES[:, None] ** -0.5 * np.array([1, 1.1, 1, 1.1, 1, 1.1])[:, None]))
    assert single.bootstrap is None
    assert single.interval == single.regression
    two = exponent_interval(envelope_of(np.array([[1.0, 1.1], [0.5, 0.6]])))
    assert two.interval is None
    assert two.bootstrap is not None


def test_band_contains_the_fit_and_widens_outward() -> None:
    """The band holds the fitted line, and is wider beyond the data than amid them."""
    generator = np.random.default_rng(3)
    envelope = envelope_of(SIZES[:, None] ** -1 * np.exp(generator.normal(0, 0.3, (6, 4))))
    sizes = [22.0, 2000.0]
    low, high = fit_band(envelope, sizes)
    line = fit_power_law(envelope.sizes, envelope.values).predict(sizes)
    assert ((low < line) & (line < high)).all()
    assert high[1] / low[1] > high[0] / low[0]


def test_mean_interval_is_the_t_interval() -> None:
    """It equals scipy's, is None for one value, and raises for none."""
    values = [1.0, 2.0, 4.0, 4.5]
    mean, interval = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean == pytest.approx(np.mean(values))
    assert interval == pytest.approx(expected)
    assert mean_interval([3.0]) == (3.0, None)
    with pytest.raises(AnalysisError):
        mean_interval([])
