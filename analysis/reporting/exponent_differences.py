"""Whether the exponents of two studies differ, in numbers and in words.

The difference is judged by Welch's interval (Biometrika 34, 1947): each study's exponent is the slope of a line
through its own n sizes, so its standard error has n - 2 degrees of freedom, and the two need not scatter alike.
Studies are taken as independent. Where they share seeds and targets that is cautious: what both have in common
cancels in the difference, so the true interval is narrower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from analysis.exponents.envelope import Envelope
from analysis.exponents.uncertainty import ExponentInterval, Interval
from hyperscale.claims import ScalingRate


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyCurve:
    """One study's envelope with its exponent; ``problem`` says why there is none."""

    envelope: Envelope
    uncertainty: ExponentInterval | None
    problem: str
    rates: tuple[ScalingRate, ...]
    """The study's own claims on this curve."""
    digests: frozenset[str]
    """The finished trials behind it."""
    cautions: tuple[str, ...] = ()
    """What a verdict on this curve said against its being a power law in N over these sizes."""

    @property
    def num_sizes(self) -> int:
        """The number of sizes of the envelope."""
        return len(self.envelope.points)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """A method, metric and size column with one curve a study, None where the study has no finished trial of it."""

    method: str
    metric: str
    size: str
    curves: tuple[StudyCurve | None, ...]

    @property
    def title(self) -> str:
        """``sup_error of Hypernetwork in num_params_primary``."""
        return f"{self.metric} of {self.method} in {self.size}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentDifference:
    """The second study's exponent less the first's, in one row; ``differs`` is None where nothing can be said."""

    row: CurveRow
    first: str
    second: str
    estimate: float | None
    interval: Interval | None
    differs: bool | None
    sentence: str
    remarks: tuple[str, ...] = ()


def welch_interval(
    first: ExponentInterval, second: ExponentInterval, num_sizes: tuple[int, int]
) -> tuple[float, Interval] | None:
    """Return second less first with Welch's t-interval at the first's level, or None where an exponent has no interval.

    A standard error is the longer arm of its interval over t at n - 2 degrees of freedom; the difference has
    ``(v1 + v2)^2 / (v1^2 / d1 + v2^2 / d2)`` degrees of freedom, v = squared standard error, d = n - 2.
    """
    variances = []
    freedoms = [count - 2 for count in num_sizes]
    for sure, freedom in zip((first, second), freedoms, strict=True):
        if sure.interval is None or freedom < 1:
            return None
        arm = max(sure.estimate - sure.interval[0], sure.interval[1] - sure.estimate)
        variances.append((arm / float(stats.t.ppf(0.5 + sure.level / 2, freedom))) ** 2)
    total = sum(variances)
    estimate = second.estimate - first.estimate
    if total == 0:
        return estimate, (estimate, estimate)
    welch = total**2 / sum(v**2 / d for v, d in zip(variances, freedoms, strict=True))
    half = float(stats.t.ppf(0.5 + first.level / 2, welch)) * math.sqrt(total)
    return estimate, (estimate - half, estimate + half)


def find_difference(row: CurveRow, names: Sequence[str], i: int, j: int) -> ExponentDifference:
    """Return the difference of the exponents of studies ``i`` and ``j``, both of which have a curve in the row."""
    first, second = row.curves[i], row.curves[j]
    assert first is not None
    assert second is not None
    remarks = _remarks(names[i], names[j], first, second)
    subject = f"{row.metric} of {row.method}"
    if obstacle := _obstacle(subject, {names[i]: first, names[j]: second}):
        return ExponentDifference(
            row=row, first=names[i], second=names[j], estimate=None, interval=None, differs=None, sentence=obstacle,
            remarks=remarks,
        )  # fmt: skip
    assert first.uncertainty is not None
    assert second.uncertainty is not None
    found = welch_interval(first.uncertainty, second.uncertainty, (first.num_sizes, second.num_sizes))
    assert found is not None
    estimate, interval = found
    exponents = (first.uncertainty.estimate, second.uncertainty.estimate)
    differs = not interval[0] <= 0 <= interval[1]
    describe = _describe_difference if differs else _describe_tie
    return ExponentDifference(
        row=row, first=names[i], second=names[j], estimate=estimate, interval=interval, differs=differs,
        sentence=describe(subject, (names[i], names[j]), exponents, interval), remarks=remarks,
    )  # fmt: skip


def _obstacle(subject: str, curves: Mapping[str, StudyCurve]) -> str:
    """Return an empty text, or why no difference can be given."""
    first, second = curves.values()
    if first.digests == second.digests:
        return f"Nothing to compare: {' and '.join(curves)} use the same trials for {subject}."
    for name, curve in curves.items():
        if curve.uncertainty is None:
            return f"No difference can be given: {subject} has no exponent in {name}. {curve.problem}"
        if curve.uncertainty.interval is None or curve.num_sizes < 3:
            return (
                f"No difference can be given: {subject} has fewer than three sizes in {name}, so its exponent has no "
                "interval. Add sizes."
            )
    return ""


def _describe_difference(
    subject: str, names: tuple[str, str], exponents: tuple[float, float], interval: Interval
) -> str:
    """Return which study's error falls faster, and by how much."""
    pairs = sorted(zip(exponents, names, strict=True), reverse=True)
    (fast, faster), (slow, slower) = pairs
    least, most = sorted(abs(end) for end in interval)
    return (
        f"The exponents differ: {subject} falls faster in {faster} (exponent {_plain(fast)}) than in {slower} "
        f"({_plain(slow)}); the difference is {_plain(least)} to {_plain(most)} (95 %)."
    )


def _describe_tie(subject: str, names: tuple[str, str], exponents: tuple[float, float], interval: Interval) -> str:
    """Return that two exponents are not told apart, and how far apart they may still be."""
    low, high = interval
    return (
        f"Not told apart: the exponents of {subject} in {names[0]} ({_plain(exponents[0])}) and in {names[1]} "
        f"({_plain(exponents[1])}). The second less the first is {_plain(low)} to {_plain(high)} (95 %), so "
        f"a difference of up to {_plain(max(-low, high))} is not excluded."
    )


def _plain(value: float) -> str:
    text = f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return text.replace("-", "−")


def _remarks(one: str, other: str, first: StudyCurve, second: StudyCurve) -> tuple[str, ...]:
    """Return what to keep in mind of a difference: unequal ranges, budgets, shared trials."""
    found = []
    ranges = [(min(c.envelope.sizes), max(c.envelope.sizes)) for c in (first, second)]
    if ranges[0] != ranges[1]:
        (a, b), (c, d) = ranges
        apart = " The two ranges have nothing in common." if max(a, c) > min(b, d) else ""
        found.append(f"The sizes differ: N from {a:g} to {b:g} in {one}, from {c:g} to {d:g} in {other}.{apart}")
    for name, curve in ((one, first), (other, second)):
        found += [f"In {name} {curve.envelope.budget_note}."] if curve.envelope.budget_note else []
        found += [f"In {name}, {caution}" for caution in curve.cautions]
    shared = len(first.digests & second.digests)
    if shared and first.digests != second.digests:
        found.append(f"{shared} trials are in both studies; the interval takes the studies as independent.")
    return tuple(found)
