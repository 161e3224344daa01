"""The recorder: MLflow may be slow, locked, dead or absent; the study neither waits nor loses anything."""

from __future__ import annotations

import gc
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.outcomes import Journalled, fingerprint
from hyperscale.recording.recorder import Patience, Recorder
from hyperscale.study import PER_SETTING
from hyperscale.trial import TrialRecord
from tests.ledgers import Ledger, given
from tests.sinks import QUICK, FakeStore, Fixture, make_launch, make_records


def test_everything_is_delivered_in_the_background() -> None:
    """Trials of this launch and what earlier launches left behind; the launch ends with its status."""
    it = Fixture(backlog=3)
    with it.make() as recorder:
        for record in it.records[3:]:
            it.ends(recorder, [record])
    assert set(it.store.shown) == {r.result.digest for r in it.records}
    assert recorder.num_missing == 0
    assert (it.store.ended, it.messages) == (["finished"], [])


def test_what_mlflow_is_marked_as_showing_is_not_looked_up() -> None:
    """A launch with nothing left to do asks for the mark only; another outcome in the journal is another mark."""
    it = Fixture(backlog=8)
    it.store.mark = fingerprint(given(it.records).outcomes())
    assert it.make().close() == 0
    assert (it.store.attempts, it.store.syncs, it.said) == (1, 0, [])
    it.store.mark = fingerprint(given(it.records[1:]).outcomes())
    assert it.make().close() == 0
    assert it.store.syncs == 1
    assert set(it.store.shown) == {r.result.digest for r in it.records}


def test_a_launch_that_recorded_everything_leaves_the_mark() -> None:
    """Without a search: the store knows what it wrote. After trouble it is to search."""
    it = Fixture()
    recorder = it.make()
    it.ends(recorder, it.records)
    recorder.close()
    assert it.store.mark == fingerprint(given(it.records).outcomes())
    assert it.store.searches == [False]
    it = Fixture()
    it.store.failing = lambda: it.store.attempts < 2
    recorder = it.make()
    it.ends(recorder, it.records)
    recorder.close()
    assert it.store.searches == [True]


def test_a_trial_that_was_never_handed_over_is_recorded_all_the_same() -> None:
    """Ctrl-C between the journal and the recorder: what the journal has counts at the end."""
    it = Fixture()
    recorder = it.make()
    it.ends(recorder, it.records[:4])
    it.ledger.held |= {record.result.digest: record for record in it.records}
    assert recorder.close("interrupted") == 0
    assert len(it.store.shown) == 8


def test_settings_are_handed_over_whole() -> None:
    """Where the study asks for a run per setting, its seeds come together, the rest at the end."""
    it = Fixture(form=PER_SETTING, num_settings=3, patience=replace(QUICK, queue_size=64))
    recorder = it.make()
    by_seed = sorted(it.records, key=lambda record: record.result.seed)
    it.ends(recorder, by_seed[:-1])  # of the last setting one seed never ends
    assert recorder.close("interrupted") == 0
    counts = [Counter(record.result.setting_digest for record in group) for group in it.store.groups]
    assert sorted(count for group in counts for count in group.values()) == [8, 8]
    assert set(it.store.shown) == {r.result.digest for r in by_seed[:-1]}


def test_what_is_held_for_its_setting_counts_as_missing() -> None:
    """Until it is recorded."""
    it = Fixture(form=PER_SETTING)
    recorder = it.make()
    it.ends(recorder, it.records[:3])
    limit = time.monotonic() + 10
    while not len(recorder._gathering) and time.monotonic() < limit:
        time.sleep(0.01)
    assert recorder.num_missing == 3
    assert recorder.close() == 0


def test_memory_does_not_grow_with_the_study() -> None:
    """20,000 trials before and 20,000 in this launch, MLflow at a standstill: the queue's few are all that is held."""
    it = Fixture(num_trials=40_000, backlog=20_000)
    it.store.gate.clear()
    recorder = it.make()
    for index in range(20_000, 40_000, 16):
        it.ends(recorder, it.records[index : index + 16])
    held = sum(isinstance(thing, TrialRecord) for thing in gc.get_referents(recorder._queue.queue))
    assert held + len(recorder._progress.pending) <= QUICK.queue_size + 64
    assert it.ledger.largest == 0  # nothing was read with its curves yet
    it.store.gate.set()
    assert recorder.close() == 0
    assert len(it.store.shown) == 40_000


