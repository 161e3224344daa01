"""Leases: at any moment one live launch at most believes to hold a trial, whatever happens between two operations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.errors import StoreError
from hyperscale.recording.heart import Heart
from hyperscale.recording.leases import Leases, Register
from hyperscale.recording.processes import Process, this_process
from hyperscale.recording.shelves import LocalShelf, Shelf
from hyperscale.recording.store import Store
from tests.drivers import ends, together

DIGESTS = [f"{number:02x}" * 32 for number in range(6)]


class Crash(BaseException):
    """The process died here."""


class Cupboard:
    """A shelf in memory; ``before`` is called before every operation, and may do anything or raise `Crash`."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.files: dict[str, bytes] = {}
        self.before = before

    def names(self) -> list[str]:
        """Return the names."""
        self.before()
        return list(self.files)

    def read(self, name: str) -> bytes | None:
        """Return a file's content."""
        self.before()
        return self.files.get(name)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file."""
        self.before()
        return self.files.setdefault(name, data) is data

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""
        self.before()
        self.files[name] = data

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.before()
        self.files.pop(name, None)

    def modified(self, name: str) -> float | None:
        """No file has a time: hearts here are played."""
        return None


class PlayedHeart(Heart):
    """A heart whose age is told by the test."""

    def __init__(self, launch: str, silent: set[str]) -> None:
        super().__init__(Cupboard(), launch, 60.0)
        self.silent = silent

    def start(self) -> None:
        """Need no thread."""

    def mark(self) -> float:
        """Be there."""
        return 0.0

    def recover(self) -> None:
        """Be there again."""
        self.silent.discard(self.launch)

    def age(self, launch: str, now: float) -> float:
        """Be young unless silent."""
        return float("inf") if launch in self.silent else 0.0


class Actor:
    """A launch in the property test: what it believes to hold, and whether it is in the middle of something."""

    def __init__(self, number: int, shelf: Shelf, silent: set[str]) -> None:
        self.name = f"launch{number}"
        self.leases = Leases(Register(shelf), PlayedHeart(self.name, silent))
        self.silent = silent
        self.held: set[str] = set()
        self.busy = self.dead = False

    @property
    def believes(self) -> set[str]:
        """What it would write results of without asking first."""
        return set() if self.dead or self.name in self.silent else self.held

    def act(self, verb: str, chosen: set[str]) -> None:
        """Do one thing, or die in the middle of it."""
        self.busy = True
        try:
            if self.name in self.silent and verb != "fall silent":
                self.leases.confirm()
                self.held = {digest for digest in self.held if not self.leases.lost(digest)}
            if verb == "take" and self.leases.take(chosen):
                self.held |= chosen
            elif verb == "settle":
                self.held -= chosen
                self.leases.settle(chosen)
            elif verb == "release":
                self.held -= chosen
                self.leases.release(chosen)
            elif verb == "close":
                self.held.clear()
                self.leases.close()
            elif verb == "fall silent":
                self.silent.add(self.name)
        except Crash:
            self.dead = True
            self.silent.add(self.name)
        finally:
            self.busy = False


VERBS = st.sampled_from(["take", "take", "take", "fall silent", "settle", "release", "close"])
MEDDLING = st.sampled_from([*["nothing"] * 30, *["act"] * 8, "die"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_trial_has_two_holders(data: st.DataObject) -> None:
    """Between any two operations on the store others act, fall silent, or die, and yet no trial has two holders."""
    silent: set[str] = set()
    shelf, depth = Cupboard(), 0
    actors = [Actor(number, shelf, silent) for number in range(2)]

    def meddle() -> None:
        nonlocal depth
        if depth >= 3:
            return
        what = data.draw(MEDDLING)
        if what == "die" and depth:
            raise Crash
        if what == "act":
            step()

    def step() -> None:
        nonlocal depth
        idle = [actor for actor in actors if not actor.busy and not actor.dead]
        if not idle:
            return
        actor = data.draw(st.sampled_from(idle))
        depth += 1
        try:
            actor.act(data.draw(VERBS), data.draw(st.sets(st.sampled_from(DIGESTS[:3]), min_size=1, max_size=2)))
        finally:
            depth -= 1
        held = [digest for actor in actors if not actor.busy for digest in actor.believes]
        assert len(held) == len(set(held)), [(actor.name, actor.believes) for actor in actors]

    shelf.before = meddle
    for _ in range(14):
        step()
    shelf.before = lambda: None
    silent.update(actor.name for actor in actors)
    last = Actor(9, shelf, silent)
    assert last.leases.take(DIGESTS)
    last.leases.close()
    assert last.leases._register.read()[1] == {}
    assert len(shelf.files) <= 2 + sum(actor.dead for actor in actors) * 3


def test_eight_processes_at_once(tmp_path: Path, store: Store) -> None:
    """Eight processes take and give up overlapping trials: none is ever held by two, and nobody waits for ever."""
    words = [("hammer", store.folder, seed, 25) for seed in range(8)]
    with together(tmp_path / "gate", *words) as processes:
        granted = [found["granted"] for found, _ in ends(processes)]
    assert sum(granted) >= 8  # type: ignore[arg-type]
    register = Register(store.shelf("leases"))
    number, state = register.read()
    assert state == {}
    assert number >= sum(granted)  # type: ignore[arg-type]
    assert len(list((store.folder / "leases").iterdir())) <= 3


@pytest.fixture
def rival(store: Store, monkeypatch: pytest.MonkeyPatch) -> Leases:
    """Return a live launch that has leased the first two trials; who is refused looks again at once."""
    monkeypatch.setattr("hyperscale.recording.leases._LOOK_S", 0.0)
    leases = store.leases("rival", 0.6)
    assert leases.take(DIGESTS[:2])
    return leases


def test_all_or_nothing(store: Store, rival: Leases) -> None:
    """A pack with one trial of another's is left alone; what was settled is free with the other's next change."""
    ours = store.leases("ours")
    assert not ours.take(DIGESTS[1:4])
    assert ours.take(DIGESTS[2:4])
    rival.settle(DIGESTS[:1])
    assert rival.take(DIGESTS[4:5])
    assert ours.take(DIGESTS[:1])
    holder = ours.holder(DIGESTS[1])
    assert holder is not None
    assert str(holder) == f"launch rival (process {os.getpid()} on {this_process().host})"
    rival.close()
    assert ours.take(DIGESTS)
    for leases in (ours, rival):
        leases.close()
        leases.heart.close()
    assert len(list((store.folder / "leases").iterdir())) <= 2


def test_a_silent_holder_loses_its_leases_and_learns_of_it(store: Store, rival: Leases) -> None:
    """After a standstill longer than the lease it keeps what nobody took, and knows what it has lost."""
    ours = store.leases("ours", 0.6)
    sleeping = rival.heart
    sleeping._writing.acquire()  # the other's heart stands still
    assert not ours.take(DIGESTS[:1])
    age = (store.folder / "launches" / "rival.json").stat().st_mtime - 5
    os.utime(store.folder / "launches" / "rival.json", (age, age))
    assert ours.take(DIGESTS[:1])
    sleeping._beat_at -= 5
    assert sleeping.faltered
    sleeping._writing.release()
    rival.confirm()
    assert not sleeping.faltered
    assert [rival.lost(digest) for digest in DIGESTS[:2]] == [True, False]
    assert not ours.take(DIGESTS[1:2])
    for leases in (ours, rival):
        leases.close()
        leases.heart.close()


def test_a_standstill_is_noticed_though_the_heart_goes_on_first(tmp_path: Path) -> None:
    """After SIGCONT the heart's thread may run before the driver's: that there was a gap is not forgotten."""
    heart = Heart(LocalShelf(tmp_path), "ours", 60.0)
    heart.start()
    assert not heart.faltered
    heart._beat_at -= 50
    heart.mark()
    assert heart.faltered
    heart.recover()
    assert not heart.faltered
    heart.close({"study": "toy"})
    data = json.loads((tmp_path / "ours.json").read_text())
    assert (data["ended"], data["study"], data["pid"]) == (True, "toy", os.getpid())


def test_a_dead_process_of_this_machine_holds_nothing(store: Store) -> None:
    """It need not be waited for: neither where its number is free, nor where another process has it now."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = this_process()
    dead = replace(here, pid=process.pid, started="")
    assert not here.is_gone
    assert replace(here, started="1").is_gone
    assert not replace(dead, host="elsewhere").is_gone
    assert not replace(dead, boot="another start of the machine").is_gone
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert replace(dead, started="12345").is_gone
    process.communicate()
    assert replace(dead, started="12345").is_gone
    theirs = store.leases("theirs")
    theirs._me = replace(theirs._me, process=replace(dead, started="12345"))
    assert theirs.take(DIGESTS)
    ours = store.leases("ours")
    assert ours.take(DIGESTS)
    for leases in (ours, theirs):
        leases.close()
        leases.heart.close()


