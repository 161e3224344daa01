"""How a method looks: one colour, one marker and one line style each, in every figure of every report.

The colours are those of Okabe and Ito, told apart by colour-blind readers; marker and line style tell the
methods apart in a grey print.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

INK = "#222222"
FAINT = "#8a8a8a"
_LABELS = {
    "num_params_primary": "parameters of the primary network, N",
    "num_params_total": "all parameters, N",
    "accuracy_weight": "accuracy weight λ",
    "lr": "learning rate",
    "embedding_dim": "embedding dimension",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStyle:
    """The look of one method."""

    colour: str
    marker: str
    dashes: Any


_KNOWN = {
    "Hypernetwork": MethodStyle(colour="#0072B2", marker="o", dashes="-"),
    "Embedding": MethodStyle(colour="#D55E00", marker="s", dashes=(0, (5, 1.6))),
    "Monolithic": MethodStyle(colour="#B0528A", marker="^", dashes=(0, (6, 1.5, 1.2, 1.5))),
    "PerInstance": MethodStyle(colour="#009E73", marker="D", dashes=(0, (1.4, 1.2))),
    "WeightGenerator": MethodStyle(colour="#0072B2", marker="o", dashes="-"),
}
_OTHERS = (
    MethodStyle(colour="#56B4E9", marker="v", dashes=(0, (3, 1, 1, 1, 1, 1))),
    MethodStyle(colour="#C08A00", marker="P", dashes=(0, (8, 2))),
    MethodStyle(colour="#000000", marker="X", dashes=(0, (2, 2))),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tone:
    """The colours of a verdict's word, the same on every page: its ink and the wash behind it."""

    name: str
    ink: str
    wash: str


_TONES = {
    "attained": Tone(name="good", ink="#00573f", wash="#e6f4ef"),
    "supported": Tone(name="good", ink="#00573f", wash="#e6f4ef"),
    "not contradicted": Tone(name="mild", ink="#1d4f7c", wash="#eaf1f8"),
    "not attained": Tone(name="warn", ink="#7a5200", wash="#fff3d6"),
    "contradicted": Tone(name="bad", ink="#8f2f00", wash="#fdeee6"),
}
_OPEN_TONE = Tone(name="open", ink="#4a5560", wash="#f6f7f8")


def verdict_tone(verdict: str) -> Tone:
    """Return the colours of a verdict; what decides nothing is grey."""
    return _TONES.get(verdict, _OPEN_TONE)


def method_style(method: str) -> MethodStyle:
    """Return the look of a method; one that is not known by name gets a look from its name alone."""
    if method in _KNOWN:
        return _KNOWN[method]
    return _OTHERS[sum(method.encode()) % len(_OTHERS)]


def shades(method: str, count: int) -> list[tuple[float, float, float]]:
    """Return ``count`` shades of a method's colour, light to dark: for sizes within one method."""
    ramp = sns.blend_palette(["#d9d9d9", method_style(method).colour, "#101820"], n_colors=100)
    # From a tone that still shows on white to one that is not yet black.
    return [ramp[int(i)] for i in np.linspace(22, 84, count)]


def label(column: str) -> str:
    """Return how a column is written on an axis."""
    return _LABELS.get(column, column.replace("_", " "))


@contextmanager
def drawing(salt: str) -> Iterator[None]:
    """Draw in the house style, leaving matplotlib's global settings as they were.

    ``salt`` makes the identifiers inside an SVG its own, so that several can stand in one page.
    """
    style = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 10.0,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.8,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 9.0,
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "svg.hashsalt": salt,
        "figure.facecolor": "white",
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
    }
    with mpl.rc_context(style):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that no global state knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``name.svg``, ``name.png`` (180 dpi) and ``name.pdf`` into ``folder``; return the first two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    # Laid out once for all three, instead of once each.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.savefig(folder / f"{name}.pdf", dpi=220, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    figure.savefig(png, dpi=180)
    return svg, png


def log_spaced(values: Sequence[float]) -> bool:
    """Whether distinct values are better shown on a log axis: positive, wide, and more even in their logs."""
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    if len(distinct) < 2 or distinct[0] <= 0 or distinct[-1] / distinct[0] < 8:
        return False
    steps, ratios = np.diff(distinct), np.diff(np.log(distinct))
    return bool(ratios.std() / ratios.mean() <= steps.std() / steps.mean()) or len(distinct) == 2


def log_axis(axes: Axes, which: str, values: Sequence[float] | None = None) -> None:
    """Make one axis logarithmic with plain numbers at its ticks, at ``values`` where given."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    if values is not None:
        axis.set_ticks(_thinned(values))
        axis.set_minor_locator(NullLocator())
    else:
        low, high = axis.get_data_interval()
        wide = low > 0 and high / low > 400
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _thinned(values: Sequence[float], at_most: int = 9) -> list[float]:
    """Return the distinct values, leaving out some where they would stand too close on a log axis."""
    distinct = sorted(set(values))
    if len(distinct) < 2:
        return distinct
    least = np.log(distinct[-1] / distinct[0]) / at_most
    kept = [distinct[0]]
    for value in distinct[1:]:
        if np.log(value / kept[-1]) >= least:
            kept.append(value)
    return kept


def plain(value: float) -> str:
    """Return a number as a reader would write it: 0.05, 3, 20k, 1e-05."""
    if value >= 10_000 and value % 1000 == 0:
        return f"{value / 1000:g}k" if value < 1_000_000 else f"{value / 1_000_000:g}M"
    return f"{value:.4g}"


def crowded(num_points: int) -> bool:
    """Whether so many points are better embedded as an image than drawn one by one."""
    return num_points > 1500
