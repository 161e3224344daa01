"""The largest error found: a dense grid, then gradient ascent in (x, I) from the grid's largest local maxima."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import Activation, activate_, activation_function
from hyperscale.networks.encoders import HatEncoder
from hyperscale.networks.mlp import Layer, evaluate
from hyperscale.targets.grids import grid
from hyperscale.targets.target import PreparedTarget
from hyperscale.training.peaks import PeakCells

_CHUNK_NUMBERS = 2**18  # pairs (x, I), and hidden values, held at a time: what a core's cache takes
_BLOCK_NUMBERS = 2**21  # generated weights held at a time
_CHOICE_POINTS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class SupError:
    """The largest abs(h - y) found, and what else the grid shows.

    ``value`` is never less than ``grid_value``; it was found at ``x`` [x_dim] and ``conditioning``
    [conditioning_dim]. ``rmse`` is over the grid; ``zero_value`` and ``zero_rmse`` are those of predicting 0.
    ``attempts`` are the networks of `PerInstance` that count, one per value of I, or None. An h that is not finite
    somewhere on the grid has infinite ``value`` and ``rmse``.
    """

    value: float
    grid_value: float
    rmse: float
    zero_value: float
    zero_rmse: float
    x: Tensor
    conditioning: Tensor
    attempts: Tensor | None = None


def find_sup_error(  # noqa: PLR0913
    method: Method,
    dims: Dims,
    params: Tensor,
    target: PreparedTarget,
    *,
    grid_points: int,
    instances: Tensor | None = None,
    starts: int = 64,
    steps: int = 60,
) -> SupError:
    """Search [-1, 1]^m for the largest abs(h - y): a lower bound of the sup norm, in float64.

    ``params`` [1, num_params_trained]; the grid has ``grid_points`` per dimension. With ``instances``
    [instances, conditioning_dim], or those of `PerInstance`, I takes these values only and the ascent moves x. The
    ascent starts from up to ``starts`` local maxima of the grid and takes ``steps`` steps, each start on the sign of
    its own h - y. It is deterministic.
    """
    with torch.no_grad():
        params = params.double()
        fixed = method.instances(dims) if isinstance(method, PerInstance) else instances
        search = _Search(method, dims, params, target, grid_points, fixed)
        attempts = None
        if isinstance(method, PerInstance):
            attempts = best_attempts(method, dims, params, target, grid_points)
            search.networks = attempts
        cells = search.scan()
        x, conditioning, network = search.starts(cells.peaks(starts))
    grid_value = float(cells.largest.max())
    rmse, zero_rmse = (math.sqrt(total / search.count) for total in (search.squared, search.zero_squared))
    value, best = grid_value, 0
    if math.isfinite(grid_value):
        x, conditioning, reached = search.ascend(x, conditioning, network, steps)
        best = int(reached.argmax())
        value = max(grid_value, float(reached[best]))
    else:
        value = grid_value = rmse = math.inf
    return SupError(
        value=value,
        grid_value=grid_value,
        rmse=rmse,
        zero_value=search.zero_value,
        zero_rmse=zero_rmse,
        x=x[best].cpu(),
        conditioning=conditioning[best].cpu(),
        attempts=attempts,
    )


def best_attempts(
    method: PerInstance, dims: Dims, params: Tensor, target: PreparedTarget, grid_points: int | None = None
) -> Tensor:
    """Return the network of every instance with the smallest largest error on a grid of x, int64 [instances]."""
    count = method.num_networks(dims)
    if method.restarts == 1:
        return torch.arange(count, device=params.device)
    points = grid_points or max(2, round(_CHOICE_POINTS ** (1 / dims.x_dim)))
    search = _Search(method, dims, params.double(), target, points, method.instances(dims))
    with torch.no_grad():
        largest = torch.zeros(count, dtype=torch.float64, device=params.device)
        for rows, error, _ in search.slabs():
            largest[rows] = torch.maximum(largest[rows], error.abs().amax(dim=1))
    attempts = largest.nan_to_num(nan=math.inf, posinf=math.inf).unflatten(0, (-1, method.restarts))
    return attempts.argmin(dim=1) + method.restarts * torch.arange(len(attempts), device=params.device)


class _Search:
    """One trial's grid and ascent."""

    def __init__(
        self,
        method: Method,
        dims: Dims,
        params: Tensor,
        target: PreparedTarget,
        grid_points: int,
        fixed: Tensor | None,
    ) -> None:
        self.method, self.dims, self.params, self.target = method, dims, params, target
        self.grid_points, self.is_fixed = grid_points, fixed is not None
        self.x_grid = grid(dims.x_dim, grid_points).to(params.device)
        values = grid(dims.conditioning_dim, grid_points) if fixed is None else fixed.double()
        self.instances = values.to(params.device)
        self.networks = torch.arange(len(values), device=params.device)
        self.squared = self.zero_squared = self.zero_value = 0.0
        self.count = 0

    def error(self, x: Tensor, conditioning: Tensor, network: Tensor) -> tuple[Tensor, Tensor]:
        """Return h - y and y, [instances, points], for x [instances, points, x_dim] and each instance's network."""
        return self.difference(x, conditioning, self.weights(conditioning, network))

    def weights(self, conditioning: Tensor, network: Tensor) -> Tensor | None:
        """Return the primary networks' parameters, [instances, N_g], where every I has its own."""
        method = self.method
        if isinstance(method, PerInstance):
            return self.params.reshape(-1, method.num_params_primary(self.dims))[network]
        if not isinstance(method, Hypernetwork):
            return None
        if not isinstance(method.encoder, HatEncoder):
            return method.generate(self.dims, self.params, conditioning[None])[0]
        (weight, bias), *rest = method.f_shape(self.dims).split(self.params[0])
        hidden = interpolate_rows(weight, method.encoder.knots, conditioning)
        hidden = hidden if bias is None else hidden + bias
        activation = activation_function(method.activation)
        return evaluate(rest, activation(hidden), activation) if rest else hidden

    def difference(self, x: Tensor, conditioning: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return `error`'s h - y and y, given the instances' `weights`."""
        y = self.target.evaluate(x[None], conditioning[None])[0, ..., 0]
        if torch.is_grad_enabled():
            return self._respond(x, conditioning, weights) - y, y
        error = torch.empty_like(y)
        width = max(8, max(self.method.primary_widths, default=1))
        size = max(1, _CHUNK_NUMBERS // (x.shape[1] * width))
        length = max(1, _CHUNK_NUMBERS // width)
        for row in range(0, len(x), size):
            rows = slice(row, row + size)
            own = None if weights is None else weights[rows]
            for point in range(0, x.shape[1], length):
                points = slice(point, point + length)
                error[rows, points] = self._respond(x[rows, points], conditioning[rows], own)
        return error.sub_(y), y

    def _respond(self, x: Tensor, conditioning: Tensor, weights: Tensor | None) -> Tensor:
        """Return h, [instances, points]."""
        if weights is None:
            return self.method.evaluate(self.dims, self.params, x[None], conditioning[None])[0, ..., 0]
        assert isinstance(self.method, Hypernetwork | PerInstance)
        layers = self.method.primary_shape(self.dims).split(weights)
        if torch.is_grad_enabled():
            return evaluate(layers, x, activation_function(self.method.activation))[..., 0]
        return _evaluate_in_place(layers, x, self.method.activation)

    def slabs(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows of I, h - y and y, [rows, points], slab by slab in the order of the flat grid.

        Weights of the primary network are made once for a block of I, whatever the number of slabs.
        """
        size = max(1, _CHUNK_NUMBERS // len(self.x_grid))
        size = min(size, max(1, _BLOCK_NUMBERS // self.method.num_params_primary(self.dims)))
        for networks in self.networks.split(size):
            weights = self.weights(self.instances[networks], networks)
            for x in self.x_grid.split(_CHUNK_NUMBERS):
                x = x.expand(len(networks), -1, -1)
                yield networks, *self.difference(x, self.instances[networks], weights)

    def scan(self) -> PeakCells:
        """Go through the grid: cell maxima of abs(h - y), and sums of squares."""
        free = 0 if self.is_fixed else self.dims.conditioning_dim
        outer = (len(self.networks),) if self.is_fixed else (self.grid_points,) * free
        sizes = outer + (self.grid_points,) * self.dims.x_dim
        cells = PeakCells(sizes, 1 if self.is_fixed else 0, self.params.device)
        start = 0
        for _, error, y in self.slabs():
            error = error.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf).abs().flatten()
            cells.add(error, start)
            start += len(error)
            self.squared += float(error.square().sum())
            self.zero_squared += float(y.square().sum())
            self.zero_value = max(self.zero_value, float(y.abs().max()))
        self.count = start
        return cells

    def starts(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, I and the network at flat grid positions."""
        num_points = len(self.x_grid)
        network = self.networks[positions // num_points]
        return self.x_grid[positions % num_points], self.instances[network], network

    def ascend(self, x: Tensor, conditioning: Tensor, network: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Climb abs(h - y) from every start; return the points reached and their errors, [starts].

        Every step tries the gradient, its sign, both ways along every axis and the last move that helped (ridges of
        piecewise linear functions stop a pure gradient ascent), takes the best, and halves the step length of a start
        that none helps. Points leaving the cube are put back on its border.
        """
        x_dim = self.dims.x_dim
        u = x if self.is_fixed else torch.cat([x, conditioning], dim=1)

        def height(points: Tensor) -> Tensor:
            """Return the signed error of points [starts, candidates, k]."""
            flat = points.flatten(0, 1)
            each = points.shape[1]
            own = conditioning.repeat_interleave(each, 0) if self.is_fixed else flat[:, x_dim:]
            error, _ = self.error(flat[:, None, :x_dim], own, network.repeat_interleave(each))
            return sign[:, None] * error.reshape(points.shape[:2])

        sign = torch.ones(len(u), dtype=u.dtype, device=u.device)
        with torch.no_grad():
            value = height(u[:, None])[:, 0]
            sign = torch.where(value < 0, -1.0, 1.0).to(u)
            value = value.abs()
        length = torch.full_like(value, 2.0 / (self.grid_points - 1))
        last = torch.zeros_like(u)
        identity = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
        axes = torch.cat([identity, -identity]).expand(len(u), -1, -1)
        for _ in range(steps):
            gradient = _gradient(height, u)
            candidates = torch.stack([_unit(gradient), gradient.sign(), _unit(last), 2 * _unit(last)], dim=1)
            candidates = torch.cat([candidates, axes], dim=1)
            points = (u[:, None] + length[:, None, None] * candidates).clamp(-1, 1)
            with torch.no_grad():
                best, chosen = height(points).nan_to_num(nan=-math.inf).max(dim=1)
            better = best > value
            moved = points[torch.arange(len(u), device=u.device), chosen]
            last = torch.where(better[:, None], moved - u, last)
            u = torch.where(better[:, None], moved, u)
            value = torch.where(better, best, value)
            length = torch.where(better, length, length / 2)
        reached = conditioning if self.is_fixed else u[:, x_dim:]
        return u[:, :x_dim], reached, value


def interpolate_rows(table: Tensor, knots: int, conditioning: Tensor) -> Tensor:
    """Return the table's rows [knots ** d, n] interpolated multilinearly at I [instances, d]: [instances, n].

    It is a linear layer on `HatEncoder`'s features, by the 2^d rows whose hats are not 0 instead of all.
    """
    position = (conditioning + 1) * ((knots - 1) / 2)
    cell = position.detach().floor().clamp(0, knots - 2)
    local = position - cell
    total: Tensor | None = None
    for corner in itertools.product((0, 1), repeat=conditioning.shape[1]):
        row = torch.zeros(len(cell), dtype=torch.int64, device=cell.device)
        hat = torch.ones_like(local[:, 0])
        for axis, step in enumerate(corner):
            row = row * knots + cell[:, axis].long() + step
            hat = hat * (local[:, axis] if step else 1 - local[:, axis])
        part = hat[:, None] * table[row]
        total = part if total is None else total + part
    assert total is not None
    return total


def _evaluate_in_place(layers: Sequence[Layer], x: Tensor, activation: Activation) -> Tensor:
    """Return the networks' values [rows, points] at x [rows, points, x_dim]; memory is what takes the time."""
    hidden = x
    for weight, bias in layers[:-1]:
        # One input is spread by hand, at a fraction of a matrix product's cost.
        if weight.shape[-2] > 1:
            hidden = torch.bmm(hidden, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), hidden, weight)
        else:
            hidden = hidden * weight if bias is None else torch.addcmul(bias.unsqueeze(1), hidden, weight)
        hidden = activate_(hidden, activation)
    weight, bias = layers[-1]
    values = torch.bmm(hidden, weight)[..., 0]
    return values if bias is None else values.add_(bias)


def _unit(vector: Tensor) -> Tensor:
    norm = vector.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, vector / norm.clamp_min(1e-300), vector)


def _gradient(height: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(height(leaf[:, None]).sum(), leaf)
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
