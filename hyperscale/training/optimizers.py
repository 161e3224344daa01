"""Optimisers on stacked parameters [members, num_params], every member with its own rate."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperscale.errors import StudyError, brief, check_number
from hyperscale.training.schedules import Constant, Cosine, Exponential, Schedule

_TABLE_STEPS = 64
_BLOCK = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer(ABC):
    """An update rule: the learning rate ``lr`` (which may differ within a pack) times a schedule's factor."""

    lr: float
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        """Check the numbers and make them floats."""
        place = type(self).__name__
        check_number(f"{place}.lr", self.lr, above=0)
        check_number(f"{place}.weight_decay", self.weight_decay, least=0)
        object.__setattr__(self, "lr", float(self.lr))
        object.__setattr__(self, "weight_decay", float(self.weight_decay))
        if not isinstance(self.schedule, Constant | Cosine | Exponential):
            raise StudyError(
                f"{place}.schedule is {brief(self.schedule)}; allowed: Constant(), Cosine(), Exponential()."
            )

    @property
    @abstractmethod
    def num_buffers(self) -> int:
        """How many numbers the rule keeps for each parameter."""

    @abstractmethod
    def program(self) -> object:
        """The fields that members of a pack must share."""

    @abstractmethod
    def start(
        self, members: Sequence[Optimizer], params: Tensor, gradient: Tensor, num_steps: Sequence[int]
    ) -> PackedOptimizer:
        """Start the rule for ``members`` of this program, each with its own ``num_steps``.

        ``params`` and ``gradient`` [members, num_params] are read and changed where they lie at every update.
        """

    def columns(self) -> dict[str, str | int | float]:
        """Return the fields for tables."""
        row: dict[str, str | int | float] = {"optimizer": type(self).__name__, "lr": self.lr}
        if self.weight_decay:
            row["weight_decay"] = self.weight_decay
        return {**row, "schedule": type(self.schedule).__name__}


