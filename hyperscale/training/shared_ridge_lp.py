"""L_p continuation for a table of shallow networks of several inputs: the last layers, over the ridges all I share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperscale.training.grid_fit import GridFit
from hyperscale.training.iteration import IteratedRun
from hyperscale.training.separable import Basis, apply_transposed, solve_damped, squares
from hyperscale.training.shared_ridges import RidgeFits
from hyperscale.training.shared_splines import instances_at_rows
from hyperscale.training.splines import Array, as_array, summed


class RidgeLp(IteratedRun):
    """Minimise sum abs(r)^p over every row's last layer, at the I where the row stands; the first layer stays.

    Each row is a linear problem of its own, [members * rows] in all, in an orthonormal basis of the hidden values; the
    steps are those of `dense_runs.DenseLp`. What is written is what has the smallest largest error of all visited.
    """

    def __init__(self, fit: GridFit, powers: tuple[float, ...], limit: int) -> None:
        self.fits, self.powers, rows = RidgeFits(fit), powers, instances_at_rows(fit)
        self.num_rows = len(rows)
        IteratedRun.__init__(self, fit, fit.num_members * self.num_rows, limit, len(powers))
        self.y: Tensor = fit.y[:, torch.from_numpy(rows).to(fit.params.device)].contiguous()
        first = self.fits.read_first()
        self.bases = self._bases(first)
        start = [basis.columns[0].mT @ y.mT for basis, y in zip(self.bases, self.y, strict=True)]
        self.arrays = {
            "first": as_array(first).copy(),
            "coordinates": np.concatenate([as_array(one.mT) for one in start]),
            "start": as_array(fit.params).copy(),
            "given": as_array(fit.residuals().abs().amax(dim=(1, 2))).copy(),
        }
        largest = np.array([np.abs(self._residual(one)).max() for one in range(len(self.damping.active))])
        self.arrays |= {"best": self.arrays["coordinates"].copy(), "objective": largest}
        self.arrays["reached"] = self.arrays["given"].copy()

    def _bases(self, first: Tensor) -> list[Basis]:
        """Return an orthonormal basis of every member's hidden values."""
        return [Basis(self.fits.design(self.fits.hidden(own))[None]) for own in first]

    def _residual(self, problem: int) -> Array:
        """Return y - h of one row, [points]."""
        member, row = divmod(problem, self.num_rows)
        coordinates = torch.from_numpy(self.arrays["coordinates"][problem]).to(self.y.device)
        return as_array(self.y[member, row] - self.bases[member].columns[0] @ coordinates)

    def step(self) -> None:
        """Make one damped Newton step of the present power on every row at work."""
        at = np.flatnonzero(self.damping.active)
        power = float(self.powers[self.phase])
        moved, before, after, largest = [], [], [], []
        for problem in at:
            coordinates, sums, size = self._move(int(problem), power)
            moved.append(coordinates)
            before.append(sums[0])
            after.append(sums[1])
            largest.append(size)
        accept = self.damping.update(at, np.array(before), np.array(after))
        trial, sizes = np.stack(moved), np.array(largest)
        self.arrays["coordinates"][at[accept]] = trial[accept]
        better = sizes < self.arrays["objective"][at]
        self.arrays["best"][at[better]] = trial[better]
        self.arrays["objective"][at[better]] = sizes[better]

    def _move(self, problem: int, power: float) -> tuple[Array, tuple[float, float], float]:
        """Return one row's coordinates after the step, sum (abs(r) / scale)^p before and after, and the largest r."""
        member, row = divmod(problem, self.num_rows)
        columns, y = self.bases[member].columns, self.y[member, row]
        coordinates = torch.from_numpy(self.arrays["coordinates"][problem]).to(y.device)
        residual = y - columns[0] @ coordinates
        scale = residual.abs().amax().clamp_min(1e-300)
        roots = (residual.abs() / scale) ** (0.5 * power - 1)
        weighted = columns * roots[None, :, None]
        damping = torch.from_numpy(self.damping.damping[problem : problem + 1]).to(y.device)
        right = apply_transposed(weighted, (residual * roots)[None])
        step, _ = solve_damped(squares(weighted), right, damping)
        coordinates = coordinates + step[0] / (power - 1)
        new = y - columns[0] @ coordinates
        sums = [float(summed(as_array((one.abs() / scale) ** power)[None])[0]) for one in (residual, new)]
        return as_array(coordinates), (sums[0], sums[1]), float(new.abs().amax())

    def losses(self) -> Tensor:
        """Return the largest errors of what was written, [members]."""
        return torch.from_numpy(self.arrays["reached"].copy())

    def write(self) -> None:
        """Write every member whose largest error on the whole grid is below what was given."""
        best = torch.from_numpy(self.arrays["best"]).to(self.y.device).unflatten(0, (-1, self.num_rows))
        pairs = zip(self.bases, best, strict=True)
        last = torch.stack([torch.linalg.solve_triangular(b.triangle[0], z.mT, upper=True).mT for b, z in pairs])
        first, start = (torch.from_numpy(self.arrays[name]).to(self.y.device) for name in ("first", "start"))
        params = self.fits.table(first, last)
        reached = as_array(self.fit.residuals(params).abs().amax(dim=(1, 2)))
        better = reached < self.arrays["given"]
        self.fit.params.copy_(torch.where(torch.from_numpy(better).to(params.device)[:, None], params, start))
        self.arrays["reached"] = np.where(better, reached, self.arrays["given"])

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state; the bases follow from it."""
        IteratedRun.restore(self, state)
        self.bases = self._bases(torch.from_numpy(self.arrays["first"]).to(self.y.device))
