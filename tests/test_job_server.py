"""`submit` with a real head and job server on loopback that wants a token: to the end, and through losses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperscale.recording.store import Store
from hyperscale.study import load_study
from tests.conftest import tiny_text
from tests.job_servers import JobServer, wait_until
from tests.ports import Listener, listeners

LONG_S = 280.0
pytestmark = [pytest.mark.ray, pytest.mark.timeout(3 * LONG_S)]


@pytest.fixture
def job_server() -> Iterator[JobServer]:
    """A head with a job server, and nothing left of it afterwards."""
    server = JobServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
        assert server.processes() == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder, whose name needs quoting."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


class Submit:
    """`submit` in a process of its own, with its output in files, as pipes might fill."""

    def __init__(self, server: JobServer, *words: object, **more: str) -> None:
        # A pytest that runs in a shell's background ignores Ctrl-C, and so would its children.
        heeding = ["env", "--default-signal=INT", sys.executable, "-m", "hyperscale.cli", "submit"]
        command = [*heeding, *map(str, words), "--address", server.address]
        number = len(list(server.folder.glob("*.out")))
        self._paths = [server.folder / f"{number}.{end}" for end in ("out", "err")]
        with self._paths[0].open("w") as out, self._paths[1].open("w") as err:
            self.process = subprocess.Popen(command, env=dict(server.environment(**more)), stdout=out, stderr=err)

    @property
    def output(self) -> str:
        """Return what came on standard output."""
        return self._paths[0].read_text()

    @property
    def errors(self) -> str:
        """Return what came on standard error."""
        return self._paths[1].read_text()

    def end(self) -> int:
        """Return the exit code."""
        return self.process.wait(timeout=LONG_S)


def recorded(store: Path, study: Path) -> tuple[int, int]:
    """Return how many trials of a study the store has, and how many results its journal holds."""
    digests = [trial.digest for trial in load_study(study).study.trials()]
    lines = [line for path in (store / "journal").glob("*.jsonl") for line in path.read_text().splitlines()]
    results = [line for line in lines if json.loads(line)["record"] == "trial"]
    return len(Store(folder=store).journal("reader").records(digests)), len(results)


def begun(store: Path, most: int) -> bool:
    """Whether some of the trials, and not all, are in the journal."""
    return 0 < sum(path.read_text().count('"record":"trial"') for path in store.glob("journal/*.jsonl")) < most


def write_long(project: Path) -> Path:
    """Write the tiny study with steps enough to be disturbed at."""
    study = project / "tiny.py"
    study.write_text(tiny_text(steps=4000))
    return study


@pytest.mark.slow
def test_a_real_job_trains_the_study(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """The head takes the study with its token, the job fills the store, and its log comes here.

    Where RAY_ADDRESS points elsewhere the given address counts; a passed variable's value is nowhere in the output.
    """
    study, store = project / "tiny $x.py", tmp_path / "a store"
    study.write_text(tiny_text(steps=5, lrs="(0.01,)").replace("(2, 4, 8, 16)", "(2,)"))
    words = [study, "--store", store, "--seeds", 1, "--no-mlflow", "--env", "MY_PASSWORD"]
    submit = Submit(job_server, *words, RAY_ADDRESS="127.0.0.1:1", MY_PASSWORD="hunter2")
    assert submit.end() == 0, submit.output + submit.errors
    assert "ran 2 trials" in submit.output
    assert "succeeded, exit code 0" in submit.errors
    assert "hunter2" not in submit.output + submit.errors
    assert recorded(store, study) == (2, 2)


@pytest.mark.slow
def test_the_readmes_head_is_closed_and_joined(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """All that the head listens on is on loopback, and a `run` whose shell knows of no variable joins it."""
    seen: list[Listener] = []

    def all_are_up() -> bool:
        seen[:] = [one for process in job_server.processes() for one in listeners(process.pid)]
        return "raylet/raylet" in " ".join(listener.program for listener in seen)

    wait_until(all_are_up, "the head's own node is up")
    assert {job_server.ports[0], job_server.ports[1]} <= {listener.port for listener in seen}
    assert not [listener for listener in seen if not listener.on_loopback]
    study, store = project / "tiny.py", tmp_path / "store"
    study.write_text(tiny_text(steps=5, lrs="(0.01,)").replace("(2, 4, 8, 16)", "(2,)"))
    for name in ("127.0.0.1", "localhost"):
        words = ["run", study, "--store", store / name, "--seeds", 1, "--no-mlflow"]
        words += ["--address", f"{name}:{job_server.ports[0]}"]
        found = subprocess.run(
            [sys.executable, "-m", "hyperscale.cli", *map(str, words)],
            env=dict(job_server.environment()), capture_output=True, text=True, timeout=LONG_S, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert "ran 2 trials" in found.stderr
        assert "gcs_client" not in found.stderr
        assert recorded(store / name, study) == (2, 2)


@pytest.mark.slow
def test_a_job_outlives_its_follower(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """Ctrl-C half-way leaves the job running; --follow shows its log from the start and returns the run's code."""
    study, store = write_long(project), tmp_path / "store"
    first = Submit(job_server, study, "--store", store, "--no-mlflow")
    wait_until(lambda: begun(store, 32), "some trials are recorded", LONG_S)
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130
    (name,) = re.findall(r"--follow (\S+)", first.errors)
    assert len(job_server.drivers()) == 1
    second = Submit(job_server, "--follow", name, "--json")
    assert second.end() == 0, second.errors
    assert json.loads(second.output)["status"] == "SUCCEEDED"
    assert "32 trials in 8 packs" in second.errors
    assert recorded(store, study) == (32, 32)


