"""What a process and its children listen on, read from /proc."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Listener:
    """One listening TCP socket: of which process, at which address."""

    pid: int
    program: str
    address: str
    port: int

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def descendants(pid: int) -> set[int]:
    """Return a process and everything that it started, children that it has adopted included."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listeners(pid: int) -> list[Listener]:
    """Return what a process and its descendants listen on."""
    sockets = dict(_listening_sockets())
    found = set()
    for member in descendants(pid):
        for inode in _inodes(member):
            if inode in sockets:
                address, port = sockets[inode]
                found.add(Listener(pid=member, program=arguments(member)[:120], address=address, port=port))
    return sorted(found)


def _listening_sockets() -> Iterator[tuple[str, tuple[str, int]]]:
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                address, port = fields[1].split(":")
                yield fields[9], (_address(address), int(port, 16))


def _address(text: str) -> str:
    """Return the address that the kernel writes as words of four bytes, each in the machine's byte order."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _inodes(pid: int) -> Iterator[str]:
    try:
        for entry in (Path("/proc") / str(pid) / "fd").iterdir():
            try:
                match = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            except OSError:
                continue
            if match:
                yield match.group(1)
    except OSError:
        return


def arguments(pid: int) -> str:
    """Return a process's command line, as everybody on the machine can read it; empty once it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty once it has ended."""
    try:
        entries = (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
