"""Launches whose store is at a URL: several machines, drivers that die, stores that fail."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hyperscale.dispatch import checkpoints as checkpoints_module
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.tally import Tally
from hyperscale.errors import StoreError
from hyperscale.recording import remote as remote_module
from hyperscale.recording.journal import Journal
from hyperscale.recording.remote import Remote
from hyperscale.recording.store import Store
from hyperscale.study import load_study
from tests.conftest import tiny_text
from tests.drivers import ends, together
from tests.faults import fault_study
from tests.test_journal import TRIALS, ended
from tests.test_launch import outcome_table


def journal_at(store: Store, launch: str = "reader") -> Journal:
    """Open a store's journal."""
    return store.journal(launch)


def test_what_was_appended_is_seen_from_another_machine(url: str, machine: Callable[[str, str], Store]) -> None:
    """Piece by piece while the launch goes on, as one file after it, and the same bytes everywhere."""
    ours, theirs = machine(url, "ours"), machine(url, "theirs")
    reader = journal_at(theirs)
    with journal_at(ours, "one") as journal:
        journal.append([ended(TRIALS[0])])
        assert reader.refresh() == [TRIALS[0].digest]
        journal.append([ended(TRIALS[1]), ended(TRIALS[2])])
        journal.append([ended(TRIALS[3])])
        assert sum("/" in name for name in ours.remote.sizes("journal")) == 3  # type: ignore[union-attr]
        assert reader.refresh() == [trial.digest for trial in TRIALS[1:]]
        assert reader.refresh() == []
    assert list(ours.remote.sizes("journal")) == ["one.jsonl"]  # type: ignore[union-attr]
    assert reader.refresh() == []
    late = machine(url, "late")
    assert journal_at(late).records(t.digest for t in TRIALS) == reader.records(t.digest for t in TRIALS)
    copies = {(store.folder / "journal" / "one.jsonl").read_bytes() for store in (ours, theirs, late)}
    assert len(copies) == 1
    assert not list((ours.folder / "journal").glob("*.shipped"))


