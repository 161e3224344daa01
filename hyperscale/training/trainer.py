"""Training a pack: one program, many members, results that do not depend on pack-mates."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hyperscale.settings.setting import Outcome
from hyperscale.training.graphs import StaticStep, graphed
from hyperscale.training.losses import LossLog
from hyperscale.training.objective import Objective
from hyperscale.training.optimizers import Optimizer

_COMPACTED_PART = 0.25


class TrainingRun:
    """Gradient training of a pack (a `PackRun`): ``params`` [members, num_params] under an objective.

    Members may train for different numbers of steps. A member whose loss, or final parameters, are not finite has
    diverged, at the step where the loss shows it; its numbers stay its own, so pack-mates are untouched bit for bit.
    Members that have ended are masked: their final parameters are kept aside, what their rows do is ignored. Once
    they are a quarter of the rows, the rows are compacted away. The loss curve is the mean batch loss since the
    last recorded step.
    """

    def __init__(
        self, objective: Objective, params: Tensor, optimizers: Sequence[Optimizer], steps: int | Sequence[int]
    ) -> None:
        self.objective, self.optimizers = objective, list(optimizers)
        self.steps = [steps] * len(params) if isinstance(steps, int) else list(steps)
        self.num_steps = max(self.steps)
        self.step = 0
        self.members = list(range(len(params)))
        self._log = LossLog(self.steps, params.device)
        self._final: dict[int, Tensor] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._on_cuda = params.device.type == "cuda"
        self._settle(params)

    def _settle(self, params: Tensor) -> None:
        """Lay out the rows of ``members``; their objective and optimiser start anew."""
        self._graph: StaticStep | Literal[False] | None = None
        self.params = params
        self.gradient = torch.zeros_like(params)
        whole = len(self.members) == len(self.steps)
        self._training = self.objective if whole else self.objective.select(self.members)
        self._training.bind(self.params, self.gradient)
        rules = [self.optimizers[member] for member in self.members]
        steps = [self.steps[member] for member in self.members]
        self.optimizer = rules[0].start(rules, self.params, self.gradient, steps)

    @property
    def active(self) -> list[int]:
        """The members still in training."""
        return [m for m in self.members if m not in self._final and self._log.diverged_at[m] is None]

    def advance(self, max_seconds: float) -> bool:
        """Work for about ``max_seconds``; True once every member is trained, or has diverged, and is evaluated."""
        deadline = time.monotonic() + max_seconds
        while self.active:
            if not self._train_until(min(self.steps[member] for member in self.active), deadline):
                return False
        for member in range(len(self.steps)):
            if member not in self._outcomes:
                self._outcomes[member] = self._evaluate(member)
                if time.monotonic() > deadline:
                    break
        return len(self._outcomes) == len(self.steps)

    def _train_until(self, stop: int, deadline: float) -> bool:
        """Train up to step ``stop``; False where time runs out first."""
        while self.step < stop:
            self._train_step()
            if self._log.just_flushed:
                if not self.active:
                    return True
                self._compact()
            if time.monotonic() > deadline:
                break
        if self.step < stop:
            return False
        self._log.flush(self.members)
        for row, member in enumerate(self.members):
            if self.steps[member] == self.step:
                self._final[member] = self.params[row].clone()
        self._compact()
        return True

    def _train_step(self) -> None:
        with torch.no_grad():
            if self._on_cuda and self._graph is None:
                self._graph = graphed(self._training, self.optimizer, self.step) or False
            if self._graph:
                loss = self._graph.run(self.step)
            else:
                loss = self._training.differentiate(self.step)
                self.optimizer.update(self.step)
            self._log.put(loss, self.members)
        self.step += 1

    def _compact(self) -> None:
        """Drop the rows of ended members once they are a large enough part."""
        active = set(self.active)
        rows = [row for row, member in enumerate(self.members) if member in active]
        if not rows or len(rows) > (1 - _COMPACTED_PART) * len(self.members):
            return
        index = torch.tensor(rows, device=self.params.device)
        buffers = {name: buffer[index] for name, buffer in self.optimizer.buffers.items()}
        self.members = [self.members[row] for row in rows]
        self._settle(self.params[index])
        self.optimizer.restore(buffers)

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers that `restore` takes up; loadable with ``weights_only=True``."""
        self._log.flush(self.members)
        return {
            "step": self.step,
            "members": list(self.members),
            "params": self.params.clone(),
            "buffers": {name: buffer.clone() for name, buffer in self.optimizer.buffers.items()},
            "final": {str(member): params.clone() for member, params in self._final.items()},
            "log": self._log.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: the same steps give the same bits, since batches are keyed by step."""
        device = self.params.device
        self.step = int(state["step"])
        self.members = [int(member) for member in state["members"]]
        self._log.restore(state["log"])
        self._final = {int(member): params.to(device, copy=True) for member, params in state["final"].items()}
        self._settle(state["params"].to(device, copy=True))
        self.optimizer.restore(state["buffers"])

    def restore_part(self, state: Mapping[str, Any], members: Sequence[int]) -> None:
        """Go on from what a larger run had saved, of which ``members`` are this run's, in this run's order."""
        numbers = {member: number for number, member in enumerate(members)}
        row_of = {int(member): row for row, member in enumerate(state["members"])}
        rows, kept = [row_of[m] for m in members if m in row_of], [numbers[m] for m in members if m in row_of]
        if not rows:  # all had ended and were compacted away: some row must stand for one of them, and is ignored
            rows, kept = [0], [0]
        index = torch.tensor(rows, device=state["params"].device)
        final = {str(numbers[int(m)]): params for m, params in state["final"].items() if int(m) in numbers}
        self.restore(
            {
                "step": state["step"],
                "members": kept,
                "params": state["params"][index],
                "buffers": {name: buffer[index.to(buffer.device)] for name, buffer in state["buffers"].items()},
                "final": final,
                "log": LossLog.part(state["log"], members),
            }
        )

    def outcomes(self) -> list[Outcome]:
        """Return every member's status, metrics and curves."""
        return [self._outcomes[member] for member in range(len(self.steps))]

    def _evaluate(self, member: int) -> Outcome:
        """Return one member's outcome; alone, so that not even the last bit depends on the pack."""
        curve = self._log.curve(member)
        diverged_at = self._log.diverged_at[member]
        if diverged_at is None and not bool(self._final[member].isfinite().all()):
            diverged_at = self.steps[member]
        if diverged_at is not None:
            reason = f"loss or parameters stopped being finite at step {diverged_at} of {self.steps[member]}"
            return Outcome(status="diverged", reason=reason, curves={"train_loss": curve})
        params = self._final[member][None]
        with torch.no_grad():
            metrics = {name: float(value) for name, value in self.objective.metrics(params, [member]).items()}
            (curves,) = self.objective.curves(params, [member])
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return Outcome(status="finished", metrics=finite, curves={"train_loss": curve, **curves})
