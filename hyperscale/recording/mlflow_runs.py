"""What MLflow shows of a study's trials, and what it ought to: pure functions, no request is made here.

A run shows one trial or one setting, as the study asks. The other form is left where the study used to ask for it,
or where another driver did; then the records of those runs are carried over before the runs go. Only runs that are
complete are carried over: a half-written one belongs to a driver whose journal has its trials.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperscale.recording.mlflow_packed import unpack
from hyperscale.recording.outcomes import Outcome, outcome_of
from hyperscale.study import PER_SETTING, PER_TRIAL
from hyperscale.trial import TrialStatus

if TYPE_CHECKING:
    from mlflow.entities import Run

KINDS = {PER_TRIAL: "trial", PER_SETTING: "setting"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A run as it stands in MLflow; not ``terminated`` is the half-written run of a killed driver."""

    run_id: str
    kind: str
    terminated: bool
    start_ms: int
    outcomes: tuple[Outcome, ...]

    @property
    def rank(self) -> tuple[bool, int, int, str]:
        """The better of two runs of the same trials ranks higher; of equals all drivers prefer the same."""
        settled = sum(outcome.status.settled for outcome in self.outcomes)
        return self.terminated, settled, max((outcome.end_ms for outcome in self.outcomes), default=0), self.run_id

    def holds(self, wanted: Outcome) -> bool:
        """Whether the run shows this very outcome, or one that it may not replace."""
        return self.terminated and any(o.digest == wanted.digest and o.holds(wanted) for o in self.outcomes)

    def within(self, digests: Collection[str]) -> bool:
        """Whether the run shows none but these trials."""
        return all(outcome.digest in digests for outcome in self.outcomes)


Shown = dict[str, list[RecordedRun]]  # by the tag `setting`, the first digits of a setting's digest


def setting_key(setting_digest: str) -> str:
    """Return the tag by which the runs of a setting are found."""
    return setting_digest[:12]


def read_run(run: Run) -> RecordedRun | None:
    """Return what a run shows, or None where that is no trial or setting, or cannot be read."""
    tags = run.data.tags
    kind = tags.get("kind", "")
    if kind not in KINDS.values():
        return None
    terminated = run.info.status != "RUNNING"
    found = _trial_outcome(tags, run.info.end_time or 0) if kind == "trial" and terminated else _packed_outcomes(tags)
    if not found:
        return None
    return RecordedRun(
        run_id=str(run.info.run_id),
        kind=kind,
        terminated=terminated,
        start_ms=run.info.start_time or 0,
        outcomes=found,
    )


def _trial_outcome(tags: Mapping[str, str], end_ms: int) -> tuple[Outcome, ...]:
    """Return a trial's outcome from the visible tags, which takes no unpacking; nothing where one is missing."""
    try:
        status = TrialStatus(tags["status"])
        return (Outcome(digest=tags["digest"], setting_digest=tags["setting"], status=status, end_ms=end_ms),)
    except (KeyError, ValueError):
        return ()


def _packed_outcomes(tags: Mapping[str, str]) -> tuple[Outcome, ...]:
    unpacked = unpack(tags)
    return () if unpacked is None else tuple(outcome_of(record.result) for record in unpacked.records)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What is to be done for one setting.

    ``missing`` are the wanted trials that no proper run shows; ``carried`` the runs whose records are to be written
    anew, beside the wanted ones, before the runs go; ``surplus`` the runs to delete once all that is done.
    """

    missing: tuple[str, ...] = ()
    carried: tuple[RecordedRun, ...] = ()
    surplus: tuple[RecordedRun, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.missing or self.carried)


def judge(form: str, runs: Sequence[RecordedRun], wanted: Sequence[Outcome]) -> Judgement:
    """Compare the runs of one setting with the outcomes that the journal has of it."""
    return (_judge_setting if form == PER_SETTING else _judge_trials)(runs, wanted)


def best_run(runs: Iterable[RecordedRun], digest: str) -> RecordedRun | None:
    """Return the best of a trial's own runs."""
    own = (run for run in runs if run.kind == "trial" and run.outcomes[0].digest == digest)
    return max(own, key=lambda run: run.rank, default=None)


def _trial_digests(runs: Iterable[RecordedRun]) -> Iterable[str]:
    return dict.fromkeys(run.outcomes[0].digest for run in runs if run.kind == "trial")


def _covers(known: Mapping[str, Outcome], run: RecordedRun) -> bool:
    """Whether nothing that the run shows would be lost with it."""
    return all(outcome.digest in known and known[outcome.digest].holds(outcome) for outcome in run.outcomes)


def _judge_trials(runs: Sequence[RecordedRun], wanted: Sequence[Outcome]) -> Judgement:
    """A run a trial: every wanted outcome in a run of its own, the best one; no run of a setting."""
    own = {digest: best for digest in _trial_digests(runs) if (best := best_run(runs, digest)) is not None}
    missing = tuple(o.digest for o in wanted if o.digest not in own or not own[o.digest].holds(o))
    known = {run.outcomes[0].digest: run.outcomes[0] for run in own.values() if run.terminated}
    known |= {o.digest: o for o in wanted if o.digest not in known or not known[o.digest].holds(o)}
    settings = [run for run in runs if run.kind == "setting"]
    carried = tuple(run for run in settings if run.terminated and not _covers(known, run))
    duplicates = [run for run in runs if run.kind == "trial" and run.run_id != own[run.outcomes[0].digest].run_id]
    dissolved = [run for run in settings if run.terminated or run.within(known)]
    return Judgement(missing=missing, carried=carried, surplus=(*duplicates, *dissolved))


def _judge_setting(runs: Sequence[RecordedRun], wanted: Sequence[Outcome]) -> Judgement:
    """A run a setting: one that holds every outcome, wanted or shown elsewhere; no other run of these trials."""
    complete = [run for run in runs if run.terminated]
    shown = [outcome for run in complete for outcome in run.outcomes]
    candidates = [run for run in complete if run.kind == "setting"]
    best = max(candidates, key=lambda run: (len(run.outcomes), run.rank), default=None)
    if best is not None and all(best.holds(outcome) for outcome in (*wanted, *shown)):
        digests = {outcome.digest for outcome in best.outcomes}
        return Judgement(surplus=tuple(run for run in runs if run.run_id != best.run_id and run.within(digests)))
    known = {outcome.digest: outcome for outcome in wanted}
    digests = {*known, *(outcome.digest for outcome in shown)}
    return Judgement(
        missing=tuple(o.digest for o in wanted if best is None or not best.holds(o)),
        carried=tuple(run for run in complete if not _covers(known, run)),
        surplus=tuple(run for run in runs if run.within(digests)),
    )
