"""Optimisers on stacked parameters [members, num_params], every member with its own rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_number
from hyperscale.training.schedules import Constant, Cosine, Exponential, Schedule


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
            raise StudyError(f"{place}.schedule is {self.schedule!r}; allowed: Constant(), Cosine(), Exponential().")

    @abstractmethod
    def program(self) -> object:
        """The fields that members of a pack must share."""

    @abstractmethod
    def start(self, members: Sequence[Optimizer], params: Tensor) -> PackedOptimizer:
        """Start the update rule for ``members`` of this program on ``params`` [members, num_params]."""

    def columns(self) -> dict[str, str | int | float]:
        """Return the fields for tables."""
        row: dict[str, str | int | float] = {"optimizer": type(self).__name__, "lr": self.lr}
        if self.weight_decay:
            row["weight_decay"] = self.weight_decay
        return {**row, "schedule": type(self.schedule).__name__}


def per_member(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one number per member as a column that broadcasts over parameters: [members, 1]."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(-1)


class PackedOptimizer(ABC):
    """The state of an update rule for all members of a pack."""

    def __init__(self, members: Sequence[Optimizer], params: Tensor) -> None:
        self.lr = per_member([member.lr for member in members], params)
        decays = [member.weight_decay for member in members]
        self.weight_decay = per_member(decays, params) if any(decays) else None
        self.buffers: dict[str, Tensor] = {}

    @abstractmethod
    def update(self, params: Tensor, gradient: Tensor, step: int, factor: float) -> None:
        """Change ``params`` in place; ``step`` is 0-based, ``factor`` the schedule's."""

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        """Take up saved buffers."""
        self.buffers = {name: tensor.to(self.lr.device, copy=True) for name, tensor in buffers.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(Optimizer):
    """Stochastic gradient descent: v <- momentum v + (grad + weight_decay w), w <- w - lr v (torch.optim.SGD)."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Check the momentum too."""
        Optimizer.__post_init__(self)
        check_number("SGD.momentum", self.momentum, least=0)
        object.__setattr__(self, "momentum", float(self.momentum))

    def program(self) -> object:
        """The schedule, and whether there is momentum at all."""
        return ("SGD", self.schedule, self.momentum > 0)

    def start(self, members: Sequence[Optimizer], params: Tensor) -> PackedOptimizer:
        """Start with zero velocity."""
        return _PackedSGD(members, params)

    def columns(self) -> dict[str, str | int | float]:
        """Add the momentum."""
        row = Optimizer.columns(self)
        return {**row, "momentum": self.momentum} if self.momentum else row


class _PackedSGD(PackedOptimizer):
    def __init__(self, members: Sequence[Optimizer], params: Tensor) -> None:
        super().__init__(members, params)
        momenta = [member.momentum for member in members if isinstance(member, SGD)]
        self.momentum = per_member(momenta, params) if any(momenta) else None
        if self.momentum is not None:
            self.buffers["velocity"] = torch.zeros_like(params)

    def update(self, params: Tensor, gradient: Tensor, step: int, factor: float) -> None:  # noqa: ARG002
        if self.weight_decay is not None:
            gradient = gradient + self.weight_decay * params
        if self.momentum is not None:
            gradient = self.buffers["velocity"].mul_(self.momentum).add_(gradient)
        params.addcmul_(gradient, self.lr, value=-factor)


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
                raise StudyError(f"Adam.{name} is {value!r}; allowed: 0 up to but not including 1.")
            object.__setattr__(self, name, float(value))
        check_number("Adam.eps", self.eps, above=0)
        object.__setattr__(self, "eps", float(self.eps))

    def program(self) -> object:
        """The schedule, the moments' decay rates and eps."""
        return ("Adam", self.schedule, self.beta1, self.beta2, self.eps)

    def start(self, members: Sequence[Optimizer], params: Tensor) -> PackedOptimizer:
        """Start with zero moments."""
        return _PackedAdam(self, members, params)


class _PackedAdam(PackedOptimizer):
    def __init__(self, rule: Adam, members: Sequence[Optimizer], params: Tensor) -> None:
        super().__init__(members, params)
        self.rule = rule
        self.buffers["mean"] = torch.zeros_like(params)
        self.buffers["square"] = torch.zeros_like(params)

    def update(self, params: Tensor, gradient: Tensor, step: int, factor: float) -> None:
        rule, mean, square = self.rule, self.buffers["mean"], self.buffers["square"]
        if self.weight_decay is not None:
            params.mul_(1 - factor * self.lr * self.weight_decay)
        mean.lerp_(gradient, 1 - rule.beta1)
        square.mul_(rule.beta2).addcmul_(gradient, gradient, value=1 - rule.beta2)
        corrected = (1 - rule.beta2 ** (step + 1)) ** 0.5
        direction = mean / square.sqrt().div_(corrected).add_(rule.eps)
        params.addcmul_(direction, self.lr, value=-factor / (1 - rule.beta1 ** (step + 1)))
