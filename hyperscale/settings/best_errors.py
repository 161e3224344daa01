"""How good a best approximation is: largest errors, certificates, infima and spectral complexities of one member."""

from __future__ import annotations

import importlib
import importlib.util
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.grids import grid
from hyperscale.targets.target import PreparedTarget, Target
from hyperscale.training.grid_fit import TrainingGrid

EVALUATION_NUMBERS = 2**20
_MAX_INFIMUM_INSTANCES = 257
_MIN_INFIMUM_POINTS = 1025


@dataclass(frozen=True, kw_only=True, slots=True)
class GridError:
    """The largest error on a grid and what goes with it, as `hyperscale.training.sup_norm` names them."""

    value: float
    rmse: float
    zero_value: float
    zero_rmse: float


def member_metrics(
    method: Method,
    target: Target,
    seed: int,
    params: Tensor,
    *,
    where: TrainingGrid,
    grid_points: int,
    certificate: bool,
) -> dict[str, float]:
    """Return one member's metrics from its parameters, float64 [1, num_params]; what is not known is not finite."""
    dims, device = target.dims, params.device
    prepared = target.prepare([target], [seed], str(device))
    instances = method.instances(dims).to(device) if isinstance(method, PerInstance) else None
    find = _function("hyperscale.training.sup_norm", "find_sup_error") or find_grid_error
    found = find(method, dims, params, prepared, grid_points=grid_points, instances=instances)
    metrics = {"sup_error": float(found.value), "rmse": float(found.rmse)}
    metrics |= {"zero_sup_error": float(found.zero_value), "zero_rmse": float(found.zero_rmse)}
    if certificate:
        certify = _function("hyperscale.training.certificates", "certify_sup_error")
        fields = {"found": metrics["sup_error"], "attempts": getattr(found, "attempts", None)}
        metrics["sup_error_bound"] = certify(method, dims, params, target, seed, **fields) if certify else math.inf
    metrics |= infima(method, target, seed, where=where, grid_points=grid_points)
    seen = spectral_instances(method, dims).to(device)[None]
    spectral = method.spectral_complexities(dims, params, seen)
    return metrics | {name: float(value) for name, value in spectral.items()}


def infimum_knots(method: Method, dims: Dims) -> dict[str, int]:
    """Return the knots of the piecewise linear functions that bound what the primary network can do, by metric.

    A network of one hidden layer of w ReLU units on the line is piecewise linear with at most w knots, and with
    biases it is every such function of w - 2 knots: two units are left for an affine function.
    """
    known = isinstance(method, Hypernetwork | PerInstance) and method.activation == "relu"
    if not known or dims.x_dim != 1 or len(method.primary_widths) != 1:
        return {}
    (width,) = method.primary_widths
    knots = {"per_instance_infimum": width}
    if method.primary_biases()[0]:
        knots["per_instance_reached"] = max(width - 2, 0)
    return knots


def infima(method: Method, target: Target, seed: int, *, where: TrainingGrid, grid_points: int) -> dict[str, float]:
    """Return the exact errors of the best piecewise linear functions at the worst I, by metric."""
    dims, knots = target.dims, infimum_knots(method, target.dims)
    errors = _function("hyperscale.targets.exact", "per_instance_errors")
    if errors is None or not knots:
        return dict.fromkeys(knots, math.nan)
    if isinstance(method, PerInstance):
        instances = method.instances(dims)[:: method.restarts]
    else:
        most = max(2, int(_MAX_INFIMUM_INSTANCES ** (1 / dims.conditioning_dim)))
        instances = grid(dims.conditioning_dim, min(where.instances, most))
    points = max(_MIN_INFIMUM_POINTS, grid_points)
    found = errors(target, seed, num_knots=list(knots.values()), conditioning=instances, x_points=points)
    return dict(zip(knots, found.amax(dim=1).tolist(), strict=True))


def spectral_instances(method: Method, dims: Dims) -> Tensor:
    """Return the values of I, [instances, conditioning_dim], over which the primary's complexity is maximal."""
    if isinstance(method, PerInstance):
        return method.instances(dims)
    return grid(dims.conditioning_dim, max(2, min(33, round(4096 ** (1 / dims.conditioning_dim)))))


def _function(module: str, name: str) -> Any:
    """Return a function of a module, or None where there is no such module."""
    if importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), name)


def find_grid_error(
    method: Method,
    dims: Dims,
    params: Tensor,
    target: PreparedTarget,
    *,
    grid_points: int,
    instances: Tensor | None = None,
) -> GridError:
    """Return the errors on the equispaced grid, some values of I at a time."""
    x_grid = grid(dims.x_dim, grid_points).to(params.device)
    whole = instances is not None
    values = instances if instances is not None else grid(dims.conditioning_dim, grid_points).to(params.device)
    width = max(8, *method.primary_widths, 0)
    size = len(values) if whole else max(1, EVALUATION_NUMBERS // (len(x_grid) * width))
    largest, squared, zero_largest, zero, count, num_pairs = 0.0, 0.0, 0.0, 0.0, 0, 0
    for conditioning in values.split(size):
        x = x_grid.expand(1, len(conditioning), -1, -1).contiguous()
        y = target.evaluate(x, conditioning[None])
        residual = (method.evaluate(dims, params, x, conditioning[None]) - y).flatten(2)
        worst, squares = method.keep_best(residual.abs().amax(dim=2), residual.square().sum(dim=2))
        largest, squared = max(largest, float(worst.max())), squared + float(squares.sum())
        zero_largest, zero = max(zero_largest, float(y.abs().max())), zero + float(y.square().sum())
        count, num_pairs = count + squares.shape[1] * len(x_grid), num_pairs + y.numel()
    return GridError(
        value=largest,
        rmse=math.sqrt(squared / count),
        zero_value=zero_largest,
        zero_rmse=math.sqrt(zero / num_pairs),
    )
