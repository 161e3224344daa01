"""How mutated inputs end: a right answer or a clear error, counted by kind; anything else fails the test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from enum import StrEnum
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("HYPERSCALE_FUZZ", "1"))
"""How many times the default suite's number of examples is run: `make fuzz` sets it."""

LONGEST_ERROR = 4000
"""Characters of an error message: more is no paragraph that anybody reads."""


class Ending(StrEnum):
    """The two ways in which an input may end."""

    RIGHT_ANSWER = "right answer"
    CLEAR_ERROR = "clear error"


class Hang(BaseException):
    """An example that was not through by its deadline; no `except Exception` of the product keeps it."""


COUNTS: defaultdict[str, Counter[str]] = defaultdict(Counter)
"""Per kind of input: how many examples ended in which way, those that broke something as ``broken``."""


def examples(at_rest: int, *, fuzzed: int | None = None) -> Callable[[Any], Any]:
    """Return settings that run ``at_rest`` examples in the default suite, ``fuzzed`` (or a multiple) in `make fuzz`."""
    number = at_rest if FACTOR == 1 else (fuzzed or at_rest * FACTOR)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=number, deadline=None, derandomize=FACTOR == 1, database=None, suppress_health_check=slow
    )


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `Hang` in the main thread where the block takes longer than ``seconds``."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not through after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def judge(kind: str, act: Callable[[], Ending], *, seconds: float = 20.0) -> None:
    """Run one example of ``kind`` within ``seconds`` and count how it ended."""
    try:
        with deadline(seconds):
            ending = act()
    except BaseException:
        COUNTS[kind]["broken"] += 1
        raise
    COUNTS[kind][ending] += 1


def check_message(text: str, most: int = LONGEST_ERROR) -> None:
    """Check that an error is one paragraph of readable length that says something, and no traceback."""
    assert text.strip(), "an error without words"
    assert len(text) <= most, f"{len(text)} characters: {text[:300]}"
    assert "Traceback (most recent call last)" not in text
    assert "\n\n" not in text.strip()
    text.encode()  # a terminal can print it
