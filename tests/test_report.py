"""Tests of `analysis.reporting.report` (with `gallery` and `summary`): what the page and the JSON say."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.reporting.page import number, powers, split_remark
from analysis.reporting.report import write_report
from analysis.reporting.summary import describe, partial_notice, troubles
from hyperscale.claims import Calibration, Monotone, Ordering, ScalingRate
from hyperscale.errors import AnalysisError
from hyperscale.study import Study, StudyFile
from hyperscale.trial import Trial, TrialRecord, TrialResult, TrialStatus
from tests.untrained import Untrained

TEXT = """Does the <primary> network suffice?

Free words about it.

Question    Which errs less, at
            equal size?
Prediction  Error of order N^-1.
"""
NAMES = ("study", "trials", "finished", "diverged", "failed", "missing", "verdicts", "curves", "provenance")
VERDICT_NAMES = ("claim", "theorem", "verdict", "reason", "estimate", "interval", "predicted")
CURVE_NAMES = ("method", "exponent", "interval", "points")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fake(Untrained):
    """A setting that is never trained: the report sees its columns only."""

    method: str
    width: int
    lr: float

    @property
    def method_name(self) -> str:
        """The method."""
        return self.method

    def columns(self) -> dict[str, str | int | float]:
        """Method, size and learning rate."""
        return {"method": self.method, "num_params_primary": 3 * self.width + 1, "lr": self.lr}

    def metric_names(self) -> tuple[str, ...]:
        """Two errors."""
        return ("sup_error", "rmse")


def study_file(seeds: int = 2, widths: tuple[int, ...] = (2, 4, 8, 16, 32), claims: tuple = ()) -> StudyFile:
    """Return a study of two methods and two learning rates with a claim of each kind."""
    settings = [
        Fake(method=m, width=w, lr=lr) for m in ("Hypernetwork", "Embedding") for w in widths for lr in (0.01, 0.1)
    ]
    claims = claims or (
        ScalingRate(method="Hypernetwork", bound="upper", exponent=1.0, theorem="Thm. 4, Paper", conditions=("If.",)),
        ScalingRate(method="Embedding", bound="lower", exponent=0.5, theorem="Thm. 2, Paper", hard_family=True),
        Ordering(metric="sup_error", lower="Hypernetwork", higher="Embedding"),
        Monotone(method="Embedding", metric="rmse", along="num_params_primary", direction="decreasing"),
    )
    study = Study(name="planted", settings=settings, seeds=range(seeds), metrics=("sup_error", "rmse"), claims=claims)
    return StudyFile(study=study, description=TEXT, source="study = ...  # <source>", path=Path("planted.py"))


def finished(trial: Trial) -> TrialRecord:
    """Return the record of a finished trial on a planted law: exponent 1.2 or 0.4."""
    columns = trial.setting.columns()
    exponent = 1.2 if columns["method"] == "Hypernetwork" else 0.4
    value = float(columns["num_params_primary"]) ** -exponent * (1 + 0.02 * trial.seed + columns["lr"])
    result = TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=TrialStatus.FINISHED,
        metrics={"sup_error": value, "rmse": value / 2},
        curves={"train_loss": [[0, 1, 10, 100], [1.0, 0.5, 0.2, value]]},
        provenance={"wall_time_s": 2.0, "device": "cpu", "hardware": "two cores", "versions": {"torch": "2.12"}},
    )
    return TrialRecord(result=result, columns=columns)


def ended(record: TrialRecord, status: str, reason: str) -> TrialRecord:
    """Return the record as one that did not finish."""
    result = replace(record.result, status=TrialStatus(status), reason=reason, metrics={}, curves={})
    return TrialRecord(result=result, columns=record.columns)


class Loads(HTMLParser):
    """Collect everything in a page that would load a resource."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Note the tag and the attributes that name a resource."""
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.found.append(value or "")


def strict(path: Path) -> dict:
    """Read JSON, refusing NaN and infinities."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in report.json"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the report of a complete study."""
    file = study_file()
    records = [finished(trial) for trial in file.study.trials()]
    return write_report(file, records, tmp_path_factory.mktemp("report"), command="hyperscale report planted.py")


