"""MLflow as a view of the journal: a study is an experiment, a launch a run, a trial its child, a curve a run.

Everything here can be repeated: runs are found by their tags and times come from the record, so that writing a
trial twice changes nothing. A trial costs three requests: create its run with all tags, one batch, end it.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hyperscale.errors import RecordingError
from hyperscale.recording import mlflow_layout as layout
from hyperscale.recording.mlflow_connection import check_writable, masked, translated
from hyperscale.recording.mlflow_studies import NOTE, MlflowStudies, now_ms
from hyperscale.recording.mlflow_views import SCALING, TRIALS, UiServer, serve_ui
from hyperscale.study import StudyFile
from hyperscale.trial import TrialRecord, TrialStatus

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["SCALING", "TRIALS", "MlflowStore", "RecordedRun", "ScalingCurve", "UiServer", "serve_ui"]

_PARENT = "mlflow.parentRunId"
_DRIVER = "mlflow.hyperscale.driver"
_LAUNCH_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_SETTLED = {status.value for status in TrialStatus if status.settled}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A trial's run as it stands in MLflow; not ``terminated`` is the half-written run of a killed driver."""

    run_id: str
    status: str
    terminated: bool
    start_ms: int = 0
    end_ms: int = 0

    def holds(self, record: TrialRecord) -> bool:
        """Whether the run shows this very outcome; an unsettled one may have been tried again since."""
        result = record.result
        if not self.terminated or self.status != result.status.value:
            return False
        return result.status.settled or self.end_ms == layout.times(result, self.end_ms).end_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingCurve:
    """An error curve: ``points`` are (N, value); ``slope`` is the fitted exponent, with its interval if any."""

    method: str
    metric: str
    points: Sequence[tuple[int, float]]
    slope: float | None = None
    interval: tuple[float, float] | None = None
    size: str = "num_params_primary"