def test_closing_says_what_it_waits_for() -> None:
    """A line when it begins to take long, and one now and then."""
    patience = replace(QUICK, first_word_s=0.05, next_word_s=0.05)
    it = Fixture(patience=patience)
    it.store.gate.clear()
    recorder = it.make()
    it.ends(recorder, it.records)
    threading.Timer(0.4, it.store.gate.set).start()
    assert recorder.close() == 0
    assert "recording the last 8 trials…" in it.said
    assert len(it.said) > 1
    it = Fixture(backlog=8, patience=patience)
    it.store.gate.clear()
    recorder = it.make()
    threading.Timer(0.4, it.store.gate.set).start()
    assert recorder.close() == 0
    assert it.said[0] == "looking up 8 trials…"


def test_a_failing_store_is_told_once_and_replayed_at_the_end() -> None:
    """While it fails the recorder rests between attempts; the final replay brings everything."""
    it = Fixture(num_trials=40)
    until = time.monotonic() + 0.5
    it.store.failing = lambda: time.monotonic() < until
    recorder = it.make()
    for record in it.records:
        it.ends(recorder, [record])
        time.sleep(0.005)
    time.sleep(max(0.0, until - time.monotonic()))
    assert it.store.attempts < 20
    assert recorder.close("interrupted") == 0
    assert len(it.store.shown) == 40
    (message,) = it.messages
    assert "locked by another program" in message
    assert "hyperscale sync toy.py" in message
    assert it.store.ended == ["interrupted"]


def test_what_was_lost_is_replayed_while_the_study_goes_on() -> None:
    """MLflow is away for a while: once it is back nothing is missing, long before the launch ends."""
    it = Fixture(num_trials=30, patience=replace(QUICK, queue_size=64, catch_up_s=0.05))
    away = threading.Event()
    away.set()
    it.store.failing = away.is_set
    recorder = it.make()
    it.ends(recorder, it.records[:20])
    limit = time.monotonic() + 10
    while not it.messages and time.monotonic() < limit:
        time.sleep(0.01)
    away.clear()
    while recorder.num_missing and time.monotonic() < limit:
        time.sleep(0.01)
    assert recorder.num_missing == 0
    assert set(it.store.shown) == {r.result.digest for r in it.records[:20]}
    assert it.store.ended == []
    it.ends(recorder, it.records[20:])
    assert recorder.close() == 0
    assert len(it.store.shown) == 30
    assert it.store.ended == ["finished"]


def test_trials_of_a_launch_that_runs_elsewhere_are_left_to_it() -> None:
    """Two drivers on one journal: neither replays what the other is about to record."""
    it = Fixture(backlog=4)
    theirs = [
        replace(record, result=replace(record.result, provenance={**record.result.provenance, "launch": "other"}))
        for record in it.records[:2]
    ]
    ledger = Ledger([*theirs, *it.records[2:4]])
    digests = [record.result.digest for record in it.records]
    for elsewhere, wanted in (({"other"}, 2), (set[str](), 4)):
        found = list(Journalled(ledger, digests, lambda known=elsewhere: known).outcomes())
        assert len(found) == wanted


def test_what_could_not_be_recorded_is_counted() -> None:
    """A store that never comes back: the count says how many trials a sync will have to write."""
    it = Fixture(num_trials=8, backlog=2)
    it.store.failing = lambda: True
    recorder = it.make()
    it.ends(recorder, it.records[2:])
    assert recorder.close() == 8
    assert len(it.messages) == 1


def test_a_full_queue_never_holds_the_driver() -> None:
    """Putting never waits: what finds no room is dropped, and replayed from the journal."""
    it = Fixture(num_trials=100)
    it.store.gate.clear()
    recorder = it.make()
    started = time.monotonic()
    for record in it.records:
        it.ends(recorder, [record])
    it.ends(recorder, it.records)
    assert time.monotonic() - started < 1
    assert recorder._queue.qsize() <= QUICK.queue_size
    assert recorder.num_missing > 0
    it.store.gate.set()
    assert recorder.close() == 0
    assert len(it.store.shown) == 100


