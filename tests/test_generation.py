"""Tests of `hyperscale.settings.generation` and the weight generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from hyperscale.diversity.entropy import kozachenko_leonenko
from hyperscale.errors import StudyError
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.settings.generation import Generation, GenerationObjective, spearman
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Constant, Exponential
from tests.contracts import sequential

SMALL = WeightGenerator(widths=(8,))


def tiny(**fields: Any) -> Generation:
    """Return a setting that trains in no time."""
    return Generation(**{"accuracy_weight": 1.0, "generator": SMALL, "steps": 10, **fields})


def finish(setting: Generation, seed: int = 0) -> Any:
    """Train one trial and return its run."""
    run: Any = setting.start([(setting, seed)], "cpu")
    while not run.advance(60.0):
        pass
    return run


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"accuracy_weight": -1}, "Generation.accuracy_weight"),
        ({"accuracy_weight": "1"}, "Generation.accuracy_weight"),
        ({"norm_penalty": -0.1}, "Generation.norm_penalty"),
        ({"generator": None}, "Generation.generator"),
        ({"target": "mixture"}, "Generation.target"),
        ({"optimizer": 1e-3}, "Generation.optimizer"),
        ({"batch_size": 1}, "Generation.batch_size"),
        ({"steps": 0}, "Generation.steps"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        tiny(**fields)
    assert named in str(caught.value)


def test_trials_that_differ_in_numbers_only_share_a_program() -> None:
    """Accuracy weight, norm penalty, learning rate, schedule and steps may vary within a pack."""
    base = tiny().program_key()
    assert tiny(steps=11).program_key() == base
    assert tiny(optimizer=Adam(lr=0.1, schedule=Constant())).program_key() == base
    assert tiny(accuracy_weight=7).program_key() == base
    assert tiny(norm_penalty=0.5).program_key() == base
    assert tiny(optimizer=Adam(lr=0.5, schedule=Exponential(rate=0.99996))).program_key() == base


def test_trials_that_differ_in_shape_do_not_share_a_program() -> None:
    """Generator, target, batch and optimiser each give another program."""
    others = [
        tiny(),
        tiny(generator=WeightGenerator(widths=(9,))),
        tiny(generator=WeightGenerator(widths=(8,), latent_dim=2)),
        tiny(target=GaussianMixture(seed=1)),
        tiny(batch_size=6),
        tiny(optimizer=SGD(lr=0.1)),
    ]
    assert len({setting.program_key() for setting in others}) == len(others)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_promised_metrics_are_the_reported_ones(latent_dim: int) -> None:
    """A finished trial reports exactly the metrics its setting names, and the curve for the figure."""
    setting = tiny(generator=WeightGenerator(widths=(8,), latent_dim=latent_dim))
    (outcome,) = finish(setting).outcomes()
    assert outcome.status == "finished"
    assert sorted(outcome.metrics) == sorted(setting.metric_names())
    assert ("rank_correlation" in outcome.metrics) == (latent_dim == 1)
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert set(outcome.curves) == {"train_loss", "points", "mixture_means"}
    assert [len(axis) for axis in outcome.curves["points"]] == [400, 400]
    assert [len(axis) for axis in outcome.curves["mixture_means"]] == [10, 10]


def test_cost_is_positive_and_grows_with_width_and_steps() -> None:
    """Wider generators cost more arithmetic and memory, more steps more arithmetic."""
    costs = [tiny(generator=WeightGenerator(widths=(width,))).cost() for width in (4, 40, 400)]
    assert 0 < costs[0].flops < costs[1].flops < costs[2].flops
    assert 0 < costs[0].memory_bytes < costs[1].memory_bytes < costs[2].memory_bytes
    assert tiny(steps=20).cost().flops == 2 * tiny(steps=10).cost().flops


def test_generator_equals_plain_modules() -> None:
    """G(z) is what torch.nn.Sequential computes with its parameters."""
    generator = WeightGenerator(latent_dim=2, widths=(5, 4), activation="tanh")
    params = generator.initialize(3, [0, 1])
    z = torch.rand((2, 9, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = generator.generate(3, params, z)
    for row in range(2):
        plain = sequential((2, 5, 4, 3), (True,) * 3, params[row], "tanh")(z[row])
        torch.testing.assert_close(points[row], plain, rtol=1e-13, atol=1e-14)


def test_generators_start_with_the_toy_codes_spread() -> None:
    """Weights and biases come from a normal of variance 6/fan_in cut at two standard deviations."""
    generator = WeightGenerator()
    layers = generator.shape(2).split(generator.initialize(2, list(range(40))))
    for (weight, bias), fan_in in zip(layers, (1, 30, 10, 10), strict=True):
        law = stats.truncnorm(-2, 2, scale=math.sqrt(6 / fan_in))
        assert stats.kstest(weight.flatten().numpy(), law.cdf).pvalue > 0.01
        assert bias is not None
        assert stats.kstest(bias.flatten().numpy(), law.cdf).pvalue > 0.01


def test_loss_is_weighted_accuracy_less_entropy() -> None:
    """L = weight mean(penalty abs(y)^2 - v(y)) - H^ on the member's own noise, each member with its own weight."""
    members = [(tiny(accuracy_weight=2, norm_penalty=0.1), 0), (tiny(accuracy_weight=0, norm_penalty=0.3), 5)]
    params = SMALL.initialize(2, [0, 5]).float()
    objective = GenerationObjective(members, "cpu")
    losses = objective.loss(params, 300)
    for row, (setting, _) in enumerate(members):
        z = objective._batch(300)[row : row + 1]
        assert z.shape == (1, 5, 1)
        assert z.abs().max() <= 1
        points = SMALL.generate(2, params[row : row + 1].double(), z.double())[0]
        accuracy = (setting.norm_penalty * points.square().sum(dim=1) - setting.target.value(points)).mean()
        expected = setting.accuracy_weight * accuracy - kozachenko_leonenko(points, 1)
        assert losses[row].item() == pytest.approx(float(expected), rel=1e-5)


