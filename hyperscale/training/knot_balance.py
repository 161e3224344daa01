"""Free knots in the largest error: linear programs in values and knots together, in a region of trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from hyperscale.errors import StudyError, check_integer
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.training import costs, splines
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.minimax import extreme_points, solve_minimax
from hyperscale.training.outer_splines import at_knots, best_values, hats
from hyperscale.training.spline_fits import SplineRun
from hyperscale.training.spline_meshes import Mesh, fit_values
from hyperscale.training.spline_networks import is_spline, num_knots
from hyperscale.training.splines import Array
from hyperscale.training.stages import Stage, StageRun

_FIRST_TRUST, _LEAST_TRUST, _LARGEST_TRUST = 0.1, 1e-7, 0.4
_LEAST_GAIN = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class KnotBalance(Stage):
    """Lower the largest error of splines over values and knots until the errors of neighbouring pieces balance.

    Each round linearises the residual in values and knots and minimises its largest size by a linear program, knots
    moving at most ``trust`` of the gap beside them; the step counts where the largest error on the grid falls
    (sequential linear programming for minimax: Madsen, "An algorithm for minimax solution of overdetermined systems of
    non-linear equations", 1975). For PerInstance with one x and one hidden layer of ReLUs.
    """

    rounds: int = 30

    def __post_init__(self) -> None:
        """Check the count."""
        check_integer("KnotBalance.rounds", self.rounds, 1)

    def start(self, fit: GridFit) -> StageRun:
        """Start where the parameters are."""
        return _Balance(fit, self.rounds)

    @property
    def num_steps(self) -> int:
        """The rounds."""
        return self.rounds

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about what the rounds take; a program of k knots by about 20 k^2 k operations."""
        programs = (costs.PROGRAM_FLOPS / 2 + 20.0 * num_knots(method) ** 3) * where.num_instances(method, dims)
        return self.rounds * (costs.iteration_flops(method, dims, where) + programs)

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the bytes of the splines' work arrays."""
        return costs.work_bytes(method, dims, where)

    def check(self, method: Method, dims: Dims) -> None:
        """Refuse all but separate splines."""
        if isinstance(method, Hypernetwork) or not is_spline(method, dims):
            raise StudyError(
                "KnotBalance moves the knots of separate splines: PerInstance with x_dim 1, one hidden layer of at "
                f"least 2 ReLUs, bias 'hidden', 'primary_only' or 'all'; given {method.columns()}, "
                f"x_dim {dims.x_dim}. Use LpContinuation and OuterLP."
            )


def chord_errors(mesh: Mesh) -> Array:
    """Return the largest distance of y from its chord in every cell, [problems, cells]."""
    values = np.concatenate((mesh.y.grid[:, :1], mesh.y.knots, mesh.y.grid[:, -1:]), axis=1)
    size = np.abs(mesh.residual(values).grid)
    largest = np.zeros((len(size), mesh.cells.num_cells))
    np.maximum.at(largest, (np.arange(len(size))[:, None], mesh.cells.cell), size)
    return largest


def equidistribute(nodes: Array, errors: Array) -> Array:
    """Return knots that give every cell the same sqrt(error), [problems, k]; errors of a smooth y grow as h^2.

    One round of de Boor's equidistribution ("Good approximation by splines with variable knots", 1973): the square
    root is taken as evenly spread over each present cell, and floored at 1e-3 of the largest.
    """
    density = np.sqrt(np.maximum(errors, 1e-6 * errors.max(axis=1, keepdims=True) + 1e-300))
    total = np.concatenate((np.zeros((len(nodes), 1)), np.cumsum(density, axis=1)), axis=1)
    share = np.arange(1, nodes.shape[1] - 1) / (nodes.shape[1] - 1)
    knots = [np.interp(share * sums[-1], sums, row) for sums, row in zip(total, nodes, strict=True)]
    return splines.separated(np.stack(knots))


class _Balance(SplineRun):
    """Rounds of linear programs on every problem; where equidistributed knots are better, from those."""

    def __init__(self, fit: GridFit, rounds: int) -> None:
        SplineRun.__init__(self, fit, rounds)
        if self.fits.num_knots:
            self._equidistribute(rounds)
        self.arrays["trust"] = np.full(self.fits.num_problems, _FIRST_TRUST)
        self.damping.active &= self.arrays["objective"] > 0

    def _equidistribute(self, rounds: int) -> None:
        """Start from equidistributed knots where these, with the best values, have the smaller largest error."""
        mesh = self.fits.mesh(self.arrays["knots"])
        errors = chord_errors(mesh)
        best_knots, least = mesh.nodes[:, 1:-1].copy(), errors.max(axis=1)
        for _ in range(rounds):
            mesh = self.fits.mesh(equidistribute(mesh.nodes, errors))
            errors = chord_errors(mesh)
            better = errors.max(axis=1) < least
            best_knots[better], least[better] = mesh.nodes[better, 1:-1], errors.max(axis=1)[better]
        mesh = self.fits.mesh(best_knots)
        values = best_values(mesh, fit_values(mesh))
        objective = mesh.residual(values).largest()
        better = objective < self.arrays["objective"]
        self.take(np.arange(len(better)), better, knots=best_knots, values=values, objective=objective)

    def step(self) -> None:
        """Make one round on every problem at work."""
        for problem in np.flatnonzero(self.damping.active):
            self._improve(int(problem))

    def _improve(self, problem: int) -> None:
        """Solve one problem's linear program and take its step, or shrink its region of trust."""
        one = slice(problem, problem + 1)
        knots, values, trust = self.arrays["knots"][one], self.arrays["values"][one], self.arrays["trust"][one]
        mesh = self.fits.mesh(knots, one)
        residual, cells = mesh.residual(values), mesh.cells
        rows = extreme_points(residual.grid[0], cells.cell[0])
        gaps = np.diff(splines.nodes_of(knots), axis=1)[0]
        nodes, place, cell = len(gaps) + 1, cells.place[0][rows], cells.cell[0][rows]
        slopes = np.diff(values, axis=1)[0] / gaps
        matrix = scipy.sparse.vstack([hats(cell, place, slopes), at_knots(mesh.slope[0])], format="csr")
        pieces = np.concatenate((residual.grid[0, rows], residual.knots[0]))
        room = trust * np.minimum(gaps[:-1], gaps[1:])
        found = solve_minimax(matrix, pieces, np.concatenate((np.full(nodes, np.inf), room)))
        before = float(self.arrays["objective"][problem])
        after = np.inf
        if found is not None:
            new_knots = splines.moved_knots(knots, found.change[None, nodes:])
            new_values = values + found.change[None, :nodes]
            after = float(self.fits.mesh(new_knots, one).residual(new_values).largest()[0])
        if after < before:
            self.arrays["knots"][one], self.arrays["values"][one] = new_knots, new_values
            self.arrays["objective"][problem] = after
        self._adapt(problem, before, after)

    def _adapt(self, problem: int, before: float, after: float) -> None:
        """Widen the region after a good step, shrink it after a bad one, stop where it is too small."""
        small = before - after <= _LEAST_GAIN * before
        trust = self.arrays["trust"][problem] * (0.3 if small else 2.0)
        self.arrays["trust"][problem] = min(trust, _LARGEST_TRUST)
        self.damping.active[problem] = trust > _LEAST_TRUST
