"""The envelope: per size N, the smallest value of a metric that any trial of a method reached.

A theorem speaks of the best network of each size, so learning rates and seeds (and whatever else varies at
fixed N) are minimised over. That is fair only if every size was given the same number of attempts; the
envelope records the attempts, and which trial attains each minimum.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.exponents.curves import Floats
from analysis.exponents.target_keys import target_keys
from hyperscale.errors import AnalysisError, did_you_mean

SPENT = ("finished", "diverged")
_POOLED_COLUMNS = (
    "activation", "bias", "encoder", "initialization", "widths", "primary_widths", "embedding_dim",
    "embedding_activation",
    "optimizer", "schedule",
    "steps", "batch", "precision", "num_instances", "restarts",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvelopePoint:
    """One size of an envelope. ``num_spent`` counts finished and diverged trials."""

    size: float
    value: float
    digest: str
    seed: int
    lr: float | None
    num_spent: int
    num_finished: int
    seed_minima: tuple[tuple[float, ...], ...]
    """``[target][seed]``: the best value of each seed over learning rates, the data of the bootstrap."""
    targets: tuple[str, ...]
    """The key of each target of ``seed_minima``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """The best values of one method per size, in rising order; sizes without a finished trial are absent."""

    method: str
    metric: str
    size: str
    points: tuple[EnvelopePoint, ...]
    budget_note: str = ""
    monotonicity_note: str = ""
    pooled_note: str = ""
    missing_note: str = ""
    """Which target finished at no trial of some size, so that the worst target there is not known."""
    growth_note: str = ""
    """Which count of the target's bumps grows with N, so that every size has its own member of a family."""

    @property
    def sizes(self) -> tuple[float, ...]:
        """The distinct sizes N at which a trial finished."""
        return tuple(point.size for point in self.points)

    @property
    def values(self) -> tuple[float, ...]:
        """The minimum at each of `sizes`."""
        return tuple(point.value for point in self.points)

    @property
    def equal_budget(self) -> bool:
        """Whether every size was given the same number of trials."""
        return not self.budget_note

    @property
    def monotone(self) -> bool:
        """Whether the minimum never rises with size, as it must not for nested classes."""
        return not self.monotonicity_note

    def log_seed_minima(self) -> Floats:
        """Return the natural logs of the seeds' best values, ``[sizes, targets, seeds]``, NaN where there is none."""
        keys = list(dict.fromkeys(key for point in self.points for key in point.targets))
        width = max((len(seeds) for point in self.points for seeds in point.seed_minima), default=0)
        logs = np.full((len(self.points), len(keys), width), np.nan)
        for row, point in enumerate(self.points):
            for key, seeds in zip(point.targets, point.seed_minima, strict=True):
                logs[row, keys.index(key), : len(seeds)] = np.log(seeds)
        return logs

    @property
    def num_seeds(self) -> int:
        """The fewest seeds that finished at any size (0 without points)."""
        return min((len(seeds) for p in self.points for seeds in p.seed_minima), default=0)


def require_columns(table: pd.DataFrame, *names: str) -> None:
    """Raise `AnalysisError` unless the table has every named column."""
    for name in names:
        if name not in table.columns:
            raise AnalysisError(
                f"The table of trials has no column {name!r}{did_you_mean(name, map(str, table.columns))}; "
                f"it has: {', '.join(map(str, table.columns))}."
            )


