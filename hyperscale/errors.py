"""Errors meant for the person who runs a study: where, what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any


class HyperscaleError(Exception):
    """Base of every error that the command line prints as one paragraph, without a traceback."""


class StudyError(HyperscaleError):
    """A study file, or a value in it, cannot be used as written."""


class StoreError(HyperscaleError):
    """The store folder (journal, reports) cannot be read or written."""


class RecordingError(HyperscaleError):
    """The MLflow tracking store cannot be reached or refused an operation."""


class ResourceError(HyperscaleError):
    """The machines at hand can never satisfy what a pack asks for."""


class AnalysisError(HyperscaleError):
    """The recorded trials do not allow the analysis that was asked for."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest allowed word, or an empty string."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_choice(place: str, given: object, allowed: Iterable[str]) -> None:
    """Raise `StudyError` unless ``given`` is one of the ``allowed`` words."""
    words = tuple(allowed)
    if given not in words:
        hint = did_you_mean(str(given), words)
        raise StudyError(f"{place} is {given!r}{hint}; allowed: {', '.join(words)}.")


LARGEST_COUNT = 10**9


def check_integer(place: str, given: object, minimum: int) -> None:
    """Raise `StudyError` unless ``given`` is an integer (not a bool) from ``minimum`` to a thousand million."""
    if isinstance(given, bool) or not isinstance(given, int) or given < minimum:
        raise StudyError(f"{place} is {given!r}; allowed: a whole number of at least {minimum}.")
    if given > LARGEST_COUNT:
        raise StudyError(f"{place} is {given!r}; allowed: at most {LARGEST_COUNT:,}.")


def check_number(
    place: str, given: Any, *, above: float | None = None, least: float | None = None, most: float | None = None
) -> None:
    """Raise `StudyError` unless ``given`` is a finite number inside the stated bound."""
    rules = (("above", above, operator.gt), ("at least", least, operator.ge), ("at most", most, operator.le))
    asked = [(f"{word} {bound:g}", bound, holds) for word, bound, holds in rules if bound is not None]
    number = isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < float("inf")
    if not number or not all(holds(given, bound) for _, bound, holds in asked):
        raise StudyError(
            f"{place} is {given!r}; allowed: a finite number {' and '.join(text for text, _, _ in asked)}."
        )
