"""Launches: resuming, retrying, interruption, and the kill of a driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hyperscale.dispatch.executor import Events
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.tally import Tally
from hyperscale.dispatch.worker import PackWorker
from hyperscale.errors import ResourceError, StudyError
from hyperscale.packing import Pack
from hyperscale.recording.journal import Journal
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study
from hyperscale.trial import TrialRecord, TrialResult
from tests.conftest import tiny_text
from tests.faults import fault_study


def outcome_table(study_file: StudyFile, store: Store) -> dict[str, object]:
    """Return everything about the trials but how they were computed."""
    records = store.journal("reader").records(trial.digest for trial in study_file.study.trials())
    return {r.result.digest: (r.result.status, r.result.metrics, r.result.curves, dict(r.columns)) for r in records}


def journal_trials(store: Store) -> list[str]:
    """Return the digest of every trial line of every segment, repeats included."""
    lines = [line for path in (store.folder / "journal").glob("*.jsonl") for line in path.read_text().splitlines()]
    parsed = []
    for line in lines:
        try:
            parsed.append(json.loads(line))
        except ValueError:
            continue
    return [data["digest"] for data in parsed if data["record"] == "trial"]


def test_running_again_runs_nothing(tiny: StudyFile, store: Store) -> None:
    """A second launch of a finished study trains no trial and writes no segment."""
    first = Launch(tiny, store, InProcess(device="cpu")).run()
    assert (first.ran, first.reused, first.finished, first.missing) == (32, 0, 32, 0)
    segments = sorted((store.folder / "journal").iterdir())
    second = Launch(tiny, store, InProcess(device="cpu")).run()
    assert (second.ran, second.reused, second.finished) == (0, 32, 32)
    assert sorted((store.folder / "journal").iterdir()) == segments


def test_one_more_learning_rate_runs_only_the_new_trials(write_study: Callable[..., Path], store: Store) -> None:
    """Adding settings to a study keeps what is there."""
    Launch(load_study(write_study(tiny_text(lrs="(0.003,)"))), store, InProcess(device="cpu")).run()
    summary = Launch(load_study(write_study(tiny_text(lrs="(0.003, 0.02)"))), store, InProcess(device="cpu")).run()
    assert (summary.ran, summary.reused, summary.finished) == (16, 16, 32)


def test_more_seeds_run_only_the_new_ones(tiny: StudyFile, store: Store) -> None:
    """`--seeds` takes the first seeds; the whole study later adds the rest."""
    assert Launch(tiny, store, InProcess(device="cpu"), num_seeds=1).run().ran == 16
    assert Launch(tiny, store, InProcess(device="cpu")).run().ran == 16


def test_failed_trials_are_tried_again_and_settled_ones_are_not(
    write_study: Callable[..., Path], store: Store, tmp_path: Path
) -> None:
    """Diverged is a result of the trial; failed and out of memory may be the machine's doing."""
    study_file = load_study(write_study(fault_study(tmp_path, ["well", "diverge", "raise", "memory"], seeds=1)))
    first = Launch(study_file, store, InProcess(device="cpu")).run()
    assert (first.finished, first.diverged, first.failed, first.out_of_memory) == (1, 1, 1, 1)
    second = Launch(study_file, store, InProcess(device="cpu")).run()
    assert (second.ran, second.reused) == (2, 2)


