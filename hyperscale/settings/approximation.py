"""Approximation: a method fitted to a target y(x, I), judged by its largest and root mean square errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from hyperscale.errors import StudyError, brief, check_choice, check_integer
from hyperscale.identity import canonical
from hyperscale.methods.method import ConditionedMethod, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.settings.fitting import EVALUATION_CHUNK, MAX_EVALUATION_NUMBERS, ApproximationObjective
from hyperscale.settings.setting import Cost, PackRun, Scalar, Setting
from hyperscale.targets.target import FixedSample, FreshPoints, Target
from hyperscale.training.optimizers import Adam, Optimizer
from hyperscale.training.trainer import TrainingRun

_MAX_GRID = 2**22
_SMALL_BYTES = 4 * 2**20
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
                raise StudyError(f"Approximation.{name} is {brief(getattr(self, name))}; allowed: a {kind.__name__}.")
        if not isinstance(self.points, FreshPoints | FixedSample):
            raise StudyError(
                f"Approximation.points is {brief(self.points)}; allowed: FreshPoints(...), FixedSample(...)."
            )
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
        if encoder is not None and encoder.cube_only and self.target.inputs != "uniform":
            raise StudyError(
                f"Approximation: {self.method.name}.encoder covers [-1, 1] only, and {type(self.target).__name__} has "
                "unbounded inputs. Leave the encoder out."
            )
        if encoder is not None and encoder.num_features(self.target.conditioning_dim) > _MAX_FEATURES:
            raise StudyError(
                f"Approximation: the encoder {encoder.label} in {self.target.conditioning_dim} dimensions has more "
                f"than {_MAX_FEATURES} features. Take fewer."
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

    @property
    def padded_method(self) -> Method:
        """The method as a pack trains it, with widths that several settings share."""
        return self.method.padded(self.target.dims, self.batch_shape)

    def program(self) -> object:
        """Method up to padding, batches, update rule and precision.

        Within them seed, target coefficients, learning rate, momentum, weight decay, schedule, number of steps and
        padded widths may vary.
        """
        parts = [self.target.program(), self.optimizer.program(), self.padded_method, self.points]
        return [*(canonical(part) for part in parts), self.grid_points, self.precision]

    def cost(self) -> Cost:
        """Estimate one trial, padding included: both passes of every step and the update; all that lies in memory.

        Of each parameter there are the value, the gradient, the final value, the float64 it was drawn as and the
        optimiser's buffers; of each activation somewhat more than two, counting what is at work; of a sample two
        while it is drawn.
        """
        dims, (instances, points), method = self.target.dims, self.batch_shape, self.padded_method
        size = 8 if self.precision == "float64" else 4
        num_params = method.num_params_trained(dims)
        flops = self.steps * (2.0 * method.step_multiply_adds(dims, instances, points) + 12.0 * num_params)
        activations = method.num_activations(dims, instances, points)
        memory = num_params * size * (4 + self.optimizer.num_buffers) + 2.2 * size * activations
        if isinstance(self.points, FixedSample):
            memory += 2 * self.points.size * (dims.x_dim + dims.conditioning_dim + 1) * size
        return Cost(
            flops=flops,
            num_steps=self.steps,
            memory_bytes=int(memory),
            shared_bytes=self._evaluation_bytes(),
            num_activations=float(self.steps) * activations,
        )

    def _evaluation_bytes(self) -> int:
        """Return about what evaluation takes, in float64: the test sample and a chunk of it in the network."""
        dims, method = self.target.dims, self.method
        if isinstance(self.points, FixedSample):
            sample = self.points.test_size * (dims.x_dim + dims.conditioning_dim + 1)
            chunk = method.num_activations(dims, min(EVALUATION_CHUNK, self.points.test_size), 1)
            return 8 * (2 * sample + 2 * chunk) + _SMALL_BYTES
        pairs = self.grid_points**dims.x_dim * self._num_grid_instances()
        width = max(8, *method.primary_widths, 0)
        return 5 * 8 * min(MAX_EVALUATION_NUMBERS, pairs * width) + _SMALL_BYTES

    def brief(self, num_steps: int | None) -> Approximation:
        """Return the same with a sample of two batches, if it has a sample; the test sample stays for evaluation."""
        points = self.points
        if isinstance(points, FixedSample):
            size = min(points.size, 2 * points.batch_size)
            points = replace(points, size=size, test_size=points.test_size if num_steps else 1)
        return replace(self, points=points, steps=num_steps or self.steps)

    def start(self, members: Sequence[tuple[Approximation, int]], device: str) -> PackRun:
        """Start training ``members`` (setting, seed) of this program together."""
        objective = ApproximationObjective(members, device)
        optimizers, steps = [s.optimizer for s, _ in members], [s.steps for s, _ in members]
        return TrainingRun(objective, objective.initialize().to(device, self.dtype), optimizers, steps)