class MlflowStore(MlflowStudies):
    """Writes and reads studies at an MLflow tracking URI.

    Every method raises `RecordingError`, and nothing else, where MLflow cannot be reached or refuses; waits are
    bounded (seconds, not minutes). What failed without harm, such as an artifact, is noted in ``notices``. An
    instance belongs to one thread at a time.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path | str | None = None) -> None:
        super().__init__(tracking_uri, artifact_root)
        self._known: dict[str, dict[str, RecordedRun]] = {}

    def begin_launch(self, launch_id: str, study_file: StudyFile, num_trials: int) -> str:
        """Return the run of this launch, creating it (with the study's text and file) at the first call."""
        study = study_file.study
        experiment = self._experiments.get(study.name) or self.open_study(study_file)
        client = self._client()
        with translated(self.tracking_uri):
            launches = self._search(experiment, "tags.kind = 'launch'", "attributes.start_time DESC")
            for run in launches:
                if run.data.tags.get("launch") == launch_id:
                    if run.info.status != "RUNNING":
                        client.update_run(run.info.run_id, "RUNNING")
                    return str(run.info.run_id)
            self._end_abandoned(launches)
            tags = {"kind": "launch", "study": study.name, "launch": launch_id, _DRIVER: _driver()}
            tags[NOTE] = layout.clip(study_file.description) or study.name
            name = f"Launch {time.strftime('%Y-%m-%d %H:%M')}, {num_trials} trials"
            run_id = str(client.create_run(experiment, now_ms(), tags, name).info.run_id)
        self._keep_artifact(run_id, study_file.source, f"study/{study_file.path.name}")
        return run_id

    def _end_abandoned(self, launches: Iterable[Run]) -> None:
        """End the runs of launches whose driver, a process of this machine, no longer exists."""
        for run in launches:
            if run.info.status == "RUNNING" and _is_gone(run.data.tags.get(_DRIVER, "")):
                self._client().set_terminated(run.info.run_id, "KILLED")

    def end_launch(self, parent_run_id: str, status: str = "finished") -> None:
        """End a launch's run; ``status`` is ``finished``, ``failed`` or ``interrupted``."""
        with translated(self.tracking_uri):
            self._client().set_terminated(parent_run_id, _LAUNCH_STATUS[status])

    def record(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Write trials that MLflow does not show yet as children of a launch; return how many were written."""
        if study_name not in self._known:
            self._known[study_name] = self.recorded(study_name)
        check_writable(self.tracking_uri)
        known, written = self._known[study_name], 0
        for record in records:
            old = known.get(record.result.digest)
            if old is None or not old.holds(record):
                with translated(self.tracking_uri):
                    known[record.result.digest] = self._write(study_name, record, parent_run_id, old)
                written += 1
        return written

    def _write(self, study_name: str, record: TrialRecord, parent: str, old: RecordedRun | None) -> RecordedRun:
        """Create or complete the run of one trial; a run that shows another outcome is replaced."""
        client, result = self._client(), record.result
        packed = layout.pack(record, self._order(study_name, record))
        half = old if old and not old.terminated and old.status == result.status.value else None
        span = layout.times(result, half.start_ms if half else now_ms())
        if half:
            run_id = half.run_id
        else:
            tags = {**layout.visible_tags(record, study_name), **packed.tags, _PARENT: parent}
            name = self._name(study_name, record)
            run_id = str(client.create_run(self._experiment(study_name), span.start_ms, tags, name).info.run_id)
        if packed.curves is not None:
            self._keep_artifact(run_id, packed.curves, layout.CURVES_FILE)
        self._log(run_id, layout.metrics(record), layout.params(record), span.end_ms)
        client.set_terminated(run_id, layout.mlflow_status(result.status), span.end_ms)
        if old and not half:
            client.delete_run(old.run_id)
        status = result.status.value
        return RecordedRun(run_id=run_id, status=status, terminated=True, start_ms=span.start_ms, end_ms=span.end_ms)

    def recorded(self, study_name: str) -> dict[str, RecordedRun]:
        """Return digest -> run of every trial that MLflow shows, in one request per 1000 trials."""
        return _rank(self._trial_runs(study_name))[0]

    def _trial_runs(self, study_name: str) -> list[Run]:
        with translated(self.tracking_uri):
            return self._search(self._experiment(study_name), "tags.kind = 'trial'")

    def sync(self, study_file: StudyFile, records: Sequence[TrialRecord], launch_id: str) -> int:
        """Bring MLflow up to date with the journal's ``records``; return how many trials were written.

        Missing trials are added, half-written runs completed, outdated outcomes replaced, duplicates removed;
        where nothing is missing, nothing is written.
        """
        name = study_file.study.name
        self.open_study(study_file)
        self._known[name], surplus = _rank(self._trial_runs(name))
        with translated(self.tracking_uri):
            for run_id in surplus:
                self._client().delete_run(run_id)
        known = self._known[name]
        todo = [r for r in records if r.result.digest not in known or not known[r.result.digest].holds(r)]
        if not todo:
            return 0
        parent = self.begin_launch(launch_id, study_file, len(todo))
        written = self.record(name, todo, parent)
        self.end_launch(parent)
        return written

    def read_records(self, study_name: str) -> list[TrialRecord]:
        """Rebuild a study's records from MLflow alone, equal to the journal's in every value and type.

        They come in the order of the study file (as it was when each was recorded), settings first.
        """
        found: list[tuple[tuple[int, ...], TrialRecord]] = []
        runs = self._trial_runs(study_name)
        surplus = set(_rank(runs)[1])
        with translated(self.tracking_uri):
            for run in runs:
                unpacked = None if run.info.run_id in surplus else layout.unpack(run.data.tags)
                if unpacked is None:
                    continue
                record = unpacked.record
                if unpacked.curves_file:
                    record = layout.with_curves(record, self._load_text(run.info.run_id, layout.CURVES_FILE))
                found.append((unpacked.order, record))
        return [record for _, record in sorted(found, key=lambda pair: pair[0])]

    def _load_text(self, run_id: str, name: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = self._client().download_artifacts(run_id, name, folder)
            return Path(path).read_text(encoding="utf-8")

    def record_curves(self, study_name: str, curves: Sequence[ScalingCurve]) -> None:
        """Show error against N: a run a method, a metric a curve, whose *step is N*; replaces the last ones."""
        check_writable(self.tracking_uri)
        experiment = self._experiment(study_name)
        methods: dict[str, list[ScalingCurve]] = {}
        for curve in curves:
            methods.setdefault(curve.method, []).append(curve)
        with translated(self.tracking_uri):
            outdated = self._search(experiment, "tags.kind = 'curve'")
            for method, same in methods.items():
                self._write_curves(experiment, study_name, method, same)
            for run in outdated:
                self._client().delete_run(run.info.run_id)

    def _write_curves(self, experiment: str, study_name: str, method: str, curves: Sequence[ScalingCurve]) -> None:
        tags = {"kind": "curve", "study": study_name, "method": method, **layout.colour_tag(method)}
        tags[NOTE] = f"Error of {method} against its size. The step of each chart is N: {curves[0].size}."
        points: list[layout.Point] = []
        for curve in curves:
            key = f"scaling/{curve.metric}"
            points += [layout.Point(key=key, value=value, step=int(size)) for size, value in curve.points]
            if curve.slope is not None:
                interval = f" [{curve.interval[0]:.2f}, {curve.interval[1]:.2f}]" if curve.interval else ""
                tags[f"slope of {curve.metric}"] = f"{curve.slope:.2f}{interval}"
        now = now_ms()
        run_id = self._client().create_run(experiment, now, tags, f"{method} against N").info.run_id
        self._log(run_id, points, {}, now)
        self._client().set_terminated(run_id, "FINISHED", now)

    def log_report(self, study_name: str, folder: Path) -> None:
        """Keep a report (report.html, report.json, figures) as artifacts of the study's newest launch."""
        experiment = self._experiment(study_name)
        with translated(self.tracking_uri):
            launches = self._search(experiment, "tags.kind = 'launch'", "attributes.start_time DESC")
            if not launches:
                raise RecordingError(
                    f"MLflow at {masked(self.tracking_uri)} has no launch of study {study_name!r} to attach the "
                    "report to. Run `hyperscale sync` first."
                )
            self._client().log_artifacts(launches[0].info.run_id, str(folder), "report")


def _rank(runs: Iterable[Run]) -> tuple[dict[str, RecordedRun], list[str]]:
    """Return the best run of each trial, by digest, and the ids of runs that show a trial a second time."""
    same: dict[str, list[RecordedRun]] = {}
    for run in runs:
        found = RecordedRun(
            run_id=str(run.info.run_id),
            status=run.data.tags.get("status", ""),
            terminated=run.info.status != "RUNNING",
            start_ms=run.info.start_time or 0,
            end_ms=run.info.end_time or 0,
        )
        same.setdefault(run.data.tags.get("digest", ""), []).append(found)
    for group in same.values():
        group.sort(key=lambda run: (run.terminated, run.status in _SETTLED, run.end_ms), reverse=True)
    surplus = [run.run_id for group in same.values() for run in group[1:]]
    return {digest: group[0] for digest, group in same.items()}, surplus


def _driver() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_gone(driver: str) -> bool:
    host, _, pid = driver.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    with suppress(PermissionError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return False
