"""A study file whose trials fail on purpose, for the tests of executors. It is loaded like any user's file."""

SOURCE = '''
"""Trials that fail on purpose."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from hyperscale import Study
from hyperscale.settings.setting import Cost, Outcome, Setting


class Counting:
    """Counts to num_steps; the outcome is a function of setting and seed alone."""

    def __init__(self, members):
        self.members, self.num_steps, self.step = members, 20, 0
        for setting, seed in self.members:
            setting.note(seed)

    def advance(self, max_seconds):
        self.step += 5
        for setting, seed in self.members:
            setting.misbehave(seed, self.step)
        return self.step >= self.num_steps

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.step = int(state["step"])

    def outcomes(self):
        return [
            Outcome(status="diverged", reason="told to at step 5")
            if setting.mode == "diverge"
            else Outcome(status="finished", metrics={"sup_error": setting.value + seed / 7})
            for setting, seed in self.members
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Faulty(Setting):
    value: float
    mode: str = "well"
    folder: str = ""

    @property
    def method_name(self):
        return "Faulty"

    def columns(self):
        return {"kind": "faulty", "method": "Faulty", "value": self.value, "mode": self.mode}

    def metric_names(self):
        return ("sup_error",)

    def program(self):
        return "one program"

    def cost(self):
        return Cost(flops=1.0, num_steps=20, memory_bytes=1)

    def start(self, members, device):
        return Counting(members)

    def note(self, seed):
        if self.mode.startswith("noted"):
            with (Path(self.folder) / "ledger").open("a") as ledger:
                ledger.write(f"{self.value:g} {seed} {os.getpid()}\\n")

    def misbehave(self, seed, step):
        if self.mode.endswith("raise"):
            raise ValueError("told to raise")
        if self.mode == "memory":
            raise MemoryError("told to run out of memory")
        if self.mode == "noted":
            time.sleep(0.02)
        if self.mode == "hang":
            time.sleep(600)
        if self.mode == "slow":
            time.sleep(0.15)
        flag = Path(self.folder) / f"killed-{seed}"
        if self.mode == "die" or (self.mode == "die_once" and not flag.exists()):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)


study = Study(
    name="faults",
    settings=[Faulty(value=float(v), mode=m, folder={folder!r}) for v, m in enumerate({modes!r})],
    seeds=range({seeds}),
    metrics=("sup_error",),
)
'''


def fault_study(folder: object, modes: list[str], seeds: int = 2) -> str:
    """Return the text of a study file with one setting per mode."""
    text = SOURCE.replace("{folder!r}", repr(str(folder))).replace("{modes!r}", repr(modes))
    return text.replace("{seeds}", str(seeds))
