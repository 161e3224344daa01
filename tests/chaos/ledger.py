"""What the workers of a chaos study wrote down: how far it has come, and what was done more than once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Member = tuple[float, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A slice of work: members (value, seed) of one go at a pack, from one step to another, ended ``at`` a time."""

    at: float
    run: str
    members: tuple[Member, ...]
    first: int
    last: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A go at a pack that did steps which had been done before.

    ``broken_at`` is when the last of the earlier goes wrote its last line before this one began, ``steps`` the most
    steps that a member repeated, ``member_steps`` what that makes over all members. ``disputed`` is whether it may be
    the doing of another fault at the same time, one that spoils checkpoints.
    """

    broken_at: float
    began_at: float
    steps: int
    member_steps: int
    disputed: bool = False


class Ledger:
    """The lines of a ledger; `read` takes up what was appended since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.works: list[Work] = []
        self.reached: dict[Member, int] = {}
        self._offset = 0

    def read(self) -> None:
        """Read what is new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for text in whole.splitlines():
            line = json.loads(text)
            members = tuple((line["value"], seed) for seed in line["seeds"])
            self.works.append(
                Work(at=line["at"], run=line["run"], members=members, first=line["from"], last=line["to"])
            )
            for member in members:
                self.reached[member] = max(self.reached.get(member, 0), line["to"])

    @property
    def done(self) -> int:
        """How many steps of members have been done, repeated ones counted once."""
        return sum(self.reached.values())

    @property
    def last_at(self) -> float:
        """When the last line was written, 0 where there is none."""
        return self.works[-1].at if self.works else 0.0

    def goes(self) -> list[list[Work]]:
        """Return the goes at packs in the order in which they began."""
        found: dict[str, list[Work]] = {}
        for work in self.works:
            found.setdefault(work.run, []).append(work)
        return sorted(found.values(), key=lambda works: works[0].at)

    def repeats(self) -> Iterator[Repeat]:
        """Yield the goes that did steps again."""
        reached: dict[Member, int] = {}
        last_at: dict[Member, float] = {}
        again: dict[str, dict[Member, int]] = {}
        broken: dict[str, float] = {}
        began: dict[str, float] = {}
        owner: dict[Member, str] = {}
        for work in self.works:
            began.setdefault(work.run, work.at)
            for member in work.members:
                before = reached.get(member, 0)
                overlap = min(work.last, before) - work.first
                if overlap > 0 and owner[member] != work.run:
                    counts = again.setdefault(work.run, {})
                    counts[member] = counts.get(member, 0) + overlap
                    broken.setdefault(work.run, last_at[member])
                if work.last > before or member not in owner:
                    reached[member], owner[member] = max(before, work.last), work.run
                    last_at[member] = work.at
        for run, counts in again.items():
            yield Repeat(
                broken_at=broken[run],
                began_at=began[run],
                steps=max(counts.values()),
                member_steps=sum(counts.values()),
            )

    def at_work(self, moment: float, within_s: float = 0.8) -> int:
        """Return how many goes at packs wrote a line around a moment."""
        return len({work.run for work in self.works if abs(work.at - moment) <= within_s})

    def back_at_work(self, moment: float, until: float, within_s: float = 0.8) -> float | None:
        """Return the seconds from a moment until as many packs were at work as before, 0 where there never were fewer.

        None where that was not before ``until``.
        """
        before, at, fewer = self.at_work(moment - within_s), moment + within_s, False
        while at < until:
            enough = self.at_work(at) >= before
            if fewer and enough:
                return at - moment
            fewer |= not enough
            at += 0.25
        return None if fewer else 0.0


def most(repeats: Sequence[Repeat]) -> int:
    """Return the most steps that a pack repeated."""
    return max((repeat.steps for repeat in repeats), default=0)
