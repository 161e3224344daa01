"""Tests of `analysis.exponents.frontier` and `analysis.exponents.rates`: the other estimators, agreement, rises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.exponents.estimators import envelope_series
from analysis.exponents.frontier import Slopes, frontier_slopes, quantile_slopes, seeds_agree
from analysis.exponents.rates import estimators_disagree, gather_rates, rises_beyond_noise
from tests.bench.judged import known_line

X = np.log(2.0 ** np.arange(3, 9.5, 0.5))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return half-normal excess of scale .3."""
    return 0.3 * np.abs(np.random.default_rng(seed).standard_normal(shape))


def test_the_quantile_line_is_the_linear_programs() -> None:
    """Slopes of three data sets equal HiGHS's solution of the quantile regression's linear program."""
    logs = noise(3, len(X), 1, 5) - 0.5 * X[:, None, None]
    found = quantile_slopes(X, logs).slope
    x = np.repeat(X, 5)
    for row in range(3):
        size = len(x)
        cost = np.concatenate([[0, 0], np.full(size, 0.1), np.full(size, 0.9)])
        equal = np.hstack([np.ones((size, 1)), x[:, None], np.eye(size), -np.eye(size)])
        bounds = [(None, None)] * 2 + [(0, None)] * (2 * size)
        best = optimize.linprog(cost, A_eq=equal, b_eq=logs[row].ravel(), bounds=bounds)
        assert found[row] == pytest.approx(best.x[1], abs=2e-3)


def test_the_frontier_is_the_likelihoods_maximum() -> None:
    """The slope equals that of SciPy's minimisation of the written-out density from the true parameters."""
    logs = noise(len(X), 1, 6, seed=3) + 0.05 * np.random.default_rng(4).normal(size=(len(X), 1, 6))
    logs = logs - 0.5 * X[:, None, None]
    x, y = np.repeat(X - X.mean(), 6), logs.ravel()

    def cost(theta: np.ndarray) -> float:
        a, b, p, q, t = theta
        sigma, tau = np.exp(p + q * x), np.exp(t)
        omega = np.hypot(sigma, tau)
        e = y - a - b * x
        density = np.log(2 / omega) + stats.norm.logpdf(e / omega) + stats.norm.logcdf(e * sigma / (tau * omega))
        return -float(density.sum())

    start = np.array([-0.5 * X.mean(), -0.5, np.log(0.3), 0.0, np.log(0.05)])
    best = optimize.minimize(cost, start, method="Nelder-Mead", options={"maxiter": 20_000, "fatol": 1e-10})
    assert frontier_slopes(X, logs).slope == pytest.approx(best.x[1], abs=1e-3)


def test_estimates_do_not_depend_on_company() -> None:
    """A data set solved alone has the estimates that it has among others, and any leading shape is kept."""
    logs = noise(4, len(X), 2, 3) - X[:, None, None]
    for estimate in (quantile_slopes, frontier_slopes):
        together, alone = estimate(X, logs), estimate(X, logs[2])
        assert together.slope.shape == (4,)
        assert together.slope[2] == pytest.approx(float(alone.slope))
        assert estimate(X, logs.reshape(2, 2, len(X), 2, 3)).slope.ravel() == pytest.approx(together.slope)


def test_estimates_move_with_the_law() -> None:
    """A further slope, a level and levels of targets move the estimates as they should."""
    logs = noise(3, len(X), 2, 4)
    moved = logs - 0.7 * X[:, None, None] + 5 + np.array([0, 0.4])[:, None]
    for estimate in (quantile_slopes, frontier_slopes):
        assert estimate(X, moved).slope == pytest.approx(estimate(X, logs).slope - 0.7, abs=1e-4)


def test_the_known_line() -> None:
    """FITTING.md's simulation: clean all .50; growing scale .41 / .48 / .49 / .50; a drifting gap fools all: .355."""
    clean, growing, drifting = (means for _, means in known_line(300))
    assert list(clean.values()) == pytest.approx([0.5] * 5, abs=0.005)
    assert list(growing.values()) == pytest.approx([0.41, 0.48, 0.49, 0.50, 0.50], abs=0.007)
    assert list(drifting.values()) == pytest.approx([0.355] * 5, abs=0.005)


def test_disagreement_is_beyond_two_standard_errors() -> None:
    """Estimates .1 apart disagree at standard errors .03 but not at .04; a missing one never does."""
    zero, nan = np.zeros(2), np.full(2, np.nan)
    a, b = Slopes(zero, np.array([0.03, 0.04])), Slopes(zero + 0.1, np.array([0.03, 0.04]))
    assert estimators_disagree(a, b).tolist() == [True, False]
    assert not estimators_disagree(a, Slopes(nan, nan)).any()


def test_growing_excess_makes_estimators_disagree() -> None:
    """Over twelve octaves and ten seeds an excess growing 15 % an octave parts minimum and frontier."""
    x = np.log(2.0 ** np.arange(0, 12.5, 0.5))
    growing = noise(30, len(x), 1, 10) * 1.15 ** (x / np.log(2))[:, None, None]
    steady = noise(30, len(x), 1, 10)
    assert gather_rates(x, growing).disagree.mean() > 0.2
    assert gather_rates(x, steady).disagree.mean() < 0.1


def test_rises_beyond_noise_are_seen_and_noise_is_not() -> None:
    """A valley of 1 nat is called out nine times in ten; a flat envelope of noisy minima in at most 2 % of 500."""
    flat = noise(500, len(X), 1, 5)
    valley = flat[:20] + np.abs(np.linspace(-1, 1, len(X)))[:, None, None]
    assert rises_beyond_noise(X, envelope_series(X, flat), 5).mean() <= 0.02
    assert rises_beyond_noise(X, envelope_series(X, valley), 5).mean() >= 0.9


def test_few_seeds_leave_the_minimum_alone() -> None:
    """With one seed there is nothing to compare the minimum with, and nothing disagrees."""
    found = gather_rates(X, noise(len(X), 1, 1) - X[:, None, None])
    assert np.isnan(found.frontier.slope)
    assert not found.disagree
    assert found.interval.low < found.interval.slope < found.interval.high


@pytest.mark.parametrize("scatter", [0.0, 1e-12, 1e-4, 1e-2])
def test_seeds_that_agree_are_one_seed(scatter: float) -> None:
    """On 1 / k at N = 3 k + 1, a slight bend, small scatter leaves no other estimators and no disagreement."""
    knots = np.round(3 * 2 ** np.arange(0, 6.5, 0.5))
    x = np.log(3 * knots + 1)
    seeds = scatter * np.abs(np.random.default_rng(0).normal(size=(len(x), 1, 3)))
    logs = -np.log(knots)[:, None, None] + seeds
    found = gather_rates(x, logs)
    assert bool(seeds_agree(x, logs))
    assert np.isnan(found.quantile.slope)
    assert not found.disagree
    assert found.interval.slope == pytest.approx(1.03, abs=0.01)


def test_seeds_that_scatter_do_not_agree() -> None:
    """Ordinary excess beside a lack of fit of .05 counts as scatter in all of 200 data sets; none at all does not."""
    generator = np.random.default_rng(1)
    misfit = 0.05 * generator.standard_normal((200, len(X), 2, 1))
    logs = noise(200, len(X), 2, 5) - 0.5 * X[:, None, None] + misfit
    assert not seeds_agree(X, logs).any()
    logs[:, :2, :, 3:] = np.nan
    assert not seeds_agree(X, logs).any()
    assert seeds_agree(X, np.repeat(misfit - 0.5 * X[:, None, None], 5, axis=-1)).all()
