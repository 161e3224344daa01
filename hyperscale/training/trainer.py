"""Training a pack: one program, many members, results that do not depend on pack-mates."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hyperscale.settings.setting import Outcome
from hyperscale.training.optimizers import Optimizer

_NEVER = 2**62
_CURVE_POINTS = 40


class Objective(Protocol):
    """What a pack minimises, every member its own."""

    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return the members' losses at 0-based ``step``, [members]; member i depends on row i of params only."""

    def metrics(self, params: Tensor) -> dict[str, Tensor]:
        """Return final metrics by name, each [members]; a non-finite entry means the metric is not defined."""

    def curves(self, params: Tensor) -> list[dict[str, list[list[float]]]]:
        """Return further curves of each member."""


def curve_steps(num_steps: int) -> list[int]:
    """Return the log-spaced steps (1-based, last included) at which the loss curve is recorded."""
    ratio = math.log(max(num_steps, 1)) / (_CURVE_POINTS - 1)
    return sorted({round(math.exp(ratio * index)) for index in range(_CURVE_POINTS)} | {num_steps})


class TrainingRun:
    """Gradient training of a pack (a `PackRun`): ``params`` [members, num_params] under an objective.

    A member whose loss, or final parameters, are not finite has diverged, at the step where the loss shows it; its
    numbers stay its own, so pack-mates are untouched bit for bit. The curve is the mean batch loss since the last
    recorded step.
    """

    def __init__(self, objective: Objective, params: Tensor, optimizers: Sequence[Optimizer], num_steps: int) -> None:
        self.objective = objective
        self.params = params
        self.schedule = optimizers[0].schedule
        self.optimizer = optimizers[0].start(optimizers, self.params)
        self.num_steps = num_steps
        self.step = 0
        members = params.shape[0]
        self._diverged_at = torch.full((members,), _NEVER, dtype=torch.int64, device=params.device)
        self._loss_sum = torch.zeros(members, dtype=torch.float64, device=params.device)
        self._summed = 0
        self._curve_steps = curve_steps(num_steps)
        self._curve: list[Tensor] = []

    def advance(self, max_seconds: float) -> bool:
        """Train for about ``max_seconds``; True once all steps are done or every member has diverged."""
        deadline = time.monotonic() + max_seconds
        while self.step < self.num_steps:
            self._train_step()
            if self.step % 16 == 0:
                if time.monotonic() > deadline:
                    break
                if self.step % 256 == 0 and bool((self._diverged_at < _NEVER).all()):
                    return True
        return self.step >= self.num_steps

    def _train_step(self) -> None:
        leaf = self.params.detach().requires_grad_()
        loss = self.objective.loss(leaf, self.step)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        loss = loss.detach()
        finite = loss.isfinite()
        self._diverged_at = torch.where(finite | (self._diverged_at < _NEVER), self._diverged_at, self.step + 1)
        factor = self.schedule.factor(self.step, self.num_steps)
        self.optimizer.update(self.params, gradient, self.step, factor)
        self._loss_sum += loss
        self._summed += 1
        self.step += 1
        if self.step == self._curve_steps[len(self._curve)]:
            self._curve.append(self._loss_sum / self._summed)
            self._loss_sum = torch.zeros_like(self._loss_sum)
            self._summed = 0

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers that `restore` takes up; loadable with ``weights_only=True``."""
        return {
            "step": self.step,
            "params": self.params.clone(),
            "buffers": {name: buffer.clone() for name, buffer in self.optimizer.buffers.items()},
            "diverged_at": self._diverged_at.clone(),
            "loss_sum": self._loss_sum.clone(),
            "summed": self._summed,
            "curve": list(self._curve),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: the same steps give the same bits, since batches are keyed by step."""
        device = self.params.device
        self.step = int(state["step"])
        self.params = state["params"].to(device, copy=True)
        self.optimizer.restore(state["buffers"])
        self._diverged_at = state["diverged_at"].to(device)
        self._loss_sum = state["loss_sum"].to(device, copy=True)
        self._summed = int(state["summed"])
        self._curve = [point.to(device) for point in state["curve"]]

    def outcomes(self) -> list[Outcome]:
        """Return every member's status, metrics and curves."""
        with torch.no_grad():
            metrics = {name: value.tolist() for name, value in self.objective.metrics(self.params).items()}
            curves = self.objective.curves(self.params)
        steps = [float(step) for step in self._curve_steps[: len(self._curve)]]
        losses = torch.stack(self._curve, dim=1).tolist() if self._curve else [[] for _ in curves]
        unsound = ~self.params.isfinite().all(dim=-1)
        diverged_at = torch.where(unsound & (self._diverged_at == _NEVER), self.step, self._diverged_at).tolist()
        return [
            self._outcome(diverged_at[i], {k: v[i] for k, v in metrics.items()}, steps, losses[i], curves[i])
            for i in range(len(curves))
        ]

    def _outcome(
        self,
        diverged_at: int,
        metrics: Mapping[str, float],
        steps: list[float],
        losses: list[float],
        curves: Mapping[str, list[list[float]]],
    ) -> Outcome:
        pairs = [(step, loss) for step, loss in zip(steps, losses, strict=True) if math.isfinite(loss)]
        curve = [[step for step, _ in pairs], [loss for _, loss in pairs]]
        if diverged_at < _NEVER:
            reason = f"loss or parameters stopped being finite at step {diverged_at} of {self.num_steps}"
            return Outcome(status="diverged", reason=reason, curves={"train_loss": curve})
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return Outcome(status="finished", metrics=finite, curves={"train_loss": curve, **curves})
