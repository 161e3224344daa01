"""Sound objects of every public kind, to be mutated: settings with all their parts, and studies with every claim."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import hyperscale
from hyperscale.claims import (
    Calibration,
    Ceiling,
    Convergence,
    Factor,
    Monotone,
    Ordering,
    ScalingRate,
    Separation,
    WidthExponent,
)
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.best_approximation import BestApproximation
from hyperscale.settings.setting import Setting
from hyperscale.study import Study
from hyperscale.targets.bump_family import BumpFamily
from hyperscale.targets.classical import Tilted
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.structured import Structured
from hyperscale.training.constraints import Constraints
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.knot_balance import KnotBalance
from hyperscale.training.knots import Knots
from hyperscale.training.lbfgs import LBFGS
from hyperscale.training.lp_continuation import LpContinuation
from hyperscale.training.optimizers import Adam
from hyperscale.training.outer_lp import OuterLP
from hyperscale.training.stages import Stages
from hyperscale.training.variable_projection import VarPro
from tests.test_identity import SETTINGS as IDENTITY_SETTINGS

_BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
_EMBEDDING = Embedding(primary_widths=(4,), embedding_dim=2, activation="relu", bias="primary_only", widths=(4,))


def _best(method: Any, *stages: Any, target: Any = _BALL, **fields: Any) -> BestApproximation:
    return BestApproximation(
        method=method,
        target=target,
        optimizer=Stages(*stages),
        grid=TrainingGrid(x_points=17),
        grid_points=17,
        **fields,
    )


SETTINGS: dict[str, Setting] = {
    **IDENTITY_SETTINGS,
    "solvers": _best(
        Monolithic(primary_widths=(4,), bias="hidden"), Knots(), VarPro(), LpContinuation(), OuterLP(), Descent()
    ),
    "balanced": _best(PerInstance(primary_widths=(4,), bias="hidden", num_instances=3), Knots(), KnotBalance()),
    "constrained": _best(
        _EMBEDDING,
        Descent(optimizer=Adam(lr=0.01)),
        LBFGS(),
        constraints=Constraints(max_primary_complexity=2.0, max_conditioning_complexity=2.0, max_first_layer=1.0),
    ),
    "one more neuron": _best(
        Monolithic(primary_widths=(4,), bias="hidden"),
        Knots(),
        target=Tilted(x_dim=1, conditioning_dim=1),
        one_more_neuron=True,
    ),
    "bumps": Approximation(
        method=Monolithic(primary_widths=(4,)), target=BumpFamily(x_dim=1, conditioning_dim=1, cells=4), grid_points=9
    ),
    "structured": Approximation(
        method=PerInstance(primary_widths=(4,), num_instances=2),
        target=Structured(x_dim=1, conditioning_dim=2, levels=2),
        grid_points=9,
    ),
}  # fmt: skip


def _studied(method: Any, target: Any = _BALL) -> Approximation:
    return Approximation(method=method, target=target, grid_points=9, steps=10)


_METHODS = (Hypernetwork(primary_widths=(4,), widths=(4,)), Embedding(primary_widths=(4,), embedding_dim=2))
_TILTED = Tilted(x_dim=1, conditioning_dim=1)
_CLAIMS = (
    ScalingRate(
        method=Hypernetwork,
        bound="match",
        exponent=1.0,
        theorem="Theorem 4",
        conditions=("smooth",),
        resolution=0.01,
        calibration=Calibration(where={"target": "Tilted"}, infimum_constant=1.0, infimum_exponent=2.0),
    ),
    Ordering(metric="sup_error", lower=Hypernetwork, higher=Embedding),
    Monotone(method=Embedding, metric="rmse", along="depth", direction="increasing", each_step=True),
    Separation(faster=Hypernetwork, slower=Embedding, faster_exponent=1.0, slower_exponent=0.5, resolution=0.1),
    Factor(method=Hypernetwork, reference=Embedding, factor=3.0),
    Factor(method=Hypernetwork, reference_column="zero_sup_error", factor=3.0),
    Convergence(method=Embedding, metric="rmse", limit=0.5, along="num_params_primary", where={"depth": 1}),
    WidthExponent(method=Embedding, metric="rmse", exponent=1.0, relative_to="sup_error", along="num_params_primary"),
    Ceiling(method=Embedding, metric="rmse", ceiling="zero_rmse", where={"target": "SobolevBall"}),
)

STUDY = Study(
    name="specimen",
    settings=[*map(_studied, _METHODS), _studied(_METHODS[0], _TILTED)],
    seeds=range(2),
    metrics=("sup_error", "rmse"),
    claims=_CLAIMS,
    mlflow_runs="per_setting",
)


def public_dataclasses() -> dict[str, type]:
    """Return the dataclasses that study files are made of, by name: whatever `hyperscale` exports."""
    named = {name: getattr(hyperscale, name) for name in hyperscale.__all__}
    return {
        name: cls
        for name, cls in named.items()
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and not inspect.isabstract(cls)
    }


def parts(value: Any) -> Iterator[Any]:
    """Yield a dataclass and the dataclasses inside it, at any depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from parts(item)


ROOTS: dict[str, Any] = {**SETTINGS, "study": STUDY}
POOL: list[Any] = list({repr(part): part for root in ROOTS.values() for part in parts(root)}.values())
"""Every distinct part of the specimens: what is put where another kind belongs."""
