"""Tests of `analysis.fits.selection`, `analysis.fits.backtests` and `analysis.fits.saturation`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.fits.backtests import backtest, cuts_of, late_weights, num_independent, runs_away
from analysis.fits.fitting import MODELS, fit_curve
from analysis.fits.losses import Loss
from analysis.fits.models import Floats, Sample
from analysis.fits.saturation import Saturating
from analysis.fits.selection import choose_model
from hyperscale.errors import AnalysisError

SQUARES = Loss(kind="log-least-squares")


def noisy(values: Floats, scatter: float, seed: int) -> Floats:
    """Return values times exp of normal noise."""
    found: Floats = values * np.exp(np.random.default_rng(seed).normal(0, scatter, len(values)))
    return found


def best_rational(n: Floats) -> Floats:
    """Return the leading order of the error of best rational approximation of |x| (Stahl 1993): 8 exp(-pi sqrt n)."""
    return 8 * np.exp(-math.pi * np.sqrt(n))


def test_exact_power_is_chosen_alone() -> None:
    """The best piecewise-linear error of x^2, 1 / (2 n^2): a power, its exponent and constant to rounding."""
    n = np.array([2, 3, 4, 6, 8, 12, 16, 32, 64, 128.0])
    average = choose_model(n, 0.5 / n**2)
    assert (average.chosen.model, average.agreed, average.alone) == ("power", True, True)
    assert average.exponent is not None
    assert average.exponent.estimate == pytest.approx(2, abs=1e-9)
    assert average.chosen.parameters["c"].estimate == pytest.approx(0.5, rel=1e-9)
    assert average.predict([256.0]) == pytest.approx(0.5 / 256**2, rel=1e-9)
    assert "agree on power" in average.agreement


@pytest.mark.parametrize(
    ("model", "sizes", "values"),
    [
        ("root_exponential", np.arange(4.0, 40, 3), best_rational(np.arange(4.0, 40, 3))),
        ("exponential", np.arange(1.0, 14), 4.0 ** -np.arange(2.0, 15)),
    ],
)
def test_no_power_law_has_no_exponent(model: str, sizes: Floats, values: Floats) -> None:
    """Root-exponential and exponential sequences are named so, and no exponent is given."""
    average = choose_model(sizes, values)
    assert average.chosen.model == model
    assert average.exponent is None


def test_sequence_with_a_dying_correction_keeps_its_limit() -> None:
    """For 0.27 n^-2 (1 + 0.03 n^-2) the exponent is 2 to 1e-3 and the constant 0.27 to 1 %, as for best knots."""
    n = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 64.0])
    average = choose_model(n, 0.27 / n**2 * (1 + 0.03 / n**2))
    assert average.exponent is not None
    assert average.exponent.estimate == pytest.approx(2, abs=1e-3)
    assert average.chosen.parameters["a"].estimate == pytest.approx(0.27, rel=0.01)


def test_planted_power_with_noise() -> None:
    """A power with 3 % scatter over 10 octaves: the exponent's interval holds the truth, and no floor is claimed."""
    x = np.geomspace(8, 8192, 21)
    average = choose_model(x, noisy(2 * x**-0.5, 0.03, 1))
    assert average.chosen.model == "power"
    assert average.exponent is not None
    assert average.exponent.interval is not None
    assert average.exponent.interval[0] < 0.5 < average.exponent.interval[1]


def test_planted_floor_is_found_over_ten_octaves() -> None:
    """For 0.1 + 3 x^-0.6 with 1 % scatter: a model with the floor leads, and the floor is within four errors."""
    x = np.geomspace(10, 10240, 24)
    average = choose_model(x, noisy(0.1 + 3 * x**-0.6, 0.01, 0))
    assert average.chosen.model == "power_floor"
    floor = average.chosen.parameters["e"]
    assert floor.standard_error is not None
    assert abs(floor.estimate - 0.1) < 4 * floor.standard_error


def test_planted_break_is_found() -> None:
    """Exponent 0.1 before x = 100 and 0.8 after it, 1 % scatter: a broken power leads, and 0.8 lies in its interval."""
    x = np.geomspace(2, 8192, 26)
    y = x**-0.1 * (1 + (x / 100) ** 4) ** (-0.7 / 4)
    average = choose_model(x, noisy(y, 0.01, 2))
    assert average.chosen.model == "broken_power"
    assert average.exponent is not None
    assert average.exponent.interval is not None
    assert average.exponent.interval[0] < 0.8 < average.exponent.interval[1]


def test_few_octaves_claim_no_floor() -> None:
    """Three octaves of a floored power: the words say that nothing is claimed of a floor."""
    x = np.geomspace(10, 80, 8)
    average = choose_model(x, noisy(0.1 + x**-0.5, 0.02, 3))
    assert "below 8 nothing is claimed of a floor" in average.agreement
    assert average.octaves == pytest.approx(3)
    assert "floor" not in average.chosen.model
    assert average.chosen.model != "saturating"


def test_disagreement_is_said_and_averaged() -> None:
    """A curve of no candidate's form (its exponent swings): the words say that an average predicts."""
    t = np.linspace(0, 6, 20)
    average = choose_model(np.exp(t), np.exp(-0.5 * t + 0.15 * np.sin(2.2 * t)))
    assert not average.alone
    assert "average" in average.agreement
    assert len(average.voters) > 1
    assert average.weights.sum() == pytest.approx(1)
    predictions = np.stack([member.log_predictions([800.0]) for member in average.voters])
    assert average.predict([800.0]) == pytest.approx(np.exp(average.weights @ predictions))
    assert list(average.weights) == sorted(average.weights, reverse=True)


