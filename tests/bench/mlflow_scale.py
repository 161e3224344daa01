"""MLflow at scale: 10,000 trials in PostgreSQL, and 32 drivers at once.

``python -m tests.bench.mlflow_scale [--trials N] [--each N]`` starts a PostgreSQL of its own, which writes to the disk
as one does by default, and a tracking server on it, and writes ``mlflow_scale.md`` beside this file. Every trial has a
curve of 40 points and one final metric (in the first table two). Rates are taken from the moment at which all drivers
start, already imported, to the end of the last one, with all that a launch does: tables or experiment, saved views,
its own run, the search for duplicates at the end. That nothing is missing and nothing twice is checked each time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hyperscale.recording.mlflow_connection import connect
from hyperscale.recording.mlflow_store import MlflowStore
from tests.bench.driver import write_study
from tests.bench.machine import machine
from tests.servers import Postgres, mlflow_server, postgres_cluster, why_no_postgres
from tests.writers import Plan, drive

HERE = Path(__file__).parent
NUM_DRIVERS = 32
NUM_POINTS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Trials that so many drivers recorded at a place, and the seconds."""

    place: str
    num_drivers: int
    num_trials: int
    seconds: float
    messages: int

    def __str__(self) -> str:
        """A row of the table."""
        rate = self.num_trials / self.seconds
        return (
            f"| {self.place} | {self.num_drivers} | {self.num_trials:,} | {self.seconds:.1f} | {rate:.0f} | "
            f"{1000 / rate:.1f} | {self.messages} |"
        )


def check(uri: str, name: str, wanted: int) -> None:
    """Assert that MLflow shows every trial once."""
    store = MlflowStore(uri)
    counts = Counter(run.data.tags.get("digest") for run in store._search(store._experiment(name), ""))
    del counts[None]  # launches
    assert len(counts) == wanted, f"{len(counts)} of {wanted} trials at {name}"
    assert set(counts.values()) == {1}, "a trial is there twice"


def drivers(place: str, plan: Plan) -> Row:
    """Let the drivers record; return the row."""
    if plan.one_by_one:
        connect(plan.uri, create=True).create_experiment("theirs")
    told = drive(plan)
    count = plan.num_drivers * plan.trials_each
    assert sum(one.missing for one in told) == 0
    check(plan.uri, "theirs" if plan.one_by_one else "toy", count)
    return Row(
        place=place,
        num_drivers=plan.num_drivers,
        num_trials=count,
        seconds=max(one.seconds for one in told),
        messages=sum(len(one.messages) for one in told),
    )


