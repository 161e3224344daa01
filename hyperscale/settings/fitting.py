"""The objective of approximation: members fitted to their targets on their batches, and judged at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import vanishes_at_zero
from hyperscale.settings.batches import (
    Batch,
    Batches,
    FreshBatches,
    PointSource,
    SampleBatches,
    draw_sample,
)
from hyperscale.targets.grids import grid
from hyperscale.targets.target import FixedSample, PreparedTarget
from hyperscale.training.objective import Objective

if TYPE_CHECKING:
    from hyperscale.settings.approximation import Approximation

MAX_EVALUATION_NUMBERS = 2**20
EVALUATION_CHUNK = 500


class ApproximationObjective(Objective):
    """Mean squared error of the members on their batches, and their errors at the end.

    Members with the same target and seed see the same points: streams are made once and shared. All members train as
    one method, padded; a member is initialised and judged as its own.
    """

    def __init__(self, members: Sequence[tuple[Approximation, int]], device: str) -> None:
        self.members, self.device = list(members), device
        shared = members[0][0]
        self.shared, self.method = shared, shared.padded_method
        self.dims: Dims = shared.target.dims
        streams = list(dict.fromkeys((setting.target, seed) for setting, seed in members))
        numbers = {stream: number for number, stream in enumerate(streams)}
        self.targets = [target for target, _ in streams]
        self.seeds = [seed for _, seed in streams]
        self.row_of = [numbers[setting.target, seed] for setting, seed in members]
        same = self.row_of == list(range(len(streams)))
        self.rows = None if same else torch.tensor(self.row_of, device=device)
        self.target: PreparedTarget = shared.target.prepare(self.targets, self.seeds, device)
        self.sample: Batch | None = None
        self._fits: dict[int, Tensor] = {}
        self._places: dict[Method, Tensor] = {}
        self._tests: dict[object, list[Batch]] = {}
        self.batches: Batches = self._batches()

    def select(self, members: Sequence[int]) -> ApproximationObjective:
        """Return the objective of some of the members, which draws only what these need."""
        return ApproximationObjective([self.members[member] for member in members], self.device)

    def _source(self, stream: Literal["data", "batches"]) -> PointSource:
        return PointSource(self.seeds, stream, self.dims, self.shared.target.inputs, self.device)

    def _batches(self) -> Batches:
        points = self.shared.points
        if isinstance(points, FixedSample):
            self.sample = draw_sample(self._source("data"), self.target, points.size, self.shared.dtype)
            return SampleBatches(self.sample, points, self.seeds, self.method)
        return FreshBatches(self._source("batches"), self.target, points, self.shared.dtype, self.method)

    def _place(self, method: Method) -> Tensor:
        """Return where a member's own parameters lie among the padded ones."""
        if method not in self._places:
            self._places[method] = method.positions(self.dims, self.method).to(self.device)
        return self._places[method]

    def initialize(self) -> Tensor:
        """Return initial parameters, float64 [members, num_params]; what padding adds is zero."""
        params = torch.zeros(len(self.members), self.method.num_params_trained(self.dims), dtype=torch.float64)
        groups: dict[Method, list[int]] = {}
        for row, (setting, _) in enumerate(self.members):
            groups.setdefault(setting.method, []).append(row)
        for method, rows in groups.items():
            values = method.initialize(self.dims, [self.members[row][1] for row in rows])
            params[torch.tensor(rows)[:, None], self._place(method).cpu()] = values
        return params

    def bind(self, params: Tensor, gradient: Tensor) -> None:
        """Take the tensors of training and make the method's program for them."""
        super().bind(params, gradient)
        self.model = self.method.packed(self.dims, params, gradient, self.shared.batch_shape)
        self.mask: Tensor | None = None
        if not vanishes_at_zero(self.method.activation) and any(s.method != self.method for s, _ in self.members):
            self.mask = torch.zeros_like(params)
            for row, (setting, _) in enumerate(self.members):
                self.mask[row, self._place(setting.method)] = 1

    def _for_members(self, part: Tensor) -> Tensor:
        """Give every member its stream's rows, always contiguous: a kernel may depend on the layout."""
        return part.contiguous() if self.rows is None else part.index_select(0, self.rows)

    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return the mean squared error on the batch of ``step``, [members], by the method's plain form."""
        x, conditioning, y = (self._for_members(part) for part in self.batches.batch(step))
        residual = self.method.evaluate(self.dims, params, x, conditioning) - y
        return residual.square().mean(dim=(1, 2, 3))

    def inputs(self, step: int) -> Sequence[Tensor]:
        """Return x, what the method sees of I, and y, member by member."""
        x, _, y = self.batches.batch(step)
        return [self._for_members(part) for part in (x, self.batches.features(step), y)]

    def differentiate(self, step: int) -> Tensor:
        """Return the losses and fill the gradient, by the method's fast form."""
        return self.differentiate_on(self.inputs(step))

    def differentiate_on(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the losses on given inputs and fill the gradient."""
        x, features, y = inputs
        residual = self.model.forward(x, features).sub_(y).flatten(1)
        loss = residual.square().mean(dim=1)
        self.model.backward(residual.mul_(2 / residual.shape[1]).view_as(y))
        if self.mask is not None:
            self.gradient.mul_(self.mask)
        return loss

    def metrics(self, params: Tensor, members: Sequence[int]) -> dict[str, Tensor]:
        """Return final errors and spectral complexities, each [len(members)].

        One member at a time, as its own unpadded self, so that not even the last bit depends on the pack.
        """
        rows = [self._member_metrics(row, member) for row, member in zip(params, members, strict=True)]
        return {name: torch.cat([metrics[name] for metrics in rows]) for name in rows[0]}

    def _member_metrics(self, padded: Tensor, member: int) -> dict[str, Tensor]:
        """Return the metrics of one member from its parameters [num_params]; each [1]."""
        setting, row = self.members[member][0], self.row_of[member]
        method = setting.method
        params = padded[self._place(method)][None].double()
        largest = torch.zeros(1, dtype=torch.float64, device=params.device)
        total, zero, linear, count = largest.clone(), largest.clone(), largest.clone(), 0
        zero_largest, num_points = largest.clone(), 0
        fit = None if self.sample is None else self._linear_fit(row)
        for x, conditioning, y in self._kept_batches(setting, row):
            residual = (method.evaluate(self.dims, params, x, conditioning) - y).flatten(2)
            worst, squared = method.keep_best(residual.abs().amax(dim=2), residual.square().sum(dim=2))
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
        return metrics | method.spectral_complexities(self.dims, params, self._spectral_instances(method, row))

    def _linear_fit(self, row: int) -> Tensor:
        """Return the best linear map of stream ``row``'s sample, computed once."""
        assert self.sample is not None
        if row not in self._fits:
            x, conditioning, y = (part[row : row + 1] for part in self.sample)
            self._fits[row] = linear_fit((x, conditioning, y))
        return self._fits[row]

    def _spectral_instances(self, method: Method, row: int) -> Tensor:
        """Return the values of I, [1, instances, conditioning_dim], over which the primary's complexity is maximal."""
        if self.sample is not None:
            return self.sample[1][row : row + 1, :100].double()
        if isinstance(method, PerInstance):
            instances = method.instances(self.dims)
        else:
            instances = grid(
                self.dims.conditioning_dim, max(2, min(33, round(4096 ** (1 / self.dims.conditioning_dim))))
            )
        return instances.to(self.device)[None]

    def _kept_batches(self, setting: Approximation, row: int) -> Iterator[Batch] | list[Batch]:
        """Yield the evaluation batches of a stream; those of the last one asked for are kept, if not too large."""
        seed = self.seeds[row] if setting.target.varies_with_seed or self.sample is not None else None
        wide = isinstance(setting.method, PerInstance) and setting.method.num_networks(self.dims)
        key = (setting.target, seed, setting.grid_points, wide)
        if key not in self._tests:
            numbers = setting.grid_points**self.dims.x_dim * (wide or setting.grid_points**self.dims.conditioning_dim)
            if self.sample is not None or numbers * (self.dims.x_dim + 1) > MAX_EVALUATION_NUMBERS:
                return self._evaluation_batches(setting, row)
            self._tests = {key: list(self._evaluation_batches(setting, row))}
        return self._tests[key]

    def _evaluation_batches(self, setting: Approximation, row: int) -> Iterator[Batch]:
        """Yield stream ``row``'s test sample, or the grid with its target, some instances at a time."""
        target = setting.target.prepare([self.targets[row]], [self.seeds[row]], self.device)
        if isinstance(setting.points, FixedSample):
            source = PointSource([self.seeds[row]], "evaluation", self.dims, setting.target.inputs, self.device)
            test = draw_sample(source, target, setting.points.test_size, torch.float64)
            for start in range(0, test[0].shape[1], EVALUATION_CHUNK):
                x, conditioning, y = (part[:, start : start + EVALUATION_CHUNK] for part in test)
                yield x, conditioning, y
            return
        x_grid = grid(self.dims.x_dim, setting.grid_points).to(self.device)
        if isinstance(setting.method, PerInstance):
            instances = setting.method.instances(self.dims).to(self.device)
        else:
            instances = grid(self.dims.conditioning_dim, setting.grid_points).to(self.device)
        width = max(8, max(self.method.primary_widths, default=1))  # the padded width: chunks are kept for pack-mates
        size = max(1, MAX_EVALUATION_NUMBERS // (len(x_grid) * width))
        if isinstance(setting.method, PerInstance):
            size = len(instances)
        for start in range(0, len(instances), size):
            conditioning = instances[start : start + size][None]
            x = x_grid.expand(1, conditioning.shape[1], -1, -1).contiguous()
            yield x, conditioning, target.evaluate(x, conditioning)


def linear_fit(sample: Batch) -> Tensor:
    """Return the best I-independent linear map of x on a sample, by least squares: float64 [streams, x_dim, 1]."""
    x, y = sample[0].squeeze(2).double(), sample[2].flatten(1).double()
    gram = x.mT @ x
    ridge = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge.unsqueeze(-1))
    return torch.linalg.solve(gram, x.mT @ y.unsqueeze(-1))
