"""The heart of a launch: its sign of life in the store, written by a thread of its own, however busy the driver is."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hyperscale.errors import StoreError
from hyperscale.recording.processes import this_process
from hyperscale.recording.shelves import Shelf

BEAT_S = 2.0
_BEATS_A_LEASE = 6


class Heart:
    """Writes ``<launch>.json`` to a shelf every `BEAT_S` seconds from `start` to `close`.

    ``lease_s`` is how long others believe a sign of life.
    """

    def __init__(self, shelf: Shelf, launch: str, lease_s: float) -> None:
        self.launch = launch
        self.lease_s = lease_s
        self._shelf, self._beat_s = shelf, min(BEAT_S, lease_s / _BEATS_A_LEASE)
        self._shown: Mapping[str, Any] = {}
        self._writing = threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._beat_at = 0.0
        self._missed = False

    def start(self) -> None:
        """Write the first sign of life and go on; raises `StoreError` where that cannot be written."""
        if self._thread is None:
            self._beat()
            self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
            self._thread.start()

    def show(self, shown: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Say what the launch is doing; it is written with the next beat, or soon where it is ``urgent``."""
        self._shown = shown
        if urgent:
            self._wake.set()

    def mark(self) -> float:
        """Write a sign of life now; return when that was by the store's clock."""
        self._beat()
        written = self._shelf.modified(self._name)
        if written is None:
            raise StoreError(f"The sign of life {self._name} vanished from the store as soon as it was written.")
        return written

    def age(self, launch: str, now: float) -> float:
        """Return how old a launch's sign of life is at ``now`` (of `mark`), in seconds; infinite if there is none."""
        written = self._shelf.modified(f"{launch}.json")
        return float("inf") if written is None else now - written

    @property
    def faltered(self) -> bool:
        """Whether it has stood still, since `recover`, for so long that others may take this launch for dead."""
        return self._missed or self._silent_too_long()

    def recover(self) -> None:
        """Note that what there was to do about a standstill is being done, and write a sign of life."""
        self._missed = False
        self._beat()
        self._missed = False

    @property
    def _name(self) -> str:
        return f"{self.launch}.json"

    def _silent_too_long(self) -> bool:
        """A quarter of the lease is left for what comes between asking and writing."""
        return bool(self._beat_at) and _now() - self._beat_at > 0.75 * self.lease_s

    def _beat(self) -> None:
        with self._writing:
            if self._closed:
                return
            self._missed |= self._silent_too_long()
            self._write({})

    def _write(self, more: Mapping[str, Any]) -> None:
        at = _now()
        process = this_process()
        data = {**self._shown, "heartbeat": time.time(), **asdict(process), **more}
        self._shelf.write(self._name, json.dumps(data).encode())
        self._beat_at = at

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._beat_s)
            self._wake.clear()
            with contextlib.suppress(StoreError):  # the next beat may succeed, and the driver hears of it by itself
                self._beat()

    def close(self, shown: Mapping[str, Any] | None = None) -> None:
        """Write the last sign of life, if there was a first."""
        if self._thread is None:
            return
        with self._writing, contextlib.suppress(StoreError):
            self._closed = True
            self._shown = self._shown if shown is None else shown
            self._write({"ended": True})
        self._wake.set()
        self._thread.join()
        self._thread = None


def _now() -> float:
    """Return a time that goes on while the machine sleeps, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
