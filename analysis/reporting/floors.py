"""What no network can go below and what an error cannot be above: infima under the curves, certified bounds over them.

``per_instance_infimum`` is a lower bound on what any primary network of the size errs on the worst instance,
``per_instance_reached`` what some network does err; between them lies the per-instance infimum. ``<metric>_bound`` is
a certified upper bound on a trained network's error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.exponents.envelope import Envelope
from analysis.exponents.target_keys import target_key
from analysis.reporting.palette import method_style

INFIMUM, REACHED = "per_instance_infimum", "per_instance_reached"
_METRIC = "sup_error"
_NEUTRAL = "#5c5c5c"
Curve = tuple[Sequence[float], Sequence[float]]


def draw_floors(axes: Axes, table: pd.DataFrame, envelopes: Sequence[Envelope]) -> list[Curve]:
    """Draw the per-instance infimum of each size, a band where it is only bracketed; return the lines (sizes, values).

    Methods with the same sizes have one line, the larger of theirs: both bound what no network of that size can beat,
    at the instances that were asked. At each size it is that of the worst target, as an envelope is.
    """
    found: dict[tuple[float, ...], list[pd.Series]] = {}
    owners: dict[tuple[float, ...], str] = {}
    for envelope in envelopes:
        low, high = (_worst(table, envelope, name, of_trials="max") for name in (INFIMUM, REACHED))
        line = low if len(low) > 1 else high
        if envelope.metric != _METRIC or len(line) < 2:
            continue
        key = tuple(line.index)
        earlier = found.setdefault(key, [line, high])
        found[key] = [old.combine(new, max) for old, new in zip(earlier, (line, high), strict=True)]
        owners.setdefault(key, envelope.method)
    drawn: list[Curve] = []
    for key, (line, high) in found.items():
        sizes = np.array(key)
        if line.index.equals(high.index):
            axes.fill_between(sizes, line, high, color=_NEUTRAL, alpha=0.25, linewidth=0, zorder=1.5)
        axes.plot(sizes, line, color=_NEUTRAL, linewidth=1.1, zorder=1.6)
        owner = f"\nat {owners[key]}'s sizes" if drawn else ""
        # Beside the axes, where no guide can be; the layout makes room for it.
        axes.annotate(
            f"per-instance\ninfimum{owner}", (sizes[-1], line.iloc[-1]), xytext=(1.005, line.iloc[-1]),
            textcoords=("axes fraction", "data"), ha="left", va="center", fontsize=8.5, color=_NEUTRAL,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": _NEUTRAL, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5},
        )  # fmt: skip
        drawn.append((list(sizes), list(line)))
    return drawn


def draw_certified(axes: Axes, table: pd.DataFrame, envelope: Envelope) -> bool:
    """Draw the band from the envelope up to the least certified bound of each size; return whether there is any."""
    bounds = _worst(table, envelope, f"{envelope.metric}_bound", of_trials="min")
    values = pd.Series(envelope.values, index=pd.Index(envelope.sizes, dtype="float64"))
    shared = bounds.index.intersection(values.index)
    if len(shared) < 2:
        return False
    colour = method_style(envelope.method).colour
    axes.fill_between(
        shared.to_numpy(np.float64), values[shared], bounds[shared], color=colour, alpha=0.2, linewidth=0, zorder=1.8
    )
    return True


def _worst(table: pd.DataFrame, envelope: Envelope, name: str, *, of_trials: str) -> pd.Series:
    """Return a column by size, positive values only: over trials the ``max`` or ``min``, over targets the largest."""
    empty = pd.Series(dtype="float64")
    if name not in table.columns:
        return empty
    rows = table[(table["method"] == envelope.method) & (table["status"] == "finished") & table[envelope.size].notna()]
    rows = rows.assign(_target=target_key(rows, envelope.size), _value=pd.to_numeric(rows[name], errors="coerce"))
    each = rows.groupby([rows[envelope.size].astype("float64"), "_target"])["_value"].agg(of_trials)
    by_size = each.groupby(level=0)
    found = by_size.max()[by_size.count() == by_size.size()].astype("float64")
    return found[found > 0]
