"""Several studies beside one another: verdicts, exponents and their differences, and what was set differently.

A difference of exponents is judged by Welch's interval (Biometrika 34, 1947): each study's exponent is the slope of a
line through its own n sizes, so its standard error has n - 2 degrees of freedom, and the two need not scatter alike.
Studies are taken as independent. Where they share seeds and targets that is cautious: what both have in common
cancels in the difference, so the true interval is narrower.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from analysis.checks import check
from analysis.envelope import Envelope, build_envelope
from analysis.figures import varies_in_size
from analysis.summary import count_trials
from analysis.table import build_table, setting_columns
from analysis.uncertainty import LEVEL, ExponentInterval, Interval, exponent_interval
from analysis.verdicts import Verdict
from hyperscale.claims import Claim, Ordering, ScalingRate
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
class StudyCurve:
    """One study's envelope with its exponent; ``problem`` says why there is none."""

    envelope: Envelope
    uncertainty: ExponentInterval | None
    problem: str
    rates: tuple[ScalingRate, ...]
    """The study's own claims on this curve."""
    digests: frozenset[str]
    """The finished trials behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """A method, metric and size column with one curve a study, None where the study has no finished trial of it."""

    method: str
    metric: str
    size: str
    curves: tuple[StudyCurve | None, ...]

    @property
    def title(self) -> str:
        """``sup_error of Hypernetwork in num_params_primary``."""
        return f"{self.metric} of {self.method} in {self.size}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentDifference:
    """The second study's exponent less the first's, in one row; ``differs`` is None where nothing can be said."""

    row: CurveRow
    first: str
    second: str
    estimate: float | None
    interval: Interval | None
    differs: bool | None
    sentence: str
    remarks: tuple[str, ...] = ()


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
    rows = _curve_rows(studies, tables)
    verdicts = _verdict_rows(studies, tables)
    shared = [row for row in rows if sum(curve is not None for curve in row.curves) > 1]
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
            _difference(row, names, i, j) for row in shared for i, j in itertools.combinations(range(len(names)), 2)
            if row.curves[i] is not None and row.curves[j] is not None
        ),
        settings=tuple(row for row in values if len({frozenset(v) for v in row.values}) > 1),
        same_settings=tuple(row.column for row in values if len({frozenset(v) for v in row.values}) == 1),
        not_compared=(*_partly(rows, names), *_metric_gaps(studies, tables)),
    )  # fmt: skip


def welch_interval(
    first: ExponentInterval, second: ExponentInterval, num_sizes: tuple[int, int]
) -> tuple[float, Interval] | None:
    """Return second less first with Welch's t-interval, or None where an exponent has no interval.

    A standard error is the longer arm of its interval over t at n - 2 degrees of freedom; the difference has
    ``(v1 + v2)^2 / (v1^2 / d1 + v2^2 / d2)`` degrees of freedom, v = squared standard error, d = n - 2.
    """
    variances = []
    freedoms = [count - 2 for count in num_sizes]
    for sure, freedom in zip((first, second), freedoms, strict=True):
        if sure.interval is None or freedom < 1:
            return None
        arm = max(sure.estimate - sure.interval[0], sure.interval[1] - sure.estimate)
        variances.append((arm / float(stats.t.ppf(0.5 + sure.level / 2, freedom))) ** 2)
    total = sum(variances)
    estimate = second.estimate - first.estimate
    if total == 0:
        return estimate, (estimate, estimate)
    welch = total**2 / sum(v**2 / d for v, d in zip(variances, freedoms, strict=True))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, welch)) * math.sqrt(total)
    return estimate, (estimate - half, estimate + half)


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


def _curve_rows(studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame]) -> list[CurveRow]:
    """Return every method, metric and size that some study asks about, with all studies' curves."""
    wanted: dict[tuple[str, str], None] = {}
    for study, table in zip(studies, tables, strict=True):
        for claim in study.study_file.study.claims:
            if isinstance(claim, ScalingRate):
                wanted[claim.metric, claim.size] = None
            elif isinstance(claim, Ordering) and claim.at_each.startswith("num_params"):
                wanted[claim.metric, claim.at_each] = None
        if varies_in_size(table):
            wanted[study.study_file.study.metrics[0], "num_params_primary"] = None
    methods = dict.fromkeys(str(m) for table in tables for m in table["method"].dropna()) if _all_have(tables) else {}
    rows = []
    for metric, size in wanted:
        for method in methods:
            pairs = zip(studies, tables, strict=True)
            curves = tuple(_curve(study, table, method, metric, size) for study, table in pairs)
            if any(curves):
                rows.append(CurveRow(method=method, metric=metric, size=size, curves=curves))
    return rows


def _all_have(tables: Sequence[pd.DataFrame], column: str = "method") -> bool:
    return all(column in table.columns for table in tables)


def _curve(study: StudyTrials, table: pd.DataFrame, method: str, metric: str, size: str) -> StudyCurve | None:
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
    rates = [
        claim for claim in study.study_file.study.claims
        if isinstance(claim, ScalingRate) and (claim.methods[0], claim.metric, claim.size) == (method, metric, size)
    ]  # fmt: skip
    own = table[(table["method"] == method) & (table["status"] == "finished") & table[metric].notna()]
    return StudyCurve(
        envelope=envelope,
        uncertainty=uncertainty,
        problem=problem,
        rates=tuple(rates),
        digests=frozenset(map(str, own["digest"])),
    )


