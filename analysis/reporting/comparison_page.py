"""The page of a comparison of studies, the same as strict JSON, and as a PDF."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from analysis.judging.verdicts import Verdict
from analysis.reporting import comparison_figures
from analysis.reporting.document import Cell, Column, Document
from analysis.reporting.exponent_differences import CurveRow, ExponentDifference, StudyCurve
from analysis.reporting.gallery import Drawn, _keep
from analysis.reporting.page import number, powers
from analysis.reporting.palette import drawing, label, verdict_tone
from analysis.reporting.report_data import strict
from analysis.reporting.study_comparison import (
    StudyComparison,
    StudyTrials,
    compare_studies,
    join_names,
)
from analysis.reporting.summary import duration
from analysis.reporting.typography import coloured, marked
from hyperscale.errors import AnalysisError

MAX_VALUES = 8
MAX_SENTENCES = 9
_FOREST_CAPTION = (
    "The exponent of each study's envelope with its 95 % interval, grouped by method. Upright tick: the rate that a "
    "theorem names for the study's target; shaded: the side on which the claim places the exponent (tolerance 10 %)."
)
_ENVELOPE_CAPTION = (
    "The envelope of each study: the smallest value over learning rates and seeds at each size. Thin line and band: "
    "the fitted power law with its 95 % band."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenComparison:
    """Where a comparison lies and what it says. ``data`` is the content of ``comparison.json``."""

    folder: Path
    html: Path
    json: Path
    pdf: Path | None
    comparison: StudyComparison
    data: Mapping[str, Any]


def write_comparison(
    studies: Sequence[StudyTrials], out_dir: str | Path, *, command: str = "", pdf: bool = True
) -> WrittenComparison:
    """Compare the studies and write ``comparison.html``, ``.json``, ``.pdf`` and ``figures/`` into ``out_dir``.

    Raises `AnalysisError` where `compare_studies` does, and where the folder cannot be written.
    """
    comparison, folder = compare_studies(studies), Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = _draw(comparison, folder / "figures")
        data = strict({**_data(comparison, folder), "figures": [d.name for d in drawn], "command": command})
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
        (folder / "comparison.html").write_text(_render(data, drawn), encoding="utf-8")
        if pdf:
            _write_pdf(data, drawn, folder)
    except OSError as problem:
        raise AnalysisError(
            f"The comparison cannot be written to {folder}: {problem}. Give another folder with --out."
        ) from problem
    return WrittenComparison(
        folder=folder,
        html=folder / "comparison.html",
        json=folder / "comparison.json",
        pdf=folder / "comparison.pdf" if pdf else None,
        comparison=comparison,
        data=data,
    )


def caution(differences: Sequence[object]) -> str:
    """Return how the differences are to be read, the number of them included."""
    chance = f" One in 20 of such intervals misses by chance, and there are {len(differences)}." * (
        len(differences) > 1
    )
    return (
        "Exponents of trained networks, over the sizes tried. Intervals are Welch's, with the studies taken as "
        f"independent; where they share seeds and targets that is cautious.{chance} A difference says nothing of its "
        "cause where more than one setting differs."
    )


def summary_text(differences: Sequence[Mapping[str, Any]]) -> str:
    """Return how many of the differences are told apart, in a sentence."""
    judged = [difference for difference in differences if difference["differs"] is not None]
    apart = sum(difference["differs"] for difference in judged)
    none = len(differences) - len(judged)
    count = f"{len(judged)} difference{'s' if len(judged) != 1 else ''} of exponents"
    text = f"Of {count}, {apart or 'none'} {'are' if apart > 1 else 'is'} told apart from 0."
    return text + (f" For {none} more no number can be given." if none else "")


def sort_differences(
    differences: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], dict[str, list[Mapping[str, Any]]]]:
    """Return the differences to be said in sentences, those told apart first, and by heading the rest for tables.

    More than `MAX_SENTENCES` of a kind are a table: nobody reads so many sentences (they are all in the JSON).
    """
    sentences: list[Mapping[str, Any]] = []
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for heading, differs in (("Told apart", True), ("No number", None), ("Not told apart", False)):
        group = [difference for difference in differences if difference["differs"] is differs]
        if differs is None or len(group) <= MAX_SENTENCES:
            sentences += group
        else:
            tables[heading] = group
    return sentences, tables


def values_text(values: Sequence[Any]) -> str:
    """Return the distinct values of a setting, the middle left out where they are many."""
    if not values:
        return "–"
    texts = [number(value) for value in values]
    if len(texts) > MAX_VALUES:
        return f"{', '.join(texts[: MAX_VALUES - 2])}, … {texts[-1]} ({len(texts)} values)"
    return ", ".join(texts)


def _draw(comparison: StudyComparison, folder: Path) -> list[Drawn]:
    """Draw the forest and the envelopes of each metric and size."""
    drawn: list[Drawn] = []
    kinds = dict.fromkeys((row.metric, row.size) for row in comparison.curves)
    for metric, size in kinds:
        rows = [row for row in comparison.curves if (row.metric, row.size) == (metric, size)]
        ending = "" if len(kinds) == 1 else f"-{metric}-{size}".replace("_", "-")
        title = f"{label(metric)} against {label(size)}"
        if any(curve is not None and curve.uncertainty for row in rows for curve in row.curves):
            with drawing(f"forest{ending}"):
                figure = comparison_figures.plot_forest(rows, comparison.names)
                drawn.append(_keep(figure, folder, f"forest{ending}", f"Exponents: {title}", _FOREST_CAPTION))
        with drawing(f"envelopes{ending}"):
            figure = comparison_figures.plot_envelopes(rows, comparison.names)
            drawn.append(_keep(figure, folder, f"envelopes{ending}", title[0].upper() + title[1:], _ENVELOPE_CAPTION))
    return drawn


def _data(comparison: StudyComparison, folder: Path) -> dict[str, Any]:
    pairs = zip(comparison.studies, comparison.counts, strict=True)
    return {
        "studies": [_study_data(study, counts, folder) for study, counts in pairs],
        "verdicts": [
            {
                "claim": row.title,
                "theorem": next((v.theorem for v in row.verdicts if v is not None), ""),
                "verdicts": [None if v is None else _verdict_data(v) for v in row.verdicts],
            }
            for row in comparison.verdicts
        ],
        "curves": [_row_data(row) for row in comparison.curves],
        "differences": [_difference_data(difference) for difference in comparison.differences],
        "settings": [
            {"setting": "seeds" if row.column == "seed" else row.column, "values": row.values}
            for row in comparison.settings
        ],
        "same_settings": comparison.same_settings,
        "not_compared": comparison.not_compared,
    }


def _study_data(study: StudyTrials, counts: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """Return a study's counts and cost (seconds of training), and the way from ``folder`` to its own report."""
    times = [record.result.provenance.get("wall_time_s") for record in study.records]
    known = [float(time) for time in times if isinstance(time, int | float)]
    page = study.page if study.page is not None and study.page.exists() else None
    return {
        "study": study.name,
        "headline": study.study_file.headline,
        "file": str(study.study_file.path),
        **counts,
        "wall_time_s": sum(known) if known else None,
        "wall_time_per_trial_s": sum(known) / len(known) if known else None,
        "report": None if page is None else Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix(),
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict, "reason": verdict.reason, "quantity": verdict.quantity,
        "estimate": verdict.estimate, "interval": verdict.interval, "predicted": verdict.predicted,
        "expectation": verdict.expectation,
    }  # fmt: skip


