"""Which process this is, and whether another one that gave the same account of itself is still there."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process: its machine, that machine's start and process namespace, its number, and when it started."""

    host: str
    boot: str
    pid: int
    started: str

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; of another machine's processes, or another container's, nothing is."""
        if (self.host, self.boot) != (socket.gethostname(), boot_id()) or not self.boot:
            return False
        return start_of(self.pid) != self.started and not _is_hidden(self.pid)


def this_process() -> Process:
    """Return the calling process."""
    pid = os.getpid()
    return Process(host=socket.gethostname(), boot=boot_id(), pid=pid, started=start_of(pid))


@functools.cache
def boot_id() -> str:
    """Return what this start of the machine, and the process namespace, are known by; empty where nothing says."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def _is_hidden(pid: int) -> bool:
    """Whether a process is there but is somebody else's, of whom this machine tells nothing."""
    if start_of(pid):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def start_of(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
