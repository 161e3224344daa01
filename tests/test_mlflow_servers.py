"""MLflow on PostgreSQL, directly and behind a server that asks for a password: many drivers, outages, secrets."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hyperscale.cli import main
from hyperscale.errors import RecordingError
from hyperscale.recording.mlflow_connection import connect
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.recording.outcomes import Journalled
from hyperscale.recording.recorder import Patience, Recorder
from hyperscale.study import PER_SETTING, PER_TRIAL
from tests.conftest import tiny_text
from tests.ledgers import Ledger, given
from tests.servers import MlflowServer, Postgres, free_port, mlflow_server, postgres_cluster, require_postgres
from tests.sinks import make_launch, make_records
from tests.test_mlflow_store import make_file
from tests.test_mlflow_store import make_records as make_toys
from tests.writers import Plan, drive, records_of

ADMIN = "Rumpelstilzchen-7261"
WRONG = "Schneewittchen-4410"
_NUMBERS = itertools.count()
SWIFT = Patience(queue_size=512, first_pause_s=0.2, longest_pause_s=1.0, close_s=120.0, catch_up_s=0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL of our own, with a database that has MLflow's tables and nothing in them."""
    require_postgres()
    with postgres_cluster() as postgres:
        connect(postgres.create("blank"), create=True)
        _forget(postgres.uri("blank"))
        yield postgres


@pytest.fixture
def database(cluster: Postgres) -> str:
    """A database with MLflow's tables, made by copying: MLflow takes seconds to make one."""
    return cluster.create(f"copy_{next(_NUMBERS)}", "blank")


