"""Gradient descent on the whole grid, by any update rule: ``Descent(optimizer=Adam(lr=1e-3), steps=2000)``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from hyperscale.errors import StudyError, brief, check_integer
from hyperscale.methods.method import Dims, Method
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.grid_losses import GridLoss, pass_bytes, pass_flops
from hyperscale.training.losses import curve_steps
from hyperscale.training.optimizers import Adam, Optimizer
from hyperscale.training.stages import Stage, StageRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Descent(Stage):
    """``steps`` steps of ``optimizer`` on the mean squared error over the whole grid."""

    keeps_constraints: ClassVar[bool] = True

    optimizer: Optimizer = field(default_factory=lambda: Adam(lr=1e-3))
    steps: int = 2000

    def __post_init__(self) -> None:
        """Check the rule and the number of steps."""
        if not isinstance(self.optimizer, Optimizer):
            raise StudyError(
                f"Descent.optimizer is {brief(self.optimizer)}; allowed: an Optimizer such as Adam(lr=1e-3)."
            )
        check_integer("Descent.steps", self.steps, 1)

    @property
    def num_steps(self) -> int:
        """The rule's steps."""
        return self.steps

    @property
    def label(self) -> str:
        """The rule's name."""
        return type(self.optimizer).__name__

    def start(self, fit: GridFit) -> StageRun:
        """Start the rule on every member."""
        return _DescentRun(self, fit)

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return both passes and the update of every step."""
        return self.steps * (pass_flops(method, dims, where) + 12.0 * method.num_params_trained(dims))

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the batch, its activations, the gradient and the rule's buffers."""
        buffers = 8 * method.num_params_trained(dims) * self.optimizer.num_buffers
        return pass_bytes(method, dims, where) + buffers


class _DescentRun:
    def __init__(self, stage: Descent, fit: GridFit) -> None:
        self.stage, self.fit, self.steps_taken = stage, fit, 0
        self._loss = GridLoss(fit, fit.params)
        rules = [stage.optimizer] * fit.num_members
        self._rule = stage.optimizer.start(rules, fit.params, self._loss.gradient, [stage.steps] * fit.num_members)
        self._last = torch.zeros(fit.num_members, dtype=fit.params.dtype, device=fit.params.device)
        self._looks: list[Tensor] = []
        self._looked_at = curve_steps(stage.steps)

    def advance(self, deadline: float) -> bool:
        """Take steps until the deadline, one at least."""
        with torch.no_grad():
            while self.steps_taken < self.stage.steps:
                self._take_step()
                if time.monotonic() > deadline:
                    break
        return self.steps_taken >= self.stage.steps

    def _take_step(self) -> None:
        fit, networks = self.fit, self.fit.num_networks
        self._loss.differentiate()
        self._last = self._loss.mean_squares.view(-1, networks).mean(dim=1)
        if networks > 1:  # the loss of `Approximation`: the mean over all of a member's networks
            self._loss.gradient.div_(networks)
        self._rule.update(self.steps_taken)
        if fit.projection is not None:
            fit.params.copy_(fit.project(fit.params))
        self.steps_taken += 1
        if self._looked_at[len(self._looks)] == self.steps_taken:
            self._looks.append(self._last)

    def curve(self) -> tuple[list[int], Tensor]:
        """Return the steps looked at and the mean squared errors before them, [looks, members]."""
        return self._looked_at[: len(self._looks)], torch.stack(self._looks)

    def losses(self) -> Tensor:
        """Return the mean squared errors before the last step."""
        return self._last

    def state(self) -> dict[str, Any]:
        """Return the number of steps taken, the rule's buffers and the curve so far."""
        return {
            "step": self.steps_taken,
            "buffers": {name: buffer.clone() for name, buffer in self._rule.buffers.items()},
            "last": self._last.clone(),
            "looks": [look.clone() for look in self._looks],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        device = self.fit.params.device
        self.steps_taken = int(state["step"])
        self._rule.restore(state["buffers"])
        self._last = state["last"].to(device)
        self._looks = [look.to(device) for look in state["looks"]]
