"""Several studies beside one another: verdicts, exponents and their differences, and what was set differently."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exponents.calibration import trials_for, without_calibration
from analysis.exponents.envelope import build_envelope
from analysis.exponents.uncertainty import exponent_interval
from analysis.judging.checks import check
from analysis.judging.verdicts import Cause, Verdict
from analysis.reporting.exponent_differences import CurveRow, ExponentDifference, StudyCurve, find_difference
from analysis.reporting.figures import varies_in_size
from analysis.reporting.summary import count_trials
from analysis.table import build_table, setting_columns
from hyperscale.claims import Claim, Ordering, ScalingRate, Separation
from hyperscale.errors import AnalysisError
from hyperscale.study import StudyFile
from hyperscale.trial import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTrials:
    """A study with its recorded trials, and the page of its own report where there is one."""

    study_file: StudyFile
    records: Sequence[TrialRecord]
    page: Path | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study_file.study.name


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRow:
    """A claim with one verdict a study, None where the study does not make it."""

    title: str
    verdicts: tuple[Verdict | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingRow:
    """A column of the settings whose values differ between studies; each study's distinct values, in order."""

    column: str
    values: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyComparison:
    """Everything that the page of a comparison shows."""

    studies: tuple[StudyTrials, ...]
    counts: tuple[dict[str, int], ...]
    verdicts: tuple[VerdictRow, ...]
    curves: tuple[CurveRow, ...]
    differences: tuple[ExponentDifference, ...]
    settings: tuple[SettingRow, ...]
    same_settings: tuple[str, ...]
    not_compared: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The studies' names in the order given."""
        return tuple(study.name for study in self.studies)


def compare_studies(studies: Sequence[StudyTrials]) -> StudyComparison:
    """Compare two or more studies.

    Raises `AnalysisError` where a study is given twice, where one has no finished trial, and where no method was
    trained by two of them with a common metric against a common size and no claim is shared. What can be compared
    only in part is named in ``not_compared``.
    """
    _refuse_unusable(studies)
    tables = [build_table(study.records) for study in studies]
    judged = [
        [
            check(claim, trials_for(claim, table, study.study_file.study.claims))
            for claim in study.study_file.study.claims
        ]
        for study, table in zip(studies, tables, strict=True)
    ]
    # From here on without the trials of calibrations: their target is not the study's.
    tables = [without_calibration(t, s.study_file.study.claims) for s, t in zip(studies, tables, strict=True)]
    rows = _curve_rows(studies, tables, judged)
    verdicts = _verdict_rows(studies, judged)
    shared = [row for row in rows if sum(curve is not None for curve in row.curves) > 1]
    # Studies may share a claim without a curve: an ordering at each depth, say.
    if not shared and not any(sum(v is not None for v in row.verdicts) > 1 for row in verdicts):
        raise AnalysisError(_nothing_in_common(studies, tables))
    columns = list(dict.fromkeys(column for study in studies for column in setting_columns(study.records)))
    values = [SettingRow(column=c, values=tuple(_distinct(t, c) for t in tables)) for c in [*columns, "seed"]]
    names = [study.name for study in studies]
    return StudyComparison(
        studies=tuple(studies),
        counts=tuple(
            count_trials([trial.digest for trial in study.study_file.study.trials()], study.records)
            for study in studies
        ),
        verdicts=tuple(verdicts),
        curves=tuple(rows),
        differences=tuple(
            find_difference(row, names, i, j) for row in shared for i, j in itertools.combinations(range(len(names)), 2)
            if row.curves[i] is not None and row.curves[j] is not None
        ),
        settings=tuple(row for row in values if len({frozenset(v) for v in row.values}) > 1),
        same_settings=tuple(row.column for row in values if len({frozenset(v) for v in row.values}) == 1),
        not_compared=(*_partly(rows, names), *_metric_gaps(studies, tables)),
    )  # fmt: skip


def join_names(names: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _refuse_unusable(studies: Sequence[StudyTrials]) -> None:
    if len(studies) < 2:
        raise AnalysisError(f"A comparison needs two or more studies, and {len(studies)} was given. Name another one.")
    seen: dict[str, Path] = {}
    for study in studies:
        path = study.study_file.path
        if study.name in seen:
            again = seen[study.name].resolve() == path.resolve()
            raise AnalysisError(
                f"Study {study.name!r} is given twice ({seen[study.name]} and {path}). "
                + ("Name each study once." if again else "Give one of the two files another Study.name.")
            )
        seen[study.name] = path
        if not any(record.result.status == "finished" for record in study.records):
            found = f"{len(study.records)} trials, none of them finished" if study.records else "no trials"
            raise AnalysisError(
                f"Study {study.name!r} has {found} in this store, so there is nothing to compare. "
                f"Run it first: hyperscale run {path}; or name the store that has its trials with --store."
            )


def _curve_rows(
    studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame], judged: Sequence[Sequence[Verdict]]
) -> list[CurveRow]:
    """Return every method, metric and size that some study asks about, with all studies' curves."""
    wanted: dict[tuple[str, str], None] = {}
    for study, table in zip(studies, tables, strict=True):
        for claim in study.study_file.study.claims:
            if isinstance(claim, ScalingRate | Separation):
                wanted[claim.metric, claim.size] = None
            elif isinstance(claim, Ordering) and claim.at_each.startswith("num_params"):
                wanted[claim.metric, claim.at_each] = None
        if varies_in_size(table):
            wanted[study.study_file.study.metrics[0], "num_params_primary"] = None
    methods = dict.fromkeys(str(m) for table in tables for m in table["method"].dropna()) if _all_have(tables) else {}
    rows = []
    for metric, size in wanted:
        for method in methods:
            given = zip(studies, tables, judged, strict=True)
            curves = tuple(_curve(study, table, found, (method, metric, size)) for study, table, found in given)
            if any(curves):
                rows.append(CurveRow(method=method, metric=metric, size=size, curves=curves))
    return rows


