"""Chains of optimisers for the approximation regime: ``Stages(Knots(), VarPro(), OuterLP())``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from hyperscale.errors import StudyError, brief
from hyperscale.methods.method import Dims, Method
from hyperscale.training.grid_fit import GridFit, TrainingGrid


class StageRun(Protocol):
    """A stage at work on the ``params`` of a `GridFit`. It can be advanced in slices, saved, and restored bit for bit.

    Row i of the parameters depends on member i alone, whatever other members there are. Beyond what follows a run may
    have ``steps_taken``, of its own ``num_steps`` if it has these, else its stage's, and ``curve()``, the steps at
    which it looked at its members and their mean squared errors there [looks, members], NaN where a member had ended. A
    run that does not count is given deadlines that have passed, and every slice is a step: so it must do a little work
    each time, no more.
    """

    def advance(self, deadline: float) -> bool:
        """Work until about ``deadline`` (`time.monotonic`); return True once every member is through the stage."""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs besides the fit's parameters: tensors and plain data only."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state; the fit's parameters have been restored before."""

    def losses(self) -> Tensor:
        """Return what the stage lowers, one number per member [members], for the loss curve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage(ABC):
    """One optimiser of a chain. Its fields are part of the setting's identity; a subclass is one new file."""

    keeps_constraints: ClassVar[bool] = False
    """Whether the run calls `GridFit.project` on whatever it leaves in the fit's parameters."""

    @abstractmethod
    def start(self, fit: GridFit) -> StageRun:
        """Start on ``fit``; members of a pack share every field of the stage."""

    @abstractmethod
    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about how many floating-point operations one member takes, for the plan."""

    @abstractmethod
    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return about how much one member adds to the peak, beyond parameters and targets."""

    def check(self, method: Method, dims: Dims) -> None:  # noqa: B027
        """Raise `StudyError` where the stage cannot work on the method; by default it can on every one."""

    @property
    def num_steps(self) -> int:
        """How many steps a run takes at most, as far as that is known: for the plan, for probes and for progress."""
        return 1

    @property
    def label(self) -> str:
        """The stage's name in tables."""
        return type(self).__name__


@dataclass(frozen=True, init=False, slots=True)
class Stages:
    """Optimisers one after the other, each starting where the one before ended: ``Stages(Knots(), VarPro())``.

    A stage lowers what it is made for, which need not be the largest error; so of all stages' ends a member keeps the
    one with the smallest largest error on the grid.
    """

    stages: tuple[Stage, ...]

    def __init__(self, *stages: Stage) -> None:
        if not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise StudyError(
                f"Stages{brief(stages)}: allowed: one or more stages, such as Stages(Knots(), VarPro(), OuterLP())."
            )
        object.__setattr__(self, "stages", tuple(stages))

    @property
    def num_steps(self) -> int:
        """The steps of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    def columns(self) -> dict[str, str | int | float]:
        """Return the chain for tables."""
        return {"optimizer": " > ".join(stage.label for stage in self.stages)}
