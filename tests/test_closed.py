"""Data is data: what the product loads runs no code, and no name or link leads out of a store."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import analysis
import hyperscale
from hyperscale.cli import main
from hyperscale.dispatch import worker as worker_module
from hyperscale.dispatch.checkpoints import checkpoint_path
from hyperscale.dispatch.worker import PackWorker
from hyperscale.errors import StoreError, StudyError
from hyperscale.packing import make_packs
from hyperscale.recording.store import Store
from hyperscale.study import Study, StudyFile, load_study
from tests.conftest import tiny_text

FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "dill.load",
    "pandas.read_pickle", "pd.read_pickle", "runpy.run_path", "runpy.run_module", "torch.hub.load", "torch.jit.load",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all", "torch.load",
    "numpy.load", "np.load",
}  # fmt: skip
ALLOWED = {
    # the one place where a file is run as code: a study file
    ("hyperscale/study.py", "spec.loader.exec_module"),
    # a query over a table's columns, parsed and checked against a list of harmless nodes before
    ("analysis/fits/table_input.py", "aliased.eval"),
}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Return file, dotted name and node of every call in the product."""
    for package in (hyperscale, analysis):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{root.name}/{path.relative_to(root)}", ast.unparse(node.func), node


def is_dangerous(name: str, node: ast.Call) -> bool:
    """Whether a call could run what it is given as code."""
    keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in ("torch.load",):
        return keywords.get("weights_only") != "True"
    if name in ("yaml.load", "yaml.load_all"):
        return not any("SafeLoader" in ast.unparse(value) for value in [*node.args, *(w.value for w in node.keywords)])
    if name in ("np.load", "numpy.load"):
        return "allow_pickle" in keywords
    if name.endswith((".eval", ".exec_module", ".query")):
        return bool(node.args)  # model.eval() takes nothing
    return name in FORBIDDEN or keywords.get("shell", "False") != "False"


def test_the_product_runs_no_data_as_code() -> None:
    """Every call is looked at: no pickle, no eval, no shell, but for the study file that is loaded as Python."""
    found = {(path, name) for path, name, node in calls() if is_dangerous(name, node)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "text",
    ["torch.load(p)", "torch.load(p, weights_only=False)", "eval(x)", "yaml.load(t)", "yaml.load(t, yaml.Loader)",
     "pickle.loads(b)", "subprocess.run(c, shell=True)", "np.load(p, allow_pickle=True)", "frame.query(text)"],
)  # fmt: skip
def test_the_look_at_the_product_finds_what_it_should(text: str) -> None:
    """It would be worth nothing if it passed everything."""
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    assert is_dangerous(ast.unparse(node.func), node)


class Malicious:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Return what unpickling does."""
        return os.mkdir, (str(self.mark),)


def test_a_malicious_pickle_is_run_by_whoever_unpickles_it(tmp_path: Path) -> None:
    """The specimen of the next tests does what they say does not happen."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["torch", "legacy", "bare"])
