"""Targets with a known selector, as Theorem 5 of "On the Modularity of Hypernetworks" assumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_integer, check_number, count_text
from hyperscale.networks.mlp import Shape
from hyperscale.seeding import random_signs, stream_keys, uniform_between
from hyperscale.targets.sobolev_ball import LevelBumps, level_amplitudes, slope_bound
from hyperscale.targets.target import PreparedTarget, Target, check_smoothness

_OUTPUT_SHARE = 0.02  # of the base column: small, so that P's changes of the last layer, about a tenth, prevail
_KNOT_SHIFT = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Structured(Target):
    """y(x, I) = c g(x; theta(I)) with theta(I) = W P(I): a hypernetwork's job with a selector that is known.

    g is a ReLU network with one hidden layer of ``primary_width`` units, hidden biases and no last bias; theta is
    laid out as `Shape` says. P: [-1, 1]^m2 -> R^w with w = ``effective_dim``: P_1 = 1, and P_2, ..., P_w are
    independent all-scales sums of ``levels`` levels in I alone (`SobolevBall`), so every coordinate lies in the
    Sobolev ball W_{r,m2}. Every column of W [N_g, w] has the L1 norm ``bound``, hence the induced ||W||_1 =
    ``bound``: the selector theta is in the class P_{r,w,bound} by construction, and continuous.

    W's first column is a base network with knots in (-0.8, 0.8); the others shift biases, by at most 0.15 of
    the unit's weights in all, so that knots stay in (-1, 1), and change the last layer in directions whose mean
    over x is about 0, so that I acts through its interaction with x. The constant c makes
    sup abs(y) <= 1 by the triangle inequality over the units; absorbed into g's last layer it multiplies those
    rows of W, and ||W||_1 <= ``bound`` max(1, c).

    Of Theorem 5's hypotheses the selector's hold exactly, with a g of width at least ``primary_width`` and error 0.
    Its y in W_{r,m} holds for r = 1 up to a constant, 1 + sum(slope_bounds()) at most, with derivatives almost
    everywhere, as g has corners in x; for r >= 2 it does not hold, only the selector is smooth.
    """

    primary_width: int = 8
    effective_dim: int = 3
    smoothness: int = 1
    levels: int = 5
    bound: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        Target.__post_init__(self)
        check_integer("Structured.primary_width", self.primary_width, 1)
        check_integer("Structured.effective_dim", self.effective_dim, 2)
        check_integer("Structured.levels", self.levels, 1)
        check_integer("Structured.seed", self.seed, 0)
        check_number("Structured.bound", self.bound, above=0)
        if self.levels * self.conditioning_dim > 22:
            raise StudyError(
                f"Structured has {self.levels} levels in {self.conditioning_dim} dimensions of I; allowed: at most "
                "2^22 cells. Take fewer levels."
            )
        check_smoothness("Structured.smoothness", self.smoothness, self.conditioning_dim)
        numbers = (self.x_dim + 2) * self.primary_width * self.effective_dim
        if numbers > 2**22:
            raise StudyError(
                f"Structured.primary_width is {self.primary_width} and effective_dim {self.effective_dim}, "
                f"{count_text(numbers)} numbers in W; allowed: at most 2^22. Take fewer."
            )

    @property
    def inputs(self) -> Literal["uniform", "normal"]:
        """Uniform on the cube."""
        return "uniform"

    @property
    def varies_with_seed(self) -> bool:
        """False: the target has a seed of its own."""
        return False

    @property
    def primary_shape(self) -> Shape:
        """The shape of g."""
        return Shape(sizes=(self.x_dim, self.primary_width, 1), biases=(True, False))

    @property
    def amplitudes(self) -> tuple[float, ...]:
        """The height of the bumps of each level in P_2, ..., P_w, coarsest first."""
        return level_amplitudes(self.conditioning_dim, self.smoothness, self.levels)

    def selector_matrix(self) -> Tensor:
        """Return W, float64 [N_g, w]."""
        width, peak = self.primary_width, sum(self.amplitudes)
        keys = [stream_keys([self.seed], "target", "structured", part) for part in ("direction", "knot", "last")]
        direction = uniform_between(keys[0], self.x_dim * width, -1, 1, torch.float64).view(self.x_dim, width)
        direction = direction / direction.abs().sum(dim=0)
        knots = uniform_between(keys[1], self.x_dim * width, -0.8, 0.8, torch.float64).view(self.x_dim, width)
        if self.x_dim == 1:  # one knot in each of `width` equal parts
            knots = ((torch.arange(width) + 0.5 + 0.5 * knots) / width).mul(1.6).sub(0.8)
        bias = -(direction * knots).sum(dim=0)
        factor = (1 - _OUTPUT_SHARE) / (width + bias.abs().sum())
        last = random_signs(keys[2], width)[0] / width
        columns = [torch.cat([factor * direction.flatten(), factor * bias, _OUTPUT_SHARE * last])]
        share = min(0.5, _KNOT_SHIFT * float(factor) * width / (peak * (self.effective_dim - 1)))
        hidden = _mean_hidden(direction, bias)
        for index in range(1, self.effective_dim):
            key = stream_keys([self.seed], "target", "structured", "change", index)
            shift, change = random_signs(key, 2 * width)[0].view(2, width) / width
            change = _without_mean(change, hidden)
            still = torch.zeros(self.x_dim * width, dtype=torch.float64)
            columns.append(torch.cat([still, share * shift, (1 - share) * change]))
        return self.bound * torch.stack(columns, dim=1)

    def scale(self) -> float:
        """Return c, the reciprocal of the bound of sup abs(g)."""
        return self._limits()[0]

    def slope_bounds(self) -> tuple[float, ...] | None:
        """Return bounds by the triangle inequality over units and coordinates of P."""
        return self._limits()[1]

    def _limits(self) -> tuple[float, tuple[float, ...]]:
        """Return c and the slopes' bounds, from the largest bias and last weight of every unit."""
        weight, bias, last = self.split_columns()
        peak = sum(self.amplitudes)
        most_bias = bias[:, 0].abs() + peak * bias[:, 1:].abs().sum(dim=1)
        most_last = last[:, 0].abs() + peak * last[:, 1:].abs().sum(dim=1)
        most_hidden = weight.abs().sum(dim=0) + most_bias
        scale = 1 / float((most_last * most_hidden).sum())
        in_x = [scale * float((most_last * row.abs()).sum()) for row in weight]
        changes = last[:, 1:].abs().sum(dim=1) * most_hidden + bias[:, 1:].abs().sum(dim=1) * most_last
        in_conditioning = scale * slope_bound(self.amplitudes, self.smoothness) * float(changes.sum())
        return scale, (*in_x, *[in_conditioning] * self.conditioning_dim)

    def split_columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return W by parts of g: weights [x_dim, width] (base only), biases [width, w], last weights [width, w]."""
        weight, bias, last = self.selector_matrix().split(self.primary_shape.part_sizes())
        return weight[:, 0].view(self.x_dim, self.primary_width), bias, last

    def program(self) -> object:
        """Everything but the seed."""
        fields = (self.primary_width, self.effective_dim, self.smoothness, self.levels, self.bound)
        return ("Structured", self.x_dim, self.conditioning_dim, *fields)

    def prepare_selector(self, targets: Sequence[Structured], device: str) -> LevelBumps:
        """Return P_2, ..., P_w of every target, a stream for each (target, coordinate): functions of I given as x."""
        rows = [(target.seed, index) for target in targets for index in range(1, self.effective_dim)]
        tables = []
        for level, amplitude in enumerate(self.amplitudes, start=1):
            keys = torch.cat([stream_keys([seed], "target", "selector", index, level) for seed, index in rows])
            tables.append((amplitude * random_signs(keys, 2 ** (level * self.conditioning_dim))).to(device))
        return LevelBumps(tables=tables, power=self.smoothness + 1)

    def prepare(self, targets: Sequence[Structured], seeds: Sequence[int], device: str) -> PreparedTarget:  # noqa: ARG002
        """Draw W and P of every stream's target; the trials' own seeds play no part."""
        parts = [target.split_columns() for target in targets]
        weight, bias, last = (torch.stack(group).to(device) for group in zip(*parts, strict=True))
        scales = torch.tensor([target.scale() for target in targets], dtype=torch.float64, device=device)
        selector = self.prepare_selector(targets, device)
        return _Structured(weight=weight, bias=bias, last=last * scales[:, None, None], selector=selector)

    def columns(self) -> dict[str, str | int | float]:
        """Add the fields."""
        row = {**Target.columns(self), "target_width": self.primary_width, "target_effective_dim": self.effective_dim}
        row |= {"smoothness": self.smoothness, "levels": self.levels, "selector_bound": self.bound}
        return {**row, "target_seed": self.seed}


def _mean_hidden(direction: Tensor, bias: Tensor) -> Tensor:
    """Return every hidden unit's mean over 1024 points x of the cube that are the same for all targets: [width]."""
    x_dim = len(direction)
    points = uniform_between(stream_keys([0], "target", "structured", "x"), 1024 * x_dim, -1, 1, torch.float64)
    x = points.view(1024, x_dim, 1)
    return ((x * direction).sum(dim=1) + bias).relu().mean(dim=0)


