"""Claims: what a study expects, as plain data. `analysis.checks` turns each into a verdict.

Errors shrink as ``error ~ N^(-exponent)``; a theorem stated as ``N = O(error^(-p))`` has exponent ``1/p``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hyperscale.errors import check_choice, check_number


def method_name(method: str | type) -> str:
    """Return a method's name, given the name or the class itself."""
    return method if isinstance(method, str) else method.__name__


_ERROR_WORDS = ("error", "loss", "rmse", "mse", "variance")


def is_error(metric: str) -> bool:
    """Whether a metric is an error, so that the best trial is the one with the smallest value."""
    return any(word in metric.lower() for word in _ERROR_WORDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingRate:
    """A rate of error against parameter count that a theorem gives for one method.

    ``bound="upper"`` is an O-claim, ``error <= c N^(-exponent)`` for the best network of every size: the
    trained envelope can *attain* it. ``bound="lower"`` is an Omega-claim, ``error >= c N^(-exponent)`` for the
    hardest target of a class: data can only fail to contradict it, and an easy target says nothing, which is
    why ``hard_family`` records whether the target has structure at every scale, and ``resolution`` the height
    of its finest structure (errors below it no longer speak of the rate).
    """

    method: str | type
    bound: Literal["upper", "lower"]
    exponent: float
    metric: str = "sup_error"
    size: str = "num_params_primary"
    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()
    hard_family: bool = False
    resolution: float | None = None

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the numbers."""
        object.__setattr__(self, "method", method_name(self.method))
        check_choice("ScalingRate.bound", self.bound, ("upper", "lower"))
        check_number("ScalingRate.exponent", self.exponent, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.size)

    @property
    def title(self) -> str:
        """One line for tables: ``sup_error of Hypernetwork = O(N^-1)``."""
        order = "O" if self.bound == "upper" else "Ω"
        return f"{self.metric} of {method_name(self.method)} = {order}(N^-{self.exponent:.3g}), N = {self.size}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordering:
    """One method errs less than another, at equal ``at_each`` (a size column is interpolated)."""

    metric: str
    lower: str | type
    higher: str | type
    at_each: str = "num_params_primary"
    theorem: str = ""
    statement: str = ""

    def __post_init__(self) -> None:
        """Normalise the methods to their names."""
        object.__setattr__(self, "lower", method_name(self.lower))
        object.__setattr__(self, "higher", method_name(self.higher))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.lower), method_name(self.higher))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.at_each)

    @property
    def title(self) -> str:
        """One line for tables: ``sup_error: Hypernetwork < Embedding at each depth``."""
        return f"{self.metric}: {self.lower} < {self.higher} at each {self.at_each}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Monotone:
    """A metric rises or falls along a column (the accuracy weight λ, a width, a depth)."""

    method: str | type
    metric: str
    along: str
    direction: Literal["increasing", "decreasing"]
    theorem: str = ""
    statement: str = ""

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the direction."""
        object.__setattr__(self, "method", method_name(self.method))
        check_choice("Monotone.direction", self.direction, ("increasing", "decreasing"))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.along)

    @property
    def title(self) -> str:
        """One line for tables: ``entropy of WeightGenerator decreasing along accuracy_weight``."""
        return f"{self.metric} of {self.method} {self.direction} along {self.along}"


Claim = ScalingRate | Ordering | Monotone
