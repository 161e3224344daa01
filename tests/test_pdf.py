"""Tests of `reporting.supplement` (with `document` and `typography`): what the PDF of a report says and holds."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analysis.reporting.document import TEXT_WIDTH, Column, Document
from analysis.reporting.evidence_sections import evidence_sections
from analysis.reporting.palette import drawing, new_figure, save
from analysis.reporting.report import Report, write_report
from analysis.reporting.supplement import write_pdf
from analysis.reporting.typography import marked
from hyperscale.errors import AnalysisError
from hyperscale.study import StudyFile
from tests.test_report import ended, finished, study_file

TEXT = """Is λ·accuracy of use at N_g → ∞ & ε < 1?

Question    Which errs less?
Prediction  Error of order N_q^(-1/2), so Ω(ε^-2).
"""


def pages(path: Path) -> list[str]:
    """Return the text of each page, spaces and line ends made one space."""
    return [re.sub(r"\s+", " ", page.extract_text()) for page in PdfReader(path).pages]


def study() -> StudyFile:
    """Return the planted study with signs in its text."""
    return replace(study_file(), description=TEXT)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of a complete study, its PDF written."""
    file = study()
    records = [finished(trial) for trial in file.study.trials()]
    # Without training curves there is a figure less to draw.
    records = [replace(record, result=replace(record.result, curves={})) for record in records]
    found = write_report(file, records, tmp_path_factory.mktemp("pdf"), command="hyperscale report")
    write_pdf(file, found)
    return found


def changed(report: Report, folder: Path, **changes: Any) -> Report:
    """Return the report with other data, in another folder with the same figures."""
    shutil.copytree(report.folder / "figures", folder / "figures")
    return replace(report, folder=folder, data={**report.data, **changes})


def test_first_page_asks_and_answers(report: Report) -> None:
    """Headline, question, prediction and every verdict with its number are on page 1, signs and powers included."""
    text = pages(report.folder / "report.pdf")[0]
    assert "λ·accuracy" in text
    assert "→ ∞ & ε < 1?" in text
    assert "Which errs less?" in text
    assert "Ω(ε" in text
    assert "−1/2" in text
    for verdict in ("not contradicted", "attained", "supported"):
        assert verdict in text
    for part in ("1.20", "0.400", "≥ 1", "≤ 0.5", "Thm. 4, Paper", "40 trials", "80 s of training"):
        assert part in text


def test_pages_are_numbered_under_a_running_header(report: Report) -> None:
    """A handful of pages of A4, each with the study's name, its own number and the total."""
    texts, reader = pages(report.folder / "report.pdf"), PdfReader(report.folder / "report.pdf")
    assert 4 <= len(texts) <= 8
    for number, (text, page) in enumerate(zip(texts, reader.pages, strict=True), 1):
        assert f"{number} / {len(texts)}" in text
        assert "planted: Is λ·accuracy" in text
        assert (round(page.mediabox.width), round(page.mediabox.height)) == (595, 842)
    assert reader.metadata is not None
    assert reader.metadata.title == "planted: report"


