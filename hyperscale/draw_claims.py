"""Claims about random draws: a limit, an exponent of a width, a bound that one number sets another.

`hyperscale.claims` has the other kinds and the union of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hyperscale.errors import check_choice, check_number


def method_name(method: str | type) -> str:
    """Return a method's name, given the name or the class itself."""
    return method if isinstance(method, str) else method.__name__


@dataclass(frozen=True, kw_only=True, slots=True)
class Cited:
    """What a claim rests on: where it is stated, in which words, and under which conditions it holds."""

    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()


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
