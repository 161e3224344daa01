"""Rounds of a chaos study: faults at random moments, whatever they need to go on, and the account at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.faults import KINDS
from tests.chaos.ground import Ground, Table
from tests.chaos.ledger import Repeat

_STUCK_S = 150.0  # no work by anybody for so long; on a busy machine new workers alone take half of that
_MOST_RUNS = 6


@dataclass(kw_only=True)
class Struck:
    """A fault that struck, and what became of it."""

    kind: str
    at: float
    detail: str = ""
    ended_at: float = 0.0
    settled: set[str] = field(default_factory=set, repr=False)
    run_again: int = 0
    stuck: bool = False
    lost: int = 0
    repeats: list[Repeat] = field(default_factory=list)
    recovered_s: float | None = None


@dataclass(kw_only=True)
class Account:
    """What a round came to."""

    faults: list[Struck]
    num_trials: int
    lost: int
    different: int
    twice: int
    written_twice: int
    mlflow_equal: bool | None
    unexplained: list[Repeat]
    num_runs: int
    wall_s: float
    not_struck: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, counted twice or changed."""
        return not (self.lost or self.different or self.twice) and self.mlflow_equal is not False


class Round:
    """One go at a study under faults of the given kinds, at seeded random moments."""

    def __init__(
        self,
        ground: Ground,
        kinds: Sequence[str],
        chance: random.Random,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.ground, self.chance, self.say = ground, chance, say
        moments = sorted(chance.uniform(0.02, 0.85) for _ in kinds)
        self.plan = [(moment, chance.uniform(0.0, 1.5), kind) for moment, kind in zip(moments, kinds, strict=True)]
        self.struck: list[Struck] = []
        self._driver_since = 0.0

    def run(self, reference: Table) -> Account:
        """Run the study to its end and give account."""
        started = time.time()
        self._start()
        not_struck = []
        for moment, delay_s, kind in self.plan:
            if self._reach(moment, delay_s):
                self._strike(kind)
            else:
                not_struck.append(kind)
        self._reach(2.0, 0.0)
        return self._account(reference, time.time() - started, not_struck)

    def _start(self) -> None:
        self.ground.start_driver()
        self._driver_since = time.time()

    def _reach(self, fraction: float, delay_s: float) -> bool:
        """Wait until the study has come so far, running it again where it must; False where it ended before."""
        while self.ground.fraction < fraction:
            if self.ground.finished:
                return False
            self._mend()
            time.sleep(0.2)
        deadline = time.time() + delay_s
        while time.time() < deadline:
            self._mend()
            time.sleep(0.1)
        return not self.ground.finished

    def _mend(self) -> None:
        """Run the study again where its driver died, or is stuck."""
        ground = self.ground
        if ground.died():
            self._again(stuck=False)
        elif not ground.finished and time.time() - self._last_sign() > _STUCK_S:
            ground.kill_driver()
            self._again(stuck=True)

    def _last_sign(self) -> float:
        """Return when there last was work, a new driver or a fault: since then nothing has happened."""
        faults = [fault.ended_at for fault in self.struck[-1:]]
        return max(self.ground.ledger.last_at, self._driver_since, *faults)

    def _again(self, *, stuck: bool) -> None:
        ground = self.ground
        assert ground.driver is not None
        if self.struck:
            self.struck[-1].run_again += 1
            self.struck[-1].stuck |= stuck
        if not self.struck or self.struck[-1].run_again > _MOST_RUNS:
            raise AssertionError(
                f"The driver ended with {ground.driver.poll()} and no fault to blame: {ground.words()}"
            )
        ground.returncodes.append(ground.driver.returncode)
        self.say(f"    run again ({ground.driver.returncode}{', stuck' if stuck else ''})")
        self._start()

    def _strike(self, kind: str) -> None:
        fault = Struck(kind=kind, at=time.time(), settled=self.ground.settled())
        self.struck.append(fault)
        fault.detail = KINDS[kind].strike(self.ground, self.chance)
        fault.ended_at = time.time()
        self.say(f"  {self.ground.fraction:4.0%}  {kind}: {fault.detail}")

    def _account(self, reference: Table, wall_s: float, not_struck: list[str]) -> Account:
        ground = self.ground
        ground.ledger.read()
        settled = ground.settled()
        for fault, following in zip(self.struck, [*self.struck[1:], None], strict=True):
            fault.lost = len(fault.settled - settled)
            until = ground.ledger.last_at if following is None else following.at
            fault.recovered_s = ground.ledger.back_at_work(fault.at, until)
        unexplained = [repeat for repeat in ground.ledger.repeats() if not self._blame(repeat)]
        table = ground.table()
        lines = [line for path in (ground.store / "journal").glob("*.jsonl") for line in path.read_bytes().splitlines()]
        num_lines = sum(line.startswith(b'{"record":"trial"') or b'"record":"trial"' in line[:80] for line in lines)
        return Account(
            faults=self.struck,
            num_trials=len(reference),
            lost=len(reference.keys() - table.keys()) + (len(reference) - len(settled)),
            different=sum(table.get(key) != row for key, row in reference.items() if key in table),
            twice=len(table.keys() - reference.keys()),
            written_twice=num_lines - len(reference),
            mlflow_equal=None if ground.mlflow == "none" else ground.table_of_mlflow() == table,
            unexplained=unexplained,
            num_runs=ground.num_runs,
            wall_s=wall_s,
            not_struck=not_struck,
        )

    def _blame(self, repeat: Repeat) -> bool:
        """Put repeated work on the account of the first fault after it was broken off; False where there is none."""
        near = [f for f in self.struck if repeat.broken_at - 1.5 <= f.ended_at and f.at <= repeat.began_at]
        if not near:
            return False
        disputed = any(not KINDS[fault.kind].keeps_checkpoints for fault in near[1:])
        near[0].repeats.append(replace(repeat, disputed=disputed))
        return True