def test_what_a_dead_driver_could_not_put_is_put_by_the_next(
    url: str, machine: Callable[[str, str], Store], monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """The store fails in the middle: words, an error that says where the results are, and the next run brings them."""
    store = machine(url, "ours")
    said: list[str] = []
    assert store.remote is not None
    store.remote.say = said.append
    journal = journal_at(store, "one")
    journal.append([ended(TRIALS[0])])
    with monkeypatch.context() as broken:

        def fail(*_: object, **__: object) -> None:
            raise ConnectionError("connection lost")

        broken.setattr(store.remote._fs, "pipe_file", fail)
        with pytest.raises(StoreError, match=r"connection lost.*mirror.*run again"):
            journal.append([ended(TRIALS[1])])
    assert len(said) == 1
    assert "Trying again" in said[0]
    with (store.folder / "journal" / "one.jsonl").open("ab") as file:
        file.write(b'{"record":"trial","dig')  # and the machine was switched off
    assert journal_at(machine(url, "theirs")).status(TRIALS[1].digest) is None
    again = machine(url, "ours")
    assert journal_at(again).settled(TRIALS[1].digest)
    assert again.remote is not None
    again.remote.say = said.append
    again.prepare()
    assert "launch one" in said[-1]
    assert [journal_at(machine(url, "late")).settled(trial.digest) for trial in TRIALS] == [True, True, False, False]
    assert list(again.remote.sizes("journal")) == ["one.jsonl"]
    assert not list((again.folder / "journal").glob("*.shipped"))


def test_a_launch_whose_store_fails_ends_with_its_words(
    machine: Callable[[str, str], Store], write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience is had once and not for every further step; what had ended is kept here and brought by the next run."""
    study_file = load_study(write_study(fault_study("", ["well"] * 6)))
    url, pauses, said = f"memory://{uuid.uuid4().hex}", list[float](), list[str]()
    store = machine(url, "ours")
    assert store.remote is not None
    store.remote.say = said.append
    clock = SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic, time_ns=time.time_ns)
    monkeypatch.setattr(remote_module, "time", clock)

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    def fail_later(tally: Tally) -> None:
        if tally.ended_trials == 4 and store.remote is not None:
            store.remote._fs.pipe_file = store.remote._fs.put_file = fail

    warned: list[str] = []
    launch = Launch(study_file, store, InProcess(device="cpu"), max_members=2, on_change=fail_later, warn=warned.append)
    with pytest.raises(StoreError, match=r"memory://.* could not be used \(writing\): no answer"):
        launch.run()
    assert set(pauses) == set(remote_module.PAUSES_S)
    assert len(pauses) <= 2 * len(remote_module.PAUSES_S)  # the heart may have been in the middle of a beat
    assert ["Trying again" in text for text in said] == [True, False]
    assert "next run of this machine" in said[1]
    assert any("leases have expired" in text for text in warned)
    again = machine(url, "ours")
    summary = Launch(study_file, again, InProcess(device="cpu"), lease_s=0.1).run()
    assert (summary.ran + summary.reused, summary.finished) == (12, 12)
    assert summary.reused >= 4
    assert outcome_table(study_file, machine(url, "late")) == outcome_table(study_file, again)
    assert len(outcome_table(study_file, again)) == 12


def test_what_was_removed_at_the_url_does_not_come_back(url: str, machine: Callable[[str, str], Store]) -> None:
    """Neither from the mirror of who had read it, nor from that of who had written it."""
    ours, theirs = machine(url, "ours"), machine(url, "theirs")
    journal_at(ours, "one").append([ended(TRIALS[0])])
    assert journal_at(theirs).settled(TRIALS[0].digest)
    assert ours.remote is not None
    for name in ours.remote.sizes("journal"):
        ours.remote.remove("journal", name)
    ours.prepare()
    assert not journal_at(ours).settled(TRIALS[0].digest)
    assert not journal_at(theirs).settled(TRIALS[0].digest)
    assert ours.remote.sizes("journal") == {}


def test_a_launch_goes_on_on_another_machine(
    url: str,
    machine: Callable[[str, str], Store],
    write_study: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted here, it goes on there from the checkpoint, to the table of an undisturbed run."""
    study_file = load_study(write_study(tiny_text(steps=200), "tiny.py"))
    whole, here, there = Store(folder=tmp_path / "whole"), machine(url, "here"), machine(url, "there")
    Launch(study_file, whole, InProcess(device="cpu")).run()

    def stop_soon(tally: Tally) -> None:
        if tally.ended_trials >= 8 and tally.running_packs:
            tally.stop_requested.set()

    monkeypatch.setattr("hyperscale.dispatch.in_process.SLICE_S", 0.0)
    first = Launch(study_file, here, InProcess(device="cpu"), on_change=stop_soon, max_members=4).run()
    assert first.interrupted
    remote = Remote(f"{url}/checkpoints")
    names = remote.sizes()
    assert sorted(name.split(".")[1] for name in names) == ["json", "pt"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    checkpoints_module._working_folder.cache_clear()
    second = Launch(study_file, there, InProcess(device="cpu"))
    assert f"{second.packs[0].digest}.pt" in names
    assert second.run().ran == 32 - first.ran
    assert outcome_table(study_file, there) == outcome_table(study_file, whole)
    assert outcome_table(study_file, machine(url, "late")) == outcome_table(study_file, whole)
    assert remote.sizes() == {}
    assert there.running("tiny") == []


@pytest.mark.slow
def test_two_machines_share_a_study_in_a_bucket(
    bucket: str, write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two driver processes with a mirror each: every trial once, and one of them killed loses nothing."""
    path = write_study(fault_study(tmp_path, ["noted"] * 15, seeds=2))
    monkeypatch.setenv("HYPERSCALE_MIRROR", str(tmp_path / "mirrors"))
    words = ["drive", path, bucket, 60, 3]
    with together(tmp_path / "gate", words, words) as drivers:
        reader, deadline = Store.at(bucket), time.monotonic() + 240
        while len(reader.journal("reader").refresh() or reader.journal("reader")._trials) < 6:
            assert time.monotonic() < deadline
        os.kill(drivers[0].pid, signal.SIGKILL)
        ((summary, _),) = ends(drivers[1:])
    assert (summary["finished"], summary["missing"]) == (30, 0)
    lines = (tmp_path / "ledger").read_text().splitlines()
    begun = {line.rpartition(" ")[0] for line in lines}
    assert len(begun) == 30
    assert len(lines) <= 33
    late = Store(folder=tmp_path / "late", remote=Remote(bucket))
    late.prepare()
    late.journal("reader")
    trials = [
        json.loads(line)["digest"]
        for segment in (late.folder / "journal").glob("*.jsonl")
        for line in segment.read_text().splitlines()
        if '"record":"trial"' in line
    ]
    assert len(trials) == len(set(trials)) == 30
