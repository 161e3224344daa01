"""The report: one self-contained page a researcher would hand to a colleague, and the same as strict JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exponents.calibration import trials_for, without_calibration
from analysis.exponents.envelope import Envelope, build_envelopes
from analysis.judging.checks import check
from analysis.judging.verdicts import Verdict
from analysis.power.noise import pilot_envelopes
from analysis.power.study_power import study_power
from analysis.reporting import figures
from analysis.reporting.evidence import Evidence, gather_evidence
from analysis.reporting.gallery import Drawn, draw_all, draw_evidence, shown_metrics
from analysis.reporting.page import render_page
from analysis.reporting.report_data import curve_data, strict, verdict_data
from analysis.reporting.summary import count_trials, gather_provenance, setting_rows, troubles
from analysis.table import build_table
from hyperscale.claims import Ordering, ScalingRate, Separation
from hyperscale.errors import AnalysisError
from hyperscale.study import Study, StudyFile
from hyperscale.trial import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Where a report lies and what it says. ``data`` is the content of ``report.json``."""

    folder: Path
    html: Path
    json: Path
    verdicts: tuple[Verdict, ...]
    data: Mapping[str, Any]
    drawn: tuple[Drawn, ...] = ()


def write_report(
    study_file: StudyFile,
    records: Sequence[TrialRecord],
    out_dir: str | Path,
    *,
    command: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Write ``report.html``, ``report.json`` and ``figures/`` into ``out_dir`` and return what they say.

    ``command`` is shown as how the report was made; ``provenance`` adds entries to (or replaces) what the
    records tell. Trials that are missing, diverged or failed are said to be so; with no finished trial the
    report says that. Raises `AnalysisError` only where the folder cannot be written.
    """
    study, folder = study_file.study, Path(out_dir)
    table = build_table(records)
    verdicts = tuple(check(claim, trials_for(claim, table, study.claims)) for claim in study.claims)
    judged = list(zip(verdicts, _evidence(study, table, verdicts), strict=True))
    shown = without_calibration(table, study.claims)
    envelopes = _envelopes(study_file, shown)
    counts = count_trials([trial.digest for trial in study.trials()], records)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw_all(study_file, records, shown, verdicts, envelopes, folder / "figures")
        behind = [draw_evidence(v, e, n, folder / "figures") for n, (v, e) in enumerate(judged, 1)]
        columns, rows = setting_rows(table, records, shown_metrics(study_file, records))
        data = {
            "study": study.name,
            "headline": study_file.headline,
            **counts,
            "verdicts": [verdict_data(verdict, evidence) for verdict, evidence in judged],
            "curves": [curve_data(envelope) for envelope in envelopes],
            "troubles": troubles(records),
            "settings": rows,
            "figures": [figure.name for figure in [*drawn, *behind] if figure is not None],
            "provenance": {**gather_provenance(records, command), **(provenance or {})},
        }
        plain = strict(data)
        text = json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        claims = [(*pair, figure) for pair, figure in zip(judged, behind, strict=True)]
        page = render_page(study_file, plain, claims, drawn, columns)
        (folder / "report.html").write_text(page, encoding="utf-8")
    except OSError as problem:
        raise AnalysisError(
            f"The report cannot be written to {folder}: {problem}. Give another folder with --out."
        ) from problem
    return Report(
        folder=folder,
        html=folder / "report.html",
        json=folder / "report.json",
        verdicts=verdicts,
        data=plain,
        drawn=(*drawn, *(figure for figure in behind if figure is not None)),
    )


def _envelopes(study_file: StudyFile, table: pd.DataFrame) -> list[Envelope]:
    """Return the envelopes of every (metric, size) that a claim names, and of the first metric."""
    study = study_file.study
    wanted = [(c.metric, c.size) for c in study.claims if isinstance(c, ScalingRate | Separation)]
    wanted += [
        (c.metric, c.at_each) for c in study.claims if isinstance(c, Ordering) and c.at_each.startswith("num_params")
    ]
    if figures.varies_in_size(table):
        wanted.append((study.metrics[0], "num_params_primary"))
    found: list[Envelope] = []
    for metric, size in dict.fromkeys(wanted):
        if {"method", metric, size} <= set(table.columns):
            found += build_envelopes(table, metric=metric, size=size)
    return found


def _evidence(study: Study, table: pd.DataFrame, verdicts: Sequence[Verdict]) -> list[Evidence]:
    """Return what stands behind each verdict, its power simulated with the scatter that the trials show."""
    own = without_calibration(table, study.claims)
    pilots = [pilot_envelopes(claim, own) for claim in study.claims]
    known = "wall_time_s" in table.columns and bool(table["wall_time_s"].notna().any())
    means = table.groupby("setting_digest")["wall_time_s"].mean().dropna() if known else None
    seconds = None if means is None else {str(digest): float(mean) for digest, mean in means.items()}
    powers = study_power(study, pilot=pilots, setting_seconds=seconds) if len(table) else [None] * len(verdicts)
    return [gather_evidence(verdict, power) for verdict, power in zip(verdicts, powers, strict=True)]
