"""The report as one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from analysis.judging.verdicts import Verdict
from analysis.reporting.evidence import Evidence
from analysis.reporting.gallery import Drawn
from analysis.reporting.palette import label
from analysis.reporting.summary import describe, duration, partial_notice
from hyperscale.study import StudyFile

MAX_SETTING_ROWS = 240
_POWER = re.compile(r"\^(?:\((-?[\w./ ]+)\)|(-?\d+(?:[./]\d+)?))")
_SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_])([A-Za-zεδθφ])_([A-Za-z0-9])(?![A-Za-z0-9_])")
_MINUS = re.compile(r"(?<![\w.>^-])-(?=\d)")
_LOOKS = {
    "attained": "good",
    "supported": "good",
    "not contradicted": "mild",
    "not attained": "warn",
    "contradicted": "bad",
}


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
    """Return the text as HTML with ``N^-1`` set as a power, ``N_g`` with a subscript, minus signs as such."""
    raised = _POWER.sub(lambda found: f"<sup>{found[1] or found[2]}</sup>", str(escape(text)))
    lowered = _SUBSCRIPT.sub(r"\1<sub>\2</sub>", _MINUS.sub("−", raised))
    return Markup(lowered.replace("<sup>-", "<sup>−"))


def split_remark(statement: str) -> tuple[str, str]:
    """Return a statement and the sentence in brackets that ends it (how the paper prints it), empty without one."""
    start = statement.rfind(". (")
    if start < 0 or not statement.endswith(".)"):
        return statement, ""
    return statement[: start + 1], statement[start + 3 : -1]


def render_page(
    study_file: StudyFile,
    data: Mapping[str, Any],
    verdicts: Sequence[tuple[Verdict, Evidence, Drawn | None]],
    drawn: Sequence[Drawn],
    columns: Sequence[str],
) -> str:
    """Return the page: verdicts first, then the evidence of each, figures, settings, provenance."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        unstopped=lambda text: text.rstrip("."),
        capital=lambda text: text[:1].upper() + text[1:],
        look=lambda word: _LOOKS.get(word, "open"),
        number=number,
        duration=duration,
        label=label,
        powers=powers,
        split_remark=split_remark,
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
