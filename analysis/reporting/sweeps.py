"""Figures of studies whose sizes stay put: a metric against the column that varies, and generated points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.reporting.palette import (
    FAINT,
    INK,
    crowded,
    label,
    log_axis,
    log_spaced,
    method_style,
    new_figure,
    plain,
)
from hyperscale.claims import Claim, is_error
from hyperscale.errors import AnalysisError
from hyperscale.trial import TrialRecord

MAX_PANELS = 10
TRIAL_SHIFT = 0.1
"""How far, in steps of the column, a trial's mark stands beside the mean, so that neither hides the other."""
_FIRST_CHOICES = ("accuracy_weight", "depth", "embedding_dim", "latent_dim", "primary_depth", "steps")
_NEVER = ("lr", "seed")
_BASELINES = {
    "sup_error": (("zero_sup_error", "predicting\nzero"),),
    "rmse": (("zero_rmse", "predicting\nzero"),),
    "test_loss": (("zero_loss", "predicting\nzero"), ("linear_loss", "best linear\nmap of x alone")),
}


def sweep_column(table: pd.DataFrame, claims: Sequence[Claim], settings: Sequence[str]) -> str | None:
    """Return the setting column that a study sweeps other than size and learning rate, or None.

    A column that a claim names comes first, then the usual ones, then any numeric one that varies.
    """
    named = [str(getattr(claim, "at_each", getattr(claim, "along", ""))) for claim in claims]
    for column in [*named, *_FIRST_CHOICES, *settings]:
        if column not in settings or column in _NEVER or column.startswith("num_params"):
            continue
        values = table[column].dropna()
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 1:
            return column
    return None


def plot_sweep(table: pd.DataFrame, column: str, metrics: Sequence[str]) -> Figure:
    """Draw each metric against ``column``: every finished trial faint, the mean over seeds with its spread.

    Where several learning rates were tried, the mean is over the seeds of the one with the best mean.
    """
    finished = table[(table["status"] == "finished") & table[column].notna()]
    shown = [m for m in metrics if m in finished.columns and finished[m].notna().any()]
    if finished.empty or not shown:
        raise AnalysisError(f"No finished trial has {column!r} and one of: {', '.join(metrics)}.")
    methods = [str(method) for method in dict.fromkeys(finished["method"])]
    width = 6.4 if len(shown) == 1 else 4.3 * len(shown)
    figure = new_figure(width, 4.2)
    panels = figure.subplots(1, len(shown), squeeze=False).ravel()
    offsets = _offsets(finished[column].to_numpy(np.float64), len(methods))
    for axes, metric in zip(panels, shown, strict=True):
        for method, offset in zip(methods, offsets, strict=True):
            own = finished[(finished["method"] == method) & finished[metric].notna()]
            _draw_series(axes, own, column, metric, method, offset)
        _finish_panel(axes, finished, column, metric)
    _sweep_legend(figure, methods)
    return figure


def _offsets(values: Any, count: int) -> list[float]:
    """Return small shifts, as parts of a step, that keep the methods' marks apart."""
    return [float(shift) for shift in (np.arange(count) - (count - 1) / 2) * (0.09 if len(values) else 0)]


def _shifted(values: Any, offset: float, distinct: Any) -> Any:
    """Shift positions by a part of the typical step: multiplicatively where they are log-spaced."""
    if len(distinct) < 2:
        return values + offset
    if log_spaced(distinct):
        return values * np.exp(offset * np.median(np.diff(np.log(distinct))))
    return values + offset * np.median(np.diff(distinct))


def _draw_series(axes: Axes, rows: pd.DataFrame, column: str, metric: str, method: str, offset: float) -> None:
    if rows.empty:
        return
    style = method_style(method)
    x, y = rows[column].to_numpy(np.float64), rows[metric].to_numpy(np.float64)
    distinct = np.unique(x)
    faint: dict[str, Any] = {"linestyle": "none", "markersize": 3.6, "markeredgewidth": 0, "alpha": 0.45}
    axes.plot(
        _shifted(x, offset + TRIAL_SHIFT, distinct),
        y,
        marker=style.marker,
        color=style.colour,
        rasterized=crowded(len(x)),
        **faint,
    )
    summary = summarise(rows, column, metric)
    axes.errorbar(
        _shifted(summary[column].to_numpy(np.float64), offset, distinct),
        summary["mean"],
        yerr=summary["spread"].fillna(0.0),
        color=style.colour,
        linestyle=style.dashes,
        linewidth=2,
        marker=style.marker,
        markersize=6.5,
        markeredgecolor="white",
        elinewidth=1.1,
        capsize=2.5,
        zorder=4,
    )


