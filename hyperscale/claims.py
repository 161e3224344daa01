"""Claims: what a study expects, as plain data. `analysis.judging.checks` turns each into a verdict.

Errors shrink as ``error ~ N^(-exponent)``; a theorem stated as ``N = O(error^(-p))`` has exponent ``1/p``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hyperscale.draw_claims import Ceiling, Cited, Convergence, WidthExponent, check_claim, check_columns, method_name
from hyperscale.errors import StudyError, brief, check_choice, check_number, check_word

__all__ = [
    "Calibration",
    "Ceiling",
    "Cited",
    "Claim",
    "Convergence",
    "Factor",
    "Monotone",
    "Ordering",
    "ScalingRate",
    "Separation",
    "WidthExponent",
    "is_error",
    "method_name",
]


_ERROR_WORDS = ("error", "loss", "rmse", "mse", "variance")


def is_error(metric: str) -> bool:
    """Whether a metric is an error, so that the best trial is the one with the smallest value."""
    return any(word in metric.lower() for word in _ERROR_WORDS)


def _require_two(kind: str, field_name: str, first: str | type, second: str | type | None) -> None:
    """Raise `StudyError` where a claim compares a method with itself."""
    if first == second:
        raise StudyError(f"{kind}.{field_name}: both methods are {brief(first)}; allowed: two different methods.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Trials that measure the optimisation gap of a rate: same method, sizes and optimiser, target of known infimum.

    ``where`` gives the setting columns that tell these trials from the claim's own, such as ``{"target": "Square"}``
    for settings on a target class of yours named Square. The infimum is a column of the table (``infimum_column``,
    such as ``"per_instance_reached"`` of best approximations), or ``infimum_constant * N ** -infimum_exponent``. The
    trials are left out of the claim's own envelope; every method needs its own.
    """

    where: Mapping[str, str | int | float | bool] = field(hash=False)
    infimum_column: str | None = None
    infimum_constant: float | None = None
    infimum_exponent: float | None = None

    def __post_init__(self) -> None:
        """Check that trials are named and that their infimum is given in one way."""
        if not isinstance(self.where, Mapping) or not self.where:
            raise StudyError(
                f"Calibration.where is {brief(self.where)}; allowed: a mapping of columns to values that picks the "
                'calibration trials out of the table, such as {"target": "Square"}.'
            )
        object.__setattr__(self, "where", check_columns("Calibration.where", self.where))
        if self.infimum_column is not None:
            check_word("Calibration.infimum_column", self.infimum_column)
        law = (self.infimum_constant, self.infimum_exponent)
        missing = sum(number is None for number in law)
        if (self.infimum_column is None) == (missing > 0) or (self.infimum_column is not None and missing < 2):
            raise StudyError(
                f"Calibration has infimum_column={brief(self.infimum_column)}, infimum_constant={brief(law[0])} and "
                f"infimum_exponent={brief(law[1])}; allowed: the column alone, or the constant and the exponent "
                "together."
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
        check_claim(self)
        object.__setattr__(self, "method", method_name(self.method))
        check_choice("ScalingRate.bound", self.bound, ("upper", "lower", "match"))
        check_number("ScalingRate.exponent", self.exponent, above=0)
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            raise StudyError(
                f"ScalingRate.calibration is {brief(self.calibration)}; allowed: None, or "
                "Calibration(where={...}, infimum_constant=..., infimum_exponent=...)."
            )

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
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Normalise the methods to their names."""
        check_claim(self)
        object.__setattr__(self, "lower", method_name(self.lower))
        object.__setattr__(self, "higher", method_name(self.higher))
        _require_two("Ordering", "lower", self.lower, self.higher)

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
    """A metric rises or falls along a column (the accuracy weight λ, a width, a depth).

    With ``each_step`` it must do so from every value of the column to the next, not only on the whole.
    """

    method: str | type
    metric: str
    along: str
    direction: Literal["increasing", "decreasing"]
    each_step: bool = False
    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the direction."""
        check_claim(self)
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
        step = " at each step" if self.each_step else ""
        return f"{self.metric} of {self.method} {self.direction}{step} along {self.along}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Separation(Cited):
    """The error of ``faster`` falls with a larger exponent than that of ``slower``, at equal ``size``.

    The two exponents are those of an O-rate and an Omega-rate, so their difference is the least that the best
    networks show on the hardest target. ``hard_family`` and ``resolution`` are those of `ScalingRate`.
    """

    faster: str | type
    slower: str | type
    faster_exponent: float
    slower_exponent: float
    metric: str = "sup_error"
    size: str = "num_params_primary"
    hard_family: bool = False
    resolution: float | None = None

    def __post_init__(self) -> None:
        """Normalise the methods to their names and check that the exponents differ in the right direction."""
        check_claim(self)
        object.__setattr__(self, "faster", method_name(self.faster))
        object.__setattr__(self, "slower", method_name(self.slower))
        _require_two("Separation", "faster", self.faster, self.slower)
        check_number("Separation.slower_exponent", self.slower_exponent, above=0)
        check_number("Separation.faster_exponent", self.faster_exponent, above=self.slower_exponent)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of, the faster first."""
        return (method_name(self.faster), method_name(self.slower))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.size)

    @property
    def difference(self) -> float:
        """The difference of the two exponents."""
        return self.faster_exponent - self.slower_exponent

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return "difference of exponents", self.difference, f"> 0 (the rates differ by {self.difference:.3g})"

    @property
    def title(self) -> str:
        """One line for tables: ``sup_error of Hypernetwork falls faster than of Embedding (N^-1, N^-0.5)``."""
        rates = f"N^-{self.faster_exponent:.3g} against N^-{self.slower_exponent:.3g}, N = {self.size}"
        return f"{self.metric} of {self.faster} falls faster than of {self.slower} ({rates})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor(Cited):
    """The error of ``method`` is at most ``factor`` times a reference at every value of ``at_each``.

    The reference is another method's error (``reference``), or a column of the method's own trials
    (``reference_column``) that holds an infimum or a lower bound on one: ``Factor(method="Hypernetwork",
    reference_column="per_instance_infimum", factor=3)``.
    """

    method: str | type
    reference: str | type | None = None
    reference_column: str | None = None
    factor: float
    metric: str = "sup_error"
    at_each: str = "num_params_primary"

    def __post_init__(self) -> None:
        """Normalise the methods to their names and check the reference and the factor."""
        check_claim(self)
        object.__setattr__(self, "method", method_name(self.method))
        if (self.reference is None) == (self.reference_column is None):
            raise StudyError(
                f"Factor has reference={brief(self.reference)} and reference_column={brief(self.reference_column)}; "
                "allowed: one of them, a method to compare with or a column of the method's own trials."
            )
        if self.reference is not None:
            object.__setattr__(self, "reference", method_name(self.reference))
            _require_two("Factor", "method", self.method, self.reference)
        elif self.reference_column == self.metric:
            raise StudyError(
                f"Factor.reference_column is {brief(self.metric)}, the metric itself; allowed: another column, such as "
                "'per_instance_infimum'."
            )
        check_number("Factor.factor", self.factor, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of, the reference last."""
        own = method_name(self.method)
        return (own,) if self.reference is None else (own, method_name(self.reference))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, *([] if self.reference_column is None else [self.reference_column]), self.at_each)

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"largest ratio over {self.at_each}", self.factor, f"≤ {self.factor:.3g}"

    @property
    def title(self) -> str:
        """One line for tables: ``sup_error: Hypernetwork ≤ 3 × PerInstance at each num_params_primary``."""
        other = self.reference_column or self.reference
        return f"{self.metric}: {self.method} ≤ {self.factor:.3g} × {other} at each {self.at_each}"


Claim = ScalingRate | Ordering | Monotone | Separation | Factor | Convergence | WidthExponent | Ceiling
