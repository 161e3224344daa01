"""Tests of `hyperscale fit`: what it prints, its JSON, its figure, its exit codes, and help that teaches."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis import fit_table
from analysis.fits.fitting import MODELS
from hyperscale.cli import main
from hyperscale.options import is_place
from tests.test_table_fit import chinchilla_table, power_table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with the tables of the tests."""
    monkeypatch.chdir(tmp_path)
    power_table(9, noise=0.05, seed=2).assign(train=[1] * 7 + [0] * 2).to_csv("power.csv", index=False)
    chinchilla_table().to_parquet("chinchilla.parquet")
    groups = [power_table(8, slope=s).assign(task=task) for task, s in (("[red]a", 0.5), ("b", 1.0), ("c", 2.0))]
    groups[2].loc[0, "loss"] = 0.0
    pd.concat(groups).to_csv("groups.csv", index=False)
    return tmp_path


def fit(*words: object) -> Result:
    """Run `hyperscale fit` in this process."""
    return CliRunner().invoke(main, ["fit", *map(str, words)])


POWER = ("power.csv", "--x", "N", "--y", "loss", "--model", "power")


def test_a_summary_is_printed_and_a_figure_drawn(folder: Path) -> None:
    """The law with its numbers, parameters, exponent, status, predictions, the score, and where the figure is."""
    shown = fit(*POWER, "--train", "train", "--predict", 4096, 8192)
    assert shown.exit_code == 0, shown.output
    record = fit_table("power.csv", x="N", y="loss", model="power", train="train", predict=[4096, 8192]).records[0]
    assert record.fit is not None
    assert record.predictions is not None
    assert record.held_out is not None
    for text in (
        "y = loss, x = N: 7 points",
        record.equation,
        f"{record.fit.parameters['s'].estimate:.6g}",
        "status: converged",
        f"{record.predictions.y[1]:.4g}",
        f"held out (train is 0): 2 rows, RMSLE {record.held_out.rmsle:.4f}",
        "Figure: results/fits/power-loss-against-N.png",
    ):
        assert text in shown.stdout, text
    assert (folder / "results" / "fits" / "power-loss-against-N.png").read_bytes()[:4] == b"\x89PNG"


def test_json_is_one_object_and_nothing_else(folder: Path) -> None:
    """Standard output parses as the function's own JSON; without --out nothing is drawn."""
    shown = fit(*POWER, "--predict", 4096, 8192, "--bootstrap", 20, "--seed", 7, "--json")
    data = json.loads(shown.stdout)
    assert shown.exit_code == 0
    found = fit_table("power.csv", x="N", y="loss", model="power", predict=[4096, 8192], num_resamples=20, seed=7)
    assert data == {**json.loads(json.dumps(found.to_json())), "figure": None}
    assert not (folder / "results").exists()


def test_pairs_are_predicted_with_two_sizes(folder: Path) -> None:
    """--x2 means Chinchilla's law; pairs may follow one --predict or several."""
    words = ("chinchilla.parquet", "--x", "N", "--x2", "D", "--y", "loss", "--json")
    one = json.loads(fit(*words, "--predict", "1e9,1e10", "2e9,3e10").stdout)
    two = json.loads(fit(*words, "--predict", "1e9,1e10", "--predict=2e9,3e10").stdout)
    assert one == two
    assert one["model"] == "chinchilla"
    assert [(row["x"], row["x2"]) for row in one["predictions"]] == [(1e9, 1e10), (2e9, 3e10)]


def test_groups_are_a_list_and_a_table(folder: Path) -> None:
    """One object a group with its values; printed, a line each, a failed one with its reason; names are no markup."""
    words = ("groups.csv", "--x", "N", "--y", "loss", "--model", "power", "--group", "task")
    data = json.loads(fit(*words, "--json").stdout)
    assert [one["group"] for one in data] == [{"task": "[red]a"}, {"task": "b"}, {"task": "c"}]
    assert [one["status"] for one in data] == ["converged", "converged", "failed"]
    shown = fit(*words, "--out", folder / "pictures")
    assert shown.exit_code == 0
    assert "[red]a" in shown.stdout
    assert "c: failed: The column 'loss' (y) has 1 of 8 values that are not positive" in shown.stdout
    assert (folder / "pictures" / "groups-loss-against-N-by-task.png").exists()


def test_where_every_group_failed_the_exit_code_says_so(folder: Path) -> None:
    """Exit code 1 with the reasons, and the objects in JSON."""
    words = ("groups.csv", "--x", "N", "--y", "loss", "--group", "task", "--where", "task == 'c'")
    shown = fit(*words, "--json")
    assert (shown.exit_code, json.loads(shown.stdout)[0]["status"]) == (1, "failed")
    assert fit(*words).exit_code == 1


def test_a_doubtful_fit_is_no_error(folder: Path) -> None:
    """A status other than converged ends with exit code 0; the remedy is printed."""
    shown = fit("power.csv", "--x", "N", "--y", "loss", "--model", "broken-power", "--out", "f.svg")
    assert shown.exit_code == 0
    assert "status: not identified" in shown.stdout or "status: bound hit" in shown.stdout
    assert "add " in shown.stdout.lower() or "use " in shown.stdout.lower()
    assert (folder / "f.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("none.csv", "--x", "N", "--y", "loss"), "There is no file none.csv"),
        (("powr.csv", "--x", "N", "--y", "loss"), "did you mean 'power.csv'"),
        (("power.csv", "--x", "n", "--y", "loss"), "columns are N, loss, train"),
        (("power.csv", "--x", "N", "--y", "loss", "--predict", "ten"), "'ten' is no number"),
        (("power.csv", "--x", "N", "--y", "loss", "--predict", "-5"), "allowed: numbers above 0"),
        (("power.csv", "--x", "N", "--y", "loss", "--predict", "1,2"), "one number, x"),
        (("power.csv", "--x", "N", "--y", "loss", "--where", "N >"), "where = 'N >' cannot be used"),
        (("power.csv", "--x", "N", "--y", "loss", "--out", "f.doc"), "allowed: a folder, or a file that ends in"),
        (("power.csv", "--x", "N", "--y", "loss", "--model", "power", "--out", "power.csv/f.png"), "cannot be written"),
        (("power.csv", "--y", "loss"), "--x"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(folder: Path, words: tuple[str, ...], says: str) -> None:
    """No traceback; nothing on standard output."""
    shown = fit(*words)
    assert shown.exit_code == 2
    assert says in shown.stderr
    assert "Traceback" not in shown.output
    assert not shown.stdout


def test_help_teaches_with_examples() -> None:
    """The help shows commands to type, every option, and what each status means."""
    text = fit("--help").stdout
    for part in ("hyperscale fit runs.csv --x", "--x2", "--group", "--train", "--bootstrap", "not_identified", "huber"):
        assert part in text, part
    unbroken = text.replace("-\n", "-").replace(" ", "").replace("\n", "")
    for name in MODELS:
        assert name.replace("_", "-") in unbroken, name


def test_numbers_are_told_from_words() -> None:
    """What follows --predict is a place if it is a number, or numbers with commas."""
    assert [is_place(word) for word in ("1e9", "-5", "1,2", "table.csv", "--json", "")] == [True] * 3 + [False] * 3
