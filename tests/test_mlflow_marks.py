"""The mark that a study is recorded: cheap to look at, and gone or different whenever something may be missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperscale.errors import RecordingError
from hyperscale.recording.mlflow_connection import peek_experiment_tag, sqlite_path
from hyperscale.recording.mlflow_store import MlflowStore
from hyperscale.study import PER_SETTING, StudyFile
from hyperscale.trial import TrialRecord, TrialStatus
from tests.ledgers import given
from tests.mlflow_faults import Killed, copy_database, counted, mark_of
from tests.test_mlflow_store import changed, make_file, make_records, runs

FILE = make_file()
RECORDS = make_records(FILE)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a database that shows all of the study and is marked. Not to be changed."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('recorded') / 'mlflow.db'}"
    MlflowStore(uri).sync(FILE, given(RECORDS), "launch-1")
    return uri


@pytest.fixture
def uri(tmp_path: Path, recorded: str) -> str:
    """The URI of a copy of it."""
    path = sqlite_path(recorded)
    assert path is not None
    copy_database(path, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def current(uri: str, records: list[TrialRecord], file: StudyFile = FILE) -> bool:
    """Whether a new driver finds the study marked as showing these records."""
    return MlflowStore(uri).is_current(file, mark_of(records))


def test_a_complete_study_is_marked_for_its_very_outcomes(recorded: str) -> None:
    """A trial more or fewer, another status, another time, another form of runs: not current."""
    assert current(recorded, RECORDS)
    assert current(recorded, RECORDS[::-1])
    later = changed(RECORDS[0], provenance={"ended_at": "2026-11-22T00:00:00+00:00"})
    failed = changed(RECORDS[0], status=TrialStatus.FAILED)
    for others in (
        RECORDS[1:],
        [*RECORDS, changed(RECORDS[0], digest="new")],
        [later, *RECORDS[1:]],
        [failed, *RECORDS[1:]],
    ):
        assert not current(recorded, others)
    assert not current(recorded, RECORDS, make_file(PER_SETTING))


def test_looking_at_the_mark_imports_no_mlflow(recorded: str) -> None:
    """On SQLite; MLflow's import takes longer than all the rest of a run that has nothing to do."""
    code = (
        "import sys; from tests.test_mlflow_marks import RECORDS, current;"
        "assert current(sys.argv[1], RECORDS); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, recorded], check=True, cwd=Path(__file__).parents[1])


def test_through_mlflow_the_mark_says_the_same(uri: str) -> None:
    """Where the store is no SQLite database, or a connection is open already."""
    store = MlflowStore(uri)
    store.open_study(FILE)
    assert store.is_current(FILE, mark_of(RECORDS))
    assert not store.is_current(FILE, mark_of(RECORDS[1:]))


def _delete_database(uri: str) -> None:
    path = sqlite_path(uri)
    assert path is not None
    path.unlink()


def _replace_database(uri: str) -> None:
    _delete_database(uri)
    MlflowStore(uri).open_study(FILE)


def _delete_experiment(uri: str) -> None:
    store = MlflowStore(uri)
    store._client().delete_experiment(store._experiment("toy"))


def _rename_experiment(uri: str) -> None:
    store = MlflowStore(uri)
    store._client().rename_experiment(store._experiment("toy"), "older")


@pytest.mark.parametrize("damage", [_delete_database, _replace_database, _delete_experiment, _rename_experiment])
def test_what_takes_the_runs_takes_the_mark(damage: Callable[[str], None], uri: str) -> None:
    """Noticed at once, and repaired by a sync."""
    damage(uri)
    assert not current(uri, RECORDS)
    store = MlflowStore(uri)
    store.sync(FILE, given(RECORDS), "launch-2")
    assert store.read_records("toy") == RECORDS
    assert len(runs(store)) == 8
    assert current(uri, RECORDS)


def test_an_explicit_sync_looks_for_itself(uri: str) -> None:
    """A run deleted by hand is found missing however the study is marked."""
    store = MlflowStore(uri)
    store.open_study(FILE)
    store._client().delete_run(runs(store)[0].info.run_id)
    assert current(uri, RECORDS)
    assert MlflowStore(uri).sync(FILE, given(RECORDS), "launch-2") == 1
    assert store.read_records("toy") == RECORDS


def test_a_sync_that_is_broken_off_leaves_no_new_mark(uri: str) -> None:
    """Wherever the driver dies before the last request, which is the mark's."""
    later = [*RECORDS[:5], changed(RECORDS[5], provenance={"ended_at": "2026-11-22T00:00:00+00:00"}), *RECORDS[6:]]
    dies_at, died = 0, True
    while died:
        store, died = MlflowStore(uri), False
        try:
            with counted(store, dies_at):
                store.sync(FILE, given(later), "launch-2")
        except Killed:
            died = True
        assert current(uri, later) is not died
        dies_at += 1
    assert dies_at > 6


def test_records_that_are_missing_are_not_marked(uri: str) -> None:
    """A store that refuses the last trial keeps the old mark, which fits the journal no longer."""
    store = MlflowStore(uri)
    again = changed(RECORDS[5], provenance={"ended_at": "2026-11-22T00:00:00+00:00"})
    store._write_trial = None  # type: ignore[assignment, method-assign]
    with pytest.raises(RecordingError):
        store.sync(FILE, given([*RECORDS[:5], again, *RECORDS[6:]]), "launch-2")
    assert not current(uri, [*RECORDS[:5], again, *RECORDS[6:]])


def test_a_changed_text_of_the_study_reaches_the_experiment(uri: str) -> None:
    """The mark holds for the outcomes; description and views follow the file all the same."""
    file = replace(FILE, description="Another question.")
    assert current(uri, RECORDS, file)
    store = MlflowStore(uri)
    assert store._client().get_experiment_by_name("toy").tags["mlflow.note.content"] == "Another question."
    assert peek_experiment_tag(uri, "toy", "mlflow.note.content") == "Another question."


def test_peeking_never_raises_and_never_creates(tmp_path: Path) -> None:
    """A file that is no database, one that is not MLflow's, none at all, a server."""
    missing = tmp_path / "none" / "mlflow.db"
    assert peek_experiment_tag(f"sqlite:///{missing}", "toy", "x") is None
    assert not missing.parent.exists()
    (tmp_path / "text.db").write_text("hello " * 1000)
    (tmp_path / "empty.db").write_text("")
    for name in ("text.db", "empty.db"):
        assert peek_experiment_tag(f"sqlite:///{tmp_path / name}", "toy", "x") is None
    assert peek_experiment_tag("http://127.0.0.1:9", "toy", "x") is None
