"""The losses of a pack in training: curves at log-spaced steps, and the step at which a member diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BUFFER_STEPS = 32
_CURVE_POINTS = 40


def curve_steps(num_steps: int) -> list[int]:
    """Return the log-spaced steps (1-based, last included) at which the loss curve is recorded."""
    ratio = math.log(max(num_steps, 1)) / (_CURVE_POINTS - 1)
    return sorted({round(math.exp(ratio * index)) for index in range(_CURVE_POINTS)} | {num_steps})


class LossLog:
    """Takes every step's losses, [rows], on the device, and looks at them now and then on the host.

    Sums are made one step after the other in float64, so that they depend neither on when that is nor on the pack.
    """

    def __init__(self, num_steps: Sequence[int], device: torch.device) -> None:
        self._steps_at = {steps: curve_steps(steps) for steps in set(num_steps)}
        self._num_steps = list(num_steps)
        self._device = device
        self._buffer = torch.empty(0)
        self._filled = 0
        self._seen = 0
        self.diverged_at: list[int | None] = [None] * len(num_steps)
        self._sums = np.zeros(len(num_steps))
        self._counted = [0] * len(num_steps)
        self._curves: list[list[float]] = [[] for _ in num_steps]

    @property
    def just_flushed(self) -> bool:
        """Whether the last `put` filled the buffer, so that `diverged_at` is up to date."""
        return not self._filled

    def put(self, losses: Tensor, members: Sequence[int]) -> None:
        """Take one step's losses, [rows]; ``members`` are the rows' numbers."""
        if self._buffer.shape[1:] != losses.shape:
            assert self._filled == 0
            self._buffer = torch.empty((_BUFFER_STEPS, *losses.shape), dtype=losses.dtype, device=self._device)
        self._buffer[self._filled].copy_(losses)
        self._filled += 1
        if self._filled == _BUFFER_STEPS:
            self.flush(members)

    def flush(self, members: Sequence[int]) -> None:
        """Account for what was taken since the last flush; ``members`` are the rows' numbers."""
        if not self._filled:
            return
        losses = self._buffer[: self._filled].double().cpu().numpy()
        first, self._seen, self._filled = self._seen, self._seen + self._filled, 0
        lost = ~np.isfinite(losses)
        for row in np.flatnonzero(lost.any(axis=0)).tolist():
            member, step = members[row], first + 1 + int(lost[:, row].argmax())
            if self.diverged_at[member] is None and step <= self._num_steps[member]:
                self.diverged_at[member] = step
        for num_steps, points in self._steps_at.items():
            rows = [row for row, member in enumerate(members) if self._num_steps[member] == num_steps]
            if rows and first < num_steps:
                self._add(losses[:, rows], [members[row] for row in rows], first, points)

    def _add(
        self, losses: np.ndarray[Any, np.dtype[np.float64]], members: list[int], first: int, points: list[int]
    ) -> None:
        last = min(first + len(losses), points[-1])
        start = first
        for stop in [point for point in points if first < point < last] + [last]:
            part = np.vstack([self._sums[members], losses[start - first : stop - first]])
            with np.errstate(invalid="ignore", over="ignore"):
                self._sums[members] = np.cumsum(part, axis=0)[-1]
            for member in members:
                self._counted[member] += stop - start
            if stop in points:
                self._record(members)
            start = stop

    def _record(self, members: Sequence[int]) -> None:
        for member in members:
            self._curves[member].append(float(self._sums[member]) / self._counted[member])
            self._sums[member], self._counted[member] = 0.0, 0

    def curve(self, member: int) -> list[list[float]]:
        """Return the member's curve, [steps, mean losses], up to its divergence, however long its row was kept."""
        points = self._steps_at[self._num_steps[member]]
        end = self.diverged_at[member] or math.inf
        known = zip(points, self._curves[member], strict=False)
        pairs = [(float(step), loss) for step, loss in known if step < end and math.isfinite(loss)]
        return [[step for step, _ in pairs], [loss for _, loss in pairs]]

    def state(self) -> dict[str, Any]:
        """Return plain data that `restore` takes up; flush first."""
        assert not self._filled
        return {
            "seen": self._seen,
            "diverged_at": list(self.diverged_at),
            "sums": self._sums.tolist(),
            "counted": list(self._counted),
            "curves": [list(curve) for curve in self._curves],
        }

    @staticmethod
    def part(state: Mapping[str, Any], members: Sequence[int]) -> dict[str, Any]:
        """Return what a saved state says of some members, in their order."""
        columns = ("diverged_at", "sums", "counted", "curves")
        return {"seen": state["seen"], **{name: [state[name][member] for member in members] for name in columns}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        self._filled = 0
        self._seen = int(state["seen"])
        self.diverged_at = list(state["diverged_at"])
        self._sums = np.array(state["sums"])
        self._counted = list(state["counted"])
        self._curves = [list(curve) for curve in state["curves"]]