def test_a_change_on_a_number_cleared_away_meanwhile_is_void() -> None:
    """Somebody stands still between reading and creating, and the number it creates was used and removed."""
    shelf = Cupboard()
    slow, fast = (Leases(Register(shelf), PlayedHeart(name, set())) for name in ("slow", "fast"))
    create, moved = shelf.create, False

    def overtaken(name: str, data: bytes) -> bool:
        nonlocal moved
        if not moved:
            moved = True
            for digest in DIGESTS[:4]:
                assert fast.take([digest])
            assert name not in shelf.files
        return create(name, data)

    shelf.create = overtaken  # type: ignore[method-assign]
    assert not slow.take(DIGESTS[:1])
    assert set(fast._register.read()[1]) == {"fast"}


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"a": {"process": 1}}'])
def test_a_record_without_content_is_passed_over(rubbish: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine lost its power while writing: after some patience the record before it is what holds."""
    monkeypatch.setattr("hyperscale.recording.leases._PATIENCE_S", 0.0)
    shelf = Cupboard()
    first = Leases(Register(shelf), PlayedHeart("first", set()))
    assert first.take(DIGESTS[:1])
    shelf.files["2.json"] = rubbish
    second = Leases(Register(shelf), PlayedHeart("second", set()))
    assert not second.take(DIGESTS[:1])
    assert second.take(DIGESTS[1:2])
    assert set(Register(shelf).read()[1]) == {"first", "second"}


def test_a_store_that_lists_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was created never shows: an error for users instead of an endless loop."""
    monkeypatch.setattr("hyperscale.recording.leases._MOST_TRIES", 3)
    shelf = Cupboard()
    shelf.files["1.json"] = b"{}"
    shelf.names = list  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="could not be changed in 3 tries"):
        Leases(Register(shelf), PlayedHeart("ours", set())).take(DIGESTS)


def test_a_heart_beats_by_itself(tmp_path: Path) -> None:
    """Every sixth of the lease at least, whatever the driver does; the first beat that fails is an error."""
    heart = Heart(LocalShelf(tmp_path), "ours", 0.3)
    heart.start()
    first: Any = heart.mark()
    heart._thread.join(0.4)  # type: ignore[union-attr]
    assert (tmp_path / "ours.json").stat().st_mtime > first
    assert heart.age("ours", first) < 0
    assert heart.age("nobody", first) == float("inf")
    heart.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Heart(LocalShelf(tmp_path / "file" / "sub"), "ours", 60.0).start()


def test_process_is_told_from_its_account() -> None:
    """An account read back from JSON is equal to the one written."""
    here = this_process()
    assert Process(host=here.host, boot=here.boot, pid=here.pid, started=here.started) == here
    assert here.started
