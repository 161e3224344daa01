"""Tests of what every stage of least squares keeps: independence of pack-mates, slices, interruptions, never worse."""

from __future__ import annotations

import pytest
import torch

from hyperscale import KnotBalance, Knots, LpContinuation, OuterLP, VarPro
from hyperscale.errors import StudyError
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.monolithic import Monolithic
from hyperscale.networks.encoders import HatEncoder
from hyperscale.training.stages import Stage
from tests.grid_fits import GRID, METHODS, bumps, finish, make_fit, mean_squares, run_stages

STAGES: dict[str, Stage] = {
    "Knots": Knots(),
    "VarPro": VarPro(iterations=8),
    "LpContinuation": LpContinuation(powers=(2, 8), iterations=5),
    "KnotBalance": KnotBalance(rounds=4),
    "OuterLP": OuterLP(),
}
CASES = [
    (method, stage)
    for method in METHODS
    for stage in STAGES
    if stage != "Knots" and (stage != "KnotBalance" or method == "PerInstance")
]


@pytest.mark.parametrize("method", METHODS)
def test_a_member_is_the_same_bits_in_every_pack(method: str) -> None:
    """A chain gives one member the same parameters alone, and among four others in another order."""
    chain = [stage for name, stage in STAGES.items() if name != "KnotBalance" or method == "PerInstance"]
    several = make_fit(METHODS[method], [bumps(seed) for seed in (5, 1, 2, 3, 4)], [9, 1, 2, 3, 4])
    turned = make_fit(METHODS[method], [bumps(seed) for seed in (4, 3, 5, 2)], [4, 3, 9, 2])
    alone = make_fit(METHODS[method], [bumps(5)], [9])
    for fit in (several, turned, alone):
        run_stages(fit, *chain)
    assert torch.equal(several.params[0], alone.params[0])
    assert torch.equal(turned.params[2], alone.params[0])
    assert torch.equal(turned.params[0], several.params[4])


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_an_interrupted_run_ends_in_the_same_bits(method: str, stage: str) -> None:
    """Two iterations, a new run on the saved parameters, `restore`, and the rest: the same as in one go."""
    targets, seeds = [bumps(1), bumps(2)], [3, 4]
    straight, broken = (make_fit(METHODS[method], targets, seeds) for _ in range(2))
    for fit in (straight, broken):
        run_stages(fit, Knots())
    (whole,) = run_stages(straight, STAGES[stage])
    first = STAGES[stage].start(broken)
    for _ in range(2):
        first.advance(0.0)
    resumed = make_fit(METHODS[method], targets, seeds)
    resumed.params.copy_(broken.params)
    second = STAGES[stage].start(resumed)
    second.restore(first.state())
    finish(second, 0.0)
    assert torch.equal(resumed.params, straight.params)
    assert torch.equal(second.losses(), whole.losses())


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_no_stage_makes_what_it_lowers_worse(method: str, stage: str) -> None:
    """From a random start and from placed knots: the mean square (VarPro) or the largest error never rises."""
    for start in ([], [Knots(), VarPro(iterations=3)]):
        fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1])
        run_stages(fit, *start)
        before = mean_squares(fit) if stage == "VarPro" else fit.sup_errors()
        given = fit.params.clone()
        run_stages(fit, STAGES[stage])
        after = mean_squares(fit) if stage == "VarPro" else fit.sup_errors()
        if method == "PerInstance":  # improves the integral, and the largest error with the kinks in it
            assert (after <= 1.02 * before).all()
        else:
            assert (after <= before * (1 + 1e-12)).all()
        assert not torch.equal(given, fit.params) or stage in ("OuterLP", "KnotBalance", "LpContinuation")


@pytest.mark.parametrize("stage", STAGES)
def test_methods_a_stage_cannot_work_on_are_refused(stage: str) -> None:
    """A generated network with hidden layers, and a table of several x, are named with what to do instead."""
    dims = make_fit(METHODS["Monolithic"], [bumps(1)], [0]).dims
    with pytest.raises(StudyError, match=r"Hypernetwork|PerInstance"):
        STAGES[stage].check(Hypernetwork(primary_widths=(7,), bias="all", widths=(8,)), dims)
    with pytest.raises(StudyError):
        STAGES[stage].check(Monolithic(primary_widths=()), dims)
    if stage != "KnotBalance":
        wide = Embedding(primary_widths=(4,), embedding_dim=200, encoder=HatEncoder(knots=99))
        with pytest.raises(StudyError, match=r"19812|below the last layer"):
            STAGES[stage].check(wide, dims)


@pytest.mark.parametrize("method", METHODS)
def test_costs_are_positive_and_grow_with_the_grid(method: str) -> None:
    """The plan's operations and bytes are positive, and larger on a larger grid."""
    dims = make_fit(METHODS[method], [bumps(1)], [0]).dims
    larger = type(GRID)(x_points=2 * GRID.x_points, instances=GRID.instances)
    for stage in STAGES.values():
        if isinstance(stage, KnotBalance) and method != "PerInstance":
            continue
        costs = [
            (stage.flops(METHODS[method], dims, g), stage.memory_bytes(METHODS[method], dims, g))
            for g in (GRID, larger)
        ]
        assert 0 < costs[0][0] < costs[1][0]
        assert 0 < costs[0][1] < costs[1][1]
