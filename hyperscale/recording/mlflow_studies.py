"""Studies as MLflow experiments: opening one, finding one, searching its runs, marking it as complete."""

from __future__ import annotations

import gc
import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperscale.errors import RecordingError
from hyperscale.recording import mlflow_layout as layout
from hyperscale.recording.mlflow_connection import (
    check_writable,
    connect,
    peek_experiment_tag,
    scheme,
    sqlite_path,
    translated,
)
from hyperscale.recording.mlflow_views import SCALING, TRIALS, changed_by_hand, view_address, view_tags
from hyperscale.recording.secrecy import masked, without_secrets
from hyperscale.study import PER_TRIAL, StudyFile
from hyperscale.trial import TrialRecord

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.store.entities import PagedList
    from mlflow.tracking import MlflowClient

NOTE = "mlflow.note.content"
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_MARK = "mlflow.hyperscale.recorded"
_PAGE = 1000
_DIGITS = "0123456789abcdef"  # of a run's id, which MLflow makes of a UUID
_SHOWN = ("num_params_primary", "lr")


class MlflowStudies:
    """The experiments of a tracking store. The base of `MlflowStore`, which says what the methods promise."""

    def __init__(self, tracking_uri: str, artifact_root: Path | str | None = None) -> None:
        scheme(tracking_uri)
        path = sqlite_path(tracking_uri)
        if artifact_root is None and path is not None:
            artifact_root = path.resolve().parent / "artifacts"
        self.tracking_uri = tracking_uri
        self.notices: list[str] = []
        self._artifact_root = None if artifact_root is None else str(artifact_root)
        self._connection: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, dict[object, int]] = {}
        self._forms: dict[str, str] = {}
        self._marks: dict[str, str] = {}

    def _client(self, *, create: bool = False) -> MlflowClient:
        if self._connection is None:
            self._connection = connect(self.tracking_uri, create=create)
        return self._connection

    def open_study(self, study_file: StudyFile) -> str:
        """Create or take up the study's experiment, with its description and saved views; return its id.

        A deleted experiment of that name is restored.
        """
        study = study_file.study
        columns = [setting.columns() for setting in study.settings]
        self._forms[study.name] = study.mlflow_runs
        self._names[study.name] = layout.name_columns(columns)
        self._places[study.name] = {
            **{setting.digest(): index for index, setting in enumerate(study.settings)},
            **{seed: index for index, seed in enumerate(study.seeds)},
        }
        client = self._client(create=True)
        check_writable(self.tracking_uri)
        with translated(self.tracking_uri):
            found = self._find_or_create(client, study.name)
            restored = found.lifecycle_stage == "deleted"
            if restored:
                client.restore_experiment(found.experiment_id)
            wanted = {NOTE: layout.clip(study_file.description)}
            wanted |= {_KIND_TAG: _KIND}
            wanted |= view_tags(
                study.metrics,
                _view_columns(columns),
                found.creation_time or 1,
                form=study.mlflow_runs,
            )
            self._set_tags(found, wanted)
        self._marks[study.name] = "" if restored else found.tags.get(_MARK, "")
        self._experiments[study.name] = str(found.experiment_id)
        return self._experiments[study.name]

    def _find_or_create(self, client: MlflowClient, study_name: str) -> Experiment:
        """Return the experiment; of several drivers that create it at once, one does."""
        found = client.get_experiment_by_name(study_name)
        if found is not None:
            return found
        try:
            return client.get_experiment(client.create_experiment(study_name, self._artifact_location(study_name)))
        except Exception:
            found = client.get_experiment_by_name(study_name)
            if found is None:
                raise
            return found

    def _artifact_location(self, study_name: str) -> str | None:
        root = self._artifact_root
        if root is None:
            return None
        return f"{root.rstrip('/')}/{study_name}" if "://" in root else (Path(root).resolve() / study_name).as_uri()

    def _set_tags(self, found: Experiment, wanted: Mapping[str, str]) -> None:
        for name, value in wanted.items():
            old = found.tags.get(name)
            by_hand = old is not None and "sharedViewState" in name and changed_by_hand(old)
            if value and old != value and not by_hand:
                self._client().set_experiment_tag(found.experiment_id, name, value)

    def _experiment(self, study_name: str) -> str:
        if study_name not in self._experiments:
            with translated(self.tracking_uri):
                found = self._client().get_experiment_by_name(study_name)
            if found is None:
                raise RecordingError(
                    f"MLflow at {masked(self.tracking_uri)} has no study {study_name!r}. "
                    "Check the name and the address, or run the study first."
                )
            self._experiments[study_name] = str(found.experiment_id)
        return self._experiments[study_name]

    def is_current(self, study_file: StudyFile, fingerprint: str) -> bool:
        """Whether the study is marked as showing exactly the outcomes of this fingerprint.

        The mark is a tag of the experiment: it goes where the database or the experiment goes. Runs that someone
        deleted one by one are noticed by `sync` only. Where the study file has changed, the experiment is brought
        up to date with it.
        """
        name = study_file.study.name
        wanted = _mark_text(study_file, fingerprint)
        if self._connection is None and peek_experiment_tag(self.tracking_uri, name, _MARK) == wanted:
            return True
        self.open_study(study_file)
        if self._marks[name].rpartition(" ")[0] != wanted.rpartition(" ")[0]:
            return False
        self._mark(study_file, fingerprint)
        return True

    def _mark(self, study_file: StudyFile, fingerprint: str) -> None:
        name, mark = study_file.study.name, _mark_text(study_file, fingerprint)
        if self._marks.get(name) != mark:
            with translated(self.tracking_uri):
                self._client().set_experiment_tag(self._experiment(name), _MARK, mark)
            self._marks[name] = mark

    def _search(self, experiment: str, query: str, prefix: str = "") -> Iterator[Run]:
        """Yield every run that a query finds, each once, in no order that means anything.

        MLflow's pages are offsets into a list that other drivers change meanwhile: a run may come twice or never. So
        what does not fit into one page of 1000 is asked for by the first digit of the runs' ids, each in a page of
        its own, which is one moment's truth.
        """
        part = f"attributes.run_id LIKE '{prefix}%'" if prefix else ""
        page = self._page(experiment, " AND ".join(filter(None, (query, part))))
        if not page.token:
            yield from page
            return
        for digit in _DIGITS:
            yield from self._search(experiment, query, prefix + digit)

    def _page(self, experiment: str, query: str) -> PagedList[Run]:
        with _no_cycle_collection():
            return self._client().search_runs([experiment], query, max_results=_PAGE)

    def _log(self, run_id: str, points: Iterable[layout.Point], params: Mapping[str, str], timestamp_ms: int) -> None:
        from mlflow.entities import Metric, Param

        values = [Metric(point.key, point.value, timestamp_ms, point.step) for point in points]
        self._client().log_batch(run_id, values, [Param(name, text) for name, text in params.items()])

    def _load_text(self, run_id: str, name: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = self._client().download_artifacts(run_id, name, folder)
            return Path(path).read_text(encoding="utf-8")

    def _keep_artifact(self, run_id: str, text: str, name: str) -> None:
        """Store a text artifact. Failing to is worth a notice only: trials matter more."""
        try:
            self._client().log_text(run_id, text, name)
        except Exception as error:  # noqa: BLE001  (artifact stores raise whatever their library raises)
            reason = without_secrets(" ".join(str(error).split()), self.tracking_uri)[:300]
            self.notices.append(f"MLflow could not store the artifact {name}: {reason}")

    def _named(self, study_name: str) -> tuple[str, ...]:
        """Return the columns that a run's name shows."""
        return self._names.get(study_name, _SHOWN)

    def _form(self, study_name: str) -> str:
        """Return what a run of the study shows, a trial or a setting, as its study file asks."""
        return self._forms.get(study_name, PER_TRIAL)

    def _order(self, study_name: str, record: TrialRecord) -> tuple[int, int]:
        places = self._places.get(study_name, {})
        last = len(places)
        return places.get(record.result.setting_digest, last), places.get(record.result.seed, last)

    def address(self, study_name: str, base: str, view: str = TRIALS) -> str:
        """Return the address of a study's saved view (`TRIALS` or `SCALING`) in the UI at ``base``."""
        return view_address(base, self._experiment(study_name), view)

    def addresses(self, base: str) -> list[tuple[str, str, str]]:
        """Return every study's name and the addresses of its trials and of its error-against-N chart."""
        with translated(self.tracking_uri):
            found = self._client().search_experiments(filter_string=f"tags.`{_KIND_TAG}` = '{_KIND}'")
        return [
            (name, view_address(base, identity, TRIALS), view_address(base, identity, SCALING))
            for name, identity in sorted((str(study.name), str(study.experiment_id)) for study in found)
        ]


def _mark_text(study_file: StudyFile, fingerprint: str) -> str:
    """Return what a complete study is marked with: the form of its runs, the outcomes, and its file's text."""
    text = hashlib.sha256(f"{study_file.description}\n{study_file.source}".encode()).hexdigest()[:12]
    return f"{study_file.study.mlflow_runs} {fingerprint} {text}"


def _view_columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the params worth a column in the runs table: method, size, learning rate, what else differs."""
    first = [name for name in ("method", "num_params_primary", "lr") if any(name in row for row in columns)]
    others = (name for name in layout.varying_columns(columns) if not name.startswith("log10_"))
    return [*first, *(name for name in others if name not in first)]


@contextmanager
def _no_cycle_collection() -> Iterator[None]:
    """Put the collection of reference cycles off: a page of runs is so many objects that it takes most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def now_ms() -> int:
    """Return the time in milliseconds since the epoch, as MLflow counts it."""
    return round(time.time() * 1000)
