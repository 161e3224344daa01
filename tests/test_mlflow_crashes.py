"""Runs of settings when things go wrong: drivers killed at any request, drivers that know nothing of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.study import PER_SETTING, PER_TRIAL
from tests.ledgers import given
from tests.mlflow_faults import Killed, check, copy_database, counted, mark_of
from tests.test_mlflow_store import changed, make_file, make_records, runs

FILE = make_file(PER_SETTING)
RECORDS = make_records(FILE)  # setting by setting, seeds 1 and 0; the second and third setting have a bad one


def _some_of_everything(uri: str) -> None:
    """Leave a setting with one seed recorded, one in runs of trials, one half-written, one missing."""
    MlflowStore(uri).sync(FILE, given(RECORDS[:1]), "launch-1")
    MlflowStore(uri).sync(make_file(PER_TRIAL), given(RECORDS[2:4]), "launch-2")
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-3", FILE, 2)
    with pytest.raises(Killed), counted(store, 4):
        store.record("toy", RECORDS[4:6], parent)
    assert [run.info.status for run in runs(store, "setting")].count("RUNNING") == 1


@pytest.mark.parametrize("form", [PER_SETTING, PER_TRIAL])
def test_a_driver_killed_at_any_request_leaves_what_sync_mends(form: str, fresh: Callable[[], str]) -> None:
    """Killed before its n-th request, for every n: nothing read is wrong, and after a sync nothing is lost or twice."""
    begun, file = fresh(), make_file(form)
    _some_of_everything(begun)
    recorded = {record.result.digest: record for record in MlflowStore(begun).read_records("toy")}
    wanted = {record.result.digest: record for record in RECORDS}
    dies_at, died = 0, True
    while died:
        uri = fresh()
        copy_database(Path(begun.removeprefix("sqlite:///")), Path(uri.removeprefix("sqlite:///")))
        store = MlflowStore(uri, Path(begun.removeprefix("sqlite:///")).parent / "artifacts")
        died = False
        try:
            with counted(store, dies_at):
                store.sync(file, given(RECORDS), "launch-4")
        except Killed:
            died = True
        back = {record.result.digest: record for record in MlflowStore(uri).read_records("toy")}
        assert back.items() <= wanted.items()
        assert recorded.items() <= back.items()
        assert MlflowStore(uri).is_current(file, mark_of(RECORDS)) is not died
        MlflowStore(uri).sync(file, given(RECORDS), "launch-5")
        check(uri, file, RECORDS)
        dies_at += 1
    assert dies_at > 15  # it did get past the last request


def test_the_half_written_run_of_another_driver_is_left_to_it(fresh: Callable[[], str]) -> None:
    """Its curves may not be there yet; it is neither copied nor deleted before its trials are shown."""
    uri, values = fresh(), [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    theirs = changed(RECORDS[0], curves={"points": [values, values[::-1]]})
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-1", FILE, 1)
    with pytest.raises(Killed), counted(store, 2):  # before its curves
        store.record("toy", [theirs], parent)
    assert MlflowStore(uri).read_records("toy") == []
    store = MlflowStore(uri)
    assert store.sync(FILE, given(RECORDS[1:]), "launch-2") == 7
    assert store.notices == []
    assert store.read_records("toy") == RECORDS[1:]
    assert [run.info.status for run in runs(store, "setting")].count("RUNNING") == 1
    assert MlflowStore(uri).sync(FILE, given([theirs]), "launch-3") == 1
    check(uri, FILE, [theirs, *RECORDS[1:]])


def test_two_drivers_at_once_are_joined_by_the_next_sync(fresh: Callable[[], str]) -> None:
    """Each has the other seed of every setting and sees nothing of the other's runs; reading finds both."""
    uri = fresh()
    one, two = MlflowStore(uri), MlflowStore(uri)
    parent = one.begin_launch("launch-1", FILE, 8)
    two.open_study(FILE)
    two._shown("toy")
    assert one.record("toy", RECORDS[::2], parent) == 4
    assert two.record("toy", RECORDS[1::2], parent) == 4
    assert len(runs(one, "setting")) == 8
    assert two.read_records("toy") == RECORDS
    assert not one.is_current(FILE, mark_of(RECORDS))
    one.sync(FILE, given(RECORDS), "launch-2")
    check(uri, FILE, RECORDS)


def test_more_than_a_page_of_runs_comes_whole(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run once, however small the pages are, with a filter and without."""
    monkeypatch.setattr("hyperscale.recording.mlflow_studies._PAGE", 3)
    file = make_file(seeds=range(10))
    store = MlflowStore(fresh())
    assert store.sync(file, given(make_records(file)), "launch-1") == 40
    assert len({run.info.run_id for run in runs(store)}) == len(runs(store)) == 40
    assert len(runs(store, "launch")) == 1
    assert len(store.read_records("toy")) == 40


def test_trials_that_others_write_between_pages_cost_nobody_a_run(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of runs grows while it is read: none is taken for a duplicate of itself, none is overlooked."""
    monkeypatch.setattr("hyperscale.recording.mlflow_studies._PAGE", 5)
    file = make_file(seeds=range(8))
    records = make_records(file)
    uri = fresh()
    other, store = MlflowStore(uri), MlflowStore(uri)
    parent = other.begin_launch("launch-1", file, 32)
    other.record("toy", records[:16], parent)
    later = [records[index : index + 1] for index in range(16, 32)]
    client, read = store._client(), Counter[str]()

    class Crowded:
        """A client that another driver is quicker than."""

        def __getattr__(self, name: str) -> Any:
            read[name] += 1
            if name == "search_runs" and later:
                other.record("toy", later.pop(0), parent)
            return getattr(client, name)

    store._connection = Crowded()  # type: ignore[assignment]
    assert store.sync(file, given(records[:16]), "launch-2") == 0
    assert (read["delete_run"], read["create_run"]) == (0, 0)
    assert MlflowStore(uri).read_records("toy") == records[: 32 - len(later)]
    assert len(later) < 14
