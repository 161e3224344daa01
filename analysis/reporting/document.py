"""A printed document: pages of A4 with a running header, headings, text, tables, and figures as vector drawings.

reportlab lays out the text (headings stay with what they head, tables repeat their first row); the figures are
PDF pages that matplotlib wrote, set into the places left for them by pypdf, so that they stay sharp and their text
can be selected. Equal content gives equal bytes.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape
from pypdf import PdfReader, PdfWriter, Transformation
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    XPreformatted,
)

from analysis.reporting.palette import Tone
from analysis.reporting.typography import INK, LINE, SOFT, covered, load_fonts, make_style, marked, styles

MARGIN = 20 * mm
TEXT_WIDTH = A4[0] - 2 * MARGIN
TEXT_HEIGHT = A4[1] - 2 * MARGIN - 10 * mm
MAX_FIGURE_HEIGHT = 0.72 * TEXT_HEIGHT
_ROOM_BELOW = {"heading": 110.0, "subheading": 90.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of a table: markup, and the tone of its background where it holds a verdict's word."""

    markup: str
    tone: Tone | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table: its heading, its share of the width, and whether it holds numbers (set to the right)."""

    heading: str
    share: float
    numeric: bool = False


class _Place(Flowable):  # type: ignore[misc]
    """An empty place of a figure's size, which notes where on which page it came to lie."""

    def __init__(self, width: float, height: float, found: list[tuple[int, float, float]]) -> None:
        super().__init__()
        self.width, self.height, self._found = width, height, found

    def draw(self) -> None:
        """Note the page (from 0) and the lower left corner, in points."""
        self._found.append((self.canv.getPageNumber() - 1, *self.canv.absolutePosition(0, 0)))