def test_a_malicious_checkpoint_is_thrown_away(
    form: str, tiny: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs nothing; the pack begins anew and ends as it would have."""
    (pack,) = make_packs(tiny.study.trials()[:2])
    path = checkpoint_path(tmp_path / "checkpoints", pack)
    path.parent.mkdir()
    specimen = {"run": Malicious(tmp_path / "ran"), "elapsed_s": 0.0}
    if form == "bare":
        path.write_bytes(pickle.dumps(specimen))
    else:
        torch.save(specimen, path, _use_new_zipfile_serialization=form == "torch")
    monkeypatch.setattr(worker_module, "CHECKPOINT_INTERVAL_S", 1e9)
    worker, results = PackWorker(pack, checkpoints=path.parent), []
    while not worker.done:
        results += worker.advance(60.0)
    assert not (tmp_path / "ran").exists()
    clean = PackWorker(pack)
    wanted = []
    while not clean.done:
        wanted += clean.advance(60.0)
    assert [r.metrics for r in results] == [r.metrics for r in wanted]


def test_a_malicious_pickle_anywhere_in_a_store_runs_nothing(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """In the place of every file that a launch leaves, and beside them under every name that is looked for."""
    ran, store = tmp_path / "ran", tmp_path / "store"
    study = write_study(tiny_text(steps=5, lrs="(0.01,)"))
    specimen = pickle.dumps(Malicious(ran))

    def call(*words: object) -> int:
        found = CliRunner().invoke(main, [*map(str, words), "--store", str(store)])
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return found.exit_code

    run = ("run", study, "--executor", "in-process", "--no-mlflow")
    assert call(*run) == 0
    written = [path for path in store.rglob("*") if path.is_file()]
    assert {path.parent.name for path in written} >= {"journal", "launches"}
    for path in written:
        path.write_bytes(specimen)
    for folder in ("journal", "launches", "checkpoints", "reports", "."):
        for name in ("a.json", "a.jsonl", "a.pt", "a.pkl", "a.lease", "speeds.json", "tuner.pkl"):
            (store / folder).mkdir(exist_ok=True)
            (store / folder / name).write_bytes(specimen)
    codes = [call(*run), call("status", study), call("report", study, "--no-mlflow", "--no-pdf")]
    assert all(code in (0, 1, 2) for code in codes), codes
    assert not ran.exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "-x", ".hidden", "a" * 81, "A", "ä", "a b", "a\n",
     "a.", "．．", "a／b", "a\u202eb", "con", "nul", "com1", "con.txt", "lpt9", "~",
     "~root", "a:b", "$HOME", "%2e%2e", None, 3],
)  # fmt: skip
def test_a_study_name_names_a_folder_and_nothing_else(name: object, tiny: StudyFile) -> None:
    """Refused where the study file is loaded, before any path is made of it."""
    study = tiny.study
    with pytest.raises(StudyError, match=r"Study\.name is"):
        Study(name=name, settings=study.settings, seeds=study.seeds, metrics=study.metrics)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "a..b", "console", "com10", "nullable", "0", "a" * 80, "a-_.b"])
def test_a_good_study_name_is_taken(name: str, tiny: StudyFile) -> None:
    """The refusals go no further than they say."""
    study = Study(name=name, settings=tiny.study.settings, seeds=tiny.study.seeds, metrics=tiny.study.metrics)
    assert Store(folder=Path("/somewhere")).report(study.name) == Path("/somewhere/reports") / name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\\b", "a\0b", "a\nb", "ü" * 200, "c:"])
def test_a_store_makes_no_path_out_of_itself(name: str, tmp_path: Path) -> None:
    """Whoever asks: names that come from elsewhere than a study file are looked at as well."""
    with pytest.raises(StoreError, match="cannot name a folder of the store"):
        Store(folder=tmp_path).report(name)


def test_a_store_may_be_a_link_but_nothing_in_it_leads_out(write_study: Callable[..., Path], tmp_path: Path) -> None:
    """The store's owner chooses where it lies; a link inside could have others' reports written anywhere."""
    real, link, outside = tmp_path / "real", tmp_path / "link", tmp_path / "outside"
    real.mkdir()
    outside.mkdir()
    link.symlink_to(real)
    study = write_study(tiny_text(steps=5, lrs="(0.01,)"))
    words = [str(study), "--store", str(link), "--no-mlflow"]
    assert CliRunner().invoke(main, ["run", *words, "--executor", "in-process"]).exit_code == 0
    (real / "reports").mkdir()
    (real / "reports" / "tiny").symlink_to(outside)
    found = CliRunner().invoke(main, ["report", *words])
    assert found.exit_code == 2
    assert "leads out of the store" in found.stderr
    assert "--out" in found.stderr
    assert not list(outside.iterdir())
    (real / "checkpoints").rmdir() if (real / "checkpoints").exists() else None
    (real / "checkpoints").symlink_to(outside)
    more = write_study(tiny_text(steps=6, lrs="(0.01,)"))
    found = CliRunner().invoke(main, ["run", str(more), *words[1:], "--executor", "in-process"])
    assert found.exit_code == 2
    assert "leads out of the store" in found.stderr


def test_links_in_a_circle_are_said(tmp_path: Path) -> None:
    """Not followed for ever."""
    (tmp_path / "reports").symlink_to(tmp_path / "reports")
    with pytest.raises(StoreError, match=r"cannot be followed|leads out"):
        Store(folder=tmp_path).report("tiny")


def test_only_the_study_file_is_code(tmp_path: Path) -> None:
    """Loading one runs it, which is why it must be trusted; JSON beside it, of the same stem, is not looked at."""
    path = tmp_path / "mine.py"
    path.write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    (tmp_path / "mine.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(StudyError, match="defines no 'study'"):
        load_study(path)
    assert (tmp_path / "ran").exists()
