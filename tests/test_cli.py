"""The command line: exit codes, JSON, errors in one paragraph, and help that answers at once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from hyperscale.cli import main
from hyperscale.options import MemorySize
from hyperscale.recording.store import Store
from tests.conftest import tiny_text
from tests.faults import fault_study

VERBS = ("plan", "run", "status", "report", "export", "sync", "ui", "fit")


def call(*words: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def study(write_study: Callable[..., Path]) -> Path:
    """Return the path of the tiny study."""
    return write_study(tiny_text(), "tiny.py")


def run_here(study: Path, store: Path, *more: str) -> Result:
    """Run a study in this process."""
    return call("run", study, "--store", store, "--executor", "in-process", *more)


def test_the_whole_road(study: Path, tmp_path: Path) -> None:
    """plan, run, status, report, export, sync: JSON with the promised keys, and MLflow filled without duplicates."""
    store = tmp_path / "store"
    plan = json.loads(call("plan", study, "--store", store, "--json").stdout)
    assert {k: plan[k] for k in ("study", "trials", "finished", "to_run", "packs")} == {
        "study": "tiny", "trials": 32, "finished": 0, "to_run": 32, "packs": 8,
    }  # fmt: skip
    assert not store.exists()
    ran = run_here(study, store, "--json")
    assert ran.exit_code == 0, ran.output
    summary = json.loads(ran.stdout)
    wanted = {"study": "tiny", "ran": 32, "reused": 0, "finished": 32, "diverged": 0, "failed": 0, "mlflow_missing": 0}
    assert {key: summary[key] for key in wanted} == wanted
    again = json.loads(run_here(study, store, "--json").stdout)
    assert (again["ran"], again["reused"]) == (0, 32)
    status = json.loads(call("status", study, "--store", store, "--json").stdout)
    wanted = {"study": "tiny", "trials": 32, "finished": 32, "diverged": 0, "failed": 0, "running": 0, "missing": 0}
    assert {key: status[key] for key in wanted} == wanted
    report = call("report", study, "--store", store, "--json")
    data = json.loads(report.stdout)
    assert {"study", "verdicts", "curves", "trials", "provenance"} <= set(data)
    folder = store / "reports" / "tiny"
    assert json.loads((folder / "report.json").read_text()) == data
    assert (folder / "report.html").exists()
    assert list((folder / "figures").glob("*.svg"))
    assert "0 trials added to MLflow, 32 were there already" in call("sync", study, "--store", store).stdout


def test_a_run_with_nothing_to_do_asks_mlflow_for_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even its import: the study is marked as recorded. Without its database MLflow is filled again."""
    store = tmp_path / "store"
    assert run_here(study, store).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("hyperscale.recording.mlflow_studies.connect", None)
        again = run_here(study, store, "--json")
        assert json.loads(again.stdout)["mlflow_missing"] == 0
        assert "MLflow" not in again.stderr
        assert json.loads(run_here(study, store, "--seeds", "1", "--json").stdout)["mlflow_missing"] == 0
    (store / "mlflow.db").unlink()
    assert json.loads(run_here(study, store, "--json").stdout)["mlflow_missing"] == 0
    assert "0 trials added to MLflow, 32 were there already" in call("sync", study, "--store", store).stdout


def test_a_run_per_setting_is_the_same_study(study: Path, tmp_path: Path) -> None:
    """The same trials, reused where they are done; the table from MLflow alone is that of the journal."""
    store, ours, theirs = tmp_path / "store", tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    assert run_here(study, store, "--seeds", "1").exit_code == 0
    study.write_text(study.read_text().replace("seeds=range(2),", 'seeds=range(2), mlflow_runs="per_setting",'))
    summary = json.loads(run_here(study, store, "--json").stdout)
    assert (summary["ran"], summary["reused"], summary["mlflow_missing"]) == (16, 16, 0)
    assert "0 trials added to MLflow, 32 were there already" in call("sync", study, "--store", store).stdout
    assert call("export", study, "--store", store, "--out", ours).exit_code == 0
    assert call("export", study, "--store", store, "--from-mlflow", "--out", theirs).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(ours), pd.read_parquet(theirs))
    assert call("report", study, "--store", store, "--json").exit_code == 0


def test_many_trials_are_advised_a_run_per_setting(study: Path, tmp_path: Path) -> None:
    """Above 10,000 trials the plan says so, unless the study asks for it already."""
    text = study.read_text()
    for seeds, form, advised in ((2, "per_trial", False), (700, "per_trial", True), (700, "per_setting", False)):
        study.write_text(text.replace("seeds=range(2),", f"seeds=range({seeds}), mlflow_runs={form!r},"))
        plan = json.loads(call("plan", study, "--store", tmp_path / "store", "--json").stdout)
        assert ('mlflow_runs="per_setting"' in (plan["advice"] or "")) is advised
        assert ("16 runs in MLflow" in call("plan", study, "--store", tmp_path / "store").stdout) is advised


