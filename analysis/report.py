"""The report: one self-contained page a researcher would hand to a colleague, and the same as strict JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from analysis import figures
from analysis.checks import check
from analysis.curves import FitStatus, fit_power_law
from analysis.envelope import Envelope, build_envelopes
from analysis.gallery import Drawn, draw_all, shown_metrics
from analysis.palette import label
from analysis.summary import (
    count_trials,
    describe,
    duration,
    gather_provenance,
    partial_notice,
    setting_rows,
    troubles,
)
from analysis.table import build_table
from analysis.uncertainty import exponent_interval
from analysis.verdicts import Verdict
from hyperscale.claims import Ordering, ScalingRate
from hyperscale.errors import AnalysisError
from hyperscale.study import StudyFile
from hyperscale.trial import TrialRecord

MAX_SETTING_ROWS = 240
_POWER = re.compile(r"\^(?:\((-?[\w./ ]+)\)|(-?\d+(?:[./]\d+)?))")


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
    verdicts = tuple(check(claim, table) for claim in study.claims)
    envelopes = _envelopes(study_file, table)
    counts = count_trials([trial.digest for trial in study.trials()], records)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw_all(study_file, records, table, verdicts, envelopes, folder / "figures")
        columns, rows = setting_rows(table, records, shown_metrics(study_file, records))
        data = {
            "study": study.name,
            "headline": study_file.headline,
            **counts,
            "verdicts": [_verdict_data(verdict) for verdict in verdicts],
            "curves": [_curve_data(envelope) for envelope in envelopes],
            "troubles": troubles(records),
            "settings": rows,
            "figures": [figure.name for figure in drawn],
            "provenance": {**gather_provenance(records, command), **(provenance or {})},
        }
        strict = _strict(data)
        text = json.dumps(strict, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        page = _render(study_file, strict, verdicts, drawn, columns)
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
        data=strict,
        drawn=tuple(drawn),
    )


def _envelopes(study_file: StudyFile, table: pd.DataFrame) -> list[Envelope]:
    """Return the envelopes of every (metric, size) that a claim names, and of the first metric."""
    study = study_file.study
    wanted = [(c.metric, c.size) for c in study.claims if isinstance(c, ScalingRate)]
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


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    uncertainty = verdict.uncertainty
    return {
        "claim": verdict.claim,
        "theorem": verdict.theorem,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "estimate": verdict.estimate,
        "interval": verdict.interval,
        "predicted": verdict.predicted,
        "kind": verdict.kind,
        "cause": str(verdict.cause),
        "quantity": verdict.quantity,
        "expectation": verdict.expectation,
        "methods": verdict.methods,
        "metric": verdict.metric,
        "statement": verdict.statement,
        "conditions": verdict.conditions,
        "notes": verdict.notes,
        "bootstrap_interval": uncertainty.bootstrap if uncertainty else None,
        "regression_interval": uncertainty.regression if uncertainty else None,
    }


def _curve_data(envelope: Envelope) -> dict[str, Any]:
    """Return an envelope with its fit; where none exists the numbers are null and the remedy says why."""
    data: dict[str, Any] = {
        "method": envelope.method,
        "metric": envelope.metric,
        "size": envelope.size,
        "exponent": None,
        "interval": None,
        "bootstrap_interval": None,
        "regression_interval": None,
        "log_constant": None,
        "octaves": None,
        "residual_std": None,
        "status": str(FitStatus.NOT_IDENTIFIED),
        "remedy": "",
        "estimator": "",
    }
    try:
        fit = fit_power_law(envelope.sizes, envelope.values)
        sure = exponent_interval(envelope)
        data |= {
            "exponent": fit.exponent,
            "interval": sure.interval,
            "bootstrap_interval": sure.bootstrap,
            "regression_interval": sure.regression,
            "log_constant": fit.log_constant,
            "octaves": fit.octaves,
            "residual_std": fit.residual_std,
            "status": str(fit.status),
            "remedy": fit.remedy,
            "estimator": fit.estimator,
        }
    except AnalysisError as problem:
        data["remedy"] = str(problem)
    points = [
        {
            "size": p.size,
            "value": p.value,
            "digest": p.digest,
            "seed": p.seed,
            "lr": p.lr,
            "spent": p.num_spent,
            "finished": p.num_finished,
        }
        for p in envelope.points
    ]
    return data | {
        "points": points,
        "equal_budget": envelope.equal_budget,
        "budget_note": envelope.budget_note,
        "monotonicity_note": envelope.monotonicity_note,
        "pooled_note": envelope.pooled_note,
    }


def _strict(value: Any) -> Any:
    """Return plain JSON data in which whatever is not a finite number or a text is null."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_strict(item) for item in value]
    if value is None or value is pd.NA or isinstance(value, str | bool):
        return None if value is pd.NA else value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)


def number(value: Any) -> str:
    """Return a number for a table: three significant digits, whole numbers whole, a dash where missing."""
    if value is None or isinstance(value, bool | str):
        return "–" if value is None else str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e9):
        text = f"{int(value):,}".replace(",", "\u202f")
    else:
        text = f"{value:#.3g}" if 1e-4 <= abs(value) < 1000 else f"{value:.3g}"
    return text.rstrip(".").replace("-", "−")


def powers(text: str) -> Markup:
    """Return the text as HTML with ``N^-1`` set as a power."""
    raised = _POWER.sub(lambda found: f"<sup>{found[1] or found[2]}</sup>", str(escape(text)))
    return Markup(raised.replace("<sup>-", "<sup>−"))


def _render(
    study_file: StudyFile,
    data: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    drawn: Sequence[Drawn],
    columns: Sequence[str],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        unstopped=lambda text: text.rstrip("."), number=number, duration=duration, label=label, powers=powers
    )
    return environment.get_template("report.html").render(
        data=data,
        description=describe(study_file.description, study_file.study.name),
        notice=partial_notice(data),
        verdicts=verdicts,
        figures=drawn,
        columns=columns,
        metric_names=[k for k in (data["settings"] or [{}])[0] if k.startswith(("best ", "median "))],
        rows=data["settings"][:MAX_SETTING_ROWS],
        source=study_file.source,
        file_name=study_file.path.name,
    )
