"""`status --watch`: what is drawn, and when it ends."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile
from hyperscale.watch_view import plain_line, watch, watch_block

LAUNCH: dict[str, Any] = {
    "study": "tiny", "executor": "ray", "host": "head", "pid": 4121, "ended_trials": 12, "trials": 32,
    "running_packs": 3, "packs": 8, "trials_per_minute": 312.4, "remaining_s": 412, "elapsed_s": 130, "retries": 4,
    "nodes": {
        "gpu-a": {"packs": 3, "lost": 0, "left_out": None, "gpu_use": 0.91, "gpu_memory": 0.42},
        "gpu-b": {"packs": 0, "lost": 3, "left_out": "3 packs failed there"},
    },
}  # fmt: skip


def drawn(block: Any) -> str:
    """Return what a terminal would show."""
    console = Console(file=io.StringIO(), width=120)
    console.print(block)
    return console.file.getvalue()  # type: ignore[attr-defined]


def standing(**changes: Any) -> dict[str, Any]:
    """Return where an imagined study stands."""
    counts = {"finished": 12, "diverged": 0, "out_of_memory": 0, "failed": 0, "running": 6, "missing": 14}
    return {
        "study": "tiny",
        "run_command": "hyperscale run tiny.py",
        "trials": 32,
        **counts,
        "launches": [LAUNCH],
        **changes,
    }


def test_the_view_names_all_that_one_looks_for() -> None:
    """Nodes, packs, rate, retries, GPU use, time left, and a node that is left out with its reason."""
    text = drawn(watch_block("tiny: does it run?", standing()))
    for words in ("38 %", "3 of 8 packs", "312 trials/min", "4 retries", "7 min left", "process 4121", "gpu-a", "91 %",
                  "42 %", "left out: 3 packs failed there"):  # fmt: skip
        assert words in text
    assert plain_line(standing()) == (
        "32 trials: 12 finished, 6 running, 14 missing; 3 packs running, 312 trials/min, 7 min left; 4 retries."
    )


def test_a_study_that_nobody_runs_is_said_to_be_so() -> None:
    """Where no launch shows signs of life, the view says what would go on with it, or that it is complete."""
    assert "hyperscale run" in drawn(watch_block("t", standing(launches=[])))
    assert "Complete" in drawn(watch_block("t", standing(launches=[], missing=0, running=0)))


def test_watching_reads_what_another_driver_does_and_ends_with_it(tiny: StudyFile, store: Store) -> None:
    """Lines tell of trials recorded since the last look; the watch ends when all are there and the launch is over."""
    launch_file = store.folder / "launches" / "x.json"
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            launch_file.parent.mkdir(parents=True)
            launch_file.write_text(json.dumps({**LAUNCH, "heartbeat": time.time()}))
        elif len(looks) == 2:
            Launch(tiny, store, InProcess(device="cpu")).run()
        else:
            launch_file.write_text(json.dumps({**LAUNCH, "heartbeat": time.time(), "ended": True}))

    watch(tiny, store, None, console, sleep=sleep)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == len(looks) + 1 == 4
    assert "nobody is running it" in lines[0]
    assert "312 trials/min" in lines[1]
    assert "32 finished, 0 missing" in lines[2]
    assert "nobody" in lines[3]


def test_a_garbled_sign_of_life_spoils_nothing(tiny: StudyFile, store: Store, tmp_path: Path) -> None:
    """What another program wrote into a launch's file is left out of the view."""
    folder = store.folder / "launches"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("not JSON")
    (folder / "b.json").write_text(json.dumps({"heartbeat": time.time(), "study": "another"}))
    Launch(tiny, store, InProcess(device="cpu")).run()
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    watch(tiny, store, None, console, sleep=lambda seconds: None)
    assert "32 finished, 0 missing" in console.file.getvalue()  # type: ignore[attr-defined]
