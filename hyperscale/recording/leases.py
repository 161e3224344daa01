"""Leases: which driver of a store trains which trials, so that several drivers never train the same one.

All of it is one small state, ``{launch: what it holds}``, kept in files ``<n>.json`` of which the highest is true. To
change it, file n + 1 is created exclusively; where somebody else has created it first, theirs is read and the change
tried again. So a reader needs one file, a change a few operations, and the store nothing but exclusive creation:
local folders, NFS and S3 (``If-None-Match``) have that.

A lease holds as long as its holder's sign of life (`Heart`) is fresh. It saves work and no more: results are the
journal's, and the same trial trained twice has the same result.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from hyperscale.errors import StoreError
from hyperscale.recording.heart import Heart
from hyperscale.recording.processes import Process, this_process
from hyperscale.recording.shelves import Shelf

LEASE_S = 60.0

_RECORD = re.compile(r"(\d{1,15})\.json")
_KEY_LENGTH = 16  # hex digits of a digest: 64 bits tell the trials of a store apart, and a mistake costs a wait
_PATIENCE_S = 5.0  # for a record that is there without its content: see `shelves`
_MOST_TRIES = 1000
_LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A launch and the trials it has leased; ``serial`` is the number of its changes."""

    launch: str
    process: Process
    serial: int = 0
    keys: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"launch {self.launch} (process {self.process.pid} on {self.process.host})"


State = Mapping[str, Holder]


