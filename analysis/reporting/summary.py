"""What a report says besides figures and verdicts: the study's text, counts, settings, provenance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.table import setting_columns
from hyperscale.claims import is_error
from hyperscale.trial import TrialRecord, TrialStatus

_LABELLED = re.compile(r"^\s*([A-Z][A-Za-z]+)\s{2,}(\S.*)$")
_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d[\d.]*(?:e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A study's docstring in parts: its first line, free paragraphs, and labelled parts such as Question."""

    headline: str
    paragraphs: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]


def describe(text: str, fallback: str) -> Description:
    """Split a docstring: ``Label   text`` begins a part, up to a blank line or the next label."""
    lines = text.strip().splitlines()
    headline = lines[0].strip() if lines else fallback
    paragraphs: list[list[str]] = []
    parts: list[tuple[str, list[str]]] = []
    current: list[str] | None = None
    for line in lines[1:]:
        found = _LABELLED.match(line)
        if found:
            current = [found.group(2).strip()]
            parts.append((found.group(1), current))
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line.strip())
        else:
            current = [line.strip()]
            paragraphs.append(current)
    return Description(
        headline=headline,
        paragraphs=tuple(" ".join(p) for p in paragraphs),
        parts=tuple((name, " ".join(words)) for name, words in parts),
    )


def count_trials(planned: Sequence[str], records: Sequence[TrialRecord]) -> dict[str, int]:
    """Return how many trials were planned, how many ended in each status, and how many have no record yet."""
    recorded = {r.result.digest for r in records}
    statuses = Counter(str(r.result.status) for r in records)
    return {
        "trials": len(recorded.union(planned)),
        **{str(status): statuses[str(status)] for status in TrialStatus},
        "missing": len(set(planned) - recorded),
    }


def partial_notice(counts: Mapping[str, int]) -> str:
    """Return a sentence that says plainly what the report lacks, or an empty text where it lacks nothing."""
    unsettled = counts["failed"] + counts["out_of_memory"]
    if not counts["missing"] and not unsettled:
        return ""
    ended = counts["finished"] + counts["diverged"]
    lacking = [f"{counts['missing']} have not run"] if counts["missing"] else []
    lacking += [f"{unsettled} failed or ran out of memory"] if unsettled else []
    return (
        f"Partial study: {ended} of {counts['trials']} trials have ended; {', '.join(lacking)}. "
        "What follows speaks of the ended ones only. Running the study again takes up the rest."
    )


def troubles(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return what did not finish and why, most frequent first; numbers in a reason do not part a group."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in records:
        if record.result.status != TrialStatus.FINISHED:
            key = (str(record.result.status), _NUMBER.sub("#", record.result.reason))
            groups.setdefault(key, []).append(record)
    found = [
        {
            "status": status,
            "count": len(group),
            "reason": group[0].result.reason or "no reason was recorded",
            "same_reason": len({r.result.reason for r in group}) == 1,
            "where": _where(group),
        }
        for (status, _), group in groups.items()
    ]
    return sorted(found, key=lambda row: -int(str(row["count"])))


def _where(group: Sequence[TrialRecord]) -> str:
    """Return which methods and learning rates a group of trials had, with counts."""
    places: Counter[str] = Counter()
    for record in group:
        lr = record.columns.get("lr")
        text = str(record.columns.get("method", "unknown method"))
        places[f"{text}, lr {lr:g}" if isinstance(lr, int | float) else text] += 1
    common = places.most_common(6)
    more = f"; {len(places) - 6} more" if len(places) > 6 else ""
    return "; ".join(f"{place}: {count}" for place, count in common) + more


def varying_columns(table: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Return the setting columns that differ between settings, the method always among them."""
    return [c for c in settings if c == "method" or table[c].nunique() > 1]


def setting_rows(
    table: pd.DataFrame, records: Sequence[TrialRecord], metrics: Sequence[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the varying columns and one row a setting: trials, finished, best and median of each metric.

    The best of an error is its smallest value, of an accuracy its largest; other metrics have a median only.
    """
    columns = varying_columns(table, setting_columns(records))
    shown = [m for m in metrics if m in table.columns]
    if table.empty:
        return columns, []
    by_setting = table.groupby("setting_digest", sort=False)
    first = by_setting[columns].first() if columns else pd.DataFrame(index=table["setting_digest"].unique())
    summary = pd.DataFrame({"trials": by_setting.size()})
    finished = table[table["status"] == "finished"].groupby("setting_digest")
    summary["finished"] = finished.size().reindex(summary.index).fillna(0).astype(int)
    for metric in shown:
        summary[f"median {metric}"] = finished[metric].median()
        if is_error(metric):
            summary[f"best {metric}"] = finished[metric].min()
        elif "accuracy" in metric:
            summary[f"best {metric}"] = finished[metric].max()
    joined = first.join(summary).sort_values(_sortable(columns), kind="stable")
    return columns, [
        {str(k): v for k, v in row.items()} for row in joined.reset_index(names="setting_digest").to_dict("records")
    ]


def _sortable(columns: Sequence[str]) -> list[str]:
    size = [c for c in ("num_params_primary", "depth", "accuracy_weight", "lr") if c in columns]
    return ["method", *size] if "method" in columns else list(columns)


def gather_provenance(records: Sequence[TrialRecord], command: str) -> dict[str, Any]:
    """Return how the trials were computed: versions, hardware, wall time (s), when, and their digests."""
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in dict(record.result.provenance.get("versions") or {}).items():
            versions.setdefault(str(name), set()).add(str(version))
    times = [r.result.provenance.get("wall_time_s") for r in records]
    known = [float(t) for t in times if isinstance(t, int | float)]
    ended = sorted(str(r.result.provenance["ended_at"]) for r in records if r.result.provenance.get("ended_at"))
    return {
        "command": command,
        "versions": {name: sorted(found) for name, found in sorted(versions.items())},
        "hardware": _distinct(records, "hardware"),
        "devices": _distinct(records, "device"),
        "launches": _distinct(records, "launch"),
        "wall_time_s": sum(known) if known else None,
        "wall_time_known": len(known),
        "first_ended_at": ended[0] if ended else None,
        "last_ended_at": ended[-1] if ended else None,
        "digests": [r.result.digest for r in records],
    }


def _distinct(records: Sequence[TrialRecord], name: str) -> list[str]:
    found = {str(r.result.provenance[name]) for r in records if r.result.provenance.get(name) is not None}
    return sorted(found)


def duration(seconds: float | None) -> str:
    """Return a duration as a reader would say it: 42 s, 3.5 min, 2.1 h."""
    if seconds is None:
        return "not recorded"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
