"""Processes by the session they belong to: found and ended without a look at their names."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def session_processes(session: int) -> dict[int, bytes]:
    """Return the live processes of a session and their command lines."""
    found: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


def kill_session(session: int) -> None:
    """Kill -9 everything in a session, until nothing is left of it."""
    while processes := session_processes(session):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
