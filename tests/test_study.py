"""Study files: what loads, and the paragraph that every mistake gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperscale.errors import StudyError
from hyperscale.study import load_study
from tests.conftest import tiny_text

HEAD = "from hyperscale import *\n"
SETTING = (
    "Approximation(method=Hypernetwork(primary_widths=(4,), widths=(4,)), "
    "target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2))"
)

RELLU = "(4,), activation='rellu'),"


def study_text(settings: str = f"[{SETTING}]", seeds: str = "[0]", metrics: str = "['rmse']", rest: str = "") -> str:
    """Return a minimal study file with one part replaced."""
    return f"{HEAD}study = Study(name='s', settings={settings}, seeds={seeds}, metrics={metrics}{rest})\n"


MISTAKES = {
    "unknown field": (
        study_text("[Approximation(methd=1)]"),
        r":2: Approximation has no field 'methd' \(did you mean 'method'\?\); allowed: method, target,",
    ),
    "missing field": (study_text("[Approximation()]"), r":2: .*missing.*Approximation takes: method, target"),
    "misspelt metric": (
        study_text(metrics="['sup_eror']"),
        r":2: .*names 'sup_eror'.*\(did you mean 'sup_error'\?\); allowed: sup_error, rmse",
    ),
    "no metric": (study_text(metrics="[]"), r"names no metrics; allowed: sup_error"),
    "metrics as text": (study_text(metrics="'rmse'"), r"Study\.metrics is 'rmse'; allowed: a list"),
    "empty grid": (study_text("[]"), r"no settings: an empty grid"),
    "duplicate settings": (study_text(f"[{SETTING}, {SETTING}]"), r"settings\[1\] repeats settings\[0\]"),
    "not a setting": (study_text("[3]"), r"settings\[0\] is 3; allowed: settings such as Approximation"),
    "claim about an absent method": (
        study_text(rest=", claims=[Ordering(metric='rmse', lower=Hypernetwork, higher=Embedding)]"),
        r"about method 'Embedding', which is not in the study; its methods: Hypernetwork",
    ),
    "claim about an absent column": (
        study_text(
            rest=", claims=[Monotone(method=Hypernetwork, metric='rmse', along='dept', direction='increasing')]"
        ),
        r"refers to column 'dept'.*\(did you mean 'depth'\?\)",
    ),
    "not a claim": (
        study_text(rest=", claims=['rmse falls']"),
        r"claim is 'rmse falls'; allowed: ScalingRate, Ordering",
    ),
    "seed not an integer": (study_text(seeds="[0.5]"), r"seed 0\.5; allowed: whole numbers"),
    "seed a bool": (study_text(seeds="[True]"), r"seed True; allowed: whole numbers"),
    "seed twice": (study_text(seeds="[1, 1]"), r"a seed is given twice"),
    "no seeds": (study_text(seeds="[]"), r"has no seeds"),
    "bad name": (study_text().replace("'s'", "'../s'"), r"Study\.name is '\.\./s'; allowed: 1 to 80 lower-case"),
    "bad form of runs": (
        study_text(rest=", mlflow_runs='per_settings'"),
        r":2: Study\.mlflow_runs is 'per_settings' \(did you mean 'per_setting'\?\); allowed: per_trial, per_setting",
    ),
    "bad width": (
        study_text(f"[{SETTING.replace('(4,), widths', '(0,), widths')}]"),
        r"Hypernetwork\.primary_widths\[0\] is 0; allowed: a whole number of at least 1",
    ),
    "bad activation": (
        study_text(f"[{SETTING.replace('(4,)),', RELLU)}]"),
        r"Hypernetwork\.activation is 'rellu' \(did you mean 'relu'\?\)",
    ),
    "no study": (HEAD + "stdy = 3\n", r"defines no 'study' \(did you mean 'stdy'\?\)"),
    "study of another type": (HEAD + "study = 3\n", r"'study' is a int, not a Study"),
    "failing import": ("import no_such_package\n", r":1: the file failed to load: ModuleNotFoundError"),
    "failing line": ("x = 1\ny = x / 0\n", r":2: the file failed to load: ZeroDivisionError"),
    "leaving": ("raise SystemExit(3)\n", r":1: the file failed to load: SystemExit"),
    "not Python": ("study = = 3\n", r":1: not valid Python"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_place_value_and_remedy(
    text: str, message: str, write_study: Callable[..., Path]
) -> None:
    """Each mistake raises StudyError naming the place, what was given and what is allowed, in one paragraph."""
    path = write_study(text)
    with pytest.raises(StudyError, match=message) as caught:
        load_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_lists_study_files_near_it(tmp_path: Path) -> None:
    """A wrong path is answered with the study files of that folder."""
    (tmp_path / "here.py").write_text("")
    with pytest.raises(StudyError, match=r"does not exist.*here\.py"):
        load_study(tmp_path / "there.py")
    with pytest.raises(StudyError, match="is a folder"):
        load_study(tmp_path)


def test_the_docstring_is_the_description(write_study: Callable[..., Path]) -> None:
    """The module's docstring and source come along; its first line is the headline."""
    loaded = load_study(write_study(tiny_text(), "tiny.py"))
    assert loaded.headline == "Tiny: does a pack train?"
    assert "Question    Does everything run" in loaded.description
    assert "study = Study(" in loaded.source


def test_trials_are_settings_times_seeds(write_study: Callable[..., Path]) -> None:
    """Settings x seeds, each with a digest of its own; --seeds takes the first few."""
    study = load_study(write_study(tiny_text())).study
    trials = study.trials()
    assert len(trials) == len({trial.digest for trial in trials}) == 32
    assert [trial.seed for trial in study.trials(1)] == [0] * 16
    assert study.methods == ("Hypernetwork", "Embedding")


def test_digests_survive_loading_again(write_study: Callable[..., Path]) -> None:
    """The same file under another name gives the same trials."""
    first = load_study(write_study(tiny_text(), "one.py")).study.trials()
    second = load_study(write_study(tiny_text(), "two.py")).study.trials()
    assert [trial.digest for trial in first] == [trial.digest for trial in second]


def test_the_form_of_mlflow_s_runs_is_no_part_of_identity(write_study: Callable[..., Path]) -> None:
    """A study recorded a run per setting has the same trials as one recorded a run per trial."""
    first = load_study(write_study(study_text(), "one.py")).study
    second = load_study(write_study(study_text(rest=", mlflow_runs='per_setting'"), "two.py")).study
    assert (first.mlflow_runs, second.mlflow_runs) == ("per_trial", "per_setting")
    assert [trial.digest for trial in first.trials()] == [trial.digest for trial in second.trials()]