def test_an_interrupted_launch_goes_on_to_the_same_table(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """Stopping in the middle and running again gives the table of an uninterrupted run, bit for bit."""
    study_file = load_study(write_study(tiny_text(steps=200), "tiny.py"))
    whole, broken = Store(folder=tmp_path / "whole"), Store(folder=tmp_path / "broken")
    Launch(study_file, whole, InProcess(device="cpu")).run()

    def stop_soon(tally: Tally) -> None:
        if tally.ended_trials >= 8:
            tally.stop_requested.set()

    first = Launch(study_file, broken, InProcess(device="cpu"), on_change=stop_soon).run()
    assert first.interrupted
    assert 8 <= first.ran < 32
    second = Launch(study_file, broken, InProcess(device="cpu")).run()
    assert second.ran == 32 - first.ran
    assert outcome_table(study_file, broken) == outcome_table(study_file, whole)
    assert sorted(journal_trials(broken)) == sorted(journal_trials(whole))


def test_ended_trials_are_durable_before_they_are_recorded(tiny: StudyFile, store: Store) -> None:
    """When MLflow's side hears of a trial, the journal on disk has it."""
    seen: list[bool] = []

    class Recording:
        def put(self, records: object) -> None:
            on_disk = set(journal_trials(store))
            seen.extend(record.result.digest in on_disk for record in records)  # type: ignore[attr-defined]

    Launch(tiny, store, InProcess(device="cpu"), recording=Recording()).run()
    assert len(seen) == 32
    assert all(seen)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder with a path short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="hs-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize("executor", ["in-process", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_killed_driver_loses_and_repeats_nothing(
    executor: str, write_study: Callable[..., Path], tmp_path: Path, short_folder: Path
) -> None:
    """Kill -9 of the driver in the middle, then `run` again: the table of an undisturbed run, no trial twice.

    The machine remembers the address of a cluster that is gone, as `ray start` leaves it: nobody asked to join that.
    """
    path = write_study(fault_study(tmp_path, ["slow"] * 10, seeds=2))
    study_file = load_study(path)
    whole, broken = Store(folder=tmp_path / "whole"), Store(folder=tmp_path / "broken")
    Launch(study_file, whole, InProcess(device="cpu")).run()
    command = [sys.executable, "-m", "hyperscale.cli", "run", str(path), "--no-mlflow", "--executor", executor]
    command += ["--store", str(broken.folder), "--max-pack", "2"]
    (short_folder / "ray").mkdir()
    (short_folder / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    said = tmp_path / "stderr.txt"
    with said.open("w") as file:
        environment = {**os.environ, "RAY_TMPDIR": str(short_folder)}
        driver = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (broken.folder / "journal").exists() or len(journal_trials(broken)) < 4:
        assert time.monotonic() < deadline
        assert driver.poll() is None, said.read_text()
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    kept = len(set(journal_trials(broken)))
    assert kept < 20
    summary = Launch(study_file, broken, InProcess(device="cpu")).run()
    assert summary.ran == 20 - kept
    assert outcome_table(study_file, broken) == outcome_table(study_file, whole)
    assert sorted(journal_trials(broken)) == sorted(journal_trials(whole))


def test_control_c_winds_down_and_exits_130(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """SIGINT ends `run` with exit code 130, keeps finished trials, and says how to go on."""
    path, store = write_study(fault_study(tmp_path, ["slow"] * 10, seeds=2)), Store(folder=tmp_path / "store")
    command = [sys.executable, "-m", "hyperscale.cli", "run", str(path), "--no-mlflow", "--executor", "in-process"]
    command += ["--store", str(store.folder), "--max-pack", "2", "--json"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (store.folder / "journal").exists() or len(journal_trials(store)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    output, messages = driver.communicate(timeout=30)
    assert driver.returncode == 130
    summary = json.loads(output)
    assert summary["interrupted"]
    assert summary["finished"] == len(journal_trials(store)) >= 2
    assert "Run the same command again" in messages


def test_training_needs_neither_ray_nor_mlflow_nor_the_analysis(
    write_study: Callable[..., Path], tmp_path: Path
) -> None:
    """With those packages absent, a study still trains in-process and is journalled."""
    text = tiny_text().replace("from analysis import theorems\n", "")
    path = write_study(text[: text.index("    claims=(")] + ")\n", "bare.py")
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'ray', 'mlflow', 'optuna', 'pandas', 'scipy', 'click', 'rich', 'seaborn'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from hyperscale.dispatch.in_process import InProcess\n"
        "from hyperscale.dispatch.launch import Launch\n"
        "from hyperscale.recording.store import Store\n"
        "from hyperscale.study import load_study\n"
        f"store = Store(folder=Path({str(tmp_path / 'bare')!r}))\n"
        f"print(Launch(load_study({str(path)!r}), store, InProcess(device='cpu')).run().finished)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "32\n", done.stderr


def test_a_refused_launch_leaves_nothing_behind(tiny: StudyFile, store: Store) -> None:
    """When the executor refuses before any trial has ended, the store is as it was: not there."""

    class Refusing(InProcess):
        def run(self, packs: object, events: object, checkpoints: Path) -> None:
            raise ResourceError("no node can ever give that")

    with pytest.raises(ResourceError):
        Launch(tiny, store, Refusing(device="cpu")).run()
    assert not store.folder.exists()


def test_more_seeds_than_the_study_has_are_refused(tiny: StudyFile, store: Store) -> None:
    """--seeds beyond the study's is an error that says how many there are."""
    with pytest.raises(StudyError, match=r"--seeds 3 asks for more than study 'tiny' has: 2"):
        Launch(tiny, store, InProcess(device="cpu"), num_seeds=3)


class Scripted(InProcess):
    """Trains each pack at once and hands its results to ``script``, which reports them as it likes."""

    def __init__(self, script: Callable[[int, Sequence[TrialResult], Events], None]) -> None:
        super().__init__(device="cpu")
        self.script = script

    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Call the script for every pack."""
        for index, pack in enumerate(packs):
            self.script(index, PackWorker(pack).advance(1e9), events)


def test_a_trial_reported_twice_counts_once(tiny: StudyFile, store: Store) -> None:
    """A worker died after half of its pack and began anew: the pack ends when its last trial has, and so does Tally."""
    seen: list[tuple[int, int, float]] = []

    def script(index: int, results: Sequence[TrialResult], events: Events) -> None:
        assert isinstance(events, Tally)
        for part in (results[:2], results[:2], results, results):
            events.ended(index, part)
            seen.append((events.ended_trials, events.running_packs, events.done_fraction))
            events.progress(index, 0.5)

    launch = Launch(tiny, store, Scripted(script), max_members=4)
    summary = launch.run()
    assert (summary.ran, summary.finished, len(launch.packs)) == (32, 32, 8)
    assert [ended for ended, _, _ in seen[:8]] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert [running for _, running, _ in seen[:4]] == [0, 1, 0, 0]
    assert [fraction for _, _, fraction in seen] == sorted(fraction for _, _, fraction in seen)
    assert seen[-1][2] == pytest.approx(1.0)


def test_what_is_recorded_is_what_the_journal_keeps(tiny: StudyFile, store: Store) -> None:
    """A failure reported after a success is not passed on, and the launch and the executor are named in each record."""
    passed: list[TrialRecord] = []

    class Recording:
        def put(self, records: Sequence[TrialRecord]) -> None:
            passed.extend(records)

    def script(index: int, results: Sequence[TrialResult], events: Events) -> None:
        events.ended(index, results)
        events.ended(index, [TrialResult.from_json({**result.to_json(), "status": "failed"}) for result in results])

    launch = Launch(tiny, store, Scripted(script), recording=Recording())
    assert launch.run().finished == 32
    assert passed == store.journal("reader").records(record.result.digest for record in passed)
    assert len(passed) == 32
    assert {record.result.provenance["launch"] for record in passed} == {launch.id}


def test_the_best_so_far_includes_earlier_launches(tiny: StudyFile, store: Store) -> None:
    """Each method's smallest error, whichever launch it is of; nothing is read before somebody looks."""
    Launch(tiny, store, InProcess(device="cpu"), num_seeds=1).run()
    best: list[dict[str, tuple[float, str]]] = []

    def look(tally: Tally) -> None:
        best.append({method: (value, record.result.digest) for method, (value, record) in tally.best.items()})

    Launch(tiny, store, InProcess(device="cpu"), on_change=look).run()
    digests = [trial.digest for trial in tiny.study.trials()]
    first = {trial.digest for trial in tiny.study.trials(1)}
    records = store.journal("reader").records(digests)

    def smallest(records: Sequence[TrialRecord]) -> dict[str, tuple[float, str]]:
        ordered = sorted(records, key=lambda record: -record.result.metrics["sup_error"])
        return {r.columns["method"]: (r.result.metrics["sup_error"], r.result.digest) for r in ordered}  # type: ignore[misc]

    assert best[0] == smallest([record for record in records if record.result.digest in first])
    assert best[-1] == smallest(records)


def test_a_finished_study_is_told_without_reading_its_results(
    tiny: StudyFile, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trials stand is known from the index alone, however many there are."""
    Launch(tiny, store, InProcess(device="cpu")).run()
    monkeypatch.setattr(Journal, "read", None)
    summary = Launch(tiny, store, InProcess(device="cpu")).run()
    assert (summary.ran, summary.reused, summary.finished) == (0, 32, 32)
