"""One run per setting: means that people read, records that programs read, and no way to lose or double a trial."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperscale.recording import mlflow_settings as layout
from hyperscale.recording.mlflow_layout import MAX_BATCH_METRICS
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.mlflow_views import TRIALS, read_view
from hyperscale.study import PER_SETTING, PER_TRIAL
from hyperscale.trial import TrialRecord, TrialStatus
from tests.ledgers import given
from tests.mlflow_faults import check, counted
from tests.test_mlflow_store import changed, make_file, make_records, make_result, runs

FILE = make_file(PER_SETTING)
RECORDS = make_records(FILE)  # setting by setting, seeds 1 and 0; the second and third setting have a bad one


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
