"""Figures of fits to tables: points, curve with prediction band, what was held out, and residuals below."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.fits.models import Floats
from analysis.fits.table_records import FitRecord, Points
from analysis.reporting.palette import FAINT, INK, crowded, drawing, label, method_style, new_figure, plain
from hyperscale.errors import AnalysisError

MAX_PANELS = 24
_WITH_RESIDUALS = 12
FIT, HELD_OUT, ASKED = (method_style(name).colour for name in ("Hypernetwork", "Embedding", "PerInstance"))
NUM_ISO = 5


def plot_fits(records: Sequence[FitRecord], *, x: str, y: str, x2: str | None = None) -> Figure:
    """Draw fits: one large with residuals below, a panel for each of several groups, at most 24 of them.

    With two sizes: y against x in lines of equal x2, and predicted against observed. Axes are logarithmic, for which
    ``x``, ``y`` and ``x2`` are the labels. Raises `AnalysisError` where no record has a fit.
    """
    fitted = [record for record in records if record.fit is not None]
    if not fitted:
        raise AnalysisError("There is no fit to draw: no group could be fitted.")
    with drawing("fit"):
        if len(records) > 1:
            return _plot_groups(fitted, x, y, x2)
        figure = new_figure(11.0, 6.0) if x2 is not None else new_figure(7.8, 6.4)
        whole = figure.add_gridspec(1, 1)[0]
        if x2 is not None:
            _draw_two_sizes(figure, fitted[0], whole, (x, y, x2))
        else:
            main, below = _draw_cell(figure, fitted[0], whole, residuals=True)
            _label_cell(main, below, x, y)
        _legend(figure, fitted, lines_of_x2=x2 is not None)
    return figure


def _plot_groups(fitted: Sequence[FitRecord], x: str, y: str, x2: str | None) -> Figure:
    """Draw one cell a group."""
    shown = fitted[:MAX_PANELS]
    columns = len(shown) if len(shown) <= 3 else min(4, math.ceil(math.sqrt(len(shown))))
    lines = math.ceil(len(shown) / columns)
    below = len(shown) <= _WITH_RESIDUALS
    figure = new_figure(max(3.3 * columns, 7.0), (3.5 if below else 2.6) * lines + 0.7)
    grid = figure.add_gridspec(lines, columns)
    for place, record in enumerate(shown):
        row, column = divmod(place, columns)
        if x2 is not None:
            axes = figure.add_subplot(grid[row, column])
            _draw_agreement(axes, record, y)
            axes.set_title(_title(record), fontsize=9)
            continue
        main, residual = _draw_cell(figure, record, grid[row, column], residuals=below, few=True)
        main.set_title(_title(record), fontsize=9)
        _label_cell(main, residual, x if place + columns >= len(shown) else "", y if column == 0 else "")
    _legend(figure, shown, lines_of_x2=False)
    note = "± one standard error"
    if len(fitted) > len(shown):
        note = f"the first {len(shown)} of {len(fitted)} groups; {note}"
    figure.suptitle(note, fontsize=8.5, color=FAINT, x=0.99, ha="right")
    return figure


def _title(record: FitRecord) -> str:
    """Return a group's values and its exponent."""
    assert record.fit is not None
    name = " · ".join(str(value) for value in record.group.values())
    exponent = record.exponent
    if exponent is None:
        return f"{name}\n{record.fit.model.replace('_', ' ')}"
    if record.status != "converged":
        return f"{name}\nexponent {exponent.estimate:.3g}, {record.status.replace('_', ' ')}"
    # One digit, without an exponent of ten: 0.003, 4, 10.
    spread = "" if exponent.standard_error is None else f" ± {float(f'{exponent.standard_error:.1g}'):g}"
    return f"{name}\nexponent {exponent.estimate:.3g}{spread}"


