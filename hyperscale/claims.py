"""Claims: what a study expects, as plain data. `analysis.checks` turns each into a verdict.

Errors shrink as ``error ~ N^(-exponent)``; a theorem stated as ``N = O(error^(-p))`` has exponent ``1/p``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hyperscale.errors import StudyError, check_choice, check_number


def method_name(method: str | type) -> str:
    """Return a method's name, given the name or the class itself."""
    return method if isinstance(method, str) else method.__name__


_ERROR_WORDS = ("error", "loss", "rmse", "mse", "variance")


def is_error(metric: str) -> bool:
    """Whether a metric is an error, so that the best trial is the one with the smallest value."""
    return any(word in metric.lower() for word in _ERROR_WORDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Trials that measure the optimisation gap of a rate: same method, sizes and optimiser, target of known infimum.

    ``where`` gives the columns that tell these trials from the claim's own, such as ``{"target": "Square"}``. The
    infimum is a column of the table (``infimum_column``), or ``infimum_constant * N ** -infimum_exponent``. The
    trials are left out of the claim's own envelope.
    """

    where: Mapping[str, str | int | float | bool] = field(hash=False)
    infimum_column: str | None = None
    infimum_constant: float | None = None
    infimum_exponent: float | None = None

    def __post_init__(self) -> None:
        """Check that trials are named and that their infimum is given in one way."""
        if not isinstance(self.where, Mapping) or not self.where:
            raise StudyError(
                f"Calibration.where is {self.where!r}; allowed: a mapping of columns to values that picks the "
                'calibration trials out of the table, such as {"target": "Square"}.'
            )
        object.__setattr__(self, "where", dict(self.where))
        law = (self.infimum_constant, self.infimum_exponent)
        if (self.infimum_column is None) == (None in law) or (self.infimum_column is not None and law != (None, None)):
            raise StudyError(
                f"Calibration has infimum_column={self.infimum_column!r}, infimum_constant={law[0]!r} and "
                f"infimum_exponent={law[1]!r}; allowed: the column alone, or the constant and the exponent together."
            )
        if self.infimum_column is None:
            check_number("Calibration.infimum_constant", self.infimum_constant, above=0)
            check_number("Calibration.infimum_exponent", self.infimum_exponent, least=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingRate:
    """A rate of error against parameter count that a theorem gives for one method.

    ``bound="upper"`` is an O-claim, ``error <= c N^(-exponent)`` for the best network of every size: the
    trained envelope can *attain* it. ``bound="lower"`` is an Omega-claim, ``error >= c N^(-exponent)`` for the
    hardest target of a class: data can only fail to contradict it, and an easy target says nothing, which is
    why ``hard_family`` records whether the target has structure at every scale, and ``resolution`` the height
    of its finest structure (errors below it no longer speak of the rate). ``bound="match"`` asks for both: that
    the exponent *is* the stated one, within a tenth, which needs a ``calibration`` of the optimisation gap.
    """

    method: str | type
    bound: Literal["upper", "lower", "match"]
    exponent: float
    metric: str = "sup_error"
    size: str = "num_params_primary"
    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()
    hard_family: bool = False
    resolution: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the numbers."""
        object.__setattr__(self, "method", method_name(self.method))
        check_choice("ScalingRate.bound", self.bound, ("upper", "lower", "match"))
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
        order = {"upper": "O", "lower": "Ω", "match": "Θ"}[self.bound]
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
