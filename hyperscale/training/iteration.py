"""What iterative stages share: damping and acceptance for every problem, slices of time, saving and restoring."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperscale.training.grid_fit import GridFit
from hyperscale.training.splines import Array

_FIRST_DAMPING, _LEAST_DAMPING, _LARGEST_DAMPING = 1e-2, 1e-10, 1e12
_RELATIVE_GAIN = 1e-10
_PATIENCE = 3


class Damping:
    """Levenberg-Marquardt's damping of every problem, and which problems are still at work.

    An accepted step divides the damping by 4, a refused one multiplies it by 4 (and by 8, 16, ... as refusals follow
    each other). A problem stops when the damping is past 1e12 or when three accepted steps in a row gained less than
    1e-10 (or what the stage says) of the objective each.
    """

    def __init__(self, problems: int) -> None:
        self.damping = np.full(problems, _FIRST_DAMPING)
        self.refusals = np.zeros(problems)
        self.small = np.zeros(problems)
        self.active = np.ones(problems, dtype=bool)

    def reset(self) -> None:
        """Put every problem back to work, as for a new objective."""
        self.__init__(len(self.damping))  # type: ignore[misc]

    def update(
        self, problems: NDArray[np.int64], before: Array, after: Array, least_gain: float = _RELATIVE_GAIN
    ) -> NDArray[np.bool_]:
        """Return which of the steps of ``problems`` are taken: those that lower the objective (never a NaN).

        ``least_gain`` is the relative gain that still counts as one.
        """
        with np.errstate(invalid="ignore"):
            accept = after < before
            small = accept & (before - after <= least_gain * before)
        refusals = np.where(accept, 0.0, self.refusals[problems] + 1)
        factor = np.where(accept, 0.25, 2.0 ** np.minimum(refusals + 1, 10))
        damping = self.damping[problems] * factor
        self.small[problems] = np.where(small, self.small[problems] + 1, np.where(accept, 0, self.small[problems]))
        self.damping[problems] = np.maximum(damping, _LEAST_DAMPING)
        self.refusals[problems] = refusals
        self.active[problems] = (damping <= _LARGEST_DAMPING) & (self.small[problems] < _PATIENCE)
        return np.asarray(accept)

    def state(self) -> dict[str, Tensor]:
        """Return the arrays as tensors."""
        return {name: torch.from_numpy(value.copy()) for name, value in vars(self).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up saved arrays."""
        for name, value in state.items():
            setattr(self, name, value.cpu().numpy().copy())


class IteratedRun(ABC):
    """A `StageRun` of phases of at most ``limit`` iterations; its state is ``arrays`` and the damping."""

    def __init__(self, fit: GridFit, problems: int, limit: int, num_phases: int = 1) -> None:
        self.fit, self.limit, self.num_phases = fit, limit, num_phases
        self.iteration, self.phase = 0, 0
        self.damping = Damping(problems)
        self.arrays: dict[str, Array] = {}

    def advance(self, deadline: float) -> bool:
        """Iterate until the deadline, at least once; write the parameters; return True once all is done."""
        while not self.is_done:
            self.step()
            self.iteration += 1
            if self.iteration >= self.limit or not self.damping.active.any():
                self.iteration, self.phase = 0, self.phase + 1
                self.damping.reset()
            if time.monotonic() >= deadline:
                break
        self.write()
        return self.is_done

    @property
    def num_steps(self) -> int:
        """How many iterations there are at most, in all phases."""
        return self.limit * self.num_phases

    @property
    def steps_taken(self) -> int:
        """How many of them are over: those taken, and those that an early end of a phase has saved."""
        return self.phase * self.limit + self.iteration

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase >= self.num_phases

    @abstractmethod
    def step(self) -> None:
        """Make one iteration on the problems that are at work."""

    @abstractmethod
    def write(self) -> None:
        """Put what was reached into the fit's parameters."""

    def state(self) -> dict[str, Any]:
        """Return the place in the phases, the arrays and the damping."""
        arrays = {name: torch.from_numpy(value.copy()) for name, value in self.arrays.items()}
        place = (self.phase, self.iteration)
        return {"place": place, "arrays": arrays, "damping": self.damping.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        self.phase, self.iteration = state["place"]
        self.arrays = {name: value.cpu().numpy().copy() for name, value in state["arrays"].items()}
        self.damping.restore(state["damping"])
