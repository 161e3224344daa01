"""A pack of grid fits at work, stage after stage: what `BestApproximation` starts."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hyperscale.settings.setting import Outcome
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.stages import StageRun, Stages


class StagedRun:
    """Runs a chain of stages on a pack of grid fits (a `PackRun`), then evaluates its members one by one.

    Every network (a member, or one of `PerInstance`'s) keeps the end of that stage at which its largest error on the
    grid was smallest, so that a later stage cannot make it worse. A member whose parameters or losses are not finite at
    a stage's end has diverged; it goes back to where the stage began, so that no later stage stumbles over it, and its
    pack-mates go on untouched. ``evaluate`` takes a member's number and its parameters [1, num_params].
    """

    def __init__(self, fit: GridFit, stages: Stages, evaluate: Callable[[int, Tensor], Mapping[str, float]]) -> None:
        self.fit, self.stages, self.num_steps = fit, stages.stages, stages.num_steps
        self._evaluate_member = evaluate
        self._starts = list(itertools.accumulate((stage.num_steps for stage in self.stages), initial=0))
        self.step = 0
        self._stage, self._steps_before, self._slices = 0, 0, 0
        self._run: StageRun | None = None
        self._begun_at = fit.params.clone()
        self._best = fit.params.clone()
        self._best_errors = torch.full((fit.num_members, fit.num_networks), math.inf, dtype=fit.params.dtype)
        self._best_errors = self._best_errors.to(fit.params.device)
        self._diverged: dict[int, str] = {}
        self._losses: list[list[list[float]]] = [[[], []] for _ in fit.seeds]
        self._ends: list[list[list[float]]] = [[[], []] for _ in fit.seeds]
        self._outcomes: dict[int, Outcome] = {}

    @property
    def params(self) -> Tensor:
        """What the members keep, [members, num_params]."""
        return self._best

    def advance(self, max_seconds: float) -> bool:
        """Work for about ``max_seconds``; True once every member is through the chain and evaluated."""
        deadline = time.monotonic() + max_seconds
        while self._stage < len(self.stages):
            if self._run is None:
                self._begun_at = self.fit.params.clone()
                self._run = self.stages[self._stage].start(self.fit)
            counts = hasattr(self._run, "steps_taken")
            has_ended = self._run.advance(deadline if counts else 0.0)
            self._slices += 1
            self._count_steps()
            if has_ended:
                self._end_stage(self._run)
            if time.monotonic() > deadline:
                return False
        for member in range(self.fit.num_members):
            if member not in self._outcomes:
                self._outcomes[member] = self._evaluate(member)
                if time.monotonic() > deadline:
                    break
        return len(self._outcomes) == self.fit.num_members

    def _count_steps(self) -> None:
        """Say how many steps were taken and how many there will be, now that more or fewer than expected were."""
        taken, left = 0, 0
        if self._run is not None:
            taken = int(getattr(self._run, "steps_taken", self._slices))
            left = max(self._steps_of(self._run) - taken, 1)
        self.step = self._steps_before + taken
        self.num_steps = self.step + left + sum(stage.num_steps for stage in self.stages[self._stage + 1 :])

    def _steps_of(self, run: StageRun) -> int:
        """Return how many steps the present stage's run takes at most; some know only when they have the data."""
        return int(getattr(run, "num_steps", self.stages[self._stage].num_steps))

    def measure_step(self, slice_s: float, synchronize: Callable[[], None]) -> float:
        """Return the seconds of a step of the chain, on average: every stage begins, and works for a slice.

        Stages differ by orders of magnitude, so a few steps of the first say nothing. The run is spent afterwards.
        """
        total = 0.0
        for number, stage in enumerate(self.stages):
            self._stage = number
            begun = time.perf_counter()
            run = stage.start(self.fit)
            synchronize()
            started, slices, has_ended = time.perf_counter(), 0, False
            while not has_ended and time.perf_counter() - started < slice_s:
                has_ended = run.advance(time.monotonic() + slice_s if hasattr(run, "steps_taken") else 0.0)
                synchronize()
                slices += 1
            seconds = time.perf_counter() - started
            taken = max(int(getattr(run, "steps_taken", slices)), 1)
            total += started - begun + seconds * (1.0 if has_ended else max(self._steps_of(run) / taken, 1.0))
        return total / self._starts[-1]

    def _end_stage(self, run: StageRun) -> None:
        """Look at what every member came to, and keep it where it is the best so far."""
        fit, stage = self.fit, self.stages[self._stage]
        finite = fit.params.isfinite().all(dim=1) & run.losses().isfinite()
        self._take_curve(run)
        fit.params.copy_(torch.where(finite.unsqueeze(1), fit.params, self._begun_at))
        errors, squares = fit.errors()
        finite &= errors.isfinite().all(dim=1)
        fit.params.copy_(torch.where(finite.unsqueeze(1), fit.params, self._begun_at))
        better = finite.unsqueeze(1) & (errors < self._best_errors)
        shape = (fit.num_members, fit.num_networks, -1)
        kept = torch.where(better.unsqueeze(-1), fit.params.view(shape), self._best.view(shape))
        self._best, self._best_errors = kept.view_as(fit.params), torch.where(better, errors, self._best_errors)
        at = float(self._starts[self._stage + 1])
        sup_errors, mean_squares = fit.kept(errors), squares.mean(dim=1)
        for member, is_finite in enumerate(finite.tolist()):
            if member in self._diverged:
                continue
            if not is_finite:
                self._diverged[member] = (
                    f"parameters or losses stopped being finite in stage {self._stage + 1} of {len(self.stages)} "
                    f"({stage.label})"
                )
                continue
            _append(self._losses[member], at, float(mean_squares[member]))
            _append(self._ends[member], at, float(sup_errors[member]))
        self._stage, self._run = self._stage + 1, None
        self._steps_before, self._slices = self.step, 0
        if len(self._diverged) == fit.num_members:
            self._stage = len(self.stages)
        self.num_steps = self.step + sum(stage.num_steps for stage in self.stages[self._stage :])

    def _take_curve(self, run: StageRun) -> None:
        """Take the stage's own curve, if it has one, up to the last step of the stage, where all stages are seen."""
        curve = getattr(run, "curve", None)
        if curve is None:
            return
        start, stop = self._starts[self._stage : self._stage + 2]
        steps, values = curve()
        for member, column in enumerate(values.T.tolist()):
            if member in self._diverged:
                continue
            for step, value in zip(steps, column, strict=True):
                if math.isfinite(value) and start + step < stop:
                    _append(self._losses[member], float(start + step), value)

    def state(self) -> dict[str, Any]:
        """Return tensors and plain data that `restore` takes up; loadable with ``weights_only=True``."""
        return {
            "stage": self._stage,
            "steps_before": self._steps_before,
            "slices": self._slices,
            "params": self.fit.params.clone(),
            "begun_at": self._begun_at.clone(),
            "best": self._best.clone(),
            "best_errors": self._best_errors.clone(),
            "diverged": {str(member): reason for member, reason in self._diverged.items()},
            "losses": [[list(part) for part in curve] for curve in self._losses],
            "ends": [[list(part) for part in curve] for curve in self._ends],
            "run": None if self._run is None else self._run.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; evaluations that were done are done again."""
        device = self.fit.params.device
        self._stage, self._slices = int(state["stage"]), int(state["slices"])
        self.step = self._steps_before = int(state["steps_before"])
        self.fit.params.copy_(state["params"])
        for name in ("begun_at", "best", "best_errors"):
            setattr(self, f"_{name}", state[name].to(device, copy=True))
        self._diverged = {int(member): str(reason) for member, reason in state["diverged"].items()}
        self._losses = [[list(part) for part in curve] for curve in state["losses"]]
        self._ends = [[list(part) for part in curve] for curve in state["ends"]]
        self._outcomes = {}
        self._run = None
        if state["run"] is not None:
            self._run = self.stages[self._stage].start(self.fit)
            self.fit.params.copy_(state["params"])
            self._run.restore(state["run"])
            self._count_steps()

    def outcomes(self) -> list[Outcome]:
        """Return every member's status, metrics and curves."""
        return [self._outcomes[member] for member in range(self.fit.num_members)]

    def _evaluate(self, member: int) -> Outcome:
        """Return one member's outcome; alone, so that not even the last bit depends on the pack."""
        curves = {"train_loss": self._losses[member], "stage_sup_error": self._ends[member]}
        curves = {name: curve for name, curve in curves.items() if curve[0]}
        if member in self._diverged:
            return Outcome(status="diverged", reason=self._diverged[member], curves=curves)
        with torch.no_grad():
            metrics = self._evaluate_member(member, self._best[member][None])
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return Outcome(status="finished", metrics=finite, curves=curves)


def _append(curve: list[list[float]], step: float, value: float) -> None:
    curve[0].append(step)
    curve[1].append(value)
