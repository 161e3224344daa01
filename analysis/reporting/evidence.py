"""What stands behind a verdict on a rate: local slopes, residuals, and how far the exponent hangs on choices.

Every number comes from the verdict's own envelope, so that a reader can see whether one window, one estimator or one
model carries the verdict alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from analysis.exponents.curves import FitStatus
from analysis.exponents.envelope import Envelope
from analysis.exponents.estimators import envelope_series
from analysis.exponents.rates import edge_exponents
from analysis.exponents.uncertainty import ExponentInterval, Interval
from analysis.fits.fitting import MODELS, fit_curve
from analysis.fits.losses import Loss
from analysis.judging.verdicts import SizeRatio, Verdict
from analysis.power.study_power import ClaimPower
from hyperscale.errors import AnalysisError

MIN_WINDOW = 3
_WINDOW_OCTAVES = 2.0
_BENT_MODELS = ("power_floor", "broken_power", "corrected_power")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSlope:
    """The exponent over a window of neighbouring sizes, at the window's geometric middle."""

    size: float
    first: float
    last: float
    exponent: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """The exponent under another choice. ``estimate`` is None where the choice gives none, and ``note`` says why."""

    kind: str
    """window, estimator or model"""
    choice: str
    estimate: float | None
    interval: Interval | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The evidence behind one verdict. ``residuals`` are log units (0.1 is about ten per cent), one per size."""

    sentence: str
    sizes: tuple[float, ...] = ()
    residuals: tuple[float, ...] = ()
    seed_residuals: tuple[tuple[float, ...], ...] = ()
    local_slopes: tuple[LocalSlope, ...] = ()
    sensitivity: tuple[Sensitivity, ...] = ()
    power: ClaimPower | None = None
    ratios: tuple[SizeRatio, ...] = ()

    @property
    def outside(self) -> tuple[str, ...] | None:
        """The choices whose whole interval lies outside the verdict's; None where there is nothing to compare."""
        if len(self.sensitivity) < 2 or self.sensitivity[0].interval is None:
            return None
        low, high = self.sensitivity[0].interval
        others = [row for row in self.sensitivity[1:] if row.interval is not None]
        return tuple(row.choice for row in others if row.interval and (row.interval[1] < low or row.interval[0] > high))

    @property
    def stability_text(self) -> str:
        """Whether the exponent hangs on a choice of window, estimator or model, in a sentence."""
        outside = self.outside
        if outside is None:
            return ""
        if not outside:
            return "No other window, estimator or model that the data allow has its whole interval elsewhere."
        return f"The exponent hangs on choices: the whole interval lies elsewhere for {', '.join(outside)}."

    @property
    def power_text(self) -> str:
        """How often studies like this one decide, and what would make it so, in two sentences."""
        power = self.power
        if power is None or power.worst is None or power.obstacle:
            return ""
        worst = power.worst
        noise = f", {power.noise.summary}" if power.noise is not None else ""
        text = (
            f"Simulated studies of this size{noise}, decide rightly in {100 * worst.decisive:.0f} % if {worst.truth}."
        )
        if power.enough:
            return text
        return f"{text} For 90 %: {power.advice}."

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``report.json``."""
        return {
            "sentence": self.sentence,
            "outside": self.outside,
            "stability": self.stability_text,
            "residuals": [[size, value] for size, value in zip(self.sizes, self.residuals, strict=True)],
            "local_slopes": [asdict(slope) for slope in self.local_slopes],
            "sensitivity": [asdict(row) for row in self.sensitivity],
            "power": None if self.power is None else self.power.to_json(),
            "ratios": [asdict(ratio) for ratio in self.ratios],
        }


def gather_evidence(verdict: Verdict, power: ClaimPower | None = None) -> Evidence:
    """Return the evidence behind a verdict; for claims that are no rates it is a sentence and the power."""
    envelope = verdict.envelope
    if envelope is None or verdict.fit is None or verdict.uncertainty is None:
        return Evidence(sentence=describe_verdict(verdict), power=power, ratios=verdict.ratios)
    fitted = np.log(verdict.fit.predict(envelope.sizes))
    seeds = tuple(
        tuple(math.log(value) - centre for target in point.seed_minima for value in target if value > 0)
        for point, centre in zip(envelope.points, fitted, strict=True)
    )
    return Evidence(
        sentence=describe_verdict(verdict),
        sizes=envelope.sizes,
        residuals=tuple(float(r) for r in np.log(envelope.values) - fitted),
        seed_residuals=seeds,
        local_slopes=tuple(find_local_slopes(envelope, verdict.fit.residual_std)),
        sensitivity=(
            *_windows(verdict.uncertainty, envelope),
            *_estimators(verdict.uncertainty, verdict.fit.exponent),
            *_models(envelope),
        ),
        power=power,
    )


def describe_verdict(verdict: Verdict) -> str:
    """Return what came out, in a sentence a referee would accept; the verdict's word is its own."""
    if verdict.estimate is None:
        return "There is no estimate."
    how_sure = ""
    if verdict.interval is not None:
        how_sure = f" (95 % interval {verdict.interval[0]:.3g} to {verdict.interval[1]:.3g})"
    if verdict.bound is None or verdict.envelope is None or verdict.fit is None:
        return f"{verdict.quantity[:1].upper()}{verdict.quantity[1:]} {verdict.estimate:.3g}{how_sure}."
    envelope, fit = verdict.envelope, verdict.fit
    return (
        f"The best {verdict.methods[0]} networks' {envelope.metric.replace('_', ' ')} falls like "
        f"N^{-verdict.estimate:.3g}{how_sure}, over {len(envelope.points)} sizes and {fit.octaves:.1f} octaves of N, "
        f"{envelope.num_seeds} seed{'s' if envelope.num_seeds != 1 else ''} at each size; "
        f"the theorem's exponent is {verdict.predicted:.3g}."
    )


