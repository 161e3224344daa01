"""Runs of launches, trials and settings in MLflow: written, completed, replaced, and read back one by one.

Everything here can be repeated: runs are found by their tags and times come from the record, so that writing a
trial twice changes nothing. A run is complete before the runs it replaces go.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hyperscale.errors import RecordingError
from hyperscale.recording import mlflow_layout as layout
from hyperscale.recording import mlflow_settings as settings_layout
from hyperscale.recording.mlflow_connection import translated
from hyperscale.recording.mlflow_packed import CURVES_FILE, Unpacked, pack, pack_setting, unpack
from hyperscale.recording.mlflow_rows import NewRun, database_of, insert_runs
from hyperscale.recording.mlflow_runs import RecordedRun, Shown, best_run, judge, read_run, setting_key
from hyperscale.recording.mlflow_studies import NOTE, MlflowStudies, now_ms
from hyperscale.recording.outcomes import outcome_of
from hyperscale.recording.secrecy import without_secrets
from hyperscale.study import PER_SETTING, PER_TRIAL, StudyFile
from hyperscale.trial import TrialRecord

if TYPE_CHECKING:
    from mlflow.entities import Run

_PARENT = "mlflow.parentRunId"
_DRIVER = "mlflow.hyperscale.driver"
_LAUNCH_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MlflowWriter(MlflowStudies):
    """Writes runs. The base of `MlflowStore`, which says what the methods promise."""

    def begin_launch(self, launch_id: str, study_file: StudyFile, num_trials: int) -> str:
        """Return the run of this launch, creating it (with the study's text and file) at the first call."""
        study = study_file.study
        if study.name not in self._forms:
            self.open_study(study_file)
        experiment, client = self._experiment(study.name), self._client()
        with translated(self.tracking_uri):
            launches = list(self._search(experiment, "tags.kind = 'launch'"))
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

    def _has_company(self, study_name: str, launch_id: str) -> bool:
        """Whether another launch has written to the study since this one began, or may be writing."""
        found = list(self._search(self._experiment(study_name), "tags.kind = 'launch'"))
        own = [run.info.start_time or 0 for run in found if run.data.tags.get("launch") == launch_id]
        since = min(own, default=now_ms())
        others = (run.info for run in found if run.data.tags.get("launch") != launch_id)
        return any(info.status == "RUNNING" or (info.end_time or 0) >= since for info in others)

    def _end_abandoned(self, launches: Iterable[Run]) -> None:
        """End the runs of launches whose driver, a process of this machine, no longer exists."""
        for run in launches:
            if run.info.status == "RUNNING" and _is_gone(run.data.tags.get(_DRIVER, "")):
                self._client().set_terminated(run.info.run_id, "KILLED")

    def end_launch(self, parent_run_id: str, status: str = "finished") -> None:
        """End a launch's run; ``status`` is ``finished``, ``failed`` or ``interrupted``."""
        with translated(self.tracking_uri):
            self._client().set_terminated(parent_run_id, _LAUNCH_STATUS[status])

    def _runs(self, study_name: str) -> Iterator[tuple[Run, RecordedRun]]:
        """Yield every run of a trial or a setting, with what it shows."""
        for run in self._search(self._experiment(study_name), ""):
            found = read_run(run)
            if found is not None:
                yield run, found

    def _find_runs(self, study_name: str) -> Shown:
        """Return what MLflow shows of a study, in one request per 1000 runs."""
        shown: Shown = {}
        with translated(self.tracking_uri):
            for run, found in self._runs(study_name):
                shown.setdefault(run.data.tags.get("setting", ""), []).append(found)
        return shown

    def _bring(self, study_name: str, shown: Shown, records: Sequence[TrialRecord], parent: str) -> int:
        """Make MLflow show the records of one setting; return how many it did not show. Keeps ``shown`` true."""
        runs = shown.setdefault(setting_key(records[0].result.setting_digest), [])
        judgement = judge(self._form(study_name), runs, [outcome_of(record.result) for record in records])
        if judgement.writes:
            merged = _merged(records, (self._records_of(run) for run in judgement.carried))
            if self._form(study_name) == PER_SETTING:
                runs.append(self._write_setting(study_name, merged, parent))
            else:
                self._write_trials(study_name, merged, parent, runs)
        self._delete(runs, judgement.surplus)
        return len(judgement.missing)

    def _delete(self, runs: list[RecordedRun], surplus: Iterable[RecordedRun]) -> None:
        for run in surplus:
            if run.terminated:
                self._client().delete_run(run.run_id)
                runs.remove(run)
            elif self._delete_half(run):
                runs.remove(run)

    def _delete_half(self, run: RecordedRun) -> bool:
        """Delete a run that was half-written when it was found; return False where its driver has completed it since.

        A complete run may be the one that a third driver kept when it deleted the others: then it must stay. A driver
        that completes a run after it was deleted is refused, and looks again.
        """
        client = self._client()
        if client.get_run(run.run_id).info.status != "RUNNING":
            return False
        client.delete_run(run.run_id)
        if client.get_run(run.run_id).info.status != "RUNNING":
            client.restore_run(run.run_id)
            return False
        return True

    def _records_of(self, run: RecordedRun) -> Sequence[TrialRecord]:
        """Return the records of a run that is to be replaced; curves that MLflow has lost stay lost, with a notice."""
        found = self._client().get_run(run.run_id)
        unpacked = unpack(found.data.tags)
        if unpacked is None:
            raise RecordingError(f"MLflow's run {run.run_id} no longer holds its records; nothing was replaced.")
        try:
            return self._with_curves(run.run_id, unpacked).records
        except Exception as error:  # noqa: BLE001  (artifact stores raise whatever their library raises)
            reason = without_secrets(" ".join(str(error).split()), self.tracking_uri)[:300]
            self.notices.append(f"MLflow lost the curves of {len(unpacked.records)} trials: {reason}")
            return unpacked.records

    def _with_curves(self, run_id: str, unpacked: Unpacked) -> Unpacked:
        """Return a run's records with the curves of its artifact, where they lie there."""
        return unpacked.with_curves(self._load_text(run_id, CURVES_FILE)) if unpacked.curves_file else unpacked

    def _write_trials(
        self, study_name: str, records: Iterable[TrialRecord], parent: str, runs: list[RecordedRun]
    ) -> None:
        """Write the trials that no run of their own shows; ``runs`` are those of their setting."""
        for record in records:
            old = best_run(runs, record.result.digest)
            if old is None or not old.holds(outcome_of(record.result)):
                runs.append(self._write_trial(study_name, record, parent, old))
                if old is not None:
                    runs.remove(old)

    def _insert_fresh(self, study_name: str, shown: Shown, records: Sequence[TrialRecord], parent: str) -> int:
        """Write at once the trials of which MLflow shows nothing at all, where that can be done; return their number.

        Records with an artifact are left to `_bring`: a run is complete when it says so.
        """
        database = database_of(self._client()) if self._form(study_name) == PER_TRIAL else None
        if database is None:
            return 0
        fresh: dict[str, tuple[TrialRecord, NewRun]] = {}
        for record in records:
            runs = shown.get(setting_key(record.result.setting_digest), [])
            if not any(o.digest == record.result.digest for run in runs for o in run.outcomes):
                run = self._new_run(study_name, record, parent)
                if run is not None and run.fits:
                    fresh[record.result.digest] = (record, run)
        if not fresh:
            return 0
        ids = insert_runs(database, self._experiment(study_name), [run for _, run in fresh.values()])
        for run_id, (record, run) in zip(ids, fresh.values(), strict=True):
            runs = shown.setdefault(setting_key(record.result.setting_digest), [])
            runs.append(_recorded(run_id, "trial", run.times.start_ms, [record]))
        return len(fresh)

    def _new_run(self, study_name: str, record: TrialRecord, parent: str) -> NewRun | None:
        """Return the run of a trial, or None where it needs an artifact."""
        packed = pack(record, self._order(study_name, record))
        if packed.curves is not None:
            return None
        return NewRun(
            name=layout.run_name(record, self._named(study_name)),
            status=layout.mlflow_status(record.result.status),
            times=layout.times(record.result, now_ms()),
            tags={**layout.visible_tags(record, study_name), **packed.tags, _PARENT: parent},
            params=layout.params(record),
            points=layout.metrics(record),
        )

    def _write_trial(self, study_name: str, record: TrialRecord, parent: str, old: RecordedRun | None) -> RecordedRun:
        """Create or complete the run of one trial; a run that shows another outcome is replaced."""
        client, result = self._client(), record.result
        packed = pack(record, self._order(study_name, record))
        half = old if old and _is_half_of(old, record) else None
        span = layout.times(result, half.start_ms if half else now_ms())
        if half:
            run_id = half.run_id
        else:
            tags = {**layout.visible_tags(record, study_name), **packed.tags, _PARENT: parent}
            name = layout.run_name(record, self._named(study_name))
            run_id = str(client.create_run(self._experiment(study_name), span.start_ms, tags, name).info.run_id)
        if packed.curves is not None:
            self._keep_artifact(run_id, packed.curves, CURVES_FILE)
        self._log(run_id, layout.metrics(record), layout.params(record), span.end_ms)
        client.set_terminated(run_id, layout.mlflow_status(result.status), span.end_ms)
        if old and not half:
            self._delete([old], [old])
        return _recorded(run_id, "trial", span.start_ms, [record])

    def _write_setting(self, study_name: str, records: Sequence[TrialRecord], parent: str) -> RecordedRun:
        """Create the run of one setting, with all that is known of its seeds."""
        client = self._client()
        records = sorted(records, key=lambda record: (self._order(study_name, record), record.result.seed))
        packed = pack_setting(records, [self._order(study_name, record) for record in records])
        span = settings_layout.span(records, now_ms())
        tags = {**settings_layout.tags(records, study_name), **packed.tags, _PARENT: parent}
        name = layout.setting_name(records[0], self._named(study_name))
        run_id = str(client.create_run(self._experiment(study_name), span.start_ms, tags, name).info.run_id)
        if packed.curves is not None:
            self._keep_artifact(run_id, packed.curves, CURVES_FILE)
        if settings_layout.has_table(records):
            self._keep_artifact(run_id, settings_layout.seeds_table(records), settings_layout.SEEDS_FILE)
        self._log(run_id, settings_layout.metrics(records), layout.params(records[0]), span.end_ms)
        client.set_terminated(run_id, settings_layout.mlflow_status(records), span.end_ms)
        return _recorded(run_id, "setting", span.start_ms, records)


def _is_half_of(run: RecordedRun, record: TrialRecord) -> bool:
    """Whether the run was begun, and not ended, for this very result."""
    begun, wanted = run.outcomes[0], outcome_of(record.result)
    return not run.terminated and (begun.status, begun.end_ms) == (wanted.status, wanted.end_ms)


def _recorded(run_id: str, kind: str, start_ms: int, records: Iterable[TrialRecord]) -> RecordedRun:
    outcomes = tuple(outcome_of(record.result) for record in records)
    return RecordedRun(run_id=run_id, kind=kind, terminated=True, start_ms=start_ms, outcomes=outcomes)


def _merged(records: Sequence[TrialRecord], others: Iterable[Sequence[TrialRecord]]) -> list[TrialRecord]:
    """Return the records, and of the others what they lack or may not replace, with the columns of the records."""
    found = {record.result.digest: record for record in records}
    for record in (record for group in others for record in group):
        known = found.get(record.result.digest)
        if known is None or not outcome_of(known.result).holds(outcome_of(record.result)):
            found[record.result.digest] = TrialRecord(result=record.result, columns=records[0].columns)
    return list(found.values())


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
