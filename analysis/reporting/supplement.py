"""The report as a PDF: ``report.pdf`` beside the page, from the same data, laid out like a paper's supplement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.reporting.document import Cell, Column, Document
from analysis.reporting.evidence_sections import evidence_sections
from analysis.reporting.page import MAX_SETTING_ROWS, number, split_remark
from analysis.reporting.palette import label, verdict_tone
from analysis.reporting.report import Report
from analysis.reporting.summary import describe, duration, partial_notice
from analysis.reporting.typography import coloured, marked
from hyperscale.errors import AnalysisError
from hyperscale.study import StudyFile

MAX_SOURCE_LINES = 240
MAX_EVIDENCE_ROWS = 60
MAX_DENSE_SIGNS = 125
_MODESTY = (
    "A trained error is an upper bound on the best one, and a sampled target a lower bound on the hardest: a rate from "
    "above can be attained, a bound from below can only fail to be contradicted. Nothing here settles a theorem."
)
_VERDICT_COLUMNS = (
    Column(heading="Verdict", share=23),
    Column(heading="Claim", share=45),
    Column(heading="Expected", share=22, numeric=True),
    Column(heading="Found (95 %)", share=25, numeric=True),
    Column(heading="Why", share=58),
)
_CURVE_COLUMNS = (
    Column(heading="Method", share=25),
    Column(heading="Metric", share=36),
    Column(heading="Sizes", share=11, numeric=True),
    Column(heading="Octaves", share=15, numeric=True),
    Column(heading="Exponent (95 %)", share=33, numeric=True),
    Column(heading="Smallest", share=17, numeric=True),
    Column(heading="Remarks", share=50),
)
_TROUBLE_COLUMNS = (
    Column(heading="Status", share=20),
    Column(heading="Trials", share=12, numeric=True),
    Column(heading="Reason", share=75),
    Column(heading="Where", share=63),
)


def write_pdf(study_file: StudyFile, report: Report) -> Path:
    """Write ``report.pdf`` into the report's folder and return its path.

    The same report gives the same bytes. Raises `AnalysisError` where the file cannot be written.
    """
    data, path = report.data, report.folder / "report.pdf"
    document = Document(title=f"{data['study']}: report", running=f"{data['study']}: {study_file.headline}")
    _add_opening(document, study_file, data)
    _add_verdicts(document, data["verdicts"])
    captions = {figure.name: figure.caption for figure in report.drawn}
    names = [figure for figure in data.get("figures", ()) if str(figure).startswith("evidence-")]
    captions = {**dict.fromkeys(names, ""), **captions}
    shown = _add_claims(document, data["verdicts"], report.folder / "figures", captions)
    _add_figures(document, report, shown)
    _add_troubles(document, data)
    _add_settings(document, data["settings"])
    _add_provenance(document, study_file, data)
    try:
        document.write(path)
    except OSError as problem:
        raise AnalysisError(f"{path} cannot be written: {problem}. Give another folder with --out.") from problem
    return path


def found_text(estimate: Any, interval: Any) -> str:
    """Return an estimate with its interval below it, as markup."""
    if not interval:
        return marked(number(estimate))
    return f"{marked(number(estimate))}<br/>{coloured(f'{number(interval[0])} to {number(interval[1])}')}"


def _add_opening(document: Document, study_file: StudyFile, data: Mapping[str, Any]) -> None:
    """Add the title, what is asked and predicted, what is lacking, and how much was run."""
    words = describe(study_file.description, study_file.study.name)
    document.markup(f"Study <b>{marked(data['study'], 'Text-Bold')}</b>", "eyebrow")
    document.text(words.headline, "title")
    if data["finished"] == 0:
        planned = f": {data['trials']} trials are planned" if data["trials"] else ""
        document.markup(f"<b>No trial has finished.</b> There is nothing to judge yet{planned}.", "notice")
    elif notice := partial_notice({key: value for key, value in data.items() if isinstance(value, int)}):
        first, rest = notice.split(":", 1)
        document.markup(f"<b>{marked(first, 'Text-Bold')}:</b>{marked(rest)}", "notice")
    for paragraph in words.paragraphs:
        document.text(paragraph)
    document.definitions([(name, marked(text)) for name, text in words.parts])
    counts = [f"<b>{number(data['trials'])}</b> trials", f"<b>{number(data['finished'])}</b> finished"]
    others = ("diverged", "out_of_memory", "failed", "missing")
    counts += [f"<b>{number(data[name])}</b> {name.replace('_', ' ')}" for name in others if data.get(name)]
    seconds = data["provenance"].get("wall_time_s")
    counts += [] if seconds is None else [f"<b>{duration(seconds)}</b> of training"]
    document.markup(" &nbsp;·&nbsp; ".join(marked_count(count) for count in counts))


def marked_count(markup: str) -> str:
    """Return a count's markup with its thin spaces, which the text font lacks, as plain ones."""
    return markup.replace("\u202f", "&nbsp;")