def summarise(rows: pd.DataFrame, column: str, metric: str) -> pd.DataFrame:
    """Return per value of ``column`` the mean and standard deviation over trials of the best learning rate.

    The best learning rate has the lowest mean of an error, or the highest of an accuracy; for other metrics
    all trials are averaged.
    """
    data = pd.DataFrame({column: rows[column], "_value": rows[metric].astype("float64")})
    if "lr" in rows.columns and (is_error(metric) or "accuracy" in metric):
        data["_lr"] = rows["lr"].fillna(-1.0).astype("float64")
        means = data.groupby([column, "_lr"])["_value"].mean().unstack("_lr")
        best = means.idxmin(axis=1) if is_error(metric) else means.idxmax(axis=1)
        data = data[data["_lr"] == data[column].map(best)]
    grouped = data.groupby(column)["_value"]
    summary = pd.DataFrame({"mean": grouped.mean(), "spread": grouped.std(ddof=1), "count": grouped.size()})
    return summary.reset_index()


def _finish_panel(axes: Axes, finished: pd.DataFrame, column: str, metric: str) -> None:
    baselines = [
        (float(finished[name].mean()), text)
        for name, text in _BASELINES.get(metric, ())
        if name in finished.columns and finished[name].notna().any()
    ]
    values = np.append(finished[metric].dropna().to_numpy(np.float64), [height for height, _ in baselines])
    if values.min() > 0 and values.max() / values.min() > 8 and is_error(metric):
        log_axis(axes, "y")
    ticks = sorted({float(v) for v in finished[column]})
    if log_spaced(ticks):
        log_axis(axes, "x", ticks)
    elif len(ticks) <= 12:
        axes.set_xticks(ticks, [plain(v) for v in ticks])
    for height, text in baselines:
        axes.axhline(height, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(text, (1.0, height), xytext=(5, 0), va="center", fontsize=8.5, annotation_clip=False, **beside)
    axes.grid(True, axis="y")
    axes.set_xlabel(label(column))
    axes.set_ylabel(label(metric))


def _sweep_legend(figure: Figure, methods: Sequence[str]) -> None:
    handles = []
    for method in methods:
        style = method_style(method)
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dashes, "marker": style.marker}
        handles.append(Line2D([], [], linewidth=2, markersize=6.5, label=method, **look))
    trial: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4, "alpha": 0.6}
    handles.append(Line2D([], [], color=FAINT, label="each trial (bars: mean ± SD over seeds)", **trial))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=3.2)


def plot_points(records: Sequence[TrialRecord], *, by: str = "accuracy_weight") -> Figure | None:
    """Draw generated two-dimensional points of one seed, one panel a value of ``by``; None without any.

    A record's curve ``mixture_means`` is drawn as crosses in the same panel, which is cropped to their surroundings.
    """
    kept = [
        r
        for r in records
        if r.result.status == "finished" and len(r.result.curves.get("points", [])) == 2 and by in r.columns
    ]
    if not kept:
        return None
    seed = min(r.result.seed for r in kept)
    chosen: dict[float, TrialRecord] = {}
    for record in kept:
        if record.result.seed == seed:
            chosen.setdefault(float(record.columns[by]), record)
    values = sorted(chosen)
    if len(values) > MAX_PANELS:
        values = [values[int(i)] for i in np.linspace(0, len(values) - 1, MAX_PANELS)]
    rows = math.ceil(len(values) / 5)
    columns = math.ceil(len(values) / rows)
    figure = new_figure(2.3 * columns + 0.3, 2.4 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, value in zip(panels, values, strict=False):
        _draw_points(axes, chosen[value])
        axes.set_title(f"{'λ' if by == 'accuracy_weight' else label(by)} = {plain(value)}", loc="left")
    for axes in panels[len(values) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(values) - columns) : len(values)]:
        axes.tick_params(axis="x", labelbottom=True)
    return figure


def _draw_points(axes: Axes, record: TrialRecord) -> None:
    style = method_style(str(record.columns.get("method", "")))
    xs, ys = record.result.curves["points"]
    look: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0, "alpha": 0.45, "color": style.colour}
    axes.plot(xs, ys, marker="o", markersize=2.8, rasterized=crowded(len(xs)), **look)
    if len(record.result.curves.get("mixture_means", [])) == 2:
        means_x, means_y = record.result.curves["mixture_means"]
        axes.plot(means_x, means_y, linestyle="none", marker="x", markersize=5.5, markeredgewidth=1.4, color=INK)
        axes.set_xlim(*_frame(means_x))
        axes.set_ylim(*_frame(means_y))
    axes.set_aspect("equal", adjustable="box")


def _frame(means: Sequence[float]) -> tuple[float, float]:
    """Return limits that show the means and as much again around them; a curve may leave the frame."""
    middle, reach = (min(means) + max(means)) / 2, max(max(means) - min(means), 1.0)
    return middle - reach, middle + reach