def test_noise_is_fresh_every_step_uniform_and_keyed_by_the_seed() -> None:
    """No z repeats over steps; z is uniform on [-1, 1]; a seed's noise is the same in any pack and any order."""
    members = [(tiny(), 3), (tiny(accuracy_weight=5), 4)]
    objective = GenerationObjective(members, "cpu")
    noise = torch.stack([objective._batch(step) for step in range(600)])
    assert len(set(noise.flatten().tolist())) > 5990  # float32 may coincide now and then
    assert stats.kstest(noise.double().flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01
    alone = GenerationObjective(members[1:], "cpu")
    for step in (599, 0, 256, 255):
        assert torch.equal(alone._batch(step)[0], noise[step, 1])


def test_metrics_of_a_straight_line_are_known() -> None:
    """G(z) = (3 z, 0) has entropy log 6 and mean value the average of v along the segment."""
    generator = WeightGenerator(widths=(), activation="identity")
    params = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    setting = tiny(generator=generator, target=GaussianMixture(num_components=3, seed=2))
    metrics = GenerationObjective([(setting, 0)], "cpu").metrics(params, [0])
    assert metrics["entropy"].item() == pytest.approx(math.log(6), abs=0.12)
    along = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    value = setting.target.value(torch.stack([along, 0 * along], dim=1))
    assert metrics["mean_value"].item() == pytest.approx(float(value.mean()), rel=0.05)
    means, deviations = setting.target.means(), setting.target.deviations()
    beyond = (means[:, 0].abs() - 3).clamp_min(0)
    reached = (beyond.square() + means[:, 1].square()).sqrt() <= deviations
    assert metrics["peaks_reached"].item() == int(reached.sum())


def test_spearman_equals_scipys() -> None:
    """The rank correlation equals scipy.stats.spearmanr; it is 1 for any increasing map and NaN without numbers."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 50))
    ours = spearman(torch.from_numpy(first), torch.from_numpy(second)).item()
    assert ours == pytest.approx(stats.spearmanr(first, second).statistic, rel=1e-12)
    assert spearman(torch.from_numpy(first), torch.from_numpy(np.exp(first))).item() == pytest.approx(1)
    assert math.isnan(spearman(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0])).item())


def test_accuracy_weight_trades_value_against_entropy() -> None:
    """After a short training a large weight ends at a higher mean value, a weight of 0 at a larger entropy."""
    settings = [
        tiny(accuracy_weight=weight, steps=400, batch_size=16, optimizer=Adam(lr=0.01), norm_penalty=0.05)
        for weight in (0, 30)
    ]
    run: Any = settings[0].start([(setting, 0) for setting in settings], "cpu")
    while not run.advance(60.0):
        pass
    diverse, accurate = run.outcomes()
    assert accurate.metrics["mean_value"] > diverse.metrics["mean_value"] + 0.1
    assert diverse.metrics["entropy"] > accurate.metrics["entropy"] + 0.5
