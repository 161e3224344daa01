"""The command line with a URL for a store, and what it says where that cannot be used."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.errors import StoreError
from hyperscale.recording.remote import Remote
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile
from tests.buckets import SECRET, use_server
from tests.conftest import tiny_text
from tests.faults import fault_study


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