def scale_rows(postgres: Postgres, folder: Path, trials_each: int) -> list[Row]:
    """Return one driver and 32, at every place; and a client that logs value by value."""
    rows: list[Row] = []
    for num_drivers in (1, NUM_DRIVERS):
        each = 8 * trials_each if num_drivers == 1 else trials_each
        plan = Plan(
            uri="", artifacts=str(folder / "art"), num_drivers=num_drivers, trials_each=each, num_points=NUM_POINTS
        )
        name = f"d{num_drivers}"
        rows.append(drivers("PostgreSQL", replace(plan, uri=postgres.create(f"direct_{name}", "blank"))))
        backend = postgres.create(f"server_{name}", "blank")
        with mlflow_server(backend, folder / name) as server:
            few = max(2, each // 4)
            rows.append(drivers("server on PostgreSQL", replace(plan, uri=server.uri, artifacts="", trials_each=few)))
        rows.append(drivers("SQLite", replace(plan, uri=f"sqlite:///{folder / name}.db")))
        slow = replace(plan, trials_each=max(1, each // 40), one_by_one=True)
        uri = postgres.create(f"slow_{name}", "blank")
        rows.append(drivers("PostgreSQL, a call a value", replace(slow, uri=uri)))
    return rows


def run_seconds(study: Path, store: Path, *more: str) -> tuple[float, int]:
    """Run a study by the command line; return the seconds and how many trials MLflow lacks at its end."""
    command = [sys.executable, "-m", "hyperscale.cli", "run", str(study), "--store", str(store), "--json"]
    command += ["--executor", "in-process", "--max-pack", "256", *more]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-2000:]
    return seconds, int(json.loads(done.stdout)["mlflow_missing"] or 0)


def study_lines(postgres: Postgres, folder: Path, num_trials: int) -> tuple[str, float, float]:
    """Run a study of trials that end at once without and with MLflow; return the table, and the seconds of both."""
    study = write_study(folder, num_trials)
    bare, _ = run_seconds(study, folder / "bare", "--no-mlflow")
    uri = postgres.create("study", "blank")
    with_mlflow, missing = run_seconds(study, folder / "recorded", "--tracking-uri", _without_password(uri, postgres))
    if missing:
        print(f"{missing} trials were missing when closing timed out; hyperscale sync brings them.")  # noqa: T201
    else:
        check(uri, "trivial", num_trials)
    lines = [
        "| `hyperscale run`, trials that end at once | seconds | trials/s | MLflow lacks at the end |",
        "|---|---|---|---|",
        f"| {num_trials:,} trials without MLflow | {bare:.1f} | {num_trials / bare:.0f} | |",
        f"| {num_trials:,} trials recorded in PostgreSQL | {with_mlflow:.1f} | {num_trials / with_mlflow:.0f} | "
        f"{missing:,} |",
    ]
    return "\n".join(lines), bare, with_mlflow


def _without_password(uri: str, postgres: Postgres) -> str:
    """Return the address with the password in the environment instead."""
    os.environ["PGPASSWORD"] = postgres.password
    return uri.replace(f":{postgres.password}@", "@")


def write(study: str, share: str, rows: list[Row], seconds: float, load: float) -> None:
    """Write the page and print it."""
    table = "\n".join(map(str, rows))
    text = f"""# MLflow at scale

{study}

{share}

Drivers that start together on an empty experiment, a curve of {NUM_POINTS} points and a final metric a trial; from
the start of all to the end of the last. "A call a value" is how Ray Tune's `MLflowLoggerCallback` logs. Messages are
what the drivers said: a lock, an error.

| place | drivers | trials | seconds | trials/s | ms a trial | messages |
|---|---|---|---|---|---|---|
{table}

`make bench-mlflow`; {machine("mlflow", "SQLAlchemy", "psycopg2-binary")}
PostgreSQL {server_version()}, fsync on; load {load:.1f} before the start; {seconds:.0f} s.
"""
    (HERE / "mlflow_scale.md").write_text(text)
    print(text)  # noqa: T201


def server_version() -> str:
    """Return PostgreSQL's version."""
    from tests.servers import postgres_binaries

    binaries = postgres_binaries()
    assert binaries is not None
    done = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split()[2]


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="trials of the study (default 10,000)")
    parser.add_argument("--each", type=int, default=80, help="trials a driver where there are 32 (default 80)")
    options = parser.parse_args()
    reason = why_no_postgres()
    if reason:
        sys.exit(f"Nothing measured: {reason}.")
    load, started = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as name, postgres_cluster(durable=True) as postgres:
        folder = Path(name)
        blank = postgres.create("blank")
        command = [sys.executable, "-c", "import sys; from hyperscale.recording.mlflow_connection import connect; "]
        command[-1] += "connect(sys.argv[1], create=True)"
        subprocess.run([*command, blank], check=True)
        study, bare, recorded = study_lines(postgres, folder, options.trials)
        extra = max(0.0, recorded - bare)
        share = (
            f"Recording adds {extra:.1f} s to these {options.trials:,} trials, {1000 * extra / options.trials:.2f} ms "
            f"a trial: of a study of as many trials that takes an hour, "
            f"{100 * extra / (3600 + extra):.1f} %."
        )
        rows = scale_rows(postgres, folder, options.each)
    write(study, share, rows, time.perf_counter() - started, load)


if __name__ == "__main__":
    main()
