"""Tests of `hyperscale.training.optimizers` against torch's, member by member in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.identity import canonical, canonical_text
from hyperscale.training.optimizers import SGD, Adam, Optimizer
from hyperscale.training.schedules import Cosine, Exponential

STEPS, SIZE = 80, 7
GRADIENTS = torch.randn((STEPS, 1, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gradient_at(params: Tensor, step: int) -> Tensor:
    """Return a gradient that differs by step and by row; it contracts, so that rounding does not grow."""
    return params + 3 * GRADIENTS[step].expand_as(params)


def start_values(members: int) -> Tensor:
    """Return different starting points, one row per member."""
    return torch.randn((members, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def packed(members: Sequence[Optimizer], steps: int = STEPS, num_steps: Sequence[int] | None = None) -> Tensor:
    """Run the packed rule and return the parameters after every step, [steps, members, SIZE]."""
    params = start_values(len(members))
    gradient = torch.empty_like(params)
    rule = members[0].start(members, params, gradient, num_steps or [steps] * len(members))
    trace = []
    for step in range(steps):
        gradient.copy_(gradient_at(params, step))
        rule.update(step)
        trace.append(params.clone())
    return torch.stack(trace)


def one_by_one(members: Sequence[Optimizer], make: Callable[[Any, Any], torch.optim.Optimizer]) -> Tensor:
    """Run torch's optimiser for one member after the other."""
    rows = []
    for row, member in enumerate(members):
        weights = torch.nn.Parameter(start_values(len(members))[row].clone())
        optimizer = make([weights], member)
        trace = []
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = member.lr * member.schedule.factor(step, STEPS)
            weights.grad = gradient_at(weights.detach()[None], step)[0]
            optimizer.step()
            trace.append(weights.detach().clone())
        rows.append(torch.stack(trace))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("schedule", [None, Cosine(final=0.1), Exponential(rate=0.97)])
