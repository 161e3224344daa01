"""MLflow as a view of the journal: a study is an experiment, a launch a run, and a child of it a trial or a setting.

A trial costs three requests: create its run with all tags, one batch, end it. A setting costs four or five, for
all its seeds: its table of seeds is an artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperscale.errors import RecordingError
from hyperscale.recording.mlflow_connection import check_writable, translated
from hyperscale.recording.mlflow_packed import Unpacked, unpack
from hyperscale.recording.mlflow_reports import MlflowReports, ScalingCurve
from hyperscale.recording.mlflow_runs import RecordedRun, Shown, judge, setting_key
from hyperscale.recording.mlflow_server import UiServer, serve_ui
from hyperscale.recording.mlflow_views import SCALING, TRIALS
from hyperscale.recording.mlflow_writer import MlflowWriter
from hyperscale.recording.outcomes import Journalled, Outcome, fingerprint, outcome_of
from hyperscale.study import PER_SETTING, StudyFile
from hyperscale.trial import TrialRecord

__all__ = ["SCALING", "TRIALS", "MlflowStore", "RecordedRun", "ScalingCurve", "UiServer", "serve_ui"]

_CHUNK = 64
_ROUNDS = 3  # of looking again for what drivers have written at once
_REMOVED = ("must be in the 'active' state", "must be in 'active' lifecycle_stage")


class MlflowStore(MlflowReports, MlflowWriter):
    """Writes and reads studies at an MLflow tracking URI.

    Every method raises `RecordingError`, and nothing else, where MLflow cannot be reached or refuses; waits are
    bounded (seconds, not minutes). What failed without harm, such as an artifact, is noted in ``notices``;
    ``num_left`` is how many trials a `sync` that is under way has still to write. An instance belongs to one
    thread at a time.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path | str | None = None) -> None:
        super().__init__(tracking_uri, artifact_root)
        self.num_left = 0
        self._found: dict[str, Shown] = {}

    def record(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Write trials that MLflow does not show yet as children of a launch; return how many those were.

        Where the study asks for a run per setting, the run of every setting concerned is written anew with these
        records beside those it had.
        """
        check_writable(self.tracking_uri)
        with self._forgetting(study_name):
            written = self._insert_fresh(study_name, self._shown(study_name), records, parent_run_id)
        return written + sum(self._record_setting(study_name, group, parent_run_id) for group in _by_setting(records))

    def _record_setting(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Write the trials of one setting; once more where another driver removed a run in the making."""
        try:
            with self._forgetting(study_name):
                return self._bring(study_name, self._shown(study_name), records, parent_run_id)
        except RecordingError as error:
            if not any(words in str(error) for words in _REMOVED):
                raise
        with self._forgetting(study_name):
            return self._bring(study_name, self._shown(study_name), records, parent_run_id)

    @contextmanager
    def _forgetting(self, study_name: str) -> Iterator[None]:
        """Translate errors, and after one forget what MLflow shows: what was half done is found by searching."""
        try:
            with translated(self.tracking_uri):
                yield
        except BaseException:
            self._found.pop(study_name, None)
            raise

    def _shown(self, study_name: str) -> Shown:
        if study_name not in self._found:
            self._found[study_name] = self._find_runs(study_name)
        return self._found[study_name]

    def recorded(self, study_name: str) -> dict[str, RecordedRun]:
        """Return digest -> best run of every trial that MLflow shows, in one request per 1000 runs."""
        best: dict[str, RecordedRun] = {}
        for run in (run for runs in self._find_runs(study_name).values() for run in runs):
            for outcome in run.outcomes:
                old = best.get(outcome.digest)
                best[outcome.digest] = run if old is None or run.rank > old.rank else old
        return best

    def sync(self, study_file: StudyFile, journalled: Journalled, launch_id: str, *, search: bool = True) -> int:
        """Bring MLflow up to date with the journal; return how many trials it did not show.

        Missing trials are added, half-written runs completed, outdated outcomes replaced, duplicates removed, runs of
        the form that the study no longer asks for turned into the other; where nothing is missing, no run is written.
        Then the study is marked as complete (see `is_current`). ``search=False`` trusts what this instance has seen
        and written before, as long as nothing is missing by it and no other launch wrote meanwhile.

        Of drivers that write the same trials at once each looks for duplicates after its last trial, so that the
        last one finds all.
        """
        name, self.num_left = study_file.study.name, 0
        self.open_study(study_file)
        outcomes = list(journalled.outcomes())
        with translated(self.tracking_uri):
            company = self._has_company(name, launch_id)
        if search or company:
            self._found.pop(name, None)
        fresh = name not in self._found
        todo = self._tidy(name, outcomes)
        if todo and not fresh:
            self._found.pop(name)
            todo = self._tidy(name, outcomes)
        written = self._write_missing(study_file, journalled, todo, launch_id) if todo else 0
        rounds = _ROUNDS if written and company else 0
        while rounds:
            self._found.pop(name)
            todo, rounds = self._tidy(name, outcomes), rounds - 1
            if not todo:
                break
            self._write_missing(study_file, journalled, todo, launch_id)
        self._mark(study_file, fingerprint(outcomes))
        return written

    def _tidy(self, study_name: str, outcomes: Iterable[Outcome]) -> list[list[str]]:
        """Delete what is surplus where nothing is missing; return the trials of every setting that is to be written."""
        form, shown = self._form(study_name), self._shown(study_name)
        todo: list[list[str]] = []
        settings: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            settings.setdefault(outcome.setting_digest, []).append(outcome)
        for setting_digest, wanted in settings.items():
            runs = shown.get(setting_key(setting_digest), [])
            judgement = judge(form, runs, wanted)
            if judgement.writes:
                all_of_it = form == PER_SETTING or judgement.carried
                todo.append([o.digest for o in wanted] if all_of_it else list(judgement.missing))
            else:
                with self._forgetting(study_name):
                    self._delete(runs, judgement.surplus)
        return todo

    def _write_missing(
        self, study_file: StudyFile, journalled: Journalled, todo: Sequence[list[str]], launch_id: str
    ) -> int:
        self.num_left = sum(map(len, todo))
        parent = self.begin_launch(launch_id, study_file, self.num_left)
        written = 0
        for digests in _chunks(todo):
            written += self.record(study_file.study.name, journalled.records(digests), parent)
            self.num_left -= len(digests)
        self.end_launch(parent)
        return written

    def read_records(self, study_name: str) -> list[TrialRecord]:
        """Rebuild a study's records from MLflow alone, equal to the journal's in every value and type.

        They come in the order of the study file (as it was when each was recorded), settings first.
        """
        kept: dict[str, _Kept] = {}
        with translated(self.tracking_uri):
            for run, found in self._runs(study_name):
                unpacked = unpack(run.data.tags)
                if unpacked is not None:
                    _keep_best(kept, unpacked, found)
            whole: dict[str, dict[str, TrialRecord]] = {}
            for entry in kept.values():
                if entry.unpacked.curves_file and entry.run.run_id not in whole:
                    whole[entry.run.run_id] = self._whole_records(entry.run, entry.unpacked)
        found_records: list[TrialRecord] = []
        for digest, entry in sorted(kept.items(), key=lambda pair: pair[1].order):
            record = whole.get(entry.run.run_id, {digest: entry.record}).get(digest)
            found_records += [] if record is None else [record]
        return found_records

    def _whole_records(self, run: RecordedRun, unpacked: Unpacked) -> dict[str, TrialRecord]:
        """Return a run's records with their curves; none where a half-written run has no curves yet."""
        try:
            records = self._with_curves(run.run_id, unpacked).records
        except Exception:
            if run.terminated:
                raise
            return {}
        return {record.result.digest: record for record in records}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """The best record of a trial so far, and the run that holds it."""

    order: tuple[int, ...]
    rank: tuple[bool, bool, int]
    record: TrialRecord
    run: RecordedRun
    unpacked: Unpacked


def _keep_best(kept: dict[str, _Kept], unpacked: Unpacked, run: RecordedRun) -> None:
    for record, order in zip(unpacked.records, unpacked.orders, strict=True):
        outcome = outcome_of(record.result)
        rank = (run.terminated, outcome.status.settled, outcome.end_ms)
        old = kept.get(outcome.digest)
        if old is None or rank > old.rank:
            kept[outcome.digest] = _Kept(order=order, rank=rank, record=record, run=run, unpacked=unpacked)


def _by_setting(records: Iterable[TrialRecord]) -> list[list[TrialRecord]]:
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.result.setting_digest, []).append(record)
    return list(groups.values())


def _chunks(groups: Iterable[list[str]]) -> Iterator[list[str]]:
    """Join groups to chunks of about 64 trials, for records come with their curves."""
    chunk: list[str] = []
    for group in groups:
        chunk += group
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
