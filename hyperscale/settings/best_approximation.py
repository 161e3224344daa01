"""Best approximation: a method fitted to a target y(x, I) as closely as its size allows, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from hyperscale.errors import StudyError, brief, check_integer, count_text
from hyperscale.identity import canonical
from hyperscale.methods.method import Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.settings.best_errors import EVALUATION_NUMBERS, infimum_knots, member_metrics
from hyperscale.settings.setting import Cost, PackRun, Scalar, Setting
from hyperscale.targets.target import Target
from hyperscale.training.added_neurons import MAX_PAIRS, check_shallow
from hyperscale.training.constraints import Constraints, constraint_metric_names
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.grid_losses import num_features
from hyperscale.training.staged import StagedRun
from hyperscale.training.stages import Stages

_MAX_FEATURES = 2**16
_SMALL_BYTES = 4 * 2**20
# Measured on one core: seconds at the pace of packing.FLOPS_PER_SECOND.
_SEARCH_FLOPS, _ASCENT_FLOPS, _INFIMUM_FLOPS = 80.0, 2e8, 7e10
_SPECTRAL = ("spectral_complexity_primary", "spectral_complexity_conditioning")


@dataclass(frozen=True, kw_only=True, slots=True)
class BestApproximation(Setting):
    """Fit ``method`` to ``target`` on the ``grid`` by a chain of optimisers, as closely as its size allows.

    Everything is float64. ``sup_error`` is the largest abs(h - y) found over [-1, 1]^m (a lower bound of the supremum
    of this fit's error), from the equispaced grid with ``grid_points`` per dimension on; ``rmse`` is the root of the
    mean square on that grid; ``zero_sup_error`` and ``zero_rmse`` are those of predicting 0. With ``certificate``
    ``sup_error_bound`` is an upper bound of the supremum, where one can be given. For a primary network of one
    hidden layer of w ReLU units on the line, under `PerInstance` and `Hypernetwork`, ``per_instance_infimum`` is the
    largest over I of the exact error of the best piecewise linear function with w knots: no network of this width
    errs less. ``per_instance_reached`` is that with w - 2 knots: some network of this width, fitted to y_I alone, errs
    no more. Spectral complexities, ``first_layer_norm`` and ``lipschitz_conditioning`` (what ``constraints`` bound) are
    recorded always; with ``constraints`` every fit keeps them, and only stages that obey them are allowed. With
    ``one_more_neuron`` ``rmse_one_more`` is the rmse after every network of one hidden layer was given one neuron
    more, all else kept (`training.added_neurons`). The curves
    are ``train_loss``, the mean squared error on the training grid, and ``stage_sup_error``, the largest error on it
    at every stage's end.
    """

    method: Method
    target: Target
    optimizer: Stages
    grid: TrainingGrid = field(default_factory=TrainingGrid)
    grid_points: int = 257
    certificate: bool = False
    constraints: Constraints | None = None
    one_more_neuron: bool = False

    def __post_init__(self) -> None:
        """Check the parts and how they fit together."""
        kinds = (("method", Method), ("target", Target), ("optimizer", Stages), ("grid", TrainingGrid))
        for name, kind in kinds:
            if not isinstance(getattr(self, name), kind):
                raise StudyError(
                    f"BestApproximation.{name} is {brief(getattr(self, name))}; allowed: a {kind.__name__}"
                    f"{' such as Stages(LBFGS())' if kind is Stages else ''}."
                )
        check_integer("BestApproximation.grid_points", self.grid_points, 2)
        for name in ("certificate", "one_more_neuron"):
            if not isinstance(getattr(self, name), bool):
                raise StudyError(f"BestApproximation.{name} is {brief(getattr(self, name))}; allowed: True or False.")
        dims = self.target.dims
        if self.target.inputs != "uniform":
            raise StudyError(
                f"BestApproximation: {type(self.target).__name__} has unbounded inputs, and a largest error needs "
                "bounded ones. Take Approximation with FixedSample(...)."
            )
        if num_features(self.method, dims) > _MAX_FEATURES:
            raise StudyError(
                f"BestApproximation: {count_text(num_features(self.method, dims))} features of I are more than "
                f"{_MAX_FEATURES}. Take fewer knots."
            )
        self._check_pairs("grid_points", self._num_evaluation_pairs, 24)
        self._check_pairs("grid", self.grid.num_pairs(self.method, dims), 24)
        if self.one_more_neuron:
            check_shallow(self.method)
            self._check_pairs("grid_points", self._num_evaluation_pairs, MAX_PAIRS.bit_length() - 1)
        for stage in self.optimizer.stages:
            try:
                stage.check(self.method, dims)
            except StudyError as problem:
                raise StudyError(f"BestApproximation.optimizer: {problem}") from problem
        self._check_constraints()

    def _check_constraints(self) -> None:
        if self.constraints is None:
            return
        if not isinstance(self.constraints, Constraints):
            raise StudyError(
                f"BestApproximation.constraints is {brief(self.constraints)}; allowed: None or a Constraints such as "
                "Constraints(max_primary_complexity=2.0)."
            )
        self.constraints.check(self.method, self.target.dims)
        for stage in self.optimizer.stages:
            if not stage.keeps_constraints:
                raise StudyError(
                    f"BestApproximation: {type(stage).__name__} does not keep the constraints: what it solves "
                    "for may lie beyond their bounds. Allowed with constraints: Knots, Descent and LBFGS."
                )

    def _check_pairs(self, name: str, num_pairs: int, digits: int) -> None:
        if num_pairs > 2**digits:
            raise StudyError(
                f"BestApproximation.{name} is {brief(getattr(self, name))} in {self.target.x_dim} + "
                f"{self.target.conditioning_dim} dimensions; allowed: at most 2^{digits} pairs (x, I) in all. "
                "Take fewer."
            )

    @property
    def _num_evaluation_pairs(self) -> int:
        dims, method = self.target.dims, self.method
        if isinstance(method, PerInstance):
            return int(self.grid_points**dims.x_dim) * method.num_networks(dims)
        return int(self.grid_points ** (dims.x_dim + dims.conditioning_dim))

    @property
    def method_name(self) -> str:
        """The method's name."""
        return self.method.name

    def columns(self) -> dict[str, Scalar]:
        """Return method, sizes, target, optimisers and budget: ``batch`` counts the grid's pairs (x, I)."""
        dims = self.target.dims
        row: dict[str, Scalar] = {
            "kind": "best_approximation",
            **self.method.columns(),
            "num_params_primary": self.method.num_params_primary(dims),
            "num_params_total": self.method.num_params_total(dims),
            **self.target.columns(),
            **self.optimizer.columns(),
            "steps": self.optimizer.num_steps,
            "batch": str(self.grid.num_pairs(self.method, dims)),
            "precision": "float64",
            **({} if self.constraints is None else self.constraints.columns()),
        }
        for stage in self.optimizer.stages:
            if isinstance(stage, Descent) and "lr" not in row:
                rule = stage.optimizer.columns()
                row |= {name: value for name, value in rule.items() if name != "optimizer"}
        return row

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics of a finished trial; a bound is left out where none can be given."""
        spectral = _SPECTRAL[: 2 if self.method.columns().get("depth") else 1]
        bound = ("sup_error_bound",) if self.certificate else ()
        infima = tuple(infimum_knots(self.method, self.target.dims))
        bounded = constraint_metric_names(self.method)
        added = ("rmse_one_more",) if self.one_more_neuron else ()
        return ("sup_error", "rmse", "zero_sup_error", "zero_rmse", *bound, *added, *infima, *spectral, *bounded)

    def program(self) -> object:
        """Everything but the seed and the target's coefficients."""
        parts = [self.method, self.optimizer, self.grid, self.constraints]
        return [
            self.target.program(),
            *(canonical(part) for part in parts),
            self.grid_points,
            self.certificate,
            self.one_more_neuron,
        ]

    def cost(self) -> Cost:
        """Estimate one trial: the stages' arithmetic, the largest of their memories, targets and parameters."""
        dims, method, stages = self.target.dims, self.method, self.optimizer.stages
        instances, points = self.grid.num_instances(method, dims), self.grid.x_points**dims.x_dim
        activations = float(method.num_activations(dims, instances, points))
        memory = 8 * (instances * points + 4 * method.num_params_trained(dims))
        memory += max(stage.memory_bytes(method, dims, self.grid) for stage in stages)
        return Cost(
            flops=sum(stage.flops(method, dims, self.grid) for stage in stages),
            evaluation_flops=self._evaluation_flops(),
            num_steps=self.optimizer.num_steps,
            memory_bytes=int(memory),
            shared_bytes=self._evaluation_bytes(),
            num_activations=self.optimizer.num_steps * activations,
        )

    def _evaluation_flops(self) -> float:
        """Return about what the evaluation of a member takes, at the pace of products in float32."""
        width = max(8, sum(self.method.primary_widths))
        search = _SEARCH_FLOPS * self._num_evaluation_pairs * width + _ASCENT_FLOPS * width
        # Infima are kept, so that seeds with the same target ask for them once: as if there were two of these.
        infima = len(infimum_knots(self.method, self.target.dims)) / (1 if self.target.varies_with_seed else 2)
        return search + _INFIMUM_FLOPS * infima

    def _evaluation_bytes(self) -> int:
        """Return about what the evaluation of a member takes: some values of I with all x in the network."""
        width = max(8, *self.method.primary_widths, 0)
        return 5 * 8 * min(EVALUATION_NUMBERS, self._num_evaluation_pairs * width) + _SMALL_BYTES

    def brief(self, num_steps: int | None) -> BestApproximation:
        """Return the same with a chain of ``num_steps`` steps, for its evaluation is measured then."""
        if num_steps is None:
            return self
        return replace(self, optimizer=Stages(Descent(steps=num_steps)))

    def _projection(self) -> Callable[[Tensor], Tensor] | None:
        """Return what takes parameters back within the constraints."""
        constraints, method, dims = self.constraints, self.method, self.target.dims
        return None if constraints is None else lambda params: constraints.project(method, dims, params)

    def start(self, members: Sequence[tuple[BestApproximation, int]], device: str) -> PackRun:
        """Start ``members`` (setting, seed) of this program together."""
        targets, seeds = [setting.target for setting, _ in members], [seed for _, seed in members]
        fit = GridFit(self.method, self.grid, targets, seeds, device, projection=self._projection())

        def evaluate(member: int, params: Tensor) -> Mapping[str, float]:
            setting, seed = members[member]
            return member_metrics(
                setting.method,
                setting.target,
                seed,
                params,
                grid_points=setting.grid_points,
                certificate=setting.certificate,
                one_more_neuron=setting.one_more_neuron,
            )

        return StagedRun(fit, self.optimizer, evaluate)