def test_json_has_the_fixed_names_and_the_planted_numbers(report) -> None:
    """report.json is strict JSON with the promised keys; exponents and verdicts are the planted ones."""
    data = strict(report.json)
    assert set(NAMES) <= set(data)
    assert (data["study"], data["trials"], data["finished"], data["missing"]) == ("planted", 40, 40, 0)
    assert all(set(VERDICT_NAMES) <= set(verdict) for verdict in data["verdicts"])
    assert all(set(CURVE_NAMES) <= set(curve) for curve in data["curves"])
    assert [v["verdict"] for v in data["verdicts"]] == ["attained", "not contradicted", "supported", "supported"]
    exponents = {curve["method"]: curve["exponent"] for curve in data["curves"]}
    assert exponents == pytest.approx({"Hypernetwork": 1.2, "Embedding": 0.4})
    assert len(data["curves"][0]["points"]) == 5
    assert data["provenance"]["versions"] == {"torch": ["2.12"]}
    assert data["provenance"]["wall_time_s"] == 80.0
    assert data == json.loads(json.dumps(report.data))


def test_calibration_trials_stay_out_of_curves_and_figures(tmp_path) -> None:
    """Trials that measure the optimisation gap are counted and judged, but are no points of the study's envelope."""
    known = Calibration(where={"lr": 0.1}, infimum_constant=1.0, infimum_exponent=1.2)
    rate = ScalingRate(method="Hypernetwork", bound="upper", exponent=1.0, calibration=known)
    file = study_file(claims=(rate,))
    report = write_report(file, [finished(trial) for trial in file.study.trials()], tmp_path)
    curves = {curve["method"]: curve["points"] for curve in strict(report.json)["curves"]}
    for method in ("Hypernetwork", "Embedding"):
        assert {point["spent"] for point in curves[method]} == {2}
    assert report.data["finished"] == 40


def test_page_is_one_file_that_loads_nothing(report) -> None:
    """No script, no link, no address: only fragments of the page itself and embedded images."""
    text = report.html.read_text()
    page = Loads()
    page.feed(text)
    assert all(target.startswith(("#", "data:image/png")) for target in page.found), page.found
    assert not {"script", "link", "iframe", "img"} & page.tags
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= names


def test_page_shows_verdicts_before_figures_and_escapes_text(report) -> None:
    """Study text, then verdicts, then figures, troubles, settings, provenance; markup in text is escaped."""
    text = report.html.read_text()
    order = ["Does the &lt;primary&gt; network", 'id="verdicts"', 'id="figure-scaling"', 'id="figure-exponents"',
             'id="figure-training"', 'id="troubles"', 'id="settings"', 'id="provenance"']  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "<primary>" not in text
    assert "<source>" not in text
    assert "Which errs less, at equal size?" in text
    assert "Error of order N<sup>−1</sup>." in text
    assert "hyperscale report planted.py" in text
    assert "Partial study" not in text


def test_figures_exist_in_both_forms(report) -> None:
    """Every figure named in the JSON lies in figures/ as SVG and PNG."""
    assert report.data["figures"] == ["scaling", "exponents", "training", "evidence-1", "evidence-2"]
    for name in report.data["figures"]:
        for ending in ("svg", "png"):
            assert (report.folder / "figures" / f"{name}.{ending}").stat().st_size > 1000


def test_partial_study_says_so_and_lists_what_went_wrong(tmp_path) -> None:
    """Missing trials are announced at the top; diverged and failed ones are grouped with their reasons."""
    file = study_file()
    records = [finished(trial) for trial in file.study.trials()][:-3]
    records[0] = ended(records[0], "diverged", "loss was not finite at step 12")
    records[1] = ended(records[1], "diverged", "loss was not finite at step 900")
    records[2] = ended(records[2], "failed", "the worker died")
    report = write_report(file, records, tmp_path)
    data = strict(report.json)
    assert (data["finished"], data["diverged"], data["failed"], data["missing"]) == (34, 2, 1, 3)
    groups = [(t["status"], t["count"], t["same_reason"]) for t in data["troubles"]]
    assert groups == [("diverged", 2, False), ("failed", 1, True)]
    text = report.html.read_text()
    assert text.index("Partial study") < text.index('id="verdicts"')
    assert "39 of 40" not in text
    assert "36 of 40 trials have ended; 3 have not run, 1 failed or ran out of memory" in text
    assert "Hypernetwork, lr 0.01: 2" in text


