"""Power of a whole study: its rivals, its obstacles, the figure, and `plan --power`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from analysis.power.designs import Design, study_design
from analysis.power.noise import Noise
from analysis.power.power_figures import plot_power, power_curves
from analysis.power.questions import RateQuestion
from analysis.power.replicates import Draws
from analysis.power.rivals import Rival, nearest_rival
from analysis.power.separation_questions import SeparationQuestion
from analysis.power.study_power import TARGET, claim_question, study_power
from analysis.reporting.palette import drawing
from hyperscale.claims import Calibration, ScalingRate
from hyperscale.cli import main
from hyperscale.errors import AnalysisError
from hyperscale.power_view import print_power
from hyperscale.study import StudyFile
from hyperscale.targets.sobolev_ball import SobolevBall
from tests.conftest import tiny_text


def test_the_same_seed_gives_the_same_chances(tiny: StudyFile) -> None:
    """Equal seeds agree to the last digit, whatever was asked for before; another seed differs."""
    first = [claim.to_json() for claim in study_power(tiny.study, replicates=500, seed=7)]
    assert first == [claim.to_json() for claim in study_power(tiny.study, replicates=500, seed=7)]
    assert first != [claim.to_json() for claim in study_power(tiny.study, replicates=500, seed=8)]
    used, fresh = Draws(50, seed=7), Draws(50, seed=7)
    used.exponentials(2, 1, 3)
    np.testing.assert_array_equal(used.exponentials(4, 1, 9), fresh.exponentials(4, 1, 9))
    np.testing.assert_array_equal(fresh.exponentials(4, 1, 9)[:, :2, :, :3], Draws(50, seed=7).exponentials(2, 1, 3))


def test_rivals_are_the_nearest_theorems(tiny: StudyFile) -> None:
    """Thm. 4's rival is Thm. 2 and the other way round; a rate without one gets half or twice its exponent."""
    upper, lower = tiny.study.claims[:2]
    assert isinstance(upper, ScalingRate)
    assert isinstance(lower, ScalingRate)
    assert nearest_rival(upper, tiny.study) == Rival(exponent=0.5, source="Thm. 2")
    assert nearest_rival(lower, tiny.study) == Rival(exponent=1.0, source="Thm. 4")
    alone = replace(lower, exponent=3.0)
    assert nearest_rival(alone, tiny.study).exponent == 6.0
    assert nearest_rival(replace(upper, exponent=0.3), tiny.study).exponent == pytest.approx(0.15)


def test_a_match_without_calibration_is_never_decided(tiny: StudyFile) -> None:
    """The chance is 0 and the advice says what is missing."""
    upper = tiny.study.claims[0]
    assert isinstance(upper, ScalingRate)
    (found,) = study_power(replace(tiny.study, claims=(replace(upper, bound="match"),)), replicates=100)
    assert "calibration" in found.advice
    assert found.worst is not None
    assert found.worst.decisive == 0


def test_calibration_trials_are_no_part_of_the_design(tiny: StudyFile) -> None:
    """Settings that a claim names as its calibration count neither as sizes nor as trials nor as a target."""
    rate = tiny.study.claims[0]
    assert isinstance(rate, ScalingRate)
    calibration = Calibration(where={"lr": 0.01}, infimum_constant=1.0, infimum_exponent=2.0)
    plain = study_design(tiny.study, "Hypernetwork", rate.size)
    calibrated = replace(tiny.study, claims=(replace(rate, calibration=calibration),))
    assert plain.trials_per_seed == (2, 2, 2, 2)
    assert study_design(calibrated, "Hypernetwork", rate.size).trials_per_seed == (1, 1, 1, 1)
    (found,) = study_power(calibrated, replicates=100)
    assert "its trials come on top" in found.notes[0]


def growing(tiny: StudyFile, levels: Callable[[int], int]) -> StudyFile:
    """Return the tiny study on all-scales targets with ``levels`` of the primary width."""
    settings = tuple(
        replace(s, target=SobolevBall(x_dim=1, conditioning_dim=1, levels=levels(int(s.columns()["primary_width"]))))
        for s in tiny.study.settings
    )
    return replace(tiny, study=replace(tiny.study, settings=settings))


