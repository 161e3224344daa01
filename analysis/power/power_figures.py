"""The figure of a power analysis: chance of a decisive verdict against octaves of N, one line for each seed count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.exponents.decisions import MIN_OCTAVES
from analysis.power.designs import Design
from analysis.power.questions import RateQuestion, too_small
from analysis.power.study_power import TARGET
from analysis.reporting.palette import FAINT, INK, new_figure, shades
from hyperscale.errors import AnalysisError

MAX_OCTAVES = 16.0
_TICKS = (0.0, 0.25, 0.5, 0.75, TARGET, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerCurves:
    """Chances of one claim: ``chances[seeds][octaves]``, and the study's own place among them."""

    title: str
    method: str
    octaves: tuple[float, ...]
    seeds: tuple[int, ...]
    chances: tuple[tuple[float, ...], ...]
    own_octaves: float
    own_seeds: int
    own_chance: float


def power_curves(question: RateQuestion, *, seeds: Sequence[int] = (), most: float | None = None) -> PowerCurves:
    """Return the smallest chance over the truths, for designs as dense as the study's with other octaves and seeds.

    ``seeds`` are by default the study's own, about twice and about four times as many; ``most`` octaves by default
    twice the study's own. Raises `AnalysisError` for a study with one size, which has no octaves.
    """
    design = question.design
    if not design.octaves:
        raise AnalysisError("The study has one size only, so there are no octaves to draw its power against.")
    counts = tuple(sorted({design.num_seeds, *(seeds or (2 * design.num_seeds, 4 * design.num_seeds))}))
    reach = min(most or max(8.0, 2 * design.octaves), MAX_OCTAVES)
    larger = design.extended(max(0, math.ceil(reach - design.octaves)))
    shown = [larger.shortened(math.log2(size / larger.sizes[0])) for size in larger.sizes]
    shown = [part for part in shown if part.octaves <= reach + 1e-9 and not too_small(part)]
    chances = [[_worst(question, replace(part, num_seeds=count)) for part in shown] for count in counts]
    return PowerCurves(
        title=question.claim.title,
        method=question.claim.methods[0],
        octaves=tuple(part.octaves for part in shown),
        seeds=counts,
        chances=tuple(map(tuple, chances)),
        own_octaves=design.octaves,
        own_seeds=design.num_seeds,
        own_chance=_worst(question, design),
    )


def _worst(question: RateQuestion, design: Design) -> float:
    return min(chance.decisive for chance in question.chances_of(design))


def plot_power(curves: Sequence[PowerCurves]) -> Figure:
    """Draw one panel for each claim: a line for each number of seeds, light to dark, and the 90 % line.

    A ring marks the study as it is; a grey field, where the package gives no verdict for want of octaves.
    """
    if not curves:
        raise AnalysisError("There is no power to draw: the study has no claim about a rate.")
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(5.6 * columns, 3.9 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, entry in zip(panels, curves, strict=False):
        _draw_claim(axes, entry)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("chance of a decisive verdict")
    return figure


def _draw_claim(axes: Axes, entry: PowerCurves) -> None:
    axes.grid(True, axis="y")
    right = max(*entry.octaves, entry.own_octaves)
    axes.axhline(TARGET, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    colours = shades(entry.method, len(entry.seeds))
    for count, chances, colour in zip(entry.seeds, entry.chances, colours, strict=True):
        own = count == entry.own_seeds
        axes.plot(
            entry.octaves,
            chances,
            color=colour,
            linewidth=2.6 if own else 1.8,
            marker="o",
            markersize=3.6,
            zorder=3,
            label=f"{count} seed{'' if count == 1 else 's'}",
        )
    axes.plot(
        [entry.own_octaves],
        [entry.own_chance],
        linestyle="none",
        marker="o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=1.8,
        zorder=5,
        label="this study",
    )
    axes.annotate(
        f"{100 * entry.own_chance:.0f} %",
        (entry.own_octaves, entry.own_chance),
        xytext=(11, -9),
        textcoords="offset points",
        fontsize=9.5,
        fontweight="bold",
        color=INK,
        zorder=6,
    )
    axes.axvspan(0, MIN_OCTAVES, color="#f3f3f3", linewidth=0, zorder=0)
    axes.text(MIN_OCTAVES / 2, 0.03, "too few octaves\nfor a verdict", ha="center", color=FAINT, fontsize=8.5)
    axes.set_xlim(0, right + 0.5)
    axes.set_ylim(-0.03, 1.04)
    axes.set_yticks(_TICKS, [f"{100 * value:.0f} %" for value in _TICKS])
    axes.set_xlabel("octaves of N")
    axes.set_title(entry.title.split(", N = ")[0])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, handlelength=1.6, columnspacing=1.4)
