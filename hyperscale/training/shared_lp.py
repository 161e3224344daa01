"""L_p continuation and linear programs for a hypernetwork's table, at the values of I where its rows stand."""

from __future__ import annotations

import numpy as np

from hyperscale.training import splines
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.outer_splines import best_values
from hyperscale.training.shared_splines import SharedFits, SharedRun, largest, write_better
from hyperscale.training.spline_meshes import Mesh, Parts, linearise, raised
from hyperscale.training.splines import Array, Index


class SharedLp(SharedRun):
    """Minimise sum abs(r)^p over shared knots and the table, where I is a row's knot: there the rows are separate."""

    def __init__(self, fit: GridFit, powers: tuple[float, ...], limit: int) -> None:
        fits = SharedFits(fit)
        SharedRun.__init__(self, fit, fits, np.ascontiguousarray(fits.y[:, fits.at_rows()]), limit, len(powers))
        self.powers = powers
        residual = self.mesh(self.arrays["knots"], np.arange(fit.num_members)).residual(self.arrays["values"])
        best = {f"best_{name}": self.arrays[name].copy() for name in ("knots", "values")}
        self.arrays |= {**best, "objective": self.largest(residual)}
        self.begin(largest(fits.residual()))

    def largest(self, residual: Parts) -> Array:
        """Return the largest error of every member over its outputs."""
        return np.asarray(residual.largest().reshape(-1, self.num_outputs).max(axis=1))

    def norm(self, mesh: Mesh, residual: Parts, scale: Array, power: float) -> Array:
        """Return the mean of (abs(r) / scale)^power over x, summed over outputs, [members]."""
        return self.per_member(mesh.mean(raised(residual, scale, power)))

    def step(self) -> None:
        """Make one damped Newton step of the present power on every member at work."""
        at = np.flatnonzero(self.damping.active)
        outputs, power = self.outputs(at), float(self.powers[self.phase])
        knots, values = self.arrays["knots"][at], self.arrays["values"][outputs]
        mesh = self.mesh(knots, at)
        residual = mesh.residual(values)
        size = self.largest(residual)
        scale = np.repeat(np.maximum(size, 1e-300), self.num_outputs)[:, None]
        system = linearise(mesh, values, residual, raised(residual, scale, power - 2), power)
        damping = self.damping.damping[at]
        change, move = self.solve(system, damping, damping)
        new_knots, new_values = splines.moved_knots(knots, move / (power - 1)), values + change / (power - 1)
        new_mesh = self.mesh(new_knots, at)
        trial = new_mesh.residual(new_values)
        before, after = self.norm(mesh, residual, scale, power), self.norm(new_mesh, trial, scale, power)
        accept = self.damping.update(at, before, after)
        self.arrays["knots"][at[accept]] = new_knots[accept]
        each = np.repeat(accept, self.num_outputs)
        self.arrays["values"][outputs[each]] = new_values[each]
        self._keep_best(at, np.where(accept, self.largest(trial), size))

    def _keep_best(self, at: Index, size: Array) -> None:
        better = at[size < self.arrays["objective"][at]]
        self.arrays["objective"][at] = np.fmin(size, self.arrays["objective"][at])
        self.arrays["best_knots"][better] = self.arrays["knots"][better]
        self.arrays["best_values"][self.outputs(better)] = self.arrays["values"][self.outputs(better)]

    def write(self) -> None:
        """Write every member whose largest error on the whole grid is below what was given."""
        table = self.arrays["best_values"].reshape(self.fit.num_members, self.num_outputs, -1)
        write_better(self, self.fits.params(self.arrays["best_knots"], table), largest)


class SharedOuterLp(SharedRun):
    """The best values for the knots that are there: one linear program per row of the table and iteration."""

    def __init__(self, fit: GridFit) -> None:
        fits = SharedFits(fit)
        SharedRun.__init__(self, fit, fits, np.ascontiguousarray(fits.y[:, fits.at_rows()]), fit.num_members)
        self.begin(largest(fits.residual()))

    def step(self) -> None:
        """Solve the programs of one member."""
        one = np.array([self.iteration])
        mesh = self.mesh(self.arrays["knots"][one], one)
        self.arrays["values"][self.outputs(one)] = best_values(mesh, self.arrays["values"][self.outputs(one)])

    def write(self) -> None:
        """Write every member whose largest error on the whole grid is below what was given."""
        table = self.arrays["values"].reshape(self.fit.num_members, self.num_outputs, -1)
        write_better(self, self.fits.params(self.arrays["knots"], table), largest)