def per_member(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one number per member as a column that broadcasts over parameters: [members, 1]."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(-1)


Numbers = npt.NDArray[np.float64]


class PackedOptimizer(ABC):
    """An update rule for all members of a pack, on ``params`` and ``gradient`` that lie where they lie.

    Every member has its own rate, schedule and number of steps. The numbers that change with the step are worked
    out in float64 for some steps ahead and rounded once, so that they are the same in every pack. On a CPU, large
    tensors are gone through in blocks that stay in the cache.
    """

    def __init__(
        self, members: Sequence[Optimizer], params: Tensor, gradient: Tensor, num_steps: Sequence[int]
    ) -> None:
        self.params, self.gradient = params, gradient
        self.lr = np.array([member.lr for member in members])
        self.weight_decay = np.array([member.weight_decay for member in members])
        kinds = [(member.schedule, steps) for member, steps in zip(members, num_steps, strict=True)]
        self._kinds = list(dict.fromkeys(kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in kinds])
        self._ahead = range(0)
        self._tables: list[Tensor] = []
        self.buffers: dict[str, Tensor] = {}

    @abstractmethod
    def tables(self, rates: Numbers, steps: range) -> list[Numbers]:
        """Return what `apply` needs for ``steps``, each [steps, members] or [steps]; ``rates`` are lr x schedule."""

    @abstractmethod
    def apply(self, block: Mapping[str, Tensor], numbers: Sequence[Tensor]) -> None:
        """Change a block's ``params`` in place by this step's numbers; it has ``gradient``, ``scratch`` and buffers."""

    def update(self, step: int) -> None:
        """Change the parameters by 0-based ``step``'s gradient."""
        self.apply_all(self.numbers(step))

    def apply_all(self, numbers: Sequence[Tensor]) -> None:
        """Change the parameters by `numbers`, block by block."""
        for rows, block in self._views:
            self.apply(block, [part if part.ndim == 0 else part[rows] for part in numbers])

    def numbers(self, step: int) -> list[Tensor]:
        """Return ``step``'s numbers: a column [members, 1] each, or a scalar where members do not differ."""
        if step not in self._ahead:
            start = step - step % _TABLE_STEPS
            self._ahead = range(start, start + _TABLE_STEPS)
            factors = np.array([[s.factor(t, n) if t < n else 0.0 for s, n in self._kinds] for t in self._ahead])
            tables = self.tables(self.lr * factors[:, self._kind_of], self._ahead)
            self._tables = [self._column(table) for table in tables]
        return [table[step - self._ahead.start] for table in self._tables]

    def _column(self, table: Numbers) -> Tensor:
        column = torch.from_numpy(table).to(self.params.device, self.params.dtype)
        return column if table.ndim == 1 else column.unsqueeze(-1)

    @functools.cached_property
    def _views(self) -> list[tuple[slice, dict[str, Tensor]]]:
        members, num_params = self.params.shape
        whole = {"params": self.params, "gradient": self.gradient, **self.buffers}
        rows, columns = members, num_params
        if self.params.device.type == "cpu" and members * num_params > 2 * _BLOCK:
            rows, columns = max(1, _BLOCK // num_params), min(_BLOCK, num_params)
        scratch = torch.empty(rows * columns, dtype=self.params.dtype, device=self.params.device)
        views = []
        for top in range(0, members, rows):
            for left in range(0, num_params, columns):
                part = (slice(top, top + rows), slice(left, left + columns))
                block = {name: tensor[part] for name, tensor in whole.items()}
                block["scratch"] = scratch[: block["params"].numel()].view(block["params"].shape)
                views.append((part[0], block))
        return views

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        """Take up saved buffers, or some members' rows of them."""
        for name, buffer in self.buffers.items():
            buffer.copy_(buffers[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(Optimizer):
    """Stochastic gradient descent: v <- momentum v + (grad + weight_decay w), w <- w - lr v (torch.optim.SGD)."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Check the momentum too."""
        Optimizer.__post_init__(self)
        check_number("SGD.momentum", self.momentum, least=0)
        object.__setattr__(self, "momentum", float(self.momentum))

    @property
    def num_buffers(self) -> int:
        """The velocity, where there is momentum."""
        return 1 if self.momentum else 0

    def program(self) -> object:
        """Whether there is momentum at all."""
        return ("SGD", self.momentum > 0)

    def start(
        self, members: Sequence[Optimizer], params: Tensor, gradient: Tensor, num_steps: Sequence[int]
    ) -> PackedOptimizer:
        """Start with zero velocity."""
        return _PackedSGD(members, params, gradient, num_steps)

    def columns(self) -> dict[str, str | int | float]:
        """Add the momentum."""
        row = Optimizer.columns(self)
        return {**row, "momentum": self.momentum} if self.momentum else row


class _PackedSGD(PackedOptimizer):
    def __init__(
        self, members: Sequence[Optimizer], params: Tensor, gradient: Tensor, num_steps: Sequence[int]
    ) -> None:
        super().__init__(members, params, gradient, num_steps)
        momenta = [member.momentum for member in members if isinstance(member, SGD)]
        self.momentum = np.array(momenta) if any(momenta) else None
        if self.momentum is not None:
            self.buffers["velocity"] = torch.zeros_like(params)

    def tables(self, rates: Numbers, steps: range) -> list[Numbers]:
        tables = [-rates]
        if self.momentum is not None:
            tables.append(np.tile(self.momentum, (len(steps), 1)))
        if self.weight_decay.any():
            tables.append(np.tile(self.weight_decay, (len(steps), 1)))
        return tables

    def apply(self, block: Mapping[str, Tensor], numbers: Sequence[Tensor]) -> None:
        rate, *others = numbers
        params, gradient = block["params"], block["gradient"]
        if self.weight_decay.any():
            gradient.addcmul_(params, others[-1])
        if self.momentum is not None:
            gradient = block["velocity"].mul_(others[0]).add_(gradient)
        params.addcmul_(gradient, rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Adam(Optimizer):
    """Adam with decoupled weight decay (Kingma & Ba, 2015; Loshchilov & Hutter, 2019; torch.optim.AdamW).

    w <- w (1 - lr decay), then w <- w - lr m^ / (sqrt(v^) + eps) with bias-corrected moments m^, v^.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check the moments' decay rates too."""
        Optimizer.__post_init__(self)
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            check_number(f"Adam.{name}", value, least=0)
            if value >= 1:
                raise StudyError(f"Adam.{name} is {brief(value)}; allowed: 0 up to but not including 1.")
            object.__setattr__(self, name, float(value))
        check_number("Adam.eps", self.eps, above=0)
        object.__setattr__(self, "eps", float(self.eps))

    @property
    def num_buffers(self) -> int:
        """Both moments."""
        return 2

    def program(self) -> object:
        """The moments' decay rates and eps."""
        return ("Adam", self.beta1, self.beta2, self.eps)

    def start(
        self, members: Sequence[Optimizer], params: Tensor, gradient: Tensor, num_steps: Sequence[int]
    ) -> PackedOptimizer:
        """Start with zero moments."""
        return _PackedAdam(self, members, params, gradient, num_steps)


class _PackedAdam(PackedOptimizer):
    def __init__(
        self,
        rule: Adam,
        members: Sequence[Optimizer],
        params: Tensor,
        gradient: Tensor,
        num_steps: Sequence[int],
    ) -> None:
        super().__init__(members, params, gradient, num_steps)
        self.rule = rule
        self.buffers["mean"] = torch.zeros_like(params)
        self.buffers["square"] = torch.zeros_like(params)

    def tables(self, rates: Numbers, steps: range) -> list[Numbers]:
        """Lr m^ / (sqrt(v^) + eps) is lr c / (1 - beta1^t) times m / (sqrt(v) + c eps), with c^2 = 1 - beta2^t."""
        taken = 1.0 + np.array(steps, dtype=np.float64)[:, None]
        corrected = np.sqrt(1 - self.rule.beta2**taken)
        tables = [-rates * corrected / (1 - self.rule.beta1**taken), self.rule.eps * corrected[:, 0]]
        if self.weight_decay.any():
            tables.append(1 - rates * self.weight_decay)
        return tables

    def apply(self, block: Mapping[str, Tensor], numbers: Sequence[Tensor]) -> None:
        rate, eps, *shrink = numbers
        params, gradient, mean, square, scratch = (
            block[name] for name in ("params", "gradient", "mean", "square", "scratch")
        )
        if shrink:
            params.mul_(shrink[0])
        mean.lerp_(gradient, 1 - self.rule.beta1)
        square.mul_(self.rule.beta2).addcmul_(gradient, gradient, value=1 - self.rule.beta2)
        torch.rsqrt(square, out=scratch).reciprocal_().add_(eps)  # a CPU's sqrt is slow at 0, where dead units are
        params.addcmul_(torch.div(mean, scratch, out=scratch), rate)
