"""Fonts, paragraph styles and signs of a printed document: plain text in, reportlab's markup out.

The fonts ship inside matplotlib: STIX for text, DejaVu for what STIX lacks and for program text.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from reportlab.lib.colors import HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from analysis.reporting.page import powers

INK, SOFT, LINE, WASH = "#1f2328", "#59636e", "#d9dee3", "#f6f7f8"
_FONTS = {
    "Text": "STIXGeneral", "Text-Bold": "STIXGeneralBol", "Text-Italic": "STIXGeneralItalic",
    "Text-BoldItalic": "STIXGeneralBolIta", "Sans": "DejaVuSans", "Sans-Bold": "DejaVuSans-Bold",
    "Mono": "DejaVuSansMono",
}  # fmt: skip
_MARKUP = re.compile(r"(<[^>]*>|&[#\w]+;)")


@functools.cache
def load_fonts() -> None:
    """Register the fonts with reportlab, once a process."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for name, file in _FONTS.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{file}.ttf")))
    pdfmetrics.registerFontFamily(
        "Text", normal="Text", bold="Text-Bold", italic="Text-Italic", boldItalic="Text-BoldItalic"
    )
    for name in ("Sans", "Sans-Bold", "Mono"):
        pdfmetrics.registerFontFamily(name, normal=name, bold="Sans-Bold", italic=name, boldItalic="Sans-Bold")


def make_style(name: str, size: float, leading: float, **more: Any) -> Any:
    """Return a style of ours: text font and ink unless ``more`` says otherwise; size and leading in points."""
    look = {"fontName": "Text", "textColor": HexColor(INK), **more}
    return ParagraphStyle(name, fontSize=size, leading=leading, **look)


@functools.cache
def styles() -> dict[str, Any]:
    """Return the paragraph styles by name."""
    load_fonts()
    soft, bold = HexColor(SOFT), "Text-Bold"
    return {
        "title": make_style("title", 17, 21, fontName=bold, spaceAfter=6),
        "eyebrow": make_style("eyebrow", 9.5, 12, textColor=soft, spaceAfter=3),
        "heading": make_style("heading", 13, 16, fontName=bold, spaceBefore=15, spaceAfter=5),
        "subheading": make_style("subheading", 10.5, 13, fontName=bold, spaceBefore=9, spaceAfter=3),
        "body": make_style("body", 10, 13, spaceAfter=5, allowWidows=0, allowOrphans=0),
        "small": make_style("small", 8.5, 10.6, textColor=soft, spaceAfter=4, allowWidows=0, allowOrphans=0),
        "caption": make_style("caption", 8.8, 11, textColor=soft, spaceBefore=4, spaceAfter=8),
        "bullet": make_style("bullet", 10, 12.6, leftIndent=11, bulletIndent=2, spaceAfter=2, bulletFontName="Text"),
        "cell": make_style("cell", 8.8, 10.8),
        "notice": make_style(
            "notice", 10, 13, backColor=HexColor("#fff6e0"), borderColor=HexColor("#c98a00"), borderWidth=0.8,
            borderPadding=5, spaceBefore=10, spaceAfter=12, leftIndent=5, rightIndent=5,
        ),
        "source": make_style("source", 6.4, 8.2, fontName="Mono", backColor=HexColor(WASH), borderPadding=4,
                         leftIndent=4, rightIndent=4, spaceBefore=5),
    }  # fmt: skip


def marked(text: object, font: str = "Text") -> str:
    """Return plain text as markup: escaped, ``N^-1`` and ``N_g`` raised and lowered, strange signs in a font with them.

    A sign that no font of ours has is shown as a white square rather than lost.
    """
    raised = str(powers(str(text))).replace("<sup>", '<super rise="33%" size="70%">').replace("</sup>", "</super>")
    raised = raised.replace("<sub>", '<sub rise="14%" size="70%">')
    return "".join(part if _MARKUP.fullmatch(part) else covered(part, font) for part in _MARKUP.split(raised))


def covered(text: str, font: str) -> str:
    """Return text (no markup) with the signs that ``font`` lacks set in a wider one, a square where none has them."""
    load_fonts()
    known, wider = (set(pdfmetrics.getFont(name).face.charToGlyph) for name in (font, "Sans"))
    if all(ord(sign) in known for sign in text):
        return text
    signs = [
        sign if ord(sign) in known or sign in " \n\t"
        else f'<font name="Sans">{sign if ord(sign) in wider else "□"}</font>'
        for sign in text
    ]  # fmt: skip
    return "".join(signs)


def coloured(text: object, colour: str = SOFT, *, small: bool = False) -> str:
    """Return plain text as markup in a colour."""
    size = ' size="7.8"' if small else ""
    return f'<font color="{colour}"{size}>{marked(text)}</font>'
