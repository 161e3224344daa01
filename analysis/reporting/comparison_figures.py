"""Figures of several studies: exponents in a forest, envelopes of one method side by side; a colour a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.exponents.curves import fit_power_law
from analysis.exponents.uncertainty import fit_band
from analysis.reporting.exponent_differences import CurveRow, StudyCurve
from analysis.reporting.guides import short_theorem
from analysis.reporting.palette import INK, MethodStyle, label, log_axis, new_figure
from hyperscale.errors import AnalysisError

_ORDERS = {"upper": "O", "lower": "Ω"}
# Paul Tol's muted colours, told apart by colour-blind readers and unlike the colours of the methods.
_STUDIES = (
    MethodStyle(colour="#332288", marker="o", dashes="-"),
    MethodStyle(colour="#CC6677", marker="s", dashes=(0, (5, 1.6))),
    MethodStyle(colour="#117733", marker="D", dashes=(0, (1.4, 1.2))),
    MethodStyle(colour="#AA4499", marker="^", dashes=(0, (6, 1.5, 1.2, 1.5))),
    MethodStyle(colour="#999933", marker="v", dashes=(0, (3, 1, 1, 1, 1, 1))),
    MethodStyle(colour="#44AA99", marker="P", dashes=(0, (8, 2))),
    MethodStyle(colour="#882255", marker="X", dashes=(0, (2, 2))),
)


def study_style(index: int) -> MethodStyle:
    """Return the look of the study given at place ``index`` (from 0); after seven they begin again."""
    return _STUDIES[index % len(_STUDIES)]


def plot_forest(rows: Sequence[CurveRow], names: Sequence[str]) -> Figure:
    """Draw the exponent of every method and study with its interval, and the theorems' rates as upright ticks.

    All rows share metric and size column.
    """
    entries = [
        (row, index, curve)
        for row in rows
        for index, curve in enumerate(row.curves)
        if curve is not None and curve.uncertainty is not None
    ]
    if not entries:
        raise AnalysisError("There is no exponent to draw: no study has a method at two or more sizes.")
    places = _places([row for row, _, _ in entries])
    figure = new_figure(8.4, 0.95 + 0.36 * (places[-1] + 1))
    axes = figure.add_subplot()
    low, high = _reach([curve for _, _, curve in entries])
    for (_, index, curve), place in zip(entries, places, strict=True):
        _draw_rates(axes, curve, place, (low, high))
        _draw_exponent(axes, curve, index, place, (low, high))
    _label_groups(axes, [row for row, _, _ in entries], places)
    axes.set_xlim(low, high)
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.set_yticks(places, [names[index] for _, index, _ in entries])
    axes.tick_params(axis="y", length=0, pad=9)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_xlabel("exponent s of error ~ N$^{-s}$ (larger is faster)")
    handles = [
        Line2D([], [], color=INK, linewidth=3, marker="o", label="fitted, 95 % interval"),
        Line2D([], [], color=INK, linestyle="none", marker="|", markersize=13, label="a theorem's rate"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _places(rows: Sequence[CurveRow]) -> list[float]:
    """Return the height of each entry: one step a study, and room for a heading where the row changes."""
    places, place = [], 0.3
    for index, row in enumerate(rows):
        if index:
            place += 1.0 if row is rows[index - 1] else 2.1
        places.append(place)
    return places


def _reach(curves: Sequence[StudyCurve]) -> tuple[float, float]:
    """Return the range of exponents drawn: all estimates and rates, and intervals as far as stays readable."""
    centres = [c.uncertainty.estimate for c in curves if c.uncertainty] + [r.exponent for c in curves for r in c.rates]
    ends = [end for c in curves if c.uncertainty and c.uncertainty.interval for end in c.uncertainty.interval]
    scale = max(abs(centre) for centre in centres)
    low = max(min([0.0, *centres, *ends]), min([-0.3 * scale, *centres]))
    high = min(max([*centres, *ends]), 1.5 * scale)
    return low - 0.02 * (high - low), high + 0.06 * (high - low)


def _draw_rates(axes: Axes, curve: StudyCurve, place: float, reach: tuple[float, float]) -> None:
    """Draw each claimed rate as a tick, shaded on the side where the claim places the exponent (10 % tolerance)."""
    for rate in curve.rates:
        start = reach[0] if rate.bound == "lower" else 0.9 * rate.exponent
        end = reach[1] if rate.bound == "upper" else 1.1 * rate.exponent
        axes.fill_between([start, end], place - 0.4, place + 0.4, color=INK, alpha=0.06, linewidth=0)
        axes.plot([rate.exponent] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.8, zorder=3)


def _draw_exponent(axes: Axes, curve: StudyCurve, index: int, place: float, reach: tuple[float, float]) -> None:
    style, sure = study_style(index), curve.uncertainty
    assert sure is not None
    text = f"{sure.estimate:.2f}"
    if sure.interval is not None:
        ends = np.clip(sure.interval, *reach)
        axes.plot(ends, [place] * 2, color=style.colour, linewidth=3.2, zorder=4, solid_capstyle="butt")
        text += f" ({sure.interval[0]:.2f} to {sure.interval[1]:.2f})"
        for end, given, marker in zip(ends, sure.interval, "<>", strict=True):
            if end != given:
                axes.plot([end], [place], marker=marker, color=style.colour, markersize=7, clip_on=False, zorder=5)
    look: dict[str, Any] = {"marker": style.marker, "markersize": 7.5, "color": style.colour}
    axes.plot([sure.estimate], [place], markeredgecolor="white", zorder=5, **look)
    axes.annotate(
        text.replace("-", "−"), (1.0, place), xycoords=("axes fraction", "data"), xytext=(8, 0),
        textcoords="offset points", va="center", fontsize=8.5, color=INK, annotation_clip=False,
    )  # fmt: skip


def _label_groups(axes: Axes, rows: Sequence[CurveRow], places: Sequence[float]) -> None:
    """Write the method, and its theorems, over the first entry of each row."""
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        if index and row is rows[index - 1]:
            continue
        rates = [rate for curve in row.curves if curve is not None for rate in curve.rates]
        words = dict.fromkeys(
            f"{short_theorem(r.theorem) or 'predicted'}: {_ORDERS.get(r.bound, 'Θ')}, {r.exponent:.3g}" for r in rates
        )
        axes.annotate(
            "   ".join([row.method, *words]), (0.0, place - 0.62), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9, fontweight="bold", color=INK,
        )  # fmt: skip


def plot_envelopes(rows: Sequence[CurveRow], names: Sequence[str]) -> Figure:
    """Draw the envelopes of all studies, a panel a method, with their fits; all rows share metric and size column."""
    if not rows:
        raise AnalysisError("There is no envelope to draw: no trial has finished.")
    columns = 2 if len(rows) == 4 else min(len(rows), 3)
    height = math.ceil(len(rows) / columns)
    figure = new_figure(8.4 if columns > 1 else 5.8, 0.6 + (3.4 if columns > 1 else 4.2) * height)
    panels = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, row in zip(panels, rows, strict=False):
        axes.grid(True, which="major")
        for index, curve in enumerate(row.curves):
            if curve is not None:
                _draw_curve(axes, curve, index)
        axes.set_title(row.method, loc="left")
        axes.set_xlabel(label(row.size) if columns < 3 else "N")
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    sizes = [n for row in rows for curve in row.curves if curve is not None for n in curve.envelope.sizes]
    values = [v for row in rows for curve in row.curves if curve is not None for v in curve.envelope.values]
    for axes in panels[: len(rows)]:
        log_axis(axes, "x", None if columns > 1 else sizes)
        if min(values) > 0:
            log_axis(axes, "y")
            # The band of a fit through three points may be enormous; the curves must stay readable beside it.
            axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel(label(rows[0].metric))
    handles = []
    for index, name in enumerate(names):
        style = study_style(index)
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dashes, "marker": style.marker}
        handles.append(Line2D([], [], linewidth=2.2, markersize=6.5, label=name, **look))
    handles.append(Line2D([], [], color=INK, linewidth=0.9, label="fit, 95 % band"))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), handlelength=3.2)
    return figure


def _draw_curve(axes: Axes, curve: StudyCurve, index: int) -> None:
    style, envelope = study_style(index), curve.envelope
    try:
        fit = fit_power_law(envelope.sizes, envelope.values)
        sizes = np.geomspace(min(envelope.sizes), max(envelope.sizes), 60)
        low, high = fit_band(envelope, sizes)
        axes.fill_between(sizes, low, high, color=style.colour, alpha=0.12, linewidth=0, zorder=2)
        axes.plot(sizes, fit.predict(sizes), color=style.colour, linewidth=0.9, zorder=3)
    except AnalysisError:
        pass  # an envelope that allows no fit is drawn without one
    axes.plot(
        envelope.sizes, envelope.values, linestyle=style.dashes, linewidth=2.0, marker=style.marker, markersize=6,
        markeredgecolor="white", markeredgewidth=0.8, color=style.colour, zorder=4,
    )  # fmt: skip
