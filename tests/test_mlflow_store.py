"""MLflow as a view of the journal: nothing twice, nothing lost, nothing changed on the way."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from analysis.reporting.palette import method_style
from analysis.table import build_table
from hyperscale.errors import RecordingError
from hyperscale.recording.journal import Journal
from hyperscale.recording.mlflow_connection import sqlite_path
from hyperscale.recording.mlflow_packed import pack
from hyperscale.recording.mlflow_store import MlflowStore, ScalingCurve
from hyperscale.recording.outcomes import Journalled
from hyperscale.study import PER_SETTING, PER_TRIAL, Study, StudyFile
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus
from tests.ledgers import Ledger, given
from tests.untrained import Untrained


@dataclass(frozen=True, kw_only=True, slots=True)
class Toy(Untrained):
    """A setting whose result is a formula."""

    method: str
    width: int
    lr: float = 3e-3

    @property
    def method_name(self) -> str:
        """The method."""
        return self.method

    def columns(self) -> dict[str, Any]:
        """Numbers, and text that looks like a number."""
        return {
            "kind": "Toy",
            "method": self.method,
            "num_params_primary": 3 * self.width + 1,
            "lr": self.lr,
            "momentum": 1.0,
            "label": "7",
            "activation": "relu",
        }

    def metric_names(self) -> tuple[str, ...]:
        """Two metrics."""
        return ("sup_error", "rmse")


def make_file(form: str = PER_TRIAL, seeds: Sequence[int] = (1, 0)) -> StudyFile:
    """Return a study of two methods, two widths and two seeds."""
    settings = [Toy(method=m, width=w) for m in ("Hypernetwork", "Embedding") for w in (16, 2)]
    study = Study(name="toy", settings=settings, seeds=seeds, metrics=["sup_error", "rmse"], mlflow_runs=form)
    text = "Does it scale?\n\nQuestion: does it?"
    return StudyFile(study=study, description=text, source="study = 1\n", path=Path("toy.py"))


def make_result(trial: Trial, index: int, status: TrialStatus = TrialStatus.FINISHED) -> TrialResult:
    """Return the result of the index-th trial, with a curve over steps and one that is none."""
    good = status is TrialStatus.FINISHED
    value = 1 / 3 / (index + 1)
    points = [[0.1 * i for i in range(5)], [-0.2 * i for i in range(5)]]
    return TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=status,
        reason="" if good else "the loss became infinite at step 12",
        metrics={"sup_error": value, "rmse": 1e-17 * value, "best_step": 40} if good else {},
        curves={"train_loss": [[0, 1, 10, 100], [1.0, 0.5, 0.1, value]], "points": points},
        provenance={
            "ended_at": f"2026-11-20T10:00:{index:02d}.125+00:00",
            "wall_time_s": 2.5,
            "device": "cpu",
            "pack_size": 4,
            "versions": {"torch": "2"},
        },
    )


def make_records(file: StudyFile) -> list[TrialRecord]:
    """Return the study's records in its order: one diverged, one failed."""
    statuses = {2: TrialStatus.DIVERGED, 5: TrialStatus.FAILED}
    return [
        TrialRecord(
            result=make_result(trial, i, statuses.get(i, TrialStatus.FINISHED)), columns=trial.setting.columns()
        )
        for i, trial in enumerate(file.study.trials())
    ]


def changed(record: TrialRecord, **fields: Any) -> TrialRecord:
    """Return the record with some fields of its result replaced."""
    return replace(record, result=replace(record.result, **fields))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An SQLite store in a folder that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"


@pytest.fixture
def file() -> StudyFile:
    """The study."""
    return make_file()


@pytest.fixture
def records(file: StudyFile) -> list[TrialRecord]:
    """The study's records."""
    return make_records(file)


def runs(store: MlflowStore, kind: str = "trial") -> list[Any]:
    """Return the study's active runs of one kind."""
    return list(store._search(store._experiment("toy"), f"tags.kind = '{kind}'"))


class Counting:
    """A client that counts the requests made through it, and can break off before the n-th of a kind."""

    def __init__(self, client: Any, fail_on: str = "", after: int = 0) -> None:
        self._client, self._fail_on, self._after = client, fail_on, after
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            if name == self._fail_on and self.calls[name] > self._after:
                raise ConnectionError("cut off")
            return method(*args, **kwargs)

        return call


def test_a_study_read_back_from_mlflow_equals_the_journal(
    tmp_path: Path, uri: str, file: StudyFile, records: list[TrialRecord]
) -> None:
    """A colleague with the URI alone gets the same records, types, order and table."""
    trials = file.study.trials()
    with Journal(tmp_path / "journal", "one") as journal:
        journal.append([(t, r.result) for t, r in zip(trials, records, strict=True)])
        journalled = journal.records(t.digest for t in trials)
    assert MlflowStore(uri).sync(file, given(journalled), "launch-1") == len(trials)
    back = MlflowStore(uri).read_records("toy")
    assert back == journalled
    assert [list(map(type, r.columns.values())) for r in back] == [
        list(map(type, r.columns.values())) for r in journalled
    ]
    assert build_table(back).equals(build_table(journalled))