def test_claims_figures_and_the_rest_follow(report: Report) -> None:
    """Each claim with its conditions, the figures with their own text, exponents, settings, provenance, source."""
    text = " ".join(pages(report.folder / "report.pdf"))
    order = ["Claim 1: sup_error of Hypernetwork", "If.", "Claim 4:", "Figure 1.", "Exponents Method",
             "What did not finish", "Settings method", "Provenance", "Study file planted.py", "# <source>"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    # The words inside a figure can be selected too: it is a drawing, not a picture.
    assert "each trial" in text
    assert not any(page.images for page in PdfReader(report.folder / "report.pdf").pages)


def test_the_same_report_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    """No date, no random name: neither in the document nor in a figure drawn again."""
    again = write_pdf(study(), changed(report, tmp_path))
    assert again.read_bytes() == (report.folder / "report.pdf").read_bytes()
    for name in ("one", "two"):
        with drawing("same"):
            figure = new_figure(3, 2)
            figure.add_subplot().plot([1, 2], [1, 2])
            save(figure, tmp_path / name, "figure")
    assert (tmp_path / "one" / "figure.pdf").read_bytes() == (tmp_path / "two" / "figure.pdf").read_bytes()


def test_every_font_travels_with_the_file(report: Report) -> None:
    """Each font but reportlab's unused default is embedded, so that another machine shows the same signs."""
    fonts: dict[str, bool] = {}
    for page in PdfReader(report.folder / "report.pdf").pages:
        for font in page["/Resources"]["/Font"].get_object().values():  # type: ignore[index]
            font = font.get_object()
            inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
            fonts[font["/BaseFont"]] = "/FontFile2" in inner.get("/FontDescriptor", {})
    assert len(fonts) > 4
    assert {name for name, embedded in fonts.items() if not embedded} <= {"/Helvetica"}


@pytest.mark.parametrize("kind", ["nothing", "troubles"])
def test_a_study_without_results_has_a_pdf_too(tmp_path: Path, kind: str) -> None:
    """With nothing finished it says so and names the reasons; no figure is drawn."""
    file = study()
    records = [ended(finished(t), "diverged", "loss was not finite") for t in file.study.trials()]
    found = write_report(file, records if kind == "troubles" else [], tmp_path)
    text = " ".join(pages(write_pdf(file, found)))
    assert "No trial has finished." in text
    assert "inconclusive" in text
    assert "Figure 1" not in text
    assert ("loss was not finite" in text) is (kind == "troubles")


def test_many_settings_stay_a_few_pages(report: Report, tmp_path: Path) -> None:
    """Of 10,000 settings 240 are listed and the rest counted, so that the document can still be read."""
    row = {"setting_digest": "d", "method": "Hypernetwork", "width": 12345678, "lr": 0.001, "trials": 3, "finished": 3}
    found = changed(report, tmp_path, settings=[{**row, "median rmse": 0.25, "best rmse": None}] * 10_000)
    texts = pages(write_pdf(study(), found))
    assert len(texts) <= 14
    assert "9 760 more settings are in report.json" in " ".join(texts)
    assert " ".join(texts).count("12 345 678") == 240


def test_columns_that_do_not_fit_are_named(report: Report, tmp_path: Path) -> None:
    """A settings table wider than the page leaves out settings, not results, and says which."""
    document = Document(title="t", running="r")
    headings = [f"column{i}" for i in range(40)]
    left_out = document.numbers(headings, [["0.123456"] * 40] * 3, num_kept=2)
    assert 10 < len(left_out) < 30
    assert left_out == headings[38 - len(left_out) : 38]
    document.write(tmp_path / "wide.pdf")
    row = {f"a_long_name_{i}": 0.123456 for i in range(40)}
    settings = [{"setting_digest": "d", **row, "trials": 1, "finished": 1, "best rmse": 0.777}]
    text = " ".join(pages(write_pdf(study(), changed(report, tmp_path, settings=settings))))
    assert re.search(r"the columns a long name \d+, .*a long name 39 are in report.json", text)
    assert "0.777" in text


def test_evidence_is_shown_under_its_claim(report: Report, tmp_path: Path) -> None:
    """Texts, tables of lists or mappings, and figures of a claim's evidence; a figure is then not shown again."""
    found = changed(report, tmp_path)
    evidence = [
        {"title": "How steep", "text": "Local slopes.", "figure": "scaling", "caption": "Shown here."},
        {"title": "Choices", "rows": [{"choice": "window", "exponent": 0.5, "interval": [0.4, 0.6]}]},
        {"title": "Plain", "columns": ["what", "much"], "rows": [["bare", 2], ["short"]], "new_field": {"x": 1}},
        {"title": "Lost", "figure": "absent"},
        "A bare sentence.",
    ]
    first, *others = found.data["verdicts"]
    found = replace(found, data={**found.data, "verdicts": [{**first, "evidence": evidence}, *others]})
    text = " ".join(pages(write_pdf(study(), found)))
    claim = text[text.index("Claim 1:") : text.index("Claim 2:")]
    parts = ("How steep Local slopes.", "Shown here.", "choice exponent interval window 0.500 0.400 to 0.600",
             "what much bare 2 short", "The figure absent was not drawn.", "A bare sentence.")  # fmt: skip
    for part in parts:
        assert part in claim
    assert "Figure 1. Exponents beside predictions" in text


def test_evidence_as_the_report_keeps_it(report: Report, tmp_path: Path) -> None:
    """Sensitivity, local exponents, calibration and power become sections; the claim's figure stands with its claim."""
    choice = {"kind": "window", "choice": "largest half", "estimate": 0.45, "interval": [0.2, 0.7], "note": "few sizes"}
    slope = {"size": 10.0, "first": 7.0, "last": 25.0, "exponent": 1.11, "interval": None}
    evidence = {"sentence": "It falls like N^-1.2.", "stability": "No choice lies outside.", "sensitivity": [choice],
                "local_slopes": [slope], "power": {"chance": 0.62, "advice": "run 5 more seeds"}, "new": 1}  # fmt: skip
    first, *others = report.data["verdicts"]
    first = {**first, "evidence": evidence, "gap_slope": 0.05, "gap_interval": [0.01, 0.09]}
    found = changed(report, tmp_path, verdicts=[first, *others], figures=["scaling", "exponents", "evidence-1"])
    shutil.copy(tmp_path / "figures" / "scaling.pdf", tmp_path / "figures" / "evidence-1.pdf")
    text = " ".join(pages(write_pdf(study(), found)))
    claim = text[text.index("Claim 1:") : text.index("Claim 2:")]
    parts = ("It falls like N−1.2.", "No choice lies outside.", "window largest half 0.450 0.200 to 0.700 few sizes",
             "local N from 7 to 25 1.11 –", "grows like N0.05 (exponent 0.01 to 0.09)",
             "decide rightly in 62 %", "For 90 %: run 5 more seeds.")  # fmt: skip
    for part in parts:
        assert part in claim
    assert evidence_sections({"evidence": 3}, "evidence-1", {}) == []


def test_a_figure_without_its_vector_form_is_a_picture(report: Report, tmp_path: Path) -> None:
    """Where only the PNG is there it is shown, at no less than 200 dots to the inch of paper."""
    found = changed(report, tmp_path)
    (tmp_path / "figures" / "scaling.pdf").unlink()
    pictures = [image for page in PdfReader(write_pdf(study(), found)).pages for image in page.images]
    assert len(pictures) == 1
    assert pictures[0].image is not None
    assert pictures[0].image.width / (TEXT_WIDTH / 72) >= 200


def test_long_words_and_reasons_stay_inside_the_page(tmp_path: Path) -> None:
    """A table whose row is higher than a page is split, not refused."""
    document = Document(title="t", running="r" * 400)
    document.table([Column(heading="a", share=1), Column(heading="b", share=1)], [["word " * 3000, "x" * 500]])
    assert document.write(tmp_path / "long.pdf") > 1
    assert " ".join(pages(tmp_path / "long.pdf")).count("word") == 3000


def test_marks_of_plain_text() -> None:
    """Markup is escaped, powers are raised, single-letter indices lowered, names left alone, strange signs replaced."""
    assert marked("a < b & c") == "a &lt; b &amp; c"
    assert marked("N^-0.5") == 'N<super rise="33%" size="70%">−0.5</super>'
    assert marked("N_g of sup_error") == 'N<sub rise="14%" size="70%">g</sub> of sup_error'
    assert marked("λ ε Ω − – ≥") == "λ ε Ω − – ≥"
    assert marked("9\u202f760") == '9<font name="Sans">\u202f</font>760'
    assert marked("漢") == '<font name="Sans">□</font>'


def test_a_place_that_cannot_be_written_is_refused(report: Report, tmp_path: Path) -> None:
    """The error names the file and what to do."""
    (tmp_path / "report.pdf").mkdir()
    with pytest.raises(AnalysisError, match=r"report\.pdf cannot be written.*--out"):
        write_pdf(study(), replace(report, folder=tmp_path))
