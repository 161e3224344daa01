"""One figure per claimed rate: envelope and fit, residuals, local slopes, and how the exponent hangs on choices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.exponents.envelope import Envelope
from analysis.exponents.uncertainty import fit_band
from analysis.judging.verdicts import Verdict
from analysis.reporting.evidence import Evidence
from analysis.reporting.palette import FAINT, INK, MethodStyle, label, log_axis, method_style, new_figure
from hyperscale.errors import AnalysisError

_ORDER = {"upper": "O", "lower": "Ω", "match": "Θ"}


def plot_evidence(verdict: Verdict, evidence: Evidence) -> Figure:
    """Draw the evidence behind a verdict on a rate, in four panels. Raises `AnalysisError` where there is no fit."""
    if verdict.envelope is None or verdict.fit is None or not evidence.sizes:
        raise AnalysisError(f"There is no fit to draw for the claim {verdict.claim!r}.")
    style = method_style(verdict.methods[0])
    rows = len(evidence.sensitivity)
    figure = new_figure(8.4, max(6.0, 3.4 + 0.26 * rows))
    grid = figure.add_gridspec(2, 2, height_ratios=[3.0, max(2.4, 0.26 * rows)])
    top, slopes = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    below, forest = figure.add_subplot(grid[1, 0], sharex=top), figure.add_subplot(grid[1, 1])
    _draw_envelope(top, verdict, verdict.envelope, style)
    _draw_residuals(below, verdict, evidence, style)
    _draw_local_slopes(slopes, verdict, evidence, style)
    _draw_forest(forest, verdict, evidence, style)
    return figure


def _draw_envelope(axes: Axes, verdict: Verdict, envelope: Envelope, style: MethodStyle) -> None:
    """Draw the envelope, its power law with band, and the theorem's slope through the middle of the data."""
    assert verdict.fit is not None
    sizes = np.geomspace(min(envelope.sizes), max(envelope.sizes), 60)
    low, high = fit_band(envelope, sizes)
    axes.fill_between(sizes, low, high, color=style.colour, alpha=0.14, linewidth=0)
    axes.plot(sizes, verdict.fit.predict(sizes), color=style.colour, linewidth=1.2)
    look: dict[str, Any] = {"marker": style.marker, "color": style.colour, "markeredgecolor": "white"}
    axes.plot(envelope.sizes, envelope.values, linestyle="none", markersize=7, zorder=4, **look)
    if verdict.predicted is not None:
        middle = math.exp(verdict.fit.mean_log_size)
        theorem = verdict.fit.predict([middle])[0] * (sizes / middle) ** -verdict.predicted
        axes.plot(sizes, theorem, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=3)
        order = _ORDER.get(verdict.bound or "", "")
        axes.annotate(
            f"{order}(N$^{{-{verdict.predicted:.3g}}}$)",
            (float(sizes[-1]), float(theorem[-1])),
            xytext=(-2, -3),
            textcoords="offset points",
            fontsize=9.5,
            color=INK,
            va="top",
            ha="right",
        )
        axes.update_datalim([(float(sizes[-1]), float(theorem[-1]) * 0.72)])
        axes.autoscale_view()
    log_axis(axes, "y")
    log_axis(axes, "x", envelope.sizes)
    axes.tick_params(axis="x", labelbottom=False)
    axes.grid(True)
    axes.set_ylabel(label(envelope.metric))
    axes.set_title("Envelope and fit")


def _draw_residuals(axes: Axes, verdict: Verdict, evidence: Evidence, style: MethodStyle) -> None:
    """Draw what is left of each size's minimum after the fit, and every seed's best above it."""
    assert verdict.envelope is not None
    axes.axhline(0, color=INK, linewidth=0.8)
    for size, seeds in zip(evidence.sizes, evidence.seed_residuals, strict=True):
        axes.plot([size] * len(seeds), seeds, "o", markersize=3.4, color=FAINT, alpha=0.6, markeredgewidth=0)
    axes.vlines(evidence.sizes, 0, evidence.residuals, color=style.colour, linewidth=1.6)
    axes.plot(
        evidence.sizes, evidence.residuals, style.marker, color=style.colour, markersize=6, markeredgecolor="white"
    )
    axes.grid(True, axis="y")
    axes.set_xlabel(label(verdict.envelope.size))
    axes.set_ylabel("log residual")
    axes.set_title("Residuals (grey: each seed)")


def _draw_local_slopes(axes: Axes, verdict: Verdict, evidence: Evidence, style: MethodStyle) -> None:
    """Draw the exponent of each window of sizes with its interval, beside the theorem's and the whole's."""
    if verdict.predicted is not None:
        axes.axhline(verdict.predicted, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    if verdict.interval is not None:
        axes.axhspan(*verdict.interval, color=style.colour, alpha=0.12, linewidth=0)
    for slope in evidence.local_slopes:
        axes.plot([slope.first, slope.last], [slope.exponent] * 2, color=style.colour, linewidth=1, alpha=0.55)
        if slope.interval is not None:
            axes.plot([slope.size] * 2, slope.interval, color=style.colour, linewidth=2)
        axes.plot(slope.size, slope.exponent, style.marker, color=style.colour, markersize=7, markeredgecolor="white")
    log_axis(axes, "x", evidence.sizes)
    low, high = _reach(
        verdict, [s.exponent for s in evidence.local_slopes], [s.interval for s in evidence.local_slopes]
    )
    axes.set_ylim(low, high)
    axes.grid(True, axis="y")
    assert verdict.envelope is not None
    axes.set_xlabel(label(verdict.envelope.size))
    axes.set_ylabel("exponent over the window")
    axes.set_title("Local exponents")


def _draw_forest(axes: Axes, verdict: Verdict, evidence: Evidence, style: MethodStyle) -> None:
    """Draw the exponent under each choice of window, estimator and model, one row a choice."""
    if verdict.predicted is not None:
        axes.axvline(verdict.predicted, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    if verdict.interval is not None:
        axes.axvspan(*verdict.interval, color=style.colour, alpha=0.12, linewidth=0)
    rows = evidence.sensitivity
    reach = _reach(verdict, [r.estimate for r in rows], [r.interval for r in rows])
    for place, row in enumerate(rows):
        if row.estimate is None:
            at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "zorder": 5}
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            axes.annotate(row.note.split(":")[0], (0.02, place), fontsize=8, color="#666666", bbox=paper, **at)
            continue
        if row.interval is not None:
            axes.plot(row.interval, [place] * 2, color=style.colour, linewidth=2.6 if place == 0 else 1.6)
        axes.plot(row.estimate, place, style.marker, color=style.colour, markersize=6.5, markeredgecolor="white")
    starts = [i for i, row in enumerate(rows) if i and row.kind != rows[i - 1].kind]
    for start in starts:
        axes.axhline(start - 0.5, color="#d0d0d0", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.choice for row in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(*reach)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_xlabel("exponent")
    axes.set_title("Sensitivity")


def _reach(verdict: Verdict, estimates: list[float | None], intervals: list[Any]) -> tuple[float, float]:
    """Return limits that hold estimates and the prediction, and of wild intervals as much as leaves these legible."""
    centres = [value for value in estimates if value is not None]
    centres += [verdict.predicted] if verdict.predicted is not None else []
    centres += list(verdict.interval or ())
    low, high = min(centres), max(centres)
    spread = max(high - low, 0.2 * max(abs(high), abs(low)), 0.05)
    ends = [end for interval in intervals if interval is not None for end in interval]
    low, high = max(min([low, *ends]), low - spread), min(max([high, *ends]), high + spread)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)
