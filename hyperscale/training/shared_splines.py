"""A hypernetwork's table of shallow ReLU networks with one first layer for all I: splines that share their knots.

With hats Phi [instances, rows] of I and splines B [points, k + 2] of x, the outputs are Phi V B^T for a table of values
V [rows, k + 2]. For given knots the least-squares V is Phi^+ Y B (B^T B)^-1; by the singular value decomposition
Phi = U S W^T the problem is that of separate splines fitted to U^T Y that share their knots, plus a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from hyperscale.errors import StudyError
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.networks.encoders import HatEncoder
from hyperscale.training import splines
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.iteration import IteratedRun
from hyperscale.training.spline_meshes import Mesh, fit_values, mesh_of
from hyperscale.training.spline_moments import MomentMesh, Samples
from hyperscale.training.spline_networks import first_layer_knots, network, num_knots
from hyperscale.training.splines import Array, Index, Linearised, as_array


class SharedFits:
    """The fits of a `Hypernetwork` that is a table: ``y`` [members, instances, points] on ``x`` [points]."""

    def __init__(self, fit: GridFit) -> None:
        assert isinstance(fit.method, Hypernetwork)
        self.fit, self.method = fit, fit.method
        self.shape = self.method.primary_shape(fit.dims)
        self.num_knots = num_knots(self.method)
        self.x: Array = as_array(fit.x_grid[:, 0])
        self.y: Array = as_array(fit.y)
        self.hats: Array = as_array(fit.features)

    @property
    def num_rows(self) -> int:
        """The number of rows of the table."""
        return self.hats.shape[1]

    def read_knots(self) -> Array:
        """Return the kinks [members, k] of the table's mean row."""
        weight, bias = self.method.f_shape(self.fit.dims).split(self.fit.params)[-1]
        theta = weight.mean(dim=-2) if bias is None else weight.mean(dim=-2) + bias
        return first_layer_knots(self.shape, theta, self.num_knots)

    def residual(self, params: torch.Tensor | None = None) -> Array:
        """Return y - h of the networks, [members, instances, points]."""
        with torch.no_grad():
            return -as_array(self.fit.residuals(params))

    def params(self, knots: Array, values: Array) -> torch.Tensor:
        """Return f's parameters for ``knots`` [members, k] and a table of ``values`` [members, rows, k + 2]."""
        members, rows = values.shape[:2]
        theta = network(self.shape, np.repeat(knots, rows, axis=0), values.reshape(members * rows, -1))
        params = torch.zeros_like(self.fit.params)
        weight, _ = self.method.f_shape(self.fit.dims).split(params)[-1]
        weight.copy_(torch.from_numpy(theta).to(params.device).unflatten(0, (members, rows)))
        return params

    def at_rows(self) -> Index:
        """Return which instance stands at each row's knot of I."""
        return instances_at_rows(self.fit)


def instances_at_rows(fit: GridFit) -> Index:
    """Return which instance stands at each row's knot of I, or raise `StudyError` where one stands at none."""
    assert isinstance(fit.method, Hypernetwork)
    hats = as_array(fit.features)
    where = hats.argmax(axis=0)
    if np.abs(hats[where] - np.eye(hats.shape[1])).max() > 1e-9:
        assert isinstance(fit.method.encoder, HatEncoder)
        raise StudyError(
            f"TrainingGrid(instances={fit.where.instances}) does not contain the {fit.method.encoder.knots} "
            "knots of Hypernetwork.encoder, where the table's rows are fitted in the largest error. Allowed: "
            "instances - 1 a multiple of encoder.knots - 1, such as equal numbers."
        )
    return np.asarray(where, dtype=np.int64)


class SharedRun(IteratedRun):
    """An iteration on shared knots [members, k] and on the values of every output, [members * outputs, k + 2]."""

    def __init__(self, fit: GridFit, fits: SharedFits, y: Array, limit: int, num_phases: int = 1) -> None:
        IteratedRun.__init__(self, fit, fit.num_members, limit, num_phases)
        self.fits, self.num_outputs = fits, y.shape[1]
        self.y = y.reshape(-1, y.shape[-1])
        knots = fits.read_knots()
        self.arrays = {
            "knots": knots,
            "values": fit_values(self.mesh(knots, np.arange(fit.num_members))),
            "start": as_array(fit.params).copy(),
        }

    def begin(self, given: Array) -> None:
        """Keep what the given networks measure, [members]."""
        self.arrays |= {"given": given, "reached": given.copy()}

    def losses(self) -> torch.Tensor:
        """Return what the written networks measure, [members]."""
        return torch.from_numpy(self.arrays["reached"].copy())

    def outputs(self, members: Index) -> Index:
        """Return the numbers of the members' outputs."""
        return np.asarray((members[:, None] * self.num_outputs + np.arange(self.num_outputs)).ravel())

    def mesh(self, knots: Array, members: Index) -> Mesh:
        """Return the mesh of the members' outputs, ``knots`` [members, k] repeated for each."""
        return mesh_of(self.fits.x, self.y[self.outputs(members)], np.repeat(knots, self.num_outputs, axis=0))

    def per_member(self, terms: Array) -> Array:
        """Return the sums over the outputs of every member."""
        return splines.summed(terms.reshape(-1, self.num_outputs))

    def solve(self, system: Linearised, damping: Array, value_damping: Array) -> tuple[Array, Array]:
        """Return (dv [members * outputs, k + 2], dt [members, k]) of the joint Gauss-Newton step.

        Each output's values are eliminated, and the Schur complements in the knots are added up.
        """
        own, moves = [], []
        for member, one in enumerate(np.split(np.arange(len(system.gradient)), len(damping))):
            part = system.pick(one)
            schur, pull = part.eliminate(float(value_damping[member]))
            total, right = schur.sum(axis=0), pull.sum(axis=0)
            diagonal = np.diag(total)
            floor = 1e-10 * diagonal.max(initial=0.0) + 1e-300
            total[np.diag_indices_from(total)] += (damping[member] + 1e-13) * (np.abs(diagonal) + floor)
            move = solve_definite(total, right)
            moves.append(move)
            own.append(part.values_given(move, float(value_damping[member])))
        return np.concatenate(own), np.stack(moves)