def _draw_cell(
    figure: Figure, record: FitRecord, place: SubplotSpec, *, residuals: bool, few: bool = False
) -> tuple[Axes, Axes | None]:
    """Draw one fit of one size, with its residuals below."""
    if not residuals:
        axes = figure.add_subplot(place)
        _draw_fit(axes, record, few=few)
        return axes, None
    split = GridSpecFromSubplotSpec(2, 1, place, height_ratios=(3.2, 1), hspace=0.0)
    main = figure.add_subplot(split[0])
    below = figure.add_subplot(split[1], sharex=main)
    _draw_fit(main, record, few=few)
    main.tick_params(axis="x", labelbottom=False)
    _draw_residuals(below, record)
    return main, below


def _label_cell(main: Axes, below: Axes | None, x: str, y: str) -> None:
    main.set_ylabel(label(y))
    (main if below is None else below).set_xlabel(label(x))
    if below is not None and y:
        below.set_ylabel("residual\n(log)", fontsize=9)


def _draw_fit(axes: Axes, record: FitRecord, *, few: bool) -> None:
    """Draw points, curve and band, rows held out, and predictions."""
    assert record.fit is not None
    axes.grid(True, which="major")
    points, held_out, asked = record.points, record.held_out, _drawable(record.asked)
    reach = [points.x] + ([held_out.points.x] if held_out else []) + ([asked.x] if asked else [])
    every = np.concatenate(reach)
    grid = np.geomspace(every.min(), every.max(), 160)
    band = record.predict(Points(x=grid, y=np.full_like(grid, np.nan)))
    if np.isfinite(band.low).all() and np.isfinite(band.high).all():
        axes.fill_between(grid, band.low, band.high, color=FIT, alpha=0.14, linewidth=0, zorder=1)
    inside = grid <= points.x.max()
    axes.plot(grid[inside], band.y[inside], color=FIT, linewidth=1.8, zorder=4)
    if not inside.all():
        beyond = grid >= grid[inside][-1]
        axes.plot(grid[beyond], band.y[beyond], color=FIT, linewidth=1.8, linestyle=(0, (4, 1.6)), zorder=4)
    size = 5.5 if len(points) <= 60 else 3.6
    axes.plot(points.x, points.y, **_dots(INK, size, len(points)), zorder=3)
    shown = [points.y]
    if held_out is not None:
        axes.plot(held_out.points.x, held_out.points.y, **_rings(HELD_OUT, size, len(held_out.points)), zorder=5)
        shown.append(held_out.points.y)
    if asked is not None:
        interval = record.predict(asked)
        if np.isfinite(interval.low).all():
            axes.vlines(asked.x, interval.low, interval.high, color=ASKED, linewidth=1.4, zorder=5)
        axes.plot(asked.x, asked.y, linestyle="none", marker="D", markersize=6, color=ASKED, zorder=6)
        shown.append(asked.y)
    _log_ticks(axes, "x", every, few=few)
    seen = np.concatenate([*shown, band.y])
    _log_ticks(axes, "y", seen, few=few)
    # A band that opens wide must not press the data flat: it is cut at thrice the data's reach.
    bottom, top = map(float, axes.get_ylim())
    axes.set_ylim(max(bottom, float(seen.min()) / 3), min(top, float(seen.max()) * 3))


def _drawable(asked: Points | None) -> Points | None:
    """Return the predictions that an axis has room for: those so far off that y leaves 1e-99 to 1e99 are not drawn."""
    if asked is None:
        return None
    kept = asked.where((asked.y > 1e-99) & (asked.y < 1e99))
    return kept if len(kept) else None


def _dots(colour: str, size: float, count: int) -> dict[str, Any]:
    faint = {"alpha": 0.75 if count <= 60 else 0.45, "rasterized": crowded(count)}
    return {"linestyle": "none", "marker": "o", "markersize": size, "markeredgewidth": 0, "color": colour, **faint}


def _rings(colour: str, size: float, count: int) -> dict[str, Any]:
    """Return the look of rows held out: rings, or faint dots where rings would run into each other."""
    if count > 60:
        return _dots(colour, min(size, 3.2), count)
    return {"linestyle": "none", "marker": "o", "markersize": size, "markerfacecolor": "white",
            "markeredgecolor": colour, "markeredgewidth": 1.3}  # fmt: skip


