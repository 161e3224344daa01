"""Tests of `hyperscale.claims`: what may be claimed, how mistakes are answered, and the way to the report."""

from __future__ import annotations

import itertools
import json
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

import hyperscale
from analysis import theorems
from analysis.reporting.report import write_report
from hyperscale.claims import (
    Calibration,
    Ceiling,
    Claim,
    Convergence,
    Factor,
    Monotone,
    Ordering,
    ScalingRate,
    Separation,
    WidthExponent,
)
from hyperscale.errors import StudyError
from hyperscale.study import Study, load_study
from tests.test_report import finished, study_file

CLAIMS: tuple[Claim, ...] = (
    Separation(faster="Hypernetwork", slower="Embedding", faster_exponent=1.0, slower_exponent=0.5, hard_family=True),
    Factor(method="Hypernetwork", reference="Embedding", factor=3.0),
    Monotone(method="Embedding", metric="rmse", along="num_params_primary", direction="decreasing", each_step=True),
    Convergence(method="Embedding", metric="rmse", limit=1.5, along="num_params_primary", exponent=0.4),
    WidthExponent(method="Embedding", metric="rmse", exponent=0.4, along="num_params_primary"),
    Ceiling(method="Embedding", metric="rmse", ceiling="sup_error"),
)
TITLES = (
    "sup_error of Hypernetwork falls faster than of Embedding (N^-1 against N^-0.5, N = num_params_primary)",
    "sup_error: Hypernetwork ≤ 3 × Embedding at each num_params_primary",
    "rmse of Embedding decreasing at each step along num_params_primary",
    "mean rmse of Embedding → 1.5 as num_params_primary grows",
    "geometric mean of rmse of Embedding ~ num_params_primary^-0.4",
    "rmse of Embedding ≤ sup_error in every trial",
)


@pytest.mark.parametrize(("claim", "title"), list(zip(CLAIMS, TITLES, strict=True)))
def test_claims_are_plain_frozen_data_of_the_vocabulary(claim: Claim, title: str) -> None:
    """A claim is frozen, hashable, survives pickling, has a one-line title, and its class is exported."""
    assert claim.title == title
    assert pickle.loads(pickle.dumps(claim)) == claim
    assert len({claim, claim}) == 1
    with pytest.raises(FrozenInstanceError):
        claim.theorem = "another"
    assert getattr(hyperscale, type(claim).__name__) is type(claim)
    assert type(claim).__name__ in hyperscale.__all__


def test_titles_of_the_other_senses() -> None:
    """O-claims, vanishing ones, ratios, columns as limits and averages have readable titles too."""
    order = WidthExponent(method="K", metric="taylor_3", exponent=1.0, relative_to="taylor_2", statistic="median")
    assert order.title == "median of taylor_3 / taylor_2 of K ~ width^-1"
    assert replace(order, sense="at least").title == "median of taylor_3 / taylor_2 of K = O of width^-1"
    assert replace(order, sense="vanishing").title == "median of taylor_3 / taylor_2 of K → 0, as width grows"
    assert replace(order, exponent=-0.5).title.endswith("~ width^0.5")
    assert (
        Convergence(method="K", metric="kernel", limit="closed_form").title
        == "mean kernel of K → closed_form as width grows"
    )
    assert Ceiling(method="K", metric="a", ceiling="b", always=False).title == "a of K < b on average"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: replace(CLAIMS[0], faster_exponent=0.4),
            r"Separation\.faster_exponent is 0\.4; allowed: .*above 0\.5",
        ),
        (lambda: replace(CLAIMS[0], slower_exponent=0.0), r"Separation\.slower_exponent is 0\.0"),
        (lambda: replace(CLAIMS[1], factor=-1.0), r"Factor\.factor is -1\.0; allowed: a finite number above 0"),
        (lambda: replace(CLAIMS[3], limit=float("nan")), r"Convergence\.limit is nan"),
        (lambda: replace(CLAIMS[3], exponent=0), r"Convergence\.exponent is 0"),
        (
            lambda: replace(CLAIMS[4], sense="atleast"),
            r"WidthExponent\.sense is 'atleast' \(did you mean 'at least'\?\)",
        ),
        (lambda: replace(CLAIMS[4], statistic="mean"), r"WidthExponent\.statistic is 'mean'.*allowed: geometric mean"),
        (lambda: replace(CLAIMS[4], tolerance=0.0), r"WidthExponent\.tolerance is 0\.0"),
        (lambda: replace(CLAIMS[5], ceiling=0.0), r"Ceiling\.ceiling is 0\.0"),
    ],
)
def test_impossible_numbers_and_words_are_refused(make, words: str) -> None:
    """What cannot be claimed raises with the field, the value and what is allowed."""
    with pytest.raises(StudyError, match=words):
        make()


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (
            replace(CLAIMS[0], metric="sup_eror"),
            r"'sup_eror', which Hypernetwork does not have \(did you mean 'sup_error'\?\)",
        ),
        (replace(CLAIMS[0], slower="Embeding"), r"method 'Embeding', .*did you mean 'Embedding'\?"),
        (replace(CLAIMS[1], at_each="num_param_primary"), r"did you mean 'num_params_primary'\?"),
        (replace(CLAIMS[3], limit="sup_eror"), r"did you mean 'sup_error'\?"),
        (replace(CLAIMS[3], along="widht"), r"column 'widht', which Embedding does not have"),
        (replace(CLAIMS[4], relative_to="rsme"), r"did you mean 'rmse'\?"),
        (replace(CLAIMS[5], ceiling="sup_eror"), r"did you mean 'sup_error'\?"),
        (replace(CLAIMS[4], where={"lrate": 1}), r"column 'lrate', which Embedding does not have"),
        ("sup_error falls", r"a claim is 'sup_error falls'; allowed: ScalingRate, .*Separation, .*Ceiling"),
    ],
)
def test_a_study_checks_the_columns_of_every_claim(claim, words: str) -> None:
    """A misspelt metric, size, limit, ceiling or method is answered with what was meant."""
    study = study_file().study
    with pytest.raises(StudyError, match=words):
        Study(name="s", settings=study.settings, seeds=range(2), metrics=("rmse",), claims=(claim,))


