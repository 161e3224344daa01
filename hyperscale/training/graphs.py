"""Whole training steps as CUDA graphs: one launch for a step's dozens of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hyperscale.training.objective import Objective
from hyperscale.training.optimizers import PackedOptimizer

_MAX_INPUT_BYTES = 2**26
_WARM_UP_STEPS = 3


@runtime_checkable
class Recordable(Protocol):
    """An objective whose steps can be recorded: it says what a step reads, and works on that alone."""

    def inputs(self, step: int) -> Sequence[Tensor]:
        """Return all that ``step`` reads besides the parameters, in shapes that do not change."""

    def differentiate_on(self, inputs: Sequence[Tensor]) -> Tensor:
        """Do what `Objective.differentiate` does, given `inputs`, with nothing that depends on them on the host."""


class StaticStep:
    """A training step whose inputs are copied to tensors that stay where they are, as a graph needs them.

    It computes what `Objective.differentiate` and `PackedOptimizer.update` compute. On its own it runs on any device,
    kernel by kernel; `GraphedStep` records it once and replays it.
    """

    def __init__(self, objective: Recordable, optimizer: PackedOptimizer, step: int) -> None:
        self.objective, self.optimizer = objective, optimizer
        self.inputs = [part.clone() for part in objective.inputs(step)]
        self.numbers = [part.clone() for part in optimizer.numbers(step)]
        self.losses = torch.empty(0)

    def take(self, step: int) -> None:
        """Copy ``step``'s inputs and rates into place."""
        for static, fresh in zip(self.inputs, self.objective.inputs(step), strict=True):
            static.copy_(fresh)
        for static, fresh in zip(self.numbers, self.optimizer.numbers(step), strict=True):
            static.copy_(fresh)

    def compute(self) -> None:
        """Fill the gradient, change the parameters, and leave the losses in ``losses``."""
        self.losses = self.objective.differentiate_on(self.inputs)
        self.optimizer.apply_all(self.numbers)

    def run(self, step: int) -> Tensor:
        """Do ``step`` and return its losses, [members]; they are overwritten by the next."""
        self.take(step)
        self.compute()
        return self.losses


class GraphedStep(StaticStep):
    """A `StaticStep` recorded as a CUDA graph; the recording changes neither parameters nor optimiser."""

    def __init__(self, objective: Recordable, optimizer: PackedOptimizer, step: int) -> None:
        super().__init__(objective, optimizer, step)
        changed = [optimizer.params, *optimizer.buffers.values()]
        saved = [tensor.clone() for tensor in changed]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.compute()
        for tensor, before in zip(changed, saved, strict=True):
            tensor.copy_(before)

    def run(self, step: int) -> Tensor:
        """Replay ``step``."""
        self.take(step)
        self.graph.replay()
        return self.losses


def graphed(objective: Objective, optimizer: PackedOptimizer, step: int) -> StaticStep | None:
    """Return the step as a graph where that pays and works, else None: on CUDA, with inputs cheap to copy."""
    if optimizer.params.device.type != "cuda" or not isinstance(objective, Recordable):
        return None
    if sum(part.numel() * part.element_size() for part in objective.inputs(step)) > _MAX_INPUT_BYTES:
        return None
    try:
        return GraphedStep(objective, optimizer, step)
    except RuntimeError:  # something in the step cannot be recorded: it runs kernel by kernel
        torch.cuda.synchronize()
        return None
