"""How good a best approximation is: largest errors, certificates, infima and spectral complexities of one member."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.exact import per_instance_infimum
from hyperscale.targets.grids import grid
from hyperscale.targets.target import Target
from hyperscale.training.added_neurons import rmse_one_more
from hyperscale.training.certificates import certify_sup_error
from hyperscale.training.constraints import constraint_metrics
from hyperscale.training.sup_norm import find_sup_error

EVALUATION_NUMBERS = 2**20
_MAX_INFIMUM_INSTANCES = 128
_MIN_INFIMUM_POINTS = 1025


def member_metrics(
    method: Method,
    target: Target,
    seed: int,
    params: Tensor,
    *,
    grid_points: int,
    certificate: bool,
    one_more_neuron: bool = False,
) -> dict[str, float]:
    """Return one member's metrics from its parameters, float64 [1, num_params]; what is not known is not finite."""
    dims, device = target.dims, params.device
    prepared = target.prepare([target], [seed], str(device))
    instances = method.instances(dims).to(device) if isinstance(method, PerInstance) else None
    found = find_sup_error(method, dims, params, prepared, grid_points=grid_points, instances=instances)
    metrics = {"sup_error": float(found.value), "rmse": float(found.rmse)}
    metrics |= {"zero_sup_error": float(found.zero_value), "zero_rmse": float(found.zero_rmse)}
    if certificate:
        metrics["sup_error_bound"] = certify_sup_error(
            method, dims, params, target, seed, found=found.value, attempts=found.attempts
        )
    if one_more_neuron:
        metrics["rmse_one_more"] = rmse_one_more(
            method, dims, params, prepared, grid_points=grid_points, attempts=found.attempts
        )
    metrics |= infima(method, target, seed, grid_points=grid_points)
    seen = spectral_instances(method, dims).to(device)[None]
    spectral = method.spectral_complexities(dims, params, seen)
    complexity = spectral | constraint_metrics(method, dims, params)
    return metrics | {name: float(value) for name, value in complexity.items()}


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


def infima(method: Method, target: Target, seed: int, *, grid_points: int) -> dict[str, float]:
    """Return the exact errors of the best piecewise linear functions at the worst I, by metric."""
    dims, knots = target.dims, infimum_knots(method, target.dims)
    if isinstance(method, PerInstance):
        instances = method.instances(dims)[:: method.restarts]
    else:
        instances = generic_instances(dims.conditioning_dim)
    points = max(_MIN_INFIMUM_POINTS, grid_points)
    return {
        name: per_instance_infimum(target, seed, num_knots=count, conditioning=instances, x_points=points)
        for name, count in knots.items()
    }


def generic_instances(dim: int) -> Tensor:
    """Return values of I at which targets with dyadic structure show every scale: float64 [instances, dim].

    They are the centres of a grid of 3 x 2^j cells per dimension (96 in one dimension): two of three lie at a
    third of the dyadic cells of every size, where no bump vanishes, as all finer ones do at dyadic points.
    """
    per_dim = 3 * 2 ** max(0, math.floor(math.log2(_MAX_INFIMUM_INSTANCES ** (1 / dim) / 3)))
    axis = (2 * torch.arange(per_dim, dtype=torch.float64) + 1) / per_dim - 1
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)


def spectral_instances(method: Method, dims: Dims) -> Tensor:
    """Return the values of I, [instances, conditioning_dim], over which the primary's complexity is maximal."""
    if isinstance(method, PerInstance):
        return method.instances(dims)
    return grid(dims.conditioning_dim, max(2, min(33, round(4096 ** (1 / dims.conditioning_dim)))))