def _row_data(row: CurveRow) -> dict[str, Any]:
    curves = [None if curve is None else _curve_data(curve) for curve in row.curves]
    return {"method": row.method, "metric": row.metric, "size": row.size, "curves": curves}


def _curve_data(curve: StudyCurve) -> dict[str, Any]:
    sure = curve.uncertainty
    return {
        "exponent": sure.estimate if sure else None,
        "interval": sure.interval if sure else None,
        "problem": curve.problem,
        "rates": [{"theorem": r.theorem, "bound": r.bound, "exponent": r.exponent} for r in curve.rates],
        "points": [{"size": point.size, "value": point.value} for point in curve.envelope.points],
        "trials": len(curve.digests),
        "budget_note": curve.envelope.budget_note,
    }


def _difference_data(difference: ExponentDifference) -> dict[str, Any]:
    row = difference.row
    return {
        "method": row.method, "metric": row.metric, "size": row.size, "first": difference.first,
        "second": difference.second, "estimate": difference.estimate, "interval": difference.interval,
        "differs": difference.differs, "sentence": difference.sentence, "remarks": difference.remarks,
    }  # fmt: skip


def _render(data: Mapping[str, Any], drawn: Sequence[Drawn]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.reporting", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters.update(number=number, duration=duration, powers=powers, tone=verdict_tone, values=values_text)
    sentences, tables = sort_differences(data["differences"])
    return environment.get_template("study_comparison.html").render(
        data=data,
        title=_title(data),
        names=join_names([study["study"] for study in data["studies"]]),
        figures=drawn,
        sentences=sentences,
        tables=tables,
        summary=summary_text(data["differences"]),
        caution=caution(data["differences"]),
    )


def _title(data: Mapping[str, Any]) -> str:
    return f"{join_names([study['study'] for study in data['studies']])}: comparison"


def _write_pdf(data: Mapping[str, Any], drawn: Sequence[Drawn], folder: Path) -> None:
    """Write the comparison as a PDF in the page's order."""
    names = [study["study"] for study in data["studies"]]
    document = Document(title=_title(data), running=_title(data))
    document.text(f"Comparison of {len(names)} studies", "eyebrow")
    document.text(join_names(names), "title")
    _add_studies(document, data["studies"])
    document.text("Do the exponents differ?", "heading")
    sentences, tables = sort_differences(data["differences"])
    if data["differences"]:
        document.text(summary_text(data["differences"]))
    for difference in sentences:
        lead, rest = difference["sentence"].split(":", 1)
        lead = f"<b>{marked(lead, 'Text-Bold')}:</b>"
        document.markup(" ".join([f"{lead}{marked(rest)}", *(coloured(remark) for remark in difference["remarks"])]))
    for heading, group in tables.items():
        document.text(heading, "subheading")
        headings = ("Method", "Metric", "First", "Second", "Second less first", "95 % interval")
        document.numbers(headings, [_difference_row(difference) for difference in group], num_text=4)
    if data["differences"]:
        document.text(caution(data["differences"]), "small")
    else:
        document.text("No method was trained by two of the studies with a common metric against a common size.")
    if data["not_compared"]:
        document.text("Not compared", "subheading")
        document.bullets(data["not_compared"])
    _add_verdicts(document, data["verdicts"], names)
    _add_settings(document, data, names)
    for index, figure in enumerate(drawn, 1):
        caption = f"Figure {index}. {figure.title}. {figure.caption}"
        document.figure(folder / "figures" / figure.name, caption, heading="Figures" * (index == 1), style="heading")
    if data["command"]:
        document.text("Provenance", "heading")
        document.text(data["command"])
    document.write(folder / "comparison.pdf")


def _difference_row(difference: Mapping[str, Any]) -> list[str]:
    low, high = difference["interval"]
    names = [difference[name] for name in ("method", "metric", "first", "second")]
    return [*names, number(difference["estimate"]), f"{number(low)} to {number(high)}"]


def _add_settings(document: Document, data: Mapping[str, Any], names: Sequence[str]) -> None:
    """Add the settings whose values differ, and the names of the others."""
    document.text("What is set differently", "heading")
    if not data["settings"]:
        document.text("The studies have the same values of every setting.")
        return
    columns = [Column(heading="Setting", share=20), *(Column(heading=name, share=30) for name in names)]
    rows = [
        [marked(row["setting"].replace("_", " ")), *(marked(values_text(values)) for values in row["values"])]
        for row in data["settings"]
    ]
    document.table(columns, rows)
    same = ", ".join(name.replace("_", " ") for name in data["same_settings"]) or "nothing"
    document.text(f"The same in all: {same}.", "small")


def _add_studies(document: Document, studies: Sequence[Mapping[str, Any]]) -> None:
    headings = ("Trials", "Finished", "Diverged", "Failed", "Missing", "Training", "A trial")
    columns = [Column(heading="Study", share=60), *(Column(heading=h, share=15, numeric=True) for h in headings)]
    rows = []
    for study in studies:
        counts = [study["trials"], study["finished"], study["diverged"], study["failed"] + study["out_of_memory"]]
        times = [duration(study["wall_time_s"]), duration(study["wall_time_per_trial_s"])]
        name = f"<b>{marked(study['study'], 'Text-Bold')}</b><br/>{coloured(study['headline'], small=True)}"
        rows.append([name, *(marked(number(count)) for count in [*counts, study["missing"]]), *map(marked, times)])
    document.table(columns, rows)


def _add_verdicts(document: Document, verdicts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Add the table of claims by studies: in each cell the verdict's word, what was found and what was expected."""
    document.text("Verdicts", "heading")
    if not verdicts:
        document.text("None of the studies makes a claim.")
        return
    columns = [Column(heading="Claim", share=34), *(Column(heading=name, share=30) for name in names)]
    rows: list[list[Cell | str]] = []
    for row in verdicts:
        theorem = f"<br/>{coloured(row['theorem'], small=True)}" if row["theorem"] else ""
        rows.append([f"<b>{marked(row['claim'], 'Text-Bold')}</b>{theorem}", *map(_verdict_cell, row["verdicts"])])
    document.table(columns, rows)


def _verdict_cell(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return coloured("not claimed")
    ink = verdict_tone(verdict["verdict"]).ink
    found = marked(f"{verdict['quantity']} {number(verdict['estimate'])}")
    if verdict["interval"]:
        found += " " + coloured(f"({number(verdict['interval'][0])} to {number(verdict['interval'][1])})")
    word = f'<font color="{ink}"><b>{marked(verdict["verdict"], "Text-Bold")}</b></font>'
    return f"{word}<br/>{found}<br/>{coloured('expected ' + verdict['expectation'], small=True)}"