class Document:
    """Collects content from top to bottom and writes it as a PDF. Texts are plain unless called markup."""

    def __init__(self, *, title: str, running: str) -> None:
        self._title, self._running = title, running
        self._parts: list[Callable[[], list[Any]]] = []
        self._drawings: list[tuple[Path, float, list[tuple[int, float, float]]]] = []

    def text(self, text: object, style: str = "body") -> None:
        """Add a paragraph, a heading or a title, as the style says."""
        self.markup(marked(text, "Text-Bold" if style in ("title", "heading", "subheading") else "Text"), style)

    def markup(self, markup: str, style: str = "body") -> None:
        """Add a paragraph given as markup. A heading goes to the next page where little could follow it on this one."""
        least = _ROOM_BELOW.get(style)
        before = [] if least is None else [least]
        self._parts.append(lambda: [*(CondPageBreak(room) for room in before), Paragraph(markup, styles()[style])])

    def bullets(self, texts: Iterable[object]) -> None:
        """Add a list."""
        contents = [marked(text) for text in texts]
        self._parts.append(lambda: [Paragraph(text, styles()["bullet"], bulletText="•") for text in contents])

    def definitions(self, pairs: Iterable[tuple[str, str]], *, name_width: float = 24 * mm) -> None:
        """Add names with their explanations (markup) beside them."""
        cells = [(f'<font color="{SOFT}"><b>{marked(name, "Text-Bold")}</b></font>', text) for name, text in pairs]
        if not cells:
            return
        style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0),
                 ("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]  # fmt: skip

        def make() -> list[Any]:
            rows = [[Paragraph(name, styles()["body"]), Paragraph(text, styles()["body"])] for name, text in cells]
            table = Table(rows, colWidths=[name_width, TEXT_WIDTH - name_width], style=style)
            return [KeepTogether([table]) if len(rows) < 5 else table, Spacer(0, 4)]

        self._parts.append(make)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], *, size: float = 8.8) -> None:
        """Add a table; cells are markup. Its heading is repeated on every page that it reaches."""
        whole = sum(column.share for column in columns)
        widths = [TEXT_WIDTH * column.share / whole for column in columns]
        self._parts.append(lambda: [_make_table(columns, rows, widths, size), Spacer(0, 6)])

    def numbers(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        num_text: int = 1,
        num_kept: int = 0,
        texts: Collection[int] = (),
    ) -> list[str]:
        """Add a dense table of short plain cells, the first ``num_text`` columns and those in ``texts`` to the left.

        The type is made smaller until the columns fit. Those that do not fit even then are left out, from the end but
        for the last ``num_kept``; their headings are returned.
        """
        load_fonts()
        shown, size = list(range(len(headings))), 8.4
        while sum(_natural_widths(headings, rows, shown, size)) > TEXT_WIDTH and len(shown) > num_kept + 1:
            if size > 6.0:
                size -= 0.4
            else:
                shown.pop(len(shown) - 1 - num_kept)
        widths = _natural_widths(headings, rows, shown, size)
        # The free width goes between the columns, not further than reads well.
        extra = max(0.0, min((TEXT_WIDTH - sum(widths)) / len(shown), 22))
        columns = [Column(heading=headings[i], share=1, numeric=i >= num_text and i not in texts) for i in shown]
        cells = [[marked(row[i]) for i in shown] for row in rows]
        wide = [width + extra for width in widths]
        self._parts.append(lambda: [_make_table(columns, cells, wide, size, tight=True), Spacer(0, 6)])
        return [heading for i, heading in enumerate(headings) if i not in shown]

    def figure(
        self, path: Path, caption: str, *, heading: str = "", style: str = "subheading", texts: Sequence[str] = ()
    ) -> None:
        """Add the drawing ``path`` (without ending: its PDF, else its PNG), kept with heading, texts and caption.

        Where neither file is there the page says so.
        """
        parts = [Paragraph(marked(heading, "Text-Bold"), styles()[style])] if heading else []
        parts += [Paragraph(marked(text), styles()["body"]) for text in texts]
        vector, pixels = path.with_name(f"{path.name}.pdf"), path.with_name(f"{path.name}.png")
        below = Paragraph(marked(caption), styles()["caption"])
        if vector.exists():
            box = PdfReader(vector).pages[0].mediabox
            scale = _scale(float(box.width), float(box.height))
            found: list[tuple[int, float, float]] = []
            self._drawings.append((vector, scale, found))
            size = (float(box.width) * scale, float(box.height) * scale)
            self._parts.append(lambda: [KeepTogether([*parts, _Place(*size, found), below])])
        elif pixels.exists():
            self._parts.append(lambda: [KeepTogether([*parts, _image(pixels), below])])
        else:
            self._parts.append(lambda: [*parts, Paragraph(f"The figure {path.name} was not drawn.", styles()["small"])])

    def source(self, text: str, *, columns: int = 120) -> None:
        """Add program text as it is, lines longer than ``columns`` broken."""
        lines = [line[i : i + columns] for line in text.splitlines() for i in range(0, max(len(line), 1), columns)]
        content = "\n".join(covered(str(escape(line)), "Mono") for line in lines)
        self._parts.append(lambda: [XPreformatted(content, styles()["source"])])

    def write(self, path: Path) -> int:
        """Write the PDF; return its number of pages."""
        _, total = self._lay_out(0)
        for _, _, found in self._drawings:
            found.clear()
        laid_out, total = self._lay_out(total)
        writer = PdfWriter(clone_from=io.BytesIO(laid_out))
        for drawing, scale, found in self._drawings:
            figure = PdfReader(drawing).pages[0]
            for index, x, y in found:
                writer.pages[index].merge_transformed_page(figure, Transformation().scale(scale).translate(x, y))
        for page in writer.pages:
            page.compress_content_streams()
        writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
        with path.open("wb") as file:
            writer.write(file)
        return total

    def _lay_out(self, total: int) -> tuple[bytes, int]:
        """Return the pages without their drawings, and how many; ``total`` is what the page numbers say."""
        load_fonts()
        buffer = io.BytesIO()
        frame = Frame(MARGIN, MARGIN, TEXT_WIDTH, TEXT_HEIGHT, leftPadding=0, rightPadding=0, topPadding=0,
                      bottomPadding=0)  # fmt: skip
        document = BaseDocTemplate(
            buffer, pagesize=A4, title=self._title, author="hyperscale", subject=self._running, invariant=1, lang="en"
        )
        paint = functools.partial(_paint_margins, running=self._running, total=total)
        document.addPageTemplates([PageTemplate(id="page", frames=[frame], onPage=paint)])
        document.build([flowable for part in self._parts for flowable in part()])
        return buffer.getvalue(), int(document.page)