def _verdict_rows(studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame]) -> list[VerdictRow]:
    """Return one row a claim: those of one kind about the same things stand side by side, whatever they predict."""
    found: dict[Hashable, list[Verdict | None]] = {}
    titles: dict[Hashable, list[str]] = {}
    for index, (study, table) in enumerate(zip(studies, tables, strict=True)):
        for claim in study.study_file.study.claims:
            key = _subject(claim)
            # A study may make two claims about one thing, with different numbers: each then has a row.
            while (row := found.setdefault(key, [None] * len(studies)))[index] is not None:
                key = (key, "again")
            row[index] = check(claim, table)
            titles.setdefault(key, []).append(claim.title)
    return [VerdictRow(title=" / ".join(dict.fromkeys(titles[k])), verdicts=tuple(row)) for k, row in found.items()]


def _subject(claim: Claim) -> Hashable:
    """Return what a claim is about: its kind, methods and columns, and its direction, but no predicted number."""
    direction = getattr(claim, "bound", getattr(claim, "direction", ""))
    return type(claim).__name__, claim.methods, claim.columns, direction


def _difference(row: CurveRow, names: Sequence[str], i: int, j: int) -> ExponentDifference:
    """Return the difference of two studies' exponents in words and numbers."""
    first, second = row.curves[i], row.curves[j]
    assert first is not None
    assert second is not None
    subject = f"{row.metric} of {row.method}"
    found, differs = None, None
    for name, curve in ((names[i], first), (names[j], second)):
        if curve.uncertainty is None:
            sentence = f"No difference can be given for {subject}: {name} has no exponent. {curve.problem}"
            break
    else:
        assert first.uncertainty is not None
        assert second.uncertainty is not None
        sizes = (len(first.envelope.points), len(second.envelope.points))
        found = welch_interval(first.uncertainty, second.uncertainty, sizes)
        if first.digests == second.digests:
            found, sentence = (
                None,
                f"{names[i]} and {names[j]} use the same trials for {subject}: no difference to judge.",
            )
        elif found is None:
            few = names[i] if first.uncertainty.interval is None else names[j]
            sentence = f"No interval can be given for {subject}: {few} has fewer than three sizes. Add sizes."
        else:
            differs = not found[1][0] <= 0 <= found[1][1]
            exponents = (first.uncertainty.estimate, second.uncertainty.estimate)
            sentence = _words(subject, (names[i], names[j]), exponents, found[1], differs=differs)
    return ExponentDifference(
        row=row, first=names[i], second=names[j], estimate=found[0] if found else None,
        interval=found[1] if found else None, differs=differs, sentence=sentence,
        remarks=_remarks(names[i], names[j], first, second),
    )  # fmt: skip


def _words(
    subject: str, names: tuple[str, str], exponents: tuple[float, float], interval: Interval, *, differs: bool
) -> str:
    """Return the sentence on a difference: who falls faster and by how much, or what is not excluded."""
    (one, other), (low, high) = names, interval
    numbers = f"{_plain(exponents[0])} and {_plain(exponents[1])}"
    if not differs:
        limit = max(abs(low), abs(high))
        return (
            f"The exponents of {subject} in {one} and {other} ({numbers}) are not told apart: the difference lies "
            f"between {_plain(low)} and {_plain(high)} (95 %). They need not be equal: differences up to "
            f"{_plain(limit)} are not excluded."
        )
    faster, slower = (other, one) if exponents[1] > exponents[0] else (one, other)
    least, most = sorted((abs(low), abs(high)))
    return (
        f"The exponents differ: {subject} falls faster in {faster} than in {slower} ({numbers} in {one} and {other}), "
        f"by {_plain(least)} to {_plain(most)} (95 %)."
    )


def _plain(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _remarks(one: str, other: str, first: StudyCurve, second: StudyCurve) -> tuple[str, ...]:
    """Return what to keep in mind of a difference: unequal ranges, budgets, shared trials."""
    found = []
    ranges = [(min(c.envelope.sizes), max(c.envelope.sizes)) for c in (first, second)]
    if ranges[0] != ranges[1]:
        (a, b), (c, d) = ranges
        apart = " The two ranges have nothing in common." if max(a, c) > min(b, d) else ""
        found.append(f"The sizes differ: N from {a:g} to {b:g} in {one}, from {c:g} to {d:g} in {other}.{apart}")
    found += [
        f"In {name} {curve.envelope.budget_note}."
        for name, curve in ((one, first), (other, second))
        if curve.envelope.budget_note
    ]
    shared = len(first.digests & second.digests)
    if shared and first.digests != second.digests:
        found.append(f"{shared} trials are in both studies; the interval takes the studies as independent.")
    return tuple(found)


def _partly(rows: Sequence[CurveRow], names: Sequence[str]) -> list[str]:
    """Return a sentence for each curve that some study lacks."""
    found = []
    for row in rows:
        having = [name for name, curve in zip(names, row.curves, strict=True) if curve is not None]
        if len(having) < len(names):
            lacking = [name for name in names if name not in having]
            found.append(
                f"{row.title}: in {' and '.join(having)}, without a finished trial in {' and '.join(lacking)}."
            )
    return found


def _metric_gaps(studies: Sequence[StudyTrials], tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return a sentence for each metric of a study that another does not report."""
    found = []
    for metric in dict.fromkeys(m for study in studies for m in study.study_file.study.metrics):
        lacking = [s.name for s, table in zip(studies, tables, strict=True) if metric not in table.columns]
        if lacking:
            found.append(f"{metric}: not reported by {' and '.join(lacking)}.")
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
