"""Tests of `analysis.exponents.curves`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.exponents.curves import FitStatus, fit_power_law
from hyperscale.errors import AnalysisError


@pytest.mark.parametrize(("constant", "exponent"), [(0.3, 0.5), (7.0, 2.0), (1e-6, 0.0), (2.0, -0.4)])
def test_planted_law_is_recovered(constant: float, exponent: float) -> None:
    """Exact data give back exponent and constant to rounding."""
    sizes = np.array([3, 7, 20, 64, 300.0])
    fit = fit_power_law(sizes, constant * sizes**-exponent)
    assert fit.exponent == pytest.approx(exponent, abs=1e-12)
    assert math.exp(fit.log_constant) == pytest.approx(constant, rel=1e-10)
    assert fit.octaves == pytest.approx(math.log2(100))
    assert fit.status is FitStatus.CONVERGED
    assert fit.residual_std == pytest.approx(0, abs=1e-9)


def test_standard_errors_agree_with_an_independent_regression() -> None:
    """Slope, intercept and their standard errors equal those of scipy's linregress on the logs."""
    generator = np.random.default_rng(4)
    sizes = np.geomspace(4, 512, 9)
    values = 2 * sizes**-0.7 * np.exp(generator.normal(0, 0.2, 9))
    fit, oracle = fit_power_law(sizes, values), stats.linregress(np.log(sizes), np.log(values))
    assert fit.exponent == pytest.approx(-oracle.slope, rel=1e-12)
    assert fit.exponent_standard_error == pytest.approx(oracle.stderr, rel=1e-10)
    assert fit.log_constant == pytest.approx(oracle.intercept, rel=1e-10)
    assert fit.log_constant_standard_error == pytest.approx(oracle.intercept_stderr, rel=1e-10)


def test_two_sizes_are_not_identified() -> None:
    """Two points fit any power law: an estimate without standard errors, and the remedy."""
    fit = fit_power_law([2, 8], [1.0, 0.5])
    assert fit.exponent == pytest.approx(0.5)
    assert fit.status is FitStatus.NOT_IDENTIFIED
    assert fit.exponent_standard_error is None
    assert fit.standard_error_at([4.0]) is None
    assert "add settings" in fit.remedy


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ([4, 4], [1, 2], "two distinct sizes"),
        ([], [], "two distinct sizes"),
        ([1, 2, 3], [1, 2], "3 sizes but 2 values"),
        ([1, 2], [1, 0.0], "a value is 0.0"),
        ([1, float("nan")], [1, 1], "a size is nan"),
        ([[1, 2]], [1, 1], "one list of numbers"),
    ],
)
def test_hard_failures_say_what_to_do(sizes, values, message: str) -> None:
    """Data without any estimate raise, naming the fault."""
    with pytest.raises(AnalysisError, match=message):
        fit_power_law(sizes, values)


def test_prediction_follows_the_law() -> None:
    """`predict` evaluates c N^-s, and its standard error is smallest amid the data."""
    fit = fit_power_law([1, 2, 4, 8], [1.0, 0.55, 0.24, 0.13])
    expected = math.exp(fit.log_constant) * 16**-fit.exponent
    assert fit.predict([16.0])[0] == pytest.approx(expected)
    errors = fit.standard_error_at([math.sqrt(8), 64.0])
    assert errors is not None
    assert errors[0] < errors[1]
