"""One run per setting: means that people read, records that programs read, and no way to lose or double a trial."""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hyperscale.recording import mlflow_settings as layout
from hyperscale.recording.mlflow_layout import MAX_BATCH_METRICS
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.mlflow_views import TRIALS, read_view
from hyperscale.study import PER_SETTING, PER_TRIAL, StudyFile
from hyperscale.trial import TrialRecord, TrialStatus
from tests.ledgers import given
from tests.test_mlflow_store import changed, make_file, make_records, make_result, runs

FILE = make_file(PER_SETTING)
RECORDS = make_records(FILE)  # setting by setting, seeds 1 and 0; the second and third setting have a bad one


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, its write-ahead log included."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's with nothing in it: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}")._client(create=True)
    return path


@pytest.fixture
def fresh(empty: Path, tmp_path: Path) -> Callable[[], str]:
    """Return a function that makes an empty store and returns its URI."""
    numbers = iter(range(1000))

    def make() -> str:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        copy_database(empty, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return make


def check(uri: str, file: StudyFile, records: Sequence[TrialRecord]) -> None:
    """Assert that MLflow shows just these records, in runs of the study's form, once each."""
    store = MlflowStore(uri)
    store.open_study(file)
    assert store.read_records("toy") == list(records)
    digests = Counter(
        r.result.setting_digest if file.study.mlflow_runs == PER_SETTING else r.result.digest for r in records
    )
    shown, other = ("setting", "trial") if file.study.mlflow_runs == PER_SETTING else ("trial", "setting")
    assert len(runs(store, shown)) == len(digests)
    assert runs(store, other) == []
    assert all(run.info.status in ("FINISHED", "FAILED") for run in runs(store, shown))


def test_a_setting_s_run_shows_means_spread_and_counts(fresh: Callable[[], str]) -> None:
    """The keys of a trial's metrics, means under them; params and tags as a trial's, but for the seed."""
    store = MlflowStore(fresh())
    assert store.sync(FILE, given(RECORDS), "launch-1") == 8
    by_name = {run.info.run_name: run for run in runs(store, "setting")}
    assert len(by_name) == 4
    run, pair = by_name["Hypernetwork N=49"], [record.result for record in RECORDS[:2]]
    for name in ("sup_error", "rmse"):
        values = [result.metrics[name] for result in pair]
        assert run.data.metrics[name] == pytest.approx(statistics.mean(values), rel=1e-15)
        assert run.data.metrics[f"std/{name}"] == pytest.approx(statistics.stdev(values), rel=1e-12)
        assert (run.data.metrics[f"min/{name}"], run.data.metrics[f"max/{name}"]) == (min(values), max(values))
    assert run.data.metrics["wall_time_s"] == 2.5
    history = store._client().get_metric_history(run.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in history][:3] == [(0, 1.0), (1, 0.5), (10, 0.1)]
    assert history[3].value == pytest.approx((1 / 3 + 1 / 6) / 2)
    assert (run.data.params["lr"], run.data.params["num_params_primary"]) == ("0.003", "49")
    visible = {name: text for name, text in run.data.tags.items() if not name.startswith("mlflow.")}
    assert visible == {
        "kind": "setting", "study": "toy", "method": "Hypernetwork", "setting": pair[0].setting_digest[:12],
        "status": "finished", "num_seeds": "2", "num_finished": "2",
    }  # fmt: skip
    assert run.info.end_time - run.info.start_time == 3500  # from the first's begin to the last's end


def test_seeds_that_did_not_finish_are_counted_and_explained(fresh: Callable[[], str]) -> None:
    """The mean is over what finished; the reason of what did not is there."""
    store = MlflowStore(fresh())
    store.sync(FILE, given(RECORDS), "launch-1")
    run = next(run for run in runs(store, "setting") if run.info.run_name == "Hypernetwork N=7")
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "1 finished, 1 diverged")
    assert (run.data.tags["num_finished"], run.data.tags["num_diverged"]) == ("1", "1")
    assert run.data.tags["reason"] == "seed 1 diverged: the loss became infinite at step 12"
    assert run.data.metrics["sup_error"] == RECORDS[3].result.metrics["sup_error"]
    assert "std/sup_error" not in run.data.metrics
    bad = [changed(r, status=TrialStatus.DIVERGED, reason="so", metrics={}) for r in RECORDS[:2]]
    assert (layout.mlflow_status(bad), layout.status_text(bad)) == ("FAILED", "diverged")
    assert [point.key for point in layout.metrics(bad)] == ["wall_time_s"]