def _draw_residuals(axes: Axes, record: FitRecord) -> None:
    """Draw log residuals, observed less fitted, of the fitted rows and of those held out."""
    assert record.fit is not None
    size = 4.0 if len(record.points) <= 60 else 2.8
    axes.axhline(0.0, color=FIT, linewidth=1.2, zorder=2)
    axes.grid(True, axis="y")
    residuals = np.log(record.points.y / record.predict(record.points).y)
    shown = [residuals]
    axes.plot(record.points.x, residuals, **_dots(INK, size, len(record.points)), zorder=3)
    if record.held_out is not None:
        misses = np.log(record.held_out.points.y / record.held_out.prediction.y)
        axes.plot(record.held_out.points.x, misses, **_rings(HELD_OUT, size, len(misses)), zorder=3)
        shown.append(misses)
    # Residuals of rounding size are no pattern: the axis spans at least a thousandth of a per cent.
    reach = max(1.15 * float(np.abs(np.concatenate(shown)).max()), 1e-5)
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}".replace("-", "−")))


def _draw_two_sizes(figure: Figure, record: FitRecord, place: SubplotSpec, names: tuple[str, str, str]) -> None:
    """Draw y against x in lines of equal x2, residuals below it, and predicted against observed beside it."""
    x, y, x2 = names
    assert record.points.x2 is not None
    split = GridSpecFromSubplotSpec(2, 2, place, height_ratios=(3.2, 1), width_ratios=(1.15, 1))
    main = figure.add_subplot(split[0, 0])
    below = figure.add_subplot(split[1, 0], sharex=main)
    shades = ScalarMappable(
        LogNorm(record.points.x2.min(), record.points.x2.max()), sns.color_palette("crest", as_cmap=True)
    )
    _draw_lines_of_x2(main, record, shades)
    _draw_residuals(below, record)
    main.tick_params(axis="x", labelbottom=False)
    _label_cell(main, below, x, y)
    beside = figure.add_subplot(split[:, 1])
    _draw_agreement(beside, record, y, shades)
    beside.set_title("fitted against observed", fontsize=9.5)
    main.set_title(f"lines of equal {label(x2)}", fontsize=9.5)
    bar = figure.colorbar(shades, ax=main, pad=0.01, aspect=34)
    bar.set_label(label(x2))
    bar.outline.set_visible(False)


def _draw_lines_of_x2(axes: Axes, record: FitRecord, shades: ScalarMappable) -> None:
    """Draw the fitted curve over x at five values of x2, and the points in the same colours."""
    fit, points = record.fit, record.points
    assert fit is not None
    assert points.x2 is not None
    axes.grid(True, which="major")
    grid = np.geomspace(points.x.min(), points.x.max(), 120)
    low, high = np.quantile(points.x2, [0.03, 0.97])
    for value in np.geomspace(low, high, NUM_ISO):
        axes.plot(grid, fit.predict(grid, np.full_like(grid, value)), color=shades.to_rgba(value), linewidth=1.6)
    axes.scatter(points.x, points.y, color=shades.to_rgba(points.x2), s=14, linewidths=0, zorder=3)
    shown = [points]
    if record.held_out is not None:
        shown.append(record.held_out.points)
        axes.plot(shown[-1].x, shown[-1].y, **_rings(HELD_OUT, 4.5, len(shown[-1])), zorder=4)
    asked = _drawable(record.asked)
    if asked is not None:
        shown.append(asked)
        axes.plot(shown[-1].x, shown[-1].y, linestyle="none", marker="D", markersize=6, color=ASKED, zorder=5)
    _log_ticks(axes, "x", np.concatenate([part.x for part in shown]))
    _log_ticks(axes, "y", np.concatenate([part.y for part in shown]))