def test_replay_adds_only_what_is_missing(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """A second sync writes the rest, a third nothing, not even a launch."""
    store = MlflowStore(uri)
    assert store.sync(file, given(records[:3]), "launch-1") == 3
    assert store.sync(file, given(records), "launch-2") == 5
    assert MlflowStore(uri).sync(file, given(records), "launch-3") == 0
    assert len(runs(store)) == 8
    assert len(runs(store, "launch")) == 2  # the third launch had nothing to show
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs(store)}
    assert parents == {run.info.run_id for run in runs(store, "launch")}


@pytest.mark.parametrize("form", [PER_TRIAL, PER_SETTING])
def test_a_sync_holds_few_records_at_a_time(
    form: str, uri: str, records: list[TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is asked for a chunk after the other, and how much is left can be seen meanwhile."""
    monkeypatch.setattr("hyperscale.recording.mlflow_store._CHUNK", 2)
    ledger, left = Ledger(records), list[int]()
    store = MlflowStore(uri)
    record = store.record

    def watched(study_name: str, some: Sequence[TrialRecord], parent: str) -> int:
        left.append(store.num_left)
        return record(study_name, some, parent)

    monkeypatch.setattr(store, "record", watched)
    store.sync(make_file(form), Journalled(ledger, [r.result.digest for r in records]), "launch-1")
    assert ledger.largest == 2
    assert (left, store.num_left) == ([8, 6, 4, 2], 0)
    assert store.read_records("toy") == records


def test_half_written_runs_are_completed(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """A run that a killed driver left RUNNING is finished in place."""
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-1", file, 8)
    store._connection = Counting(store._client(), "log_batch", after=1)  # type: ignore[assignment]
    with pytest.raises(RecordingError, match="cut off"):
        store.record("toy", records[:2], parent)
    store = MlflowStore(uri)
    assert [run.terminated for run in store.recorded("toy").values()].count(False) == 1
    assert store.sync(file, given(records), "launch-2") == 7
    assert all(run.info.status != "RUNNING" for run in runs(store))
    assert store.read_records("toy") == records
    assert len(runs(store)) == 8
    assert all("sup_error" in run.data.metrics for run in runs(store) if run.info.status == "FINISHED")


def test_another_outcome_replaces_the_run(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """A failed trial that was tried again shows its newest outcome only."""
    store = MlflowStore(uri)
    store.sync(file, given(records), "launch-1")
    index = next(i for i, r in enumerate(records) if r.result.status is TrialStatus.FAILED)
    trial = file.study.trials()[index]
    again = changed(records[index], reason="no space", provenance={"ended_at": "2026-11-21T09:00:00+00:00"})
    assert store.sync(file, given([again]), "launch-2") == 1
    finished = replace(again, result=make_result(trial, index))
    assert store.sync(file, given([finished]), "launch-3") == 1
    assert len(runs(store)) == 8
    assert [o.status for o in store.recorded("toy")[trial.digest].outcomes] == ["finished"]
    assert store.read_records("toy")[index] == finished


def test_duplicates_are_removed(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """Two drivers that wrote the same trials leave one run each after a sync."""
    one, two = MlflowStore(uri), MlflowStore(uri)
    parent = one.begin_launch("launch-1", file, 8)
    two.open_study(file)
    two._found["toy"] = {}  # a second driver that has not seen the first one's runs
    one.record("toy", records, parent)
    two.record("toy", records[:2], parent)
    assert len(runs(one)) == 10
    assert len(one.read_records("toy")) == 8
    assert one.sync(file, given(records), "launch-2") == 0
    assert len(runs(one)) == 8


def test_three_requests_a_trial(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """Creating with tags, one batch, ending; one search for the whole launch."""
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-1", file, 8)
    counting = Counting(store._client())
    store._connection = counting  # type: ignore[assignment]
    store.record("toy", records, parent)
    assert counting.calls.pop("search_runs") == 1
    assert counting.calls == {"create_run": 8, "log_batch": 8, "set_terminated": 8}


def test_a_run_shows_what_people_look_for(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """Name, params, metrics, history, status, colour; seven visible tags and no more."""
    store = MlflowStore(uri)
    store.sync(file, given(records), "launch-1")
    by_name = {run.info.run_name: run for run in runs(store)}
    run = by_name["Hypernetwork N=49 seed=1"]
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.003"
    assert run.data.params["num_params_primary"] == "49"
    assert set(run.data.metrics) == {"sup_error", "rmse", "best_step", "wall_time_s", "train_loss"}
    assert run.info.end_time - run.info.start_time == 2500
    history = store._client().get_metric_history(run.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (10, 0.1), (100, 1 / 3)]
    visible = {name for name in run.data.tags if not name.startswith("mlflow.")}
    assert visible == {"kind", "study", "method", "seed", "status", "setting", "digest"}
    bad = by_name["Hypernetwork N=7 seed=1"]
    assert (bad.info.status, bad.data.tags["status"]) == ("FAILED", "diverged")
    assert "infinite at step 12" in bad.data.tags["reason"]
    assert run.data.tags["mlflow.runColor"] == method_style("Hypernetwork").colour


def test_long_curves_go_to_an_artifact(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """Curves too long for tags still come back to the last bit."""
    values = [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    big = changed(records[0], curves={"points": [values, values[::-1]], "train_loss": [[0, 1], [1.0, 0.1]]})
    assert pack(big).curves is not None
    store = MlflowStore(uri)
    assert store.sync(file, given([big]), "launch-1") == 1
    assert MlflowStore(uri).read_records("toy") == [big]
    assert store.notices == []


def test_an_artifact_that_cannot_be_stored_is_a_notice(
    tmp_path: Path, uri: str, file: StudyFile, records: list[TrialRecord]
) -> None:
    """A bad artifact root loses the artifact, not the trials."""
    (tmp_path / "occupied").write_text("a file, not a folder")
    store = MlflowStore(uri, tmp_path / "occupied")
    assert store.sync(file, given(records), "launch-1") == 8
    assert "could not store the artifact" in store.notices[0]


def test_experiments_are_reused_and_restored(uri: str, file: StudyFile, records: list[TrialRecord]) -> None:
    """One experiment a study, also after someone deleted it."""
    store = MlflowStore(uri)
    first = store.open_study(file)
    store._client().delete_experiment(first)
    assert MlflowStore(uri).open_study(file) == first
    found = store._client().get_experiment(first)
    assert found.lifecycle_stage == "active"
    assert found.tags["mlflow.note.content"] == file.description


def test_launches_are_found_again_and_abandoned_ones_ended(uri: str, file: StudyFile) -> None:
    """A launch has one run; that of a dead driver does not stay RUNNING."""
    store = MlflowStore(uri)
    first = store.begin_launch("launch-1", file, 8)
    assert MlflowStore(uri).begin_launch("launch-1", file, 8) == first
    dead = subprocess.Popen(["true"])
    dead.wait()
    store._client().set_tag(first, "mlflow.hyperscale.driver", f"{socket.gethostname()}:{dead.pid}")
    second = store.begin_launch("launch-2", file, 8)
    store.end_launch(second, "interrupted")
    statuses = {run.data.tags["launch"]: run.info.status for run in runs(store, "launch")}
    assert statuses == {"launch-1": "KILLED", "launch-2": "KILLED"}
    assert store._load_text(first, "study/toy.py") == file.source


def test_curves_are_replaced_and_reports_attached(
    tmp_path: Path, uri: str, file: StudyFile, records: list[TrialRecord]
) -> None:
    """Error against N with N as the step; the report with its figures beside it."""
    store = MlflowStore(uri)
    store.sync(file, given(records), "launch-1")
    curve = ScalingCurve(
        method="Embedding", metric="rmse", points=[(7, 0.5), (49, 0.1)], slope=0.8, interval=(0.7, 0.9)
    )
    store.record_curves("toy", [curve, replace(curve, metric="sup_error"), replace(curve, method="Hypernetwork")])
    store.record_curves("toy", [curve])
    (run,) = runs(store, "curve")
    assert run.data.tags["slope of rmse"] == "0.80 [0.70, 0.90]"
    history = store._client().get_metric_history(run.info.run_id, "scaling/rmse")
    assert [(m.step, m.value) for m in history] == [(7, 0.5), (49, 0.1)]
    report = tmp_path / "report"
    (report / "figures").mkdir(parents=True)
    (report / "report.html").write_text("<h1>Toy</h1>")
    (report / "figures" / "a.svg").write_text("<svg/>")
    store.log_report("toy", report)
    (launch,) = runs(store, "launch")
    assert store._load_text(launch.info.run_id, "report/figures/a.svg") == "<svg/>"
    assert len(store.read_records("toy")) == 8


def test_reading_what_is_not_there(uri: str, file: StudyFile) -> None:
    """Reading creates nothing and says what is missing."""
    with pytest.raises(RecordingError, match="no MLflow database at"):
        MlflowStore(uri).read_records("toy")
    path = sqlite_path(uri)
    assert path is not None
    assert not path.exists()
    MlflowStore(uri).open_study(file)
    with pytest.raises(RecordingError, match="has no study 'toi'"):
        MlflowStore(uri).read_records("toi")
    with pytest.raises(RecordingError, match="no launch of study 'toy'"):
        MlflowStore(uri).log_report("toy", path.parent)


def test_a_locked_database_is_an_error_within_seconds(
    uri: str, file: StudyFile, records: list[TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after MLflow's own twenty seconds a statement; afterwards all is written."""
    monkeypatch.setattr("hyperscale.recording.mlflow_connection._LOCK_TIMEOUT_S", 0.2)
    store = MlflowStore(uri)
    store.open_study(file)
    with closing(sqlite3.connect(str(sqlite_path(uri)), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(RecordingError, match="locked by another program"):
            store.sync(file, given(records), "launch-1")
        assert time.monotonic() - started < 5
    assert store.sync(file, given(records), "launch-1") == 8
