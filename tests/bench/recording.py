"""Recording in MLflow against the callback that Ray Tune brings along.

``python -m tests.bench.recording [--trials N] [--rounds N]`` records the same trials (a curve of 40 points and four
final metrics each) both ways on fresh SQLite databases, round by round in turn, and writes ``recording.md`` beside
this file. Theirs is a function trainable under Tune with ``MLflowLoggerCallback``; what it spends is measured twice:
as the time with the callback less the time without, and inside the callback's own methods. Ours is what the recorder
spends on the same trials. Opening the experiment is left out on both sides.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from hyperscale.dispatch.ray_tune import prepare_environment
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.settings.approximation import Approximation
from hyperscale.study import PER_SETTING, PER_TRIAL, Study, StudyFile
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus

HERE = Path(__file__).parent
STEPS = [50 * index for index in range(40)]
NUM_SEEDS = 4


def make_study(num_trials: int, form: str) -> StudyFile:
    """Return a study of that many trials, four seeds a setting."""
    target = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
    settings = [
        Approximation(method=Hypernetwork(primary_widths=(width + 2,), widths=(4,)), target=target)
        for width in range(-(-num_trials // NUM_SEEDS))
    ]
    study = Study(name="bench", settings=settings, seeds=range(NUM_SEEDS), metrics=("sup_error",), mlflow_runs=form)
    return StudyFile(study=study, description="Bench.", source="", path=Path("bench.py"))


def curve(seed: int) -> list[float]:
    """Return the training loss of a trial."""
    return [math.exp(-step / 500) + 0.01 * math.sin(step + seed) for step in STEPS]


def finals(seed: int) -> dict[str, float]:
    """Return the final metrics of a trial."""
    return {
        name: curve(seed)[-1] / (index + 1) for index, name in enumerate(("sup_error", "rmse", "zero_rmse", "best"))
    }


def make_record(trial: Trial) -> TrialRecord:
    """Return the record of a trial, as the journal has it."""
    result = TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=TrialStatus.FINISHED,
        metrics=finals(trial.seed),
        curves={"train_loss": [list(STEPS), curve(trial.seed)]},
        provenance={"ended_at": "2026-11-20T10:00:00+00:00", "wall_time_s": 2.5, "device": "cpu", "pack_size": 16},
    )
    return TrialRecord(result=result, columns=trial.setting.columns())


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Seconds that one round of the same trials took."""

    launch: float
    ours: float
    ours_per_setting: float
    bare: float
    logged: float
    inside: float


def ours_seconds(database: Path, trials: Sequence[Trial], form: str) -> tuple[float, float]:
    """Record the trials as the recorder does; return the seconds for the launch's own run and for the trials."""
    study_file = make_study(len(trials), form)
    store = MlflowStore(f"sqlite:///{database}")
    store.open_study(study_file)
    records = [make_record(trial) for trial in trials]
    launch: list[float] = []
    recording: list[float] = []
    with clock(launch):
        parent = store.begin_launch("bench", study_file, len(trials))
    with clock(recording):
        assert store.record("bench", records, parent) == len(trials)
    with clock(launch):
        store.end_launch(parent)
    assert store.read_records("bench") == records
    return sum(launch), sum(recording)


def report_curve(config: dict[str, Any]) -> None:
    """Report a trial step by step, as a function trainable does."""
    from ray import tune

    seed = config["trial"]["seed"]
    for value in curve(seed)[:-1]:
        tune.report({"train_loss": value})
    tune.report({"train_loss": curve(seed)[-1], **finals(seed)})


def timed_callback(database: Path, spent: list[float]) -> Any:
    """Return Ray's callback, which adds to ``spent`` the seconds that its methods take."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Timed(MLflowLoggerCallback):  # type: ignore[misc]
        """The callback with a clock around every method that a trial calls."""

        def log_trial_start(self, *args: Any, **kwargs: Any) -> None:
            """Create the run and log its params."""
            with clock(spent):
                super().log_trial_start(*args, **kwargs)

        def log_trial_result(self, *args: Any, **kwargs: Any) -> None:
            """Log one report."""
            with clock(spent):
                super().log_trial_result(*args, **kwargs)

        def log_trial_end(self, *args: Any, **kwargs: Any) -> None:
            """End the run."""
            with clock(spent):
                super().log_trial_end(*args, **kwargs)

    return Timed(tracking_uri=f"sqlite:///{database}", experiment_name="theirs")


@contextmanager
def clock(spent: list[float]) -> Iterator[None]:
    """Add the seconds of the block to ``spent``."""
    started = time.perf_counter()
    try:
        yield
    finally:
        spent.append(time.perf_counter() - started)


def tune_seconds(trials: Sequence[Trial], callbacks: Sequence[Any], folder: Path) -> float:
    """Run the trials under Tune; return the seconds."""
    from ray import tune

    configs = [{**trial.setting.columns(), "seed": trial.seed} for trial in trials]
    started = time.perf_counter()
    grid = tune.Tuner(
        tune.with_resources(report_curve, {"cpu": 1}),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=list(callbacks)),
    ).fit()
    seconds = time.perf_counter() - started
    assert all(result.metrics["rmse"] > 0 for result in grid)
    return seconds


def check_theirs(database: Path, trials: Sequence[Trial]) -> None:
    """Assert that the callback recorded the same: every trial, its final metrics, its whole curve."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([client.get_experiment_by_name("theirs").experiment_id])
    assert sorted(run.data.metrics["rmse"] for run in runs) == sorted(finals(trial.seed)["rmse"] for trial in trials)
    assert all(len(client.get_metric_history(run.info.run_id, "train_loss")) == len(STEPS) for run in runs)


