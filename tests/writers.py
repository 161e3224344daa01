"""Many drivers that record in MLflow at once, each a process of its own.

``python -m tests.writers`` reads a plan as JSON on standard input and writes what became of it. It imports MLflow once
and forks: 32 drivers that each import it would measure the imports. All start at the same moment; each has a part of
the study's trials and records it as `hyperscale run` does, through a `Recorder`.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from hyperscale.recording.mlflow_schema import driver_named
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.outcomes import Journalled
from hyperscale.recording.recorder import LaunchInfo, Patience, Recorder
from hyperscale.study import PER_TRIAL, StudyFile
from hyperscale.trial import TrialRecord
from tests.ledgers import Ledger
from tests.sinks import make_launch, make_records

_PATIENT = Patience(queue_size=100_000, first_pause_s=1.0, longest_pause_s=5.0, close_s=400.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the drivers are to do.

    ``shared`` gives all of them one journal, in which all trials have ended, as several drivers on one store have;
    ``known`` tells each of them that the others are running. Every trial has a curve of ``num_points``. With
    ``one_by_one`` they are no drivers of ours: each value is a call of MLflow's client, as Ray Tune's callback has it.
    """

    uri: str
    artifacts: str
    num_drivers: int
    trials_each: int
    form: str = PER_TRIAL
    shared: bool = False
    known: bool = False
    num_points: int = 4
    one_by_one: bool = False

    @property
    def launch(self) -> LaunchInfo:
        """The whole study as a launch: one setting a driver, or four times as many seeds where they share settings."""
        return make_launch(self.trials_each, self.form, self.num_drivers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one driver tells: its messages, how many trials it could not record, the seconds it took."""

    messages: Sequence[str]
    missing: int
    seconds: float


def records_of(plan: Plan) -> list[TrialRecord]:
    """Return every record of the study, with a curve and the launch it is of."""
    found = []
    for index, record in enumerate(make_records(plan.launch)):
        steps = list(range(plan.num_points))
        curve = [steps, [math.exp(-index / 100) / (step + 1) for step in steps]]
        result = replace(
            record.result,
            curves={"train_loss": curve},
            provenance={**record.result.provenance, "launch": f"launch-{index % plan.num_drivers}"},
        )
        found.append(TrialRecord(result=result, columns=record.columns))
    return found


def drive(plan: Plan, environment: Mapping[str, str] | None = None) -> list[Told]:
    """Run the drivers to their end; return what each tells."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.writers"],
        input=json.dumps(asdict(plan)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == "", done.stderr[-4000:]
    return [Told(**told) for told in json.loads(done.stdout)]


def _write(
    plan: Plan, index: int, study: StudyFile, records: Sequence[TrialRecord], start: Barrier, told: Queue[Any]
) -> None:
    """Be one driver."""
    own = records[index :: plan.num_drivers]
    digests = {record.result.digest for record in own}
    trials = [trial for trial in study.study.trials() if trial.digest in digests]
    ledger = Ledger(records if plan.shared else own)
    messages: list[str] = []
    others = {f"launch-{other}" for other in range(plan.num_drivers) if other != index}
    start.wait()
    began = time.perf_counter()
    recorder = Recorder(
        lambda: MlflowStore(plan.uri, plan.artifacts or None),
        LaunchInfo(launch_id=f"launch-{index}", study_file=study, trials=trials),
        journalled=Journalled(ledger, list(ledger.held), lambda: others if plan.known else set()),
        warn=messages.append,
        patience=_PATIENT,
    )
    for record in own:
        recorder.put([record])
    missing = recorder.close()
    told.put(asdict(Told(messages=messages, missing=missing, seconds=time.perf_counter() - began)))


def _write_one_by_one(
    plan: Plan, index: int, study: StudyFile, records: Sequence[TrialRecord], start: Barrier, told: Queue[Any]
) -> None:
    """Log every value by a call of its own."""
    from mlflow.tracking import MlflowClient

    start.wait()
    began = time.perf_counter()
    client = MlflowClient(driver_named(plan.uri))
    experiment = client.get_experiment_by_name("theirs").experiment_id
    for record in records[index :: plan.num_drivers]:
        run_id = client.create_run(experiment, tags={"digest": record.result.digest}).info.run_id
        for name, value in record.columns.items():
            client.log_param(run_id, name, value)
        for step, value in zip(*record.result.curves["train_loss"], strict=True):
            client.log_metric(run_id, "train_loss", value, step=int(step))
        for name, value in record.result.metrics.items():
            client.log_metric(run_id, name, value)
        client.set_terminated(run_id)
    told.put(asdict(Told(messages=[], missing=0, seconds=time.perf_counter() - began)))


def main() -> None:
    """Do what the plan says."""
    plan = Plan(**json.load(sys.stdin))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for module in (
        "mlflow.tracking",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.store.artifact.artifact_repository_registry",
    ):
        importlib.import_module(module)
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(plan.num_drivers), context.Queue()
    study, records = plan.launch.study_file, records_of(plan)
    drivers = [
        context.Process(
            target=_write_one_by_one if plan.one_by_one else _write, args=(plan, index, study, records, start, told)
        )
        for index in range(plan.num_drivers)
    ]
    for driver in drivers:
        driver.start()
    found = [told.get(timeout=500) for _ in drivers]
    for driver in drivers:
        driver.join()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
