"""Secrets come from the environment or private files, and are written nowhere."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hyperscale.cli import main
from hyperscale.errors import StoreError
from hyperscale.recording.credentials import check_private, has_password, hidden, hidden_command
from tests.conftest import tiny_text
from tests.faults import fault_study

SECRET = "s3cret-Pa55word"
TOKEN = "tok-0123456789-abcdef"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"postgresql://alice:{SECRET}@db/mlflow is gone", "postgresql://alice:***@db/mlflow is gone"),
        (f"http://alice:{SECRET}@host:5000/a", "http://alice:***@host:5000/a"),
        ("http://:p@host", "http://:***@host"),
        (f"https://{TOKEN}@host/path", "https://***@host/path"),
        ("postgresql://alice:12345@db/mlflow", "postgresql://alice:***@db/mlflow"),
        ("postgresql://alice:a/b@c@db/mlflow", "postgresql://alice:***@db/mlflow"),
        (f"postgresql://db/mlflow?user=alice&password={SECRET}", "postgresql://db/mlflow?user=alice&password=***"),
        (f"mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3D{SECRET}", "mssql+pyodbc:///?odbc_connect=***"),
        (f"s3://bucket/store?aws_secret_access_key={SECRET}", "s3://bucket/store?aws_secret_access_key=***"),
        (f"connection to host=db password={SECRET} failed", "connection to host=db password=*** failed"),
        ("http://127.0.0.1:5000/#/experiments", "http://127.0.0.1:5000/#/experiments"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("learning_rate=0.1, seed 3, a@b.example", "learning_rate=0.1, seed 3, a@b.example"),
    ],
)  # fmt: skip
def test_passwords_in_text_are_hidden(text: str, wanted: str) -> None:
    """However an address is written; what is no secret is left as it is."""
    assert hidden(text) == wanted
    assert hidden(hidden(text)) == wanted


def test_values_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their variable's name; a path, a mode or a word too short to tell apart stays."""
    for name, value in {
        "MLFLOW_TRACKING_PASSWORD": SECRET, "RAY_AUTH_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": "AKIA/abc+def",
        "MY_API_KEY": "sk-1234567", "RAY_AUTH_TOKEN_PATH": "/home/a/token", "DB_PASSWORD": "short",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    text = f"{SECRET} {TOKEN} AKIA/abc+def sk-1234567 /home/a/token short"
    assert hidden(text) == "*** *** *** *** /home/a/token short"


def test_a_command_line_is_shown_without_its_secrets() -> None:
    """Still quoted, so that it can be pasted once the secret is filled in."""
    words = ["hyperscale", "report", "a study.py", "--tracking-uri", f"postgresql://a:{SECRET}@db/m"]
    assert hidden_command(words) == "hyperscale report 'a study.py' --tracking-uri 'postgresql://a:***@db/m'"


def test_a_file_of_secrets_is_its_owners_alone(tmp_path: Path) -> None:
    """Any bit for group or others is refused, with the command that takes it away."""
    path = tmp_path / "my token"
    with pytest.raises(StoreError, match=r"The token file .* cannot be read"):
        check_private(path, "The token file")
    path.write_text(TOKEN)
    for mode in (0o644, 0o640, 0o604, 0o620, 0o602, 0o601):
        path.chmod(mode)
        with pytest.raises(StoreError, match=rf"has mode {mode:o}.*allowed: 600.*chmod 600 '{path}'") as told:
            check_private(path, "The token file")
        assert TOKEN not in str(told.value)
    for mode in (0o600, 0o400):
        path.chmod(mode)
        check_private(path, "The token file")


def call(*words: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("verb", ["run", "report", "sync", "export"])
def test_a_password_on_the_command_line_is_refused(verb: str, write_study: Callable[..., Path], tmp_path: Path) -> None:
    """`ps` would show it to everybody; the environment is where it belongs."""
    study, more = write_study(tiny_text()), ["--out", tmp_path / "a.csv"] if verb == "export" else []
    uri = f"postgresql://alice:{SECRET}@db/mlflow"
    found = call(verb, study, "--store", tmp_path / "store", "--tracking-uri", uri, *more)
    assert found.exit_code == 2
    assert "MLFLOW_TRACKING_URI" in found.stderr
    assert SECRET not in found.output
    assert has_password(uri)
    assert not has_password("http://127.0.0.1:5000")


def files_with(folder: Path, *secrets: str) -> list[str]:
    """Return which files have one of the secrets in them, or in their names."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        found += [str(path) for secret in secrets if secret.encode() in content or secret in path.name]
    return found


def test_nothing_that_run_and_report_write_has_a_secret(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journal, launches, report, PDF text, standard output and error; with MLflow down, and trials that fail of it."""
    with socket.socket() as taken:  # bound, but it does not listen: a connection is refused
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:{SECRET}@{address}")
        monkeypatch.setenv("MY_SERVICE_TOKEN", TOKEN)
        told = "cannot reach http://bob:{'hunter2' * 2}@db/ with {os.environ['MY_SERVICE_TOKEN']}"
        text = fault_study(tmp_path, ["well", "raise", "well"]).replace('"told to raise"', f'f"{told}"')
        study, store = write_study(text), tmp_path / "store"
        run = call("run", study, "--store", store, "--executor", "in-process", "--json")
        assert run.exit_code == 1, run.output
        assert "cannot be reached" in run.stderr
        reports = [call("report", study, "--store", store), call("status", study, "--store", store)]
        sync = call("sync", study, "--store", store)
    assert [report.exit_code for report in reports] == [0, 0], reports[0].output
    assert sync.exit_code == 2
    said = "".join(found.output for found in (run, *reports, sync))
    secrets = (SECRET, TOKEN, "hunter2" * 2)
    assert not [secret for secret in secrets if secret in said]
    assert "cannot reach http://bob:***@db/ with ***" in said.replace("\n", " ")
    assert not files_with(store, *secrets)
    assert files_with(store, "cannot reach http://bob:***@db/ with ***")


def test_a_default_database_has_no_secret_of_the_environment(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's tags, params, notes and artifacts, with the study file and the report among them."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    study, store = write_study(fault_study(tmp_path, ["well"])), tmp_path / "store"
    assert call("run", study, "--store", store, "--executor", "in-process").exit_code == 0
    assert call("report", study, "--store", store).exit_code == 0
    assert (store / "mlflow.db").exists()
    assert not files_with(store, TOKEN, SECRET)
