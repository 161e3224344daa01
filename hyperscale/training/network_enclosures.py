"""Enclosures of each method's h(x, I) over boxes of (x, I): what branch and bound is built on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import ConditionedMethod, Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import Activation
from hyperscale.networks.encoders import HatEncoder
from hyperscale.networks.mlp import Shape
from hyperscale.training.enclosures import (
    EPS,
    Enclosure,
    activated,
    affine,
    constants,
    coordinates,
    generated_affine,
    joined,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """Boxes of the inputs: ``lower`` and ``upper`` [cells, k], and each box's network, [cells], for `PerInstance`.

    k counts x and I, or x alone where I is fixed.
    """

    lower: Tensor
    upper: Tensor
    network: Tensor

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.lower)

    def __getitem__(self, rows: Tensor | slice) -> Boxes:
        """Return some of the boxes."""
        return Boxes(lower=self.lower[rows], upper=self.upper[rows], network=self.network[rows])

    @property
    def centre(self) -> Tensor:
        """The centres, [cells, k]."""
        return (self.lower + self.upper) / 2

    @property
    def half(self) -> Tensor:
        """The half widths, rounded up, [cells, k]."""
        centre = self.centre
        return torch.maximum(self.upper - centre, centre - self.lower) * (1 + 4 * EPS)

    def halved(self, dimension: Tensor) -> Boxes:
        """Return both halves of every box, cut across ``dimension`` [cells]: first the lower halves, then the upper."""
        cut = torch.zeros_like(self.lower, dtype=torch.bool).scatter_(1, dimension[:, None], True)
        lower = torch.cat([self.lower, torch.where(cut, self.centre, self.lower)])
        upper = torch.cat([torch.where(cut, self.centre, self.upper), self.upper])
        return Boxes(lower=lower, upper=upper, network=torch.cat([self.network, self.network]))


def can_enclose(method: Method) -> bool:
    """Whether the method is one whose h is known here, and its encoder, if it has one, is piecewise linear."""
    if isinstance(method, ConditionedMethod) and type(method.encoder) not in (type(None), HatEncoder):
        return False
    return isinstance(method, Monolithic | Embedding | Hypernetwork | PerInstance)


def first_boxes(method: Method, dims: Dims, networks: Tensor) -> Boxes:
    """Return boxes that fill the cube: one, or one for each cell of a `HatEncoder`, or one for each fixed I."""
    if isinstance(method, PerInstance):
        ones = torch.ones(len(networks), dims.x_dim, dtype=torch.float64, device=networks.device)
        return Boxes(lower=-ones, upper=ones, network=networks)
    knots = 2
    if isinstance(method, ConditionedMethod) and isinstance(method.encoder, HatEncoder):
        knots = method.encoder.knots
    axis = torch.linspace(-1, 1, knots, dtype=torch.float64, device=networks.device)
    whole = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=networks.device)
    axes = [whole] * dims.x_dim + [axis] * dims.conditioning_dim
    ends = [torch.cartesian_prod(*(part[cut] for part in axes)) for cut in (slice(0, -1), slice(1, None))]
    lower, upper = (part.reshape(-1, len(axes)) for part in ends)
    return Boxes(lower=lower, upper=upper, network=torch.zeros(len(lower), dtype=torch.int64, device=networks.device))


def num_numbers(method: Method, dims: Dims) -> int:
    """Return about how many numbers a box takes, for the size of a chunk."""
    num_dims = dims.x_dim + dims.conditioning_dim
    widest = max(method.primary_widths, default=1)
    if isinstance(method, Hypernetwork | PerInstance):
        own = 8 * (1 + dims.conditioning_dim) * method.num_params_primary(dims)
    else:
        own = 0
    if isinstance(method, ConditionedMethod):
        widest = max(widest, *method.widths, 1)
    if isinstance(method, Embedding):
        widest = max(widest, method.embedding_dim)
    return 12 * (1 + num_dims) * widest + own


def enclose(method: Method, dims: Dims, params: Tensor, boxes: Boxes) -> Enclosure:
    """Enclose h over ``boxes``: one function, [cells, 1]; ``params`` [1, num_params_trained]."""
    everything = coordinates(boxes.lower, boxes.upper, boxes.centre, 0)
    half = boxes.half
    if isinstance(method, Monolithic):
        return network(method.primary_shape(dims), params[0], everything, method.activation, half)
    if isinstance(method, PerInstance):
        shape = method.primary_shape(dims)
        theta = constants(params.reshape(-1, shape.num_params)[boxes.network])
        return generated_network(shape, theta, everything, method.activation, half)
    x = _inputs_alone(everything, dims.x_dim)
    if isinstance(method, Hypernetwork):
        theta = _conditioned(method, method.f_shape(dims), params[0], boxes, dims)
        return generated_network(method.primary_shape(dims), theta, x, method.activation, half)
    assert isinstance(method, Embedding)
    e_shape = method.e_shape(dims)
    embedded = _conditioned(method, e_shape, params[0, : e_shape.num_params], boxes, dims)
    embedded = activated(embedded, getattr(method, "embedding_activation", "identity"))
    beside = joined(x, embedded.widened(half.shape[1]))
    return network(method.primary_shape(dims), params[0, e_shape.num_params :], beside, method.activation, half)


def _inputs_alone(everything: Enclosure, x_dim: int) -> Enclosure:
    """Return x as functions of (x, I)."""
    return everything.columns(0, x_dim)


def _conditioned(method: ConditionedMethod, shape: Shape, params: Tensor, boxes: Boxes, dims: Dims) -> Enclosure:
    """Enclose f(I) or e(I), with slopes by the coordinates of I."""
    half = boxes.half[:, dims.x_dim :]
    if method.encoder is None:
        inputs = coordinates(boxes.lower, boxes.upper, boxes.centre, dims.x_dim)
        return network(shape, params, inputs, method.activation, half)
    assert isinstance(method.encoder, HatEncoder)
    (weight, bias), *rest = shape.split(params)
    own = [part[:, dims.x_dim :] for part in (boxes.lower, boxes.centre, boxes.upper)]
    hidden = interpolated(weight, bias, method.encoder.knots, own)
    if not rest:
        return hidden
    remaining = Shape(sizes=shape.sizes[1:], biases=shape.biases[1:])
    start = shape.num_params - remaining.num_params
    return network(remaining, params[start:], activated(hidden, method.activation), method.activation, half)


def network(shape: Shape, params: Tensor, inputs: Enclosure, activation: Activation, half: Tensor) -> Enclosure:
    """Enclose a network with exact parameters [num_params]."""
    layers = shape.split(params)
    for index, (weight, bias) in enumerate(layers):
        inputs = affine(inputs, weight, bias, half)
        if index < len(layers) - 1:
            inputs = activated(inputs, activation)
    return inputs


def generated_network(
    shape: Shape, theta: Enclosure, inputs: Enclosure, activation: Activation, half: Tensor
) -> Enclosure:
    """Enclose a network whose parameters are themselves functions of the box."""
    start = 0
    for index, (fan_in, fan_out, has_bias) in enumerate(shape.layers):
        stop = start + fan_in * fan_out
        weight = theta.columns(start, stop).matrix(fan_in, fan_out)
        bias = theta.columns(stop, stop + fan_out) if has_bias else None
        inputs = generated_affine(inputs, weight, bias, half)
        if index < shape.depth - 1:
            inputs = activated(inputs, activation)
        start = stop + has_bias * fan_out
    return inputs


def interpolated(weight: Tensor, bias: Tensor | None, knots: int, box: list[Tensor]) -> Enclosure:
    """Enclose a linear layer on hat features: a table at the knots, interpolated multilinearly inside their cells.

    ``weight`` [knots ** d, n]; ``box`` holds the lower ends, centres and upper ends of I, [cells, d] each, every box
    inside one cell. A multilinear function takes its extremes at the corners of a box, and so do its derivatives.
    """
    dim = box[1].shape[1]
    spacing = 2.0 / (knots - 1)
    cell = ((box[1] + 1) / spacing).floor().clamp(0, knots - 2)
    low, centre, high = ((part + 1) / spacing - cell for part in box)
    rows = torch.stack([_row(cell, corner, knots) for corner in itertools.product((0, 1), repeat=dim)], dim=1)
    table = weight[rows].unflatten(1, (2,) * dim)
    slack = 8 * (knots + 8) * EPS * table.abs().flatten(1, dim).amax(dim=1)
    values = _corners(table, low, high, range(dim))
    point = _corners(table, centre, centre, range(dim))
    slopes = []
    for d in range(dim):
        difference = (table.select(1 + d, 1) - table.select(1 + d, 0)) / spacing
        slopes.append(_corners(difference, low, high, [c for c in range(dim) if c != d]))
    shift = torch.zeros_like(weight[0]) if bias is None else bias
    slack = slack + 4 * EPS * shift.abs()
    steep = slack[:, None] / spacing
    return Enclosure(
        point_lower=point[0] + shift - slack,
        point_upper=point[1] + shift + slack,
        lower=values[0] + shift - slack,
        upper=values[1] + shift + slack,
        slope_lower=torch.stack([part[0] for part in slopes], dim=1) - steep,
        slope_upper=torch.stack([part[1] for part in slopes], dim=1) + steep,
    )


def _row(cell: Tensor, corner: tuple[int, ...], knots: int) -> Tensor:
    """Return the table's row at a corner of each cell, [cells]: the first coordinate varies slowest."""
    row = torch.zeros(len(cell), dtype=torch.int64, device=cell.device)
    for d, step in enumerate(corner):
        row = row * knots + cell[:, d].to(torch.int64) + step
    return row


def _corners(table: Tensor, low: Tensor, high: Tensor, axes: range | list[int]) -> tuple[Tensor, Tensor]:
    """Return the least and largest interpolated value at the corners of a box: ``table`` [cells, 2, ..., 2, n]."""
    for number, axis in enumerate(axes):
        first, second = table.select(1 + number, 0), table.select(1 + number, 1)
        shape = (-1,) + (1,) * (first.dim() - 1)
        ends = [first + (second - first) * part[:, axis].reshape(shape) for part in (low, high)]
        table = torch.stack(ends, dim=1 + number)
    flat = table.reshape(len(table), math.prod(table.shape[1:-1]), table.shape[-1])
    return flat.amin(dim=1), flat.amax(dim=1)
