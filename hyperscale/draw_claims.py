"""Claims about random draws: a limit, an exponent of a width, a bound that one number sets another.

`hyperscale.claims` has the other kinds and the union of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from hyperscale.errors import StudyError, brief, check_choice, check_number, check_text, check_word

Value = str | int | float
Selection = Mapping[str, Value] | tuple[tuple[str, Value], ...]
"""Columns with the value that each must have, as a mapping or as pairs."""


def method_name(method: str | type, place: str = "The method of a claim") -> str:
    """Return a method's name, given the name or the class itself."""
    if isinstance(method, type):
        return method.__name__
    check_word(place, method)
    return method


_NAMES = frozenset({"metric", "size", "at_each", "along", "relative_to", "reference_column"})
_TEXTS = frozenset({"theorem", "statement"})
_METHODS = frozenset({"method", "lower", "higher", "faster", "slower", "reference"})
_SWITCHES = frozenset({"hard_family", "each_step", "always"})


def check_claim(claim: Any) -> None:
    """Check the fields that several kinds of claim have, and make its conditions a tuple."""
    for name in (field.name for field in fields(claim)):
        place, value = f"{type(claim).__name__}.{name}", getattr(claim, name)
        if name in _NAMES and value is not None:
            check_word(place, value)
        elif name in _TEXTS:
            check_text(place, value)
        elif name in _METHODS and (name != "reference" or value is not None):
            method_name(value, place)
        elif name in _SWITCHES and not isinstance(value, bool):
            raise StudyError(f"{place} is {brief(value)}; allowed: True or False.")
        elif name == "resolution" and value is not None:
            check_number(place, value, above=0)
        elif name == "conditions":
            if not isinstance(value, tuple | list):
                raise StudyError(f"{place} is {brief(value)}; allowed: a tuple of texts, such as ('bounded I',).")
            for index, condition in enumerate(value):
                check_text(f"{place}[{index}]", condition)
            object.__setattr__(claim, name, tuple(value))


def check_columns(place: str, given: Any) -> dict[str, Value]:
    """Return a selection as a mapping of columns to values, or raise `StudyError` where it is none."""
    pairs = given.items() if isinstance(given, Mapping) else given
    try:  # nothing is run through that might have no end
        if not isinstance(given, Mapping | tuple | list) or not all(isinstance(p, tuple | list) for p in pairs):
            raise TypeError
        columns = dict(pairs)
    except (TypeError, ValueError):
        raise StudyError(
            f'{place} is {brief(given)}; allowed: a mapping of columns to values, such as {{"depth": 2}}.'
        ) from None
    for name, value in columns.items():
        check_word(f"{place}: the column", name)
        if isinstance(value, str):
            check_text(f"{place}[{brief(name)}]", value)
        elif type(value) is not bool:
            check_number(f"{place}[{brief(name)}], if no text,", value, above=-math.inf)
    return columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Cited:
    """What a claim rests on: where it is stated, in which words, and under which conditions it holds."""

    theorem: str = ""
    statement: str = ""
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn(Cited):
    """A claim about the trials of one method, each a draw of ``metric``.

    ``where`` keeps the trials whose columns have the given values, ``{"primary_depth": 2}``, for studies whose
    settings differ in more than the claim speaks of.
    """

    method: str | type
    metric: str
    where: Selection = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""
        return (method_name(self.method),)

    @property
    def selection(self) -> dict[str, Value]:
        """The columns with the values that a trial must have."""
        return dict(self.where)

    @property
    def selection_text(self) -> str:
        """The selection as the end of a title, empty without one."""
        return "".join(f", {name} = {value}" for name, value in self.selection.items())


