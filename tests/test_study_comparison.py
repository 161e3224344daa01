"""Tests of `reporting.study_comparison` (with `exponent_differences`, `comparison_figures` and `comparison_page`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pypdf import PdfReader
from scipy import stats

from analysis.exponents.uncertainty import ExponentInterval
from analysis.reporting.comparison_figures import plot_envelopes, plot_forest
from analysis.reporting.comparison_page import caution, sort_differences, summary_text, values_text, write_comparison
from analysis.reporting.exponent_differences import welch_interval
from analysis.reporting.palette import drawing
from analysis.reporting.study_comparison import StudyTrials, compare_studies, join_names
from hyperscale.claims import Ordering, ScalingRate
from hyperscale.cli import main
from hyperscale.errors import AnalysisError
from hyperscale.recording.store import Store
from hyperscale.study import Study, StudyFile
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus
from tests.conftest import tiny_text
from tests.test_report import Fake, strict

WIDTHS = (2, 4, 8, 16, 32, 64)
RATE = ScalingRate(method="Hypernetwork", bound="upper", exponent=1.0, theorem="Thm. 4, Paper")


def planted(
    name: str,
    exponents: dict[str, float],
    *,
    widths: tuple[int, ...] = WIDTHS,
    noise: float = 0.03,
    seeds: int = 2,
    lr: float = 0.01,
    claims: tuple = (RATE,),
    metrics: tuple[str, ...] = ("sup_error", "rmse"),
) -> StudyTrials:
    """Return a study whose methods err like N^-exponent, with log-normal noise that its name seeds."""
    settings = [Fake(method=m, width=w, lr=lr) for m in exponents for w in widths]
    study = Study(name=name, settings=settings, seeds=range(seeds), metrics=metrics, claims=claims)
    generator = np.random.default_rng(sum(name.encode()))
    records = []
    for trial in study.trials():
        columns = trial.setting.columns()
        size = float(columns["num_params_primary"])
        value = size ** -exponents[str(columns["method"])] * math.exp(noise * generator.normal())
        result = TrialResult(
            digest=trial.digest,
            setting_digest=trial.setting.digest(),
            seed=trial.seed,
            status=TrialStatus.FINISHED,
            metrics={"sup_error": value, "rmse": value / 2},
            provenance={"wall_time_s": 2.0},
        )
        records.append(TrialRecord(result=result, columns=columns))
    file = StudyFile(study=study, description=f"The {name} study.", source="", path=Path(f"{name}.py"))
    return StudyTrials(study_file=file, records=records)


def sure(estimate: float, half: float) -> ExponentInterval:
    """Return an exponent with a symmetric 95 % interval."""
    interval = (estimate - half, estimate + half)
    return ExponentInterval(
        estimate=estimate, interval=interval, bootstrap=None, regression=interval, level=0.95, num_resamples=0, seed=0
    )


def test_welch_s_interval_is_that_of_scipy() -> None:
    """Two slopes with the standard errors of two samples' means give scipy's interval of the difference of means."""
    generator = np.random.default_rng(3)
    a, b = generator.normal(1.0, 0.2, size=6), generator.normal(0.5, 0.6, size=9)
    intervals = [
        sure(x.mean(), float(stats.t.ppf(0.975, len(x) - 1)) * x.std(ddof=1) / math.sqrt(len(x))) for x in (a, b)
    ]
    # A mean of n values has n - 1 degrees of freedom, a slope through n + 1 sizes as many.
    found = welch_interval(*intervals, (len(a) + 1, len(b) + 1))
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert found[0] == pytest.approx(b.mean() - a.mean())
    assert found[1] == pytest.approx((expected.low, expected.high))
    assert welch_interval(intervals[0], replace(intervals[1], interval=None), (6, 6)) is None
    assert welch_interval(*intervals, (2, 6)) is None


def test_equal_slopes_are_called_different_one_time_in_twenty() -> None:
    """Over 4,000 pairs of lines with one slope and unequal scatter the interval misses 0 in 5 % (3 to 6.5 %)."""
    generator = np.random.default_rng(11)
    x = np.log([10.0, 20, 40, 80, 160, 320])
    centred = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    quantile = float(stats.t.ppf(0.975, 4))
    missed = 0
    for _ in range(4000):
        ends = []
        for scatter in (0.05, 0.2):
            y = -0.5 * x + scatter * generator.normal(size=6)
            slope = float(centred @ y)
            residuals = y - y.mean() - slope * (x - x.mean())
            error = math.sqrt(residuals @ residuals / 4 * (centred @ centred))
            ends.append(sure(-slope, quantile * error))
        found = welch_interval(*ends, (6, 6))
        assert found is not None
        missed += not found[1][0] <= 0 <= found[1][1]
    assert 0.03 < missed / 4000 < 0.065


@pytest.fixture(scope="module")
def pair() -> tuple[StudyTrials, StudyTrials]:
    """Return two studies: the hypernetwork's exponent differs (1.0 and 0.6), the embedding's does not (0.4)."""
    first = planted("one", {"Hypernetwork": 1.0, "Embedding": 0.4, "PerInstance": 0.9})
    second = planted(
        "two", {"Hypernetwork": 0.6, "Embedding": 0.4}, lr=0.1, seeds=3, claims=(replace(RATE, exponent=0.5),)
    )
    return first, second


def test_planted_differences_are_found_and_said(pair) -> None:
    """The different exponents differ, in the right direction; the equal ones are not told apart."""
    found = {d.row.method: d for d in compare_studies(pair).differences}
    assert set(found) == {"Hypernetwork", "Embedding"}
    apart, tie = found["Hypernetwork"], found["Embedding"]
    assert apart.differs is True
    assert apart.interval is not None
    assert apart.interval[0] < -0.4 < apart.interval[1] < 0
    assert apart.estimate == pytest.approx(-0.4, abs=0.05)
    assert re.fullmatch(
        r"The exponents differ: sup_error of Hypernetwork falls faster in one \(exponent (1\.0|0\.9)\d\) than in two "
        r"\(0\.(6|5)\d\); the difference is 0\.3\d to 0\.4\d \(95 %\)\.",
        apart.sentence,
    )
    assert tie.differs is False
    assert tie.sentence.startswith("Not told apart: the exponents of sup_error of Embedding in one")
    assert "is not excluded" in tie.sentence
    assert not any("equal" in d.sentence or "proved" in d.sentence for d in found.values())


def test_claims_stand_side_by_side_whatever_they_predict(pair) -> None:
    """One row for the rate of the hypernetwork with both predictions; a claim of one study only leaves a gap."""
    first, second = pair
    ordering = Ordering(metric="sup_error", lower="Hypernetwork", higher="Embedding")
    study = replace(second.study_file.study, claims=(*second.study_file.study.claims, ordering))
    second = replace(second, study_file=replace(second.study_file, study=study))
    rows = compare_studies((first, second)).verdicts
    assert [[v and v.predicted for v in row.verdicts] for row in rows] == [[1.0, 0.5], [None, 1.0]]
    assert "O(N^-1)" in rows[0].title
    assert "O(N^-0.5)" in rows[0].title
    assert rows[1].verdicts[0] is None


def test_what_is_set_differently_and_what_only_one_has(pair) -> None:
    """Learning rate, seeds and methods differ; sizes do not; the per-instance curve is named as not compared."""
    found = compare_studies(pair)
    settings = {row.column: row.values for row in found.settings}
    assert settings == {
        "method": (("Embedding", "Hypernetwork", "PerInstance"), ("Embedding", "Hypernetwork")),
        "lr": ((0.01,), (0.1,)),
        "seed": ((0, 1), (0, 1, 2)),
    }
    assert "num_params_primary" in found.same_settings
    assert found.not_compared == (
        "sup_error of PerInstance in num_params_primary: in one, without a finished trial in two.",
    )


def test_a_metric_that_one_study_lacks_is_named() -> None:
    """A metric that the first study shows and the second does not report."""
    first, second = planted("one", {"Hypernetwork": 1.0}), planted("two", {"Hypernetwork": 1.0}, lr=0.1)
    bare = [
        replace(r, result=replace(r.result, metrics={"sup_error": r.result.metrics["sup_error"]}))
        for r in second.records
    ]
    found = compare_studies((first, replace(second, records=bare)))
    assert "rmse: not reported by two." in found.not_compared
    assert len(found.differences) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": (2, 4)}, "No difference can be given: sup_error of Hypernetwork has fewer than three sizes in two"),
        ({"widths": (2,)}, "No difference can be given: sup_error of Hypernetwork has no exponent in two. A power law"),
        ({"lr": 0.01, "seeds": 2}, "Nothing to compare: one and two use the same trials"),
    ],
)
def test_where_no_difference_can_be_given_the_reason_is(change: dict, words: str) -> None:
    """Too few sizes, one size, the same trials: a sentence, no number."""
    other = planted("two", {"Hypernetwork": 1.0}, **{"lr": 0.1, **change})
    (found,) = compare_studies((planted("one", {"Hypernetwork": 1.0}), other)).differences
    assert found.sentence.startswith(words)
    assert (found.estimate, found.interval, found.differs) == (None, None, None)


def test_unequal_ranges_and_budgets_and_shared_trials_are_remarked() -> None:
    """Sizes without a common range, a missing trial, and trials that both studies use are said."""
    first = planted("one", {"Hypernetwork": 1.0}, widths=(2, 4, 8))
    second = planted("two", {"Hypernetwork": 1.0}, widths=(16, 32, 64))
    second = replace(second, records=second.records[1:])
    (found,) = compare_studies((first, second)).differences
    assert found.remarks[0] == (
        "The sizes differ: N from 7 to 25 in one, from 49 to 193 in two. The two ranges have nothing in common."
    )
    assert found.remarks[1].startswith("In two sizes were given unequal numbers of trials")
    third = planted("three", {"Hypernetwork": 1.0}, widths=(*WIDTHS, 128))
    (found,) = compare_studies((planted("one", {"Hypernetwork": 1.0}), third)).differences
    assert "12 trials are in both studies; the interval takes the studies as independent." in found.remarks


def test_a_used_up_target_is_remarked() -> None:
    """Where a verdict says that the target is resolved, the difference of exponents says so too."""
    resolved = (replace(RATE, resolution=0.5),)
    first, second = (
        planted("one", {"Hypernetwork": 1.0}, claims=resolved),
        planted("two", {"Hypernetwork": 0.5}, lr=0.1),
    )
    (found,) = compare_studies((first, second)).differences
    assert any(remark.startswith("In one, target resolved") for remark in found.remarks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b: [a], "needs two or more studies, and 1 was given"),
        (lambda a, b: [a, b, a], r"'one' is given twice .*Name each study once"),
        (lambda a, b: [a, replace(b, study_file=replace(a.study_file, path=Path("b.py")))], "another Study.name"),
        (lambda a, b: [a, replace(b, records=[])], r"'two' has no trials in this store.*hyperscale run two.py"),
        (
            lambda a, b: [a, planted("far", {"Monolithic": 1.0}, claims=())],
            "nothing that can be compared: one has Hypernetwork, .* with sup_error, rmse .*far has Monolithic",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(pair, make: Callable, message: str) -> None:
    """One study, the same twice, two of one name, no trials, nothing in common: an error that says what to do."""
    with pytest.raises(AnalysisError, match=message):
        compare_studies(make(*pair))


def test_trials_that_all_diverged_are_no_trials(pair) -> None:
    """A study without a finished trial is refused with what it has."""
    first, second = pair
    diverged = [replace(r, result=replace(r.result, status=TrialStatus.DIVERGED, metrics={})) for r in second.records]
    with pytest.raises(AnalysisError, match="36 trials, none of them finished"):
        compare_studies((first, replace(second, records=diverged)))


def test_page_json_and_pdf_say_the_same(pair, tmp_path: Path) -> None:
    """Strict JSON; the page loads nothing, links the report that exists; the PDF holds sentences and numbers."""
    first, second = pair
    own = tmp_path / "reports" / "one" / "report.html"
    own.parent.mkdir(parents=True)
    own.write_text("")
    first = replace(first, page=own)
    second = replace(second, page=tmp_path / "reports" / "two" / "report.html")
    found = write_comparison((first, second), tmp_path / "reports" / "compare", command="hyperscale report <a> b")
    data, page = strict(found.json), found.html.read_text()
    assert data == found.data
    assert [study["report"] for study in data["studies"]] == ["../one/report.html", None]
    assert [study["trials"] for study in data["studies"]] == [36, 36]
    assert data["studies"][0]["wall_time_s"] == 72.0
    assert data["studies"][0]["wall_time_per_trial_s"] == 2.0
    assert data["figures"] == ["forest", "envelopes"]
    assert {row["setting"] for row in data["settings"]} == {"method", "lr", "seeds"}
    assert 'href="../one/report.html"' in page
    assert "<a>" not in page
    assert "<script" not in page
    assert found.pdf is not None
    text = " ".join(" ".join(p.extract_text().split()) for p in PdfReader(found.pdf).pages)
    for difference in data["differences"]:
        lead, rest = difference["sentence"].split(":", 1)
        assert f"<b>{lead}:</b>{rest}" in page
        assert difference["sentence"] in text
    for word in ("attained", "What is set differently", "0.0100", "1, 2"):
        assert word in text
        assert word in page


def test_three_studies_and_two_metrics_are_drawn(pair) -> None:
    """A row a method, metric and study with its number; a panel a method; studies told apart by colour and marker."""
    second_rate = replace(RATE, metric="rmse")
    third = planted("three", {"Hypernetwork": 0.8}, lr=1.0, claims=(RATE, second_rate))
    found = compare_studies((*pair, third))
    assert len(found.differences) == 3 + 1 + 3 + 1
    rows = [row for row in found.curves if row.metric == "sup_error"]
    with drawing("forest"):
        axes = plot_forest(rows, found.names).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two", "three", "one", "two", "one"]
    assert sum(text.get_text().startswith("Hypernetwork   Thm. 4: O, 1") for text in axes.texts) == 1
    with drawing("envelopes"):
        figure = plot_envelopes(rows, found.names)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Hypernetwork", "Embedding", "PerInstance"]
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert len(looks) == 3
    with pytest.raises(AnalysisError, match="no envelope"):
        plot_envelopes([], found.names)


def test_words_of_the_page() -> None:
    """Many values are cut, none is a dash; the caution counts the comparisons where there are several."""
    assert values_text(["relu"]) == "relu"
    assert values_text([]) == "–"
    assert values_text(list(range(1, 21))) == "1, 2, 3, 4, 5, 6, … 20 (20 values)"
    assert "there are 3" in caution([1, 2, 3])
    assert "by chance" not in caution([1])
    assert [join_names(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    apart, tie, none = ({"differs": differs} for differs in (True, False, None))
    assert summary_text([apart, tie, tie]) == "Of 3 differences of exponents, 1 is told apart from 0."
    assert summary_text([tie, none]) == (
        "Of 1 difference of exponents, none is told apart from 0. For 1 more no number can be given."
    )
    assert sort_differences([tie, none, apart]) == ([apart, none, tie], {})
    assert sort_differences([tie, apart] + [tie] * 9) == ([apart], {"Not told apart": [tie] * 10})


def test_a_comparison_of_many_long_names_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Short names are written out; long lists are cut to what a file system takes and told apart by a digest."""
    store = Store(folder=tmp_path)
    assert store.comparison(["a", "b"]) == tmp_path / "reports" / "compare-a-b"
    names = [f"{'x' * 70}{i}" for i in range(9)]
    first, second = store.comparison(names), store.comparison([*names[:-1], "other"])
    assert len(first.name) < 200
    assert first != second


