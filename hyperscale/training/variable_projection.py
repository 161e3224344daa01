"""Variable projection: the linear last layer solved exactly, Levenberg-Marquardt on everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperscale.errors import check_integer
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.training import costs, splines
from hyperscale.training.dense_runs import DenseVarPro
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.shared_ridges import RidgeVarPro
from hyperscale.training.shared_splines import SharedVarPro
from hyperscale.training.spline_fits import SplineRun
from hyperscale.training.spline_meshes import Mesh, Parts, half_squares
from hyperscale.training.spline_moments import Samples
from hyperscale.training.spline_networks import is_spline
from hyperscale.training.splines import Array, Linearised
from hyperscale.training.stages import Stage, StageRun

_LEAST_GAIN = 1e-6  # of the mean square: three such steps leave about 1e-4 of the root mean square at most


@dataclass(frozen=True, kw_only=True, slots=True)
class VarPro(Stage):
    """Least squares by variable projection (Golub & Pereyra, 1973) with Kaufman's Jacobian and Levenberg-Marquardt.

    With the last layer at its optimum c(theta), the residual is a function of theta alone, and its Jacobian is, up to
    a term that vanishes with the residual, the projection of (d Phi / d theta) c off the columns of Phi. Every problem
    has a damping of its own; a step counts where it lowers the sum of squares. Shallow ReLU networks of one input are
    worked on as free-knot splines (`splines`), a hypernetwork's table with one first layer for all I, of several inputs
    by one dense system (`shared_ridges`).
    """

    iterations: int = 60

    def __post_init__(self) -> None:
        """Check the count."""
        check_integer("VarPro.iterations", self.iterations, 1)

    def start(self, fit: GridFit) -> StageRun:
        """Start from the kinks and first layers that the parameters have."""
        shared = isinstance(fit.method, Hypernetwork)
        if is_spline(fit.method, fit.dims):
            return SharedVarPro(fit, self.iterations) if shared else VarProSplines(fit, self.iterations)
        if shared:
            return RidgeVarPro(fit, self.iterations)
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
    """Variable projection on knots: values are always the least-squares ones.

    The system at an accepted step is kept for the next one, so every iteration looks at one set of knots.
    """

    def __init__(self, fit: GridFit, limit: int) -> None:
        SplineRun.__init__(self, fit, limit)
        self.samples = Samples(self.fits.x, self.fits.y)
        self.system = self._linearise()

    def measure(self, mesh: Mesh, residual: Parts) -> Array:
        """Return half the mean square."""
        return mesh.mean(half_squares(residual))

    def step(self) -> None:
        """Move the knots of every problem at work."""
        at = np.flatnonzero(self.damping.active)
        knots, values = self.arrays["knots"][at], self.arrays["values"][at]
        change, move = self.system.pick(at).step(np.zeros(len(at)), self.damping.damping[at])
        new_knots = splines.moved_knots(knots, move)
        mesh = self.samples.mesh(new_knots, at)
        new_values = mesh.fit_values(values + change)
        found = mesh.residuals(new_values)
        accept = self.damping.update(at, self.arrays["objective"][at], found.objective, _LEAST_GAIN)
        self.take(at, accept, knots=new_knots, values=new_values, objective=found.objective)
        self.system.put(at, accept, mesh.linearise(new_values, found))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state; the systems follow from it."""
        SplineRun.restore(self, state)
        self.system = self._linearise()

    def _linearise(self) -> Linearised:
        """Return the systems of all problems where they stand."""
        mesh = self.samples.mesh(self.arrays["knots"], np.arange(self.fits.num_problems))
        return mesh.linearise(self.arrays["values"], mesh.residuals(self.arrays["values"]))
