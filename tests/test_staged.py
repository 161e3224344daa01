"""Tests of `hyperscale.training.staged`: chains of stages, what members keep, and members that break."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.training import staged
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.lbfgs import LBFGS
from hyperscale.training.lp_continuation import LpContinuation
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.outer_lp import OuterLP
from hyperscale.training.staged import StagedRun
from hyperscale.training.stages import Stage, Stages
from hyperscale.training.variable_projection import VarPro
from tests.fits import LINEAR, METHODS, make_fit, saved_and_loaded

CHAIN = Stages(Descent(optimizer=Adam(lr=0.02), steps=30), LBFGS(iterations=20), LBFGS(iterations=20, power=8))
MONOLITHIC = METHODS["monolithic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shift(Stage):
    """Adds to every parameter of the members with the seeds in ``seeds``; says nothing of steps or curves."""

    by: float
    seeds: tuple[int, ...] = (0, 1, 2)

    def start(self, fit: GridFit) -> Any:
        """Return a run of one slice."""
        return _ShiftRun(self, fit)

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return next to nothing."""
        return 1.0

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return nothing."""
        return 0


class _ShiftRun:
    def __init__(self, stage: Shift, fit: GridFit) -> None:
        self.stage, self.fit = stage, fit

    def advance(self, deadline: float) -> bool:
        for row, seed in enumerate(self.fit.seeds):
            if seed in self.stage.seeds:
                self.fit.params[row] += self.stage.by
        return True

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        assert not state

    def losses(self) -> Tensor:
        return torch.zeros(self.fit.num_members)


def start(stages: Stages, method: Method = MONOLITHIC, seeds: Sequence[int] = range(3)) -> StagedRun:
    """Return a run whose "metric" is the first parameter that a member keeps."""
    return StagedRun(make_fit(method, seeds), stages, lambda _, params: {"first": float(params[0, 0])})


def finish(run: StagedRun, seconds: float = 60.0) -> StagedRun:
    """Run to the end in slices of so many seconds."""
    while not run.advance(seconds):
        pass
    return run


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_members_do_not_depend_on_pack_mates(method: Method) -> None:
    """Metrics, curves and kept parameters of every member of a pack are, bit for bit, those it has alone."""
    whole = finish(start(CHAIN, method, (4, 0, 7)))
    for row, seed in enumerate((4, 0, 7)):
        alone = finish(start(CHAIN, method, [seed]))
        assert alone.outcomes() == whole.outcomes()[row : row + 1]
        assert torch.equal(alone.params, whole.params[row : row + 1])


def test_slices_make_no_difference_and_steps_are_counted() -> None:
    """One evaluation at a time or all at once, the outcomes are equal; a slice is a step, as many as were taken."""
    whole, sliced = finish(start(CHAIN)), start(CHAIN)
    assert (sliced.step, sliced.num_steps) == (0, CHAIN.num_steps)
    num_slices, ended = 0, False
    while not ended:
        ended = sliced.advance(0.0)
        num_slices += 1
        assert sliced.step == min(num_slices, sliced.step) <= sliced.num_steps <= CHAIN.num_steps
    assert 30 + 20 + 20 < sliced.step == whole.step == whole.num_steps == sliced.num_steps
    assert sliced.outcomes() == whole.outcomes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Creep(Shift):
    """The shift made in so many parts, one a slice."""

    parts: int

    def start(self, fit: GridFit) -> Any:
        """Return a run of as many slices."""
        return _CreepRun(self, fit)


class _CreepRun(_ShiftRun):
    done = 0

    def advance(self, deadline: float) -> bool:
        self.fit.params += self.stage.by / self.stage.parts  # type: ignore[attr-defined]
        self.done += 1
        return self.done == self.stage.parts  # type: ignore[attr-defined]

    def state(self) -> dict[str, Any]:
        return {"done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.done = int(state["done"])


def test_stages_that_do_not_count_are_counted_by_slices() -> None:
    """A stage of unknown length takes a step a slice, and the number of steps grows with it; saved or not."""
    chain = Stages(Creep(by=0.5, parts=5), LBFGS(iterations=2))
    run = start(chain)
    seen = []
    for _ in range(5):
        assert not run.advance(0.0)
        seen.append((run.step, run.num_steps - LBFGS(iterations=2).num_steps))
    assert seen == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5)]
    half = start(chain)
    for _ in range(3):
        half.advance(0.0)
    resumed = start(chain)
    resumed.restore(saved_and_loaded(half.state()))
    assert (resumed.step, resumed.num_steps) == (half.step, half.num_steps)
    assert finish(resumed).outcomes() == finish(run).outcomes() == finish(start(chain)).outcomes()


@pytest.mark.parametrize("num_slices", [0, 10, 30, 31, 45, 84])
def test_a_saved_run_goes_on_bit_for_bit(num_slices: int) -> None:
    """Saved before, within, between or after stages and taken up by another run, the outcomes are the same."""
    whole, begun = finish(start(CHAIN)), start(CHAIN)
    for _ in range(num_slices):
        begun.advance(0.0)
    state = saved_and_loaded(begun.state())
    finish(begun)
    resumed = start(CHAIN)
    resumed.restore(state)
    assert finish(resumed).outcomes() == whole.outcomes()
    assert torch.equal(resumed.params, whole.params)


def test_the_best_end_is_kept() -> None:
    """A stage that spoils everything changes nothing of what is kept, though later stages start from its end."""
    good = finish(start(CHAIN))
    run = finish(start(Stages(*CHAIN.stages, Shift(by=100.0))))
    assert torch.equal(run.params, good.params)
    assert torch.equal(run.fit.params, good.fit.params + 100.0)
    for outcome, other in zip(run.outcomes(), good.outcomes(), strict=True):
        assert outcome.metrics == other.metrics
        steps, errors = outcome.curves["stage_sup_error"]
        assert steps == [30.0, 80.0, 130.0, 131.0]
        assert errors[:3] == other.curves["stage_sup_error"][1]
        assert errors[3] > 10 * min(errors)
        assert outcome.status == "finished"


def test_per_instance_keeps_the_best_end_of_every_network() -> None:
    """Each network's kept error on the grid is the least of its errors at the stages' ends."""
    method = PerInstance(primary_widths=(5,), bias="hidden", num_instances=4)
    ends: list[Tensor] = []

    run = start(CHAIN, method)
    stage = 0
    while not run.advance(0.0):
        if run.state()["stage"] > stage:
            stage += 1
            ends.append(run.fit.errors()[0])
    kept = make_fit(method)
    kept.params.copy_(run.params)
    assert len(ends) == 3
    assert torch.equal(kept.errors()[0], torch.stack(ends).amin(dim=0))


@pytest.mark.parametrize("by", [math.inf, math.nan, 1e200])
def test_a_member_that_breaks_is_named_and_harms_nobody(by: float) -> None:
    """The broken member diverged, in which stage is said; later stages run, and the others keep their bits."""
    chain = Stages(CHAIN.stages[0], Shift(by=by, seeds=(1,)), *CHAIN.stages[1:])
    broken, healthy = finish(start(chain)), finish(start(Stages(CHAIN.stages[0], Shift(by=0.0), *CHAIN.stages[1:])))
    outcome = broken.outcomes()[1]
    assert outcome.status == "diverged"
    assert "stage 2 of 4 (Shift)" in outcome.reason
    assert not outcome.metrics
    assert outcome.curves["stage_sup_error"][0] == [30.0]
    assert broken.fit.params.isfinite().all()
    for row in (0, 2):
        assert broken.outcomes()[row] == healthy.outcomes()[row]
        assert torch.equal(broken.params[row], healthy.params[row])


def test_descent_that_explodes_is_diverged() -> None:
    """With a learning rate far too large the stage is named, and where all diverged no later stage is run."""
    run = finish(start(Stages(Descent(optimizer=SGD(lr=1e4), steps=200), LBFGS()), LINEAR))
    assert [outcome.status for outcome in run.outcomes()] == ["diverged"] * 3
    assert all("stage 1 of 2 (SGD)" in outcome.reason for outcome in run.outcomes())
    assert run.step == run.num_steps


def test_curves_are_whole_rising_steps_and_end_with_the_training_grids_errors() -> None:
    """The loss curve has rising whole steps, and begins and ends with the grid's mean squared errors there."""
    begin = make_fit(MONOLITHIC).residuals().square().mean(dim=(1, 2))
    run = finish(start(CHAIN))
    expected = run.fit.residuals().square().mean(dim=(1, 2))
    for row, outcome in enumerate(run.outcomes()):
        steps, losses = outcome.curves["train_loss"]
        assert steps == sorted(set(steps))
        assert all(step == int(step) and step > 0 for step in steps)
        assert steps[-1] == CHAIN.num_steps
        assert losses[-1] == pytest.approx(float(expected[row]), rel=1e-12)
        assert losses[0] == pytest.approx(float(begin[row]), rel=1e-12)


