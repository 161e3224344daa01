"""Several drivers on one store: no trial twice, whatever one of them suffers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch, Summary
from hyperscale.recording.store import Store
from hyperscale.study import load_study
from tests.drivers import ends, together
from tests.faults import fault_study
from tests.test_launch import journal_trials, outcome_table

NUM_TRIALS = 40


@pytest.fixture
def study(write_study: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a study of trials that note in a ledger when they begin."""
    return write_study(fault_study(tmp_path, ["noted"] * (NUM_TRIALS // 2), seeds=2))


def ledger(tmp_path: Path) -> Counter[str]:
    """Return how often each trial was begun."""
    path = tmp_path / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.rpartition(" ")[0] for line in lines)


def wait_for_trials(store: Store, num_trials: int, drivers: list[subprocess.Popen[str]]) -> None:
    """Wait until the journal has so many trials."""
    deadline = time.monotonic() + 60
    while not (store.folder / "journal").exists() or len(journal_trials(store)) < num_trials:
        assert time.monotonic() < deadline
        assert all(driver.poll() is None for driver in drivers)
        time.sleep(0.01)


def test_two_drivers_share_a_study(study: Path, store: Store, tmp_path: Path) -> None:
    """Started at once they train every trial once between them, and each ends when the study is complete."""
    words = ["drive", study, store.folder, 60, 2]
    with together(tmp_path / "gate", words, words) as drivers:
        summaries = [summary for summary, _ in ends(drivers)]
    assert set(ledger(tmp_path).values()) == {1}
    assert len(ledger(tmp_path)) == len(journal_trials(store)) == len(set(journal_trials(store))) == NUM_TRIALS
    assert [summary["finished"] for summary in summaries] == [NUM_TRIALS] * 2
    assert [summary["missing"] for summary in summaries] == [0, 0]
    for summary in summaries:
        assert summary["ran"] + summary["elsewhere"] + summary["reused"] == NUM_TRIALS  # type: ignore[operator]
    assert sum(summary["ran"] for summary in summaries) == NUM_TRIALS  # type: ignore[misc]
    assert all(summary["ran"] for summary in summaries)
    (record,) = [path for path in (store.folder / "leases").iterdir() if json.loads(path.read_text()) == {}]
    assert int(record.stem) >= 2


def test_a_driver_takes_over_what_a_killed_one_leaves(study: Path, store: Store, tmp_path: Path) -> None:
    """Kill -9 of one of two: the other trains the rest, and the table is that of an undisturbed run."""
    words = ["drive", study, store.folder, 60, 4]
    with together(tmp_path / "gate", words, words) as drivers:
        wait_for_trials(store, 8, drivers)
        drivers[0].kill()
        ((summary, _),) = ends(drivers[1:])
    assert (summary["finished"], summary["missing"]) == (NUM_TRIALS, 0)
    assert len(journal_trials(store)) == len(set(journal_trials(store))) == NUM_TRIALS
    assert sum(ledger(tmp_path).values()) <= NUM_TRIALS + 4
    study_file, whole = load_study(study), Store(folder=tmp_path / "whole")
    Launch(study_file, whole, InProcess(device="cpu")).run()
    assert outcome_table(study_file, store) == outcome_table(study_file, whole)


def test_a_driver_that_stood_still_adds_nothing_that_others_have_done(
    study: Path, store: Store, tmp_path: Path
) -> None:
    """Stopped for longer than its lease and then continued: its trials were taken over, and each is recorded once."""
    words = ["drive", study, store.folder, 1.0, 8]
    with together(tmp_path / "gate", words, words) as drivers:
        wait_for_trials(store, 8, drivers)
        os.kill(drivers[0].pid, signal.SIGSTOP)
        ((first, _),) = ends(drivers[1:])
        os.kill(drivers[0].pid, signal.SIGCONT)
        ((second, _),) = ends(drivers[:1])
    assert (first["finished"], second["finished"]) == (NUM_TRIALS, NUM_TRIALS)
    assert len(journal_trials(store)) == len(set(journal_trials(store))) == NUM_TRIALS
    assert sum(ledger(tmp_path).values()) <= NUM_TRIALS + 8
    assert first["ran"] + second["ran"] == NUM_TRIALS  # type: ignore[operator]


def launched_together(paths: Sequence[Path], store: Store, max_members: int) -> list[Summary]:
    """Launch studies at once, each in a thread of this process."""
    launches = [Launch(load_study(path), store, InProcess(device="cpu"), max_members=max_members) for path in paths]
    with ThreadPoolExecutor(len(launches)) as threads:
        return [future.result() for future in [threads.submit(launch.run) for launch in launches]]


def test_two_studies_share_their_common_trials(write_study: Callable[..., Path], store: Store, tmp_path: Path) -> None:
    """Settings that two studies have in common are trained by one of their drivers, and both studies have them."""
    texts = [fault_study(tmp_path, ["noted"] * number, seeds=2) for number in (10, 15)]
    paths = [write_study(text.replace('"faults"', f'"study{i}"'), f"study{i}.py") for i, text in enumerate(texts)]
    summaries = launched_together(paths, store, 2)
    assert [summary.finished for summary in summaries] == [20, 30]
    assert all(summary.ran and summary.elsewhere for summary in summaries)
    assert set(ledger(tmp_path).values()) == {1}
    assert len(ledger(tmp_path)) == 30


def test_failing_trials_are_tried_by_one_driver(write_study: Callable[..., Path], store: Store, tmp_path: Path) -> None:
    """What failed before is tried again once, by whichever driver comes first, and not again by it or the other."""
    path = write_study(fault_study(tmp_path, ["noted raise"] * 6, seeds=2))
    Launch(load_study(path), store, InProcess(device="cpu"), max_members=1).run()
    assert set(ledger(tmp_path).values()) == {1}
    summaries = launched_together([path, path], store, 1)
    assert [summary.failed for summary in summaries] == [12, 12]
    assert sum(summary.ran for summary in summaries) == 12
    assert set(ledger(tmp_path).values()) == {2}
