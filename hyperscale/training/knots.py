"""Where the first layer's kinks start: equispaced, by curvature, or greedily; the last layer by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_choice, check_number
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.seeding import stream_keys, uniform
from hyperscale.training import costs, splines
from hyperscale.training.dense_runs import DenseVarPro
from hyperscale.training.equidistribution import equidistributed, second_differences
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.ridges import place_ridges
from hyperscale.training.shared_ridges import RidgeVarPro, place_shared_ridges
from hyperscale.training.shared_splines import SharedFits, SharedVarPro
from hyperscale.training.spline_fits import SplineFits
from hyperscale.training.spline_meshes import fit_values
from hyperscale.training.spline_networks import is_spline
from hyperscale.training.splines import Array, as_array
from hyperscale.training.stages import Stage, StageRun

Placement = Literal["equispaced", "equidistributed", "greedy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Knots(Stage):
    """Put the kinks of the first layer, forgetting the initial weights, and solve for the last layer.

    Where g sees one x alone: ``equispaced`` knots in (-1, 1), each moved by the member's seed within ``jitter`` / 2 of
    the spacing to either side; ``equidistributed``: the same in a coordinate in which equal lengths have equal
    integrals of abs(y'')^(1/2), the best spacing for smooth y, with the largest abs(y'') over I where all I share
    their knots; or ``greedy``: knots and values of the best continuous piecewise-linear approximation
    of the slice on the grid. Networks of several inputs start from ridges with random directions and evenly spread
    offsets, a hypernetwork's table from the same ones for all I, and an embedding's table from the identity. Under
    constraints what is placed is taken back within them.
    """

    keeps_constraints: ClassVar[bool] = True

    placement: Placement = "equispaced"
    jitter: float = 0.25

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice("Knots.placement", self.placement, ("equispaced", "equidistributed", "greedy"))
        check_number("Knots.jitter", self.jitter, least=0.0, most=1.0)

    def start(self, fit: GridFit) -> StageRun:
        """Place the knots; all is done in one slice."""
        return _Placed(fit, self)

    def flops(self, method: Method, dims: Dims, where: TrainingGrid) -> float:
        """Return about what placing and one least-squares solution take."""
        return (
            40 * costs.iteration_flops(method, dims, where)
            if self.placement == "greedy"
            else (costs.iteration_flops(method, dims, where))
        )

    def memory_bytes(self, method: Method, dims: Dims, where: TrainingGrid) -> int:
        """Return the bytes of the least-squares solution."""
        return costs.work_bytes(method, dims, where)

    def check(self, method: Method, dims: Dims) -> None:
        """Refuse methods without such a start."""
        costs.check_supported("Knots", method, dims)
        if self.placement == "equidistributed" and not is_spline(method, dims):
            raise StudyError(
                "Knots(placement='equidistributed') spaces the knots of networks of one x by y'': allowed for "
                "PerInstance with one x and one hidden layer of ReLUs, and for a Hypernetwork's table of them; "
                f"given {method.name}. Use placement='equispaced'."
            )
        greedy = self.placement == "greedy"
        if greedy and (isinstance(method, Hypernetwork) or not is_spline(method, dims)):
            raise StudyError(
                "Knots(placement='greedy') takes the knots of each slice y(., I) by itself: allowed for PerInstance "
                f"with one x and one hidden layer of ReLUs; given {method.name}. Use placement='equispaced'."
            )

    @property
    def label(self) -> str:
        """``Knots``, with the placement where that is not equispaced."""
        return "Knots" if self.placement == "equispaced" else f"Knots({self.placement})"


def equispaced(seeds: list[int], networks: int, num: int, jitter: float) -> Array:
    """Return jittered knots [len(seeds) * networks, num]; every seed and network has its own jitter."""
    noise = as_array(uniform(stream_keys(seeds, "init", "knots"), networks * num))
    noise = noise.reshape(len(seeds) * networks, num) - 0.5
    return splines.separated(-1 + 2.0 / (num + 1) * (np.arange(1, num + 1) + jitter * noise))


def greedy(y: Tensor, num: int) -> tuple[Array, Array]:
    """Return knots [problems, num] and values [problems, num + 2] of the best approximations of ``y`` on its grid."""
    from hyperscale.targets.exact import best_piecewise_linear

    best = best_piecewise_linear(y, num)
    return splines.separated(as_array(best.knots)), as_array(best.values)


class _Placed:
    """A stage that is through after one slice."""

    def __init__(self, fit: GridFit, stage: Knots) -> None:
        self.fit, self.stage, self.done = fit, stage, False

    def advance(self, deadline: float) -> bool:  # noqa: ARG002
        """Place the kinks and solve for the last layer."""
        if not self.done:
            self._place()
            if self.fit.projection is not None:
                self.fit.params.copy_(self.fit.project(self.fit.params))
            self.done = True
        return True

    def _place(self) -> None:
        """Place the kinks of every network."""
        fit = self.fit
        if isinstance(fit.method, Hypernetwork) and not is_spline(fit.method, fit.dims):
            place_shared_ridges(fit, self.stage.jitter)
            RidgeVarPro(fit, 1).write()
            return
        if isinstance(fit.method, Hypernetwork):
            shared = SharedFits(fit)
            knots = equispaced(fit.seeds, 1, shared.num_knots, self.stage.jitter)
            if self.stage.placement == "equidistributed":
                largest = np.stack([second_differences(one).max(axis=0) for one in shared.y])
                knots = equidistributed(largest, 0.5 * (1 + knots))
            fit.params.copy_(shared.params(knots, np.zeros((len(knots), shared.num_rows, shared.num_knots + 2))))
            SharedVarPro(fit, 1).write()
            return
        if not is_spline(fit.method, fit.dims):
            place_ridges(fit, self.stage.jitter)
            DenseVarPro(fit, 1).write()
            return
        fits = SplineFits(fit)
        if self.stage.placement == "greedy":
            knots, values = greedy(fit.y.flatten(0, 1).cpu(), fits.num_knots)
        else:
            networks = fits.num_problems // fit.num_members
            knots = equispaced(fit.seeds, networks, fits.num_knots, self.stage.jitter)
            if self.stage.placement == "equidistributed":
                knots = equidistributed(second_differences(fits.y), 0.5 * (1 + knots))
            values = fit_values(fits.mesh(knots))
        fits.write(knots, values, np.ones(len(knots), dtype=bool))

    def state(self) -> dict[str, Any]:
        """Return whether the knots are placed."""
        return {"done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        self.done = bool(state["done"])

    def losses(self) -> Tensor:
        """Return the mean squares of the residuals, [members]."""
        with torch.no_grad():
            return self.fit.residuals().square().mean(dim=(1, 2)).cpu()