@pytest.mark.parametrize("given", [(), (0.1,), (LBFGS(), Adam(lr=0.1))])
def test_a_chain_is_made_of_stages(given: tuple[Any, ...]) -> None:
    """Nothing, a number or an optimiser in place of a stage raises an error that says what is allowed."""
    with pytest.raises(StudyError, match="allowed: one or more stages"):
        Stages(*given)


def test_a_chains_columns_name_its_stages() -> None:
    """The chain in words, and its steps as the sum of its stages'."""
    assert CHAIN.columns() == {"optimizer": "Adam > LBFGS > LBFGS8"}
    assert Stages(Shift(by=1.0), Descent(steps=7)).num_steps == 8


def test_progress_counts_the_steps_of_every_stage() -> None:
    """Iterative stages say how many steps they take, and a chain is through when all are taken or saved."""
    stages = Stages(Knots(), VarPro(iterations=7), LpContinuation(powers=(2, 8), iterations=3), OuterLP())
    assert stages.num_steps == 1 + 7 + 6 + 1
    run = StagedRun(make_fit(METHODS["per-instance"]), stages, lambda member, params: {})
    seen = []
    while not run.advance(0.0):
        seen.append(run.step / run.num_steps)
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert (run.step, run.num_steps) == (15 + 1, 15 + 1)  # 18 linear programs, 16 a step


def test_a_measured_step_is_the_mean_over_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only stages move: 10 steps of 0.25 s and one of 7.5 s are 10 s in 11 steps, after few of them."""
    clock = [0.0]
    module = SimpleNamespace(perf_counter=lambda: clock[0], monotonic=lambda: clock[0])
    monkeypatch.setattr(staged, "time", module)
    calls: list[float] = []

    def advance(self: _ShiftRun, deadline: float) -> bool:
        clock[0] += 0.25 if self.stage.by == 1 else 7.5
        calls.append(self.stage.by)
        return self.stage.by == 2

    monkeypatch.setattr(_ShiftRun, "advance", advance)
    monkeypatch.setattr(Shift, "num_steps", property(lambda self: 10 if self.by == 1 else 1))
    run = StagedRun(make_fit(METHODS["monolithic"]), Stages(Shift(by=1), Shift(by=2)), lambda member, params: {})
    assert run.measure_step(0.5, lambda: None) == pytest.approx(10 / 11, rel=1e-12)
    assert calls == [1, 1, 2]