@pytest.mark.slow
def test_a_stop_keeps_what_is_finished(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """--stop ends the run as Ctrl-C would; whoever follows gets exit code 130; submitting again finishes the rest.

    Without the token nobody stops anything, and is told what is missing.
    """
    study, store = write_long(project), tmp_path / "store"
    submit = Submit(job_server, study, "--store", store, "--no-mlflow", "--no-follow")
    assert submit.end() == 0, submit.errors
    name = submit.output.strip()
    follower = Submit(job_server, "--follow", name)
    wait_until(lambda: begun(store, 32), "some trials are recorded", LONG_S)
    refused = Submit(job_server, "--stop", name, RAY_AUTH_MODE="disabled")
    assert refused.end() == 2
    assert "RAY_AUTH_MODE=token" in refused.errors
    assert Submit(job_server, "--stop", name).end() == 0
    assert follower.end() == 130, follower.errors
    assert "Interrupted. Run the same command again" in follower.output
    assert 0 < recorded(store, study)[0] < 32
    assert Submit(job_server, study, "--store", store, "--no-mlflow").end() == 0
    assert recorded(store, study) == (32, 32)


@pytest.mark.slow
def test_a_killed_driver_is_submitted_anew(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """Kill -9 of the driver half-way: the follower says so, submits anew, and nothing is recorded twice."""
    study, store = write_long(project), tmp_path / "store"
    submit = Submit(job_server, study, "--store", store, "--no-mlflow")
    wait_until(lambda: begun(store, 32), "some trials are recorded", LONG_S)
    (driver,) = job_server.drivers()
    driver.kill()
    assert submit.end() == 0, submit.output + submit.errors
    assert "lost its driver" in submit.errors
    assert "Submitting it again (1 of 3)" in submit.errors
    assert re.search(r"reused [1-9]", submit.output)
    assert recorded(store, study) == (32, 32)


@pytest.mark.slow
def test_a_restarted_head_is_survived(job_server: JobServer, project: Path, tmp_path: Path) -> None:
    """The whole cluster dies and comes back without its jobs: the connection is taken up and the study finished."""
    study, store = write_long(project), tmp_path / "store"
    submit = Submit(job_server, study, "--store", store, "--no-mlflow")
    wait_until(lambda: begun(store, 32), "some trials are recorded", LONG_S)
    job_server.kill(keep=lambda process: process.pid == submit.process.pid)
    wait_until(lambda: "Connection lost" in submit.errors, "the loss is said")
    job_server.start()
    assert submit.end() == 0, submit.output + submit.errors
    assert "Connected again" in submit.errors
    assert "head was restarted" in submit.errors
    assert recorded(store, study) == (32, 32)