class Register:
    """A state that several processes read and change, one change at a time."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def read(self) -> tuple[int, State]:
        """Return the number of the newest record and what it says; 0 and nothing where there is none."""
        began = time.monotonic()
        while True:
            numbers = self._numbers()
            if not numbers:
                return 0, {}
            state = self._parse(numbers[-1])
            if state is not None:
                return numbers[-1], state
            # Gone since it was listed, so there is a newer one; or its content is not there (yet).
            if time.monotonic() - began > _PATIENCE_S:
                older = self._parse(numbers[-2]) if len(numbers) > 1 else None
                return numbers[-1], older or {}
            time.sleep(0.01)

    def swap(self, number: int, state: State, own: str) -> bool:
        """Have ``state`` follow record ``number``; return False where another record did, or does by now.

        ``own`` names the only entry that differs from others' by will: by it a change that others have already built
        upon is told from one that came too late, on a number that was used and cleared away in the meantime.
        """
        if not self._shelf.create(f"{number + 1}.json", _encoded(state)):
            return False
        numbers = self._numbers()
        if numbers and numbers[-1] > number + 1 and self.read()[1].get(own) != state.get(own):
            return False
        for old in numbers:
            if old < number:
                self._shelf.remove(f"{old}.json")
        return True

    def _numbers(self) -> list[int]:
        return sorted(int(found[1]) for found in map(_RECORD.fullmatch, self._shelf.names()) if found)

    def _parse(self, number: int) -> State | None:
        data = self._shelf.read(f"{number}.json")
        try:
            return None if data is None else _decoded(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _encoded(state: State) -> bytes:
    entries = {
        launch: {"process": asdict(holder.process), "serial": holder.serial, "keys": sorted(holder.keys)}
        for launch, holder in state.items()
    }
    return json.dumps(entries, separators=(",", ":")).encode()


def _decoded(data: bytes) -> State:
    return {
        launch: Holder(
            launch=launch,
            process=Process(**entry["process"]),
            serial=int(entry["serial"]),
            keys=frozenset(entry["keys"]),
        )
        for launch, entry in json.loads(data).items()
    }


def _keys(digests: Iterable[str]) -> frozenset[str]:
    return frozenset(digest[:_KEY_LENGTH] for digest in digests)


class Leases:
    """What one launch has leased. Belongs to one thread; the first lease is its first mark on the store."""

    def __init__(self, register: Register, heart: Heart) -> None:
        self.heart = heart
        self._register = register
        self._me = Holder(launch=heart.launch, process=this_process())
        self._others: State = {}
        self._lost: frozenset[str] = frozenset()
        self._number: int | None = None  # of the newest record as far as is known, and None after any surprise
        self._written = 0
        self._met_others = True
        self._looked_at = float("-inf")

    def take(self, digests: Iterable[str]) -> bool:
        """Lease trials, all of them or none; return False where another live launch has one of them."""
        wanted = _keys(digests)
        if time.monotonic() - self._looked_at < _LOOK_S and self._rival(wanted):
            return False
        self.heart.start()
        taken = self._change(lambda: None if self._rival(wanted) else self._me.keys | wanted)
        self._lost -= wanted if taken else frozenset()
        return taken

    def settle(self, digests: Iterable[str]) -> None:
        """Give trials up that have ended. Others learn of that with the next change: the journal is what they ask."""
        self._me = replace(self._me, keys=self._me.keys - _keys(digests))

    def release(self, digests: Iterable[str]) -> None:
        """Give trials up that have not ended, for others to take at once."""
        given = _keys(digests)
        if given & self._me.keys:
            self._change(lambda: self._me.keys - given)

    def confirm(self) -> None:
        """After a standstill, in which others may have taken the leases: keep those that are still to be had."""
        self.heart.recover()
        held, self._number = self._me.keys, None
        self._change(lambda: frozenset(key for key in held if not self._rival(frozenset((key,)))))
        self._lost |= held - self._me.keys

    def forfeit(self, digests: Iterable[str]) -> None:
        """Hold trials for lost, because others were found to have settled them."""
        found = self._me.keys & _keys(digests)
        self._lost |= found
        self._me = replace(self._me, keys=self._me.keys - found)

    def lost(self, digest: str) -> bool:
        """Whether a trial was leased by this launch and fell to another one in a standstill."""
        return digest[:_KEY_LENGTH] in self._lost

    def holder(self, digest: str) -> Holder | None:
        """Return the live launch that has leased a trial, by the last `look`."""
        return self._rival(_keys((digest,)))

    def is_alive(self, launch: str) -> bool:
        """Whether a launch held leases and was alive at the last `look`."""
        return launch in self._others

    @property
    def has_others(self) -> bool:
        """Whether other launches were alive at the last `look`."""
        return bool(self._others)

    def meet(self) -> bool:
        """Whether other launches may have recorded results since this was last asked."""
        met, self._met_others = self._met_others, bool(self._others)
        return met

    def close(self) -> None:
        """Give everything up."""
        if self._me.serial:
            self._change(frozenset, last=True)
            self._me = replace(self._me, serial=0)

    def _rival(self, wanted: frozenset[str]) -> Holder | None:
        return next((holder for holder in self._others.values() if not wanted.isdisjoint(holder.keys)), None)

    def _change(self, keys: Callable[[], frozenset[str] | None], *, last: bool = False) -> bool:
        """Replace what this launch holds by what ``keys`` says under the newest state; None breaks off."""
        for tries in range(_MOST_TRIES):
            known = self._number is not None
            if self._number is None:
                self.look()
            assert self._number is not None
            chosen = keys()
            if chosen is None:
                self._number = None
                if known:  # the others may have died or ended since
                    continue
                return False
            me = replace(self._me, keys=chosen, serial=self._me.serial + 1)
            state = {**self._others, **({} if last else {me.launch: me})}
            self._me = replace(self._me, serial=me.serial)
            if self._register.swap(self._number, state, me.launch):
                self._me, self._number = me, self._number + 1
                self._written = self._number
                return True
            self._number = None
            time.sleep(random.uniform(0, 0.002 * 2 ** min(tries, 8)))
        raise StoreError(
            f"The store's leases could not be changed in {_MOST_TRIES} tries: other drivers are always first, or the "
            "store does not list what was just created. Run again."
        )

    def look(self) -> None:
        """Read the newest state; holders that are dead or silent for too long are left out of it."""
        self._number, state = self._register.read()
        others = {launch: holder for launch, holder in state.items() if launch != self._me.launch}
        self._met_others |= bool(others) or self._number != self._written
        silent = [holder for holder in others.values() if not holder.process.is_gone]
        now = self.heart.mark() if silent else 0.0
        self._others = {
            holder.launch: holder for holder in silent if self.heart.age(holder.launch, now) <= self.heart.lease_s
        }
        self._looked_at = time.monotonic()