def _all_have(tables: Sequence[pd.DataFrame], column: str = "method") -> bool:
    return all(column in table.columns for table in tables)


def _curve(
    study: StudyTrials, table: pd.DataFrame, judged: Sequence[Verdict], subject: tuple[str, str, str]
) -> StudyCurve | None:
    """Return a study's curve of a method, metric and size, or None where no trial of it has finished."""
    method, metric, size = subject
    if not {metric, size} <= set(table.columns):
        return None
    envelope = build_envelope(table, method=method, metric=metric, size=size)
    if not envelope.points:
        return None
    uncertainty, problem = None, ""
    try:
        uncertainty = exponent_interval(envelope)
    except AnalysisError as found:
        problem = str(found)
    claims = [
        (claim, verdict)
        for claim, verdict in zip(study.study_file.study.claims, judged, strict=True)
        if isinstance(claim, ScalingRate) and (claim.methods[0], claim.metric, claim.size) == subject
    ]
    own = table[(table["method"] == method) & (table["status"] == "finished") & table[metric].notna()]
    return StudyCurve(
        envelope=envelope,
        uncertainty=uncertainty,
        problem=problem,
        rates=tuple(claim for claim, _ in claims),
        digests=frozenset(map(str, own["digest"])),
        cautions=tuple(dict.fromkeys(v.reason for _, v in claims if v.cause in (Cause.RESOLVED, Cause.NOT_IDENTIFIED))),
    )


def _verdict_rows(studies: Sequence[StudyTrials], judged: Sequence[Sequence[Verdict]]) -> list[VerdictRow]:
    """Return one row a claim: those of one kind about the same things stand side by side, whatever they predict."""
    found: dict[Hashable, list[Verdict | None]] = {}
    titles: dict[Hashable, list[str]] = {}
    for index, (study, own) in enumerate(zip(studies, judged, strict=True)):
        for claim, verdict in zip(study.study_file.study.claims, own, strict=True):
            key = _subject(claim)
            # A study may make two claims about one thing, with different numbers: each then has a row.
            while (row := found.setdefault(key, [None] * len(studies)))[index] is not None:
                key = (key, "again")
            row[index] = verdict
            titles.setdefault(key, []).append(claim.title)
    return [VerdictRow(title=" / ".join(dict.fromkeys(titles[k])), verdicts=tuple(row)) for k, row in found.items()]


def _subject(claim: Claim) -> Hashable:
    """Return what a claim is about: its kind, methods and columns, and its direction, but no predicted number."""
    direction = getattr(claim, "bound", getattr(claim, "direction", ""))
    return type(claim).__name__, claim.methods, claim.columns, direction


def _partly(rows: Sequence[CurveRow], names: Sequence[str]) -> list[str]:
    """Return a sentence for each curve that some study lacks."""
    found = []
    for row in rows:
        having = [name for name, curve in zip(names, row.curves, strict=True) if curve is not None]
        if len(having) < len(names):
            lacking = [name for name in names if name not in having]
            found.append(f"{row.title}: in {join_names(having)}, without a finished trial in {join_names(lacking)}.")
    return found


def _metric_gaps(studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return a sentence for each metric of a study that another does not report."""
    found = []
    for metric in dict.fromkeys(m for study in studies for m in study.study_file.study.metrics):
        lacking = [s.name for s, table in zip(studies, tables, strict=True) if metric not in table.columns]
        if lacking:
            found.append(f"{metric}: not reported by {join_names(lacking)}.")
    return found


def _nothing_in_common(studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame]) -> str:
    parts = []
    for study, table in zip(studies, tables, strict=True):
        methods = ", ".join(dict.fromkeys(map(str, table["method"]))) if "method" in table.columns else "no method"
        sizes = [str(c) for c in table.columns if str(c).startswith("num_params")]
        metrics = ", ".join(study.study_file.study.metrics)
        parts.append(f"{study.name} has {methods} with {metrics} against {', '.join(sizes) or 'no size'}")
    return (
        f"These studies have nothing that can be compared: {'; '.join(parts)}. Compare studies that share a method, "
        "a metric and a size, or a claim."
    )


def _distinct(table: pd.DataFrame, column: str) -> tuple[Any, ...]:
    """Return the distinct values of a column in order, or nothing where the study does not have it."""
    if column not in table.columns:
        return ()
    values = table[column].dropna().unique().tolist()
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))
