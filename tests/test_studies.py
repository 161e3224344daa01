"""The project's own study files: they load without side effects, and each kind of setting in them trains."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hyperscale.settings.approximation import Approximation
from hyperscale.settings.best_approximation import BestApproximation
from hyperscale.settings.generation import Generation
from hyperscale.settings.lipschitz import LipschitzQuotient
from hyperscale.settings.setting import Setting
from hyperscale.study import load_study
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.target import FixedSample, FreshPoints
from hyperscale.training.grid_fit import TrainingGrid

ROOT = Path(__file__).parent.parent
STUDIES = sorted(ROOT.glob("studies/**/*.py"))
NUM_TRIALS = {
    "quickstart": 162,
    "depth-two-rates-2": 24,
    "one-more-neuron": 640,
    "rate-embedding-constrained": 20,
    "rate-embedding-fixed": 40,
    "rate-embedding-fixed-bumps": 20,
    "rate-embedding-growing": 20,
    "rate-embedding-growing-wide": 28,
    "rate-hypernetwork": 72,
    "rate-hypernetwork-wide": 42,
    "rate-plain": 70,
    "rate-plain-bumps": 50,
    "rate-plain-smooth": 70,
    "rate-total": 60,
    "separation": 210,
    "separation-two-x": 88,
    "separation-wide-conditioning": 88,
    "spectral-complexity": 960,
    "synthetic-depth": 1600,
    "toy": 45,
}


def test_every_study_is_counted_here() -> None:
    """A new study file is added to the table of this test."""
    assert {load_study(path).study.name for path in STUDIES} == set(NUM_TRIALS)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_has_its_stated_number_of_trials(path: Path) -> None:
    """The number of trials is the one stated in the file's Budget and counted here."""
    loaded = load_study(path)
    number = len(loaded.study.trials())
    assert number == NUM_TRIALS[loaded.study.name]
    assert f"{number:,} trials" in loaded.description


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_docstring_says_question_prediction_source_budget(path: Path) -> None:
    """The description carries the four headings that the report's first page shows."""
    description = load_study(path).description
    for word in ("Question", "Prediction", "Source", "Budget"):
        assert re.search(rf"^{word}\b", description, flags=re.MULTILINE), word


@pytest.fixture(scope="module")
def offences(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Load every study in a process that watches, and return what each of them did that it should not."""
    folder = tmp_path_factory.mktemp("loading")
    code = (
        "import json, os, sys\n"
        "def watch(event, args):\n"
        "    if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+'):\n"
        "        assert str(args[0]).endswith('.pyc') or '__pycache__' in str(args[0]), args\n"
        "    assert not event.startswith('socket.connect'), args\n"
        "from hyperscale.study import load_study\n"
        "import hyperscale, analysis.theorems\n"
        "[getattr(hyperscale, name) for name in hyperscale.__all__]\n"
        "sys.addaudithook(watch)\n"
        "found = {}\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        found[path] = '' if load_study(path).study.name and not os.listdir() else 'left files'\n"
        "    except BaseException as problem:\n"
        "        found[path] = repr(problem)\n"
        "print(json.dumps(found))\n"
    )
    command = [sys.executable, "-c", code, *map(str, STUDIES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_loading_writes_and_fetches_nothing(path: Path, offences: Mapping[str, str]) -> None:
    """Loading opens no file for writing and no socket."""
    assert offences[str(path)] == ""


def shrunk(setting: Setting) -> Setting:
    """Return the same setting with a tiny budget: same method, same program apart from sizes of samples."""
    if isinstance(setting, Generation):
        return dataclasses.replace(setting, steps=3)
    if isinstance(setting, BestApproximation):
        grid = TrainingGrid(x_points=17, instances=17)
        return dataclasses.replace(setting.brief(3), grid=grid, grid_points=17)
    if isinstance(setting, LipschitzQuotient):
        return dataclasses.replace(setting, pairs=2, rounds=2)
    assert isinstance(setting, Approximation)
    if isinstance(setting.points, FixedSample):
        points = FixedSample(size=20, test_size=10, batch_size=10)
        target = InnerProduct(x_dim=20, conditioning_dim=20)
        return dataclasses.replace(setting, steps=3, points=points, target=target)
    return dataclasses.replace(setting, steps=3, points=FreshPoints(instances=3, points=3), grid_points=5)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_method_of_a_study_trains(path: Path) -> None:
    """A trial of the smallest setting of every method runs, on a tiny budget, and reports all promised metrics."""
    study = load_study(path).study
    for method in study.methods:
        settings = [setting for setting in study.settings if setting.method_name == method]
        setting = shrunk(min(settings, key=lambda s: s.cost().flops))
        run = setting.start([(setting, 0)], "cpu")
        assert run.advance(math.inf)
        (outcome,) = run.outcomes()
        assert outcome.status == "finished", outcome.reason
        assert set(outcome.metrics) == set(setting.metric_names())
        assert set(study.metrics) <= set(outcome.metrics)
