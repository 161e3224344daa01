"""What the stages of the approximation regime work on: every member's target on one fixed grid, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.errors import check_integer
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.grids import grid
from hyperscale.targets.target import Target

_HIDDEN_NUMBERS = 2**18  # a block's hidden values stay in the cache


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingGrid:
    """The equispaced grid of [-1, 1]^m on which a fit is made, per dimension: ``x_points`` of x, ``instances`` of I.

    Every I is seen with every x. `PerInstance` has its own values of I, and ``instances`` plays no part.
    """

    x_points: int = 129
    instances: int = 33

    def __post_init__(self) -> None:
        """Check the counts."""
        check_integer("TrainingGrid.x_points", self.x_points, 2)
        check_integer("TrainingGrid.instances", self.instances, 2)

    def num_pairs(self, method: Method, dims: Dims) -> int:
        """Return the number of pairs (x, I)."""
        return int(self.x_points**dims.x_dim) * self.num_instances(method, dims)

    def num_instances(self, method: Method, dims: Dims) -> int:
        """Return the number of values of I."""
        if isinstance(method, PerInstance):
            return method.num_networks(dims)
        return int(self.instances**dims.conditioning_dim)


class GridFit:
    """The fits of a pack's members, all of one method: points, targets, and the parameters that stages change.

    ``x`` [instances, points, x_dim] and ``conditioning`` [instances, conditioning_dim] are the same for every member;
    ``y`` [members, instances, points]; ``params`` [members, num_params_trained], float64, changed in place.
    ``projection`` is what constraints ask of parameters [members, num_params_trained].
    """

    def __init__(
        self,
        method: Method,
        where: TrainingGrid,
        targets: Sequence[Target],
        seeds: Sequence[int],
        device: str,
        projection: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.projection = projection
        self.method, self.where, self.targets, self.seeds = method, where, list(targets), list(seeds)
        self.dims: Dims = targets[0].dims
        self.x_grid = grid(self.dims.x_dim, where.x_points).to(device)
        if isinstance(method, PerInstance):
            values = method.instances(self.dims)
        else:
            values = grid(self.dims.conditioning_dim, where.instances)
        self.conditioning = values.to(device)
        self.x = self.x_grid.expand(len(values), -1, -1)
        self.features = method.features(self.conditioning)
        self.y = self._evaluate(device)
        self.params = self.project(method.initialize(self.dims, self.seeds).to(device)).contiguous()

    def _evaluate(self, device: str) -> Tensor:
        """Return the members' targets on the grid, each evaluated alone so that no bit depends on the pack."""
        parts = []
        for target, seed in zip(self.targets, self.seeds, strict=True):
            y = target.prepare([target], [seed], device).evaluate(self.x[None], self.conditioning[None])
            parts.append(y.squeeze(-1))
        return torch.cat(parts)

    @property
    def num_members(self) -> int:
        """The number of fits."""
        return len(self.seeds)

    def respond(self, params: Tensor) -> Tensor:
        """Return h(x, I) on the grid for ``params`` [members, num_params]: [members, instances, points].

        Some values of I at a time where the hidden values of all would be many and no gradient is asked for.
        """
        width = max(8, max(self.method.primary_widths, default=1))
        size = max(1, _HIDDEN_NUMBERS // (self.x.shape[1] * width))
        if params.requires_grad or isinstance(self.method, PerInstance):
            size = len(self.x)
        rows = [slice(start, start + size) for start in range(0, len(self.x), size)]
        return torch.cat([self._respond(params, part) for part in rows], dim=1)

    def _respond(self, params: Tensor, rows: slice) -> Tensor:
        x, features = self.x[rows], self.features[rows]
        x, features = (part.expand(len(params), *part.shape) for part in (x, features))
        return self.method.respond(self.dims, params, x, features).squeeze(-1)

    def residuals(self, params: Tensor | None = None) -> Tensor:
        """Return h - y, [members, instances, points]."""
        return self.respond(self.params if params is None else params) - self.y

    def project(self, params: Tensor) -> Tensor:
        """Return the nearest parameters that keep the constraints, [members, num_params]; stages ask at every step."""
        return params if self.projection is None else self.projection(params)

    @property
    def num_networks(self) -> int:
        """How many fits of their own a member consists of: `PerInstance`'s networks share nothing.

        A member's parameters are theirs one after the other, all of a length.
        """
        return len(self.conditioning) if isinstance(self.method, PerInstance) else 1

    def errors(self) -> tuple[Tensor, Tensor]:
        """Return each network's largest abs(h - y) on the grid and its mean square, [members, num_networks] both.

        One member at a time, so that not even the last bit depends on the pack.
        """
        largest, squared = [], []
        with torch.no_grad():
            for params, y in zip(self.params.split(1), self.y.split(1), strict=True):
                residuals = (self.respond(params) - y).view(self.num_networks, -1)
                largest.append(residuals.abs().amax(dim=1))
                squared.append(residuals.square().mean(dim=1))
        return torch.stack(largest), torch.stack(squared)

    def kept(self, largest: Tensor) -> Tensor:
        """Return every member's largest error, [members], of its networks' [members, num_networks].

        Of several attempts at an instance the best counts.
        """
        return self.method.keep_best(largest, largest)[0].amax(dim=1)

    def sup_errors(self) -> Tensor:
        """Return every member's largest abs(h - y) on the grid, [members]."""
        return self.kept(self.errors()[0])
