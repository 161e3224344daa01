"""Approximation: a method fitted to a target y(x, I), judged by its largest and root mean square errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_choice, check_integer
from hyperscale.identity import canonical
from hyperscale.methods.method import ConditionedMethod, Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.settings.batches import (
    Batch,
    Batches,
    FreshBatches,
    PointSource,
    SampleBatches,
    draw_sample,
    grid,
)
from hyperscale.settings.setting import Cost, PackRun, Scalar, Setting
from hyperscale.targets.target import FixedSample, FreshPoints, PreparedTarget, Target
from hyperscale.training.optimizers import Adam, Optimizer
from hyperscale.training.trainer import TrainingRun

_MAX_GRID = 2**22
_CHUNK_NUMBERS = 2**20
_MAX_FEATURES = 2**16
_SPECTRAL = ("spectral_complexity_primary", "spectral_complexity_conditioning")


@dataclass(frozen=True, kw_only=True, slots=True)
class Approximation(Setting):
    """Fit ``method`` to ``target`` by mean squared error.

    With `FreshPoints` the errors are measured in float64 on the equispaced grid of [-1, 1]^m with
    ``grid_points`` per dimension: ``sup_error`` is the largest abs(h - y) found there (a lower bound of the
    supremum), ``rmse`` the root of the mean square; ``zero_sup_error`` and ``zero_rmse`` are those of predicting 0.
    With `FixedSample` they are measured on the test sample, ``test_loss`` is its mean squared error, ``zero_loss``
    that of predicting 0 and ``linear_loss`` that of the best I-independent linear map of x (least squares on the
    training sample). Spectral complexities are recorded always. The loss curve is ``train_loss`` at log-spaced
    steps.
    """

    method: Method
    target: Target
    optimizer: Optimizer = field(default_factory=lambda: Adam(lr=1e-3))
    steps: int = 4000
    points: FreshPoints | FixedSample = field(default_factory=FreshPoints)
    grid_points: int = 129
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        """Check the parts and how they fit together."""
        for name, kind in (("method", Method), ("target", Target), ("optimizer", Optimizer)):
            if not isinstance(getattr(self, name), kind):
                raise StudyError(f"Approximation.{name} is {getattr(self, name)!r}; allowed: a {kind.__name__}.")
        if not isinstance(self.points, FreshPoints | FixedSample):
            raise StudyError(f"Approximation.points is {self.points!r}; allowed: FreshPoints(...), FixedSample(...).")
        check_integer("Approximation.steps", self.steps, 1)
        check_integer("Approximation.grid_points", self.grid_points, 2)
        check_choice("Approximation.precision", self.precision, ("float32", "float64"))
        if isinstance(self.points, FixedSample):
            if isinstance(self.method, PerInstance):
                raise StudyError(
                    "Approximation: PerInstance fits fixed values of I and needs FreshPoints, not FixedSample."
                )
        elif self.target.inputs != "uniform":
            raise StudyError(
                f"Approximation: {type(self.target).__name__} has unbounded inputs; it needs FixedSample(...)."
            )
        elif self.grid_points**self.target.dims.x_dim * self._num_grid_instances() > _MAX_GRID:
            raise StudyError(
                f"Approximation.grid_points is {self.grid_points} in {self.target.x_dim} + "
                f"{self.target.conditioning_dim} dimensions; allowed: at most 2^22 grid points in all. Take fewer."
            )

        encoder = self.method.encoder if isinstance(self.method, ConditionedMethod) else None
        if encoder is not None and self.target.inputs != "uniform":
            raise StudyError(
                f"Approximation: {self.method.name}.encoder covers [-1, 1] only, and {type(self.target).__name__} has "
                "unbounded inputs. Leave the encoder out."
            )
        if encoder is not None and encoder.num_features(self.target.conditioning_dim) > _MAX_FEATURES:
            raise StudyError(
                f"Approximation: {encoder.knots} knots in {self.target.conditioning_dim} dimensions are more than "
                f"{_MAX_FEATURES} features. Take fewer knots."
            )

    def _num_grid_instances(self) -> int:
        if isinstance(self.method, PerInstance):
            return self.method.num_networks(self.target.dims)
        return int(self.grid_points**self.target.conditioning_dim)

    @property
    def method_name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def dtype(self) -> torch.dtype:
        """The precision of training."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def columns(self) -> dict[str, Scalar]:
        """Return method, sizes, target, optimiser and budget."""
        dims = self.target.dims
        return {
            "kind": "approximation",
            **self.method.columns(),
            "num_params_primary": self.method.num_params_primary(dims),
            "num_params_total": self.method.num_params_total(dims),
            **self.target.columns(),
            **self.optimizer.columns(),
            "steps": self.steps,
            "batch": str(self.batch_shape[0] * self.batch_shape[1]),
            "precision": self.precision,
        }

    @property
    def batch_shape(self) -> tuple[int, int]:
        """The number of instances and of points per instance in a batch."""
        if isinstance(self.points, FixedSample):
            return self.points.batch_size, 1
        if isinstance(self.method, PerInstance):
            return self.method.num_networks(self.target.dims), self.points.points
        return self.points.instances, self.points.points

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics of a finished trial."""
        sample = isinstance(self.points, FixedSample)
        sampled = ("test_loss", "zero_loss", "linear_loss") if sample else ("zero_sup_error", "zero_rmse")
        spectral = _SPECTRAL[: 2 if self.method.columns().get("depth") else 1]
        return ("sup_error", "rmse", *sampled, *spectral)

    def program(self) -> object:
        """Everything but the learning rate, the weight decay, the momentum and the target's coefficients."""
        parts = [self.target.program(), self.optimizer.program(), self.method, self.points]
        return [*(canonical(part) for part in parts), self.steps, self.grid_points, self.precision]

    def cost(self) -> Cost:
        """Estimate one trial: three passes a step and the update; parameters, activations and data in memory."""
        dims, (instances, points) = self.target.dims, self.batch_shape
        size = 8 if self.precision == "float64" else 4
        num_params = self.method.num_params_trained(dims)
        flops = self.steps * (6.0 * self.method.multiply_adds(dims, instances, points) + 12.0 * num_params)
        activations = self.method.num_activations(dims, instances, points)
        memory = num_params * size * 8 + 3 * size * activations
        if isinstance(self.points, FixedSample):
            memory += (self.points.size + self.points.test_size) * (dims.x_dim + dims.conditioning_dim + 1) * size
        else:
            memory += 4 * 8 * max(2**15, _CHUNK_NUMBERS // 4)
        passed = float(self.steps) * activations
        return Cost(flops=flops, num_steps=self.steps, memory_bytes=int(memory), num_activations=passed)

    def start(self, members: Sequence[tuple[Approximation, int]], device: str) -> PackRun:
        """Start training ``members`` (setting, seed) of this program together."""
        objective = ApproximationObjective(self, members, device)
        params = self.method.initialize(self.target.dims, [seed for _, seed in members])
        optimizers = [setting.optimizer for setting, _ in members]
        return TrainingRun(objective, params.to(device, self.dtype), optimizers, self.steps)


class ApproximationObjective:
    """Mean squared error of the members on their batches, and their errors at the end.

    Members with the same target and seed see the same points: streams are made once and shared.
    """

    def __init__(self, shared: Approximation, members: Sequence[tuple[Approximation, int]], device: str) -> None:
        self.method: Method = shared.method
        self.dims: Dims = shared.target.dims
        self.shared, self.device = shared, device
        streams = list(dict.fromkeys((setting.target, seed) for setting, seed in members))
        self.targets = [target for target, _ in streams]
        self.seeds = [seed for _, seed in streams]
        order = [streams.index((setting.target, seed)) for setting, seed in members]
        self.rows = None if order == list(range(len(streams))) else torch.tensor(order, device=device)
        self.target: PreparedTarget = shared.target.prepare(self.targets, self.seeds, device)
        self.sample: Batch | None = None
        self._fits: dict[int, Tensor] = {}
        self.batches: Batches = self._batches()

    def _source(self, stream: Literal["data", "batches"]) -> PointSource:
        return PointSource(self.seeds, stream, self.dims, self.shared.target.inputs, self.device)

    def _batches(self) -> Batches:
        points = self.shared.points
        if isinstance(points, FixedSample):
            self.sample = draw_sample(self._source("data"), self.target, points.size, self.shared.dtype)
            return SampleBatches(self.sample, points, self.seeds)
        fixed = self.method.instances(self.dims) if isinstance(self.method, PerInstance) else None
        return FreshBatches(self._source("batches"), self.target, points, self.shared.dtype, fixed)

    def _for_members(self, part: Tensor) -> Tensor:
        """Give every member its stream's rows, always contiguous: a kernel may depend on the layout."""
        return part.contiguous() if self.rows is None else part[self.rows]

    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return the mean squared error on the batch of ``step``, [members]."""
        x, conditioning, y = (self._for_members(part) for part in self.batches.batch(step))
        residual = self.method.evaluate(self.dims, params, x, conditioning) - y
        return residual.square().mean(dim=(1, 2, 3))

    def metrics(self, params: Tensor) -> dict[str, Tensor]:
        """Return the final errors and spectral complexities, each [members].

        One member at a time, so that not even the last bit depends on the pack.
        """
        rows = range(len(params)) if self.rows is None else self.rows.tolist()
        members = [self._member_metrics(member[None].double(), row) for member, row in zip(params, rows, strict=True)]
        return {name: torch.cat([metrics[name] for metrics in members]) for name in members[0]}

    def _member_metrics(self, params: Tensor, row: int) -> dict[str, Tensor]:
        """Return the metrics of one member, ``params`` [1, num_params], that sees stream ``row``; each [1]."""
        largest = torch.zeros(1, dtype=torch.float64, device=params.device)
        total, zero, linear, count = largest.clone(), largest.clone(), largest.clone(), 0
        zero_largest, num_points = largest.clone(), 0
        fit = None if self.sample is None else self._linear_fit(row)
        for x, conditioning, y in self._evaluation_batches(row):
            residual = (self.method.evaluate(self.dims, params, x, conditioning) - y).flatten(2)
            worst, squared = self.method.keep_best(residual.abs().amax(dim=2), residual.square().sum(dim=2))
            largest = torch.maximum(largest, worst.amax(dim=1))
            total += squared.sum(dim=1)
            count += squared.shape[1] * residual.shape[2]
            zero += y.square().sum(dim=(1, 2, 3))
            zero_largest = torch.maximum(zero_largest, y.abs().amax(dim=(1, 2, 3)))
            num_points += y.numel()
            if fit is not None:
                linear += ((x.squeeze(2) @ fit).squeeze(-1) - y.flatten(1)).square().sum(dim=1)
        mean_square = total / count
        metrics = {"sup_error": largest, "rmse": mean_square.sqrt()}
        zero = zero / num_points
        if fit is None:
            metrics |= {"zero_sup_error": zero_largest, "zero_rmse": zero.sqrt()}
        else:
            metrics |= {"test_loss": mean_square, "zero_loss": zero, "linear_loss": linear / count}
        return metrics | self.method.spectral_complexities(self.dims, params, self._spectral_instances(row))

    def _linear_fit(self, row: int) -> Tensor:
        """Return the best linear map of stream ``row``'s sample, computed once."""
        assert self.sample is not None
        if row not in self._fits:
            x, conditioning, y = (part[row : row + 1] for part in self.sample)
            self._fits[row] = linear_fit((x, conditioning, y))
        return self._fits[row]

    def _spectral_instances(self, row: int) -> Tensor:
        """Return the values of I, [1, instances, conditioning_dim], over which the primary's complexity is maximal."""
        if self.sample is not None:
            return self.sample[1][row : row + 1, :100].double()
        if isinstance(self.method, PerInstance):
            instances = self.method.instances(self.dims)
        else:
            instances = grid(
                self.dims.conditioning_dim, max(2, min(33, round(4096 ** (1 / self.dims.conditioning_dim))))
            )
        return instances.to(self.device)[None]

    def _evaluation_batches(self, row: int) -> Iterator[Batch]:
        """Yield stream ``row``'s test sample, or the grid with its target, some instances at a time."""
        target = self.shared.target.prepare([self.targets[row]], [self.seeds[row]], self.device)
        if isinstance(self.shared.points, FixedSample):
            source = PointSource([self.seeds[row]], "evaluation", self.dims, self.shared.target.inputs, self.device)
            test = draw_sample(source, target, self.shared.points.test_size, torch.float64)
            for start in range(0, test[0].shape[1], 500):
                x, conditioning, y = (part[:, start : start + 500] for part in test)
                yield x, conditioning, y
            return
        x_grid = grid(self.dims.x_dim, self.shared.grid_points).to(self.device)
        if isinstance(self.method, PerInstance):
            instances = self.method.instances(self.dims).to(self.device)
        else:
            instances = grid(self.dims.conditioning_dim, self.shared.grid_points).to(self.device)
        width = max(8, max(self.method.primary_widths, default=1))
        size = max(1, _CHUNK_NUMBERS // (len(x_grid) * width))
        if isinstance(self.method, PerInstance):
            size = len(instances)
        for start in range(0, len(instances), size):
            conditioning = instances[start : start + size][None]
            x = x_grid.expand(1, conditioning.shape[1], -1, -1).contiguous()
            yield x, conditioning, target.evaluate(x, conditioning)

    def curves(self, params: Tensor) -> list[dict[str, list[list[float]]]]:
        """Return no further curves."""
        return [{} for _ in range(params.shape[0])]


def linear_fit(sample: Batch) -> Tensor:
    """Return the best I-independent linear map of x on a sample, by least squares: float64 [streams, x_dim, 1]."""
    x, y = sample[0].squeeze(2).double(), sample[2].flatten(1).double()
    gram = x.mT @ x
    ridge = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge.unsqueeze(-1))
    return torch.linalg.solve(gram, x.mT @ y.unsqueeze(-1))
