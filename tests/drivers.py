"""Drivers and users of leases that run as processes of their own, for tests of several at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyperscale.recording.processes import this_process

REPOSITORY = Path(__file__).parent.parent


def start(*words: object) -> subprocess.Popen[str]:
    """Start ``python -m tests.drivers`` with these words."""
    command = [sys.executable, "-m", "tests.drivers", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@contextmanager
def together(gate: Path, *all_words: Sequence[object]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes and let them go on at the same moment, once all are ready; at last none is left."""
    gate.mkdir(parents=True)
    started = [start(*words[:1], gate, *words[1:]) for words in all_words]
    try:
        deadline = time.monotonic() + 120
        while sum(1 for _ in gate.glob("ready-*")) < len(started):
            assert time.monotonic() < deadline
            ended = [process for process in started if process.poll() is not None]
            assert not ended, ended[0].communicate()
            time.sleep(0.01)
        (gate / "go").touch()
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[dict[str, object], str]]:
    """Wait for processes; return what each printed as JSON, and what it said."""
    found = []
    for process in processes:
        output, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        found.append((json.loads(output), said))
    return found


def wait_at(gate: Path) -> None:
    """Say that this process is ready, and wait for the start."""
    (gate / f"ready-{os.getpid()}").touch()
    deadline = time.monotonic() + 120
    while not (gate / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def drive(gate: Path, study: Path, place: str, lease_s: float, max_members: int) -> dict[str, object]:
    """Launch a study in this process; return its summary."""
    from hyperscale.dispatch.in_process import InProcess
    from hyperscale.dispatch.launch import Launch
    from hyperscale.recording.store import Store
    from hyperscale.study import load_study

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    study_file, store = load_study(study), Store.at(place)
    executor = InProcess(device="cpu")
    launch = Launch(study_file, store, executor, max_members=max_members, warn=say, lease_s=lease_s)
    wait_at(gate)
    return launch.run().to_json()


def hammer(gate: Path, place: str, seed: int, num_turns: int) -> dict[str, object]:
    """Take and give up random trials; return how often that was granted. Two holders of one at a time fail."""
    from hyperscale.recording.store import Store

    draw, held = random.Random(seed), gate / "held"
    held.mkdir(exist_ok=True)
    leases = Store.at(place).leases(f"launch-{this_process().pid}")
    wait_at(gate)
    granted = 0
    for _ in range(num_turns):
        wanted = [f"{number:064x}" for number in (n << 200 for n in draw.sample(range(12), 3))]
        if leases.take(wanted):
            granted += 1
            for digest in wanted:
                (held / digest).touch(exist_ok=False)
            for digest in wanted:
                (held / digest).unlink()
            leases.release(wanted)
    leases.close()
    leases.heart.close()
    return {"granted": granted}


def main(verb: str, gate: str, *words: str) -> None:
    """Do what the words say, and print what came of it."""
    if verb == "drive":
        study, place, lease_s, max_members = words
        found = drive(Path(gate), Path(study), place, float(lease_s), int(max_members))
    else:
        place, seed, num_turns = words
        found = hammer(Path(gate), place, int(seed), int(num_turns))
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
