"""Model choice: AICc and backtests side by side; one curve where they agree, an average where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from analysis.exponents.curves import FitStatus
from analysis.fits.backtests import Backtests, Cut, backtest, cuts_of, num_independent, root_mean_square
from analysis.fits.fitting import LEVEL, MODELS, CurveFit, Estimate, checked, find_model, fit_curve, stack_inputs
from analysis.fits.losses import Loss
from analysis.fits.models import Floats, bounded_exp
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
FLOORED = ("power_floor", "saturating", "broken_power_floor")
NUM_STARTS = 12
FEW_OCTAVES = 8.0
"""Over fewer octaves no model with a floor may lead: at 4, AICc finds a real floor 6 % of the time (simulated)."""
_EXACT = 1e-9
"""Backtest errors below this are rounding."""
_CLOSE_AICC, _CLOSE_ERROR = 2.0, 1.1
"""Within 2 of the best AICc, or 10 % of the best backtest, a model is as good as the best."""
_LEAST_WEIGHT = 1e-3
_LEAST_POINTS = 5
"""No backtest fits fewer points than this."""
_SHARPNESS = 4
"""Weights fall with this power of the backtests' error: two models of which one errs twice as much count 16 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Member:
    """One candidate: its fit, its weight in predictions (0: it has no part), its AICc and its backtests' errors.

    ``backtest`` and ``late_backtest`` are root mean squares of log errors (0.01 is about 1 %), of refits like the fit
    itself and of refits with late weights (`fits.backtests.late_weights`: they halve every half octave below the
    largest size); None where too few points are left to refit, or the late curve runs away beyond the data.
    ``late`` are the parameters that predict: the fit's own where the chosen model stands alone, else the late ones.
    """

    fit: CurveFit
    weight: float
    aicc: float
    backtest: float | None
    late_backtest: float | None
    late: Floats = field(repr=False)

    def log_predictions(self, x: Sequence[float] | Floats) -> Floats:
        """Return log y at sizes ``x``, ``[points]``."""
        return MODELS[self.fit.model].predict(self.late[None], self.fit.sample, stack_inputs(x, None))[0]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelAverage:
    """What the candidates say together; ``members`` are all of them, the largest weight first.

    ``agreed``: AICc and backtests prefer the same model. ``alone``: it predicts alone, else the average does.

    ``distances`` (octaves beyond the largest fitted size), ``errors`` (log y, predicted less observed) are the points
    of the backtests of the same average, ``num_cuts`` how many there were and ``num_independent`` how many do not
    overlap (the octaves held out over the octaves predicted, 1 at least). ``scatter`` is the standard deviation of
    log y about the curve, ``octaves`` the span of the sizes, ``largest`` the largest of them.
    """

    members: tuple[Member, ...]
    chosen: CurveFit
    agreement: str
    agreed: bool
    alone: bool
    exponent: Estimate | None
    octaves: float
    largest: float
    scatter: float
    num_cuts: int
    num_independent: float
    distances: Floats = field(repr=False)
    errors: Floats = field(repr=False)

    def predict(self, x: Sequence[float] | Floats) -> Floats:
        """Return y at sizes ``x``, ``[points]``: exp of the weighted mean of log y."""
        return bounded_exp(self.weights @ self.log_predictions(x))

    @property
    def voters(self) -> tuple[Member, ...]:
        """The members that have a part in predictions."""
        return tuple(member for member in self.members if member.weight > 0)

    @property
    def weights(self) -> Floats:
        """The voters' weights, ``[voters]``, which sum to 1."""
        return np.array([member.weight for member in self.voters])

    def log_predictions(self, x: Sequence[float] | Floats) -> Floats:
        """Return every voter's log y at sizes ``x``, ``[voters, points]``."""
        return np.stack([member.log_predictions(x) for member in self.voters])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trial:
    """A candidate while its weight is not yet known; scores are root mean squares of its backtests' errors."""

    fit: CurveFit
    tests: Backtests
    plain: float | None
    leaning: float | None


