"""Claims: what a study expects, as plain data. `analysis.checks` turns each into a verdict.

Errors shrink as ``error ~ N^(-exponent)``; a theorem stated as ``N = O(error^(-p))`` has exponent ``1/p``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

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
    conditions: tuple[str, ...] = ()

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
class Cited:
    """What a claim rests on: where it is stated, in which words, and under which conditions it holds."""

    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()


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
        object.__setattr__(self, "faster", method_name(self.faster))
        object.__setattr__(self, "slower", method_name(self.slower))
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
    """The error of ``method`` is at most ``factor`` times that of ``reference`` at every value of ``at_each``."""

    method: str | type
    reference: str | type
    factor: float
    metric: str = "sup_error"
    at_each: str = "num_params_primary"

    def __post_init__(self) -> None:
        """Normalise the methods to their names and check the factor."""
        object.__setattr__(self, "method", method_name(self.method))
        object.__setattr__(self, "reference", method_name(self.reference))
        check_number("Factor.factor", self.factor, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of, the reference last."""
        return (method_name(self.method), method_name(self.reference))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.at_each)

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"largest ratio over {self.at_each}", self.factor, f"≤ {self.factor:.3g}"

    @property
    def title(self) -> str:
        """One line for tables: ``sup_error: Hypernetwork ≤ 3 × PerInstance at each num_params_primary``."""
        return f"{self.metric}: {self.method} ≤ {self.factor:.3g} × {self.reference} at each {self.at_each}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence(Cited):
    """The mean of a metric approaches ``limit`` as the column ``along`` (a width) grows.

    ``limit`` is a number or the name of a column that holds it; ``exponent`` is the order of the leading
    correction, ``mean - limit ~ width^-exponent``. Every trial is one draw of the metric.
    """

    method: str | type
    metric: str
    limit: float | str
    along: str = "width"
    exponent: float = 1.0

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the numbers."""
        object.__setattr__(self, "method", method_name(self.method))
        if not isinstance(self.limit, str):
            check_number("Convergence.limit", self.limit, above=-math.inf)
        check_number("Convergence.exponent", self.exponent, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.along, *([self.limit] if isinstance(self.limit, str) else []))

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"mean less limit at infinite {self.along}", 0.0, "0"

    @property
    def title(self) -> str:
        """One line for tables: ``mean hyperkernel of KernelDraw → 0.831 as width grows``."""
        limit = self.limit if isinstance(self.limit, str) else f"{self.limit:.6g}"
        return f"mean {self.metric} of {self.method} → {limit} as {self.along} grows"


Statistic = Literal["geometric mean", "median", "root mean square", "variance"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthExponent(Cited):
    """A metric of random networks behaves as ``width^-exponent``; every trial is one draw of it.

    ``sense="match"`` is a ~ claim, judged with the margin ``tolerance``; ``"at least"`` an O-claim;
    ``"vanishing"`` says only that it tends to 0. ``relative_to`` names a second metric of the same trials: then
    the exponent is that of the ratio, the difference of the two slopes. ``statistic`` is what is taken over the
    draws of one width.
    """

    method: str | type
    metric: str
    exponent: float = 0.0
    sense: Literal["match", "at least", "vanishing"] = "match"
    along: str = "width"
    relative_to: str = ""
    statistic: Statistic = "geometric mean"
    tolerance: float = 0.25

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the words and numbers."""
        object.__setattr__(self, "method", method_name(self.method))
        check_choice("WidthExponent.sense", self.sense, ("match", "at least", "vanishing"))
        check_choice("WidthExponent.statistic", self.statistic, get_args(Statistic))
        check_number("WidthExponent.exponent", self.exponent, above=-math.inf)
        check_number("WidthExponent.tolerance", self.tolerance, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.along, *([self.relative_to] if self.relative_to else []))

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        sign = {"match": "=", "at least": "≥", "vanishing": ">"}[self.sense]
        margin = f" ± {self.tolerance:.3g}" if self.sense == "match" else ""
        return f"exponent of {self.along}", self.exponent, f"{sign} {self.exponent:.3g}{margin}"

    @property
    def title(self) -> str:
        """One line for tables: ``median of taylor_3 of KernelDraw ~ width^-1``."""
        ratio = f" / {self.relative_to}" if self.relative_to else ""
        sign = {"match": "~", "at least": "= O of", "vanishing": "→ 0,"}[self.sense]
        law = f"as {self.along} grows" if self.sense == "vanishing" else f"{self.along}^{-self.exponent:.3g}"
        return f"{self.statistic} of {self.metric}{ratio} of {self.method} {sign} {law}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling(Cited):
    """A metric stays below ``ceiling``, a number or another metric of the same trial.

    With ``always`` no trial may exceed it; without, it is the mean over seeds that must lie below.
    """

    method: str | type
    metric: str
    ceiling: float | str
    always: bool = True

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the number."""
        object.__setattr__(self, "method", method_name(self.method))
        if not isinstance(self.ceiling, str):
            check_number("Ceiling.ceiling", self.ceiling, above=0)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, *([self.ceiling] if isinstance(self.ceiling, str) else []))

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"{'largest' if self.always else 'mean'} {self.metric} / ceiling", 1.0, "≤ 1" if self.always else "< 1"

    @property
    def title(self) -> str:
        """One line for tables: ``lipschitz_quotient of Monolithic ≤ spectral_complexity in every trial``."""
        name = self.ceiling if isinstance(self.ceiling, str) else f"{self.ceiling:.3g}"
        return f"{self.metric} of {self.method} {'≤' if self.always else '<'} {name} " + (
            "in every trial" if self.always else "on average"
        )


Claim = ScalingRate | Ordering | Monotone | Separation | Factor | Convergence | WidthExponent | Ceiling
