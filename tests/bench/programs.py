"""The ways to train that are timed, each behind the same two calls: how many steps go together, and their time."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.training.trainer import TrainingRun
from tests.bench.eager import Batch, EagerTrial, GraphedTrial, eager_optimizer, read_parameters, ready_batches
from tests.bench.rows import Row

CHECK_STEPS = 4
LOSS_TOLERANCE = 1e-4
UPDATE_TOLERANCE = 1e-3
_READY_BATCHES = 8
_LONGEST_UNIT_S = 0.5


class Program(Protocol):
    """Something that takes optimiser steps of one or several members."""

    members: int

    def time(self, count: int) -> float:
        """Take ``count`` steps and return the seconds of one step of one member."""

    def unit(self, step_s: float) -> int:
        """Return the number of steps that a fair measurement is a multiple of, when a step takes ``step_s``."""


def synchronize(device: str) -> None:
    """Wait for the device to finish what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], count: int, device: str) -> float:
    """Return the seconds of one of ``count`` calls."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(count):
        work()
    synchronize(device)
    return (time.perf_counter() - started) / count


class PackProgram:
    """Our packed training: ``members`` trials of one setting, each with a seed of its own.

    Fresh batches are made several steps at a time. Where a measurement is shorter than that, the steps are timed
    within one such group, and the cost of making the group is added in proportion.
    """

    def __init__(self, row: Row, members: int, device: str) -> None:
        self.members, self.device = members, device
        run = row.setting.start([(row.setting, seed) for seed in range(members)], device)
        assert isinstance(run, TrainingRun)
        self.run = run
        self.group = int(getattr(run.objective.batches, "chunk", 1))
        self._batch_s: float | None = None

    def unit(self, step_s: float) -> int:
        """A whole group of batches, unless that takes too long."""
        return self.group if step_s * self.group <= _LONGEST_UNIT_S else 1

    def time(self, count: int) -> float:
        """Take optimiser steps, batches included."""
        if count % self.group == 0:
            return timed(self.run._train_step, count, self.device) / self.members
        self.run.objective.batches.batch(self.run.step)
        return (timed(self.run._train_step, count, self.device) + self._making_batches_s()) / self.members

    def _making_batches_s(self) -> float:
        """Return the seconds per step that it takes to make a group of fresh batches."""
        if self._batch_s is None:
            first = (self.run.step // self.group + 1000) * self.group
            steps = iter(range(first, first + 2 * self.group))
            self._batch_s = timed(lambda: self.run.objective.batches.batch(next(steps)), 2 * self.group, self.device)
        return self._batch_s


class SoloProgram:
    """One trial whose ``step`` is a method of ``trial``."""

    members = 1

    def __init__(self, trial: Any, device: str) -> None:
        self.trial, self.device = trial, device

    def unit(self, step_s: float) -> int:
        """Any number of steps is fair: the batches are ready made."""
        return 1

    def time(self, count: int) -> float:
        """Take steps."""
        return timed(self.trial.step, count, self.device)


class HypnettorchTrial:
    """The hypernetwork step with hypnettorch: its HMLP gives each instance's weights, its MLP runs one at a time.

    It knows biases in every layer or in none; initial parameters are its own, so its losses are not compared.
    """

    def __init__(self, row: Row, batches: list[Batch], device: str) -> None:
        from hypnettorch.hnets.mlp_hnet import HMLP
        from hypnettorch.mnets.mlp import MLP

        method, dims, bias = row.setting.method, row.setting.target.dims, row.setting.method.bias != "none"
        assert isinstance(method, Hypernetwork)
        hidden = {"hidden_layers": method.primary_widths, "use_bias": bias, "no_weights": True}
        self.main = MLP(n_in=dims.x_dim, n_out=dims.output_dim, verbose=False, **hidden)
        sizes = {"uncond_in_size": dims.conditioning_dim, "cond_in_size": 0, "num_cond_embs": 0}
        self.hyper = HMLP(self.main.param_shapes, layers=method.widths, use_bias=bias, verbose=False, **sizes)
        self.hyper.to(device)
        self.optimizer = eager_optimizer(row.setting, list(self.hyper.parameters()), "default")
        self.batches, self.taken = batches, 0

    def step(self) -> Tensor:
        """Take one optimiser step and return the loss before it."""
        x, conditioning, y = self.batches[self.taken % len(self.batches)]
        self.optimizer.zero_grad(set_to_none=True)
        weights = self.hyper(uncond_input=conditioning, ret_format="sequential")
        outputs = [self.main(x_i, weights=weights_i) for x_i, weights_i in zip(x, weights, strict=True)]
        loss = nn.functional.mse_loss(torch.stack(outputs), y)
        loss.backward()
        self.optimizer.step()
        self.taken += 1
        return loss.detach()


def has_hypnettorch() -> bool:
    """Whether hypnettorch is installed (the extra ``bench``)."""
    return importlib.util.find_spec("hypnettorch") is not None


def build(row: Row, mode: str, device: str = "cpu") -> Program:
    """Return the program of a mode: ``pack:N``, ``hypnettorch``, or a variant of `eager_trial`."""
    kind, _, number = mode.partition(":")
    if kind == "pack":
        return PackProgram(row, int(number), device)
    run = row.setting.start([(row.setting, 0)], device)
    assert isinstance(run, TrainingRun)
    batches = ready_batches(run, 0, _READY_BATCHES)
    if kind == "hypnettorch":
        return SoloProgram(HypnettorchTrial(row, batches, device), device)
    return SoloProgram(eager_trial(row, run.params[0].clone(), batches, kind), device)


def eager_trial(row: Row, flat: Tensor, batches: list[Batch], variant: str) -> EagerTrial:
    """Return the eager trial of a variant, ``graphed`` among them."""
    if variant == "graphed":
        return GraphedTrial(row.setting, flat, batches)
    return EagerTrial(row.setting, flat, batches, variant)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far eager trials are from the members of a pack that start from the same parameters and see the same batches.

    ``loss`` is the largest relative difference of a loss over `CHECK_STEPS` steps, ``update`` that of the whole
    change of a member's parameters (in norm).
    """

    loss: float
    update: float


