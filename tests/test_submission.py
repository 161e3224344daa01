"""The verb `submit`: what it sends and refuses, what it never shows, and a real job server."""

from __future__ import annotations

import http.server
import json
import shlex
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from hyperscale.cli import main, run
from hyperscale.dispatch.following import JobRequest, JobState
from hyperscale.errors import StudyError
from hyperscale.submission import entrypoint_of, make_runtime_env, options_of_run
from tests.conftest import tiny_text
from tests.job_servers import free_ports

SECRET = "hunter2-do-not-show"


class Pretended:
    """A job server that takes everything, and keeps what it took."""

    shown = "http://head:8265"
    requests: list[JobRequest]
    ending = JobState(status="SUCCEEDED", exit_code=0)
    parts: tuple[str | BaseException, ...] = ("trained\n",)

    def __init__(self, address: str) -> None:
        type(self).requests = []

    def submit(self, request: JobRequest) -> None:
        """Keep the request."""
        assert request.archive.stat().st_size > 0
        self.requests.append(request)

    def state(self, submission_id: str) -> JobState | None:
        """Say that the job has ended."""
        return self.ending

    def stop(self, submission_id: str) -> bool:
        """Say that it was running."""
        return True

    def log(self, submission_id: str) -> Generator[str, None, None]:
        """Yield the parts, raising the exceptions among them."""
        for part in self.parts:
            if isinstance(part, BaseException):
                raise part
            yield part


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    """Let `submit` talk to a server that is not there."""

    class Server(Pretended):
        pass

    monkeypatch.setattr("hyperscale.dispatch.ray_jobs.RayJobs", Server)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return Server


@pytest.fixture
def study(write_study: Callable[..., Path], tmp_path: Path) -> Path:
    """The tiny study in a project, in a folder whose name needs quoting."""
    (tmp_path / "pyproject.toml").touch()
    folder = tmp_path / "it's mine"
    folder.mkdir()
    return write_study(tiny_text(steps=5, lrs="(0.01,)"), "it's mine/tiny $x.py")


def call(*words: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, ["submit", *map(str, words)])


def test_a_study_is_sent_and_followed(pretended: type[Pretended], study: Path) -> None:
    """The log goes to standard output, what `submit` says to standard error, and the command is `run` there."""
    result = call(study, "--store", "/shared/my results", "--seeds", 1, "--no-mlflow", "--pack-memory", "1KiB")
    assert result.exit_code == 0, result.output
    assert result.stdout == "trained\n"
    (request,) = pretended.requests
    assert request.submission_id.startswith("tiny-2")
    assert f"Submitted {request.submission_id} to http://head:8265" in result.stderr
    assert shlex.split(request.entrypoint) == [
        "python", "-m", "hyperscale.cli", "run", "./it's mine/tiny $x.py", "--address", "auto",
        "--store", "/shared/my results", "--seeds", "1", "--no-mlflow", "--pack-memory", "1024",
    ]  # fmt: skip


def test_json_is_one_object_and_the_code_is_the_run_s(pretended: type[Pretended], study: Path) -> None:
    """With --json standard output holds one object; trials that failed make exit code 1 here too."""
    pretended.ending = JobState(status="FAILED", exit_code=1)
    result = call(study, "--store", "/s", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["status"], data["exit_code"]) == ("FAILED", 1)
    assert data["submission_id"] == pretended.requests[0].submission_id
    assert "trained" in result.stderr


def test_without_following_the_identifier_is_all(pretended: type[Pretended], study: Path) -> None:
    """--no-follow prints the identifier, for scripts, and says how to follow and stop."""
    result = call(study, "--store", "/s", "--no-follow")
    (request,) = pretended.requests
    assert result.stdout == f"{request.submission_id}\n"
    for way in ("--follow", "--stop"):
        assert f"hyperscale submit --address http://head:8265 {way} {request.submission_id}" in result.stderr


def test_ctrl_c_stops_following_and_not_the_job(pretended: type[Pretended], study: Path) -> None:
    """The job goes on, and how to follow and stop it is said; the exit code is that of an interruption."""
    pretended.parts = ("started\n", KeyboardInterrupt())
    result = call(study, "--store", "/s")
    assert result.exit_code == 130
    assert "goes on" in result.stderr
    assert "--follow tiny-2" in result.stderr
    assert "--stop tiny-2" in result.stderr


