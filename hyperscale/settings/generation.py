"""Generation: a generator G(z) trained on accuracy and diversity together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hyperscale.diversity.entropy import kozachenko_leonenko, nearest_distances
from hyperscale.errors import StudyError, check_integer, check_number
from hyperscale.identity import canonical
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.seeding import step_keys, stream_keys, uniform_between
from hyperscale.settings.setting import Cost, PackRun, Scalar, Setting
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.training.optimizers import Adam, Optimizer, per_member
from hyperscale.training.schedules import Exponential
from hyperscale.training.trainer import TrainingRun

_PLANE = 2
_CHUNK_STEPS = 256
_EVALUATION_SAMPLES = 1000
_CURVE_SAMPLES = 400
_PEAK_SAMPLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation(Setting):
    """Train G on L = accuracy_weight * L_accuracy - H^(G(z)), z ~ U[-1, 1]^latent_dim (the toy problem).

    L_accuracy = mean over z of (norm_penalty abs(y)^2 - v(y)) at y = G(z), where v is the mixture's value; H^ is the
    Kozachenko-Leonenko entropy of the batch, with d = latent_dim (the objective of Deutsch 2018, eq. 13, and
    Deutsch, Nijkamp & Yang 2019, eq. 2). The published toy code, -v - 2.2 H^ + 0.05 abs(y)^2, is
    ``accuracy_weight=1/2.2`` up to a factor. Metrics: ``mean_value`` of v and ``entropy`` (in nats) over
    1000 fresh z, ``peaks_reached`` (means with one of 2000 curve points within their standard deviation) and,
    for latent_dim 1, ``rank_correlation``: Spearman's, of v with the distance to the nearest of 1000 equispaced z.
    """

    accuracy_weight: float
    generator: WeightGenerator = field(default_factory=WeightGenerator)
    target: GaussianMixture = field(default_factory=GaussianMixture)
    norm_penalty: float = 0.05
    optimizer: Optimizer = field(default_factory=lambda: Adam(lr=1e-3, schedule=Exponential(rate=0.99996)))
    batch_size: int = 5
    steps: int = 20_000

    def __post_init__(self) -> None:
        """Check the parts."""
        check_number("Generation.accuracy_weight", self.accuracy_weight, least=0)
        check_number("Generation.norm_penalty", self.norm_penalty, least=0)
        for name in ("accuracy_weight", "norm_penalty"):
            object.__setattr__(self, name, float(getattr(self, name)))
        parts = (("generator", WeightGenerator), ("target", GaussianMixture), ("optimizer", Optimizer))
        for name, kind in parts:
            if not isinstance(getattr(self, name), kind):
                raise StudyError(f"Generation.{name} is {getattr(self, name)!r}; allowed: a {kind.__name__}.")
        check_integer("Generation.batch_size (a nearest neighbour needs two)", self.batch_size, 2)
        check_integer("Generation.steps", self.steps, 1)

    @property
    def method_name(self) -> str:
        """The generator's name."""
        return self.generator.name

    @property
    def num_params(self) -> int:
        """The number of trained parameters."""
        return self.generator.shape(_PLANE).num_params

    def columns(self) -> dict[str, Scalar]:
        """Return generator, weights of the objective, optimiser and budget."""
        return {
            "kind": "generation",
            **self.generator.columns(),
            "num_params_total": self.num_params,
            "target": f"GaussianMixture({self.target.num_components})",
            "accuracy_weight": self.accuracy_weight,
            "norm_penalty": self.norm_penalty,
            **self.optimizer.columns(),
            "steps": self.steps,
            "batch": str(self.batch_size),
        }

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics of a finished trial."""
        correlation = ("rank_correlation",) if self.generator.latent_dim == 1 else ()
        return ("mean_value", "entropy", "peaks_reached", *correlation)

    def program(self) -> object:
        """Everything but the accuracy weight, the norm penalty and the learning rate."""
        parts = [canonical(part) for part in (self.generator, self.target, self.optimizer.program())]
        return [*parts, self.batch_size, self.steps]

    def cost(self) -> Cost:
        """Estimate one trial: three passes a step and the update."""
        work = 6.0 * self.batch_size * self.generator.shape(_PLANE).num_weights + 12.0 * self.num_params
        memory = 64 * self.num_params + 32 * _PEAK_SAMPLES**2
        return Cost(flops=self.steps * work, num_steps=self.steps, memory_bytes=memory)

    def start(self, members: Sequence[tuple[Generation, int]], device: str) -> PackRun:
        """Start training ``members`` (setting, seed) of this program together."""
        params = self.generator.initialize(_PLANE, [seed for _, seed in members]).to(device, torch.float32)
        objective = GenerationObjective(self, members, params)
        return TrainingRun(objective, params, [setting.optimizer for setting, _ in members], self.steps)


class GenerationObjective:
    """The accuracy-diversity objective of every member on its own noise."""

    def __init__(self, shared: Generation, members: Sequence[tuple[Generation, int]], params: Tensor) -> None:
        self.shared, self.generator, self.target = shared, shared.generator, shared.target
        self.accuracy_weight = per_member([setting.accuracy_weight for setting, _ in members], params)
        self.norm_penalty = per_member([setting.norm_penalty for setting, _ in members], params)
        seeds = [seed for _, seed in members]
        self.keys = stream_keys(seeds, "batches").to(params.device)
        self.evaluation_keys = stream_keys(seeds, "evaluation").to(params.device)
        self._steps, self._noise = range(0), torch.empty(0)

    def _batch(self, step: int) -> Tensor:
        """Return z [members, batch_size, latent_dim], made for a fixed group of steps at a time."""
        if step not in self._steps:
            start = step - step % _CHUNK_STEPS
            self._steps = range(start, start + _CHUNK_STEPS)
            keys = step_keys(self.keys, torch.arange(start, start + _CHUNK_STEPS))
            count = self.shared.batch_size * self.generator.latent_dim
            self._noise = uniform_between(keys, count, -1, 1, torch.float32)
        return self._noise[:, step - self._steps.start].unflatten(-1, (self.shared.batch_size, -1))

    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return accuracy_weight * L_accuracy - H^, [members]."""
        points = self.generator.generate(_PLANE, params, self._batch(step))
        cost = self.norm_penalty * points.square().sum(dim=-1) - self.target.value(points)
        entropy = kozachenko_leonenko(points, self.generator.latent_dim)
        return (self.accuracy_weight * cost).mean(dim=-1) - entropy

    def _line(self, params: Tensor, keys: Tensor, count: int) -> Tensor:
        """Return ``count`` generated points in float64; z is equispaced, or random above one latent dimension."""
        latent_dim = self.generator.latent_dim
        if latent_dim == 1:
            z = torch.linspace(-1, 1, count, dtype=torch.float64, device=params.device)[:, None].expand(
                len(params), -1, -1
            )
        else:
            z = uniform_between(keys, count * latent_dim, -1, 1, torch.float64).unflatten(-1, (count, -1))
        return self.generator.generate(_PLANE, params.double(), z)

    def metrics(self, params: Tensor) -> dict[str, Tensor]:
        """Return the final metrics, each [members]; one member at a time bounds memory."""
        rows = [self._member_metrics(params[i : i + 1], self.evaluation_keys[i : i + 1]) for i in range(len(params))]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _member_metrics(self, params: Tensor, key: Tensor) -> dict[str, Tensor]:
        latent_dim = self.generator.latent_dim
        z = uniform_between(key, _EVALUATION_SAMPLES * latent_dim, -1, 1, torch.float64)
        points = self.generator.generate(_PLANE, params.double(), z.unflatten(-1, (_EVALUATION_SAMPLES, latent_dim)))[0]
        line = self._line(params, key, _PEAK_SAMPLES)[0]
        distances = torch.cdist(self.target.means().to(line), line).amin(dim=-1)
        metrics = {
            "mean_value": self.target.value(points).mean(),
            "entropy": kozachenko_leonenko(points, latent_dim),
            "peaks_reached": (distances <= self.target.deviations().to(line)).double().sum(),
        }
        if latent_dim == 1:
            even = line[:: _PEAK_SAMPLES // _EVALUATION_SAMPLES]
            metrics["rank_correlation"] = spearman(self.target.value(even), nearest_distances(even))
        return metrics

    def curves(self, params: Tensor) -> list[dict[str, list[list[float]]]]:
        """Return ``points`` of the generated curve and ``mixture_means``, as [xs, ys]."""
        means = [[round(number, 4) for number in axis] for axis in self.target.means().T.tolist()]
        lines = self._line(params, self.evaluation_keys, _CURVE_SAMPLES)
        rows: list[dict[str, list[list[float]]]] = []
        for line in lines:
            sound = line[line.isfinite().all(dim=-1)]
            points = [[round(number, 4) for number in axis] for axis in sound.T.tolist()]
            rows.append({"points": points, "mixture_means": means})
        return rows


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of two samples [n] without ties: a scalar, NaN where undefined."""
    if not (first.isfinite().all() and second.isfinite().all()):
        return torch.tensor(math.nan, dtype=torch.float64)
    ranks = torch.stack([sample.argsort().argsort().double() for sample in (first, second)])
    return torch.corrcoef(ranks)[0, 1]
