"""Variable projection: the linear last layer solved exactly, Levenberg-Marquardt on everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperscale.errors import check_integer
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.training import costs, splines
from hyperscale.training.dense_runs import DenseVarPro
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.shared_splines import SharedVarPro
from hyperscale.training.spline_fits import SplineRun
from hyperscale.training.spline_meshes import Mesh, Parts, fit_values, half_squares, linearise
from hyperscale.training.spline_networks import is_spline
from hyperscale.training.splines import Array
from hyperscale.training.stages import Stage, StageRun


@dataclass(frozen=True, kw_only=True, slots=True)
class VarPro(Stage):
    """Least squares by variable projection (Golub & Pereyra, 1973) with Kaufman's Jacobian and Levenberg-Marquardt.

    With the last layer at its optimum c(theta), the residual is a function of theta alone, and its Jacobian is, up to
    a term that vanishes with the residual, the projection of (d Phi / d theta) c off the columns of Phi. Every problem
    has a damping of its own; a step counts where it lowers the sum of squares. Shallow ReLU networks of one input are
    worked on as free-knot splines (`splines`), a hypernetwork's table with one first layer for all I.
    """

    iterations: int = 60

    def __post_init__(self) -> None:
        """Check the count."""
        check_integer("VarPro.iterations", self.iterations, 1)

    def start(self, fit: GridFit) -> StageRun:
        """Start from the kinks and first layers that the parameters have."""
        if isinstance(fit.method, Hypernetwork):
            return SharedVarPro(fit, self.iterations)
        if is_spline(fit.method, fit.dims):
            return VarProSplines(fit, self.iterations)
        return DenseVarPro(fit, self.iterations)

    @property
    def num_steps(self) -> int:
        """The iterations."""
        return self.iterations

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about what all iterations take."""
        return self.iterations * costs.iteration_flops(method, dims, where)

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the bytes of designs, Jacobians and normal matrices."""
        return costs.work_bytes(method, dims, where)

    def check(self, method: Method, dims: Dims) -> None:
        """Refuse methods whose last layer is not linear in parameters of its own."""
        costs.check_supported("VarPro", method, dims)


class VarProSplines(SplineRun):
    """Variable projection on knots: values are always the least-squares ones."""

    def measure(self, mesh: Mesh, residual: Parts) -> Array:
        """Return half the mean square."""
        return mesh.mean(half_squares(residual))

    def step(self) -> None:
        """Move the knots of every problem at work."""
        at = np.flatnonzero(self.damping.active)
        knots, values = self.arrays["knots"][at], self.arrays["values"][at]
        mesh = self.fits.mesh(knots, at)
        residual = mesh.residual(values)
        ones = Parts(grid=np.ones_like(residual.grid), knots=np.ones_like(residual.knots))
        system = linearise(mesh, values, residual, ones, 2.0)
        change, move = system.step(np.zeros(len(at)), self.damping.damping[at])
        new_knots = splines.moved_knots(knots, move)
        new_mesh = self.fits.mesh(new_knots, at)
        new_values = fit_values(new_mesh, values + change)
        objective = self.measure(new_mesh, new_mesh.residual(new_values))
        accept = self.damping.update(at, self.arrays["objective"][at], objective)
        self.take(at, accept, knots=new_knots, values=new_values, objective=objective)
