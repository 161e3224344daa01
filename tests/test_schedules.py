"""Tests of `hyperscale.training.schedules`: closed forms and torch's schedulers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hyperscale.errors import StudyError
from hyperscale.training.schedules import Constant, Cosine, Exponential, Schedule

STEPS = 50


def _torch_rates(make: Any) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    scheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Constant(), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (Cosine(), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS)),
        (Cosine(final=0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.03)),
        (Exponential(rate=0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.9)),
    ],
)
def test_factors_equal_torchs_schedulers(schedule: Schedule, make: Any) -> None:
    """The base rate times the factor is what torch's scheduler gives at every step."""
    rates = [0.3 * schedule.factor(step, STEPS) for step in range(STEPS)]
    assert rates == pytest.approx(_torch_rates(make), rel=1e-12)


def test_closed_forms() -> None:
    """Cosine halves at the middle and would end at ``final``; exponential is rate^t; constant is 1."""
    assert Cosine(final=0.2).factor(0, 10) == 1
    assert Cosine(final=0.2).factor(5, 10) == pytest.approx(0.6)
    assert Cosine(final=0.2).factor(10, 10) == pytest.approx(0.2)
    assert Cosine().factor(3, 10) == pytest.approx(0.5 * (1 + math.cos(0.3 * math.pi)))
    assert Exponential(rate=0.99996).factor(20_000, 20_000) == pytest.approx(math.exp(20_000 * math.log(0.99996)))
    assert {Constant().factor(step, 7) for step in range(7)} == {1.0}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(Cosine, "final", -0.1), (Cosine, "final", "0"), (Exponential, "rate", 0), (Exponential, "rate", float("nan"))],
)
def test_bad_fields_are_named(kind: Any, field: str, value: Any) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError, match=f"{kind.__name__}.{field}"):
        kind(**{field: value})
