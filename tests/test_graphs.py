"""Tests of `hyperscale.training.graphs`: a step on tensors that stay in place is the step itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperscale.training.graphs import StaticStep, graphed
from tests.test_trainer import INTERRUPTED


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_static_step_computes_the_same_bits(name: str) -> None:
    """Forty steps through copied inputs and rates end with the same losses and parameters as forty plain ones."""
    members = INTERRUPTED[name]
    plain: Any = members[0][0].start(members, "cpu")
    static: Any = members[0][0].start(members, "cpu")
    with torch.no_grad():
        step = StaticStep(static.objective, static.optimizer, 0)
        for number in range(40):
            losses = plain.objective.differentiate(number)
            plain.optimizer.update(number)
            assert torch.equal(step.run(number), losses) or not losses.isfinite().all()
    assert static.params.numpy().tobytes() == plain.params.numpy().tobytes()


def test_no_graph_without_cuda() -> None:
    """On a CPU a step is never recorded."""
    members = INTERRUPTED["adam"]
    run: Any = members[0][0].start(members, "cpu")
    assert graphed(run.objective, run.optimizer, 0) is None