def test_the_seeds_are_a_table(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own reader of tables finds one row a seed; a single seed needs none."""
    store = MlflowStore(uri := fresh())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # where that reader looks, whatever client it belongs to
    store.sync(FILE, given(RECORDS), "launch-1")
    run = next(run for run in runs(store, "setting") if run.info.run_name == "Hypernetwork N=7")
    table = store._client().load_table(run.info.experiment_id, layout.SEEDS_FILE, [run.info.run_id])
    assert list(table["seed"]) == [1, 0]
    assert list(table["status"]) == ["diverged", "finished"]
    assert math.isnan(table["sup_error"][0])
    assert table["sup_error"][1] == pytest.approx(RECORDS[3].result.metrics["sup_error"])
    assert store.notices == []
    assert "mlflow.loggedArtifacts" not in layout.tags(RECORDS[:1], "toy")


def test_means_are_of_what_all_seeds_have() -> None:
    """A step counts where every seed has it; sums do not overflow; a batch is never too long."""
    one = changed(RECORDS[0], curves={"loss": [[0, 5, 9], [1.0, 2.0, 3.0]]}, metrics={"rmse": 1.6e308})
    two = changed(RECORDS[1], curves={"loss": [[0, 9, 10], [3.0, 5.0, 7.0]]}, metrics={"rmse": 1.7e308, "rare": 2.0})
    points = {(point.key, point.step): point.value for point in layout.metrics([one, two])}
    assert {step: value for (key, step), value in points.items() if key == "loss"} == {0: 2.0, 9: 4.0}
    assert points["rmse", 0] == pytest.approx(1.65e308)
    assert points["std/rmse", 0] == pytest.approx(1e307 / math.sqrt(2))
    assert points["rare", 0] == 2.0
    steps = list(range(5000))
    many = changed(
        one, metrics={f"m{i}": 1.0 for i in range(40)}, curves={f"c{i}": [steps, [1.0] * 5000] for i in range(9)}
    )
    assert len(layout.metrics([many, many])) <= MAX_BATCH_METRICS


def test_the_view_shows_settings(fresh: Callable[[], str]) -> None:
    """The seeded view finds the runs of the study's form, and follows it when it changes."""
    uri = fresh()
    for form, kind, column in ((PER_SETTING, "setting", "num_seeds"), (PER_TRIAL, "trial", "seed")):
        store = MlflowStore(uri)
        key = store.open_study(make_file(form))
        _, state = read_view(store._client().get_experiment(key).tags[f"mlflow.sharedViewState.{TRIALS}"])
        assert state["searchFilter"] == f'tags.kind = "{kind}"'
        assert f"tags.`{column}`" in state["selectedColumns"]
        assert state["orderByKey"] == "metrics.`sup_error`"


def test_a_study_read_back_equals_the_journal(fresh: Callable[[], str]) -> None:
    """Types, order, statuses, curves; long curves through the artifact."""
    values = [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    records = [changed(RECORDS[0], curves={"points": [values, values[::-1]]}), *RECORDS[1:]]
    uri = fresh()
    assert MlflowStore(uri).sync(FILE, given(records), "launch-1") == 8
    check(uri, FILE, records)
    assert [list(map(type, r.columns.values())) for r in MlflowStore(uri).read_records("toy")] == [
        list(map(type, r.columns.values())) for r in records
    ]
    assert MlflowStore(uri).sync(FILE, given(records), "launch-2") == 0
    check(uri, FILE, records)


def test_seeds_that_end_later_join_their_setting(fresh: Callable[[], str]) -> None:
    """In this launch, in another, or in another journal that knows nothing of the first."""
    uri = fresh()
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-1", FILE, 8)
    assert store.record("toy", RECORDS[:1], parent) == 1
    check(uri, FILE, RECORDS[:1])
    assert store.record("toy", RECORDS[1:3], parent) == 2
    check(uri, FILE, RECORDS[:3])
    assert MlflowStore(uri).sync(FILE, given(RECORDS[4:]), "launch-2") == 4
    check(uri, FILE, [*RECORDS[:3], *RECORDS[4:]])
    assert MlflowStore(uri).sync(FILE, given(RECORDS[3:4]), "launch-3") == 1
    check(uri, FILE, RECORDS)
    assert store.sync(FILE, given(RECORDS), "launch-4", search=False) == 0
    check(uri, FILE, RECORDS)


def test_a_trial_that_was_tried_again_is_replaced(fresh: Callable[[], str]) -> None:
    """A failed one by its next outcome, a settled one by nothing; the other seeds stay."""
    uri, index = fresh(), 5
    MlflowStore(uri).sync(FILE, given(RECORDS), "launch-1")
    again = changed(RECORDS[index], reason="no space", provenance={"ended_at": "2026-11-21T09:00:00+00:00"})
    assert MlflowStore(uri).sync(FILE, given([again]), "launch-2") == 1
    check(uri, FILE, [*RECORDS[:index], again, *RECORDS[index + 1 :]])
    trial = FILE.study.trials()[index]
    done = TrialRecord(result=make_result(trial, index), columns=trial.setting.columns())
    assert MlflowStore(uri).sync(FILE, given([done]), "launch-3") == 1
    assert MlflowStore(uri).sync(FILE, given([again]), "launch-4") == 0
    check(uri, FILE, [*RECORDS[:index], done, *RECORDS[index + 1 :]])


@pytest.mark.parametrize(("first", "second"), [(PER_TRIAL, PER_SETTING), (PER_SETTING, PER_TRIAL)])
def test_another_form_turns_all_runs_into_it(first: str, second: str, fresh: Callable[[], str]) -> None:
    """Trials of another journal are carried over too; there and back again nothing is lost or doubled."""
    uri = fresh()
    MlflowStore(uri).sync(make_file(first), given(RECORDS), "launch-1")
    mine = RECORDS[::2]  # this journal has one seed of each setting
    MlflowStore(uri).sync(make_file(second), given(mine), "launch-2")
    check(uri, make_file(second), RECORDS)
    assert MlflowStore(uri).sync(make_file(second), given(mine), "launch-3") == 0
    MlflowStore(uri).sync(make_file(first), given(RECORDS[1::2]), "launch-4")
    check(uri, make_file(first), RECORDS)


def test_a_launch_in_another_form_turns_what_it_touches(fresh: Callable[[], str]) -> None:
    """Recording one trial of a setting that has a run of its own dissolves that run, losing nothing."""
    uri = fresh()
    MlflowStore(uri).sync(FILE, given(RECORDS[:3]), "launch-1")
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-2", make_file(PER_TRIAL), 1)
    store.record("toy", RECORDS[3:4], parent)
    assert MlflowStore(uri).read_records("toy") == RECORDS[:4]
    assert (len(runs(store, "trial")), len(runs(store, "setting"))) == (2, 1)


def test_at_most_three_requests_a_trial(fresh: Callable[[], str]) -> None:
    """Counted where MLflow's client meets its store: 5 a setting with its table, 3 where there is one seed."""
    for seeds, most in (((0, 1, 2, 3, 4), 1.01), ((0, 1), 2.51), ((0,), 3.01)):
        file = make_file(PER_SETTING, seeds)
        records = make_records(file)
        store = MlflowStore(fresh())
        parent = store.begin_launch("launch-1", file, len(records))
        store.recorded("toy")
        with counted(store) as calls:
            store.record("toy", records, parent)
        assert calls.pop("search_runs") == 1
        artifacts = calls.pop("log_text", 0)  # each finds the run's folder, then writes into it
        assert sum(calls.values()) + 2 * artifacts <= most * len(records), calls


class Killed(BaseException):
    """The driver's end; not an error that anything may catch."""


class Mortal:
    """A client through which requests are counted, and that dies before or after one of them."""

    def __init__(self, client: Any, dies_at: int = -1, *, after: bool = False) -> None:
        self._client, self._dies_at, self._after = client, dies_at, after
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            now = sum(self.calls.values()) == self._dies_at
            self.calls[name] += 1
            if now and not self._after:
                raise Killed
            result = method(*args, **kwargs)
            if now:
                raise Killed
            return result

        return call


class counted:  # noqa: N801
    """Count a store's requests within a block."""

    def __init__(self, store: MlflowStore, dies_at: int = -1, *, after: bool = False) -> None:
        self.store = store
        self.mortal = Mortal(store._client(), dies_at, after=after)

    def __enter__(self) -> Counter[str]:
        self.store._connection = self.mortal  # type: ignore[assignment]
        return self.mortal.calls

    def __exit__(self, *_: object) -> None:
        self.store._connection = self.mortal._client


def _some_of_everything(uri: str) -> None:
    """Leave a setting with one seed recorded, one in runs of trials, one half-written, one missing."""
    MlflowStore(uri).sync(FILE, given(RECORDS[:1]), "launch-1")
    MlflowStore(uri).sync(make_file(PER_TRIAL), given(RECORDS[2:4]), "launch-2")
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-3", FILE, 2)
    with pytest.raises(Killed), counted(store, 4):
        store.record("toy", RECORDS[4:6], parent)
    assert [run.info.status for run in runs(store, "setting")].count("RUNNING") == 1


@pytest.mark.parametrize("form", [PER_SETTING, PER_TRIAL])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_driver_killed_at_any_request_leaves_what_sync_mends(
    after: bool, form: str, fresh: Callable[[], str], tmp_path: Path
) -> None:
    """Killed before or after its n-th request, for every n: nothing read is wrong, nothing is lost or twice after."""
    begun, file = fresh(), make_file(form)
    _some_of_everything(begun)
    recorded = {record.result.digest: record for record in MlflowStore(begun).read_records("toy")}
    wanted = {record.result.digest: record for record in RECORDS}
    dies_at, died = 0, True
    while died:
        uri = fresh()
        copy_database(Path(begun.removeprefix("sqlite:///")), Path(uri.removeprefix("sqlite:///")))
        store = MlflowStore(uri, Path(begun.removeprefix("sqlite:///")).parent / "artifacts")
        died = False
        try:
            with counted(store, dies_at, after=after):
                store.sync(file, given(RECORDS), "launch-4")
        except Killed:
            died = True
        back = {record.result.digest: record for record in MlflowStore(uri).read_records("toy")}
        assert back.items() <= wanted.items()
        assert recorded.items() <= back.items()
        assert MlflowStore(uri).is_current(file, _print(RECORDS)) is (not died) or after
        MlflowStore(uri).sync(file, given(RECORDS), "launch-5")
        check(uri, file, RECORDS)
        dies_at += 1
    assert dies_at > 15  # it did get past the last request


def test_the_half_written_run_of_another_driver_is_left_to_it(fresh: Callable[[], str]) -> None:
    """Its curves may not be there yet; it is neither copied nor deleted before its trials are shown."""
    uri, values = fresh(), [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    theirs = changed(RECORDS[0], curves={"points": [values, values[::-1]]})
    store = MlflowStore(uri)
    parent = store.begin_launch("launch-1", FILE, 1)
    with pytest.raises(Killed), counted(store, 2):  # before its curves
        store.record("toy", [theirs], parent)
    assert MlflowStore(uri).read_records("toy") == []
    store = MlflowStore(uri)
    assert store.sync(FILE, given(RECORDS[1:]), "launch-2") == 7
    assert store.notices == []
    assert store.read_records("toy") == RECORDS[1:]
    assert [run.info.status for run in runs(store, "setting")].count("RUNNING") == 1
    assert MlflowStore(uri).sync(FILE, given([theirs]), "launch-3") == 1
    check(uri, FILE, [theirs, *RECORDS[1:]])


def _print(records: Sequence[TrialRecord]) -> str:
    from hyperscale.recording.outcomes import fingerprint

    return fingerprint(given(records).outcomes())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's, about pandas
def test_the_table_is_what_mlflow_writes_itself(fresh: Callable[[], str], tmp_path: Path) -> None:
    """The same columns and rows as ``log_table``, which the UI knows."""
    import pandas as pd

    table = json.loads(layout.seeds_table(RECORDS[:2]))
    frame = pd.DataFrame(table["data"], columns=table["columns"])
    store = MlflowStore(fresh(), tmp_path)
    parent = store.begin_launch("launch-1", FILE, 8)
    store._client().log_table(parent, frame, "theirs.json")
    theirs = json.loads(store._load_text(parent, "theirs.json"))
    assert theirs["columns"] == table["columns"]
    assert [row[:2] for row in theirs["data"]] == [row[:2] for row in table["data"]]
    tag = store._client().get_run(parent).data.tags["mlflow.loggedArtifacts"]
    assert tag.replace("theirs", "seeds") == layout.tags(RECORDS[:2], "toy")["mlflow.loggedArtifacts"]