@pytest.mark.parametrize("kind", ["nothing", "all diverged"])
def test_no_finished_trial_is_a_report_too(tmp_path, kind: str) -> None:
    """With nothing finished the page says so, every verdict is inconclusive, and no figure is made."""
    file = study_file()
    records = [] if kind == "nothing" else [ended(finished(t), "diverged", "") for t in file.study.trials()]
    report = write_report(file, records, tmp_path)
    data = strict(report.json)
    assert data["finished"] == 0
    assert {v["verdict"] for v in data["verdicts"]} == {"inconclusive"}
    assert data["figures"] == []
    assert "No trial has finished." in report.html.read_text()


def test_missing_metrics_become_null_and_a_dash(tmp_path) -> None:
    """A setting whose trials reported nothing has null in the JSON and a dash on the page, no number."""
    file = study_file()
    records = [finished(trial) for trial in file.study.trials()]
    lost = records[0].columns
    records = [
        TrialRecord(result=replace(r.result, metrics={}), columns=r.columns) if r.columns == lost else r
        for r in records
    ]
    row = strict(write_report(file, records, tmp_path).json)["settings"]
    empty = [r for r in row if r["best sup_error"] is None]
    assert len(empty) == 1
    assert empty[0]["finished"] == 2


def test_the_same_records_give_the_same_files(tmp_path) -> None:
    """Writing twice gives equal bytes, so that a report can be compared and cached."""
    file = study_file()
    records = [finished(trial) for trial in file.study.trials()]
    first, second = (write_report(file, records, tmp_path / name) for name in ("a", "b"))
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.json.read_bytes() == second.json.read_bytes()


def test_ten_thousand_trials_are_quick(tmp_path) -> None:
    """A report of 10,000 trials takes well under a minute and stays a page one can open (10 MB)."""
    file = study_file(seeds=500)
    records = [finished(trial) for trial in file.study.trials()]
    assert len(records) == 10_000
    start = time.perf_counter()
    report = write_report(file, records, tmp_path)
    assert time.perf_counter() - start < 40
    assert report.html.stat().st_size < 10_000_000


def test_unwritable_folder_is_a_clear_refusal(tmp_path) -> None:
    """A file where the folder should be is an AnalysisError that says what to do."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(AnalysisError, match="--out"):
        write_report(study_file(), [], tmp_path / "taken")


def test_description_is_taken_apart() -> None:
    """The first line, the free paragraphs and the labelled parts, continuation lines joined."""
    parts = describe(TEXT, "planted")
    assert parts.headline == "Does the <primary> network suffice?"
    assert parts.paragraphs == ("Free words about it.",)
    assert parts.parts == (("Question", "Which errs less, at equal size?"), ("Prediction", "Error of order N^-1."))
    assert describe("", "planted").headline == "planted"


def test_notice_and_troubles_of_a_clean_study_are_empty() -> None:
    """Nothing missing and nothing failed leaves nothing to say; divergence is a result, not a lack."""
    counts = {"trials": 2, "finished": 1, "diverged": 1, "failed": 0, "out_of_memory": 0, "missing": 0}
    assert partial_notice(counts) == ""
    assert troubles([finished(study_file().study.trials()[0])]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.2, "0.200"),
        (12, "12"),
        (1350, "1\u202f350"),
        (-1.0, "−1"),
        (2.5e-7, "2.5e−07"),
        (123.4, "123"),
        ("a", "a"),
    ],
)
def test_numbers_for_readers(value, text: str) -> None:
    """Three significant digits, whole numbers whole, a dash where nothing is known."""
    assert number(value) == text


def test_powers_are_raised_and_the_rest_escaped() -> None:
    """Exponents become superscripts, brackets and full stops around them stay, markup is escaped."""
    assert powers("O(N^-1), eps^(-m/r).") == "O(N<sup>−1</sup>), eps<sup>−m/r</sup>."
    assert powers("a < b & N^-0.5.") == "a &lt; b &amp; N<sup>−0.5</sup>."


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        ("Error ≤ c N^-1. (The sketch prints m2.)", ("Error ≤ c N^-1.", "The sketch prints m2.")),
        ("A (b) c.", ("A (b) c.", "")),
        ("Errors. (It prints Ω(N^(-m/r)) once.)", ("Errors.", "It prints Ω(N^(-m/r)) once.")),
        ("Error of h(x).", ("Error of h(x).", "")),
    ],
)
def test_remarks_on_the_print_are_told_apart(statement: str, parts: tuple[str, str]) -> None:
    """What a theorem says stands in the verdict; how the paper misprints it, in the small print."""
    assert split_remark(statement) == parts
