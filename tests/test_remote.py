"""Stores at URLs: S3 (a local server) and memory, as several machines with a mirror each see them."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hyperscale.cli import main
from hyperscale.dispatch import checkpoints as checkpoints_module
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.tally import Tally
from hyperscale.errors import StoreError
from hyperscale.recording import remote as remote_module
from hyperscale.recording.journal import Journal
from hyperscale.recording.leases import Leases
from hyperscale.recording.remote import Remote, RemoteShelf, local_path, mirror_folder, url_of
from hyperscale.recording.shelves import LocalShelf, Shelf
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study
from tests.buckets import KEY, SECRET, s3_server, use_server
from tests.conftest import tiny_text
from tests.drivers import ends, together
from tests.faults import fault_study
from tests.test_journal import TRIALS, ended
from tests.test_launch import outcome_table


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep files on their way to and from a URL below the test's folder, those of other processes too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    checkpoints_module._working_folder.cache_clear()
    yield
    checkpoints_module._working_folder.cache_clear()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Start a local S3."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a folder in a new bucket."""
    return use_server(server, monkeypatch)()


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of an empty place."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    import fsspec

    place = f"memory://{uuid.uuid4().hex}/studies"
    yield place
    fsspec.filesystem("memory").rm(place.rsplit("/", 1)[0], recursive=True)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str, str], Store]:
    """Return a function that opens a URL as a machine of that name does: with a mirror of its own."""

    def open_store(url: str, name: str) -> Store:
        return Store(folder=tmp_path / f"mirror-{name}", remote=Remote(url))

    return open_store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have stores try again once, at once."""
    monkeypatch.setattr(remote_module, "PAUSES_S", (0.0,))


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3:/bucket/a/b", "s3://bucket/a/b"),
        ("gs://bucket/", "gs://bucket"),
        ("memory://x/y", "memory://x/y"),
        ("file:///a/b", None),
        ("/a/b", None),
        ("results", None),
        ("C:/results", None),
        ("a/s3:/b", None),
    ],
)
def test_a_path_stands_for_a_url(place: str, url: str | None) -> None:
    """Also after it has lost a slash as a path; whatever is no URL is a folder."""
    assert url_of(place) == url
    assert url_of(Path(place)) == url
    if url is None:
        folder = Path("/a/b") if place.startswith("file:") else Path(place).resolve()
        assert local_path(Path(place)) == Store.at(place).folder == folder
        assert Store.at(place).remote is None


def test_every_url_has_a_mirror_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's cache, or where HYPERSCALE_MIRROR says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert mirror_folder("s3://b/x").parent == tmp_path / "hyperscale" / "mirrors"
    monkeypatch.setenv("HYPERSCALE_MIRROR", str(tmp_path / "copies"))
    folders = {mirror_folder(url) for url in ("s3://b/x", "s3://b-x", "gs://b/x")}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path / "copies"}
    store = Store.at("memory://b/x")
    assert (store.folder, store.place) == (mirror_folder("memory://b/x"), "memory://b/x")
    assert url_of(store.checkpoints) == "memory://b/x/checkpoints"
    assert not store.folder.exists()


@pytest.fixture(params=["folder", "memory", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """Return an empty shelf of each kind."""
    if request.param == "folder":
        return LocalShelf(tmp_path / "shelf")
    if request.param == "memory":
        return RemoteShelf(Remote(f"memory://{uuid.uuid4().hex}"), "shelf")
    return RemoteShelf(Remote(request.getfixturevalue("bucket")), "shelf")


def test_every_shelf_keeps_the_contract(shelf: Shelf) -> None:
    """Absent files, exclusive creation, replacement, removal, times by the clock of whoever keeps them."""
    assert (shelf.names(), shelf.read("a.json"), shelf.modified("a.json")) == ([], None, None)
    shelf.remove("a.json")
    before = time.time()
    assert shelf.create("a.json", b"one")
    assert not shelf.create("a.json", b"two")
    shelf.write("b.json", b"three")
    shelf.write("b.json", b"")
    assert sorted(shelf.names()) == ["a.json", "b.json"]
    assert shelf.read_all() == {"a.json": b"one", "b.json": b""}
    assert shelf.read("a.json") == b"one"
    written = shelf.modified("a.json")
    assert written is not None
    assert abs(written - before) < 60
    shelf.remove("a.json")
    assert shelf.names() == ["b.json"]


@pytest.mark.parametrize("shelf", ["memory", "s3"], indirect=True)
def test_one_of_many_creates(shelf: Shelf) -> None:
    """Of threads that create the same file at once, one succeeds."""
    assert isinstance(shelf, RemoteShelf)
    assert shelf.excludes()
    with ThreadPoolExecutor(8) as threads:
        for name in ("1.json", "2.json", "3.json"):
            granted = list(threads.map(lambda number, name=name: shelf.create(name, bytes([number])), range(8)))  # type: ignore[misc]
            assert sum(granted) == 1
            assert shelf.read(name) == bytes([granted.index(True)])


def test_leases_at_a_url(url: str, machine: Callable[[str, str], Store]) -> None:
    """Four drivers take and give up overlapping trials: none is ever held by two."""
    held, guard, granted = set[str](), threading.Lock(), list[int]()

    def use(number: int) -> None:
        leases = machine(url, str(number)).leases(f"launch{number}")
        for turn in range(6):
            wanted = [f"{(number + turn + step) % 5:02x}" * 32 for step in range(2)]
            if leases.take(wanted):
                with guard:
                    assert held.isdisjoint(wanted)
                    held.update(wanted)
                    granted.append(number)
                with guard:
                    held.difference_update(wanted)
                leases.release(wanted)
        leases.close()
        leases.heart.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, range(4)))
    assert granted
    leases = Leases(machine(url, "x").leases("x")._register, machine(url, "x").leases("x").heart)
    assert leases._register.read()[1] == {}


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


@pytest.fixture
def call(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what calls the command line with the bucket as store, and checks that it shows no credentials."""
    monkeypatch.setenv("HYPERSCALE_MIRROR", str(tmp_path / "mirrors"))

    def invoke(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, "--store", bucket])
        assert done.exit_code == 0, done.output
        assert KEY not in done.output
        assert SECRET not in done.output
        return done.output

    return invoke


