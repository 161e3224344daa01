"""How trials ended, apart from what they measured: enough to tell whether MLflow shows them already."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hyperscale.trial import TrialRecord, TrialResult, TrialStatus


class Ledger(Protocol):
    """What is asked of a journal; it may be asked from the recorder's thread."""

    def get(self, digest: str) -> TrialResult | None:
        """Return the recorded result of a trial, or None."""

    def records(self, digests: Iterable[str]) -> list[TrialRecord]:
        """Return the recorded results of these trials with their settings' columns, in the order asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial ended, and when, in milliseconds since the epoch (0: not known)."""

    digest: str
    setting_digest: str
    status: TrialStatus
    end_ms: int

    def holds(self, other: Outcome) -> bool:
        """Whether whoever has this outcome of a trial need not take the ``other``.

        A settled outcome is never replaced by an unsettled one (as in the journal); an unsettled one may have been
        tried again since.
        """
        if self.status.settled:
            return self.status is other.status or not other.status.settled
        return self.status is other.status and self.end_ms >= other.end_ms


def ended_ms(result: TrialResult) -> int:
    """Return when the trial ended, by its provenance's ``ended_at`` (ISO text or seconds), or 0."""
    ended = result.provenance.get("ended_at")
    try:
        seconds = datetime.fromisoformat(ended).timestamp() if isinstance(ended, str) else float(ended)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0
    return round(seconds * 1000) if math.isfinite(seconds) and seconds > 0 else 0


def outcome_of(result: TrialResult) -> Outcome:
    """Return what the result came to."""
    return Outcome(
        digest=result.digest,
        setting_digest=result.setting_digest,
        status=result.status,
        end_ms=ended_ms(result),
    )


def fingerprint(outcomes: Iterable[Outcome]) -> str:
    """Return a short text that tells sets of outcomes apart: their number, and a hash over each one, in any order."""
    lines = sorted(f"{outcome.digest} {outcome.status.value} {outcome.end_ms}" for outcome in outcomes)
    return f"{len(lines)} " + hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Journalled:
    """A study's part of the journal. Nothing of it is kept here: it is read when asked for, a few trials at a time.

    ``elsewhere`` returns the launches that other drivers are running now: their trials are left to them.
    """

    def __init__(
        self, ledger: Ledger, digests: Sequence[str], elsewhere: Callable[[], Collection[str]] = frozenset
    ) -> None:
        self._ledger = ledger
        self._digests = digests
        self._elsewhere = elsewhere

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of every trial that has one, in the order of the study file."""
        elsewhere = self._elsewhere()
        for digest in self._digests:
            result = self._ledger.get(digest)
            if result is not None and result.provenance.get("launch") not in elsewhere:
                yield outcome_of(result)

    def records(self, digests: Iterable[str]) -> list[TrialRecord]:
        """Return the records of these trials, curves and all."""
        return self._ledger.records(digests)
