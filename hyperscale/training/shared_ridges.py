"""A hypernetwork's table of shallow networks of several inputs with one first layer for all I: ridges that are shared.

With hats Phi [instances, rows] of I and hidden values S [points, units] of x, the outputs are Phi C S^T for a table of
last layers C [rows, units]. For a given first layer the least-squares C is Phi^+ Y S (S^T S)^-1: one factorisation for
all I. By the singular value decomposition of Phi (`shared_splines.decompose`) the rest is a separable problem with many
right-hand sides (Golub & LeVeque, "Extensions and uses of the variable projection algorithm for solving nonlinear
least squares problems", 1979).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.networks.activations import activate_, differentiate_
from hyperscale.networks.backprop import affine
from hyperscale.networks.mlp import Shape
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.iteration import IteratedRun
from hyperscale.training.ridges import set_ridges
from hyperscale.training.separable import Basis, solve_damped, squares
from hyperscale.training.shared_splines import decompose
from hyperscale.training.splines import Array, Index, as_array


class RidgeFits:
    """The fits of a `Hypernetwork` that is a table, as those of last layers over one first layer.

    ``y`` [members, outputs, points]: the targets' coordinates in the hats' left singular vectors, which are the targets
    themselves where every I stands at a row's knot.
    """

    def __init__(self, fit: GridFit) -> None:
        method = fit.method
        assert isinstance(method, Hypernetwork)
        self.fit, self.method, self.activation = fit, method, method.activation
        self.shape: Shape = method.primary_shape(fit.dims)
        self.left, self.back = decompose(as_array(fit.features))
        y = [torch.from_numpy(self.left.T @ as_array(one)) for one in fit.y]
        self.y = torch.stack(y).to(fit.params.device)
        self.num_linear = self.shape.sizes[1] + self.shape.biases[1]
        self.num_first = self.shape.num_params - self.num_linear

    def read_first(self) -> Tensor:
        """Return the first layer of the table's mean row, [members, num_first]."""
        weight, bias = self.method.f_shape(self.fit.dims).split(self.fit.params)[-1]
        theta = weight.mean(dim=-2) if bias is None else weight.mean(dim=-2) + bias
        return theta[:, : self.num_first].clone()

    def hidden(self, first: Tensor) -> Tensor:
        """Return the hidden values [points, units] for one first layer [num_first]."""
        rest = first.new_zeros(self.num_linear)
        layer = self.shape.split(torch.cat((first, rest))[None])[0]
        return activate_(affine(self.fit.x_grid[None], layer), self.activation)[0]

    def design(self, hidden: Tensor) -> Tensor:
        """Return the last layer's inputs [points, num_linear]."""
        return torch.cat((hidden, torch.ones_like(hidden[:, :1])), dim=1) if self.shape.biases[1] else hidden

    def slopes(self, hidden: Tensor) -> Tensor:
        """Return the derivatives of every unit by its own weights and bias, [points, num_first], ordered like these."""
        slope = torch.ones_like(hidden)
        differentiate_(slope, hidden, self.activation)
        parts = [slope * self.fit.x_grid[:, column, None] for column in range(self.shape.sizes[0])]
        return torch.cat([*parts, slope] if self.shape.biases[0] else parts, dim=1)

    def params(self, first: Tensor, last: Tensor) -> Tensor:
        """Return `table` of first layers [members, num_first] and of last ones [members, outputs, num_linear]."""
        rows = [torch.from_numpy(self.back @ as_array(one)) for one in last]
        return self.table(first, torch.stack(rows).to(last.device))

    def table(self, first: Tensor, last: Tensor) -> Tensor:
        """Return f's parameters for first layers [members, num_first] and last layers [members, rows, num_linear].

        The hats sum to 1, so equal entries in all rows are the same number for every I.
        """
        params = torch.zeros_like(self.fit.params)
        weight, _ = self.method.f_shape(self.fit.dims).split(params)[-1]
        weight[..., : self.num_first] = first[:, None]
        weight[..., self.num_first :] = last
        return params


def place_shared_ridges(fit: GridFit, jitter: float) -> None:
    """Set the table's first layers to one set of ridges per member, the same for all I, and the last ones to zero."""
    fits = RidgeFits(fit)
    theta = fit.params.new_zeros(fit.num_members, fits.shape.num_params)
    set_ridges(fit, fits.shape, theta, jitter)
    last = theta.new_zeros(fit.num_members, fits.y.shape[1], fits.num_linear)
    fit.params.copy_(fits.params(theta[:, : fits.num_first], last))


