"""L_p continuation: from least squares towards the largest error, one power after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperscale.errors import StudyError, brief, check_integer, check_number
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.training import costs, splines
from hyperscale.training.dense_runs import DenseLp
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.shared_lp import SharedLp
from hyperscale.training.shared_ridge_lp import RidgeLp
from hyperscale.training.spline_fits import SplineRun
from hyperscale.training.spline_meshes import linearise, raised
from hyperscale.training.spline_networks import is_spline
from hyperscale.training.splines import Array
from hyperscale.training.stages import Stage, StageRun


@dataclass(frozen=True, kw_only=True, slots=True)
class LpContinuation(Stage):
    """Minimise sum abs(r)^p over all parameters for growing p, each from the last one's end.

    A step solves the damped, weighted Gauss-Newton system with weights abs(r)^(p - 2) and is 1 / (p - 1) of the
    weighted least-squares step, which is Newton's length for the p-norm (Osborne, "Finite Algorithms in Optimization
    and Data Analysis", 1985, on L_p by reweighting). On R points the p-norm is within R^(1/p) of the largest error.
    In a hypernetwork's table of several x the last layers move alone, over the first layer that all I share.
    """

    powers: tuple[float, ...] = (2, 8, 32)
    iterations: int = 30

    def __post_init__(self) -> None:
        """Check the powers and the count."""
        if not isinstance(self.powers, tuple) or not self.powers:
            raise StudyError(f"LpContinuation.powers is {brief(self.powers)}; allowed: a tuple such as (2, 8, 32).")
        for index, power in enumerate(self.powers):
            check_number(f"LpContinuation.powers[{index}]", power, least=2.0, most=1024.0)
        check_integer("LpContinuation.iterations", self.iterations, 1)

    def start(self, fit: GridFit) -> StageRun:
        """Start where the parameters are."""
        shared = isinstance(fit.method, Hypernetwork)
        if is_spline(fit.method, fit.dims):
            return SharedLp(fit, self.powers, self.iterations) if shared else LpSplines(fit, self)
        if shared:
            return RidgeLp(fit, self.powers, self.iterations)
        return DenseLp(fit, self.powers, self.iterations)

    @property
    def num_steps(self) -> int:
        """The iterations of all powers."""
        return len(self.powers) * self.iterations

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about what all iterations of all powers take."""
        return len(self.powers) * self.iterations * costs.weighted_flops(method, dims, where)

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the bytes of designs, Jacobians and normal matrices."""
        return costs.work_bytes(method, dims, where)

    def check(self, method: Method, dims: Dims) -> None:
        """Refuse methods that the stage cannot work on."""
        costs.check_supported("LpContinuation", method, dims)


class LpSplines(SplineRun):
    """The continuation on knots and values; within a power, its norm never rises.

    What is written is what has the smallest largest error of all that was visited.
    """

    def __init__(self, fit: GridFit, stage: LpContinuation) -> None:
        self.stage = stage
        SplineRun.__init__(self, fit, stage.iterations, len(stage.powers))
        self.arrays["best_knots"] = self.arrays["knots"].copy()
        self.arrays["best_values"] = self.arrays["values"].copy()

    def step(self) -> None:
        """Make one damped Newton step of the present power on every problem at work."""
        at = np.flatnonzero(self.damping.active)
        power = float(self.stage.powers[self.phase])
        knots, values = self.arrays["knots"][at], self.arrays["values"][at]
        mesh = self.fits.mesh(knots, at)
        residual = mesh.residual(values)
        largest = residual.largest()
        scale = np.maximum(largest, 1e-300)[:, None]
        system = linearise(mesh, values, residual, raised(residual, scale, power - 2), power)
        damping = self.damping.damping[at]
        change, move = system.step(damping, damping)
        new_knots, new_values = splines.moved_knots(knots, move / (power - 1)), values + change / (power - 1)
        new_mesh = self.fits.mesh(new_knots, at)
        trial = new_mesh.residual(new_values)
        before, after = mesh.mean(raised(residual, scale, power)), new_mesh.mean(raised(trial, scale, power))
        accept = self.damping.update(at, before, after)
        self.take(at, accept, knots=new_knots, values=new_values)
        self._keep_best(at, np.where(accept, trial.largest(), largest))

    def _keep_best(self, at: splines.Index, largest: Array) -> None:
        better = at[largest < self.arrays["objective"][at]]
        self.arrays["objective"][at] = np.fmin(largest, self.arrays["objective"][at])
        self.arrays["best_knots"][better] = self.arrays["knots"][better]
        self.arrays["best_values"][better] = self.arrays["values"][better]

    def write(self) -> None:
        """Write the splines with the smallest largest error where they are better than what was given."""
        better = self.arrays["objective"] < self.arrays["given"]
        self.fits.write(self.arrays["best_knots"], self.arrays["best_values"], better)
        self.arrays["given"] = np.where(better, self.arrays["objective"], self.arrays["given"])
