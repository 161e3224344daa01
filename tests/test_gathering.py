"""Trials are passed on by whole settings where a study is recorded one run per setting."""

from __future__ import annotations

from hyperscale.recording.gathering import Gathering
from hyperscale.study import PER_SETTING
from tests.test_mlflow_store import make_file, make_records

FILE = make_file(form=PER_SETTING)
RECORDS = make_records(FILE)  # two seeds of each of four settings


def test_a_setting_is_complete_with_the_last_trial_that_the_launch_runs() -> None:
    """Not before, in whatever order they end; one that ends twice counts once."""
    gathering = Gathering(FILE.study, FILE.study.trials())
    assert gathering.add([RECORDS[0], RECORDS[2], RECORDS[0]]) == []
    assert len(gathering) == 2
    assert gathering.add([RECORDS[1], RECORDS[4]]) == [RECORDS[0], RECORDS[1]]
    assert len(gathering) == 2
    resumed = Gathering(FILE.study, FILE.study.trials()[1:])  # of the first setting one trial is left
    assert resumed.add(RECORDS[1:3]) == [RECORDS[1]]


def test_a_run_per_trial_waits_for_nothing() -> None:
    """Every record is passed on at once."""
    gathering = Gathering(make_file().study, make_file().study.trials())
    assert gathering.add(RECORDS) == RECORDS
    assert len(gathering) == 0


def test_what_is_held_is_bounded() -> None:
    """The settings that have waited longest go first."""
    gathering = Gathering(FILE.study, FILE.study.trials(), most=2)
    gathering.add([RECORDS[0], RECORDS[2], RECORDS[4]])
    assert gathering.give_up() == 1
    assert gathering.give_up() == 0
    assert gathering.add([RECORDS[3], RECORDS[1]]) == RECORDS[2:4]
    assert len(gathering) == 2
