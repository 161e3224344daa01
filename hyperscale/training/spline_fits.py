"""The free-knot splines of a `GridFit`: read from its parameters, improved by stages, written back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hyperscale.methods.per_instance import PerInstance
from hyperscale.training import splines
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.iteration import IteratedRun
from hyperscale.training.spline_meshes import Mesh, Parts, fit_values, mesh_of
from hyperscale.training.spline_networks import are_splines, first_layer_knots, network, num_knots, spline_values
from hyperscale.training.splines import Array, Index, as_array


class SplineFits:
    """The separate small fits of a `PerInstance`, member after member: ``y`` [problems, points] on ``x`` [points]."""

    def __init__(self, fit: GridFit) -> None:
        assert isinstance(fit.method, PerInstance)
        self.fit = fit
        self.shape = fit.method.primary_shape(fit.dims)
        self.num_knots = num_knots(fit.method)
        self.x: Array = as_array(fit.x_grid[:, 0])
        self.y: Array = as_array(fit.y.flatten(0, 1))

    @property
    def num_problems(self) -> int:
        """The number of fits."""
        return len(self.y)

    def mesh(self, knots: Array, problems: Index | slice = slice(None)) -> Mesh:
        """Return the mesh of some problems' knots."""
        return mesh_of(self.x, self.y[problems], knots)

    def theta(self) -> torch.Tensor:
        """Return the networks' parameters, [problems, N_g]."""
        return self.fit.params.unflatten(-1, (-1, self.shape.num_params)).flatten(0, 1)

    def read(self) -> tuple[Array, Array]:
        """Return knots [problems, k], and the networks' own values there [problems, k + 2]."""
        knots = first_layer_knots(self.shape, self.theta(), self.num_knots)
        return knots, spline_values(self.shape, self.theta(), knots)

    def residual(self) -> Array:
        """Return y - h of the networks as they are on the grid, [problems, points]."""
        with torch.no_grad():
            return -as_array(self.fit.residuals().flatten(0, 1))

    def write(self, knots: Array, values: Array, better: NDArray[np.bool_]) -> None:
        """Put the splines of the problems that are ``better`` into the fit's parameters."""
        theta = torch.from_numpy(network(self.shape, knots, values)).to(self.fit.params.device)
        old = self.fit.params.reshape(len(theta), -1)
        chosen = torch.where(torch.from_numpy(better).to(theta.device)[:, None], theta, old)
        self.fit.params.copy_(chosen.view_as(self.fit.params))


class SplineRun(IteratedRun):
    """An iteration on knots and values that never ends with a larger objective than the networks came with."""

    def __init__(self, fit: GridFit, limit: int, num_phases: int = 1) -> None:
        self.fits = SplineFits(fit)
        IteratedRun.__init__(self, fit, self.fits.num_problems, limit, num_phases)
        knots, own = self.fits.read()
        mesh = self.fits.mesh(knots)
        fitted = fit_values(mesh)
        errors = [self.measure(mesh, mesh.residual(values)) for values in (own, fitted)]
        values = np.where((errors[0] <= errors[1])[:, None], own, fitted)
        given = errors[0].copy()
        others = ~are_splines(self.fits.shape, self.fits.theta(), knots)
        if others.any():  # networks with more kinks than knots are measured as they are
            whole = Parts(grid=self.fits.residual(), knots=mesh.residual(own).knots)
            given = np.where(others, self.measure(mesh, whole), given)
        self.arrays = {"knots": knots, "values": values, "objective": np.fmin(*errors), "given": given}

    def measure(self, mesh: Mesh, residual: Parts) -> Array:  # noqa: ARG002
        """Return the objective of residuals, [problems]: their largest size, on the grid and at the knots."""
        return residual.largest()

    def take(self, problems: Index, accept: NDArray[np.bool_], **new: Array) -> None:
        """Put the accepted problems' new arrays in place."""
        for name, value in new.items():
            self.arrays[name][problems[accept]] = value[accept]

    def write(self) -> None:
        """Write every spline that is better than the network that was given."""
        better = self.arrays["objective"] < self.arrays["given"]
        self.fits.write(self.arrays["knots"], self.arrays["values"], better)
        self.arrays["given"] = np.where(better, self.arrays["objective"], self.arrays["given"])

    def losses(self) -> torch.Tensor:
        """Return every member's mean objective, [members]."""
        reached = np.fmin(self.arrays["objective"], self.arrays["given"]).reshape(self.fit.num_members, -1)
        return torch.from_numpy(splines.summed(reached) / reached.shape[1])
