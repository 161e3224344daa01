"""Records in memory in place of a journal, for tests of what is recorded from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hyperscale.recording.outcomes import Journalled
from hyperscale.trial import TrialRecord, TrialResult


class Ledger:
    """Answers as a journal does, and counts how many records with curves were asked for at most at a time."""

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        self.held = {record.result.digest: record for record in records}
        self.largest = 0

    def get(self, digest: str) -> TrialResult | None:
        """Return a result."""
        record = self.held.get(digest)
        return None if record is None else record.result

    def records(self, digests: Iterable[str]) -> list[TrialRecord]:
        """Return records in the order asked."""
        found = [self.held[digest] for digest in digests if digest in self.held]
        self.largest = max(self.largest, len(found))
        return found


def given(records: Sequence[TrialRecord]) -> Journalled:
    """Return the records as a study's part of a journal."""
    return Journalled(Ledger(records), [record.result.digest for record in records])