def test_closing_is_bounded() -> None:
    """A store that hangs costs `close_s`, not for ever."""
    it = Fixture(patience=Patience(queue_size=4, close_s=0.3))
    it.store.gate.clear()
    recorder = it.make()
    it.ends(recorder, it.records[:3])
    started = time.monotonic()
    assert recorder.close() == 3
    assert time.monotonic() - started < 5
    assert "too slow: 3 trials" in it.messages[0]
    it.store.gate.set()


def test_a_store_that_breaks_in_an_unforeseen_way_is_only_a_message() -> None:
    """Whatever opening the store raises, the driver goes on."""
    it = Fixture()

    def explode() -> FakeStore:
        raise ZeroDivisionError("boom")

    recorder = Recorder(explode, make_launch(8), journalled=given(it.records), warn=it.messages.append, patience=QUICK)
    it.ends(recorder, it.records)
    assert recorder.close() == 8
    assert "ZeroDivisionError: boom" in it.messages[0]


def test_notices_are_passed_on() -> None:
    """What the store could not do without harm reaches the user once."""
    it = Fixture()
    it.store.notices.append("MLflow could not store the artifact study/toy.py: disk full")
    recorder = it.make()
    it.ends(recorder, it.records)
    assert recorder.close() == 0
    assert it.messages == ["MLflow could not store the artifact study/toy.py: disk full"]


def test_a_locked_database_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection holds the database while trials end; once it lets go, all are there, none twice."""
    monkeypatch.setattr("hyperscale.recording.mlflow_connection._LOCK_TIMEOUT_S", 0.1)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    launch = make_launch(6)
    records, messages = make_records(launch), list[str]()
    MlflowStore(uri).open_study(launch.study_file)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder = Recorder(
            lambda: MlflowStore(uri), launch, journalled=given(records), warn=messages.append, patience=QUICK
        )
        recorder.put(records)
        limit = time.monotonic() + 20
        while not messages and time.monotonic() < limit:
            time.sleep(0.05)
    assert recorder.close() == 0
    assert "locked" in messages[0]
    assert MlflowStore(uri).read_records("toy") == records
    assert MlflowStore(uri).sync(launch.study_file, given(records), "launch-2") == 0


def test_a_dead_server_costs_the_driver_nothing() -> None:
    """Handing over is instant, closing takes seconds, and the message says what to do."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    launch = make_launch(6)
    records, messages = make_records(launch), list[str]()
    recorder = Recorder(
        lambda: MlflowStore(f"http://127.0.0.1:{port}"),
        launch,
        journalled=given(records),
        warn=messages.append,
        patience=QUICK,
    )
    started = time.monotonic()
    recorder.put(records)
    assert time.monotonic() - started < 1
    assert recorder.close() == 6
    assert time.monotonic() - started < 20
    assert "cannot be reached" in messages[0]


_WITHOUT_MLFLOW = """
import sys
sys.modules["mlflow"] = None
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.outcomes import Journalled, fingerprint
from hyperscale.recording.recorder import Recorder
from tests.ledgers import Ledger, given
from tests.sinks import QUICK, make_launch, make_records
launch = make_launch(3)
records = make_records(launch)
recorder = Recorder(
    lambda: MlflowStore(sys.argv[1]), launch, journalled=given(records), warn=print, patience=QUICK
)
recorder.put(records)
print("missing", recorder.close())
"""


def test_without_mlflow_there_is_a_message(tmp_path: Path) -> None:
    """Not installed: the study runs, the journal has everything, the message says how to catch up."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MLFLOW, f"sqlite:///{tmp_path / 'mlflow.db'}"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"},
        check=True,
    )
    assert "'mlflow' is not installed" in done.stdout
    assert done.stdout.endswith("missing 3\n")
    assert done.stderr == ""


def test_importing_the_rooms_does_not_import_mlflow() -> None:
    """`hyperscale --help` and workers never pay for MLflow."""
    code = (
        "import sys, hyperscale.recording.recorder, hyperscale.recording.mlflow_store;"
        "assert 'mlflow' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