def test_the_table_is_the_same_from_journal_and_from_mlflow(study: Path, tmp_path: Path) -> None:
    """A colleague with the tracking URI alone exports the same table."""
    store, ours, theirs = tmp_path / "store", tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    assert run_here(study, store).exit_code == 0
    assert call("export", study, "--store", store, "--out", ours).exit_code == 0
    uri = f"sqlite:///{store / 'mlflow.db'}"
    away = call("export", study, "--store", tmp_path / "none", "--tracking-uri", uri, "--from-mlflow", "--out", theirs)
    assert away.exit_code == 0, away.output
    pd.testing.assert_frame_equal(pd.read_parquet(ours), pd.read_parquet(theirs))


def test_mlflow_can_be_added_later(study: Path, tmp_path: Path) -> None:
    """--no-mlflow leaves MLflow alone; sync replays everything once."""
    store = tmp_path / "store"
    assert run_here(study, store, "--no-mlflow").exit_code == 0
    assert not (store / "mlflow.db").exists()
    assert "32 trials added" in call("sync", study, "--store", store).stdout
    assert "0 trials added" in call("sync", study, "--store", store).stdout


def test_a_dead_tracking_server_stops_nothing(study: Path, tmp_path: Path) -> None:
    """With MLflow unreachable the study finishes, says so, and exits 0; sync later is told why it cannot."""
    store = tmp_path / "store"
    ran = run_here(study, store, "--tracking-uri", "http://127.0.0.1:9", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["mlflow_missing"] == 32
    assert "MLflow" in ran.stderr
    away = call("sync", study, "--store", store, "--tracking-uri", "http://127.0.0.1:9")
    assert away.exit_code == 2
    assert "127.0.0.1:9" in away.stderr


def test_failed_trials_exit_1_and_say_why(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """Some trials failed: exit code 1, each reason once."""
    path = write_study(fault_study(tmp_path, ["well", "raise", "raise"], seeds=1))
    ran = run_here(path, tmp_path / "store", "--no-mlflow")
    assert ran.exit_code == 1
    assert "2 x failed: ValueError: told to raise" in ran.stderr


@pytest.mark.parametrize("verb", ["plan", "run", "status", "report", "sync"])
def test_a_bad_study_is_one_paragraph_and_exit_2(verb: str, write_study: Callable[..., Path], tmp_path: Path) -> None:
    """No traceback, nothing on standard output, nothing written."""
    path = write_study("from hyperscale import Study\nstudy = Study(nam='x')\n")
    result = call(verb, path, "--store", tmp_path / "store")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {path}:2: Study has no field 'nam'")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "{study}", "--executor", "in-process", "--address", "auto"), "goes with --executor ray"),
        (("run", "{study}", "--gpus-per-pack", "1.5"), "above 1 whole numbers"),
        (("run", "{study}", "--seeds", "0"), "0 is not in the range"),
        (("export", "{study}", "--out", "table.docx"), "table.docx"),
        (("report", "{study}", "--tracking-uri", "nonsense://", "--from-mlflow"), "nonsense"),
    ],
)
def test_wrong_usage_exits_2(words: Sequence[str], message: str, study: Path, tmp_path: Path) -> None:
    """A wrong option names itself and what is allowed."""
    result = call(*(word.format(study=study) for word in words), "--store", tmp_path / "store")
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_report_of_nothing_says_so(study: Path, tmp_path: Path) -> None:
    """A study that has not run yet gets a report without verdicts' numbers, not a crash."""
    result = call("report", study, "--store", tmp_path / "store", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert {verdict["verdict"] for verdict in data["verdicts"]} == {"inconclusive"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    """--help says what the verb does and explains every option."""
    result = call(verb, "--help")
    assert result.exit_code == 0
    command = main.commands[verb]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "help":
            assert option.help, option.name


def test_help_imports_nothing_heavy() -> None:
    """The command line's own import leaves torch, Ray, MLflow and pandas alone."""
    code = "import sys, hyperscale.cli; print([m for m in ('torch', 'ray', 'mlflow', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("words", [("run", "--tracking-uri", "nonsense"), ("run", "--cpus-per-pack", "nan")])
def test_a_run_that_cannot_be_meant_is_refused_before_training(
    words: Sequence[str], study: Path, tmp_path: Path
) -> None:
    """A malformed tracking URI or a resource of nan ends `run` with exit code 2 and nothing written."""
    verb, *options = words
    result = call(verb, study, "--store", tmp_path / "store", *options)
    assert result.exit_code == 2
    assert not (tmp_path / "store").exists()


def test_status_adds_up_while_a_launch_runs(study: Path, tmp_path: Path) -> None:
    """Trials of running packs are not counted as missing."""
    store = Store(folder=tmp_path / "store")
    store.write_launch("one", {"study": "tiny", "trials": 32, "ended_trials": 0, "running": 5})
    status = json.loads(call("status", study, "--store", store.folder, "--json").stdout)
    assert (status["running"], status["missing"]) == (5, 27)


# --- packs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512B", 512),
        ("2GiB", 2 * 2**30),
        ("2 gib", 2 * 2**30),
        ("1.5MiB", 3 * 2**19),
        (".5KiB", 512),
        (" 500MB ", 500 * 10**6),
        ("3kb", 3000),
        ("4g", 4 * 2**30),
        ("0.1", 1),
    ],
)
def test_sizes_of_memory_are_read(text: str, size: int) -> None:
    """A number with a unit or without, whatever the case and the spaces; never less than a byte."""
    assert MemorySize().convert(text, None, None) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "0GiB", "-1GiB", "GiB", "1TiBs", "1 2", "1e9", "nan", "inf", "1,5GiB", "2G iB", "9" * 400, "9" * 309],
)
def test_what_is_no_size_of_memory_is_refused(text: str, study: Path, tmp_path: Path) -> None:
    """The message repeats what was given and shows what is allowed; exit code 2, nothing written."""
    with pytest.raises(click.BadParameter, match="is not a size; allowed: a number above 0 with a unit"):
        MemorySize().convert(text, None, None)
    for verb in ("plan", "run"):
        result = call(verb, study, "--store", tmp_path / "store", f"--pack-memory={text}")
        assert result.exit_code == 2
        assert "is not a size" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_budget_below_one_trial_launches_nothing(verb: str, study: Path, tmp_path: Path) -> None:
    """--pack-memory that no trial fits into: one paragraph with the numbers, exit code 2, nothing written."""
    result = call(verb, study, "--store", tmp_path / "store", "--pack-memory", "1MiB")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: A pack may take 1 MiB (--pack-memory), and one trial alone (")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_a_plan_tells_what_was_measured_and_the_largest_pack(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """A study worth it is measured once, says so on standard error, and its JSON names program by program."""
    text = tiny_text(steps=30_000).replace("for width in (2, 4, 8, 16)", "for width in (4, 8)")
    study, store = write_study(text, "tiny.py"), tmp_path / "store"
    first = call("plan", study, "--store", store, "--json")
    assert first.exit_code == 0, first.output
    plan = json.loads(first.stdout)
    assert "Measuring" in first.stderr
    assert [row["trials"] for row in plan["programs"]] == [4] * 4
    assert all(row["packs"] * row["largest_pack"] >= row["trials"] > 0 for row in plan["programs"])
    assert any(row["measured"] for row in plan["programs"])
    known = sum(row["measured"] for row in plan["programs"])
    assert sum(len(kept) for kept in json.loads((store / "probes.json").read_text()).values()) == known
    small = json.loads(call("plan", study, "--store", store, "--json", "--max-pack", "1").stdout)
    assert [row["largest_pack"] for row in small["programs"]] == [1] * 4
    assert sum(row["measured"] for row in small["programs"]) == known


def test_a_plan_of_little_work_measures_nothing(study: Path, tmp_path: Path) -> None:
    """Packs of a small study come from the fixed model, and the plan marks them so; --max-pack is kept to."""
    plan = json.loads(call("plan", study, "--store", tmp_path / "store", "--json", "--max-pack", "3").stdout)
    assert {row["measured"] for row in plan["programs"]} == {False}
    assert max(row["largest_pack"] for row in plan["programs"]) <= 3
    shown = call("plan", study, "--store", tmp_path / "store")
    assert shown.exit_code == 0
    assert "~" in shown.stdout
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("", "names no place"),
        ("memory://", "names no place there"),
        ("memory://x", "is forgotten when the command ends"),
        ("s3://", "names no place there"),
        ("s3:/bucket/x", "looks like s3://bucket/x with a slip"),
        ("https://host/x", "cannot be written to"),
        ("s4://bucket/x", "begins with s4://, which fsspec does not know"),
    ],
)
def test_a_store_that_keeps_nothing_is_refused(study: Path, store: str, why: str, tmp_path: Path) -> None:
    """Before anything is trained or made; `submit` refuses it too."""
    for verb in ("run", "submit", "status"):
        found = call(verb, study, "--store", store)
        assert found.exit_code == 2, (verb, found.output)
        assert why in " ".join(found.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == [study.name]


def test_a_ui_on_a_busy_port_says_so(tmp_path: Path) -> None:
    """Exit code 2 and no address, instead of links to somebody else's server."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        found = call("ui", "--store", tmp_path, "--port", port)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert f"127.0.0.1:{port}: something listens there already. Choose another --port" in found.stderr
