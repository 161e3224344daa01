"""Tests of `analysis.fits.prediction`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.fits.fitting import fit_curve
from analysis.fits.losses import Loss
from analysis.fits.models import Floats
from analysis.fits.prediction import parameter_variance, predict_with_interval
from analysis.fits.selection import choose_model

SQUARES = Loss(kind="log-least-squares")


def curve(generator: np.random.Generator, x: Floats) -> Floats:
    """Return a learning curve: a plateau at 1, a bend, a power with a drifting exponent, perhaps a floor.

    Not of any candidate's form: the exponent itself falls slowly with log x.
    """
    t = np.log(x)
    bend, steepness = generator.uniform(1.0, 3.0), generator.uniform(0.3, 0.7)
    past = np.logaddexp(0.0, t - bend)
    falling = np.exp(-steepness * past + generator.uniform(0.0, 0.02) * past**2)
    floor = generator.choice([0.0, 0.05])
    return np.asarray(floor + (1 - floor) * falling, dtype=np.float64)


def fluctuations(generator: np.random.Generator, num_points: int, scatter: float) -> Floats:
    """Return autocorrelated normal noise, an autoregression of order 1 with coefficient 0.5."""
    shocks = generator.normal(0, scatter * math.sqrt(0.75), num_points)
    shocks[0] /= math.sqrt(0.75)
    for place in range(1, num_points):
        shocks[place] += 0.5 * shocks[place - 1]
    return shocks


def test_interval_of_a_power_is_the_textbook_one() -> None:
    """For least squares on logs it equals t s sqrt(1 + 1/n + (u - mean u)^2 / Suu), s from the robust scale."""
    x = np.array([2, 4, 9, 16, 40, 64.0])
    y = 3 * x**-0.5 * np.exp(np.random.default_rng(1).normal(0, 0.1, 6))
    fit = fit_curve(x, y, loss=SQUARES)
    prediction = predict_with_interval(fit, [200.0], level=0.8)
    u, v = np.log(x), np.log(y)
    line = stats.linregress(u, v)
    variance = ((v - line.intercept - line.slope * u) ** 2).sum() / 4
    at_mean = 1 / 6 + (math.log(200) - u.mean()) ** 2 / ((u - u.mean()) ** 2).sum()
    half = stats.t.ppf(0.9, 4) * math.sqrt(variance * at_mean + fit.scale**2)
    assert prediction.y == pytest.approx(np.exp(line.intercept + line.slope * math.log(200)))
    assert np.log(prediction.high / prediction.y) == pytest.approx(half, rel=1e-9)
    assert np.log(prediction.y / prediction.low) == pytest.approx(half, rel=1e-9)
    assert "nothing here measures how far extrapolation errs" in prediction.extrapolation


def test_bootstrap_draws_agree_with_the_covariance() -> None:
    """With 2,000 resamples of 60 points the parameters' variance is that of the covariance within 25 %."""
    x = np.geomspace(1, 1000, 60)
    y = x**-0.4 * np.exp(np.random.default_rng(2).normal(0, 0.05, 60))
    at = np.array([[3000.0]])
    plain = parameter_variance(fit_curve(x, y, loss=SQUARES), at)
    drawn = parameter_variance(fit_curve(x, y, loss=SQUARES, num_resamples=2000), at)
    assert drawn == pytest.approx(plain, rel=0.25)


def test_two_inputs_are_predicted() -> None:
    """Chinchilla's form takes x2; the interval contains the prediction and is positive."""
    generator = np.random.default_rng(3)
    n, d = np.exp(generator.uniform(4, 9, 40)), np.exp(generator.uniform(6, 12, 40))
    y = (1.7 + 30 * n**-0.4 + 60 * d**-0.4) * np.exp(generator.normal(0, 0.003, 40))
    fit = fit_curve(n, y, x2=d, model="chinchilla", loss=SQUARES, num_starts=8)
    prediction = predict_with_interval(fit, [2e4], [5e5])
    assert prediction.x2 == pytest.approx([5e5])
    assert 0 < prediction.low[0] < prediction.y[0] < prediction.high[0]


def test_interval_widens_with_distance_and_says_the_extrapolation_error() -> None:
    """An average's interval grows with the octaves beyond the data, and the measured error is stated."""
    x = np.geomspace(1, 512, 19)
    average = choose_model(
        x, curve(np.random.default_rng(4), x) * np.exp(fluctuations(np.random.default_rng(4), 19, 0.01))
    )
    prediction = predict_with_interval(average, [512, 1024, 2048, 8192])
    widths = np.log(prediction.high / prediction.low)
    assert (np.diff(widths) > 0).all()
    assert "backtests the largest sizes were predicted" in prediction.extrapolation
    measured = 100 * math.sqrt(float((average.errors**2).mean()))
    assert f"{measured:.2g} %" in prediction.extrapolation


def test_a_single_model_covers_when_it_is_true() -> None:
    """400 noisy powers: 90 % intervals at twice the largest size cover 85 to 95 % (binomial error 1.5 %)."""
    generator = np.random.default_rng(5)
    x = np.geomspace(4, 1024, 25)
    inside = 0
    for _ in range(400):
        y = x**-0.5 * np.exp(generator.normal(0, 0.05, 25))
        prediction = predict_with_interval(fit_curve(x, y, loss=SQUARES), [2048.0])
        new = 2048**-0.5 * math.exp(generator.normal(0, 0.05))
        inside += int(prediction.low[0] <= new <= prediction.high[0])
    assert 0.85 <= inside / 400 <= 0.95


def test_learning_curves_of_no_candidates_form_are_predicted_and_covered() -> None:
    """Of 6 curves of no candidate's form, the octave beyond is predicted to 2 %, better than by a power law.

    Root mean square log error, averaged over curves; the intervals cover 85 to 95 % of the 48 points, give or take two
    standard errors of a binomial share of 48 (9 %).
    """
    generator = np.random.default_rng(7)
    x, ahead = np.geomspace(1, 512, 17), np.geomspace(560, 1024, 8)
    errors, straight, covered = [], [], []
    for _ in range(6):
        values = curve(generator, np.concatenate([x, ahead])) * np.exp(fluctuations(generator, 25, 0.01))
        average = choose_model(x, values[:17])
        prediction = predict_with_interval(average, ahead)
        line = fit_curve(x[8:], values[8:17], loss=SQUARES)
        errors.append(np.sqrt((np.log(prediction.y / values[17:]) ** 2).mean()))
        straight.append(np.sqrt((np.log(line.predict(ahead) / values[17:]) ** 2).mean()))
        covered.append(((prediction.low <= values[17:]) & (values[17:] <= prediction.high)).mean())
    assert np.mean(errors) < 0.02
    assert np.mean(errors) < np.mean(straight)
    assert 0.85 - 0.09 <= np.mean(covered) <= 0.95 + 0.05


def test_intervals_of_chosen_models_cover() -> None:
    """Of 60 points an octave beyond 3 noisy powers, 90 % intervals hold 85 to 95 %, give or take 8 % (binomial)."""
    generator = np.random.default_rng(11)
    x, ahead = np.geomspace(4, 4096, 13), np.geomspace(4600, 8192, 20)
    inside = []
    for _ in range(3):
        y, new = (sizes**-0.5 * np.exp(generator.normal(0, 0.02, len(sizes))) for sizes in (x, ahead))
        prediction = predict_with_interval(choose_model(x, y), ahead)
        inside.append(((prediction.low <= new) & (new <= prediction.high)).mean())
    assert 0.85 - 0.08 <= np.mean(inside) <= 0.95 + 0.08
