"""What a stage of least squares takes: operations and bytes of one member, and what it can work on."""

from __future__ import annotations

from hyperscale.errors import StudyError
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.spline_networks import is_ridge_table, is_spline, is_table, num_knots

# Operations are counted at the pace of float32 products; what follows is measured on one core against these.
_SPLINE_PASSES = 400  # a grid point's: two locations, five moments, two interpolations, all bound by memory
_DENSE_PACE = 8.0  # float64 products and factorisations of tall matrices
PROGRAM_FLOPS = 3e8  # a small linear program, most of it not arithmetic
_SPLINE_ARRAYS = 12
MAX_NONLINEAR = 4096
_RIDGE_STAGES = ("Knots", "VarPro", "LpContinuation")


def check_supported(stage: str, method: Method, dims: Dims) -> None:
    """Raise `StudyError` unless the last layer is linear in parameters of its own and the rest is of moderate size."""
    if isinstance(method, Hypernetwork):
        _check_table(stage, method, dims)
        return
    if not isinstance(method, PerInstance | Monolithic | Embedding):
        raise StudyError(f"{stage} works on PerInstance, Monolithic, Embedding and Hypernetwork, not {method.name}.")
    if not method.primary_widths:
        raise StudyError(f"{stage} needs a hidden layer; {method.name}.primary_widths is ().")
    count = num_nonlinear(method, dims)
    if count > MAX_NONLINEAR and not is_spline(method, dims):
        raise StudyError(
            f"{stage} solves dense systems in the {count} parameters below the last layer of {method.name}; allowed: "
            f"{MAX_NONLINEAR}. Take a smaller network, a smaller encoder, or Descent and LBFGS."
        )


def _check_table(stage: str, method: Hypernetwork, dims: Dims) -> None:
    """Raise `StudyError` unless the hypernetwork is a table that the stage can work on."""
    if stage in _RIDGE_STAGES and is_ridge_table(method):
        return
    if not (is_table(method) and is_spline(method, dims)):
        more = (
            "With several x, or another activation, allowed: HatEncoder, widths=() and one primary width. "
            if stage in _RIDGE_STAGES
            else "With several x, Knots, VarPro and LpContinuation work on such a table. "
        )
        raise StudyError(
            f"{stage} works on a Hypernetwork that is a table of shallow ReLU networks of one x: an encoder, "
            "widths=(), one primary width of at least 2, activation 'relu', bias 'hidden', 'primary_only' or "
            f"'all'. {more}Given {method.columns()} with x_dim {dims.x_dim}. Take such a table, or Descent and LBFGS."
        )


def num_nonlinear(method: Method, dims: Dims) -> int:
    """Return how many parameters of one network lie below its last layer."""
    last = method.primary_widths[-1] + method.primary_biases()[-1]
    whole = method.num_params_primary(dims) if isinstance(method, PerInstance) else method.num_params_total(dims)
    return whole - last


def num_first(method: Hypernetwork, dims: Dims) -> int:
    """Return how many numbers the first layer has that all primary networks of a table share."""
    return method.primary_widths[0] * (dims.x_dim + method.primary_biases()[0])


def iteration_flops(method: Method, dims: Dims, where: TrainingGrid) -> float:
    """Return about what one iteration of one member takes."""
    pairs = float(where.num_pairs(method, dims))
    if is_spline(method, dims):
        knots = num_knots(method)
        if isinstance(method, PerInstance):
            return _SPLINE_PASSES * pairs + 2400.0 * knots * where.num_instances(method, dims)
        shared = 6e4 * knots * where.num_instances(method, dims)  # a system in the knots for every row
        return _SPLINE_PASSES * pairs + shared + 4.0 * knots**3 / 3 + 40.0 * knots**2
    if isinstance(method, Hypernetwork):  # one factorisation and one Jacobian of the points for all I
        linear, rest, points = method.primary_widths[-1] + 1, num_first(method, dims), float(where.x_points**dims.x_dim)
        each = 8.0 * linear**2 + 4.0 * linear * rest + 2.0 * rest**2
        return _DENSE_PACE * (points * each + rest**3 / 3 + pairs * (4.0 * linear + 2.0 * rest))
    linear, rest = method.primary_widths[-1] + 1, num_nonlinear(method, dims)
    networks = where.num_instances(method, dims) if isinstance(method, PerInstance) else 1
    each = 8.0 * linear**2 + 4.0 * linear * rest + 2.0 * rest**2
    return _DENSE_PACE * (pairs * each + networks * rest**3 / 3)


def weighted_flops(method: Method, dims: Dims, where: TrainingGrid) -> float:
    """Return about what one iteration with weights takes: a table of several x has a system of its own for every I."""
    if not isinstance(method, Hypernetwork) or is_spline(method, dims):
        return iteration_flops(method, dims, where)
    return _DENSE_PACE * where.num_pairs(method, dims) * 2.0 * (method.primary_widths[-1] + 1) ** 2


def work_bytes(method: Method, dims: Dims, where: TrainingGrid) -> int:
    """Return the bytes of one member's work arrays in an iteration, float64."""
    pairs = where.num_pairs(method, dims)
    if is_spline(method, dims):
        knots = num_knots(method)
        dense = 0 if isinstance(method, PerInstance) else 8 * knots**2
        return 8 * (_SPLINE_ARRAYS * pairs + dense)
    if isinstance(method, Hypernetwork):
        linear, rest, points = method.primary_widths[-1] + 1, num_first(method, dims), where.x_points**dims.x_dim
        return 8 * (points * (4 * linear + 3 * rest) + 3 * rest**2 + 4 * pairs)
    linear, rest = method.primary_widths[-1] + 1, num_nonlinear(method, dims)
    networks = where.num_instances(method, dims) if isinstance(method, PerInstance) else 1
    return 8 * (pairs * (4 * linear + 3 * rest) + 3 * networks * rest**2)
