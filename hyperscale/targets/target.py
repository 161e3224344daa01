"""What every target offers, and how the points at which it is seen are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from hyperscale.errors import StudyError, check_integer, count_text
from hyperscale.methods.method import Dims

LARGEST_DIM = 10_000
"""Powers of counts with such an exponent can still be computed, and so be refused."""

_LARGEST_SMOOTHNESS, _MAX_DERIVATIVES = 16, 2**22


def check_smoothness(place: str, given: Any, num_dims: int = 1) -> None:
    """Raise `StudyError` unless the order r is one whose derivatives, (r + 1)^m at most, can be gone through."""
    check_integer(place, given, 1, _LARGEST_SMOOTHNESS)
    if (given + 1) ** num_dims > _MAX_DERIVATIVES:
        raise StudyError(
            f"{place} is {given} in {num_dims} dimensions, {count_text((given + 1) ** num_dims)} derivatives; "
            "allowed: at most 2^22. Take fewer dimensions or a lower order."
        )


class PreparedTarget(Protocol):
    """A target made ready for several streams of points at once."""

    def evaluate(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return y(x, I), [streams, instances, points, 1].

        ``x`` [streams, instances, points, x_dim], ``conditioning`` [streams, instances, conditioning_dim].
        A prepared target may also have ``slope_intervals(lower, upper)``: what every derivative of its first stream's
        y lies between over boxes of (x, I), two tensors [boxes, m] for corners [boxes, m], before rounding.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Target(ABC):
    """A function y(x, I) of the primary input x and the conditioning input I."""

    x_dim: int
    conditioning_dim: int

    def __post_init__(self) -> None:
        """Check the dimensions."""
        check_integer(f"{type(self).__name__}.x_dim", self.x_dim, 1, LARGEST_DIM)
        check_integer(f"{type(self).__name__}.conditioning_dim", self.conditioning_dim, 1, LARGEST_DIM)

    @property
    def dims(self) -> Dims:
        """The dimensions as the methods want them; y is a scalar."""
        return Dims(x_dim=self.x_dim, conditioning_dim=self.conditioning_dim, inputs=self.inputs)

    @property
    @abstractmethod
    def inputs(self) -> Literal["uniform", "normal"]:
        """The law of x and I: uniform on the cube [-1, 1]^m, or standard normal."""

    @property
    def is_hard_family(self) -> bool:
        """Whether the target has structure at every scale, as the theorems' lower bounds need."""
        return False

    @property
    def varies_with_seed(self) -> bool:
        """Whether the function itself depends on the trial's seed, not only the points at which it is seen."""
        return True

    @property
    def resolution(self) -> float | None:
        """The height of the finest structure, or None; smaller errors no longer speak of a rate."""
        return None

    def slope_bounds(self) -> tuple[float, ...] | None:
        """Return certified bounds of sup abs(dy/du_d) over the cube, x's coordinates then I's; None if unknown."""
        return None

    @property
    @abstractmethod
    def smoothness(self) -> int:
        """The order r of the Sobolev ball the target belongs to."""

    @abstractmethod
    def program(self) -> object:
        """The fields that trials of one pack must share; the rest may vary within it."""

    @abstractmethod
    def prepare(self, targets: Sequence[Any], seeds: Sequence[int], device: str) -> PreparedTarget:
        """Make ready ``targets`` of this program, one per stream, for trials with these seeds."""

    def columns(self) -> dict[str, str | int | float]:
        """Return the target's fields for tables."""
        return {"target": type(self).__name__, "x_dim": self.x_dim, "conditioning_dim": self.conditioning_dim}


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshPoints:
    """New points every step: ``instances`` values of I, and ``points`` values of x for each of them."""

    instances: int = 32
    points: int = 32

    def __post_init__(self) -> None:
        """Check the counts."""
        check_integer("FreshPoints.instances", self.instances, 1)
        check_integer("FreshPoints.points", self.points, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedSample:
    """A training sample of ``size`` pairs (x, I), one x per I, seen in shuffled batches; a test sample apart."""

    size: int = 30_000
    test_size: int = 10_000
    batch_size: int = 200

    def __post_init__(self) -> None:
        """Check the counts."""
        check_integer("FixedSample.test_size", self.test_size, 1)
        check_integer("FixedSample.batch_size", self.batch_size, 1)
        check_integer("FixedSample.size (at least batch_size)", self.size, self.batch_size)