def find_local_slopes(envelope: Envelope, scatter: float | None) -> Iterator[LocalSlope]:
    """Yield the exponent over each window of about two octaves (three sizes at least), with its interval.

    The interval takes the scatter about the whole line with its n - 2 degrees of freedom: three points alone would
    leave one.
    """
    x, y = np.log(np.asarray(envelope.sizes)), np.log(np.asarray(envelope.values))
    for first in range(len(x) - MIN_WINDOW + 1):
        last = max(first + MIN_WINDOW - 1, int(np.searchsorted(x, x[first] + _WINDOW_OCTAVES * math.log(2) + 1e-9)) - 1)
        centred = x[first : last + 1] - x[first : last + 1].mean()
        spread = float(centred @ centred)
        exponent = -float(centred @ y[first : last + 1]) / spread
        interval = None
        if scatter is not None and len(x) > 2:
            half = float(stats.t.ppf(0.975, len(x) - 2)) * scatter / math.sqrt(spread)
            interval = (exponent - half, exponent + half)
        middle = math.exp((x[first] + x[last]) / 2)
        yield LocalSlope(
            size=middle,
            first=envelope.sizes[first],
            last=envelope.sizes[last],
            exponent=exponent,
            interval=interval,
        )
        if last == len(x) - 1:
            return


def edge_exponent(envelope: Envelope) -> tuple[float, Interval | None]:
    """Return the exponent and interval that a verdict would use for this envelope."""
    x = np.log(np.asarray(envelope.sizes))
    found = edge_exponents(x, envelope_series(x, envelope.log_seed_minima()))
    known = len(x) >= MIN_WINDOW and bool(np.isfinite(found.standard_error))
    return float(found.slope), (float(found.low), float(found.high)) if known else None


def _windows(sure: ExponentInterval, envelope: Envelope) -> Iterator[Sensitivity]:
    """Yield the exponent over all sizes, without the smallest, without the largest, and over each half."""
    yield Sensitivity(kind="window", choice="all sizes", estimate=sure.estimate, interval=sure.interval)
    n = len(envelope.points)
    middle = (n + 1) // 2
    windows = (
        ("without the smallest", range(1, n)),
        ("without the largest", range(n - 1)),
        ("smaller half", range(middle)),
        ("larger half", range(n - middle, n)),
    )
    for choice, kept in windows:
        if MIN_WINDOW <= len(kept) < n:
            part = replace(envelope, points=tuple(envelope.points[i] for i in kept))
            estimate, interval = edge_exponent(part)
            yield Sensitivity(kind="window", choice=choice, estimate=estimate, interval=interval)


def _estimators(sure: ExponentInterval, minimum: float) -> Iterator[Sensitivity]:
    """Yield the exponent by the other estimators of the same envelope; normal intervals where they give errors only."""
    yield Sensitivity(kind="estimator", choice="minimum", estimate=minimum, interval=sure.regression)
    for name, found in sure.estimates.items():
        if name != "minimum":
            half = 1.96 * found.standard_error
            interval = (found.exponent - half, found.exponent + half)
            yield Sensitivity(kind="estimator", choice=name, estimate=found.exponent, interval=interval)
    if sure.theil_sen_exponent is not None:
        yield Sensitivity(
            kind="estimator", choice="Theil–Sen", estimate=sure.theil_sen_exponent, interval=sure.theil_sen
        )
    if sure.bootstrap is not None:
        yield Sensitivity(kind="estimator", choice="seeds redrawn", estimate=minimum, interval=sure.bootstrap)


def _models(envelope: Envelope) -> Iterator[Sensitivity]:
    """Yield the final exponent of curves that bend, where the sizes are enough to fit them."""
    for name in _BENT_MODELS:
        model, choice = MODELS[name], name.replace("_", " ")
        if len(envelope.points) < model.num_parameters + 2:
            note = f"needs {model.num_parameters + 2} sizes"
            yield Sensitivity(kind="model", choice=choice, estimate=None, note=note)
            continue
        try:
            fit = fit_curve(envelope.sizes, envelope.values, model=name, loss=Loss(kind="log-least-squares"))
        except AnalysisError as problem:
            yield Sensitivity(kind="model", choice=choice, estimate=None, note=str(problem))
            continue
        if fit.status is FitStatus.CONVERGED and fit.exponent is not None:
            found = fit.exponent
            yield Sensitivity(kind="model", choice=choice, estimate=found.estimate, interval=found.interval)
        else:
            yield Sensitivity(kind="model", choice=choice, estimate=None, note=_briefly(fit.status, fit.remedy))


def _briefly(status: FitStatus, remedy: str) -> str:
    """Return why a model gives no exponent, without the advice for the command line."""
    return f"{status.value.replace('_', ' ')}: {remedy.split(':')[0].split('. ')[0]}"
