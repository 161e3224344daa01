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
    "Adam": "hyperscale.training.optimizers",
    "Approximation": "hyperscale.settings.approximation",
    "BumpFamily": "hyperscale.targets.bump_family",
    "Calibration": "hyperscale.claims",
    "Ceiling": "hyperscale.claims",
    "Constant": "hyperscale.training.schedules",
    "Convergence": "hyperscale.claims",
    "Cosine": "hyperscale.training.schedules",
    "Embedding": "hyperscale.methods.embedding",
    "Exponential": "hyperscale.training.schedules",
    "Factor": "hyperscale.claims",
    "FixedSample": "hyperscale.targets.target",
    "FreshPoints": "hyperscale.targets.target",
    "GaussianMixture": "hyperscale.targets.gaussian_mixture",
    "Generation": "hyperscale.settings.generation",
    "HatEncoder": "hyperscale.networks.encoders",
    "Hypernetwork": "hyperscale.methods.hypernetwork",
    "InnerProduct": "hyperscale.targets.inner_product",
    "Monolithic": "hyperscale.methods.monolithic",
    "Monotone": "hyperscale.claims",
    "Ordering": "hyperscale.claims",
    "PerInstance": "hyperscale.methods.per_instance",
    "SGD": "hyperscale.training.optimizers",
    "ScalingRate": "hyperscale.claims",
    "Separation": "hyperscale.claims",
    "SobolevBall": "hyperscale.targets.sobolev_ball",
    "Structured": "hyperscale.targets.structured",
    "Study": "hyperscale.study",
    "WeightGenerator": "hyperscale.methods.weight_generator",
    "WidthExponent": "hyperscale.claims",
    "load_study": "hyperscale.study",
}

__all__ = [
    "SGD",
    "Adam",
    "Approximation",
    "BumpFamily",
    "Calibration",
    "Ceiling",
    "Constant",
    "Convergence",
    "Cosine",
    "Embedding",
    "Exponential",
    "Factor",
    "FixedSample",
    "FreshPoints",
    "GaussianMixture",
    "Generation",
    "HatEncoder",
    "Hypernetwork",
    "InnerProduct",
    "Monolithic",
    "Monotone",
    "Ordering",
    "PerInstance",
    "ScalingRate",
    "Separation",
    "SobolevBall",
    "Structured",
    "Study",
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
    from hyperscale.methods.embedding import Embedding
    from hyperscale.methods.hypernetwork import Hypernetwork
    from hyperscale.methods.monolithic import Monolithic
    from hyperscale.methods.per_instance import PerInstance
    from hyperscale.methods.weight_generator import WeightGenerator
    from hyperscale.networks.encoders import HatEncoder
    from hyperscale.settings.approximation import Approximation
    from hyperscale.settings.generation import Generation
    from hyperscale.study import Study, load_study
    from hyperscale.targets.bump_family import BumpFamily
    from hyperscale.targets.gaussian_mixture import GaussianMixture
    from hyperscale.targets.inner_product import InnerProduct
    from hyperscale.targets.sobolev_ball import SobolevBall
    from hyperscale.targets.structured import Structured
    from hyperscale.targets.target import FixedSample, FreshPoints
    from hyperscale.training.optimizers import SGD, Adam
    from hyperscale.training.schedules import Constant, Cosine, Exponential
