"""Scaling studies of hypernetworks: the vocabulary of study files.

The names below are loaded on first use, so that ``import hyperscale`` (and ``hyperscale --help``) stays fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# A trial's last bits must not depend on its place in a pack: MKL's strict mode makes matrix products independent of
# how their rows are aligned in memory (and costs nothing measurable). MKL reads this at its first use.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

_HOME = {
    "ActivatedEmbedding": "hyperscale.methods.activated_embedding",
    "Adam": "hyperscale.training.optimizers",
    "Approximation": "hyperscale.settings.approximation",
    "BestApproximation": "hyperscale.settings.best_approximation",
    "BumpFamily": "hyperscale.targets.bump_family",
    "Calibration": "hyperscale.claims",
    "Ceiling": "hyperscale.claims",
    "Constant": "hyperscale.training.schedules",
    "Constraints": "hyperscale.training.constraints",
    "Convergence": "hyperscale.claims",
    "Cosine": "hyperscale.training.schedules",
    "Descent": "hyperscale.training.descent",
    "Embedding": "hyperscale.methods.embedding",
    "Exponential": "hyperscale.training.schedules",
    "Factor": "hyperscale.claims",
    "FixedSample": "hyperscale.targets.target",
    "FourierEncoder": "hyperscale.networks.encoders",
    "FreshPoints": "hyperscale.targets.target",
    "GaussianMixture": "hyperscale.targets.gaussian_mixture",
    "Generation": "hyperscale.settings.generation",
    "HatEncoder": "hyperscale.networks.encoders",
    "Hypernetwork": "hyperscale.methods.hypernetwork",
    "InnerProduct": "hyperscale.targets.inner_product",
    "KnotBalance": "hyperscale.training.knot_balance",
    "Knots": "hyperscale.training.knots",
    "LBFGS": "hyperscale.training.lbfgs",
    "LipschitzQuotient": "hyperscale.settings.lipschitz",
    "LpContinuation": "hyperscale.training.lp_continuation",
    "Monolithic": "hyperscale.methods.monolithic",
    "Monotone": "hyperscale.claims",
    "Ordering": "hyperscale.claims",
    "OuterLP": "hyperscale.training.outer_lp",
    "PerInstance": "hyperscale.methods.per_instance",
    "SGD": "hyperscale.training.optimizers",
    "ScalingRate": "hyperscale.claims",
    "Separation": "hyperscale.claims",
    "SobolevBall": "hyperscale.targets.sobolev_ball",
    "Stages": "hyperscale.training.stages",
    "Structured": "hyperscale.targets.structured",
    "Study": "hyperscale.study",
    "Tilted": "hyperscale.targets.classical",
    "TrainingGrid": "hyperscale.training.grid_fit",
    "VarPro": "hyperscale.training.variable_projection",
    "WeightGenerator": "hyperscale.methods.weight_generator",
    "WidthExponent": "hyperscale.claims",
    "load_study": "hyperscale.study",
}

__all__ = [
    "LBFGS",
    "SGD",
    "ActivatedEmbedding",
    "Adam",
    "Approximation",
    "BestApproximation",
    "BumpFamily",
    "Calibration",
    "Ceiling",
    "Constant",
    "Constraints",
    "Convergence",
    "Cosine",
    "Descent",
    "Embedding",
    "Exponential",
    "Factor",
    "FixedSample",
    "FourierEncoder",
    "FreshPoints",
    "GaussianMixture",
    "Generation",
    "HatEncoder",
    "Hypernetwork",
    "InnerProduct",
    "KnotBalance",
    "Knots",
    "LipschitzQuotient",
    "LpContinuation",
    "Monolithic",
    "Monotone",
    "Ordering",
    "OuterLP",
    "PerInstance",
    "ScalingRate",
    "Separation",
    "SobolevBall",
    "Stages",
    "Structured",
    "Study",
    "Tilted",
    "TrainingGrid",
    "VarPro",
    "WeightGenerator",
    "WidthExponent",
    "load_study",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'hyperscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


if TYPE_CHECKING:
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
    from hyperscale.methods.activated_embedding import ActivatedEmbedding
    from hyperscale.methods.embedding import Embedding
    from hyperscale.methods.hypernetwork import Hypernetwork
    from hyperscale.methods.monolithic import Monolithic
    from hyperscale.methods.per_instance import PerInstance
    from hyperscale.methods.weight_generator import WeightGenerator
    from hyperscale.networks.encoders import FourierEncoder, HatEncoder
    from hyperscale.settings.approximation import Approximation
    from hyperscale.settings.best_approximation import BestApproximation
    from hyperscale.settings.generation import Generation
    from hyperscale.settings.lipschitz import LipschitzQuotient
    from hyperscale.study import Study, load_study
    from hyperscale.targets.bump_family import BumpFamily
    from hyperscale.targets.classical import Tilted
    from hyperscale.targets.gaussian_mixture import GaussianMixture
    from hyperscale.targets.inner_product import InnerProduct
    from hyperscale.targets.sobolev_ball import SobolevBall
    from hyperscale.targets.structured import Structured
    from hyperscale.targets.target import FixedSample, FreshPoints
    from hyperscale.training.constraints import Constraints
    from hyperscale.training.descent import Descent
    from hyperscale.training.grid_fit import TrainingGrid
    from hyperscale.training.knot_balance import KnotBalance
    from hyperscale.training.knots import Knots
    from hyperscale.training.lbfgs import LBFGS
    from hyperscale.training.lp_continuation import LpContinuation
    from hyperscale.training.optimizers import SGD, Adam
    from hyperscale.training.outer_lp import OuterLP
    from hyperscale.training.schedules import Constant, Cosine, Exponential
    from hyperscale.training.stages import Stages
    from hyperscale.training.variable_projection import VarPro
