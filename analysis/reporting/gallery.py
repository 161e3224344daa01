"""Which figures a report shows, in which order, and what is written under each."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exponents.envelope import Envelope
from analysis.judging.verdicts import Verdict
from analysis.reporting import figures, sweeps
from analysis.reporting.evidence import Evidence
from analysis.reporting.evidence_figures import plot_evidence
from analysis.reporting.floors import INFIMUM, REACHED
from analysis.reporting.palette import drawing, label, save
from analysis.table import metric_columns, setting_columns
from hyperscale.study import StudyFile
from hyperscale.trial import TrialRecord

_SCALING_CAPTION = (
    "Faint marks: every finished trial. Bold: the envelope, the smallest value over learning rates and seeds at each "
    "size. Thin line and band: the least-squares power law through it with its 95 % band; the table's exponents, which "
    "the verdicts use, weigh the scatter of seeds too and may differ from its slope. Triangles: the slopes that the "
    "theorems name, to be compared with the curve of the same colour; O is a rate the method should reach, Ω one that "
    "no network of the kind can beat on the hardest target."
)
_FLOOR_CAPTION = (
    " Grey line: the per-instance infimum, what no primary network of the size errs less than on the worst instance; a "
    "grey band reaches up to what some network does err."
)
_CERTIFIED_CAPTION = " Band above a curve: up to the certified bound on its sup norm."
_EVIDENCE_CAPTION = (
    "Envelope and fit: the smallest value at each size with its power law and 95 % band; dashed, the theorem's slope "
    "through the middle of the data. Residuals: that value less the fit, in natural logs; grey, every seed's best. "
    "Local exponents: over windows of about two octaves; shaded, the interval of all sizes. Sensitivity: the exponent "
    "by other windows, estimators and models; where a model has no estimate, why."
)
_FOREST_CAPTION = (
    "Thick: the 95 % interval that the verdict uses (scatter about the line through the envelope's edge; raised by "
    "the optimisation gap's slope where a calibration measured it). Thin, for comparison: targets and seeds redrawn; "
    "scatter of the minima about their line. Upright tick: the theorem's exponent; shaded: the side on which the claim "
    "places it, with a tolerance of 10 %."
)
_TRAINING_CAPTION = (
    "Finished trials; darker means a larger value. Strong lines: the learning rate with the best median at "
    "that value; pale lines: the others."
)
_SWEEP_CAPTION = (
    "Faint marks: every finished trial. Bold: the mean over seeds at the best learning rate, with the "
    "standard deviation over seeds."
)
_POINTS_CAPTION = (
    "What the generator makes, one seed; crosses are the means of the mixture it should cover. "
    "Frames are cropped to their surroundings."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A figure as the page shows it: its files' name, its caption, and its SVG element."""

    name: str
    title: str
    caption: str
    svg: str


def shown_metrics(study_file: StudyFile, records: Sequence[TrialRecord]) -> list[str]:
    """Return the study's metrics that some trial reports, most important first, the claims' ones included."""
    study, known = study_file.study, set(metric_columns(records))
    wanted = dict.fromkeys([*study.metrics, *(claim.metric for claim in study.claims)])
    return [name for name in wanted if name in known]


def draw_all(
    study_file: StudyFile,
    records: Sequence[TrialRecord],
    table: pd.DataFrame,
    verdicts: Sequence[Verdict],
    envelopes: Sequence[Envelope],
    folder: Path,
) -> list[Drawn]:
    """Draw the figures that this study's data call for, in the page's order."""
    claims, metrics = study_file.study.claims, shown_metrics(study_file, records)
    drawn: list[Drawn] = []
    kinds = dict.fromkeys((envelope.metric, envelope.size) for envelope in envelopes)
    for metric, size in kinds:
        group = [e for e in envelopes if (e.metric, e.size) == (metric, size)]
        name = "scaling" if len(kinds) == 1 else f"scaling-{metric}-{size}".replace("_", "-")
        with drawing(name):
            figure = figures.plot_scaling(table, group, claims)
            caption = _SCALING_CAPTION
            caption += _FLOOR_CAPTION if {INFIMUM, REACHED} & set(table.columns) and metric == "sup_error" else ""
            caption += _CERTIFIED_CAPTION if f"{metric}_bound" in table.columns else ""
            drawn.append(_keep(figure, folder, name, _title([metric], size), caption))
    if any(verdict.bound and verdict.estimate is not None for verdict in verdicts):
        with drawing("exponents"):
            figure = figures.plot_exponents(verdicts)
            drawn.append(_keep(figure, folder, "exponents", "Exponents beside predictions", _FOREST_CAPTION))
    settings = setting_columns(records)
    column = sweeps.sweep_column(table, claims, [] if kinds and not _sweeps(claims) else settings)
    finished = bool((table["status"] == "finished").any())
    if column is not None and finished and metrics:
        with drawing("sweep"):
            figure = sweeps.plot_sweep(table, column, metrics[:3])
            title = _title(metrics[:3], column)
            drawn.append(_keep(figure, folder, "sweep", title, _SWEEP_CAPTION))
    drawn += _draw_curves(records, folder, "num_params_primary" if kinds else column, metrics)
    return drawn


def draw_evidence(verdict: Verdict, evidence: Evidence, number: int, folder: Path) -> Drawn | None:
    """Draw the evidence behind claim ``number``; None where it is no rate or nothing could be fitted."""
    if not evidence.sizes:
        return None
    name = f"evidence-{number}"
    with drawing(name):
        figure = plot_evidence(verdict, evidence)
        return _keep(figure, folder, name, f"Evidence: {verdict.claim}", _EVIDENCE_CAPTION)


def _sweeps(claims: Sequence[Any]) -> bool:
    """Whether a claim speaks of a column other than a size."""
    columns = [getattr(claim, "at_each", getattr(claim, "along", "num_params")) for claim in claims]
    return any(not column.startswith("num_params") for column in columns)


def _draw_curves(
    records: Sequence[TrialRecord], folder: Path, shade_by: str | None, metrics: Sequence[str]
) -> list[Drawn]:
    drawn: list[Drawn] = []
    finished = [record for record in records if record.result.status == "finished"]
    with drawing("points"):
        figure = sweeps.plot_points(finished)
        if figure is not None:
            drawn.append(_keep(figure, folder, "points", "Generated points", _POINTS_CAPTION))
    curve = figures.training_curve_name(finished)
    if curve is not None:
        with drawing("training"):
            figure = figures.plot_training(
                finished, shade_by=shade_by or "lr", metric=metrics[0] if metrics else "", curve=curve
            )
            drawn.append(_keep(figure, folder, "training", "Training curves", _TRAINING_CAPTION))
    return drawn


def _title(metrics: Sequence[str], column: str) -> str:
    text = f"{', '.join(label(metric) for metric in metrics)} against {label(column)}"
    return text[0].upper() + text[1:]


def _keep(figure: Any, folder: Path, name: str, title: str, caption: str) -> Drawn:
    """Save a figure and return it as an element that can stand in the page beside others."""
    svg_path, _ = save(figure, folder, name)
    text = svg_path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    view = re.search(r'viewBox="0 0 ([\d.]+) [^"]*"', text)
    # One scale for all figures: a point of the drawing is 1.45 pixels of the page.
    widest = f"{1.45 * float(view[1]):.0f}px" if view else "100%"
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view[0] if view else ""} style="max-width: {widest}" '
        f'role="img" aria-label="{html.escape(title, quote=True)}">'
    )
    return Drawn(name=name, title=title, caption=caption, svg=re.sub(r"<svg[^>]*>", opening, text, count=1))