def test_power_with_a_target_that_grows(tiny: StudyFile) -> None:
    """A family is one target of a design, with a fixed one's chances; at equal N its members cannot be ordered."""
    fixed = growing(tiny, lambda _: 5).study
    family = growing(tiny, lambda width: 1 + width.bit_length()).study
    rate = fixed.claims[0]
    assert isinstance(rate, ScalingRate)
    design = study_design(family, "Hypernetwork", rate.size)
    assert design == study_design(fixed, "Hypernetwork", rate.size)
    assert design.num_targets == 1
    found, plain = (study_power(study, replicates=200) for study in (family, fixed))
    assert [claim.worst for claim in found[:2]] == [claim.worst for claim in plain[:2]]
    order = replace(fixed.claims[2], at_each="num_params_primary")
    (told,) = study_power(replace(family, claims=(order,)), replicates=100)
    assert "different members of the target's family at every num_params_primary" in told.advice
    (along,) = study_power(replace(family, claims=(replace(order, at_each="primary_width"),)), replicates=100)
    assert along.worst is not None


def test_a_study_with_unequal_budgets_gets_no_chance(tiny: StudyFile) -> None:
    """The claim about the method that lacks a trial is told why, and no change is proposed."""
    study = replace(tiny.study, settings=tiny.study.settings[1:])
    first, second, _ = study_power(study, replicates=200)
    assert "unequal numbers of trials" in first.advice
    assert first.changes == ()
    assert not first.enough
    assert second.obstacle == ""


def test_a_claim_along_a_column_without_numbers_is_told(tiny: StudyFile) -> None:
    """A rate needs a numeric size; an ordering may compare along any column."""
    rate = replace(tiny.study.claims[0], size="activation")
    ordering = replace(tiny.study.claims[2], at_each="activation")
    study = replace(tiny.study, claims=(rate, ordering))
    told, judged = study_power(study, replicates=200)
    assert "has no numeric column 'activation'" in told.advice
    assert told.worst is None
    assert judged.worst is not None
    assert judged.octaves is None


def test_a_method_without_the_column_is_refused(tiny: StudyFile) -> None:
    """A size that the method's settings do not have is named."""
    with pytest.raises(AnalysisError, match="Hypernetwork has no numeric column 'num_params'"):
        study_design(tiny.study, "Hypernetwork", "num_params")


# --- a separation of two rates -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A separation of two rates, as a claim states it."""

    difference: float
    hard_family: bool = True
    title: str = "A falls faster than B"
    methods: tuple[str, ...] = ("A", "B")


@pytest.mark.parametrize("shift", [1.0, 1.2])
def test_power_of_a_separation(shift: float) -> None:
    """With lack of fit alone it is a t-test on the sizes: exact where they are shared, Welch's power where not."""
    faster = Design.spaced(6, 1, 3)
    slower = replace(faster, sizes=tuple(shift * size for size in faster.sizes))
    noise, draws = Noise(excess=0, lack_of_fit=0.15), Draws(4000, seed=11)
    question = SeparationQuestion(claim=Apart(difference=0.15), faster=faster, slower=slower, noise=noise, draws=draws)
    holds, equal = question.chances(0, 3)
    count = 7 if shift == 1 else 6  # only sizes in the range that both methods cover
    spread = math.log(2) ** 2 * (count**3 - count) / 12
    free = (count - 2) * (1 if shift == 1 else 2)
    distance = 0.15 * math.sqrt(spread / 2) / 0.15
    expected = float(stats.nct.sf(stats.t.ppf(0.975, free), free, distance))
    allowed = 3 * math.sqrt(expected * (1 - expected) / 4000) + (0 if shift == 1 else 0.02)
    assert holds.decisive == pytest.approx(expected, abs=allowed)
    assert equal.wrong == pytest.approx(0.05, abs=0.015)
    assert len(replace(question, claim=Apart(difference=0.15, hard_family=False)).chances(0, 3)) == 1
    assert question.chances(0, 1)[0].decisive == 0


