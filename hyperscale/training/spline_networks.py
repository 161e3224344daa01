"""Shallow ReLU networks of one input, read as free-knot splines and written back, exactly.

The spline with knots t_j, slopes m_0, ..., m_k and value a at -1 is, on [-1, 1],
``alpha relu(x + 1) + beta relu(1 - x) + sum_j (m_j - m_{j-1}) relu(x - t_j)`` with beta = a / 2 and alpha = m_0 + beta;
where the last layer has a bias, that is a and one unit more is a knot.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import activation_function
from hyperscale.networks.mlp import Shape, evaluate
from hyperscale.training.splines import MIN_GAP, Array, as_array, nodes_of, separated


def is_table(method: Method) -> bool:
    """Whether the method is a hypernetwork that is a table of weights: an encoder and no hidden layer."""
    return isinstance(method, Hypernetwork) and method.encoder is not None and not method.widths


def is_ridge_table(method: Method) -> bool:
    """Whether the method is a hypernetwork that is a table of shallow networks, able to share a layer between all I."""
    if not is_table(method) or len(method.primary_widths) != 1:
        return False
    return isinstance(method, Hypernetwork) and method.encoder is not None and method.encoder.sums_to_one


def is_spline(method: Method, dims: Dims) -> bool:
    """Whether g is a shallow ReLU network of one input that can be any spline with `num_knots` knots."""
    if not isinstance(method, PerInstance | Hypernetwork) or dims.x_dim != 1 or len(method.primary_widths) != 1:
        return False
    return method.activation == "relu" and method.primary_biases()[0] and num_knots(method) >= 0


def num_knots(method: Method) -> int:
    """Return k = width - 2, or width - 1 where the last layer has a bias."""
    return method.primary_widths[0] - 2 + method.primary_biases()[-1]


def first_layer_knots(shape: Shape, theta: Tensor, num: int) -> Array:
    """Return ``num`` ascending knots of networks ``theta`` [networks, N_g]: their kinks inside (-1, 1).

    Of more kinks than that the largest jumps of the slope stay; where there are fewer, the widest gaps are halved.
    """
    kinks, inside, slopes = _kinks(shape, theta)
    jump = np.where(inside, slopes, -1.0)
    order = np.argsort(-jump, axis=1, kind="stable")[:, :num]
    kept = np.take_along_axis(np.where(inside, kinks, np.inf), order, axis=1)
    kept = np.concatenate((kept, np.full((len(kept), max(0, num - kept.shape[1])), np.inf)), axis=1)
    for _ in range(int(np.isinf(kept).sum(axis=1).max(initial=0))):
        _halve_widest(kept)
    return separated(kept) if num else kept


def are_splines(shape: Shape, theta: Tensor, knots: Array) -> NDArray[np.bool_]:
    """Return which networks are splines with the ``knots`` read from them: none was left out or pushed apart."""
    _, inside, _ = _kinks(shape, theta)
    apart = np.diff(nodes_of(knots), axis=1).min(axis=1) > 1.01 * MIN_GAP
    return np.asarray(apart & (inside.sum(axis=1) <= knots.shape[1]))


def _kinks(shape: Shape, theta: Tensor) -> tuple[Array, NDArray[np.bool_], Array]:
    """Return the kinks of all units, which lie inside (-1, 1), and their jumps of the slope, [networks, width]."""
    (weight, bias), (last, _) = shape.split(theta)
    assert bias is not None
    first, offset, outer = as_array(weight[:, 0]), as_array(bias), as_array(last[..., 0])
    kinks = -offset / np.where(first == 0, 1e-300, first)
    return kinks, np.isfinite(kinks) & (np.abs(kinks) < 1), np.abs(first * outer)


def _halve_widest(knots: Array) -> None:
    """Replace one missing (infinite) knot of every row that has one by the middle of the row's widest gap."""
    knots.sort(axis=1)
    missing = np.isinf(knots[:, -1])
    nodes = nodes_of(np.minimum(knots, 1.0))
    widest = np.diff(nodes, axis=1).argmax(axis=1)
    rows = np.arange(len(knots))
    middle = 0.5 * (nodes[rows, widest] + nodes[rows, widest + 1])
    knots[missing, -1] = middle[missing]


def spline_values(shape: Shape, theta: Tensor, knots: Array) -> Array:
    """Return the networks' values at -1, the knots and 1: [networks, k + 2]."""
    nodes = torch.from_numpy(nodes_of(knots)).to(theta.device)
    return as_array(evaluate(shape.split(theta), nodes.unsqueeze(-1), activation_function("relu"))[..., 0])


def network(shape: Shape, knots: Array, values: Array) -> Array:
    """Return theta [networks, N_g] of the splines with ``knots`` [networks, k] and ``values`` [networks, k + 2]."""
    num = knots.shape[1]
    theta = np.zeros((len(knots), shape.num_params))
    slopes = np.diff(values, axis=1) / np.diff(nodes_of(knots), axis=1)
    width, start = shape.sizes[1], values[:, 0]
    weight, bias, last = theta[:, :width], theta[:, width : 2 * width], theta[:, 2 * width : 3 * width]
    weight[:, :num], bias[:, :num], last[:, :num] = 1.0, -knots, np.diff(slopes, axis=1)
    weight[:, num], bias[:, num], last[:, num] = 1.0, 1.0, slopes[:, 0]
    if shape.biases[-1]:
        theta[:, 3 * width] = start
    else:
        weight[:, num + 1], bias[:, num + 1] = -1.0, 1.0
        last[:, num] += 0.5 * start
        last[:, num + 1] = 0.5 * start
    return theta
