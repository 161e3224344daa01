"""URLs and shelves: what a path stands for, who creates, and leases at a URL."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyperscale.recording.leases import Leases
from hyperscale.recording.remote import Remote, RemoteShelf, local_path, mirror_folder, url_of
from hyperscale.recording.shelves import LocalShelf, Shelf
from hyperscale.recording.store import Store


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
