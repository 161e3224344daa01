"""The evidence of a claim, as ``report.json`` holds it, in sections that a printed document can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CHOICES = ("choice", "", "exponent", "95 % interval", "remark")
_RATIO_FIELDS = ("at", "error", "reference", "ratio", "certified")
_RATIOS = ("size", "error", "reference", "ratio", "ratio, certified")


def evidence_sections(verdict: Mapping[str, Any], figure: str, captions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a verdict's evidence as sections with a title, texts, rows of a table, and the name of a figure.

    ``figure`` is the name that the claim's own figure would have, ``captions`` what is written under each figure that
    was drawn. Evidence may also be a list of sections already; whatever is neither is skipped.
    """
    evidence = verdict.get("evidence")
    if not isinstance(evidence, Mapping):
        found = evidence if isinstance(evidence, list | tuple) else [evidence]
        texts = [{"text": section} if isinstance(section, str) else section for section in found]
        return [dict(section) for section in texts if isinstance(section, Mapping)]
    sections: list[dict[str, Any]] = []
    if figure in captions:
        text = str(evidence.get("sentence") or "")
        sections.append({"title": "Evidence", "text": text, "figure": figure, "caption": captions[figure]})
    if evidence.get("stability") or evidence.get("sensitivity"):
        sections.append({
            "title": "How far the exponent hangs on choices",
            "text": str(evidence.get("stability") or ""),
            "columns": _CHOICES,
            "rows": _choice_rows(evidence),
        })  # fmt: skip
    if evidence.get("ratios"):
        text = str(evidence.get("sentence") or "")
        rows = [[row[name] for name in _RATIO_FIELDS] for row in evidence["ratios"]]
        sections.append({"title": "The ratio at each size", "text": text, "columns": _RATIOS, "rows": rows})
    if verdict.get("gap_slope") is not None:
        low, high = verdict.get("gap_interval") or (None, None)
        text = f"Trained error over the known infimum grows like N^{verdict['gap_slope']:.3g}"
        text += "" if low is None or high is None else f" (exponent {low:.3g} to {high:.3g})"
        sections.append({
            "title": "Calibration",
            "text": f"{text}; the interval is widened by it. That the gap grows alike on this target is an assumption.",
        })  # fmt: skip
    if text := _power_text(evidence.get("power")):
        sections.append({"title": "Power", "text": text})
    return sections


def _choice_rows(evidence: Mapping[str, Any]) -> list[list[Any]]:
    """Return a row for each other choice of window, estimator or model, then one for each local exponent."""
    rows = [
        [row.get("kind", ""), row.get("choice", ""), row.get("estimate"), row.get("interval"), row.get("note", "")]
        for row in evidence.get("sensitivity") or ()
    ]
    rows += [
        ["local", f"N from {slope['first']:g} to {slope['last']:g}", slope.get("exponent"), slope.get("interval"), ""]
        for slope in evidence.get("local_slopes") or ()
    ]
    return rows


def _power_text(power: Any) -> str:
    """Return how often simulated studies like this one decide, and what would bring that to 90 %."""
    if not isinstance(power, Mapping) or power.get("obstacle") or power.get("chance") is None:
        return ""
    text = f"Simulated studies of this size decide rightly in {100 * float(power['chance']):.0f} %, under the least"
    text += " favourable of the truths tried."
    advice = str(power.get("advice") or "").rstrip(".")
    return text if power.get("enough") or not advice else f"{text} For 90 %: {advice}."
