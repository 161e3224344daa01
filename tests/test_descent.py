"""Tests of `hyperscale.training.descent` against torch's own optimisers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperscale.errors import StudyError
from hyperscale.methods.method import Method
from hyperscale.training.descent import Descent
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Cosine
from tests.fits import LINEAR, METHODS, assert_restored_bit_for_bit, make_fit, rows_alone, run_stage


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_steps_are_those_of_torch(method: Method, rule: str) -> None:
    """Twenty steps on the mean squared error over the whole grid end where torch's optimiser ends, to 1e-9."""
    stage = Descent(optimizer=Adam(lr=0.01) if rule == "adam" else SGD(lr=0.2), steps=20)
    fit, plain = make_fit(method), make_fit(method)
    run_stage(stage, fit)
    for row in range(3):
        leaf = plain.params[row : row + 1].clone().requires_grad_()
        theirs = torch.optim.Adam([leaf], lr=0.01) if rule == "adam" else torch.optim.SGD([leaf], lr=0.2)
        for _ in range(20):
            theirs.zero_grad()
            (plain.respond(leaf) - plain.y[row : row + 1]).square().mean().backward()  # type: ignore[no-untyped-call]
            theirs.step()
        torch.testing.assert_close(fit.params[row : row + 1], leaf.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_members_do_not_depend_on_pack_mates(method: Method) -> None:
    """Every member of a pack has, bit for bit, the parameters it has alone."""
    stage, seeds = Descent(optimizer=Adam(lr=0.02, weight_decay=0.1), steps=50), (4, 0, 7, 1, 2)
    fit = make_fit(method, seeds)
    run_stage(stage, fit)
    assert torch.equal(fit.params, rows_alone(stage, method, seeds))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_saved_run_goes_on_bit_for_bit(method: Method) -> None:
    """Saved in the middle, loaded without running code and restored on a new fit, the run ends the same."""
    assert_restored_bit_for_bit(Descent(optimizer=Adam(lr=0.01, schedule=Cosine()), steps=40), method, num_slices=17)


def test_a_projection_holds_after_every_step() -> None:
    """With parameters kept at 0 or above none is ever below, and a parameter that wants to be is at 0."""
    fit = make_fit(LINEAR, range(3), projection=lambda params: params.clamp(min=0.0))
    run = Descent(optimizer=Adam(lr=0.05), steps=100).start(fit)
    assert (fit.params >= 0).all()
    while not run.advance(0.0):
        assert (fit.params >= 0).all()
    assert (fit.params == 0).any()


def test_the_curve_is_the_mean_squared_error_at_log_spaced_steps() -> None:
    """The first value is the start's mean squared error, the last that before the last step, and losses() is that."""
    fit = make_fit(METHODS["monolithic"])
    start = fit.residuals().square().mean(dim=(1, 2))
    run = run_stage(Descent(steps=30), fit)
    steps, values = run.curve()
    assert steps[0] == 1
    assert steps[-1] == 30
    torch.testing.assert_close(values[0], start, rtol=1e-12, atol=0)
    assert torch.equal(values[-1], run.losses())


@pytest.mark.parametrize(("fields", "named"), [({"optimizer": 0.1}, "optimizer"), ({"steps": 0}, "steps")])
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError, match=f"Descent.{named}"):
        Descent(**fields)


def test_what_a_stage_says_of_itself() -> None:
    """The label is the rule's name, steps and arithmetic are proportional, buffers count."""
    fit, method = make_fit(LINEAR), METHODS["monolithic"]
    short, long = Descent(steps=10), Descent(steps=100)
    assert (short.label, short.num_steps) == ("Adam", 10)
    assert long.flops(method, fit.dims, fit.where) == pytest.approx(10 * short.flops(method, fit.dims, fit.where))
    plain = Descent(optimizer=SGD(lr=0.1))
    assert plain.memory_bytes(method, fit.dims, fit.where) < short.memory_bytes(method, fit.dims, fit.where)
