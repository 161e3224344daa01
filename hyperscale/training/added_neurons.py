"""One neuron more for a trained shallow network that is kept as it is: how far the L2 error falls at least.

Lemma 1 of "On the Modularity of Hypernetworks" (Galanti & Wolf, 2020) shows that the best network of two layers is not
best with a neuron more: for some a and b the mean square of h + beta s(a u + b) - y has a derivative at beta = 0 that
is not 0. With r = h - y that derivative is 2 <r, s>, and the best beta, -<r, s> / |s|^2, takes <r, s>^2 / |s|^2 off the
sum of squares. Here a and b are searched for: what is found is an upper bound on the best network's error with a
neuron more.
"""

from __future__ import annotations

import math

import torch
from scipy.stats import qmc
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import Activation, activation_function
from hyperscale.targets.grids import grid
from hyperscale.targets.target import PreparedTarget

MAX_PAIRS = 2**17
_NUMBERS = 2**20
_DIRECTIONS, _LINE_OFFSETS, _OFFSETS, _SCALES, _ROUNDS = 64, 65, 17, (0.5, 2.0, 8.0, 32.0), 60
_LEAST_NORM = 1e-12  # a unit that is smaller than this on every point of the grid is taken as 0


def check_shallow(method: Method) -> None:
    """Raise `StudyError` unless a neuron can be added: `PerInstance` or `Monolithic` with one hidden layer."""
    if not isinstance(method, PerInstance | Monolithic) or len(method.primary_widths) != 1:
        raise StudyError(
            "BestApproximation.one_more_neuron adds a neuron to a network of one hidden layer; allowed: PerInstance "
            f"or Monolithic with one width, given {method.name} with primary_widths {method.primary_widths}."
        )


def rmse_one_more(
    method: Method,
    dims: Dims,
    params: Tensor,
    target: PreparedTarget,
    *,
    grid_points: int,
    attempts: Tensor | None = None,
) -> float:
    """Return the root mean square error on the grid of (x, I) after every network was given one neuron more.

    ``params`` [1, num_params_trained]; `PerInstance`'s networks ``attempts`` [instances] get one each, `Monolithic` one
    on (x, I). Never more than the error without, to rounding.
    """
    params = params.double()
    x = grid(dims.x_dim, grid_points).to(params.device)
    if isinstance(method, PerInstance):
        conditioning = method.instances(dims).to(params.device)
    else:
        conditioning = grid(dims.conditioning_dim, grid_points).to(params.device)
    points = x.expand(1, len(conditioning), -1, -1)
    with torch.no_grad():
        h = method.evaluate(dims, params, points, conditioning[None])
        residuals = (h - target.evaluate(points, conditioning[None]))[0, ..., 0]
        if isinstance(method, PerInstance):
            own, inputs = residuals if attempts is None else residuals[attempts], x
        else:
            beside = conditioning.repeat_interleave(len(x), 0)
            own, inputs = residuals.reshape(1, -1), torch.cat([x.repeat(len(conditioning), 1), beside], dim=1)
        return math.sqrt(float(add_neuron(own, inputs, method.activation).mean()))


def add_neuron(residuals: Tensor, inputs: Tensor, activation: Activation) -> Tensor:
    """Return the mean squares, [networks], of ``residuals`` [networks, points] less the best unit's part.

    The best of a fixed set of units s(a u + b) on the ``inputs`` [points, dim], then improved by moving a and b
    by steps that halve where none helps.
    """
    units = _first_units(inputs.shape[1], activation).to(inputs)
    with_one = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
    function = activation_function(activation)
    best = torch.full((len(residuals),), -1.0).to(residuals)
    chosen = units[:1].repeat(len(residuals), 1)
    for part in units.split(max(1, _NUMBERS // len(inputs))):
        values = function(part @ with_one.T)
        gain, index = _gains(residuals, values.expand(len(residuals), -1, -1)).max(dim=1)
        chosen = torch.where((gain > best)[:, None], part[index], chosen)
        best = torch.maximum(gain, best)
    chosen = _improve(residuals, with_one, chosen, best, activation)
    value = function(chosen @ with_one.T)
    beta = (residuals * value).sum(dim=1) / value.square().sum(dim=1).clamp_min(_LEAST_NORM**2)
    return (residuals - beta[:, None] * value).square().mean(dim=1)


def _improve(residuals: Tensor, with_one: Tensor, start: Tensor, gains: Tensor, activation: Activation) -> Tensor:
    """Return the units (a, b), [networks, dim + 1], after `_ROUNDS` rounds of moves.

    Along the axes, and along (a, b) itself, which makes the unit steeper or flatter about its kink.
    """
    function, count = activation_function(activation), with_one.shape[1]
    axes = torch.cat([torch.eye(count), -torch.eye(count)]).to(start)
    at, best = start, gains
    length = at[:, :-1].norm(dim=1) / _OFFSETS
    for _ in range(_ROUNDS):
        own = at / at.norm(dim=1, keepdim=True)
        moves = torch.cat([axes.expand(len(at), -1, -1), torch.stack([own, -own], dim=1)], dim=1)
        tried = at[:, None] + length[:, None, None] * moves
        gain, index = _gains(residuals, function(tried @ with_one.T)).max(dim=1)
        better = gain > best
        at = torch.where(better[:, None], tried[torch.arange(len(at)), index], at)
        best = torch.where(better, gain, best)
        length = torch.where(better, length, length / 2)
    return at


def _gains(residuals: Tensor, values: Tensor) -> Tensor:
    """Return <r, s>^2 / |s|^2, [networks, units], of ``values`` s [networks, units, points]; 0 where s is 0."""
    squares = values.square().sum(dim=-1)
    inner = (values @ residuals[..., None]).squeeze(-1)
    return torch.where(squares > _LEAST_NORM**2, inner.square() / squares.clamp_min(_LEAST_NORM**2), 0.0)


def _first_units(dim: int, activation: Activation) -> Tensor:
    """Return the weights and biases (a, b) of the units tried first, [units, dim + 1].

    Directions: both on the line, else `_DIRECTIONS` evenly spread ones (a Halton sequence mapped to normal numbers);
    kinks at even shares of the cube's length along each; for activations that are not positively
    homogeneous `_SCALES` of slopes.
    """
    if dim == 1:
        directions = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    else:
        halton = qmc.Halton(dim, scramble=False).random(_DIRECTIONS + 1)[1:]
        draws = torch.erfinv(2 * torch.as_tensor(halton) - 1)
        directions = draws / draws.norm(dim=1, keepdim=True)
    count = _LINE_OFFSETS if dim == 1 else _OFFSETS
    share = 2 * (torch.arange(count, dtype=torch.float64) + 0.5) / count - 1
    offsets = -directions.abs().sum(dim=1)[:, None] * share
    units = torch.cat([directions[:, None].expand(-1, count, -1), offsets[..., None]], dim=-1).flatten(0, 1)
    scales = (1.0,) if activation in ("relu", "leaky_relu") else _SCALES
    return torch.cat([scale * units for scale in scales])