def test_order_of_rows_does_not_matter() -> None:
    """Rows in another order give the same choice and the same prediction."""
    x = np.geomspace(4, 400, 6)
    y = noisy(x**-0.7, 0.02, 4)
    order = np.random.default_rng(0).permutation(6)
    one, other = choose_model(x, y), choose_model(x[order], y[order])
    assert one.predict([900.0]) == pytest.approx(other.predict([900.0]), rel=1e-12)


def test_bad_input_is_refused() -> None:
    """A value of zero raises what `fit_curve` raises."""
    with pytest.raises(AnalysisError, match="positive finite numbers"):
        choose_model([1, 2, 3], [1, 0, 1])


def test_three_points_are_a_power_without_tests() -> None:
    """Three points leave nothing to test: the words say so."""
    average = choose_model([1, 2, 4], [1, 0.5, 0.25])
    assert average.chosen.model == "power"
    assert "too few points to test" in average.agreement


def test_cuts_hold_out_the_largest_sizes() -> None:
    """Held-out sizes lie beyond the fitted ones, at most an octave; cuts are distinct; the independent ones counted."""
    x = np.geomspace(1, 256, 33)
    cuts = cuts_of(x, 5)
    assert len({int(cut.fitted.sum()) for cut in cuts}) == len(cuts)
    for cut in cuts:
        assert x[cut.fitted].max() < x[cut.held].min()
        assert cut.distances.max() <= 1 + 1e-9
        assert cut.distances == pytest.approx(np.log2(x[cut.held] / x[cut.fitted].max()))
    assert num_independent(x, cuts) == pytest.approx(2)


def test_backtest_is_a_refit_to_the_points_before_the_cut() -> None:
    """The batched refit with weights of 0 predicts what a fit to the earlier points alone predicts."""
    x = np.geomspace(4, 4096, 25)
    y = noisy(0.1 + 2 * x**-0.6, 0.01, 5)
    cuts = cuts_of(x, 5)
    tests = backtest(MODELS["power_floor"], x, y, cuts, SQUARES, num_starts=12, seed=0)
    for cut, row in zip(cuts, tests.plain, strict=True):
        alone = fit_curve(x[cut.fitted], y[cut.fitted], model="power_floor", loss=SQUARES)
        assert row == pytest.approx(np.log(alone.predict(x[cut.held])), abs=2e-5)


def test_a_rising_term_that_no_point_shows_runs_away() -> None:
    """A power of -20 that is 1e-9 of the whole within the data is seen to run away; an exponential is not."""
    sample = Sample.of(np.geomspace(1, 64, 10)[:, None])
    assert runs_away(MODELS["two_powers"], np.array([0.0, 0.5, -62.0, -20.0]), sample)
    assert not runs_away(MODELS["two_powers"], np.array([0.0, 0.5, -1.0, 1.5]), sample)
    assert not runs_away(MODELS["exponential"], np.array([0.0, 0.7]), sample)
    assert not runs_away(MODELS["power"], np.array([0.0, 0.7]), sample)


def test_late_weights_halve_every_half_octave() -> None:
    """Half an octave below the largest kept size a point weighs half; held-out points weigh nothing."""
    weights = late_weights(np.array([1, 2, 2 * math.sqrt(2), 4, 8]), np.array([True, True, True, True, False]))
    assert weights == pytest.approx([1 / 16, 1 / 4, 1 / 2, 1, 0])


def test_saturating_model_satisfies_its_formula() -> None:
    """Values and parameters fulfil (y - e) / (E - y)^a = b x^-s, and derivatives equal central differences."""
    model, sample = Saturating(), Sample.of(np.geomspace(1, 500, 30)[:, None], 0.3)
    theta = np.random.default_rng(0).normal(0, 0.7, (40, 5))
    value, jacobian = model.expand(theta, sample).value, model.expand(theta, sample).jacobian
    e, ceiling, a, b, s = model.natural(theta, sample).T[:, :, None]
    y, x = np.exp(value + 0.3), np.geomspace(1, 500, 30)
    right = np.log(b) - s * np.log(x)
    inner = (right < 5) & (right > -10)
    left = np.log(np.maximum(y - e, 1e-300)) - a * np.log(np.maximum(ceiling - y, 1e-300))
    assert inner.mean() > 0.5
    assert left[inner] == pytest.approx(right[inner], abs=1e-5)
    steps = 1e-6 * np.eye(5)
    differences = [
        (model.expand(theta + h, sample).value - model.expand(theta - h, sample).value) / 2e-6 for h in steps
    ]
    assert jacobian == pytest.approx(np.stack(differences, axis=-1), abs=1e-7)


def test_saturating_fit_recovers_what_was_planted() -> None:
    """Exact data between a ceiling of 1 and a floor of 0.1 give back exponent, floor and ceiling."""
    model, x = Saturating(), np.geomspace(1, 4096, 40)
    sample = Sample.of(x[:, None])
    theta = np.array([[math.log(0.1), math.log(0.9), math.log(0.8), 1.0, 0.6]])
    fit = fit_curve(
        x, np.exp(model.predict(theta, sample, x[:, None])[0]), model="saturating", loss=SQUARES, num_starts=12
    )
    expected = dict(zip(model.parameters, model.natural(theta, sample)[0], strict=True))
    for name, value in expected.items():
        assert fit.parameters[name].estimate == pytest.approx(value, rel=1e-4), name
