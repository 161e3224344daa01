"""Tests of what spares time and memory on large tables: chunks of I, and rows that stand at the instances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperscale.training import grid_fit, shared_splines
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.variable_projection import VarPro
from tests.fits import METHODS, make_fit, run_stage


def test_rows_that_stand_at_the_instances_need_no_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many instances as knots of I the shortcut ends where the singular value decomposition does."""
    method = METHODS["hypernetwork-table"]
    where = TrainingGrid(x_points=21, instances=4)
    fits = [make_fit(method, range(2), where) for _ in range(2)]
    for fit in fits:
        run_stage(Knots(), fit)
    run_stage(VarPro(iterations=4), fits[0])

    def plain(hats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, singular, right = np.linalg.svd(hats, full_matrices=False)
        return left, right.T / singular

    monkeypatch.setattr(shared_splines, "decompose", plain)
    run_stage(VarPro(iterations=4), fits[1])
    assert torch.allclose(fits[0].respond(fits[0].params), fits[1].respond(fits[1].params), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["hypernetwork-table", "embedding", "monolithic", "per-instance"])
def test_responses_in_chunks_are_those_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values of I at a time give the same numbers, and gradients are of all at once."""
    fit = make_fit(METHODS[kind])
    whole = fit.respond(fit.params)
    monkeypatch.setattr(grid_fit, "_HIDDEN_NUMBERS", 300)
    assert torch.allclose(fit.respond(fit.params), whole, rtol=0, atol=1e-14)
    leaf = fit.params.clone().requires_grad_()
    assert torch.equal(fit.respond(leaf).detach(), whole)