# --- the figure ----------------------------------------------------------------------------------------------------


def test_the_figure_shows_every_seed_count_and_the_study(tiny: StudyFile) -> None:
    """One panel a rate, one line a seed count, the ring at the study's own octaves and chance, a line at 90 %."""
    draws = Draws(300)
    rates = [claim for claim in tiny.study.claims if isinstance(claim, ScalingRate)]
    questions = [claim_question(tiny.study, claim, Noise(), draws) for claim in rates]
    curves = [power_curves(question) for question in questions if isinstance(question, RateQuestion)]
    with drawing("power"):
        figure = plot_power(curves)
    assert len(figure.axes) == 2
    for axes, entry in zip(figure.axes, curves, strict=True):
        assert axes.get_legend_handles_labels()[1] == ["2 seeds", "4 seeds", "8 seeds", "this study"]
        ring = axes.get_lines()[-1]
        assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (entry.own_octaves, entry.own_chance)
        assert min(entry.octaves) >= 3
        assert any(line.get_ydata()[0] == TARGET for line in axes.get_lines())


# --- the command line ----------------------------------------------------------------------------------------------


def plan(study: Path, store: Path, *more: str) -> Result:
    """Run `plan --power` in this process."""
    return CliRunner().invoke(main, ["plan", str(study), "--store", str(store), "--power", *more])


def test_plan_tells_the_power_of_every_claim(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """JSON: one entry a claim with its chance, error, noise and changes; text: the same in words."""
    path = write_study(tiny_text(), "tiny.py")
    data = json.loads(plan(path, tmp_path / "store", "--json").stdout)
    assert data["trials"] == 32
    claims = data["power"]["claims"]
    assert [claim["kind"] for claim in claims] == ["ScalingRate", "ScalingRate", "Ordering"]
    for claim in claims:
        assert 0 <= claim["chance"] <= 1
        assert 0 < claim["standard_error"] < 0.01
        assert claim["noise"]["source"] == "assumed"
        assert claim["seeds"] == 2
    best = claims[0]["changes"][0]
    assert best["chance"] >= data["power"]["target"]
    assert best["added_seconds"] > 0
    text = plan(path, tmp_path / "store", "--seeds", "1").stdout
    for words in ("the chance of a decisive verdict", "octaves, 1 seed", "instead of 1", "what would reach 90 %"):
        assert words in text, text
    assert not (tmp_path / "store").exists()


def test_a_pilot_in_the_store_says_how_much_trials_scatter(
    write_study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a run the noise is measured from its trials, and the plan says so."""
    path, store = write_study(tiny_text(), "tiny.py"), tmp_path / "store"
    words = ["run", str(path), "--store", str(store), "--executor", "in-process", "--no-mlflow"]
    assert CliRunner().invoke(main, words).exit_code == 0
    data = json.loads(plan(path, store, "--json").stdout)["power"]
    assert all(claim["noise"]["measured"] for claim in data["claims"])
    print_power(data)
    assert "measured from 8 seeds' best trials" in " ".join(capsys.readouterr().out.split())


def test_a_study_without_claims_says_so(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """No table of nothing: a sentence, and an empty list in JSON."""
    text = tiny_text()
    text = text[: text.index("    claims=(")] + ")\n"
    path = write_study(text, "bare.py")
    assert "makes no claims" in plan(path, tmp_path / "store").stdout
    assert json.loads(plan(path, tmp_path / "store", "--json").stdout)["power"]["claims"] == []


def test_plan_without_the_flag_says_nothing_of_power(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """The ordinary plan is as it was, and its help explains the flag."""
    path = write_study(tiny_text(), "tiny.py")
    result = CliRunner().invoke(main, ["plan", str(path), "--store", str(tmp_path / "store"), "--json"])
    assert "power" not in json.loads(result.stdout)
    assert "--power" in CliRunner().invoke(main, ["plan", "--help"]).stdout