@pytest.fixture(scope="module")
def server(cluster: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A tracking server on PostgreSQL that lets nobody in but ``admin``."""
    backend = cluster.create("served", "blank")
    with mlflow_server(backend, tmp_path_factory.mktemp("server"), admin_password=ADMIN) as running:
        yield running


@pytest.fixture
def admin(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server, with the credentials in the environment, and without the study of an earlier test."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
    client = connect(server.uri, create=True)
    for experiment in client.search_experiments():
        if experiment.name != "Default":
            client.rename_experiment(experiment.experiment_id, f"{experiment.name} {time.monotonic_ns()}")
            client.delete_experiment(experiment.experiment_id)
    return server


def _forget(uri: str) -> None:
    """Close the connections that MLflow keeps to a database, which cannot be copied while it has any."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._engine_map[uri].dispose()


def shown(uri: str, name: str = "toy") -> list[Any]:
    """Return the runs of trials and settings of a study."""
    store = MlflowStore(uri)
    return [run for run in store._search(store._experiment(name), "") if run.data.tags["kind"] != "launch"]


def check_drivers(plan: Plan, bearable: str = "nothing") -> None:
    """Run the drivers; assert that none complained (of what is not bearable) and that each trial is there once."""
    told = drive(plan)
    assert [text for one in told for text in one.messages if bearable not in text] == []
    assert sum(one.missing for one in told) == 0
    store = MlflowStore(plan.uri)
    assert sorted(store.read_records("toy"), key=_digest) == sorted(records_of(plan), key=_digest)
    assert len(shown(plan.uri)) == plan.num_drivers * (plan.trials_each if plan.form == PER_TRIAL else 1)
    assert len(list(store._search(store._experiment("toy"), "tags.kind = 'launch'"))) == plan.num_drivers
    assert {run.info.status for run in store._search(store._experiment("toy"), "")} == {"FINISHED"}


def _digest(record: Any) -> str:
    return str(record.result.digest)


def test_drivers_that_start_at_once_on_an_empty_postgres(cluster: Postgres, tmp_path: Path) -> None:
    """Tables, experiment, saved views, launches: all are made once, and no trial is twice."""
    plan = Plan(uri=cluster.create("empty"), artifacts=str(tmp_path), num_drivers=8, trials_each=3)
    check_drivers(plan)


def test_drivers_that_start_at_once_on_no_sqlite(tmp_path: Path) -> None:
    """One makes the database, the others wait; nothing is left beside it."""
    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    check_drivers(Plan(uri=uri, artifacts="", num_drivers=8, trials_each=3))
    names = {path.name for path in (tmp_path / "store").iterdir()}
    assert names <= {"mlflow.db", "mlflow.db-wal", "mlflow.db-shm", "artifacts"}


@pytest.mark.parametrize("form", [PER_TRIAL, PER_SETTING])
def test_drivers_that_write_the_same_trials_leave_each_once(form: str, database: str, tmp_path: Path) -> None:
    """One journal, all trials ended, nobody told of the others: the last one to write removes what is twice."""
    check_drivers(Plan(uri=database, artifacts=str(tmp_path), num_drivers=4, trials_each=4, form=form, shared=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "server", "sqlite"])
@pytest.mark.parametrize("form", [PER_TRIAL, PER_SETTING])
def test_32_drivers_at_once(
    kind: str, form: str, cluster: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty store, with a journal in common: no lock error, nothing lost, nothing twice."""
    name = f"many_{kind}_{form}"
    plan = Plan(uri="", artifacts="", num_drivers=32, trials_each=8, form=form, shared=True, known=True)
    if kind == "sqlite":
        check_drivers(replace(plan, uri=f"sqlite:///{tmp_path / 'mlflow.db'}"))
    elif kind == "postgres":
        check_drivers(replace(plan, uri=cluster.create(name), artifacts=str(tmp_path)))
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        with mlflow_server(cluster.create(name), tmp_path / "server", admin_password=ADMIN) as running:
            # one worker, and every driver rewrites the settings of eight others: a request may take over 20 s
            check_drivers(
                replace(plan, uri=running.uri), "did not answer in time" if form == PER_SETTING else "nothing"
            )


def test_postgres_gives_back_what_the_journal_has(database: str, tmp_path: Path) -> None:
    """Failed and diverged trials, curves over steps and others, in both forms; a second sync writes nothing."""
    for form in (PER_TRIAL, PER_SETTING):
        file = make_file(form)
        records = make_toys(file)
        assert MlflowStore(database, tmp_path).sync(file, given(records), f"launch {form}") == len(records)
        assert MlflowStore(database, tmp_path).read_records("toy") == records
        assert MlflowStore(database, tmp_path).sync(file, given(records), "later") == 0


def test_a_wrong_password_is_one_paragraph(
    server: MlflowServer, cluster: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None given, a wrong one in the environment, a wrong one in the address, a wrong one for the database."""
    with pytest.raises(RecordingError, match=r"refused the user name or the password\. Set MLFLOW_TRACKING_USERNAME"):
        MlflowStore(server.uri).open_study(make_file())
    for uri in (server.uri_of("admin", WRONG), server.uri, cluster.uri("served", WRONG)):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", WRONG)
        with pytest.raises(RecordingError, match="refused the user name or the password") as caught:
            MlflowStore(uri).open_study(make_file())
        assert "\n" not in str(caught.value)
        assert WRONG not in str(caught.value)
        assert "hyperscale sync" in str(caught.value)


def _call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def _everything_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_study_without_its_server_is_caught_up_by_sync_and_no_password_is_written(
    admin: MlflowServer,
    cluster: Postgres,
    write_study: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With it in the address: run while nobody answers, sync with a wrong one, sync, report; then read it all."""
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    study, store = write_study(tiny_text(steps=2), "tiny.py"), tmp_path / "store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://admin:{ADMIN}@127.0.0.1:{free_port()}")
    outputs = [_call("run", study, "--store", store, "--executor", "in-process")]
    assert "cannot be reached" in outputs[0].output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", admin.uri_of("admin", WRONG))
    outputs.append(_call("sync", study, "--store", store))
    assert outputs[1].exit_code == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", admin.uri_of("admin", ADMIN))
    outputs += [_call("sync", study, "--store", store) for _ in range(2)]
    assert "32 trials added to MLflow, 0 were there already" in outputs[2].output
    assert "0 trials added to MLflow, 32 were there already" in outputs[3].output
    outputs.append(_call("report", study, "--store", store, "--no-pdf"))
    assert outputs[4].exit_code == 0, outputs[4].output
    trials = [run for run in shown(admin.uri_of("admin", ADMIN), "tiny") if run.data.tags["kind"] == "trial"]
    assert Counter(Counter(run.data.tags["digest"] for run in trials).values()) == {1: 32}
    dump = subprocess.run(
        [cluster.binaries / "pg_dump", cluster.uri("served").replace("+psycopg2", "")], check=True, capture_output=True
    ).stdout
    assert b"tiny" in dump
    written = dump + _everything_under(store) + _everything_under(admin.folder / "artifacts") + admin.log().encode()
    written += "".join(result.output for result in outputs).encode()
    for secret in (ADMIN, WRONG, cluster.password):
        assert secret.encode() not in written


def _num_shown(uri: str) -> int:
    """Return how many runs the study has, 0 where there is no study yet."""
    try:
        return len(shown(uri))
    except RecordingError:
        return 0


class _Study:
    """A launch whose trials end when they are told to, and a recorder that is quick to try again."""

    def __init__(self, uri: str, count: int) -> None:
        launch = make_launch(count)
        self.records, self.messages, self.ledger = make_records(launch), list[str](), Ledger([])
        digests = [record.result.digest for record in self.records]
        self.recorder = Recorder(
            lambda: MlflowStore(uri),
            launch,
            journalled=Journalled(self.ledger, digests),
            warn=self.messages.append,
            patience=SWIFT,
        )

    def end(self, first: int, last: int) -> None:
        """Journal some trials and hand them over, one by one."""
        for record in self.records[first:last]:
            self.ledger.held[record.result.digest] = record
            self.recorder.put([record])


def _until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_database_that_restarts_under_the_server_costs_nothing(admin: MlflowServer, cluster: Postgres) -> None:
    """Trials end before, while it is away, and after; what could not be recorded is while the study goes on."""
    study = _Study(admin.uri, 30)
    study.end(0, 10)
    _until(lambda: study.recorder.num_missing == 0)
    cluster.stop(signal.SIGQUIT)
    study.end(10, 20)
    _until(lambda: bool(study.messages))
    cluster.start()
    _until(lambda: study.recorder.num_missing == 0)
    study.end(20, 30)
    assert study.recorder.close() == 0
    assert len(study.messages) == 1
    assert "hyperscale sync" in study.messages[0]
    assert MlflowStore(admin.uri).read_records("toy") == study.records
    assert Counter(run.info.status for run in shown(admin.uri)) == {"FINISHED": 30}


@pytest.mark.slow
def test_a_server_that_is_away_during_the_study(admin: MlflowServer) -> None:
    """Killed in the middle of writing, started again later: every trial once, and the launch has ended."""
    study = _Study(admin.uri, 60)
    study.end(0, 40)
    _until(lambda: _num_shown(admin.uri) >= 3)
    admin.stop(signal.SIGKILL)
    assert study.recorder.num_missing > 0
    _until(lambda: bool(study.messages))
    assert "cannot be reached" in study.messages[0]
    time.sleep(5)
    admin.start()
    study.end(40, 50)
    _until(lambda: study.recorder.num_missing == 0)
    study.end(50, 60)
    assert study.recorder.close() == 0
    assert MlflowStore(admin.uri).read_records("toy") == study.records
    assert len(shown(admin.uri)) == 60
    store = MlflowStore(admin.uri)
    assert [run.info.status for run in store._search(store._experiment("toy"), "tags.kind = 'launch'")] == ["FINISHED"]


def test_without_postgres_ci_fails_and_others_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip is never taken for a pass."""
    monkeypatch.setattr("tests.servers.postgres_binaries", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="PostgreSQL is not installed"):
        require_postgres()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI is to run the tests of PostgreSQL"):
        require_postgres()
