"""Evaluation at the end of a pack: what is kept for pack-mates changes no number."""

from __future__ import annotations

from typing import Any

import pytest

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.settings import fitting
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.fitting import ApproximationObjective
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.target import FixedSample
from hyperscale.training.optimizers import Adam
from tests.packs import METHODS, SHARED, Member, approximation, finish


def pack(method: Method, targets: tuple[int, ...], **fields: Any) -> list[Member]:
    """Return one member for each target seed."""
    return [
        (approximation(method, Adam(lr=0.01 * (1 + i)), target_seed=target, steps=5, **fields), i)
        for i, target in enumerate(targets)
    ]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often evaluation points are made anew: the streams' numbers, in order."""
    rows: list[int] = []
    plain = ApproximationObjective._evaluation_batches

    def counting(self: ApproximationObjective, setting: Approximation, row: int) -> Any:
        rows.append(row)
        return plain(self, setting, row)

    monkeypatch.setattr(ApproximationObjective, "_evaluation_batches", counting)
    return rows


PACKS: dict[str, list[Member]] = {
    **{name: pack(method, (0, 0, 1, 0, 1, 1)) for name, method in METHODS.items()},
    "restarts": pack(PerInstance(num_instances=2, restarts=3, **SHARED), (0, 1, 1)),
    "a sample": [
        (
            Approximation(
                method=Hypernetwork(widths=(5,), **SHARED),
                target=InnerProduct(x_dim=3, conditioning_dim=2),
                optimizer=Adam(lr=0.01 * (1 + i)),
                points=FixedSample(size=60, test_size=40, batch_size=20),
                steps=5,
            ),
            i // 2,
        )
        for i in range(4)
    ],
}


@pytest.mark.parametrize("name", PACKS)
def test_what_is_kept_changes_no_metric(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are those of a pack that makes its evaluation points anew for every member, bit for bit."""
    members = PACKS[name]
    kept = finish(members).outcomes()
    monkeypatch.setattr(ApproximationObjective, "_kept_batches", ApproximationObjective._evaluation_batches)
    assert finish(members).outcomes() == kept
    assert len({outcome.metrics["rmse"] for outcome in kept}) == len(members)


def test_pack_mates_of_one_target_share_its_grid(evaluated: list[int]) -> None:
    """The grid and the target's values on it are made once for a run of members with that target, and one is kept."""
    run: Any = finish(pack(METHODS["monolithic"], (7, 7, 7, 8, 8, 7)))
    assert len(evaluated) == 3
    assert len(run.objective._tests) == 1


def test_a_large_grid_is_never_kept(evaluated: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of more numbers than one chunk holds are gone through anew, for memory's sake, with the same metrics."""
    members = pack(METHODS["hypernetwork"], (7, 7, 7))
    numbers = 9 * 9 * 2
    monkeypatch.setattr(fitting, "MAX_EVALUATION_NUMBERS", numbers)
    run: Any = finish(members)
    assert (len(evaluated), len(run.objective._tests)) == (1, 1)
    monkeypatch.setattr(fitting, "MAX_EVALUATION_NUMBERS", numbers - 1)
    run = finish(members)
    assert (len(evaluated), len(run.objective._tests)) == (1 + 3, 0)