def test_the_command_line_takes_a_url(call: Callable[..., str], bucket: str, write_study: Callable[..., Path]) -> None:
    """Run and status with --store s3://…, and what to type next."""
    path = str(write_study(fault_study("", ["well"] * 3), "well.py"))
    said = call("run", path, "--executor", "in-process", "--no-mlflow")
    assert f"--store {bucket}" in said
    assert "MLflow" not in said
    assert '"finished": 6' in call("status", path, "--json")
    assert [name.split("/")[0] for name in Remote(bucket).sizes()].count("journal") == 1


@pytest.mark.slow
def test_a_report_goes_to_the_url(call: Callable[..., str], bucket: str, write_study: Callable[..., Path]) -> None:
    """Report and measured speeds are where the results are; MLflow's database is not, and that is said."""
    path = str(write_study(tiny_text(steps=2000, lrs="(0.003,)"), "tiny.py"))
    assert "MLflow's database stays on this machine: sqlite:" in call("run", path, "--executor", "in-process")
    call("report", path, "--no-pdf")
    names = Remote(bucket).sizes()
    assert {"reports/tiny/report.html", "probes.json"} <= names.keys()


def test_files_of_the_mirror_go_to_the_url_and_come_from_there(
    url: str, machine: Callable[[str, str], Store], tmp_path: Path
) -> None:
    """Folders as they are; what lies outside the mirror stays where it is; what is here already is not fetched."""
    ours, theirs = machine(url, "ours"), machine(url, "theirs")
    folder = ours.report("toy")
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("page")
    (folder / "figures" / "one.png").write_bytes(b"picture")
    ours.publish(folder)
    (tmp_path / "elsewhere").write_text("not of the store")
    ours.publish(tmp_path / "elsewhere")
    ours.publish(ours.folder / "absent")
    assert ours.remote is not None
    assert set(ours.remote.sizes()) == {"reports/toy/report.html", "reports/toy/figures/one.png"}
    theirs.fetch("reports/toy/report.html")
    theirs.fetch("probes.json")
    assert (theirs.report("toy") / "report.html").read_text() == "page"
    assert not (theirs.folder / "probes.json").exists()
    (theirs.report("toy") / "report.html").write_text("newer")
    theirs.fetch("reports/toy/report.html")
    assert (theirs.report("toy") / "report.html").read_text() == "newer"


def test_a_store_that_does_not_answer_is_an_error_for_users(
    tiny: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """Nobody listens, or the bucket is not there: where, why, what to do; and the trouble is said before."""
    use_server("http://127.0.0.1:9", monkeypatch)
    store = Store(folder=tmp_path / "mirror", remote=Remote("s3://bucket/x"))
    said: list[str] = []
    assert store.remote is not None
    store.remote.say = said.append
    with pytest.raises(StoreError, match=r"The store s3://bucket/x could not be used \(listing\).*run again"):
        Launch(tiny, store, InProcess(device="cpu"))
    assert len(said) == 1
    assert SECRET not in said[0]


def test_a_bucket_that_is_not_there_is_an_error_for_users(bucket: str, tiny: StudyFile, tmp_path: Path) -> None:
    """Buckets are not made: whose they are and where they lie is for people to say."""
    store = Store(folder=tmp_path / "mirror", remote=Remote("s3://no-such-bucket-here/x"))
    launch = Launch(tiny, store, InProcess(device="cpu"))
    with pytest.raises(StoreError, match=r"s3://no-such-bucket-here/x could not be used \(writing\)"):
        launch.run()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nosuch://x/y", r"nosuch://x/y cannot be used.*s3://bucket/folder"),
        ("ftp://someone:pass-word@host/x", r"ftp://…@host/x has credentials in it.*environment"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_for_users(url: str, match: str) -> None:
    """Unknown schemes, and credentials where everybody would read them."""
    with pytest.raises(StoreError, match=match) as caught:
        Remote(url)
    assert "pass-word" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs: one paragraph with the package's name."""
    import fsspec

    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(StoreError, match=r"The store s3://b/x needs the package s3fs: pip install s3fs"):
        Remote("s3://b/x")
    with pytest.raises(StoreError, match=r"needs a package: Install s3fs"):
        Remote("sftp://b/x")


def test_a_store_without_exclusive_creation_is_told(
    machine: Callable[[str, str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One driver at a time is safe there, and that is said."""
    store = machine(f"memory://{uuid.uuid4().hex}", "ours")
    said: list[str] = []
    assert store.remote is not None
    store.remote.say = said.append
    store.prepare()
    assert said == []
    pipe = store.remote._fs.pipe_file
    monkeypatch.setattr(store.remote._fs, "pipe_file", lambda path, data, mode="overwrite": pipe(path, data))
    store.prepare()
    assert "lets two drivers create the same file" in said[0]
