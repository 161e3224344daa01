"""Figures of a scaling study: error against size, exponents beside predictions, training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.exponents.curves import fit_power_law
from analysis.exponents.envelope import Envelope
from analysis.exponents.uncertainty import fit_band
from analysis.judging.verdicts import Verdict
from analysis.reporting.floors import draw_certified, draw_floors
from analysis.reporting.guides import draw_guides, named_slopes, short_theorem
from analysis.reporting.palette import (
    FAINT,
    INK,
    crowded,
    label,
    log_axis,
    method_style,
    new_figure,
    plain,
    shades,
)
from hyperscale.claims import Claim, is_error
from hyperscale.errors import AnalysisError
from hyperscale.trial import TrialRecord

MAX_LINES = 240
_ORDERS = {"upper": "O", "lower": "Ω", "match": "Θ"}
_NOT_TRAINING = ("points", "mixture_means")


def plot_scaling(table: pd.DataFrame, envelopes: Sequence[Envelope], claims: Sequence[Claim] = ()) -> Figure:
    """Draw every finished trial, each method's envelope, its fit with band, and the theorems' slopes.

    Where the table knows them, the per-instance infimum is a line under the curves and the certified bounds are bands
    above them. All ``envelopes`` are of the same metric and size column.
    """
    if not envelopes:
        raise AnalysisError("There is no envelope to draw: no trial has finished.")
    metric, size = envelopes[0].metric, envelopes[0].size
    figure = new_figure(8.4, 5.6)
    axes = figure.add_subplot()
    axes.grid(True, which="major")
    floors = draw_floors(axes, table, envelopes)
    certified = [draw_certified(axes, table, envelope) for envelope in envelopes]
    for envelope in envelopes:
        _draw_trials(axes, table, envelope)
        _draw_fit(axes, envelope)
        _draw_envelope(axes, envelope)
    log_axis(axes, "x", [n for envelope in envelopes for n in envelope.sizes])
    log_axis(axes, "y")
    curves = [(e.sizes, e.values) for e in envelopes]
    draw_guides(axes, [*curves, *floors], named_slopes(claims, metric, size))
    axes.set_xlabel(label(size))
    axes.set_ylabel(label(metric))
    axes.margins(x=0.06)
    _scaling_legend(figure, envelopes, certified=any(certified))
    return figure


def _draw_trials(axes: Axes, table: pd.DataFrame, envelope: Envelope) -> None:
    style = method_style(envelope.method)
    rows = table[(table["method"] == envelope.method) & (table["status"] == "finished")]
    rows = rows[rows[envelope.metric].notna() & rows[envelope.size].notna()]
    values = rows[envelope.metric].to_numpy(np.float64)
    sizes = rows[envelope.size].to_numpy(np.float64)
    shown = values > 0
    axes.plot(
        sizes[shown],
        values[shown],
        linestyle="none",
        marker=style.marker,
        markersize=4.2,
        markeredgewidth=0,
        color=style.colour,
        alpha=0.28,
        zorder=1,
        rasterized=crowded(len(rows)),
    )


def _draw_envelope(axes: Axes, envelope: Envelope) -> None:
    style = method_style(envelope.method)
    axes.plot(
        envelope.sizes,
        envelope.values,
        linestyle=style.dashes,
        linewidth=2.4,
        marker=style.marker,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.8,
        color=style.colour,
        zorder=4,
    )


def _draw_fit(axes: Axes, envelope: Envelope) -> None:
    """Draw the fitted power law and its band; an envelope that allows no fit is drawn without."""
    try:
        fit = fit_power_law(envelope.sizes, envelope.values)
        sizes = np.geomspace(min(envelope.sizes), max(envelope.sizes), 60)
        low, high = fit_band(envelope, sizes)
    except AnalysisError:
        return
    colour = method_style(envelope.method).colour
    axes.fill_between(sizes, low, high, color=colour, alpha=0.13, linewidth=0, zorder=2)
    axes.plot(sizes, fit.predict(sizes), color=colour, linewidth=0.9, zorder=3)


def _scaling_legend(figure: Figure, envelopes: Sequence[Envelope], *, certified: bool) -> None:
    handles: list[Any] = []
    for envelope in envelopes:
        style = method_style(envelope.method)
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dashes, "marker": style.marker}
        handles.append(Line2D([], [], linewidth=2.4, markersize=7, label=envelope.method, **look))
    trial = {"color": FAINT, "linestyle": "none", "marker": "o", "markersize": 4.5, "alpha": 0.6}
    handles.append(Line2D([], [], label="each trial", **trial))  # type: ignore[arg-type]
    handles.append(Line2D([], [], color=FAINT, linewidth=0.9, label="fit, 95 % band"))
    if certified:
        handles.append(Patch(facecolor=FAINT, alpha=0.3, label="up to the certified bound"))
    columns = len(handles) if len(handles) < 6 else math.ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=3.4)


def plot_exponents(verdicts: Sequence[Verdict]) -> Figure:
    """Draw each claimed rate's fitted exponent with its intervals beside the predicted one.

    The shaded side of a prediction is where the claim expects the exponent to lie (tolerance included).
    """
    rates = [verdict for verdict in verdicts if verdict.bound is not None]
    if not rates:
        raise AnalysisError("There is no rate to draw: the study makes no claim about one.")
    figure = new_figure(8.4, 0.9 + 0.85 * len(rates))
    axes = figure.add_subplot()
    reach = _exponent_range(rates)
    for row, verdict in enumerate(rates):
        _draw_prediction(axes, verdict, row, reach)
        _draw_estimate(axes, verdict, row)
    axes.set_xlim(*reach)
    axes.set_ylim(len(rates) - 0.4, -0.6)
    axes.set_yticks(range(len(rates)), [_row_label(verdict) for verdict in rates])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_xlabel("exponent s of error ~ N$^{-s}$ (larger is faster)")
    handles = [
        Line2D([], [], color=INK, linewidth=3, marker="o", label="fitted, 95 % interval"),
        Line2D([], [], color=INK, linewidth=1, label="targets and seeds redrawn"),
        Line2D([], [], color=INK, linewidth=1, linestyle=":", label="scatter of the minima"),
        Line2D([], [], color=INK, linestyle="none", marker="|", markersize=13, label="predicted"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _row_label(verdict: Verdict) -> str:
    order = _ORDERS[verdict.bound or "upper"]
    return f"{verdict.methods[0]}\n{short_theorem(verdict.theorem) or 'predicted'}: {order}"


def _exponent_range(rates: Sequence[Verdict]) -> tuple[float, float]:
    numbers = [verdict.predicted or 0.0 for verdict in rates]
    for verdict in rates:
        numbers += [] if verdict.estimate is None else [verdict.estimate]
        numbers += list(verdict.interval or ())
    # An interval from three points may be enormous; the prediction must stay readable beside it.
    scale = 3 * max([*[v.predicted or 0.0 for v in rates], *[abs(v.estimate or 0.0) for v in rates]])
    low, high = max(min([0.0, *numbers]), -scale), min(max(numbers), scale)
    return low - 0.02 * (high - low), high + 0.12 * (high - low)


def _draw_prediction(axes: Axes, verdict: Verdict, row: int, reach: tuple[float, float]) -> None:
    predicted = verdict.predicted or 0.0
    colour = method_style(verdict.methods[0]).colour
    start = reach[0] if verdict.bound == "lower" else 0.9 * predicted
    end = reach[1] if verdict.bound == "upper" else 1.1 * predicted
    axes.fill_between([start, end], row - 0.33, row + 0.33, color=colour, alpha=0.09, linewidth=0)
    axes.plot([predicted] * 2, [row - 0.33, row + 0.33], color=INK, linewidth=1.8, zorder=3)


def _draw_estimate(axes: Axes, verdict: Verdict, row: int) -> None:
    style = method_style(verdict.methods[0])
    uncertainty = verdict.uncertainty
    if verdict.interval is not None:
        axes.plot(verdict.interval, [row - 0.08] * 2, color=style.colour, linewidth=3.4, zorder=4)
    if uncertainty is not None and uncertainty.bootstrap is not None:
        axes.plot(uncertainty.bootstrap, [row + 0.08] * 2, color=style.colour, linewidth=1.2, zorder=4)
    if uncertainty is not None and uncertainty.regression is not None:
        line = uncertainty.regression
        axes.plot(line, [row + 0.17] * 2, color=style.colour, linewidth=1.2, linestyle=":", zorder=4)
    if verdict.estimate is not None:
        look: dict[str, Any] = {"marker": style.marker, "markersize": 8, "color": style.colour}
        axes.plot([verdict.estimate], [row - 0.08], markeredgecolor="white", zorder=5, **look)
    axes.annotate(
        verdict.verdict if verdict.estimate is not None else f"{verdict.verdict} (no estimate)",
        (1.0, row),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=INK,
        annotation_clip=False,
    )


def plot_training(records: Sequence[TrialRecord], *, shade_by: str, metric: str, curve: str = "train_loss") -> Figure:
    """Draw the training curves of finished trials, one panel a method, darker for larger ``shade_by``.

    At each value of ``shade_by`` the learning rate with the best median of ``metric`` is drawn stronger.
    At most `MAX_LINES` curves a method are drawn, evenly taken from all.
    """
    kept = [r for r in records if r.result.status == "finished" and len(r.result.curves.get(curve, [])) == 2]
    if not kept:
        raise AnalysisError(f"No finished trial has a curve {curve!r}.")
    methods = list(dict.fromkeys(str(r.columns.get("method", "")) for r in kept))
    columns = min(len(methods), 3)
    rows = math.ceil(len(methods) / columns)
    figure = new_figure(max(5.0, 3.4 * columns), 0.4 + 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    positive = all(min(r.result.curves[curve][1], default=1.0) > 0 for r in kept)
    for axes, method in zip(panels, methods, strict=False):
        own = [r for r in kept if str(r.columns.get("method", "")) == method]
        _draw_training_panel(axes, own, method, shade_by=shade_by, metric=metric, curve=curve)
        axes.set_title(method, color=method_style(method).colour, loc="left")
        axes.set_xlabel("step")
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    for axes in panels[: len(methods)]:
        log_axis(axes, "x")
        if positive:
            log_axis(axes, "y")
    for axes in panels[::columns]:
        axes.set_ylabel(label(curve))
    return figure


def training_curve_name(records: Sequence[TrialRecord]) -> str | None:
    """Return ``train_loss`` where it was recorded, else the first other curve over steps, else None."""
    names = {name for r in records for name in r.result.curves} - set(_NOT_TRAINING)
    return "train_loss" if "train_loss" in names else min(names, default=None)


def _draw_training_panel(
    axes: Axes, records: Sequence[TrialRecord], method: str, *, shade_by: str, metric: str, curve: str
) -> None:
    step = math.ceil(len(records) / MAX_LINES)
    values = sorted({float(r.columns[shade_by]) for r in records if shade_by in r.columns})
    tones = dict(zip(values, shades(method, len(values)), strict=True))
    best = _best_lr(records, shade_by, metric)
    lines, colours, widths = [], [], []
    for record in records[::step]:
        steps, losses = record.result.curves[curve]
        value = float(record.columns[shade_by]) if shade_by in record.columns else None
        strong = value not in best or best[value] == record.columns.get("lr")
        lines.append([(s, y) for s, y in zip(steps, losses, strict=True) if s > 0])
        tone = tones[value] if value is not None else method_style(method).colour
        colours.append((*tone, 0.9 if strong else 0.22) if not isinstance(tone, str) else tone)
        widths.append(1.3 if strong else 0.8)
    collection = LineCollection(lines, colors=colours, linewidths=widths, rasterized=crowded(20 * len(lines)))
    axes.add_collection(collection)
    axes.autoscale_view()
    axes.grid(True)
    shown = values if len(values) <= 6 else [values[int(i)] for i in np.linspace(0, len(values) - 1, 5)]
    name = "N" if shade_by.startswith("num_params") else label(shade_by).split()[-1]
    handles = [Line2D([], [], color=tones[v], linewidth=2, label=f"{name} = {plain(v)}") for v in shown]
    if len(values) > 1:
        axes.legend(handles=handles, fontsize=8, loc="lower left", handlelength=1.2, labelspacing=0.25)


def _best_lr(records: Sequence[TrialRecord], shade_by: str, metric: str) -> dict[float | None, Any]:
    """Return, per value of ``shade_by``, the learning rate with the best median of the metric.

    The best is the lowest of an error and the highest of an accuracy; other metrics have no best.
    """
    if not is_error(metric) and "accuracy" not in metric:
        return {}
    sign = 1 if is_error(metric) else -1
    found: dict[float | None, dict[Any, list[float]]] = {}
    for r in records:
        value = float(r.columns[shade_by]) if shade_by in r.columns else None
        if metric in r.result.metrics:
            of_rate = found.setdefault(value, {}).setdefault(r.columns.get("lr"), [])
            of_rate.append(sign * r.result.metrics[metric])
    return {value: min(of, key=lambda lr: float(np.median(of[lr]))) for value, of in found.items()}


def varies_in_size(table: pd.DataFrame, size: str = "num_params_primary") -> bool:
    """Whether some method was trained at three or more sizes, so that error against size is a curve."""
    if size not in table.columns or table.empty:
        return False
    return int(table.groupby("method")[size].nunique().max()) >= 3
