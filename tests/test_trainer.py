"""Tests of `hyperscale.training.trainer`: pack independence, divergence, interruption and the loss curve."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.target import FixedSample
from hyperscale.training.losses import curve_steps
from hyperscale.training.objective import Objective
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Constant, Cosine
from hyperscale.training.trainer import TrainingRun
from tests.packs import METHODS, SHARED, Member, approximation, assert_same, finish, mixed_pack

# --- divergence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_diverged_member_leaves_its_pack_mates_alone(method: str) -> None:
    """A huge rate ends as diverged with its step; its pack-mates' metrics equal those of a healthy pack exactly."""

    def pack(middle: float) -> list[Member]:
        relu = {**SHARED, "activation": "relu"}
        chosen: Method = {"hypernetwork": Hypernetwork(widths=(5,), **relu)}.get(method, METHODS[method])
        rates = (0.002, middle, 0.004)
        return [(approximation(chosen, SGD(lr=lr), steps=300), seed) for seed, lr in enumerate(rates)]

    healthy, broken = finish(pack(0.003)).outcomes(), finish(pack(1e25)).outcomes()
    assert [outcome.status for outcome in healthy] == ["finished"] * 3
    assert [outcome.status for outcome in broken] == ["finished", "diverged", "finished"]
    for i in (0, 2):
        assert_same(broken[i], healthy[i], 0)
    found = re.search(r"at step (\d+) of 300", broken[1].reason)
    assert found is not None
    assert 1 <= int(found.group(1)) <= 300
    assert broken[1].metrics == {}
    assert all(math.isfinite(value) for value in broken[1].curves["train_loss"][1])


def test_an_all_diverged_pack_ends_early() -> None:
    """A pack of hopeless members stops long before its last step and says at which step each was lost."""
    members: list[Member] = [
        (approximation(METHODS["monolithic"], SGD(lr=1e30), steps=20_000), seed) for seed in range(2)
    ]
    run = finish(members)
    assert run.step < 1000
    assert {outcome.status for outcome in run.outcomes()} == {"diverged"}