def copy_database(source: Path, target: Path) -> Path:
    """Copy an empty database, which takes MLflow seconds to make."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return target


def one_round(trials: Sequence[Trial], empty: Path, folder: Path) -> Round:
    """Record the trials each way, on a fresh database each."""
    spent: list[float] = []
    folder.mkdir()
    launch, ours = ours_seconds(copy_database(empty, folder / "ours.db"), trials, PER_TRIAL)
    bare = tune_seconds(trials, [], folder / "bare")
    theirs = timed_callback(copy_database(empty, folder / "theirs.db"), spent)
    logged = tune_seconds(trials, [theirs], folder / "logged")
    check_theirs(folder / "theirs.db", trials)
    _, per_setting = ours_seconds(copy_database(empty, folder / "settings.db"), trials, PER_SETTING)
    return Round(launch=launch, ours=ours, ours_per_setting=per_setting, bare=bare, logged=logged, inside=sum(spent))


def table(rounds: Sequence[Round], num_trials: int) -> str:
    """Return the table of medians over the rounds."""

    def each(values: Sequence[float]) -> float:
        return 1000 * statistics.median(values) / num_trials

    ours = each([r.ours for r in rounds])
    rows = [
        ("ours, a run per trial", ours),
        (f"ours, a run per setting of {NUM_SEEDS} seeds", each([r.ours_per_setting for r in rounds])),
        ("Ray's callback, inside its methods", each([r.inside for r in rounds])),
        ("Ray's callback, time with it less time without", each([r.logged - r.bare for r in rounds])),
    ]
    lines = [f"| {name} | {value:.1f} | {value / ours:.1f} |" for name, value in rows]
    return "\n".join(["| | ms per trial | against ours |", "|---|---|---|", *lines])


def write(rounds: Sequence[Round], num_trials: int, seconds: float) -> None:
    """Write the page beside this file, and print it."""
    import mlflow
    import ray

    launch = 1000 * statistics.median(one.launch for one in rounds)
    machine = f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}"
    text = f"""# Recording in MLflow against Ray Tune's callback

The same trials, a curve of {len(STEPS)} points and four final metrics each, recorded by the recorder's store and by
`MLflowLoggerCallback` (whose trainable reports point by point), each on a fresh SQLite database with a write-ahead
log. Medians of {len(rounds)} rounds of {num_trials} trials, in turn. The callback also logs the bookkeeping that Tune
adds to every report. Left out are opening the experiment, on both sides, and on ours the run of the launch
({launch:.0f} ms, once). Written by `make bench-recording`.

{table(rounds, num_trials)}

{date.today().isoformat()}, {machine}; {seconds:.0f} s.
Python {platform.python_version()}, Ray {ray.__version__}, MLflow {mlflow.__version__}, SQLite {sqlite3.sqlite_version}.
"""
    (HERE / "recording.md").write_text(text)
    print(text)  # noqa: T201


def main() -> None:
    """Measure both sides and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4, help="trials a round (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    options = parser.parse_args()
    prepare_environment()
    import ray

    started = time.perf_counter()
    trials = make_study(options.trials, PER_TRIAL).study.trials()[: options.trials]
    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name) / "empty.db"
        MlflowStore(f"sqlite:///{empty}").open_study(make_study(options.trials, PER_TRIAL))
        one_round(trials[:1], empty, Path(name) / "warm")
        rounds = [one_round(trials, empty, Path(name) / str(index)) for index in range(options.rounds)]
    ray.shutdown()
    write(rounds, options.trials, time.perf_counter() - started)


if __name__ == "__main__":
    main()
