"""Outcomes: what may replace what, and a fingerprint that any change shows in."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from hyperscale.recording.outcomes import Journalled, Outcome, ended_ms, fingerprint, outcome_of
from hyperscale.trial import TrialStatus
from tests.ledgers import Ledger
from tests.test_mlflow_store import changed, make_file, make_records

FAILED = Outcome(digest="d", setting_digest="s", status=TrialStatus.FAILED, end_ms=5)


@pytest.mark.parametrize(
    ("held", "offered", "kept"),
    [
        ({"status": TrialStatus.FINISHED}, {"status": TrialStatus.FINISHED, "end_ms": 9}, True),
        ({"status": TrialStatus.FINISHED}, {"status": TrialStatus.FAILED, "end_ms": 9}, True),
        ({"status": TrialStatus.FINISHED}, {"status": TrialStatus.DIVERGED}, False),
        ({}, {"status": TrialStatus.FINISHED}, False),
        ({}, {"end_ms": 9}, False),
        ({}, {"end_ms": 4}, True),
        ({}, {"status": TrialStatus.OUT_OF_MEMORY}, False),
    ],
)
def test_what_may_replace_an_outcome(held: dict[str, object], offered: dict[str, object], kept: bool) -> None:
    """As in the journal: the settled stays, of the unsettled the newer counts."""
    assert replace(FAILED, **held).holds(replace(FAILED, **offered)) is kept  # type: ignore[arg-type]


def test_a_fingerprint_shows_every_change_but_order() -> None:
    """Another trial, status or time is another fingerprint; metrics and curves are not looked at."""
    outcomes = [outcome_of(record.result) for record in make_records(make_file())[:3]]
    known = fingerprint(outcomes)
    assert known.startswith("3 ")
    assert {fingerprint(some) for some in permutations(outcomes)} == {known}
    first, *rest = outcomes
    others = [
        rest,
        [*outcomes, replace(first, digest="new")],
        [replace(first, status=TrialStatus.DIVERGED), *rest],
        [replace(first, end_ms=first.end_ms + 1), *rest],
    ]
    assert len({known, *map(fingerprint, others)}) == 5


@pytest.mark.parametrize(
    ("ended", "expected"),
    [("1970-01-01T00:00:01.5+00:00", 1500), (2.25, 2250), (None, 0), ("soon", 0), (float("nan"), 0), (-1, 0)],
)
def test_when_a_trial_ended(ended: object, expected: int) -> None:
    """ISO text or seconds; what is neither counts as not known."""
    record = changed(make_records(make_file())[0], provenance={"ended_at": ended})
    assert ended_ms(record.result) == expected


def test_the_journal_is_read_only_when_asked() -> None:
    """Trials without a result are left out; outcomes come in the study's order and ask for no record."""
    records = make_records(make_file())
    ledger = Ledger(records[1:])
    journalled = Journalled(ledger, [record.result.digest for record in records])
    assert [outcome.digest for outcome in journalled.outcomes()] == [r.result.digest for r in records[1:]]
    assert ledger.largest == 0
    assert journalled.records([records[2].result.digest]) == [records[2]]