@pytest.mark.parametrize(
    ("momenta", "decays"),
    [((0.0,) * 3, (0.0,) * 3), ((0.9, 0.5, 0.99), (0.0,) * 3), ((0.9, 0.3, 0.0), (0.1, 0.0, 0.01))],
)
def test_sgd_equals_torchs(momenta: tuple[float, ...], decays: tuple[float, ...], schedule: Any) -> None:
    """Packed SGD with momentum and weight decay follows torch.optim.SGD for each member, to 1e-12."""
    extra = {} if schedule is None else {"schedule": schedule}
    members = [
        SGD(lr=lr, momentum=momentum, weight_decay=decay, **extra)
        for lr, momentum, decay in zip((1e-3, 3e-3, 1e-2), momenta, decays, strict=True)
    ]
    reference = one_by_one(
        members, lambda p, m: torch.optim.SGD(p, lr=m.lr, momentum=m.momentum, weight_decay=m.weight_decay)
    )
    torch.testing.assert_close(packed(members), reference, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("schedule", [None, Cosine(), Exponential(rate=0.97)])
@pytest.mark.parametrize("decays", [(0.0,) * 3, (0.1, 0.0, 0.5)])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
def test_adam_equals_torchs(betas: tuple[float, float], decays: tuple[float, ...], schedule: Any) -> None:
    """Packed Adam with decoupled weight decay follows torch.optim.AdamW for each member, to 1e-12."""
    extra = {} if schedule is None else {"schedule": schedule}
    members = [
        Adam(lr=lr, weight_decay=decay, beta1=betas[0], beta2=betas[1], **extra)
        for lr, decay in zip((1e-3, 3e-2, 1e-1), decays, strict=True)
    ]
    reference = one_by_one(
        members, lambda p, m: torch.optim.AdamW(p, lr=m.lr, betas=betas, eps=m.eps, weight_decay=m.weight_decay)
    )
    torch.testing.assert_close(packed(members), reference, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_saved_buffers_continue_the_same_path(kind: Any) -> None:
    """Buffers taken up by a new packed optimiser in the middle give the same bits."""
    members = [kind(lr=1e-2, weight_decay=0.1, **({"momentum": 0.9} if kind is SGD else {})) for _ in range(2)]
    params = start_values(2)
    gradient = torch.empty_like(params)
    rule = members[0].start(members, params, gradient, [20, 20])
    for step in range(20):
        if step == 10:
            saved = {name: tensor.clone() for name, tensor in rule.buffers.items()}
            rule = members[0].start(members, params, gradient, [20, 20])
            rule.restore(saved)
        gradient.copy_(gradient_at(params, step))
        rule.update(step)
    assert torch.equal(params, packed(members, 20)[-1])


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_every_member_keeps_its_own_schedule_and_length(kind: Any) -> None:
    """Members with other schedules and numbers of steps in one pack step as each would alone, bit for bit."""
    members = [
        kind(lr=1e-2, schedule=Cosine()),
        kind(lr=3e-2),
        kind(lr=1e-2, schedule=Exponential(rate=0.9)),
        kind(lr=1e-2, schedule=Cosine()),
    ]
    lengths = [80, 80, 40, 70]
    together = packed(members, num_steps=lengths)
    for row, (member, length) in enumerate(zip(members, lengths, strict=True)):
        params, gradient = start_values(4)[row : row + 1].clone(), torch.empty(1, SIZE, dtype=torch.float64)
        rule = member.start([member], params, gradient, [length])
        for step in range(length):
            gradient.copy_(gradient_at(params, step))
            rule.update(step)
        assert torch.equal(params[0], together[length - 1, row])


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize(("members", "size"), [(3, 100_000), (5, 30_000), (40, 7000)])
def test_large_tensors_are_stepped_in_blocks_without_a_trace(kind: Any, members: int, size: int) -> None:
    """Blocks of rows and columns change no bit: each member steps as it does in a pack of its own."""
    rules = [kind(lr=1e-2 * (1 + row), weight_decay=0.1) for row in range(members)]
    start = torch.randn((members, size), generator=torch.Generator().manual_seed(2))
    slope = torch.randn((members, size), generator=torch.Generator().manual_seed(3))
    params, gradient = start.clone(), slope.clone()
    rules[0].start(rules, params, gradient, [10] * members).update(0)
    assert not torch.equal(params, start)
    for row in (0, members - 1):
        alone = start[row : row + 1].clone()
        rules[row].start(rules[row : row + 1], alone, slope[row : row + 1].clone(), [10]).update(0)
        assert torch.equal(alone[0], params[row])


def test_zero_gradient_of_one_member_leaves_it_in_place() -> None:
    """A member without gradient does not move, whatever its pack-mates do."""
    members = [Adam(lr=0.1), Adam(lr=0.1)]
    params = start_values(2)
    before = params.clone()
    gradient = torch.ones_like(params)
    gradient[0] = 0
    members[0].start(members, params, gradient, [1, 1]).update(0)
    assert torch.equal(params[0], before[0])
    torch.testing.assert_close(params[1], before[1] - 0.1)


def test_programs_differ_where_the_update_rule_differs() -> None:
    """Rate, schedule, weight decay and the amount of momentum may vary within a pack; the rest may not."""

    def key(optimizer: Optimizer) -> str:
        return canonical_text(canonical(optimizer.program()))

    assert key(Adam(lr=1)) == key(Adam(lr=2, weight_decay=0.1)) == key(Adam(lr=1, schedule=Cosine(final=0.1)))
    assert key(SGD(lr=1, momentum=0.5)) == key(SGD(lr=2, momentum=0.9))
    different = [
        Adam(lr=1),
        Adam(lr=1, beta1=0.8),
        Adam(lr=1, beta2=0.99),
        Adam(lr=1, eps=1e-7),
        SGD(lr=1),
        SGD(lr=1, momentum=0.1),
    ]
    assert len({key(optimizer) for optimizer in different}) == len(different)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Adam, {"lr": 0}, "Adam.lr"),
        (Adam, {"lr": float("inf")}, "Adam.lr"),
        (Adam, {"lr": "0.1"}, "Adam.lr"),
        (Adam, {"lr": True}, "Adam.lr"),
        (Adam, {"lr": 1, "weight_decay": -1}, "Adam.weight_decay"),
        (Adam, {"lr": 1, "beta1": 1}, "Adam.beta1"),
        (Adam, {"lr": 1, "beta2": 1.5}, "Adam.beta2"),
        (Adam, {"lr": 1, "beta1": -0.1}, "Adam.beta1"),
        (Adam, {"lr": 1, "eps": 0}, "Adam.eps"),
        (SGD, {"lr": -1}, "SGD.lr"),
        (SGD, {"lr": 1, "momentum": -0.5}, "SGD.momentum"),
        (SGD, {"lr": 1, "schedule": "cosine"}, "SGD.schedule"),
    ],
)
def test_bad_fields_are_named(kind: Any, fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        kind(**fields)
    assert named in str(caught.value)