def _paint_margins(canvas: Any, document: Any, *, running: str, total: int) -> None:
    """Draw the running header, its rule, and the page number."""
    canvas.saveState()
    canvas.setFont("Text", 8.5)
    canvas.setFillColor(HexColor(SOFT))
    canvas.setStrokeColor(HexColor(LINE))
    top = A4[1] - MARGIN + 1 * mm
    while pdfmetrics.stringWidth(running, "Text", 8.5) > TEXT_WIDTH and len(running) > 1:
        running = running.rstrip("…")[:-1] + "…"
    canvas.drawString(MARGIN, top, running)
    canvas.line(MARGIN, top - 2 * mm, A4[0] - MARGIN, top - 2 * mm)
    canvas.drawCentredString(A4[0] / 2, MARGIN - 9 * mm, f"{document.page} / {total}")
    canvas.restoreState()


def _scale(width: float, height: float) -> float:
    """Return how much smaller a drawing must be to fit the page; never larger than 0.85 of its drawn size."""
    return min(0.85, TEXT_WIDTH / width, MAX_FIGURE_HEIGHT / height)


def _image(path: Path) -> Any:
    picture = Image(str(path))
    # Pixels at 220 to the inch or finer.
    scale = min(72 / 220, TEXT_WIDTH / picture.imageWidth, MAX_FIGURE_HEIGHT / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    picture.hAlign = "LEFT"
    return picture


def _natural_widths(
    headings: Sequence[str], rows: Sequence[Sequence[str]], shown: Sequence[int], size: float
) -> list[float]:
    """Return the width (points) that each shown column needs: its longest cell, and its heading's longest word."""
    widths = []
    for index in shown:
        words = [pdfmetrics.stringWidth(word, "Text-Bold", size) for word in headings[index].split()]
        cells = [pdfmetrics.stringWidth(text, "Text", size) for text in {row[index] for row in rows}]
        widths.append(max([*words, *cells, 8.0]) + 7)
    return widths


def _make_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | str]],
    widths: Sequence[float],
    size: float,
    *,
    tight: bool = False,
) -> Any:
    looks = [
        make_style(f"cell-{i}", size, 1.22 * size, alignment=TA_RIGHT if column.numeric else TA_LEFT)
        for i, column in enumerate(columns)
    ]
    heads = [ParagraphStyle(f"{look.name}-head", parent=look, textColor=HexColor(SOFT)) for look in looks]
    # Columns without any heading have no row of headings.
    num_heads = int(any(column.heading for column in columns))
    cells = [[Paragraph(f"<b>{marked(c.heading, 'Text-Bold')}</b>", h) for c, h in zip(columns, heads, strict=True)]]
    cells = cells[:num_heads]
    cells += [[_make_cell(cell, look) for cell, look in zip(row, looks, strict=True)] for row in rows]
    pad = 1.6 if tight else 4.5
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, num_heads), (-1, -1), 0.4, HexColor(LINE)),
        ("TOPPADDING", (0, 0), (-1, -1), pad),
        ("BOTTOMPADDING", (0, 0), (-1, -1), pad),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
    ]
    if num_heads:
        style += [("VALIGN", (0, 0), (-1, 0), "BOTTOM"), ("LINEBELOW", (0, 0), (-1, 0), 0.7, HexColor(INK))]
    after_numbers = [i for i in range(1, len(columns)) if columns[i - 1].numeric and not columns[i].numeric]
    style += [("LEFTPADDING", (i, 0), (i, -1), 11) for i in after_numbers]
    # Only a row that no page could hold is broken inside, and then into parts of at least 200 points.
    return Table(cells, colWidths=widths, style=style, repeatRows=num_heads, splitInRow=200, hAlign="LEFT")


def _make_cell(cell: Cell | str, look: Any) -> Any:
    if isinstance(cell, str):
        return Paragraph(cell, look)
    if cell.tone is None:
        return Paragraph(cell.markup, look)
    tone = cell.tone
    pill = ParagraphStyle(
        f"{look.name}-{tone.name}", parent=look, fontName="Text-Bold", textColor=HexColor(tone.ink), alignment=TA_LEFT,
        backColor=HexColor(tone.wash), borderColor=HexColor(tone.ink), borderWidth=0.7,
        borderPadding=(1.5, 2.5, 2.5, 3), borderRadius=2, leftIndent=3, rightIndent=3,
    )  # fmt: skip
    return Paragraph(cell.markup, pill)