def _without_mean(change: Tensor, hidden: Tensor) -> Tensor:
    """Return last weights of L1 norm 1 orthogonal to the units' means ``hidden``; a single unit keeps its weight."""
    if len(change) == 1:
        return change
    centred = change - (change * hidden).sum() / hidden.square().sum() * hidden
    return centred / centred.abs().sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Structured:
    """weight [streams, x_dim, width], bias and last (times c) [streams, width, w], ready to be evaluated."""

    weight: Tensor
    bias: Tensor
    last: Tensor
    selector: LevelBumps

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        weight, bias, last = (part.to(x.dtype) for part in (self.weight, self.bias, self.last))
        p = self._coordinates(conditioning, last.shape[-1])
        total = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        for unit in range(weight.shape[-1]):  # unit by unit: sums in a fixed order, and no array as wide as g
            hidden = (p * bias[:, None, unit]).sum(dim=-1)[..., None].expand(x.shape[:-1]).clone()
            for d in range(x.shape[-1]):
                hidden += weight[:, d, unit, None, None] * x[..., d]
            total += (p * last[:, None, unit]).sum(dim=-1)[..., None] * hidden.relu_()
        return total.unsqueeze(-1)

    def _coordinates(self, conditioning: Tensor, effective_dim: int) -> Tensor:
        """Return P(I), [streams, instances, w]."""
        repeated = conditioning.repeat_interleave(effective_dim - 1, dim=0)[:, :, None]
        varying = self.selector.evaluate(repeated, repeated[:, :, 0, :0])[..., 0, 0]
        varying = varying.unflatten(0, (-1, effective_dim - 1)).transpose(1, 2)
        return torch.cat([torch.ones_like(varying[..., :1]), varying], dim=-1)