def follows(row: Row, variant: str, agreement: Agreement) -> None:
    """Stop where eager trials do not follow the members of a pack: nothing is timed that is not the same work."""
    if agreement.loss > LOSS_TOLERANCE or agreement.update > UPDATE_TOLERANCE:
        raise SystemExit(
            f"{row.name}: eager trials ({variant}) do not follow the pack: in {CHECK_STEPS} steps their losses differ "
            f"by {agreement.loss:.1e} (allowed {LOSS_TOLERANCE}), their updates by {agreement.update:.1e} "
            f"(allowed {UPDATE_TOLERANCE})."
        )


def compare(row: Row, variant: str = "default", device: str = "cpu") -> Agreement:
    """Train a pack of two and eager trials of its members side by side for `CHECK_STEPS` optimiser steps."""
    run = row.setting.start([(row.setting, seed) for seed in range(2)], device)
    assert isinstance(run, TrainingRun)
    start = run.params.clone()
    trials = [
        eager_trial(row, start[member].clone(), ready_batches(run, member, CHECK_STEPS), variant) for member in range(2)
    ]
    largest = 0.0
    for _ in range(CHECK_STEPS):
        with torch.no_grad():
            ours = run.objective.loss(run.params, run.step).tolist()
        run._train_step()
        for loss, trial in zip(ours, trials, strict=True):
            theirs = float(trial.step())
            difference = abs(loss - theirs) / abs(theirs)
            largest = max(largest, difference if math.isfinite(difference) else math.inf)
    changed = run.params - start
    wrong = torch.stack([read_parameters(trial.model) for trial in trials]) - run.params
    return Agreement(loss=largest, update=float((wrong.norm(dim=1) / changed.norm(dim=1)).max()))
