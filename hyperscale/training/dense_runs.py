"""Variable projection, L_p continuation and the outer linear program on dense designs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperscale.training.grid_fit import GridFit
from hyperscale.training.iteration import IteratedRun
from hyperscale.training.minimax import local_extremes, solve_by_exchange
from hyperscale.training.normal_equations import fit_last_layer, normal_equations
from hyperscale.training.separable import Basis, Separable, apply, damped_step
from hyperscale.training.splines import Array, Index, as_array, summed

_BYTES_AT_ONCE = 2**28


def as_flags(tensor: Tensor) -> NDArray[np.bool_]:
    """Return flags on any device as an array."""
    return np.asarray(tensor.cpu().numpy(), dtype=np.bool_)


class DenseRun(IteratedRun):
    """An iteration on all parameters theta [problems, num_params] of separate problems, in chunks that fit the memory.

    What is written is the best that was seen, by ``measure``, if better than what was given.
    """

    def __init__(self, fit: GridFit, limit: int, num_phases: int = 1) -> None:
        self.fits = Separable(fit)
        IteratedRun.__init__(self, fit, self.fits.num_problems, limit, num_phases)
        theta = as_array(self.fits.read())
        given = self.measure(self.residual(theta, np.arange(len(theta))))
        self.arrays = {"theta": theta, "objective": given.copy(), "best": theta.copy(), "reached": given.copy()}
        self.arrays["given"] = given

    @abstractmethod
    def measure(self, residual: Array) -> Array:
        """Return what is to be small, [problems]."""

    def residual(self, theta: Array, at: Index) -> Array:
        """Return y - h of some problems, [problems, rows]."""
        parts = []
        for chunk in np.array_split(np.arange(len(at)), -(-len(at) // self._at_once)):
            own = self.tensor(theta[chunk])
            values = self.fits.evaluate(own)
            h = apply(self.fits.design(values), own[:, -self.fits.num_linear :])
            parts.append(as_array(self.fits.y[self.tensor_index(at[chunk])] - h))
        return np.concatenate(parts)

    def tensor(self, array: Array) -> Tensor:
        """Return the array on the fit's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.fit.params.device)

    def tensor_index(self, at: Index) -> Tensor:
        """Return an index on the fit's device."""
        return torch.from_numpy(at).to(self.fit.params.device)

    @property
    def _at_once(self) -> int:
        """How many problems' Jacobians are kept at a time."""
        num_params = self.fit.params.numel() // self.fits.num_problems
        return max(1, _BYTES_AT_ONCE // (24 * self.fits.y.shape[1] * num_params))

    def chunks(self) -> Iterator[Index]:
        """Yield the problems at work, as many at a time as fit the memory."""
        at = np.flatnonzero(self.damping.active)
        for start in range(0, len(at), self._at_once):
            yield at[start : start + self._at_once]

    def keep(self, at: Index, theta: Array, measured: Array) -> None:
        """Remember the parameters that measure less than all before."""
        better = measured < self.arrays["reached"][at]
        self.arrays["best"][at[better]] = theta[better]
        self.arrays["reached"][at[better]] = measured[better]

    def write(self) -> None:
        """Write the best parameters of every problem that is better than what was given."""
        better = self.arrays["reached"] < self.arrays["given"]
        self.fits.write(self.tensor(self.arrays["best"]), torch.from_numpy(better).to(self.fit.params.device))
        self.arrays["given"] = np.fmin(self.arrays["reached"], self.arrays["given"])

    def losses(self) -> Tensor:
        """Return every member's mean of what was reached, [members]."""
        reached = self.arrays["reached"].reshape(self.fit.num_members, -1)
        return torch.from_numpy(summed(reached) / reached.shape[1])


class DenseVarPro(DenseRun):
    """Variable projection with Kaufman's Jacobian."""

    def __init__(self, fit: GridFit, limit: int) -> None:
        DenseRun.__init__(self, fit, limit)
        for at in self.chunks():
            solved = as_array(self.solve(self.tensor(self.arrays["theta"][at]), at))
            objective = self.measure(self.residual(solved, at))
            better = objective < self.arrays["objective"][at]
            self.arrays["theta"][at[better]] = solved[better]
            self.arrays["objective"][at[better]] = objective[better]
        self.keep(np.arange(len(self.arrays["theta"])), self.arrays["theta"], self.arrays["objective"])

    def measure(self, residual: Array) -> Array:
        """Return the mean square."""
        return summed(residual * residual) / residual.shape[1]

    def solve(self, theta: Tensor, at: Index) -> Tensor:
        """Return theta with the least-squares last layer."""
        basis = Basis(self.fits.design(self.fits.evaluate(theta)))
        coefficients = basis.coefficients(basis.coordinates(self.fits.y[self.tensor_index(at)]))
        return torch.cat((theta[:, : -self.fits.num_linear], coefficients), dim=1)

    def step(self) -> None:
        """Make one step on every problem at work."""
        for at in list(self.chunks()):
            self._step(at)

    def _step(self, at: Index) -> None:
        theta, linear = self.tensor(self.arrays["theta"][at]), self.fits.num_linear
        residual, damping = self.tensor(self.residual(self.arrays["theta"][at], at)), self.damping.damping[at]
        equations, _ = normal_equations(self.fits, theta, residual)
        move, solved = equations.projected_step(self.tensor(damping))
        for one in np.flatnonzero(~as_flags(solved)):
            move[one] = self._careful_step(theta[one : one + 1], residual[one : one + 1], damping[one : one + 1])[0]
        moved = torch.cat((theta[:, :-linear] + move, theta[:, -linear:]), dim=1)
        trial, objective = self._trial(moved, at)
        accept = self.damping.update(at, self.arrays["objective"][at], objective)
        self.arrays["theta"][at[accept]] = trial[accept]
        self.arrays["objective"][at[accept]] = objective[accept]
        self.keep(at, trial, objective)

    def _careful_step(self, theta: Tensor, residual: Tensor, damping: Array) -> Tensor:
        """Return the step by QR, where normal equations have lost too many digits."""
        values = self.fits.evaluate(theta)
        jacobian = Basis(self.fits.design(values)).project_off(self.fits.jacobian(theta, values))
        return damped_step(jacobian, residual, self.tensor(damping))

    def _trial(self, moved: Tensor, at: Index) -> tuple[Array, Array]:
        """Return theta with the least-squares last layer, and what it measures."""
        linear = self.fits.num_linear
        design, y = self.fits.design(self.fits.evaluate(moved)), self.fits.y[self.tensor_index(at)]
        coefficients, residual, solved = fit_last_layer(design, y, moved[:, -linear:])
        for one in np.flatnonzero(~as_flags(solved)):
            basis = Basis(design[one : one + 1])
            coefficients[one] = basis.coefficients(basis.coordinates(y[one : one + 1]))[0]
            residual[one] = y[one] - apply(design[one : one + 1], coefficients[one : one + 1])[0]
        trial = torch.cat((moved[:, :-linear], coefficients), dim=1)
        return as_array(trial), self.measure(as_array(residual))


class LargestRun(DenseRun):
    """A dense run that looks for the smallest largest error."""

    def measure(self, residual: Array) -> Array:
        """Return the largest absolute value."""
        return np.asarray(np.abs(residual).max(axis=1))


class DenseLp(LargestRun):
    """L_p continuation over all parameters, the last layer in an orthonormal basis of its design's columns."""

    def __init__(self, fit: GridFit, powers: tuple[float, ...], limit: int) -> None:
        DenseRun.__init__(self, fit, limit, len(powers))
        self.powers = powers

    def step(self) -> None:
        """Make one damped Newton step of the present power on every problem at work."""
        for at in list(self.chunks()):
            self._step(at, float(self.powers[self.phase]))

    def _step(self, at: Index, power: float) -> None:
        theta = self.tensor(self.arrays["theta"][at])
        residual, damping = self.tensor(self.residual(self.arrays["theta"][at], at)), self.damping.damping[at]
        size = np.abs(as_array(residual))
        scale = np.maximum(size.max(axis=1, keepdims=True), 1e-300)
        roots = self.tensor((size / scale) ** (0.5 * power - 1))
        equations, design_squares = normal_equations(self.fits, theta, residual, roots)
        move, solved = equations.joint_step(design_squares, self.tensor(damping))
        for one in np.flatnonzero(~as_flags(solved)):
            own = slice(one, one + 1)
            move[one] = self._careful_step(theta[own], residual[own], damping[own], roots[own].square())[0]
        trial = as_array(theta + move / (power - 1))
        new = np.abs(self.residual(trial, at))
        with np.errstate(over="ignore"):
            before, after = summed((size / scale) ** power), summed((new / scale) ** power)
        accept = self.damping.update(at, before, after)
        self.arrays["theta"][at[accept]] = trial[accept]
        self.keep(at, trial, new.max(axis=1))

    def _careful_step(self, theta: Tensor, residual: Tensor, damping: Array, weights: Tensor) -> Tensor:
        """Return the step by QR, where normal equations have lost too many digits."""
        values, linear = self.fits.evaluate(theta), self.fits.num_linear
        basis = Basis(self.fits.design(values))
        jacobian = torch.cat((self.fits.jacobian(theta, values), basis.columns), dim=-1)
        move = damped_step(jacobian, residual, self.tensor(damping), weights)
        return torch.cat((move[:, :-linear], basis.coefficients(move[:, -linear:])), dim=1)


class DenseOuterLp(LargestRun):
    """One linear program per problem and iteration, in an orthonormal basis."""

    def __init__(self, fit: GridFit) -> None:
        DenseRun.__init__(self, fit, 1)
        self.limit = self.fits.num_problems

    def step(self) -> None:
        """Solve the program of one problem."""
        at = np.array([self.iteration])
        theta = self.tensor(self.arrays["theta"][at])
        basis = Basis(self.fits.design(self.fits.evaluate(theta)))
        residual = self.residual(self.arrays["theta"][at], at)[0]
        first = local_extremes(residual)
        most = 6 * (self.fits.num_linear + 1)
        first = first[np.argsort(-np.abs(residual[first]), kind="stable")[:most]]
        even = np.linspace(0, len(residual) - 1, min(most, len(residual))).astype(np.int64)
        found = solve_by_exchange(as_array(basis.columns[0]), residual, np.concatenate((first, even)), most=most)
        if found is None:
            return
        change = basis.coefficients(self.tensor(found[0][None]))
        trial = theta.clone()
        trial[:, -self.fits.num_linear :] += change
        self.keep(at, as_array(trial), self.measure(self.residual(as_array(trial), at)))