def test_a_job_is_followed_and_stopped_by_its_identifier(pretended: type[Pretended]) -> None:
    """--follow prints the log and returns the run's code; --stop asks for the end."""
    followed = call("--follow", "tiny-1")
    assert (followed.exit_code, followed.stdout) == (0, "trained\n")
    assert "is being stopped" in call("--stop", "tiny-1").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give one of"),
        (["STUDY", "--follow", "x"], "Give one of"),
        (["STUDY"], "--store"),
        (["STUDY", "--store", "results"], "temporary folder"),
        (["STUDY", "--store", "/s", "--tracking-uri", "postgresql://me:hunter2@db/x"], "password"),
        (["STUDY", "--store", "/s", "--env", "NO_SUCH_VARIABLE_HERE"], "no such variable"),
        (["STUDY", "--store", "/s", "--env", "NAME=hunter2"], "no such variable"),
        (["STUDY", "--store", "/s", "--runtime-env", "/no/such.yaml"], "cannot be read"),
        (["STUDY", "--store", "/s", "--seeds", "0"], "--seeds"),
        (["missing.py", "--store", "/s"], "does not exist"),
        (["BROKEN", "--store", "/s"], "NameError"),
    ],
)
def test_what_is_wrong_here_never_gets_sent(
    pretended: type[Pretended], study: Path, words: list[str], said: str
) -> None:
    """A bad study, store, variable or option is one paragraph and exit code 2 before anything is sent."""
    broken = study.with_name("broken.py")
    broken.write_text("study = Studie()")
    names = {"STUDY": str(study), "BROKEN": str(broken)}
    pretended.requests = []
    result = call(*(names.get(word, word) for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "hunter2" not in result.output
    assert pretended.requests == []


def test_a_server_that_is_not_there_is_one_paragraph(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, or the address is for another kind of client: said at once, with what to do."""
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://user:{SECRET}@127.0.0.1:{port}")
    result = call(study, "--store", "/s")
    assert result.exit_code == 2
    assert f"http://127.0.0.1:{port}: Connection refused" in result.stderr
    assert SECRET not in result.output
    for address in ("auto", "ray://head:10001", "http://", "http://head:port"):
        result = call(study, "--store", "/s", "--address", address)
        assert (result.exit_code, "http://HOST:8265" in result.stderr) == (2, True), address


def test_a_server_that_is_no_ray_is_said_to_be_none(study: Path) -> None:
    """Something listens, and hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ending = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(2)], daemon=True)
        ending.start()
        result = call(study, "--store", "/s", "--address", f"http://127.0.0.1:{server.getsockname()[1]}")
        ending.join()
    assert result.exit_code == 2
    assert "answers as Ray's dashboard does. `submit` wants the dashboard's address" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("answer", ['{"name": "other"}', "[]", '{"ray_version": "abc"}', "nothing", ""])
def test_a_server_of_something_else_is_said_to_be_none(answer: str, study: Path) -> None:
    """It answers everything with the same JSON, or with none."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = call(study, "--store", "/s", "--address", f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert result.exit_code == 2
    assert "answers as Ray's dashboard does" in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_option_of_run_reaches_run_unchanged(pretended: type[Pretended], study: Path) -> None:
    """Each is given to `submit`, and `run` parses from the job's command what it would have from the option itself."""
    values = {"tracking_uri": "http://mlflow:5000", "pack_memory": "2GiB"}
    words: list[str] = []
    for option in options_of_run(run):
        assert isinstance(option, click.Option)
        choices = getattr(option.type, "choices", None)
        value = values.get(option.name or "", str(choices[-1]) if choices else "1")
        words += [option.opts[0], *([] if option.is_flag else [value])]
    result = call(study, "--store", "/s", *words)
    assert result.exit_code == 0, result.output
    there = shlex.split(pretended.requests[0].entrypoint)[4:]
    wanted = run.make_context("run", [str(study), "--store", "/s", "--address", "auto", *words]).params
    found = run.make_context("run", there).params
    assert {k: v for k, v in found.items() if k != "study"} == {k: v for k, v in wanted.items() if k != "study"}


def test_a_runtime_environment_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's packages and variables go along, --env wins, excludes are for the upload, a stop is as by Ctrl-C."""
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    path = tmp_path / "env.yaml"
    path.write_text("pip: [einops]\nenv_vars: {A: 'one', DATABASE_PASSWORD: other}\nexcludes: ['*.csv']\n")
    made, excludes = make_runtime_env(path, ["DATABASE_PASSWORD"])
    assert made["pip"] == ["einops"]
    assert made["env_vars"] == {
        "RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60", "A": "one", "DATABASE_PASSWORD": SECRET,
    }  # fmt: skip
    assert excludes == ["*.csv"]
    assert set(made) == {"pip", "env_vars"}


BAD_ENVIRONMENTS = (
    "[a", "- a", "1", "", "env_vars: {A: 1}", "env_vars: [a]", "excludes: '*.csv'", "working_dir: .", "\x00", "a: !!x",
)  # fmt: skip


@pytest.mark.parametrize("text", BAD_ENVIRONMENTS)
def test_a_bad_runtime_environment_is_one_paragraph(text: str, tmp_path: Path) -> None:
    """Not YAML, no mapping, values that are no texts, and what `submit` decides itself."""
    path = tmp_path / "env.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match="--runtime-env"):
        make_runtime_env(path, [])


def test_a_passed_variable_is_not_shown(
    pretended: type[Pretended], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value is in the job's environment and in nothing that is printed, nor in the command."""
    monkeypatch.setenv("MY_PASSWORD", SECRET)
    result = call(study, "--store", "/s", "--env", "MY_PASSWORD", "--json")
    (request,) = pretended.requests
    assert request.runtime_env["env_vars"]["MY_PASSWORD"] == SECRET
    assert SECRET not in result.output + repr(request) + request.entrypoint


def test_a_variable_behind_an_option_is_said_to_stay_here(
    pretended: type[Pretended], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_URI of this machine may mean nothing there: neither passed on nor dropped silently."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    result = call(study, "--store", "/s")
    assert "--tracking-uri" not in pretended.requests[0].entrypoint
    assert "Not passed on: the variable behind --tracking-uri" in result.stderr


def test_a_study_named_like_an_option_stays_a_path(tmp_path: Path) -> None:
    """The path begins with ./ so that no name is taken for an option."""
    assert " run ./-x.py " in entrypoint_of(tmp_path / "-x.py", tmp_path, "/s", [])