def test_the_theorems_claims_fit_the_columns_of_a_real_study() -> None:
    """With their defaults the claims on rates, factors and neurons are about columns of the quickstart's trials."""
    study = load_study(Path(__file__).parents[1] / "studies" / "quickstart.py").study
    target = study.settings[0].target
    claims = (
        theorems.instance_rate(target),
        theorems.total_rate(target),
        theorems.modularity_separation(target),
        theorems.modularity_separation(target, growing=True),
        theorems.total_separation(target, slower="Embedding"),
        theorems.total_ordering(),
        theorems.instance_factor(),
        theorems.selector_factor(),
        theorems.emulation_factor(),
        theorems.neuron_gain(method="PerInstance"),
        theorems.shallow_neuron_gain(method="PerInstance"),
    )
    assert replace(study, claims=claims).claims == claims


def test_every_kind_of_claim_reaches_the_report(tmp_path: Path) -> None:
    """A report judges each kind, strict JSON and page included, and draws the envelopes of a separation."""
    claims = (*CLAIMS, replace(CLAIMS[0], metric="rmse"))
    file = study_file(seeds=10, claims=claims)
    report = write_report(file, [finished(trial) for trial in file.study.trials()], tmp_path)
    data = json.loads(report.json.read_text(), parse_constant=pytest.fail)
    assert [v["kind"] for v in data["verdicts"]] == [type(claim).__name__ for claim in claims]
    words = [v["verdict"] for v in data["verdicts"][:-1]]
    assert words == ["supported", "attained", "supported", "contradicted", "supported", "not contradicted"], data
    assert all(v["expectation"] for v in data["verdicts"])
    assert {curve["metric"] for curve in data["curves"]} == {"sup_error", "rmse"}
    assert "difference of exponents" in report.html.read_text()


@pytest.mark.parametrize("where", [(itertools.count(1),), itertools.count(1), itertools.repeat(("a", 1)), ["ab"], 3])
def test_a_selection_without_an_end_is_refused(where: object) -> None:
    """At once: nothing is run through to find out, which would take all memory."""
    with pytest.raises(StudyError, match=r"where is .*allowed: a mapping of columns to values"):
        Calibration(where=where, infimum_constant=1.0, infimum_exponent=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"metod": "M"}, r"its calibration names column 'metod'.*did you mean 'method'"),
        ({"lr": 77}, r"its calibration picks no setting of Hypernetwork \(lr = 77\)"),
        ({"method": "Hypernetwork"}, r"its calibration picks every setting of Hypernetwork"),
    ],
)
def test_a_calibration_must_pick_some_settings(where: dict[str, object], words: str) -> None:
    """A misspelt column, a value that no setting has, and one that leaves none for the claim are refused at once."""
    study = study_file().study
    calibration = Calibration(where=where, infimum_constant=1.0, infimum_exponent=1.0)
    claim = ScalingRate(method="Hypernetwork", bound="upper", exponent=1.0, metric="rmse", calibration=calibration)
    with pytest.raises(StudyError, match=words):
        Study(name="s", settings=study.settings, seeds=range(2), metrics=("rmse",), claims=(claim,))


def test_what_is_no_calibration_or_no_pair_is_refused() -> None:
    """A number in a calibration's place, and a method compared with itself, are named where they are written."""
    with pytest.raises(StudyError, match=r"ScalingRate\.calibration is 3; allowed: None, or Calibration"):
        ScalingRate(method="M", bound="upper", exponent=1.0, calibration=3)
    with pytest.raises(StudyError, match="both methods are 'M'"):
        Separation(faster="M", slower="M", faster_exponent=1.0, slower_exponent=0.5)
    with pytest.raises(StudyError, match="both methods are 'M'"):
        Ordering(metric="rmse", lower="M", higher="M")
