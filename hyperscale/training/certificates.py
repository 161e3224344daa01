"""Certified upper bounds of the sup norm, by branch and bound over boxes of (x, I)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hyperscale.methods.method import Dims, Method
from hyperscale.methods.per_instance import PerInstance
from hyperscale.targets.target import PreparedTarget, Target
from hyperscale.training.network_enclosures import Boxes, can_enclose, enclose, first_boxes, num_numbers
from hyperscale.training.sup_norm import best_attempts

MAX_DIMS = 3
_CHUNK_NUMBERS = 2**22
_ROUND = 8192
_TARGET_SLACK = 1e-12

SlopeIntervals = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def certify_sup_error(  # noqa: PLR0913
    method: Method,
    dims: Dims,
    params: Tensor,
    target: Target,
    seed: int,
    *,
    found: float,
    tolerance: float = 0.1,
    max_cells: int = 200_000,
    attempts: Tensor | None = None,
) -> float:
    """Return a certified upper bound of sup abs(h - y) over [-1, 1]^m, never less than ``found``.

    Over a box with centre c and half widths w, abs(h - y) <= abs(h - y)(c) + sum_d w_d sup abs(d(h - y)/du_d), with
    slopes of h from interval arithmetic (`enclosures`) and of y from ``target.slope_bounds()`` (one number per
    coordinate, x first) or, tighter, ``local_slope_bounds(lower, upper)`` (absolute values, [cells, m]) or
    ``slope_intervals(lower, upper)`` of it or of it prepared (signed, two tensors [cells, m]: then slopes of h and y
    may cancel). Boxes
    whose bound is at most (1 + ``tolerance``) times the largest error known are done, the worst others are halved
    until none is left or ``max_cells`` boxes have been bounded; the largest bound left is returned, certified either
    way. Infinite where nothing can be said: more than three dimensions, a target without slope bounds, a method or
    encoder unknown here, params that are not finite.

    Rounding in h is covered (`enclosures`); y, as its own code computes it, gets a slack of 1e-12 (1 + abs(y)).
    `PerInstance` is bounded at its own values of I, each by one attempt: ``attempts`` as `find_sup_error` chose
    them, or the best on a grid.
    """
    num_dims = dims.x_dim + dims.conditioning_dim
    if num_dims > MAX_DIMS or not can_enclose(method) or not bool(params.isfinite().all()):
        return math.inf
    prepared = target.prepare([target], [seed], str(params.device))
    if target.slope_bounds() is None and _slope_intervals(target, prepared) is None:
        return math.inf
    if isinstance(method, PerInstance):
        networks = best_attempts(method, dims, params, prepared) if attempts is None else attempts
    else:
        networks = torch.zeros(1, dtype=torch.int64, device=params.device)
    with torch.no_grad():
        boxes = first_boxes(method, dims, networks.to(params.device))
        search = _Search(method, dims, params.double(), target, prepared)
        bound = search.run(boxes, found, tolerance, max_cells)
    return max(bound, found)


class _Search:
    """Branch and bound for one trial."""

    def __init__(self, method: Method, dims: Dims, params: Tensor, target: Target, prepared: PreparedTarget) -> None:
        self.method, self.dims, self.params = method, dims, params
        self.target, self.prepared = target, prepared
        self.slope_intervals = _slope_intervals(target, prepared)
        # Terms of a slope that cancel have been rounded at their own size, which the bound over the cube adds up.
        self.slope_slack = _TARGET_SLACK * max(target.slope_bounds() or (1.0,))
        self.chunk = max(16, _CHUNK_NUMBERS // num_numbers(method, dims))
        fixed = method.instances(dims).to(params) if isinstance(method, PerInstance) else None
        self.instances = fixed

    def run(self, boxes: Boxes, found: float, tolerance: float, max_cells: int) -> float:
        """Return the largest bound of a box once every box is done or the budget is spent."""
        bounds, worst, centres = self.bound(boxes)
        used, closed = len(boxes), 0.0
        known = max(found, float(centres.max()))
        while True:
            done = bounds <= (1 + tolerance) * known
            closed = max(closed, float(bounds[done].max()) if bool(done.any()) else 0.0)
            kept = ~done
            boxes, bounds, worst = boxes[kept], bounds[kept], worst[kept]
            room = min((max_cells - used) // 2, _ROUND)
            if len(boxes) == 0 or room <= 0:
                return max(closed, float(bounds.max()) if len(boxes) else 0.0)
            chosen = torch.zeros_like(bounds, dtype=torch.bool)
            chosen[bounds.sort(descending=True, stable=True).indices[:room]] = True
            halves = boxes[chosen].halved(worst[chosen])
            new_bounds, new_worst, centres = self.bound(halves)
            new_bounds = torch.minimum(new_bounds, torch.cat([bounds[chosen]] * 2))
            known = max(known, float(centres.max()))
            used += len(halves)
            boxes = _together(boxes[~chosen], halves)
            bounds, worst = torch.cat([bounds[~chosen], new_bounds]), torch.cat([worst[~chosen], new_worst])

    def bound(self, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
        """Return bounds of abs(h - y), the dimension that costs most, and lower bounds at the centres: [cells] each."""
        parts = [self._bound(boxes[start : start + self.chunk]) for start in range(0, len(boxes), self.chunk)]
        bounds, worst, centres = (torch.cat([part[i] for part in parts]) for i in range(3))
        return bounds, worst, centres

    def _bound(self, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
        h = enclose(self.method, self.dims, self.params, boxes)
        point = self._completed(boxes.centre, boxes)
        x, conditioning = point[:, : self.dims.x_dim], point[:, self.dims.x_dim :]
        y = self.prepared.evaluate(x[None, :, None], conditioning[None]).reshape(-1)
        slack = _TARGET_SLACK * (1 + y.abs())
        low, high = h.point_lower[:, 0] - y - slack, h.point_upper[:, 0] - y + slack
        centre = torch.maximum(-low, high)
        least = torch.maximum(torch.maximum(low, -high), torch.zeros_like(low))
        half = boxes.half
        steepness, of_target = self._steepness(h.slope_lower[..., 0], h.slope_upper[..., 0], boxes)
        costs = half * steepness
        reach = (half * of_target).sum(dim=1)
        apart = torch.maximum(y + slack - h.lower[:, 0], h.upper[:, 0] - y + slack) + reach
        bounds = torch.minimum(centre + costs.sum(dim=1), apart) * (1 + _TARGET_SLACK)
        return bounds, costs.argmax(dim=1), least

    def _steepness(self, low: Tensor, high: Tensor, boxes: Boxes) -> tuple[Tensor, Tensor]:
        """Return bounds of abs(d(h - y)/du_d) and of abs(dy/du_d), [cells, k], from h's slopes."""
        count = low.shape[1]
        ends = self._completed(boxes.lower, boxes), self._completed(boxes.upper, boxes)
        if self.slope_intervals is not None:
            least, most = (part[:, :count] for part in self.slope_intervals(*ends))
            size = torch.maximum(-least, most) * (1 + _TARGET_SLACK) + self.slope_slack
            return torch.maximum(high - least, most - low) + _TARGET_SLACK * size + self.slope_slack, size
        local: Callable[[Tensor, Tensor], Tensor | None] = getattr(self.target, "local_slope_bounds", lambda *_: None)
        given = local(*ends)
        if given is None:
            everywhere = self.target.slope_bounds()
            assert everywhere is not None
            given = torch.tensor(everywhere, dtype=low.dtype, device=low.device).expand(len(low), -1)
        size = given[:, :count] * (1 + _TARGET_SLACK)
        return torch.maximum(-low, high) + size, size

    def _completed(self, points: Tensor, boxes: Boxes) -> Tensor:
        """Return points of (x, I), [cells, m], where the boxes are of x alone."""
        if self.instances is None:
            return points
        return torch.cat([points, self.instances[boxes.network]], dim=1)


def _slope_intervals(target: Target, prepared: PreparedTarget) -> SlopeIntervals | None:
    """Return the signed slopes that the target offers, prepared or not, or None."""
    own: SlopeIntervals | None = getattr(target, "slope_intervals", None)
    return getattr(prepared, "slope_intervals", own)


def _together(first: Boxes, second: Boxes) -> Boxes:
    return Boxes(
        lower=torch.cat([first.lower, second.lower]),
        upper=torch.cat([first.upper, second.upper]),
        network=torch.cat([first.network, second.network]),
    )