class RidgeVarPro(IteratedRun):
    """Variable projection on the first layer that all I share.

    The derivative of the outputs at one I by a unit's weights is that unit's slope times its c at this I. So the sum
    over I of Kaufman's normal matrices is (P G)^T (P G), with G the slopes and P the projection off the hidden values,
    times sum_I c_I c_I^T entry by entry: its cost does not depend on how many I there are.
    """

    def __init__(self, fit: GridFit, limit: int) -> None:
        IteratedRun.__init__(self, fit, fit.num_members, limit)
        self.fits = RidgeFits(fit)
        first = self.fits.read_first()
        solved = [self._solve(member, own) for member, own in enumerate(first)]
        given = self._mean_squares(fit.params)
        self.arrays = {
            "first": as_array(first).copy(),
            "last": as_array(torch.stack([last for last, _ in solved])),
            "objective": as_array(torch.stack([objective for _, objective in solved])),
            "start": as_array(fit.params).copy(),
            "given": given,
            "reached": given.copy(),
        }

    def _mean_squares(self, params: Tensor) -> Array:
        """Return every member's mean squared residual on the grid, each summed by itself."""
        with torch.no_grad():
            residuals = self.fit.residuals(params)
        return as_array(torch.stack([one.square().mean() for one in residuals]))

    def _solve(self, member: int, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least-squares last layers [outputs, num_linear] and the sum of squares that is left."""
        design = self.fits.design(self.fits.hidden(first))
        basis = Basis(design[None])
        last = self._last_layers(basis, member)
        return last, (self.fits.y[member] - last @ design.mT).square().sum()

    def _last_layers(self, basis: Basis, member: int) -> Tensor:
        """Return the least-squares coefficients of every output, [outputs, num_linear]."""
        coordinates = basis.columns[0].mT @ self.fits.y[member].mT
        return torch.linalg.solve_triangular(basis.triangle[0], coordinates, upper=True).mT

    def step(self) -> None:
        """Move the first layer of every member at work."""
        for member in np.flatnonzero(self.damping.active):
            self._step(int(member))

    def _step(self, member: int) -> None:
        at: Index = np.array([member])
        first, last = (self._tensor(self.arrays[name][member]) for name in ("first", "last"))
        matrix, right = self._normal_equations(member, first, last)
        move, _ = solve_damped(matrix[None], right[None], self._tensor(self.damping.damping[at]))
        moved = first + move[0]
        solved, objective = self._solve(member, moved)
        measured = as_array(objective)[None]
        if self.damping.update(at, self.arrays["objective"][at], measured)[0]:
            self.arrays["first"][member], self.arrays["last"][member] = as_array(moved), as_array(solved)
            self.arrays["objective"][member] = measured[0]

    def _normal_equations(self, member: int, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return Kaufman's J^T J [num_first, num_first] and J^T r [num_first], summed over the outputs."""
        fits = self.fits
        hidden = fits.hidden(first)
        design, slopes = fits.design(hidden), fits.slopes(hidden)
        units = last[:, : hidden.shape[1]].contiguous()
        columns = slopes.shape[1] // hidden.shape[1]
        residual = fits.y[member] - last @ design.mT
        right = ((residual @ slopes) * units.repeat(1, columns)).sum(dim=0)
        projected = Basis(design[None]).project_off(slopes[None])
        return squares(projected)[0] * (units.mT @ units).repeat(columns, columns), right

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.fit.params.device)

    def losses(self) -> Tensor:
        """Return the mean squares of what was written, [members]."""
        return torch.from_numpy(self.arrays["reached"].copy())

    def write(self) -> None:
        """Write every member whose mean square on the grid is below what was given, and what was given for others."""
        first, last = self._tensor(self.arrays["first"]), self._tensor(self.arrays["last"])
        params, start = self.fits.params(first, last), self._tensor(self.arrays["start"])
        reached = self._mean_squares(params)
        better = reached < self.arrays["given"]
        chosen = torch.from_numpy(better).to(params.device)[:, None]
        self.fit.params.copy_(torch.where(chosen, params, start))
        self.arrays["reached"] = self.arrays["given"].copy()
        self.arrays["reached"][better] = reached[better]
