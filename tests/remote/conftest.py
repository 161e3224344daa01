"""Stores at URLs: S3 (a local server) and memory, as several machines with a mirror each see them."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hyperscale.cli import main
from hyperscale.dispatch import checkpoints as checkpoints_module
from hyperscale.recording import remote as remote_module
from hyperscale.recording.remote import Remote
from hyperscale.recording.store import Store
from tests.buckets import KEY, SECRET, s3_server, use_server


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