def test_the_verb_compares_several_studies(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair
) -> None:
    """`report A B` writes the page into the store and prints its sentences; `report A A` and no study are refused."""
    paths = [write_study(tiny_text().replace('"tiny"', f'"{name}"'), f"{name}.py") for name in ("one", "two")]
    records = dict(zip(("one", "two"), (study.records for study in pair), strict=True))
    monkeypatch.setattr("hyperscale.verbs.read_records", lambda file, *_, **__: records[file.study.name])
    monkeypatch.setattr("analysis.reporting.comparison_page._draw", lambda *_: [])
    words = ["report", *map(str, paths), "--store", str(tmp_path / "store")]
    shown = CliRunner().invoke(main, [*words, "--no-pdf"])
    assert shown.exit_code == 0, shown.output
    assert "The exponents differ: sup_error of Hypernetwork falls faster in one" in " ".join(shown.stdout.split())
    folder = tmp_path / "store" / "reports" / "compare-one-two"
    assert not (folder / "comparison.pdf").exists()
    printed = json.loads(CliRunner().invoke(main, [*words, "--no-pdf", "--json"]).stdout)
    assert printed == json.loads((folder / "comparison.json").read_text())
    twice = CliRunner().invoke(main, ["report", str(paths[0]), str(paths[0])])
    assert twice.exit_code == 2
    assert "given twice" in twice.stderr
    assert CliRunner().invoke(main, ["report"]).exit_code == 2