def _normalise(claim: Drawn) -> None:
    """Turn the method into its name and the selection into pairs, so that the claim can be hashed."""
    check_claim(claim)
    object.__setattr__(claim, "method", method_name(claim.method))
    where = check_columns(f"{type(claim).__name__}.where", claim.where)
    object.__setattr__(claim, "where", tuple(where.items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence(Drawn):
    """The mean of a metric approaches ``limit`` as the column ``along`` (a width) grows.

    ``limit`` is a number or the name of a column that holds it; ``exponent`` is the order of the leading
    correction, ``mean - limit ~ width^-exponent``. Every trial is one draw of the metric.
    """

    limit: float | str
    along: str = "width"
    exponent: float = 1.0

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the numbers."""
        _normalise(self)
        if isinstance(self.limit, str):
            check_word("Convergence.limit", self.limit)
        else:
            check_number("Convergence.limit", self.limit, above=-math.inf)
        check_number("Convergence.exponent", self.exponent, above=0)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.along, *([self.limit] if isinstance(self.limit, str) else []), *self.selection)

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"mean less limit at infinite {self.along}", 0.0, "0"

    @property
    def title(self) -> str:
        """One line for tables: ``mean hyperkernel of KernelDraw → 0.831 as width grows``."""
        limit = self.limit if isinstance(self.limit, str) else f"{self.limit:.6g}"
        return f"mean {self.metric} of {self.method} → {limit} as {self.along} grows{self.selection_text}"


Statistic = Literal["geometric mean", "median", "root mean square", "variance"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthExponent(Drawn):
    """A metric of random networks behaves as ``width^-exponent``; every trial is one draw of it.

    ``sense="match"`` is a ~ claim, judged with the margin ``tolerance``; ``"at least"`` an O-claim;
    ``"vanishing"`` says only that it tends to 0. ``relative_to`` names a second metric of the same trials: then
    the exponent is that of the ratio, the difference of the two slopes. ``statistic`` is what is taken over the
    draws of one width.
    """

    exponent: float = 0.0
    sense: Literal["match", "at least", "vanishing"] = "match"
    along: str = "width"
    relative_to: str = ""
    statistic: Statistic = "geometric mean"
    tolerance: float = 0.25

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the words and numbers."""
        _normalise(self)
        check_choice("WidthExponent.sense", self.sense, ("match", "at least", "vanishing"))
        check_choice("WidthExponent.statistic", self.statistic, get_args(Statistic))
        check_number("WidthExponent.exponent", self.exponent, above=-math.inf)
        check_number("WidthExponent.tolerance", self.tolerance, above=0)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, self.along, *([self.relative_to] if self.relative_to else []), *self.selection)

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
        law = f"as {self.along} grows" if self.sense == "vanishing" else f"{self.along}^{0 - self.exponent:.3g}"
        return f"{self.statistic} of {self.metric}{ratio} of {self.method} {sign} {law}{self.selection_text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling(Drawn):
    """A metric stays below ``ceiling``, a number or another metric of the same trial.

    With ``always`` no trial may exceed it; without, it is the mean over seeds that must lie below.
    """

    ceiling: float | str
    always: bool = True

    def __post_init__(self) -> None:
        """Normalise the method to its name and check the number."""
        _normalise(self)
        if isinstance(self.ceiling, str):
            check_word("Ceiling.ceiling", self.ceiling)
        else:
            check_number("Ceiling.ceiling", self.ceiling, above=0)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the trial table that the claim reads."""
        return (self.metric, *([self.ceiling] if isinstance(self.ceiling, str) else []), *self.selection)

    @property
    def expected(self) -> tuple[str, float | None, str]:
        """What is measured, what it is compared with, and the comparison in words."""
        return f"{'largest' if self.always else 'mean'} {self.metric} / ceiling", 1.0, "≤ 1" if self.always else "< 1"

    @property
    def title(self) -> str:
        """One line for tables: ``lipschitz_quotient of Monolithic ≤ spectral_complexity in every trial``."""
        name = self.ceiling if isinstance(self.ceiling, str) else f"{self.ceiling:.3g}"
        sign, often = ("≤", "in every trial") if self.always else ("<", "on average")
        return f"{self.metric} of {self.method} {sign} {name} {often}{self.selection_text}"