def choose_model(
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    *,
    loss: Loss | None = None,
    seed: int = 0,
    num_resamples: int = 0,
) -> ModelAverage:
    """Fit the candidates to y at sizes x, score each by AICc and by backtests, and choose or average.

    A backtest holds the largest sizes out, refits and predicts them (`fits.backtests`). Where AICc and backtests
    prefer one model, and no average predicts the held-out sizes better, it stands alone. Elsewhere log y is averaged
    over fits with late weights, each counting by its backtests' error^-4. Raises `AnalysisError` where `fit_curve`
    would.
    """
    loss = loss or Loss(kind="log-least-squares")
    sizes, values = checked(find_model("power"), x, y, None)
    order = np.argsort(sizes[:, 0], kind="stable")
    sizes, values = sizes[order, 0], values[order]
    cuts = cuts_of(sizes, _LEAST_POINTS)
    trials = _fit_candidates(sizes, values, cuts, loss, seed, num_resamples)
    octaves = float(np.log2(sizes[-1] / sizes[0]))
    average = _weights(trials)
    _, errors = _average_errors(trials, average, cuts, values, alone=False)
    chosen, agreed, alone, words = _choose(trials, octaves, root_mean_square(errors))
    weights = np.array([float(trial is chosen) for trial in trials]) if alone else average
    members = tuple(
        Member(
            fit=trial.fit,
            weight=float(weight),
            aicc=trial.fit.aicc,
            backtest=trial.plain,
            late_backtest=trial.leaning,
            late=trial.fit.theta if alone else trial.tests.late,
        )
        for trial, weight in sorted(zip(trials, weights, strict=True), key=lambda pair: -pair[1])
    )
    distances, errors = _average_errors(trials, weights, cuts, values, alone=alone)
    return ModelAverage(
        members=members,
        chosen=chosen.fit,
        agreement=words,
        agreed=agreed,
        alone=alone,
        exponent=_exponent(trials, chosen, agreed=agreed),
        octaves=octaves,
        largest=float(sizes[-1]),
        scatter=_scatter(members, sizes, values),
        num_cuts=len(cuts),
        num_independent=num_independent(sizes, cuts),
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
        tests = backtest(model, x, y, cuts, fit.loss, num_starts=NUM_STARTS, seed=seed)
        plain = _score(tests.plain, cuts, y)
        leaning = _score(tests.leaning, cuts, y) if tests.steady else None
        trials.append(_Trial(fit=fit, tests=tests, plain=plain, leaning=leaning))
    return trials


def _score(predicted: tuple[Floats | None, ...], cuts: tuple[Cut, ...], y: Floats) -> float | None:
    """Return the root mean square over cuts of the log errors, None where any cut could not be predicted."""
    found = [
        root_mean_square(row - np.log(y[cut.held])) for row, cut in zip(predicted, cuts, strict=True) if row is not None
    ]
    return root_mean_square(np.array(found)) if found and len(found) == len(cuts) else None


def _choose(trials: list[_Trial], octaves: float, average: float) -> tuple[_Trial, bool, bool, str]:
    """Return the leading candidate, whether all agree on it, whether it stands alone, and the words."""
    few = octaves < FEW_OCTAVES
    sound = [
        trial
        for trial in trials
        if trial.fit.status in (FitStatus.CONVERGED, FitStatus.MISFIT) and not (few and trial.fit.model in FLOORED)
    ] or trials[:1]
    least = min(trial.fit.aicc for trial in sound)
    by_fit = [trial for trial in sound if trial.fit.aicc <= least + _CLOSE_AICC]
    floor = ""
    if few:
        floor = (
            f" The data span {octaves:.1f} octaves; below {FEW_OCTAVES:.0f} nothing is claimed of a floor, and models "
            "with one take part in averages only."
        )
    scored = [trial for trial in sound if trial.plain is not None]
    if not scored:
        first = by_fit[0]
        words = f"AICc prefers {first.fit.model}; there are too few points to test it by prediction."
        return first, False, True, words + floor
    best = min(trial.plain for trial in scored if trial.plain is not None)
    by_test = [trial for trial in scored if (trial.plain or 0.0) <= max(best * _CLOSE_ERROR, _EXACT)]
    both = [trial for trial in by_fit if trial in by_test]
    if not both:
        words = (
            f"AICc prefers {by_fit[0].fit.model} and prediction of the largest sizes {by_test[0].fit.model}: "
            "they disagree, so predictions average the models, fitted with more weight on the larger sizes."
        )
        return by_test[0], False, False, words + floor
    first = both[0]
    words = f"AICc and prediction of the largest sizes agree on {first.fit.model}"
    if (first.plain or 0.0) <= max(average, _EXACT):
        return first, True, True, f"{words}.{floor}"
    words += (
        f", but an average fitted with more weight on the larger sizes predicts them better (error "
        f"{100 * average:.2g} % against {100 * (first.plain or 0.0):.2g} %): predictions are that average's."
    )
    return first, True, False, words + floor


def _weights(trials: list[_Trial]) -> Floats:
    """Return the average's weights ``[candidates]``: error^-4 of the late fits' backtests, 0 for the untested."""
    scores = np.array([math.inf if trial.leaning is None else max(trial.leaning, _EXACT) for trial in trials])
    if not np.isfinite(scores).any():
        return np.array([float(trial is trials[0]) for trial in trials])
    weights = (scores.min() / scores) ** _SHARPNESS
    weights[weights < _LEAST_WEIGHT] = 0.0
    found: Floats = weights / weights.sum()
    return found


def _average_errors(
    trials: list[_Trial], weights: Floats, cuts: tuple[Cut, ...], y: Floats, *, alone: bool
) -> tuple[Floats, Floats]:
    """Return the backtests' distances and the errors of the weighted mean, ``[held points of all cuts]``."""
    distances, errors = [np.empty(0)], [np.empty(0)]
    for number, cut in enumerate(cuts):
        rows = [(trial.tests.plain if alone else trial.tests.leaning)[number] for trial in trials]
        known = [(weight, row) for weight, row in zip(weights, rows, strict=True) if weight > 0 and row is not None]
        if known:
            mean = np.average([row for _, row in known], axis=0, weights=[weight for weight, _ in known])
            distances.append(cut.distances)
            errors.append(mean - np.log(y[cut.held]))
    return np.concatenate(distances), np.concatenate(errors)


def _scatter(members: tuple[Member, ...], x: Floats, y: Floats) -> float:
    """Return the standard deviation of log y about the averaged curve, over the last two octaves (8 points at least).

    One degree of freedom is taken off for every parameter of the leading member, up to half of the points.
    """
    late = np.arange(len(x)) >= min(int(np.searchsorted(x, x[-1] / 4)), len(x) - 8)
    voters = [member for member in members if member.weight > 0]
    weights = [member.weight for member in voters]
    mean = np.average([member.log_predictions(x[late]) for member in voters], axis=0, weights=weights)
    free = max(int(late.sum()) - len(members[0].late), int(late.sum()) // 2, 1)
    return math.sqrt(float(((np.log(y[late]) - mean) ** 2).sum()) / free)


def _exponent(trials: list[_Trial], chosen: _Trial, *, agreed: bool) -> Estimate | None:
    """Return the exponent with the spread within and between models, None where the leading form is no power.

    The chosen model's where AICc and backtests agree, else the mean; the variance is sum_m w_m (se_m^2 + (s_m - s)^2)
    over the identified models, with weights error^-4 of the backtests (Burnham and Anderson 2002, equation 4.9).
    """
    if chosen.fit.exponent is None:
        return None
    known: list[tuple[float, Estimate]] = [
        (max(trial.plain, _EXACT) ** -_SHARPNESS, trial.fit.exponent)
        for trial in trials
        if trial.fit.exponent is not None
        and trial.plain is not None
        and (trial.fit.status is FitStatus.CONVERGED or trial is chosen)
    ] or [(1.0, chosen.fit.exponent)]
    weights = np.array([weight for weight, _ in known])
    weights = weights / weights.sum()
    estimates = np.array([exponent.estimate for _, exponent in known])
    mean = chosen.fit.exponent.estimate if agreed else float(weights @ estimates)
    if any(exponent.standard_error is None for _, exponent in known):
        return Estimate(estimate=mean)
    errors = np.array([exponent.standard_error or 0.0 for _, exponent in known])
    spread = math.sqrt(float(weights @ (errors**2 + (estimates - mean) ** 2)))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, max(chosen.fit.freedom, 1))) * spread
    return Estimate(estimate=mean, standard_error=spread, interval=(mean - half, mean + half))