class Scripted(Objective):
    """An objective whose losses are written down; the gradient is the member's row of ``slopes``."""

    def __init__(self, losses: Sequence[Sequence[float]], slopes: Sequence[float]) -> None:
        self.losses = torch.tensor(losses, dtype=torch.float64)
        self.slopes = torch.tensor(slopes, dtype=torch.float64)

    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return the written loss of every member at ``step``."""
        moving = (params * self.slopes[:, None]).sum(dim=-1)
        return moving - moving.detach() + self.losses[:, step]

    def select(self, members: Sequence[int]) -> Scripted:
        """Return the script of some members."""
        return Scripted(self.losses[list(members)].tolist(), self.slopes[list(members)].tolist())

    def metrics(self, params: Tensor, members: Sequence[int]) -> dict[str, Tensor]:
        """Return one metric that is defined and one that is not."""
        return {"defined": params[:, 0], "undefined": torch.full((len(params),), math.nan)}


def scripted_run(losses: Sequence[Sequence[float]], slopes: Sequence[float], lr: float = 1.0) -> TrainingRun:
    """Train on written losses with SGD, from zero."""
    params = torch.zeros((len(losses), 2), dtype=torch.float64)
    run = TrainingRun(Scripted(losses, slopes), params, [SGD(lr=lr) for _ in losses], len(losses[0]))
    while not run.advance(60.0):
        pass
    return run


def test_divergence_is_reported_at_its_first_step() -> None:
    """The 1-based step of the first loss that is not finite counts, whatever follows."""
    run = scripted_run([[1, 1, math.inf, 1, math.nan], [1, 1, 1, 1, 1], [math.nan, 1, 1, 1, 1]], [1, 1, 1])
    outcomes = run.outcomes()
    assert [outcome.status for outcome in outcomes] == ["diverged", "finished", "diverged"]
    assert "at step 3 of 5" in outcomes[0].reason
    assert "at step 1 of 5" in outcomes[2].reason
    assert outcomes[1].metrics == {"defined": -5.0}


def test_a_passing_divergence_has_the_same_outcome_in_every_pack() -> None:
    """A loss that was infinite once and is finite again: the curve ends there, however long pack-mates train on."""
    lost, sound = [1.0] * 400, [1.0] * 400
    lost[9] = math.inf
    (alone,) = scripted_run([lost], [1]).outcomes()
    together = scripted_run([sound, lost, sound, sound, sound], [1] * 5).outcomes()
    assert together[1] == alone
    assert alone.status == "diverged"
    assert max(alone.curves["train_loss"][0]) < 10


def test_parameters_lost_in_the_last_step_are_a_divergence() -> None:
    """A last update that makes the parameters infinite ends as diverged although every loss was finite."""
    outcomes = scripted_run([[1.0], [1.0]], [1e308, 1.0], lr=100.0).outcomes()
    assert [outcome.status for outcome in outcomes] == ["diverged", "finished"]
    assert "step 1 of 1" in outcomes[0].reason


# --- the loss curve --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [1, 2, 5, 39, 40, 1000, 20_000])
def test_curve_steps_are_log_spaced_and_end_at_the_last_step(num_steps: int) -> None:
    """Steps rise from 1 to num_steps, at most 41 of them, each within rounding of a geometric sequence."""
    steps = curve_steps(num_steps)
    assert steps[0] == 1
    assert steps[-1] == num_steps
    assert steps == sorted(set(steps))
    assert len(steps) <= 41
    ratio = num_steps ** (1 / 39)
    for step in steps:
        nearest = min((num_steps ** (k / 39) for k in range(40)), key=lambda exact: abs(exact - step))
        assert abs(nearest - step) <= 0.5 + 1e-6 * num_steps
    assert all(later <= ratio * (earlier + 0.5) + 0.5 + 1e-6 for earlier, later in itertools.pairwise(steps))


def test_curve_is_the_mean_loss_since_the_last_recorded_step() -> None:
    """Losses 0, 1, 2, ... give the mean of each stretch between recorded steps, member by member."""
    losses = [[float(step) for step in range(200)], [10.0] * 200]
    run = scripted_run(losses, [0, 0])
    steps, values = run.outcomes()[0].curves["train_loss"]
    assert steps == curve_steps(200)
    for earlier, later, value in zip([0, *steps], steps, values, strict=False):
        stretch = range(int(earlier), int(later))
        assert value == pytest.approx(sum(stretch) / len(stretch))
    assert set(run.outcomes()[1].curves["train_loss"][1]) == {10.0}


def test_training_lowers_the_loss() -> None:
    """A small network learns a one-level target: the last loss is far below the first."""
    rule = Adam(lr=0.02, schedule=Cosine())
    setting = approximation(Monolithic(primary_widths=(16,), activation="tanh", bias="hidden"), rule, steps=400)
    values = finish([(setting, 0)]).outcomes()[0].curves["train_loss"][1]
    assert values[-1] < 0.3 * values[0]


# --- interruption ----------------------------------------------------------------------------------------------

INTERRUPTED: dict[str, list[Member]] = {
    "adam": mixed_pack("adam-decay", METHODS["hypernetwork"], 3, steps=200),
    "sgd": mixed_pack("sgd-momentum", METHODS["per-instance"], 3, steps=200),
    "constant": [(approximation(METHODS["embedding"], SGD(lr=0.01, schedule=Constant()), steps=200), 0)],
    "sample": [
        (
            Approximation(
                method=METHODS["monolithic"],
                target=InnerProduct(x_dim=3, conditioning_dim=2),
                points=FixedSample(size=60, test_size=40, batch_size=20),
                steps=200,
            ),
            2,
        )
    ],
    "diverged": [(approximation(METHODS["monolithic"], SGD(lr=lr), steps=200), 0) for lr in (0.01, 1e30)],
    "generation": [(Generation(accuracy_weight=1, generator=WeightGenerator(widths=(6,)), steps=300), 1)],
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_restored_run_ends_with_the_same_bits(name: str) -> None:
    """A run saved in the middle with torch.save, loaded with weights_only and finished elsewhere, ends the same."""
    members = INTERRUPTED[name]
    whole = finish(members)
    first: Any = members[0][0].start(members, "cpu")
    while first.step < 40:
        assert not first.advance(0.0)
    assert first.step < first.num_steps
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second: Any = members[0][0].start(members, "cpu")
    second.restore(torch.load(file, weights_only=True))
    assert second.step == first.step
    while not second.advance(60.0):
        pass
    assert second.params.numpy().tobytes() == whole.params.numpy().tobytes()
    assert second.outcomes() == whole.outcomes()


def test_a_slice_of_no_time_still_makes_progress() -> None:
    """Advancing by 0 seconds takes a few steps and says that the run is not over."""
    run: Any = approximation(METHODS["monolithic"], Adam(lr=0.01), steps=100).start(
        [(approximation(METHODS["monolithic"], Adam(lr=0.01), steps=100), 0)], "cpu"
    )
    assert not run.advance(0.0)
    assert 0 < run.step < 100