def solve_definite(matrix: Array, right: Array) -> Array:
    """Return the solution of one symmetric positive definite system; zeros (a step that is refused) where it is not."""
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return np.zeros_like(right)
    return np.asarray(np.linalg.solve(factor.T, np.linalg.solve(factor, right)))


def decompose(hats: Array) -> tuple[Any, Any]:
    """Return U [instances, rank] and the map W S^-1 [rows, rank] of the hats' singular value decomposition U S W^T.

    Where every instance stands at a row's knot and every row has one these are identities, at no cost.
    """
    if hats.shape[0] == hats.shape[1] and np.count_nonzero(hats) == len(hats) and bool((hats.diagonal() == 1).all()):
        identity = scipy.sparse.identity(len(hats), format="csr")
        return identity, identity
    left, singular, right = np.linalg.svd(hats, full_matrices=False)
    kept = singular > 1e-10 * singular[0]
    return left[:, kept], right[kept].T / singular[kept]


class SharedVarPro(SharedRun):
    """Variable projection on the shared knots."""

    def __init__(self, fit: GridFit, limit: int) -> None:
        fits = SharedFits(fit)
        self.left, self.back = decompose(fits.hats)
        projected = np.stack([self.left.T @ one for one in fits.y])
        SharedRun.__init__(self, fit, fits, projected, limit)
        self.samples = Samples(self.fits.x, self.y)
        mesh = self.moments(self.arrays["knots"], np.arange(fit.num_members))
        self.arrays["objective"] = self.per_member(mesh.residuals(self.arrays["values"]).objective)
        self.begin(squares(fits.residual()))

    def moments(self, knots: Array, members: Index) -> MomentMesh:
        """Return the mesh of the members' outputs for least squares, ``knots`` [members, k] repeated for each."""
        return self.samples.mesh(np.repeat(knots, self.num_outputs, axis=0), self.outputs(members))

    def step(self) -> None:
        """Move the knots of every member at work."""
        at = np.flatnonzero(self.damping.active)
        outputs = self.outputs(at)
        knots, values = self.arrays["knots"][at], self.arrays["values"][outputs]
        mesh = self.moments(knots, at)
        system = mesh.linearise(values, mesh.residuals(values))
        change, move = self.solve(system, self.damping.damping[at], np.zeros(len(at)))
        new_knots = splines.moved_knots(knots, move)
        new_mesh = self.moments(new_knots, at)
        new_values = new_mesh.fit_values(values + change)
        objective = self.per_member(new_mesh.residuals(new_values).objective)
        accept = self.damping.update(at, self.arrays["objective"][at], objective)
        self.arrays["knots"][at[accept]], self.arrays["objective"][at[accept]] = new_knots[accept], objective[accept]
        each = np.repeat(accept, self.num_outputs)
        self.arrays["values"][outputs[each]] = new_values[each]

    def losses(self) -> torch.Tensor:
        """Return half the mean square over x, summed over outputs, of the projected problem, [members]."""
        return torch.from_numpy(self.arrays["objective"].copy())

    def write(self) -> None:
        """Write every member whose mean square on the grid is below what was given."""
        values = self.arrays["values"].reshape(self.fit.num_members, self.num_outputs, -1)
        table = values if self.back is None else np.stack([self.back @ one for one in values])
        write_better(self, self.fits.params(self.arrays["knots"], table), squares)


def squares(residual: Array) -> Array:
    """Return the mean square of residuals [members, instances, points]."""
    flat = residual.reshape(len(residual), -1)
    return splines.summed(flat * flat) / flat.shape[1]


def largest(residual: Array) -> Array:
    """Return the largest absolute value of residuals [members, instances, points]."""
    return np.asarray(np.abs(residual).max(axis=(1, 2)))


def write_better(run: SharedRun, params: torch.Tensor, measure: Callable[[Array], Array]) -> None:
    """Write the members whose ``params`` measure less than the parameters the stage began with, and those for others.

    The beginning is compared with at every slice, so that what is written does not depend on the slices.
    """
    reached = measure(run.fits.residual(params))
    better: NDArray[np.bool_] = reached < run.arrays["given"]
    chosen = torch.from_numpy(better).to(params.device)[:, None]
    start = torch.from_numpy(run.arrays["start"]).to(params.device)
    run.fit.params.copy_(torch.where(chosen, params, start))
    run.arrays["reached"] = np.where(better, reached, run.arrays["given"])
