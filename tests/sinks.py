"""A recorder's surroundings in memory: a launch, a store that can be told to fail or to block, a ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyperscale.errors import RecordingError
from hyperscale.recording.outcomes import Journalled, fingerprint
from hyperscale.recording.recorder import LaunchInfo, Patience, Recorder
from hyperscale.study import PER_TRIAL, Study, StudyFile
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus
from tests.ledgers import Ledger
from tests.untrained import Nothing

QUICK = Patience(queue_size=16, first_pause_s=0.05, longest_pause_s=0.1, close_s=20.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized(Nothing):
    """The same with a size that MLflow's run names show."""

    def columns(self) -> dict[str, Any]:
        """One size."""
        return {"method": "Nothing", "num_params_primary": self.width}


def make_launch(num_trials: int, form: str = PER_TRIAL, num_settings: int = 1) -> LaunchInfo:
    """Return a launch of that many seeds of a setting, or of some."""
    settings = [Sized(width=width + 1) for width in range(num_settings)]
    study = Study(name="toy", settings=settings, seeds=range(num_trials), metrics=["rmse"], mlflow_runs=form)
    file = StudyFile(study=study, description="Toy.", source="", path=Path("toy.py"))
    return LaunchInfo(launch_id="launch-1", study_file=file, trials=study.trials())


def make_records(launch: LaunchInfo) -> list[TrialRecord]:
    """Return a finished record of every trial."""
    return [
        TrialRecord(
            result=TrialResult(
                digest=trial.digest,
                setting_digest=trial.setting.digest(),
                seed=trial.seed,
                status=TrialStatus.FINISHED,
                metrics={"rmse": 0.5},
                provenance={"ended_at": "2026-11-20T10:00:00+00:00"},
            ),
            columns=trial.setting.columns(),
        )
        for trial in launch.study_file.study.trials()
    ]


class FakeStore:
    """A store in memory that can be told to fail or to block."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.num_left = 0
        self.mark = ""
        self.shown: dict[str, TrialRecord] = {}
        self.attempts = self.syncs = 0
        self.ended: list[str] = []
        self.searches: list[bool] = []
        self.groups: list[list[TrialRecord]] = []
        self.failing: Callable[[], bool] = lambda: False
        self.gate = threading.Event()
        self.gate.set()

    def _try(self) -> None:
        self.attempts += 1
        assert self.gate.wait(30)
        if self.failing():
            raise RecordingError("MLflow at fake is locked by another program.")

    def is_current(self, study_file: StudyFile, fingerprint: str) -> bool:
        """Compare the mark."""
        self._try()
        return self.mark == fingerprint

    def sync(self, study_file: StudyFile, journalled: Journalled, launch_id: str, *, search: bool = True) -> int:
        """Keep what is missing, and the mark."""
        self._try()
        outcomes = list(journalled.outcomes())
        missing = [outcome.digest for outcome in outcomes if outcome.digest not in self.shown]
        self.num_left = len(missing)
        self.shown |= {r.result.digest: r for r in journalled.records(missing)}
        self.num_left, self.mark = 0, fingerprint(outcomes)
        self.syncs += 1
        self.searches.append(search)
        return len(missing)

    def begin_launch(self, launch_id: str, study_file: StudyFile, num_trials: int) -> str:
        """Return a run id."""
        self._try()
        return f"run of {launch_id}"

    def record(self, study_name: str, records: Sequence[TrialRecord], parent_run_id: str) -> int:
        """Keep the records."""
        self._try()
        self.shown |= {r.result.digest: r for r in records}
        self.groups.append(list(records))
        return len(records)

    def end_launch(self, parent_run_id: str, status: str = "finished") -> None:
        """Note the status."""
        self._try()
        self.ended.append(status)


class Fixture:
    """A recorder on a fake store, with what it was given and what it said."""

    def __init__(
        self,
        num_trials: int = 8,
        backlog: int = 0,
        patience: Patience = QUICK,
        form: str = PER_TRIAL,
        num_settings: int = 1,
    ) -> None:
        self.store, self.messages, self.said = FakeStore(), list[str](), list[str]()
        launch = make_launch(num_trials, form, num_settings)
        self.records = make_records(launch)
        launch = replace(launch, trials=launch.trials[backlog:])
        self.ledger = Ledger(self.records[:backlog])
        self.make = lambda: Recorder(
            lambda: self.store,
            launch,
            journalled=Journalled(self.ledger, [r.result.digest for r in self.records]),
            warn=self.messages.append,
            say=self.said.append,
            patience=patience,
        )

    def ends(self, recorder: Recorder, records: Sequence[TrialRecord]) -> None:
        """Journal the records, then hand them over, as a launch does."""
        self.ledger.held |= {record.result.digest: record for record in records}
        recorder.put(records)
