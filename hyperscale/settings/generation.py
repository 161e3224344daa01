"""Generation: a generator G(z) trained on accuracy and diversity together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hyperscale.diversity.entropy import kozachenko_leonenko, nearest_distances
from hyperscale.errors import StudyError, brief, check_integer, check_number
from hyperscale.identity import canonical
from hyperscale.methods.packed import layers_of
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.activations import vanishes_at_zero
from hyperscale.networks.backprop import backward, forward
from hyperscale.seeding import step_keys, stream_keys, uniform_between
from hyperscale.settings.setting import Cost, PackRun, Scalar, Setting
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.training.objective import Objective
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
                raise StudyError(f"Generation.{name} is {brief(getattr(self, name))}; allowed: a {kind.__name__}.")
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
        """The generator up to padding, the target and the update rule; weights, rates and steps may vary."""
        parts = [canonical(part) for part in (self.padded_generator, self.target, self.optimizer.program())]
        return [*parts, self.batch_size]

    @property
    def padded_generator(self) -> WeightGenerator:
        """The generator as a pack trains it, with widths that several settings share."""
        return self.generator.padded(_PLANE)

    def cost(self) -> Cost:
        """Estimate one trial: three passes a step and the update."""
        shape = self.padded_generator.shape(_PLANE)
        work = 6.0 * self.batch_size * shape.num_weights + 12.0 * shape.num_params
        activations = self.batch_size * sum(shape.sizes)
        return Cost(
            flops=self.steps * work,
            num_steps=self.steps,
            memory_bytes=24 * shape.num_params + 16 * activations + 8 * self.batch_size**2,
            shared_bytes=12 * _PEAK_SAMPLES**2,
            num_activations=float(self.steps) * (activations + self.batch_size**2),
        )

    def brief(self, num_steps: int | None) -> Generation:
        """Return the same with ``num_steps`` steps."""
        return replace(self, steps=num_steps or self.steps)

    def start(self, members: Sequence[tuple[Generation, int]], device: str) -> PackRun:
        """Start training ``members`` (setting, seed) of this program together."""
        objective = GenerationObjective(members, device)
        optimizers, steps = [s.optimizer for s, _ in members], [s.steps for s, _ in members]
        return TrainingRun(objective, objective.initialize().to(device, torch.float32), optimizers, steps)


class GenerationObjective(Objective):
    """The accuracy-diversity objective of every member on its own noise; all train as one generator, padded."""

    def __init__(self, members: Sequence[tuple[Generation, int]], device: str) -> None:
        self.members, self.device = list(members), device
        self.shared = members[0][0]
        self.generator, self.target = self.shared.padded_generator, self.shared.target
        seeds = [seed for _, seed in members]
        self.keys = stream_keys(seeds, "batches").to(device)
        self.evaluation_keys = stream_keys(seeds, "evaluation").to(device)
        numbers = torch.empty(0, device=device)
        self.accuracy_weight = per_member([setting.accuracy_weight for setting, _ in members], numbers)
        self.norm_penalty = per_member([setting.norm_penalty for setting, _ in members], numbers)
        self._steps, self._noise = range(0), torch.empty(0)

    def select(self, members: Sequence[int]) -> GenerationObjective:
        """Return the objective of some of the members."""
        return GenerationObjective([self.members[member] for member in members], self.device)

    def _place(self, member: int) -> Tensor:
        """Return where a member's own parameters lie among the padded ones."""
        own = self.members[member][0].generator
        return own.shape(_PLANE).positions(self.generator.shape(_PLANE)).to(self.device)

    def initialize(self) -> Tensor:
        """Return initial parameters, float64 [members, num_params]; what padding adds is zero."""
        params = torch.zeros(len(self.members), self.generator.shape(_PLANE).num_params, dtype=torch.float64)
        groups: dict[WeightGenerator, list[int]] = {}
        for row, (setting, _) in enumerate(self.members):
            groups.setdefault(setting.generator, []).append(row)
        for generator, rows in groups.items():
            values = generator.initialize(_PLANE, [self.members[row][1] for row in rows])
            params[torch.tensor(rows)[:, None], self._place(rows[0]).cpu()] = values
        return params

    def bind(self, params: Tensor, gradient: Tensor) -> None:
        """Take the tensors of training and make the generator's program for them."""
        super().bind(params, gradient)
        shape, self._activation = self.generator.shape(_PLANE), self.generator.activation
        self._layers, self._gradients = layers_of(shape, params), layers_of(shape, gradient)
        self.mask: Tensor | None = None
        if not vanishes_at_zero(self._activation) and any(s.generator != self.generator for s, _ in self.members):
            self.mask = torch.zeros_like(params)
            for row in range(len(self.members)):
                self.mask[row, self._place(row)] = 1

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
        return self._loss_of(self.generator.generate(_PLANE, params, self._batch(step)))

    def differentiate(self, step: int) -> Tensor:
        """Return the losses and fill the gradient: the chain rule written out up to the generated points."""
        return self.differentiate_on(self.inputs(step))

    def inputs(self, step: int) -> Sequence[Tensor]:
        """Return the noise."""
        return [self._batch(step)]

    def differentiate_on(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the losses on given noise and fill the gradient."""
        values = forward(self._layers, inputs[0], self._activation)
        points = values[-1].requires_grad_()
        with torch.enable_grad():
            loss = self._loss_of(points)
            (grad,) = torch.autograd.grad(loss.sum(), points)
        backward(self._layers, self._gradients, values, grad, self._activation)
        if self.mask is not None:
            self.gradient.mul_(self.mask)
        return loss.detach()

    def _loss_of(self, points: Tensor) -> Tensor:
        cost = self.norm_penalty * points.square().sum(dim=-1) - self.target.value(points)
        entropy = kozachenko_leonenko(points, self.generator.latent_dim)
        return (self.accuracy_weight * cost).mean(dim=-1) - entropy

    def _line(self, generator: WeightGenerator, params: Tensor, keys: Tensor, count: int) -> Tensor:
        """Return ``count`` generated points in float64; z is equispaced, or random above one latent dimension."""
        latent_dim = generator.latent_dim
        if latent_dim == 1:
            z = torch.linspace(-1, 1, count, dtype=torch.float64, device=params.device)[:, None].expand(
                len(params), -1, -1
            )
        else:
            z = uniform_between(keys, count * latent_dim, -1, 1, torch.float64).unflatten(-1, (count, -1))
        return generator.generate(_PLANE, params.double(), z)

    def metrics(self, params: Tensor, members: Sequence[int]) -> dict[str, Tensor]:
        """Return final metrics, each [len(members)]; one member at a time bounds memory."""
        rows = [self._member_metrics(row, member) for row, member in zip(params, members, strict=True)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _own(self, padded: Tensor, member: int) -> tuple[WeightGenerator, Tensor, Tensor]:
        """Return a member's unpadded generator, its parameters [1, num_params] and its evaluation key [1]."""
        params = padded[self._place(member)][None]
        return self.members[member][0].generator, params, self.evaluation_keys[member : member + 1]

    def _member_metrics(self, padded: Tensor, member: int) -> dict[str, Tensor]:
        generator, params, key = self._own(padded, member)
        latent_dim = generator.latent_dim
        z = uniform_between(key, _EVALUATION_SAMPLES * latent_dim, -1, 1, torch.float64)
        points = generator.generate(_PLANE, params.double(), z.unflatten(-1, (_EVALUATION_SAMPLES, latent_dim)))[0]
        line = self._line(generator, params, key, _PEAK_SAMPLES)[0]
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

    def curves(self, params: Tensor, members: Sequence[int]) -> list[dict[str, list[list[float]]]]:
        """Return ``points`` of the generated curve and ``mixture_means``, as [xs, ys]."""
        means = [[round(number, 4) for number in axis] for axis in self.target.means().T.tolist()]
        rows: list[dict[str, list[list[float]]]] = []
        for padded, member in zip(params, members, strict=True):
            line = self._line(*self._own(padded, member), _CURVE_SAMPLES)[0]
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
