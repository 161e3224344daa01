"""A study whose every outcome is known exactly, whose trials take as long as told, and that writes down its work.

A trial iterates the logistic map from a start of its own in double precision: chaotic, so that a step that was left
out, done twice or restored wrongly shows in the last bits. Every slice of work is one line of a ledger, appended at
once, so that work done twice is counted. Files in the study's folder tell a worker to run out of memory, to be killed
as the system does when memory is short, or to hang; the worker that takes such a file away obeys it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SOURCE = '''
"""Logistic maps: known outcomes, work written down, faults on demand.

Question    Is any trial lost or counted twice, whatever fails?
"""

import json
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from hyperscale import Study
from hyperscale.settings.setting import Cost, Outcome, Setting

FOLDER = Path({folder!r})
STEPS, SLICE_S = {steps}, 0.25


def take(order):
    """Whether this worker is the one to obey an order."""
    try:
        (FOLDER / order).rename(FOLDER / f"{order}-taken-{os.getpid()}-{secrets.token_hex(4)}")
    except OSError:
        return False
    return True


class Maps:
    """Logistic maps side by side."""

    def __init__(self, members):
        self.members, self.num_steps, self.step = members, STEPS, 0
        self.x = torch.tensor([m.value + 0.001 * seed for m, seed in members], dtype=torch.float64)
        self.id = secrets.token_hex(6)
        self.step_s = float((FOLDER / "step_s").read_text())

    def measure_step(self, slice_s, synchronize):
        return max(self.step_s, 1e-3)

    def advance(self, max_seconds):
        if take("memory"):
            raise MemoryError("told to run out of memory")
        if take("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        while take("hang"):
            time.sleep(3600)
        started, first = time.monotonic(), self.step
        while self.step < STEPS and (not self.step_s or time.monotonic() - started < min(SLICE_S, max_seconds)):
            time.sleep(self.step_s)
            self.x = 3.99 * self.x * (1 - self.x)
            self.step += 1
        line = {
            "at": time.time(), "run": self.id, "pid": os.getpid(), "from": first, "to": self.step,
            "value": self.members[0][0].value, "seeds": [seed for _, seed in self.members],
        }
        ledger = os.open(FOLDER / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(ledger, json.dumps(line).encode() + b"\\n")
        os.close(ledger)
        return self.step >= STEPS

    def state(self):
        return {"step": self.step, "x": self.x}

    def restore(self, state):
        self.step, self.x = int(state["step"]), state["x"].clone()

    def restore_part(self, state, members):
        self.step, self.x = int(state["step"]), state["x"][list(members)].clone()

    def outcomes(self):
        return [
            Outcome(status="diverged", reason="it came near 0")
            if x < 0.05
            else Outcome(status="finished", metrics={"sup_error": x, "rmse": x / 3}, curves={"loss": [[0, 1], [x, x]]})
            for x in self.x.tolist()
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Map(Setting):
    value: float

    @property
    def method_name(self):
        return "Map"

    def columns(self):
        return {"kind": "map", "method": "Map", "num_params_primary": round(1000 * self.value), "value": self.value}

    def metric_names(self):
        return ("sup_error", "rmse")

    def program(self):
        return self.value

    def cost(self):
        return Cost(flops=1.0, num_steps=STEPS, memory_bytes=1)

    def start(self, members, device):
        return Maps(members)


study = Study(
    name="chaos",
    settings=[Map(value=0.1 + 0.8 * i / {settings}) for i in range({settings})],
    seeds=range({seeds}),
    metrics=("sup_error", "rmse"),
)
'''


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How large a study is: its packs are of one setting each, and take ``steps * step_s`` seconds."""

    settings: int = 42
    seeds: int = 12
    steps: int = 40
    step_s: float = 0.1

    @property
    def num_trials(self) -> int:
        """How many trials it has."""
        return self.settings * self.seeds

    @property
    def member_steps(self) -> int:
        """How many steps its trials take in all."""
        return self.num_trials * self.steps


def write_study(folder: Path, shape: Shape, step_s: float | None = None) -> Path:
    """Write a study file into a folder of its own, which its workers will use, too."""
    folder.mkdir(parents=True, exist_ok=True)
    text = SOURCE
    for name in ("settings", "seeds", "steps"):
        text = text.replace(f"{{{name}}}", str(getattr(shape, name)))
    path = folder / "chaos_study.py"
    path.write_text(text.replace("{folder!r}", repr(str(folder))))
    (folder / "step_s").write_text(str(shape.step_s if step_s is None else step_s))
    return path
