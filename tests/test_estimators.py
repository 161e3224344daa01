"""Tests of `analysis.exponents.estimators`: the edge below the minima, and the interval of a slope."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.exponents.estimators import edge_minima, envelope_series, slope_intervals

X = np.log([4, 8, 16, 32, 64, 128.0])


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
def test_the_edge_lies_between_the_two_laws(num_seeds: int) -> None:
    """The mean edge is the doubt above the truth for exponential excess, and as much below for half-normal."""
    generator = np.random.default_rng(1)
    shape = (200_000, num_seeds)
    above = edge_minima(generator.standard_exponential(shape))
    below = edge_minima(np.abs(generator.standard_normal(shape)))
    error = above.edge.std() / np.sqrt(shape[0])
    # k lies midway, so the signs follow from which law asks for more.
    assert abs(abs(above.edge.mean()) - above.unit_doubt[0]) < 4 * error
    assert above.edge.mean() * below.edge.mean() < 0
    assert abs(above.edge.mean()) < 0.3 * above.minimum.mean()
    assert abs(below.edge.mean()) < 0.3 * below.minimum.mean()
    assert above.edge.var() == pytest.approx(above.unit_variance[0], rel=0.05)


def test_three_exponential_seeds_by_hand() -> None:
    """The k of an exponential is (1/3) / (1/2); the table's k is midway to the half-normal's, and 0 for one seed."""
    values = np.array([0.3, 0.1, 0.2])
    found = edge_minima(values)
    ordered = np.sort(np.abs(np.random.default_rng(0).standard_normal((400_000, 3))), axis=1).mean(axis=0)
    ratio = (2 / 3 + ordered[0] / (ordered[1] - ordered[0])) / 2
    assert found.minimum == 0.1
    assert found.edge == pytest.approx(0.1 - ratio * 0.1, abs=2e-3)
    assert edge_minima(values[:1]).edge == values[0]


def test_seeds_without_a_value_are_no_seeds() -> None:
    """NaN seeds leave edge and scale as they are without them, and an empty cell has none."""
    whole = edge_minima(np.array([0.3, 0.1, 0.2]))
    ragged = edge_minima(np.array([[0.3, np.nan, 0.1, 0.2], [np.nan] * 4]))
    assert ragged.edge[0] == whole.edge
    assert ragged.scale[0] == whole.scale
    assert np.isnan(ragged.edge[1])


def test_a_stray_seed_moves_nothing() -> None:
    """One of five seeds a thousand times worse changes neither the minimum nor the edge."""
    near, far = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.1, 0.2, 0.3, 0.4, 7.0])
    assert edge_minima(near).edge == edge_minima(far).edge


def test_plain_slopes_are_scipys() -> None:
    """Without seeds' variance the interval is that of least squares with n - 2 degrees of freedom."""
    values = -0.7 * X + np.random.default_rng(2).normal(0, 0.2, (3, 6))
    found = slope_intervals(X, values, 0.9)
    for row in range(3):
        line = stats.linregress(X, values[row])
        half = stats.t.ppf(0.95, 4) * line.stderr
        assert found.slope[row] == pytest.approx(line.slope)
        assert (found.low[row], found.high[row]) == pytest.approx((line.slope - half, line.slope + half))


def test_weighted_slopes_and_sizes_left_out() -> None:
    """With variances the line is weighted least squares (checked by lstsq); a NaN size is as if it were not there."""
    values = -0.7 * X + np.random.default_rng(3).normal(0, 0.2, 6)
    variance = np.exp(np.linspace(-1, 3, 6))
    found = slope_intervals(X, values, seed_variance=variance)
    root = 1 / np.sqrt(variance)
    design = np.stack([np.ones(6), X], axis=1)
    expected, rest, *_ = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)
    covariance = np.linalg.inv((design / variance[:, None]).T @ design) * rest[0] / 4
    assert found.slope == pytest.approx(expected[1])
    assert found.standard_error == pytest.approx(np.sqrt(covariance[1, 1]))
    holed = np.where(np.arange(6) == 2, np.nan, values)
    kept = slope_intervals(np.delete(X, 2), np.delete(values, 2))
    assert np.array(slope_intervals(X, holed)) == pytest.approx(np.array(kept))


def test_scatter_of_its_own_evens_the_weights() -> None:
    """Where the line scatters far more than the seeds explain, the weights all but vanish."""
    values = -0.7 * X + np.random.default_rng(3).normal(0, 0.5, 6)
    tiny = 1e-6 * np.exp(np.linspace(-1, 3, 6))
    found, plain = slope_intervals(X, values, seed_variance=tiny), slope_intervals(X, values)
    assert np.array(found) == pytest.approx(np.array(plain), rel=1e-3)


def test_two_sizes_have_no_standard_error() -> None:
    """A slope through two points has no residual to tell its error from."""
    found = slope_intervals(X[:2], np.array([1.0, 0.5]))
    assert np.isfinite(found.slope)
    assert np.isnan(found.standard_error)
    assert np.isnan(found.low)


def test_targets_that_agree_are_averaged_and_others_are_not() -> None:
    """Equal slopes are pooled; a clearly slower target makes the edge the worst of each size."""
    generator = np.random.default_rng(5)
    noise = np.abs(generator.normal(0, 0.05, (6, 2, 4)))
    alike = -0.5 * X[:, None, None] + noise
    differing = alike + 0.3 * X[:, None, None] * np.array([0, 1])[:, None]
    both, worst = envelope_series(X, alike), envelope_series(X, differing)
    assert both.pooled
    assert both.edge == pytest.approx(edge_minima(alike).edge.mean(axis=1))
    assert not worst.pooled
    assert worst.edge == pytest.approx(edge_minima(differing).edge.max(axis=1))
    assert worst.minimum == pytest.approx(differing.min(axis=2).max(axis=1))


def test_a_target_missing_at_a_size_is_left_out_of_the_mean() -> None:
    """Its level would make the mean jump where it is missing."""
    noise = np.abs(np.random.default_rng(6).normal(0, 0.05, (6, 2, 4)))
    logs = -0.5 * X[:, None, None] + noise + np.array([0, 3.0])[:, None]
    logs[2, 1] = np.nan
    found = envelope_series(X, logs)
    assert found.edge == pytest.approx(edge_minima(logs[:, :1]).edge[:, 0])


def test_equal_seeds_give_no_weights() -> None:
    """Seeds that agree to rounding say nothing of the scatter, and sizes count alike."""
    logs = np.repeat(-0.5 * X[:, None, None], 3, axis=2)
    found = envelope_series(X, logs)
    assert not found.seed_variance.any()
    assert not found.edge_doubt.any()
