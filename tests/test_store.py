"""The store folder: where things lie, and which launches are alive."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperscale.errors import StoreError
from hyperscale.recording import store as store_module
from hyperscale.recording.heart import Heart
from hyperscale.recording.processes import boot_id, start_of
from hyperscale.recording.store import Store


def test_paths_lie_in_the_folder(tmp_path: Path) -> None:
    """Asking where something lies creates nothing."""
    store = Store(folder=tmp_path / "results")
    assert store.report("toy") == tmp_path / "results" / "reports" / "toy"
    assert store.tracking_uri == f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}"
    assert store.running("toy") == []
    store.journal("one").close()
    assert not store.folder.exists()


def test_a_launch_is_running_until_it_ends_or_falls_silent(tmp_path: Path) -> None:
    """By its heartbeat and its end, per study; damaged files are passed over."""
    store = Store(folder=tmp_path)
    store.write_launch("one", {"study": "toy", "num_running": 3})
    store.write_launch("two", {"study": "other"})
    (tmp_path / "launches" / "three.json").write_text("{torn")
    (running,) = store.running("toy")
    assert (running["num_running"], running["pid"] > 0) == (3, True)
    store.write_launch("one", {"study": "toy", "ended": True})
    assert store.running("toy") == []
    store.write_launch("one", {"study": "toy"})
    path = tmp_path / "launches" / "one.json"
    data = json.loads(path.read_text())
    data["heartbeat"] -= store_module.HEARTBEAT_LIMIT_S + 1
    path.write_text(json.dumps(data))
    assert store.running("toy") == []
    assert not list((tmp_path / "launches").glob(".*.tmp"))


def test_a_killed_process_of_this_machine_is_not_running(tmp_path: Path) -> None:
    """Its sign of life may be fresh; of a process elsewhere, or one that says too little, only the age counts."""
    store, gone = Store(folder=tmp_path), subprocess.Popen([sys.executable, "-c", ""])
    started = start_of(gone.pid)
    gone.wait()
    note = {"study": "toy", "heartbeat": time.time(), "pid": gone.pid, "started": started}
    places = {"here": (socket.gethostname(), boot_id()), "there": ("elsewhere", boot_id()), "before": ("", "")}
    (tmp_path / "launches").mkdir()
    for name, (host, boot) in places.items():
        (tmp_path / "launches" / f"{name}.json").write_text(json.dumps({**note, "host": host, "boot": boot}))
    assert [launch["launch"] for launch in store.running("toy")] == ["before", "there"]
    heart = Heart(store.shelf("launches"), "me", 60.0)
    heart.show({"study": "toy"})
    heart.start()
    assert [launch["launch"] for launch in store.running("toy")] == ["before", "me", "there"]
    heart.close()


def test_a_store_is_probed_before_training(tmp_path: Path) -> None:
    """Preparing makes the journal's folder and tells what it made; a store below a file is a clear error."""
    store = Store(folder=tmp_path / "a" / "b")
    assert store.prepare() == [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "journal"]
    assert store.prepare() == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/sub cannot be written to: Not a directory.*--store"):
        Store(folder=tmp_path / "file" / "sub").prepare()


def test_where_nothing_may_be_made_is_told_beforehand(tmp_path: Path) -> None:
    """A folder below a file, a name that is too long: one sentence with the remedy, and nothing made."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "store", tmp_path / ("x" * 300)):
        with pytest.raises(StoreError, match=r"cannot be written to: .*--store"):
            Store(folder=folder).check_writable()
        with pytest.raises(StoreError, match=r"cannot be written to: .*--store"):
            Store(folder=folder).prepare()
    Store(folder=tmp_path / "a" / "b").check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