def build_envelope(
    table: pd.DataFrame, *, method: str, metric: str = "sup_error", size: str = "num_params_primary"
) -> Envelope:
    """Return the envelope of ``method``: per ``size``, the minimum of ``metric`` over finished trials.

    With several targets the value is the *largest* of the targets' minima, because the theorems bound the
    worst target of a class: max over targets of min over learning rates and seeds. A target whose number of bumps
    grows with ``size`` is one family, with another member at every size. Diverged trials count as budget spent;
    failed ones do not, they were never carried out.
    """
    require_columns(table, "method", "status", metric, size)
    rows = table[(table["method"] == method) & table[size].notna()]
    targets = target_keys(rows, size)
    rows = rows.assign(_target=targets.key, _size=rows[size].astype("float64"))
    spent = rows[rows["status"].isin(SPENT)]
    finished = spent[(spent["status"] == "finished") & spent[metric].notna()]
    finished = finished.assign(_value=finished[metric].astype("float64"))
    budget = spent.groupby("_size").size()
    sizes = [float(n) for n in np.sort(finished["_size"].unique())]
    points = tuple(_point(n, finished[finished["_size"] == n], int(budget[n])) for n in sizes)
    return Envelope(
        method=method,
        metric=metric,
        size=size,
        points=points,
        budget_note=_budget_note(rows, spent),
        monotonicity_note=_monotonicity_note(points),
        pooled_note=_pooled_note(finished),
        missing_note=_missing_note(points),
        growth_note=targets.note,
    )


def build_envelopes(
    table: pd.DataFrame, *, metric: str = "sup_error", size: str = "num_params_primary"
) -> list[Envelope]:
    """Return the envelope of every method of the table that has at least one finished trial."""
    require_columns(table, "method", metric, size)
    methods = dict.fromkeys(table["method"].dropna())
    found = (build_envelope(table, method=str(m), metric=metric, size=size) for m in methods)
    return [envelope for envelope in found if envelope.points]


def _point(size: float, group: pd.DataFrame, num_spent: int) -> EnvelopePoint:
    attaining = group.loc[group.groupby("_target")["_value"].idxmin()]
    worst = attaining.sort_values("_value", kind="stable").iloc[-1]
    per_seed = group.groupby(["_target", "seed"])["_value"].min()
    by_target = {str(key): tuple(map(float, values)) for key, values in per_seed.groupby(level=0)}
    lr = worst["lr"] if "lr" in group.columns else None
    return EnvelopePoint(
        size=size,
        value=float(worst["_value"]),
        digest=str(worst["digest"]),
        seed=int(worst["seed"]),
        lr=None if lr is None or pd.isna(lr) else float(lr),
        num_spent=num_spent,
        num_finished=len(group),
        seed_minima=tuple(by_target.values()),
        targets=tuple(by_target),
    )


def _budget_note(rows: pd.DataFrame, spent: pd.DataFrame) -> str:
    """Return an empty text where every size had the same number of trials, else which had fewer."""
    if rows.empty:
        return ""
    counts = spent.groupby("_size").size().reindex(sorted(rows["_size"].unique()), fill_value=0)
    most = int(counts.max())
    if bool((counts == most).all()):
        return ""
    short = ", ".join(f"{int(c)} at N = {n:g}" for n, c in counts[counts < most].items())
    return f"sizes were given unequal numbers of trials: {short}, but {most} elsewhere"


def _pooled_note(finished: pd.DataFrame) -> str:
    """Return an empty text, or which settings other than the optimiser's the minimum is taken over at one size."""
    differing = []
    for name in _POOLED_COLUMNS:
        if name in finished.columns and (finished.groupby("_size")[name].nunique() > 1).any():
            values = ", ".join(map(str, dict.fromkeys(finished[name].dropna())))
            differing.append(f"{name.replace('_', ' ')} ({values})")
    return f"the smallest value is also taken over {' and '.join(differing)}" if differing else ""


def _missing_note(points: tuple[EnvelopePoint, ...]) -> str:
    """Return an empty text, or at which sizes some target that finished elsewhere has no finished trial."""
    everything = {key for point in points for key in point.targets}
    short = [
        f"{len(everything) - len(p.targets)} at N = {p.size:g}" for p in points if len(p.targets) < len(everything)
    ]
    if not short:
        return ""
    return f"some of the {len(everything)} targets have no finished trial at some size: {', '.join(short)}"


def _monotonicity_note(points: tuple[EnvelopePoint, ...]) -> str:
    """Return an empty text where the minimum never rises with size, else where it does."""
    rises = [
        f"N = {a.size:g} to {b.size:g} (x{b.value / a.value:.2f})"
        for a, b in itertools.pairwise(points)
        if b.value > a.value > 0
    ]
    if not rises:
        return ""
    return f"the envelope rises from {', '.join(rises)}, which the best networks' cannot"
