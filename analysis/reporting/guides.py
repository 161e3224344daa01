"""The slopes that theorems name, drawn as triangles under the curves that they are to be compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from analysis.reporting.palette import INK, method_style
from hyperscale.claims import Claim, ScalingRate, Separation

_ORDERS = {"upper": "O", "lower": "Ω", "match": "Θ"}
_LINE = 26
"""Characters of a label's line, about as many as fit beside another triangle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSlope:
    """An exponent, whose it is (``Thm. 4: O``, each once), and the methods that it is claimed of."""

    exponent: float
    sources: tuple[str, ...]
    methods: tuple[str, ...]

    @property
    def colour(self) -> str:
        """The method's colour; ink where several methods share the slope."""
        return method_style(self.methods[0]).colour if len(set(self.methods)) == 1 else INK

    @property
    def text(self) -> str:
        """The label: sources on as many lines as they need, then the slope."""
        lines = [self.sources[0]]
        for source in self.sources[1:]:
            joined = f"{lines[-1]}, {source}"
            lines[-1:] = [joined] if len(joined) <= _LINE else [f"{lines[-1]},", source]
        return "\n".join([*lines, f"slope −{self.exponent:.3g}"])


def short_theorem(theorem: str) -> str:
    """Return ``Thm. 4`` of ``Thm. 4, Galanti & Wolf (2020)``."""
    return theorem.split(",")[0]


def named_slopes(claims: Sequence[Claim], metric: str, size: str) -> list[NamedSlope]:
    """Return the exponents that rates and separations name, each once, the steepest first.

    A separation adds its two exponents only where no rate has them already.
    """
    rates = [c for c in claims if isinstance(c, ScalingRate) and (c.metric, c.size) == (metric, size)]
    found: dict[float, list[tuple[str, str]]] = {}
    for rate in rates:
        source = f"{short_theorem(rate.theorem) or 'predicted'}: {_ORDERS[rate.bound]}"
        found.setdefault(round(rate.exponent, 6), []).append((source, rate.methods[0]))
    stated = set(found)
    for claim in claims:
        if isinstance(claim, Separation) and (claim.metric, claim.size) == (metric, size):
            exponents = (claim.faster_exponent, claim.slower_exponent)
            for exponent, method in zip(exponents, claim.methods, strict=True):
                if round(exponent, 6) not in stated:
                    source = short_theorem(claim.theorem) or "predicted"
                    found.setdefault(round(exponent, 6), []).append((source, method))
    return [
        NamedSlope(
            exponent=exponent,
            sources=tuple(dict.fromkeys(source for source, _ in of)),
            methods=tuple(dict.fromkeys(method for _, method in of)),
        )
        for exponent, of in sorted(found.items(), reverse=True)
    ]


def draw_guides(
    axes: Axes, curves: Sequence[tuple[Sequence[float], Sequence[float]]], slopes: Sequence[NamedSlope]
) -> None:
    """Draw each slope as a triangle under the ``curves`` (sizes, values), side by side along the size axis.

    The hypotenuse has the theorem's slope; whether a curve is steeper or flatter is seen by comparing.
    """
    logs = [(np.log(x), np.log(y)) for x, y in curves if len(x) > 1 and min(y) > 0]
    if not logs or not slopes:
        return
    start, end = min(x[0] for x, _ in logs), max(x[-1] for x, _ in logs)
    slot = (end - start) / len(slopes)
    for index, slope in enumerate(slopes):
        left = start + slot * (index + 0.08)
        width = min(0.6 * slot, 2 * math.log(2))
        # The label may be wider than the triangle, so the curves are cleared over the whole slot.
        grid = np.linspace(left, left + 0.9 * slot, 40)
        lowest = np.min([np.interp(grid, x, y, left=np.inf, right=np.inf) for x, y in logs], axis=0)
        fall = slope.exponent * np.minimum(grid - left, width)
        _draw_triangle(axes, slope, left, width, float(np.min(lowest + fall)) - 0.35)


def _draw_triangle(axes: Axes, slope: NamedSlope, left: float, width: float, top: float) -> None:
    bottom = top - slope.exponent * width
    corners = np.exp([(left, top), (left, bottom), (left + width, bottom)])
    axes.add_patch(Polygon(corners, closed=True, facecolor=slope.colour, alpha=0.10, edgecolor="none", zorder=1))
    axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=slope.colour, linewidth=1.1, zorder=2))
    axes.annotate(
        slope.text,
        (math.exp(left), math.exp(bottom)),
        xytext=(0, -4),
        textcoords="offset points",
        va="top",
        ha="left",
        fontsize=8.5,
        color=slope.colour,
    )
    axes.update_datalim([(math.exp(left), math.exp(bottom - 0.24 * slope.text.count("\n") - 0.21))])
    axes.autoscale_view()