def _add_verdicts(document: Document, verdicts: Sequence[Mapping[str, Any]]) -> None:
    document.text("Verdicts", "heading")
    if not verdicts:
        document.text("This study makes no claims.")
        return
    rows: list[list[Cell | str]] = []
    for index, verdict in enumerate(verdicts, 1):
        claim = f"<b>{index}. {marked(verdict['claim'], 'Text-Bold')}</b>"
        if verdict.get("theorem"):
            claim += f"<br/>{coloured(verdict['theorem'], small=True)}"
        rows.append(
            [
                Cell(markup=marked(verdict["verdict"], "Text-Bold"), tone=verdict_tone(verdict["verdict"])),
                claim,
                f"{marked(verdict['expectation'])}<br/>{coloured(verdict['quantity'], small=True)}",
                found_text(verdict["estimate"], verdict["interval"]),
                marked(_sentence(verdict["reason"])),
            ]
        )
    document.table(_VERDICT_COLUMNS, rows)
    document.text(_MODESTY, "small")


def _add_claims(
    document: Document, verdicts: Sequence[Mapping[str, Any]], figures: Path, captions: Mapping[str, str]
) -> set[str]:
    """Add each claim with what it says, when it applies, and its evidence; return the names of the figures shown."""
    shown: set[str] = set()
    for index, verdict in enumerate(verdicts, 1):
        document.text(f"Claim {index}: {verdict['claim']}", "heading")
        if verdict.get("statement"):
            source = f"{verdict['theorem']}: " if verdict.get("theorem") else ""
            document.markup(f"{coloured(source)}{marked(split_remark(verdict['statement'])[0])}")
        tone = verdict_tone(verdict["verdict"])
        word = f'<font color="{tone.ink}"><b>{marked(_sentence(verdict["verdict"]), "Text-Bold")}.</b></font>'
        document.markup(f"{word} {marked(_sentence(verdict['reason']))}")
        document.definitions(_verdict_numbers(verdict), name_width=92)
        if verdict.get("conditions"):
            document.text("When it applies", "subheading")
            document.bullets(verdict["conditions"])
        if verdict.get("notes"):
            document.text("Remarks", "subheading")
            document.bullets(verdict["notes"])
        for section in evidence_sections(verdict, f"evidence-{index}", captions):
            shown |= _add_evidence(document, section, figures)
    return shown


