"""The last layer in the largest error: a linear program for every problem, everything else fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperscale.errors import StudyError
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.training import costs
from hyperscale.training.dense_runs import DenseOuterLp
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.outer_splines import best_values
from hyperscale.training.shared_lp import SharedOuterLp
from hyperscale.training.spline_fits import SplineRun
from hyperscale.training.spline_networks import is_spline
from hyperscale.training.stages import Stage, StageRun

MAX_UNITS = 1024
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OuterLP(Stage):
    """Minimise the largest abs(h - y) on the grid over the last layer, by linear programs (HiGHS).

    Each is solved on few points at a time (`minimax.solve_by_exchange`) and in a well conditioned basis: hats for
    splines, orthonormal columns for the rest. Never worse than before on the grid; a program that the solver cannot
    do leaves its problem as it was. A hypernetwork's table has one program per row, at the I where the row stands.
    """

    def start(self, fit: GridFit) -> StageRun:
        """Start where the parameters are."""
        if isinstance(fit.method, Hypernetwork):
            return SharedOuterLp(fit)
        return _OuterSplines(fit) if is_spline(fit.method, fit.dims) else DenseOuterLp(fit)

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about what the programs take: some 20 units^3 each, and what does not depend on them."""
        programs = (
            where.num_instances(method, dims) if isinstance(method, Hypernetwork) or is_spline(method, dims) else 1
        )
        each = costs.PROGRAM_FLOPS + 20.0 * method.primary_widths[-1] ** 3
        return costs.iteration_flops(method, dims, where) + programs * each

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the bytes of the designs."""
        return costs.work_bytes(method, dims, where)

    def check(self, method: Method, dims: Dims) -> None:
        """Refuse methods whose last layer is not linear in parameters of its own, and very wide ones."""
        costs.check_supported("OuterLP", method, dims)
        if method.primary_widths[-1] > MAX_UNITS:
            raise StudyError(
                f"OuterLP solves a linear program in the {method.primary_widths[-1]} units of the last hidden layer; "
                f"allowed: at most {MAX_UNITS}. Leave OuterLP out for wider networks."
            )


class _OuterSplines(SplineRun):
    """Linear programs for 16 splines per iteration."""

    def __init__(self, fit: GridFit) -> None:
        SplineRun.__init__(self, fit, 1)
        self.limit = -(-self.fits.num_problems // _AT_ONCE)

    def step(self) -> None:
        """Solve the programs of the next 16 problems."""
        at = np.arange(self.iteration * _AT_ONCE, min((self.iteration + 1) * _AT_ONCE, self.fits.num_problems))
        mesh = self.fits.mesh(self.arrays["knots"][at], at)
        values = best_values(mesh, self.arrays["values"][at])
        objective = mesh.residual(values).largest()
        self.take(at, objective < self.arrays["objective"][at], values=values, objective=objective)
