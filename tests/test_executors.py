"""One contract that every executor passes, and what is particular to each."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperscale.dispatch import ray_packs
from hyperscale.dispatch import worker as worker_module
from hyperscale.dispatch.executor import Executor
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.pack_queue import Patience
from hyperscale.dispatch.ray_tune import RayTune, check_address
from hyperscale.dispatch.worker import PackWorker
from hyperscale.errors import ResourceError, StoreError
from hyperscale.packing import make_packs
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study
from hyperscale.training.trainer import TrainingRun
from hyperscale.trial import TrialResult, TrialStatus
from tests.faults import fault_study

EXECUTORS = [
    pytest.param(lambda: InProcess(device="cpu"), id="in-process"),
    pytest.param(lambda: RayTune(patience=Patience(max_failures=1)), id="ray", marks=pytest.mark.ray),
]


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Executor:
    """Return an executor; Ray's joins the session's."""
    made: Executor = request.param()
    if made.name == "ray":
        request.getfixturevalue("local_ray")
    return made


class Events:
    """Collects what an executor reports."""

    def __init__(self, stop_after: int | None = None, others: Sequence[int] = ()) -> None:
        self.others = others
        self.nodes: dict[int, str] = {}
        self.losses: list[tuple[int, str, str]] = []
        self.excluded: dict[str, str] = {}
        self.results: list[TrialResult] = []
        self.fractions: dict[int, list[float]] = {}
        self.stop_after = stop_after

    @property
    def stopping(self) -> bool:
        """Stop once enough trials have ended."""
        return self.stop_after is not None and len(self.results) >= self.stop_after

    def lease(self, pack: int) -> bool:
        """Every pack may start, unless told otherwise."""
        return pack not in self.others

    def placed(self, pack: int, node: str, readings: Mapping[str, Any] | None = None) -> None:
        """Note where a pack is."""
        self.nodes[pack] = node

    def lost(self, pack: int, node: str, reason: str) -> None:
        """Note a loss."""
        self.losses.append((pack, node, reason))

    def left_out(self, node: str, reason: str) -> None:
        """Note a node that is left out."""
        self.excluded[node] = reason

    def progress(self, pack: int, fraction: float) -> None:
        """Note a fraction."""
        self.fractions.setdefault(pack, []).append(fraction)

    def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
        """Note results."""
        self.results.extend(results)


def by_digest(results: Sequence[TrialResult]) -> dict[str, TrialResult]:
    """Index results, checking that none came twice."""
    found = {result.digest: result for result in results}
    assert len(found) == len(results)
    return found


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
class TestExecutorContract:
    """Obligations of `Executor`."""

    def test_every_trial_is_reported_once_with_its_outcome(
        self, executor: Executor, write_study: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Well, diverging, raising and memory-hungry trials of one pack all end with their own status."""
        study = load_study(write_study(fault_study(tmp_path, ["well", "diverge", "raise", "memory", "well"]))).study
        trials, events = study.trials(), Events()
        executor.run(make_packs(trials, max_members=8), events, tmp_path / "checkpoints")
        found = by_digest(events.results)
        assert set(found) == {trial.digest for trial in trials}
        wanted = {"well": "finished", "diverge": "diverged", "raise": "failed", "memory": "out_of_memory"}
        for trial in trials:
            result = found[trial.digest]
            assert result.status == wanted[trial.setting.columns()["mode"]]
            assert bool(result.reason) == (result.status != TrialStatus.FINISHED)
            if result.status == TrialStatus.FINISHED:
                assert result.metrics == {"sup_error": trial.setting.columns()["value"] + trial.seed / 7}

    def test_progress_ends_at_one(self, executor: Executor, tiny: StudyFile, tmp_path: Path) -> None:
        """Every pack reports progress that never falls and ends at 1."""
        packs, events = make_packs(tiny.study.trials()[:8]), Events()
        executor.run(packs, events, tmp_path / "checkpoints")
        assert set(events.fractions) == set(range(len(packs)))
        for fractions in events.fractions.values():
            assert fractions == sorted(fractions)
            assert fractions[-1] == 1.0

    def test_results_are_those_of_solo_packs_in_process(
        self, executor: Executor, tiny: StudyFile, tmp_path: Path
    ) -> None:
        """Metrics and curves are the same bits whatever the executor and the pack."""
        trials = tiny.study.trials()[:8]
        packed, solo = Events(), Events()
        executor.run(make_packs(trials), packed, tmp_path / "a")
        InProcess(device="cpu").run(make_packs(trials, max_members=1), solo, tmp_path / "b")
        ours, theirs = by_digest(packed.results), by_digest(solo.results)
        assert {d: (r.metrics, r.curves) for d, r in ours.items()} == {
            d: (r.metrics, r.curves) for d, r in theirs.items()
        }

    def test_stopping_ends_early_and_loses_nothing_reported(
        self, executor: Executor, write_study: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Once told to stop, an executor returns soon, and what it reported stands."""
        study = load_study(write_study(fault_study(tmp_path, ["slow"] * 12))).study
        events = Events(stop_after=4)
        executor.run(make_packs(study.trials(), max_members=2), events, tmp_path / "checkpoints")
        assert 4 <= len(events.results) < len(study.trials())
        by_digest(events.results)

    def test_a_driver_that_can_keep_nothing_ends_with_its_own_words(
        self, executor: Executor, write_study: Callable[..., Path], tmp_path: Path
    ) -> None:
        """When results cannot be made durable, the executor stops and the store's problem comes through."""

        class Full(Events):
            def ended(self, pack: int, results: Sequence[TrialResult]) -> None:
                raise StoreError("the disk is full")

        study = load_study(write_study(fault_study(tmp_path, ["well"] * 4))).study
        with pytest.raises(StoreError, match="the disk is full"):
            executor.run(make_packs(study.trials(), max_members=2), Full(), tmp_path / "checkpoints")


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
class TestRayTune:
    """What only a cluster can do."""

    def test_a_killed_worker_is_replaced(self, write_study: Callable[..., Path], tmp_path: Path, store: Store) -> None:
        """A worker killed once costs nothing; one that always dies ends its trials as failed, with a reason."""
        study_file = load_study(write_study(fault_study(tmp_path, ["die_once"], seeds=1)))
        assert Launch(study_file, store, RayTune(patience=Patience(max_failures=1))).run().finished == 1
        doomed = load_study(write_study(fault_study(tmp_path, ["die"], seeds=1)))
        launch = Launch(doomed, store, RayTune(patience=Patience(max_failures=1)))
        assert launch.run().failed == 1
        result = launch.journal.get(launch.trials[0].digest)
        assert result is not None
        assert "lost 2 times" in result.reason

    def test_a_trial_that_kills_or_blocks_its_worker_takes_nobody_along(
        self, write_study: Callable[..., Path], tmp_path: Path, store: Store
    ) -> None:
        """One trial kills whatever trains it, another never returns: both end alone, with reasons that name a node."""
        study_file = load_study(write_study(fault_study(tmp_path, ["well", "die", "well", "hang"], seeds=1)))
        told: list[str] = []
        executor = RayTune(patience=Patience(max_failures=0, silence_s=10.0))
        launch = Launch(study_file, store, executor, warn=told.append)
        summary = launch.run()
        assert (summary.finished, summary.failed, summary.missing) == (2, 2, 0)
        reasons = [record.result.reason for record in launch.journal.records(trial.digest for trial in launch.trials)]
        assert [reason[:10] for reason in reasons] == ["", "its worker", "", "its worker"]
        assert "no word for 10 s" in reasons[3]
        assert all(socket.gethostname() in reason for reason in reasons if reason)
        assert any("halves are tried" in text for text in told)

    def test_what_no_node_can_give_is_refused_before_launch(self, tiny: StudyFile, tmp_path: Path) -> None:
        """An infeasible request is an error that names what there is, not an endless wait."""
        packs = make_packs(tiny.study.trials()[:2])
        for resources in ({"cpus_per_pack": 64.0}, {"gpus_per_pack": 1.0}):
            with pytest.raises(ResourceError, match=r"no node of the cluster can ever give .*CPU 2"):
                RayTune(**resources).run(packs, Events(), tmp_path)

    @pytest.mark.parametrize(
        ("given", "environment", "joined"),
        [
            (None, None, None),
            (None, "", None),
            (None, "local", None),
            (None, "head:6379", "head:6379"),
            ("auto", "head:6379", "auto"),
        ],
    )
    def test_which_cluster_is_joined(
        self, given: str | None, environment: str | None, joined: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The option, else RAY_ADDRESS as for every Ray program, else none: a Ray of its own."""
        if environment is not None:
            monkeypatch.setenv("RAY_ADDRESS", environment)
        assert RayTune(given).address == joined

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "head-node"])
    def test_an_address_nobody_answers_at_is_a_clear_error(self, address: str) -> None:
        """Joining what is not there names the address and the ways out, at once."""
        with pytest.raises(ResourceError, match=rf"{address}.*--executor in-process"):
            check_address(address)


@pytest.mark.parametrize(
    ("asked", "grows", "workers"),
    [
        ({}, False, 8),  # where there is a GPU a pack takes a quarter of one
        ({"gpus_per_pack": 0.0}, False, 2 + 16),
        ({"gpus_per_pack": 1.0, "cpus_per_pack": 4.0}, False, 2),
        ({"cpus_per_pack": 0.5, "gpus_per_pack": 0.0}, False, 4 + 32),
        ({"gpus_per_pack": 1.0}, True, 16),
    ],
)
def test_packs_are_made_for_the_workers_of_the_cluster(
    asked: dict[str, float], grows: bool, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for this machine's cores: a small node with CPUs alone, one with two GPUs, one that is gone."""
    have: list[dict[str, Any]] = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray_packs, "may_grow", lambda: grows)
    executor = RayTune("head:6379", **asked)
    monkeypatch.setattr(executor, "_session", lambda: SimpleNamespace(nodes=lambda: have))
    assert executor.workers() == workers


class TestPackWorker:
    """Checkpoints and halving."""

    def test_a_checkpoint_is_taken_up_bit_for_bit(
        self, tiny: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pack interrupted in the middle goes on where it was and ends with the same numbers."""
        monkeypatch.setattr(worker_module, "CHECKPOINT_INTERVAL_S", 0.0)
        pack = make_packs(tiny.study.trials())[0]
        whole = PackWorker(pack).advance(1e9)
        first = PackWorker(pack, checkpoints=tmp_path)
        assert first.advance(0.0) == []
        assert (tmp_path / f"{pack.digest}.pt").exists()
        second = PackWorker(pack, checkpoints=tmp_path)
        assert second.advance(0.0) == []
        assert second.fraction > first.fraction
        rest = second.advance(1e9)
        assert [(r.digest, r.metrics, r.curves) for r in rest] == [(r.digest, r.metrics, r.curves) for r in whole]

    def test_halves_go_on_from_what_the_whole_had_saved(
        self, tiny: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Out of memory at the end, twice: quarters begin where the last save was, and end with the same numbers."""
        pack = make_packs(tiny.study.trials())[0]
        expected = PackWorker(pack).advance(1e9)
        begun: list[tuple[int, int]] = []
        evaluate, restore = TrainingRun._evaluate, TrainingRun.restore_part

        def fail(run: TrainingRun, member: int) -> Any:
            if len(run.steps) > len(pack.trials) / 4:
                raise MemoryError
            return evaluate(run, member)

        def note(run: TrainingRun, state: Mapping[str, Any], members: Sequence[int]) -> None:
            restore(run, state, members)
            begun.append((len(members), run.step))

        monkeypatch.setattr(TrainingRun, "_evaluate", fail)
        monkeypatch.setattr(TrainingRun, "restore_part", note)
        folder, results = tmp_path / "checkpoints", []
        worker = PackWorker(pack, checkpoints=folder, checkpoint_interval_s=0.0)
        while not worker.done:
            results += worker.advance(0.0)
            assert 0 <= worker.fraction <= 1
        half = len(pack.trials) // 2
        assert [members for members, _ in begun] == [half, half // 2, half // 2, half, half // 2, half // 2]
        assert min(step for _, step in begun) >= 38, "of 40 steps"
        assert sorted((r.digest, r.metrics, r.curves) for r in results) == sorted(
            (r.digest, r.metrics, r.curves) for r in expected
        )
        assert sorted(path.name for path in folder.iterdir()) == [f"{pack.digest}.json", f"{pack.digest}.pt"]

    def test_a_part_of_a_pack_goes_on_from_its_origin(self, tiny: StudyFile, tmp_path: Path) -> None:
        """A worker that is given a half begins where the whole was saved; that one's checkpoint stays."""
        pack = make_packs(tiny.study.trials())[0]
        expected = PackWorker(pack).advance(1e9)
        whole = PackWorker(pack, checkpoints=tmp_path, checkpoint_interval_s=0.0)
        while whole.fraction < 0.5:
            assert whole.advance(0.0) == []
        second = pack.halves()[1]
        worker = PackWorker(second, checkpoints=tmp_path, origins=[(pack, len(pack.trials) - len(second.trials))])
        assert worker.advance(0.0) == []
        assert worker.fraction >= whole.fraction
        results = worker.advance(1e9)
        assert [(r.digest, r.metrics) for r in results] == [
            (r.digest, r.metrics) for r in expected[-len(second.trials) :]
        ]
        assert (tmp_path / f"{pack.digest}.pt").exists()

    def test_a_damaged_checkpoint_costs_time_only(self, tiny: StudyFile, tmp_path: Path) -> None:
        """Garbage in a checkpoint's place is dropped and the pack starts afresh."""
        pack = make_packs(tiny.study.trials())[0]
        (tmp_path / f"{pack.digest}.pt").write_bytes(b"not a checkpoint")
        worker = PackWorker(pack, checkpoints=tmp_path)
        assert {r.status for r in worker.advance(1e9)} == {TrialStatus.FINISHED}

    def test_provenance_tells_how(self, tiny: StudyFile) -> None:
        """Results say device, pack size, versions, when, and their share of the time."""
        pack = make_packs(tiny.study.trials())[0]
        result = PackWorker(pack).advance(1e9)[0]
        assert result.provenance["device"] == "cpu"
        assert result.provenance["pack_size"] == len(pack.trials)
        assert {"torch", "python", "hyperscale"} <= set(result.provenance["versions"])
        assert result.provenance["wall_time_s"] > 0
