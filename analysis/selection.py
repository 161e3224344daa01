"""Model choice: AICc and backtests side by side; one curve where they agree, an average where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from analysis.backtests import Cut, backtest, cuts_of, root_mean_square
from analysis.curves import FitStatus
from analysis.fitting import LEVEL, MODELS, CurveFit, Estimate, checked, find_model, fit_curve
from analysis.losses import Loss
from analysis.models import Floats
from hyperscale.errors import AnalysisError

CANDIDATES = (
    "power",
    "root_exponential",
    "exponential",
    "power_floor",
    "corrected_power",
    "two_powers",
    "broken_power",
    "saturating",
    "broken_power_floor",
)
"""From few parameters to many: of two that are equally good the earlier is chosen."""
NUM_STARTS = 16
FEW_OCTAVES = 8.0
"""A floor is told from a bend over this many octaves and more (simulated: FITTING.md, section 6 of Method)."""
_EXACT = 1e-9
"""Backtest errors below this are rounding."""
_CLOSE_AICC, _CLOSE_ERROR = 2.0, 1.1
"""Within 2 of the best AICc, or 10 % of the best backtest, a model is as good as the best."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Member:
    """One candidate: its fit, its weight in the average, its AICc and the root mean square of its backtests' errors.

    ``backtest`` is in log units (0.01 is about 1 %), None where too few points are left to refit the model.
    """

    fit: CurveFit
    weight: float
    aicc: float
    backtest: float | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelAverage:
    """What the candidates say together. ``predict`` averages log y over members with their weights.

    ``distances`` (octaves beyond the largest fitted size) and ``errors`` (log y, predicted less observed) are the
    backtests' points, for the average that was then to be had; ``agreement`` says in words how the choice was made.
    """

    members: tuple[Member, ...]
    chosen: CurveFit
    agreement: str
    agreed: bool
    exponent: Estimate | None
    octaves: float
    largest: float
    distances: Floats = field(repr=False)
    errors: Floats = field(repr=False)

    def predict(self, x: Sequence[float] | Floats) -> Floats:
        """Return y at sizes ``x``, ``[points]``: exp of the weighted mean of log y."""
        found: Floats = np.exp(self.weights @ self.log_predictions(x))
        return found

    @property
    def weights(self) -> Floats:
        """The members' weights, ``[members]``, which sum to 1."""
        return np.array([member.weight for member in self.members])

    def log_predictions(self, x: Sequence[float] | Floats) -> Floats:
        """Return every member's log y at sizes ``x``, ``[members, points]``."""
        return np.stack([np.log(member.fit.predict(x)) for member in self.members])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trial:
    """A candidate while its weight is not yet known."""

    fit: CurveFit
    predicted: list[Floats | None]
    score: float | None


def choose_model(
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    *,
    loss: Loss | None = None,
    seed: int = 0,
    num_resamples: int = 0,
) -> ModelAverage:
    """Fit the candidates to y at sizes x, score each by AICc and by backtests, and choose or average.

    A backtest holds the largest sizes out, refits and predicts them (`analysis.backtests`). Weights are the
    candidates' likelihoods given the backtests, normal errors of unknown scale: mse^(-cuts / 2).
    Raises `AnalysisError` where `fit_curve` would.
    """
    loss = loss or Loss(kind="log-least-squares")
    sizes, values = checked(find_model("power"), x, y, None)
    order = np.argsort(sizes[:, 0], kind="stable")
    sizes, values = sizes[order, 0], values[order]
    cuts = cuts_of(sizes, 4)
    trials = _fit_candidates(sizes, values, cuts, loss, seed, num_resamples)
    chosen, agreed, words = _choose(trials, float(np.log2(sizes[-1] / sizes[0])))
    weights = _weights(trials, chosen, agreed, len(cuts))
    members = tuple(
        Member(fit=trial.fit, weight=float(weight), aicc=trial.fit.aicc, backtest=trial.score)
        for trial, weight in zip(trials, weights, strict=True)
        if weight > 1e-3 or trial is chosen
    )
    total = sum(member.weight for member in members)
    members = tuple(replace(member, weight=member.weight / total) for member in members)
    distances, errors = _average_errors(trials, weights, cuts, values)
    return ModelAverage(
        members=tuple(sorted(members, key=lambda member: -member.weight)),
        chosen=chosen.fit,
        agreement=words,
        agreed=agreed,
        exponent=_exponent(members, chosen.fit),
        octaves=float(np.log2(sizes[-1] / sizes[0])),
        largest=float(sizes[-1]),
        distances=distances,
        errors=errors,
    )


