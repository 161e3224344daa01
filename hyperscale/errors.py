"""Errors meant for the person who runs a study: where, what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import operator
import sys
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


_BRIEF, _LONGEST_NAME, _LONGEST_TOLD = 160, 200, 1500


def brief(value: object) -> str:
    """Return a value for a message: on one line, cut to a readable length, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (an integer of 5000 digits, or an object that cannot show itself)
        return f"one {type(value).__name__} too long to show"
    text = " ".join(text.split("\n"))
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 10]}…"


def told(error: BaseException) -> str:
    """Return what an error says as part of a paragraph: on one line, of a readable length, in whole characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  (an error of the user's own that cannot be shown)
        return "(it cannot be shown)"
    text = text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…"
    return text.encode(errors="backslashreplace").decode()


def count_text(number: int) -> str:
    """Return a count for a message, however large: ``1,234``, or ``more than 10^15``."""
    return f"{number:,}" if number <= 10**15 else "more than 10^15"


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest allowed word, or an empty string."""
    words = [word for word in allowed if isinstance(word, str)]
    close = difflib.get_close_matches(given[:_BRIEF], words, n=1, cutoff=0.6) if isinstance(given, str) else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_choice(place: str, given: object, allowed: Iterable[str]) -> None:
    """Raise `StudyError` unless ``given`` is one of the ``allowed`` words."""
    words = tuple(allowed)
    if not isinstance(given, str) or given not in words:
        raise StudyError(f"{place} is {brief(given)}{did_you_mean(given, words)}; allowed: {', '.join(words)}.")


LARGEST_COUNT = 10**9


def check_integer(place: str, given: object, minimum: int, most: int = LARGEST_COUNT) -> None:
    """Raise `StudyError` unless ``given`` is an integer (not a bool) from ``minimum`` to ``most``."""
    if isinstance(given, bool) or not isinstance(given, int) or given < minimum:
        raise StudyError(f"{place} is {brief(given)}; allowed: a whole number of at least {minimum}.")
    if given > most:
        raise StudyError(f"{place} is {brief(given)}; allowed: at most {most:,}.")


def check_text(place: str, given: object) -> None:
    """Raise `StudyError` unless ``given`` is text that can be written to a file."""
    if not isinstance(given, str):
        raise StudyError(f"{place} is {brief(given)}; allowed: text.")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise StudyError(f"{place} is {brief(given)}; allowed: text without half a character (a surrogate).") from None


def check_word(place: str, given: object) -> None:
    """Raise `StudyError` unless ``given`` is a name: up to 200 characters on one line, or none."""
    if not isinstance(given, str) or len(given) > _LONGEST_NAME or not given.isprintable():
        raise StudyError(f"{place} is {brief(given)}; allowed: a name of up to {_LONGEST_NAME} printable characters.")


def check_number(
    place: str, given: Any, *, above: float | None = None, least: float | None = None, most: float | None = None
) -> None:
    """Raise `StudyError` unless ``given`` is a finite number inside the stated bound."""
    rules = (("above", above, operator.gt), ("at least", least, operator.ge), ("at most", most, operator.le))
    asked = [(f"{word} {bound:g}", bound, holds) for word, bound, holds in rules if bound is not None]
    number = isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= sys.float_info.max
    if not number or not all(holds(given, bound) for _, bound, holds in asked):
        raise StudyError(
            f"{place} is {brief(given)}; allowed: a finite number {' and '.join(text for text, _, _ in asked)}."
        )
