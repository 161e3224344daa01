"""Points at which a pack sees its targets: batches keyed by step, the same for every setting of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.seeding import Stream, normal, step_keys, stream_keys, uniform, uniform_between
from hyperscale.targets.target import FixedSample, FreshPoints, PreparedTarget

Batch = tuple[Tensor, Tensor, Tensor]  # x [S, B, n, m1], I [S, B, m2], y [S, B, n, 1]

_BLOCK = 500
_CHUNK_STEPS = 32
_CHUNK_NUMBERS = 2**16


class Batches(Protocol):
    """Batches by 0-based step, one row per stream."""

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``."""

    def features(self, step: int) -> Tensor:
        """Return what the method's networks see of that batch's I."""


class PointSource:
    """Draws x and I from the law of the inputs, keyed by seed, stream and step."""

    def __init__(
        self, seeds: Sequence[int], stream: Stream, dims: Dims, law: Literal["uniform", "normal"], device: str
    ) -> None:
        self.keys = stream_keys(seeds, stream).to(device)
        self.dims = dims
        self.law = law

    def draw(self, steps: range, instances: int, points: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return x [T, S, instances, points, x_dim] and I [T, S, instances, conditioning_dim] for T steps."""
        keys = step_keys(self.keys, torch.arange(steps.start, steps.stop, dtype=torch.int64)).T
        size_i = instances * self.dims.conditioning_dim
        count = size_i + instances * points * self.dims.x_dim
        numbers = uniform_between(keys, count, -1, 1, dtype) if self.law == "uniform" else normal(keys, count, dtype)
        conditioning, x = numbers.split([size_i, count - size_i], dim=-1)
        return (
            x.unflatten(-1, (instances, points, self.dims.x_dim)).contiguous(),
            conditioning.unflatten(-1, (instances, self.dims.conditioning_dim)).contiguous(),
        )


class FreshBatches:
    """`FreshPoints`: new points every step, made several steps at a time."""

    def __init__(
        self,
        source: PointSource,
        target: PreparedTarget,
        spec: FreshPoints,
        dtype: torch.dtype,
        method: Method,
    ) -> None:
        self.source, self.target, self.dtype, self.points, self.method = source, target, dtype, spec.points, method
        fixed = method.instances(source.dims) if isinstance(method, PerInstance) else None
        self.fixed = None if fixed is None else fixed.to(source.keys.device, dtype)
        self.instances = spec.instances if fixed is None else fixed.shape[0]
        numbers = self.instances * (spec.points * source.dims.x_dim + source.dims.conditioning_dim)
        self.chunk = max(1, min(_CHUNK_STEPS, _CHUNK_NUMBERS // (numbers * len(source.keys))))
        self._steps = range(0)
        self._made: list[Tensor] = []

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``, making its chunk of steps if it is a new one."""
        if step not in self._steps:
            self._make(range(step, step + self.chunk))
        x, conditioning, y = (part[step - self._steps.start] for part in self._made[:3])
        return x, conditioning, y

    def features(self, step: int) -> Tensor:
        """Return what the method's networks see of that batch's I."""
        assert step in self._steps
        return self._made[3][step - self._steps.start]

    def _make(self, steps: range) -> None:
        x, conditioning = self.source.draw(steps, self.instances, self.points, self.dtype)
        if self.fixed is not None:
            conditioning = self.fixed.expand_as(conditioning)
        by_stream = (part.transpose(0, 1).flatten(1, 2) for part in (x, conditioning))
        y = self.target.evaluate(*by_stream).unflatten(1, (len(steps), self.instances)).transpose(0, 1).contiguous()
        self._steps, self._made = steps, [x, conditioning, y, self.method.features(conditioning)]


class SampleBatches:
    """`FixedSample`: a sample drawn once, seen in batches of a fresh shuffle every epoch."""

    def __init__(self, sample: Batch, spec: FixedSample, seeds: Sequence[int], method: Method) -> None:
        self.sample, self.batch_size, self.method = sample, spec.batch_size, method
        self.per_epoch = spec.size // spec.batch_size
        self.keys = stream_keys(seeds, "batches").to(sample[0].device)
        self._epoch = -1
        self._order = torch.empty(0)

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``; a last batch smaller than ``batch_size`` is left out."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            keys = step_keys(self.keys, torch.tensor([epoch]))[:, 0]
            self._order = uniform(keys, self.sample[0].shape[1]).argsort(dim=-1)
            self._epoch = epoch
        chosen = self._order[:, index * self.batch_size : (index + 1) * self.batch_size]
        rows = torch.arange(len(chosen), device=chosen.device).unsqueeze(-1)
        x, conditioning, y = (part[rows, chosen] for part in self.sample)
        self._features = self.method.features(conditioning)
        return x, conditioning, y

    def features(self, step: int) -> Tensor:  # noqa: ARG002
        """Return what the method's networks see of the last batch's I."""
        return self._features


def draw_sample(source: PointSource, target: PreparedTarget, size: int, dtype: torch.dtype) -> Batch:
    """Return a sample of ``size`` pairs, one x per I, drawn block by block to bound memory."""
    blocks: list[Batch] = []
    for index in range(-(-size // _BLOCK)):
        x, conditioning = source.draw(range(index, index + 1), _BLOCK, 1, dtype)
        x, conditioning = x[0], conditioning[0]
        blocks.append((x, conditioning, target.evaluate(x, conditioning)))
    x, conditioning, y = (torch.cat(parts, dim=1)[:, :size] for parts in zip(*blocks, strict=True))
    return x, conditioning, y