def _fit_candidates(
    x: Floats, y: Floats, cuts: tuple[Cut, ...], loss: Loss, seed: int, num_resamples: int
) -> list[_Trial]:
    """Return the candidates that the data have enough points for, fitted and backtested."""
    trials = []
    for name in CANDIDATES:
        model = MODELS[name]
        if len(y) < model.num_parameters + (model.num_parameters > 2):
            continue
        try:
            fit = fit_curve(x, y, model=name, loss=loss, num_starts=NUM_STARTS, num_resamples=num_resamples, seed=seed)
        except AnalysisError:
            continue  # It overflows wherever it starts: no candidate for these data.
        predicted = backtest(model, x, y, cuts, fit.loss, num_starts=NUM_STARTS, seed=seed)
        trials.append(_Trial(fit=fit, predicted=predicted, score=_score(predicted, cuts, y)))
    return trials


def _score(predicted: list[Floats | None], cuts: tuple[Cut, ...], y: Floats) -> float | None:
    """Return the root mean square over cuts of the log errors, None where any cut could not be predicted."""
    found = [
        root_mean_square(row - np.log(y[cut.held])) for row, cut in zip(predicted, cuts, strict=True) if row is not None
    ]
    return root_mean_square(np.array(found)) if found and len(found) == len(cuts) else None


def _choose(trials: list[_Trial], octaves: float) -> tuple[_Trial, bool, str]:
    """Return the leading candidate, whether AICc and backtests agree on it, and the words."""
    sound = [trial for trial in trials if trial.fit.status in (FitStatus.CONVERGED, FitStatus.MISFIT)] or trials[:1]
    least = min(trial.fit.aicc for trial in sound)
    by_fit = [trial for trial in sound if trial.fit.aicc <= least + _CLOSE_AICC]
    scored = [trial for trial in sound if trial.score is not None]
    if not scored:
        first = by_fit[0]
        return first, False, f"AICc prefers {first.fit.model}; there are too few points to test it by prediction."
    best = min(trial.score for trial in scored if trial.score is not None)
    by_test = [trial for trial in scored if (trial.score or 0.0) <= max(best * _CLOSE_ERROR, _EXACT)]
    both = [trial for trial in by_fit if trial in by_test]
    floor = ""
    if octaves < FEW_OCTAVES:
        floor = f" The data span {octaves:.1f} octaves; below {FEW_OCTAVES:.0f} nothing is claimed of a floor."
    if both:
        first = both[0]
        words = f"AICc and prediction of the largest sizes agree on {first.fit.model}."
        return first, True, words + floor
    fitted, tested = by_fit[0], by_test[0]
    words = (
        f"AICc prefers {fitted.fit.model} and prediction of the largest sizes {tested.fit.model}: they disagree, "
        "so the models are averaged."
    )
    return tested, False, words + floor


def _weights(trials: list[_Trial], chosen: _Trial, agreed: bool, num_cuts: int) -> Floats:
    """Return the weights ``[candidates]``: one for the chosen where all agree and it is exact, else the average's."""
    scores = np.array([math.inf if trial.score is None else max(trial.score, _EXACT) for trial in trials])
    if not np.isfinite(scores).any() or (agreed and chosen.score is not None and chosen.score <= 1e-4):
        return np.array([float(trial is chosen) for trial in trials])
    logs = -num_cuts * np.log(scores / scores.min())
    weights: Floats = np.exp(logs)
    return weights / weights.sum()


def _average_errors(trials: list[_Trial], weights: Floats, cuts: tuple[Cut, ...], y: Floats) -> tuple[Floats, Floats]:
    """Return the backtests' distances and the errors of the weighted mean, ``[held points of all cuts]``."""
    distances, errors = [np.empty(0)], [np.empty(0)]
    for number, cut in enumerate(cuts):
        rows = [(weight, trial.predicted[number]) for weight, trial in zip(weights, trials, strict=True) if weight > 0]
        known = [(weight, row) for weight, row in rows if row is not None]
        total = sum(weight for weight, _ in known)
        if total > 0:
            mean = sum(weight * row for weight, row in known) / total
            distances.append(cut.distances)
            errors.append(mean - np.log(y[cut.held]))
    return np.concatenate(distances), np.concatenate(errors)


def _exponent(members: tuple[Member, ...], chosen: CurveFit) -> Estimate | None:
    """Return the members' exponent, within and between them: sum_m w_m (se_m^2 + (s_m - s)^2), None for no power."""
    if chosen.exponent is None:
        return None
    known = [(member.weight, member.fit.exponent) for member in members if member.fit.exponent is not None]
    weights = np.array([weight for weight, _ in known])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(known), 1 / len(known))
    estimates = np.array([exponent.estimate for _, exponent in known])
    mean = float(weights @ estimates)
    if any(exponent.standard_error is None for _, exponent in known):
        return Estimate(estimate=mean)
    errors = np.array([exponent.standard_error or 0.0 for _, exponent in known])
    spread = math.sqrt(float(weights @ (errors**2 + (estimates - mean) ** 2)))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, max(chosen.freedom, 1))) * spread
    return Estimate(estimate=mean, standard_error=spread, interval=(mean - half, mean + half))