def _draw_agreement(axes: Axes, record: FitRecord, y: str, shades: ScalarMappable | None = None) -> None:
    """Draw predicted against observed, with the line where they agree; rows held out as rings."""
    assert record.fit is not None
    points = record.points
    fitted = record.fit.predict(points.x, points.x2)
    ends = [points.y, fitted]
    axes.grid(True, which="major")
    if shades is None or points.x2 is None:
        axes.plot(points.y, fitted, **_dots(INK, 3.6, len(points)), zorder=3)
    else:
        axes.scatter(points.y, fitted, color=shades.to_rgba(points.x2), s=14, linewidths=0, zorder=3)
    if record.held_out is not None:
        axes.plot(
            record.held_out.points.y, record.held_out.prediction.y, **_rings(HELD_OUT, 4.5, len(points)), zorder=4
        )
        ends += [record.held_out.points.y, record.held_out.prediction.y]
    span = np.array([np.concatenate(ends).min(), np.concatenate(ends).max()])
    axes.plot(span, span, color=FIT, linewidth=1.4, zorder=2)
    _log_ticks(axes, "x", span, few=shades is None)
    _log_ticks(axes, "y", span, few=shades is None)
    axes.set_aspect("equal")
    axes.set_xlabel(f"observed {label(y)}")
    axes.set_ylabel(f"fitted {label(y)}")


def _legend(figure: Figure, records: Sequence[FitRecord], *, lines_of_x2: bool) -> None:
    """Say above the figure what is drawn, only of what there is."""
    first = records[0]
    dot: Mapping[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5.5}
    handles: list[Any] = [Line2D([], [], color=INK, alpha=0.75, markeredgewidth=0, **dot, label="observed")]
    name = _fit_label(first) if len(records) == 1 else "fit"
    handles.append(Line2D([], [], color=FIT, linewidth=1.8, label=name))
    if not lines_of_x2:
        handles.append(Patch(color=FIT, alpha=0.14, linewidth=0, label=f"{100 * first.level:g} % of new points"))
    held_out = [len(record.held_out.points) for record in records if record.held_out is not None]
    if held_out:
        handles.append(Line2D([], [], **_rings(HELD_OUT, 5.5, min(held_out)), label="held out"))
    if any(record.asked is not None for record in records):
        handles.append(Line2D([], [], linestyle="none", marker="D", markersize=6, color=ASKED, label="predicted"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.8, columnspacing=1.4)


def _fit_label(record: FitRecord) -> str:
    """Return the equation, or the model's name where that is too long for a legend; of an average how many models."""
    assert record.fit is not None
    if record.average is not None and record.averaged:
        return f"average of {len(record.average.members)} models"
    if len(record.equation) > 48:
        return record.fit.model.replace("_", " ")
    return re.sub(r"\^(-?[\d.e+-]+)", lambda match: f"$^{{{match.group(1)}}}$", record.equation).replace("x2", "x$_2$")


def _log_ticks(axes: Axes, which: str, values: Floats, *, few: bool = False) -> None:
    """Make an axis logarithmic with a handful of ticks: evenly placed numbers, 1-2-5 or powers of ten, by its width."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    low, high = float(values.min()), float(values.max())
    ratio = high / low
    if ratio < 5:
        axis.set_major_locator(MaxNLocator(4 if few else 6, steps=[1, 2, 2.5, 5, 10]))
    else:
        steps = (1.0, 2.0, 3.0, 5.0, 7.0) if ratio < 12 else (1.0, 2.0, 5.0) if ratio < (25 if few else 90) else (1.0,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    powers = high >= 1e6 or low < 1e-3
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_ten(value) if powers else plain(value)))


def _power_of_ten(value: float) -> str:
    """Return a tick's number with a power of ten."""
    if value <= 0:
        return ""
    power = math.floor(math.log10(value) + 1e-9)
    digits = value / 10.0**power
    ten = f"10$^{{{power}}}$"
    return ten if abs(digits - 1) < 1e-6 else f"{digits:.3g}·{ten}"
