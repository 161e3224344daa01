"""Tests of `fits.models`, `fits.bends` and `fits.corrections`: formulas, derivatives, centring."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fits.fitting import MODELS
from analysis.fits.models import Sample
from hyperscale.errors import AnalysisError

SIZES = np.geomspace(3.0, 3000.0, 17)
PLANTED = {
    "power": (np.array([0.3, 0.7]), lambda x, c, s: c * x**-s),
    "power_floor": (np.array([-2.0, 0.4, 0.9]), lambda x, e, c, s: e + c * x**-s),
    "two_powers": (np.array([0.1, 0.3, -0.4, 1.2]), lambda x, a, s, b, r: a * x**-s + b * x**-r),
    "corrected_power": (
        np.array([0.2, 0.6, -0.5, 0.3]),
        lambda x, c, s, b, w: c * x**-s * np.exp(b * (x / SIZES[0]) ** -w),
    ),
    "log_corrected": (np.array([0.2, 0.6, -0.5]), lambda x, c, s, k: c * x**-s * np.log(x) ** k),
    "root_exponential": (np.array([0.2, 0.6]), lambda x, c, b: c * np.exp(-b * np.sqrt(x))),
    "exponential": (np.array([0.2, 0.6]), lambda x, c, b: c * np.exp(-b * x)),
    "broken_power": (
        np.array([0.2, 0.3, 0.8, 0.4, -0.3]),
        lambda x, c, s1, s2, d, w: c * x**-s1 * (1 + (x / d) ** (1 / w)) ** ((s1 - s2) * w),
    ),
    "twice_broken_power": (
        np.array([0.2, 0.3, 0.8, -1.4, -0.3, -0.5, 0.9, 0.2]),
        lambda x, c, s1, s2, s3, d1, d2, w1, w2: (
            c * x**-s1 * (1 + (x / d1) ** (1 / w1)) ** ((s1 - s2) * w1) * (1 + (x / d2) ** (1 / w2)) ** ((s2 - s3) * w2)
        ),
    ),
    "broken_power_floor": (
        np.array([-3.0, 0.2, 0.3, 0.8, 0.4, -0.3]),
        lambda x, e, c, s1, s2, d, w: e + c * x**-s1 * (1 + (x / d) ** (1 / w)) ** ((s1 - s2) * w),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_natural_parameters_give_the_stated_formula(name: str) -> None:
    """The formula at the natural parameters equals the model's value, away from the fitted sizes too."""
    theta, formula = PLANTED[name]
    model, sample = MODELS[name], Sample.of(SIZES[:, None], mean_response=-1.3)
    natural = model.natural(theta[None], sample)[0]
    assert len(natural) == len(model.parameters)
    beyond = np.append(SIZES, [1.5, 1e4])
    shown = formula(beyond, *natural)
    assert np.exp(model.predict(theta[None], sample, beyond[:, None])[0]) == pytest.approx(shown, rel=1e-10)


def test_chinchilla_formula() -> None:
    """E + A N^-alpha + B D^-beta, with two inputs centred apart."""
    n, d = np.meshgrid([1e6, 1e8, 1e9], [1e9, 1e10, 3e11])
    sizes = np.stack([n.ravel(), d.ravel()], axis=1)
    sample = Sample.of(sizes, mean_response=0.9)
    theta = np.array([[-0.2, -1.0, 0.34, -1.2, 0.28]])
    floor, a, alpha, b, beta = MODELS["chinchilla"].natural(theta, sample)[0]
    shown = floor + a * sizes[:, 0] ** -alpha + b * sizes[:, 1] ** -beta
    assert np.exp(MODELS["chinchilla"].predict(theta, sample, sizes)[0]) == pytest.approx(shown, rel=1e-12)


def test_two_terms_solve_theorem_five_for_the_error() -> None:
    """Putting the predicted error back into a y^(-1/s) + b y^(-1/r) returns the size."""
    sample = Sample.of(SIZES[:, None], mean_response=-0.7)
    theta = np.array([[0.3, -0.4, 0.1, 0.9]])
    a, s, b, r = MODELS["two_terms"].natural(theta, sample)[0]
    y = np.exp(MODELS["two_terms"].predict(theta, sample, SIZES[:, None])[0])
    assert a * y ** (-1 / s) + b * y ** (-1 / r) == pytest.approx(SIZES, rel=1e-10)
    assert s < r


@pytest.mark.parametrize("name", [*PLANTED, "two_terms", "chinchilla"])
def test_derivatives_against_central_differences(name: str) -> None:
    """Gradient, and curvature where a model gives one, agree with finite differences at random parameters."""
    model = MODELS[name]
    generator = np.random.default_rng(3)
    sizes = np.stack([SIZES, generator.permutation(SIZES) * 7], axis=1)[:, : model.num_inputs]
    sample = Sample.of(sizes)
    theta = 0.4 * generator.standard_normal((2, model.num_parameters))
    expansion = model.expand(theta, sample)
    weights = generator.standard_normal((2, len(SIZES)))
    curvature = expansion.curvature(weights)
    for k in range(model.num_parameters):
        step = np.zeros(model.num_parameters)
        step[k] = 1e-6
        ahead, behind = model.expand(theta + step, sample), model.expand(theta - step, sample)
        slope = (ahead.value - behind.value) / 2e-6
        assert expansion.jacobian[..., k] == pytest.approx(slope, rel=1e-5, abs=1e-7)
        if curvature is not None:
            second = (ahead.jacobian - behind.jacobian) / 2e-6
            assert curvature[:, k] == pytest.approx(np.einsum("fn,fnp->fp", weights, second), rel=1e-4, abs=1e-6)
    assert (curvature is not None) == (name in _TWICE)


_TWICE = {
    "power", "power_floor", "two_powers", "chinchilla", "log_corrected", "root_exponential", "exponential",
}  # fmt: skip


def test_starts_are_finite_and_many() -> None:
    """Every bending model starts from as many finite places as were asked for, the same for the same seed."""
    response = np.log(0.1 + SIZES**-0.5)
    response -= response.mean()
    for name, model in MODELS.items():
        sizes = np.stack([SIZES, SIZES[::-1]], axis=1)[:, : model.num_inputs]
        sample = Sample.of(sizes)
        starts = model.starts(sample, response, 48, np.random.default_rng(5))
        assert np.isfinite(starts).all(), name
        assert starts.shape == (
            1 if name in _TWICE - {"power_floor", "two_powers", "chinchilla"} else 48,
            starts.shape[1],
        )
        assert np.array_equal(starts, model.starts(sample, response, 48, np.random.default_rng(5)))


def test_a_logarithm_to_a_power_needs_sizes_above_one() -> None:
    """The log-corrected model says which size is at fault and what to do."""
    sample = Sample.of(np.array([[1.0], [2.0], [4.0]]))
    with pytest.raises(AnalysisError, match=r"a size is 1; allowed: sizes above 1.*another unit"):
        MODELS["log_corrected"].expand(np.zeros((1, 3)), sample)
