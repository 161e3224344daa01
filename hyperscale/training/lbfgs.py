"""L-BFGS for many fits at once, every network with its own history and line search."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hyperscale.errors import StudyError, brief, check_integer
from hyperscale.methods.method import Dims, Method
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.grid_losses import GridLoss, pass_bytes, pass_flops, whole_power
from hyperscale.training.losses import curve_steps
from hyperscale.training.stages import Stage, StageRun

_DECREASE, _CURVATURE = 1e-4, 0.9
_MAX_TRIES = 25
_MAX_POWER = 64
_STALLED_DECREASE, _MAX_STALLED = 1e-13, 3
_LEAST_COSINE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class LBFGS(Stage):
    """At most ``iterations`` steps of limited-memory BFGS on ``mean |h - y|^power`` over the whole grid.

    The two-loop recursion over the last ``history`` pairs (Nocedal & Wright, Numerical Optimization, alg. 7.4) gives
    the direction; bracketing and bisection find a step that meets the weak Wolfe conditions, which also serves
    where the loss has kinks (Lewis & Overton, Nonsmooth optimization via quasi-Newton methods, 2013, alg. 2.6).
    Each of `PerInstance`'s networks is minimised by itself. A network ends after ``iterations``, after
    ``num_steps`` evaluations, or where its loss no longer falls.
    """

    keeps_constraints: ClassVar[bool] = True

    iterations: int = 200
    history: int = 20
    power: int = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_integer("LBFGS.iterations", self.iterations, 1)
        check_integer("LBFGS.history", self.history, 1)
        check_integer("LBFGS.power", self.power, 2)
        if self.power % 2 or self.power > _MAX_POWER:
            raise StudyError(f"LBFGS.power is {brief(self.power)}; allowed: an even number from 2 to {_MAX_POWER}.")

    @property
    def num_steps(self) -> int:
        """The evaluations of loss and gradient that a network may take: some more than its iterations."""
        return 20 + math.ceil(1.5 * self.iterations)

    @property
    def label(self) -> str:
        """The name, with the power where that is not 2."""
        return "LBFGS" if self.power == 2 else f"LBFGS{self.power}"

    def start(self, fit: GridFit) -> StageRun:
        """Start on every network."""
        return _LBFGSRun(self, fit)

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return both passes and the recursion at every evaluation."""
        recursion = 8.0 * self.history * method.num_params_trained(dims)
        return self.num_steps * (pass_flops(method, dims, where) + recursion)

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return a pass, the history and the vectors at work."""
        return pass_bytes(method, dims, where) + 8 * (2 * self.history + 10) * method.num_params_trained(dims)


class _LBFGSRun:
    """All networks evaluate their own trial points together: one may take a step while another shortens its own.

    Tensors are per network: [networks] numbers, [networks, size] vectors, [networks, history, size] pairs. Sums go over
    a row alone and products are elementwise, so no network's bits depend on the others.
    """

    def __init__(self, stage: LBFGS, fit: GridFit) -> None:
        self.stage, self.fit, self.steps_taken = stage, fit, 0
        networks = fit.num_members * fit.num_networks
        self._point = fit.params.clone()
        self._loss = GridLoss(fit, self._point, stage.power)
        self.base = fit.params.view(networks, -1)
        size = self.base.shape[1]
        like: dict[str, Any] = {"dtype": fit.params.dtype, "device": fit.params.device}
        self.numbers = {
            name: torch.full((networks,), value, **like)
            for name, value in (("loss", math.inf), ("mean_square", math.nan), ("gamma", 1.0), ("length", 0.0),
                                ("low", 0.0), ("high", math.inf))
        }  # fmt: skip
        self.counts = {
            name: torch.zeros(networks, dtype=torch.int64, device=fit.params.device)
            for name in ("pairs", "tries", "iterations", "stalled", "ended")
        }
        self.vectors = {name: torch.zeros(networks, size, **like) for name in ("gradient", "direction")}
        shape = (networks, stage.history, size)
        self.pairs = {name: torch.zeros(shape, **like) for name in ("moves", "turns")}
        self.pairs["curvature"] = torch.ones(shape[:2], **like)
        self._looks: list[Tensor] = []
        self._looked_at = curve_steps(stage.num_steps)

    @property
    def _running(self) -> Tensor:
        return self.counts["ended"] == 0

    def advance(self, deadline: float) -> bool:
        """Evaluate until the deadline, once at least."""
        with torch.no_grad():
            while not self._done:
                self._evaluate()
                if time.monotonic() > deadline:
                    break
        return self._done

    @property
    def _done(self) -> bool:
        return self.steps_taken >= self.stage.num_steps or (self.steps_taken > 0 and not bool(self._running.any()))

    def _evaluate(self) -> None:
        """Evaluate every network's trial point and decide what it does next."""
        first = self.steps_taken == 0
        if first:
            self._point.copy_(self.fit.project(self.fit.params))
        losses = self._loss.differentiate(rescale=first)
        gradient = self._loss.gradient.view_as(self.base)
        if first:
            accepted = self._running
            self._accept(accepted, losses, gradient)
            unusable = ~(losses.isfinite() & gradient.isfinite().all(dim=1))
            self.counts["ended"][unusable] = 1
        else:
            accepted = self._judge(losses, gradient)
            self._remember(accepted, gradient)
            self._accept(accepted, losses, gradient)
            self._end(accepted)
        self._choose_directions(accepted & self._running)
        self._set_out()
        self.steps_taken += 1
        if self._looked_at[len(self._looks)] == self.steps_taken:
            running = self._running.view(-1, self.fit.num_networks).any(dim=1)
            self._looks.append(torch.where(running, self._per_member(self.numbers["mean_square"]), math.nan))

    def _judge(self, losses: Tensor, gradient: Tensor) -> Tensor:
        """Return who takes the step, bool [networks]; the others' brackets become smaller, or longer."""
        numbers, tries, running = self.numbers, self.counts["tries"], self._running
        move = self._point.view_as(self.base) - self.base
        before, after = (self.vectors["gradient"] * move).sum(dim=1), (gradient * move).sum(dim=1)
        falls = (losses <= numbers["loss"] + _DECREASE * before.clamp(max=0.0)) & (losses < numbers["loss"])
        falls &= after.isfinite()
        tries += 1
        accepted = running & falls & ((after >= _CURVATURE * before) | (tries >= _MAX_TRIES))
        longer, shorter = running & falls & ~accepted, running & ~falls
        length, low, high = (numbers[name] for name in ("length", "low", "high"))
        torch.where(longer, length, low, out=low)
        torch.where(shorter, length, high, out=high)
        # The parabola through both losses and the slope says where to look first; after that, halving.
        parabola = -0.5 * before * length / (losses - numbers["loss"] - before)
        parabola = torch.where(parabola.isfinite(), parabola, 0.0).clamp(0.1 * high, 0.5 * high)
        between = torch.where(low > 0, 0.5 * (low + high), parabola)
        next_length = torch.where(high.isinf(), 2.0 * length, between)
        failed = shorter & (tries >= _MAX_TRIES)
        next_length = torch.where(failed, low, next_length)
        torch.where(longer | shorter, next_length, length, out=length)
        self._start_over(failed & (low == 0))
        return accepted

    def _start_over(self, failed: Tensor) -> None:
        """Send networks that found no lower point down the gradient; those that came from there have ended."""
        self.counts["ended"][failed & (self.counts["pairs"] == 0)] = 1
        again = failed & (self.counts["pairs"] > 0)
        if bool(again.any()):
            self._go_down(again)

    def _go_down(self, rows: Tensor) -> None:
        """Forget the pairs of some networks and take the gradient's direction, not far at first."""
        gradient = self.vectors["gradient"]
        length = (1.0 / gradient.abs().sum(dim=1)).clamp(max=1.0)
        self.counts["pairs"][rows] = 0
        self._begin_search(rows, -gradient, torch.where(length.isfinite(), length, 1.0))

    def _begin_search(self, rows: Tensor, direction: Tensor, length: Tensor) -> None:
        numbers = self.numbers
        numbers["length"] = torch.where(rows, length, numbers["length"])
        numbers["low"] = torch.where(rows, 0.0, numbers["low"])
        numbers["high"] = torch.where(rows, math.inf, numbers["high"])
        self.counts["tries"][rows] = 0
        self.vectors["direction"] = torch.where(rows.unsqueeze(1), direction, self.vectors["direction"])

    def _remember(self, accepted: Tensor, gradient: Tensor) -> None:
        """Keep the pair (move, change of gradient) of those who take a step, where it has positive curvature."""
        move = self._point.view_as(self.base) - self.base
        turn = gradient - self.vectors["gradient"]
        product, moved, turned = (move * turn).sum(dim=1), move.square().sum(dim=1), turn.square().sum(dim=1)
        usable = accepted & (product > _LEAST_COSINE * (moved * turned).sqrt())
        rows = usable.nonzero().squeeze(1)
        slots = self.counts["pairs"][rows] % self.stage.history
        self.pairs["moves"][rows, slots] = move[rows]
        self.pairs["turns"][rows, slots] = turn[rows]
        self.pairs["curvature"][rows, slots] = product[rows]
        self.numbers["gamma"] = torch.where(usable, product / turned, self.numbers["gamma"])
        self.counts["pairs"] += usable

    def _accept(self, accepted: Tensor, losses: Tensor, gradient: Tensor) -> None:
        numbers, rows = self.numbers, accepted.unsqueeze(1)
        small = numbers["loss"] - losses <= _STALLED_DECREASE * losses
        stalled = torch.where(small, self.counts["stalled"] + 1, 0)
        self.counts["stalled"] = torch.where(accepted, stalled, self.counts["stalled"])
        self.base.copy_(torch.where(rows, self._point.view_as(self.base), self.base))
        numbers["loss"] = torch.where(accepted, losses, numbers["loss"])
        numbers["mean_square"] = torch.where(accepted, self._loss.mean_squares, numbers["mean_square"])
        self.vectors["gradient"] = torch.where(rows, gradient, self.vectors["gradient"])

    def _end(self, accepted: Tensor) -> None:
        self.counts["iterations"] += accepted
        over = (self.counts["iterations"] >= self.stage.iterations) | (self.counts["stalled"] >= _MAX_STALLED)
        self.counts["ended"][accepted & over] = 1

    def _choose_directions(self, chosen: Tensor) -> None:
        """Give those who took a step the direction of the two-loop recursion."""
        rows = chosen.nonzero().squeeze(1)
        if not len(rows):
            return
        gradient, count = self.vectors["gradient"][rows], self.counts["pairs"][rows]
        depth = min(self.stage.history, int(count.max()))
        direction, kept = gradient.clone(), []
        for back in range(depth):
            slots = (count - 1 - back) % self.stage.history
            move, turn, curvature = (self.pairs[name][rows, slots] for name in ("moves", "turns", "curvature"))
            weight = torch.where(back < count, (move * direction).sum(dim=1) / curvature, 0.0)
            direction -= weight.unsqueeze(1) * turn
            kept.append((move, turn, curvature, weight, back < count))
        direction *= torch.where(count > 0, self.numbers["gamma"][rows], 1.0).unsqueeze(1)
        for move, turn, curvature, weight, exists in reversed(kept):
            other = (turn * direction).sum(dim=1) / curvature
            direction += torch.where(exists, weight - other, 0.0).unsqueeze(1) * move
        slope = (gradient * direction).sum(dim=1)
        whole = torch.zeros_like(self.base)
        whole[rows] = -direction
        self._begin_search(chosen, whole, torch.ones_like(self.numbers["length"]))
        upward = torch.zeros_like(chosen)
        upward[rows] = ~(slope > 0) | (count == 0)
        self._go_down(upward)

    def _set_out(self) -> None:
        """Put every running network's next trial point in place, and the others' where they ended."""
        length = torch.where(self._running, self.numbers["length"], 0.0).unsqueeze(1)
        self._point.view_as(self.base).copy_(self.base + length * self.vectors["direction"])
        if self.fit.projection is not None:
            self._point.copy_(self.fit.project(self._point))

    def _per_member(self, values: Tensor) -> Tensor:
        return values.view(-1, self.fit.num_networks).mean(dim=1)

    def curve(self) -> tuple[list[int], Tensor]:
        """Return the evaluations looked at and the mean squared errors then, [looks, members]."""
        return self._looked_at[: len(self._looks)], torch.stack(self._looks)

    def losses(self) -> Tensor:
        """Return every member's mean of abs(h - y) ** power."""
        return self._per_member(self.numbers["loss"] * whole_power(self._loss.scale, self.stage.power))

    def state(self) -> dict[str, Any]:
        """Return every tensor of the run."""
        groups = {name: getattr(self, name) for name in ("numbers", "counts", "vectors", "pairs")}
        return {
            "step": self.steps_taken,
            "point": self._point.clone(),
            "scale": self._loss.scale.clone(),
            "looks": [look.clone() for look in self._looks],
            **{name: {key: tensor.clone() for key, tensor in group.items()} for name, group in groups.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        device = self.fit.params.device
        self.steps_taken = int(state["step"])
        self._point.copy_(state["point"])
        self._loss.scale = state["scale"].to(device)
        self._looks = [look.to(device) for look in state["looks"]]
        for name in ("numbers", "counts", "vectors", "pairs"):
            setattr(self, name, {key: tensor.to(device, copy=True) for key, tensor in state[name].items()})