def _verdict_numbers(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers of a verdict with their names: expected, found, and the intervals it rests on."""
    pairs = [("Expected", f"{marked(verdict['quantity'])} {marked(verdict['expectation'])}")]
    found = number(verdict["estimate"]) if verdict["estimate"] is not None else "no estimate"
    if verdict["interval"]:
        found += f", 95 % interval {_span(verdict['interval'])}"
    pairs.append(("Found", marked(found)))
    names = {
        "bootstrap_interval": "by redrawn seeds",
        "regression_interval": "by the scatter about the line",
        "profile_interval": "by profile likelihood",
        "subsample_interval": "by fewer redrawn seeds",
        "theil_sen_interval": "by Theil and Sen",
    }
    others = [f"{_span(verdict[key])} {text}" for key, text in names.items() if verdict.get(key)]
    return [*pairs, ("Other intervals", marked("; ".join(others)))] if others else pairs


def _span(interval: Sequence[Any]) -> str:
    return f"{number(interval[0])} to {number(interval[1])}"


def _add_evidence(document: Document, section: Mapping[str, Any], figures: Path) -> set[str]:
    """Add one section of evidence: a title, texts, a table, a figure, whichever it has; return its figure's name."""
    title, name = str(section.get("title") or ""), str(section.get("figure") or "")
    texts = section.get("text") or ()
    rows = [list(row.values()) if isinstance(row, Mapping) else list(row) for row in section.get("rows") or ()]
    texts = [texts] if isinstance(texts, str) else list(texts)
    alone = bool(name) and not rows
    if not alone:
        if title:
            document.text(title, "subheading")
        for text in texts:
            document.text(text)
    if rows:
        _add_rows(document, section, rows)
    if name:
        caption = str(section.get("caption") or "")
        document.figure(figures / name, caption, heading=title if alone else "", texts=texts if alone else ())
    return {name} if name else set()


def _add_rows(document: Document, section: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> None:
    first = section["rows"][0]
    headings = list(section.get("columns") or section.get("header") or (first if isinstance(first, Mapping) else ()))
    width = max(len(row) for row in rows)
    headings = [str(heading).replace("_", " ") for heading in headings] + [""] * (width - len(headings))
    texts = [[_entry(value) for value in row] + [""] * (width - len(row)) for row in rows[:MAX_EVIDENCE_ROWS]]
    lengths = [max([9, len(headings[i]), *(len(text[i]) for text in texts)]) for i in range(width)]
    numeric = [all(not isinstance(row[i], str) for row in rows if i < len(row)) for i in range(width)]
    if sum(lengths) <= MAX_DENSE_SIGNS:
        words = [i for i in range(width) if not numeric[i]]
        document.numbers(headings, texts, num_text=0, texts=words)
    else:
        shares = [min(max(length, 12), 48) for length in lengths]
        columns = [Column(heading=headings[i], share=shares[i], numeric=numeric[i]) for i in range(width)]
        document.table(columns, [[marked(text) for text in row] for row in texts])
    if len(rows) > MAX_EVIDENCE_ROWS:
        document.text(f"{len(rows) - MAX_EVIDENCE_ROWS} more rows are in report.json.", "small")


def _entry(value: Any) -> str:
    """Return a value of a table of evidence: a number, an interval, or a text."""
    if isinstance(value, list | tuple):
        return " to ".join(number(part) for part in value)
    return number(value)


def _add_figures(document: Document, report: Report, shown: set[str]) -> None:
    """Add the figures that no claim showed, the table of exponents after the first of them."""
    rest = [figure for figure in report.drawn if figure.name not in shown]
    for position, figure in enumerate(rest, 1):
        caption = f"Figure {position}. {figure.title}. {figure.caption}"
        heading = "Figures" if position == 1 else ""
        document.figure(report.folder / "figures" / figure.name, caption, heading=heading, style="heading")
    if report.data["curves"]:
        document.text("Exponents", "heading")
        document.table(_CURVE_COLUMNS, [_curve_row(curve) for curve in report.data["curves"]])


def _curve_row(curve: Mapping[str, Any]) -> list[Cell | str]:
    names = ("remedy", "budget_note", "growth_note", "pooled_note", "monotonicity_note")
    remarks = "; ".join(str(curve[name]).rstrip(".") for name in names if curve.get(name))
    values = [point["value"] for point in curve["points"]]
    interval = f" ({_span(curve['interval'])})" if curve["interval"] else ""
    return [
        marked(curve["method"]),
        f"{marked(label(curve['metric']))} {coloured('in ' + curve['size'], small=True)}",
        marked(number(len(values))),
        marked(number(curve["octaves"])),
        f"{marked(number(curve['exponent']))}{coloured(interval, small=True)}",
        marked(number(min(values, default=None))),
        marked(remarks),
    ]


def _add_troubles(document: Document, data: Mapping[str, Any]) -> None:
    document.text("What did not finish", "heading")
    if not data["troubles"]:
        document.text("Every trial that ran has finished." if data["finished"] else "No trial has run.")
        return
    rows = []
    for trouble in data["troubles"]:
        alike = "" if trouble["same_reason"] else f" {coloured('(and the like)')}"
        status = marked(trouble["status"].replace("_", " "))
        rows.append([status, number(trouble["count"]), f"{marked(trouble['reason'])}{alike}", marked(trouble["where"])])
    document.table(_TROUBLE_COLUMNS, rows)


def _add_settings(document: Document, settings: Sequence[Mapping[str, Any]]) -> None:
    """Add one row a setting, at most `MAX_SETTING_ROWS` of them."""
    document.text("Settings", "heading")
    if not settings:
        document.text("No setting has been trained.")
        return
    metrics = [name for name in settings[0] if name.startswith(("best ", "median "))]
    names = [name for name in settings[0] if name not in ("setting_digest", "trials", "finished", *metrics)]
    headings = [*(name.replace("_", " ") for name in names), "finished", *(m.replace("_", " ") for m in metrics)]
    rows = [
        [
            *(number(row.get(name)) for name in names),
            f"{row.get('finished')} / {row.get('trials')}",
            *(number(row.get(metric)) for metric in metrics),
        ]
        for row in settings[:MAX_SETTING_ROWS]
    ]
    # What was found matters more than the last of the settings.
    left_out = document.numbers(headings, rows, num_text=1 if names[:1] == ["method"] else 0, num_kept=1 + len(metrics))
    missing = [f"{number(len(settings) - len(rows))} more settings"] if len(settings) > len(rows) else []
    missing += [f"the columns {', '.join(left_out)}"] if left_out else []
    if missing:
        document.text(f"{' and '.join(missing)} are in report.json.", "small")


def _add_provenance(document: Document, study_file: StudyFile, data: Mapping[str, Any]) -> None:
    found = data["provenance"]
    versions = ", ".join(f"{name} {' and '.join(known)}" for name, known in found["versions"].items())
    hardware = "; ".join(found["hardware"]) or "not recorded"
    hardware += f" ({', '.join(found['devices'])})" if found["devices"] else ""
    pairs = [("Command", found["command"])] if found["command"] else []
    pairs += [
        ("Versions", versions or "not recorded"),
        ("Hardware", hardware),
        ("Wall time", f"{duration(found['wall_time_s'])}, all trials together"),
    ]
    if found["last_ended_at"]:
        pairs.append(("Trained", f"{found['first_ended_at']} to {found['last_ended_at']}"))
    count = number(len(found["digests"]))
    pairs.append(("Trials", f"{count} recorded, each named by the SHA-256 of its setting and seed (in report.json)"))
    document.text("Provenance", "heading")
    document.definitions([(name, marked(text)) for name, text in pairs])
    lines = study_file.source.splitlines()
    document.text(f"Study file {study_file.path.name}", "subheading")
    document.source("\n".join(lines[:MAX_SOURCE_LINES]))
    if len(lines) > MAX_SOURCE_LINES:
        document.text(f"{len(lines) - MAX_SOURCE_LINES} more lines are in {study_file.path.name}.", "small")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
