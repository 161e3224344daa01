"""Backtests: leave the largest sizes out at several cuts, refit, and see how well they are predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.fits.fitting import problem_of
from analysis.fits.losses import Loss
from analysis.fits.minimisation import minimise
from analysis.fits.models import CurveModel, Floats, LogLinear, Sample

HOLDOUTS = (0.5, 1.0, 1.5, 2.0)
"""Octaves held out at the large end, one backtest each."""
HORIZON = 1.0
"""Octaves beyond a cut that are predicted: an error further out says little of the next octave."""
HALF_LIFE = 0.5
"""Octaves over which a point's weight halves in the fits that predict."""
_FIRST_STEPS, _LAST_STEPS, _KEPT = 15, 60, 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """One backtest's split: which points are fitted and which are predicted, ``[points]`` each."""

    fitted: NDArray[np.bool_]
    held: NDArray[np.bool_]
    distances: Floats
    """Octaves of each held-out size beyond the largest fitted one, ``[held]``."""


def cuts_of(x: Floats, least: int) -> tuple[Cut, ...]:
    """Return the backtests of sizes ``x [points]``: at most half the octaves held out, ``least`` points kept.

    Data too coarse for half octaves (one size per octave or fewer) leave out one size more at each cut.
    """
    octaves = np.log2(x)
    span = float(octaves.max() - octaves.min())
    edges = {float(octaves.max()) - held for held in HOLDOUTS if held <= span / 2}
    distinct = np.unique(octaves)
    edges |= {float(distinct[-k]) - 1e-9 for k in range(1, 4) if k <= len(distinct) // 2}
    cuts: dict[int, Cut] = {}
    for edge in sorted(edges, reverse=True):
        fitted = octaves <= edge
        num_fitted = int(fitted.sum())
        if num_fitted < least or num_fitted in cuts:
            continue
        last = float(octaves[fitted].max())
        held = ~fitted & (octaves <= max(last + HORIZON, float(octaves[~fitted].min())) + 1e-9)
        cuts[num_fitted] = Cut(fitted=fitted, held=held, distances=octaves[held] - last)
    return tuple(cuts.values())


def num_independent(x: Floats, cuts: Sequence[Cut]) -> float:
    """Return how many backtests there are that do not overlap: octaves held out over octaves predicted, 1 at least."""
    held = max((float(np.log2(x.max() / x[cut.fitted].max())) for cut in cuts), default=0.0)
    return max(held / HORIZON, 1.0)


def late_weights(x: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Return weights ``[points]`` that halve every `HALF_LIFE` octaves below the largest kept size, 0 where not kept.

    A form is never quite right, and then a fit to all sizes is wrong at the largest by more than their scatter: to
    predict, fit where the prediction starts (local likelihood: Loader 1999, Local Regression and Likelihood, ch. 4).
    """
    octaves = np.log2(x)
    return np.where(mask, np.exp2((octaves - octaves[mask].max()) / HALF_LIFE), 0.0)


def fit_weighted(
    model: CurveModel, x: Floats, y: Floats, weights: Floats, loss: Loss, *, num_starts: int, seed: int
) -> tuple[Floats, Sample]:
    """Return parameters ``[fits, parameters]`` for weights ``[fits, points]``, and the sample they belong to.

    All fits and all starts are one batch; a held-out point is one of weight 0, and starts see the others only.
    """
    logs = np.log(y)
    mean = float(logs.mean())
    sample, response = Sample.of(x[:, None], mean), logs - mean
    if isinstance(model, LogLinear) and loss.kind == "log-least-squares":
        roots = np.sqrt(weights)[..., None]
        return solve_weighted(model.basis(sample) * roots, response * roots[..., 0]), sample
    starts = []
    for row in weights:
        kept = row > 0
        part = replace(sample, logs=sample.logs[kept])
        starts.append(model.starts(part, response[kept], num_starts, np.random.default_rng((seed, int(kept.sum())))))
    return fit_quickly(model, sample, response, loss, np.stack(starts), weights), sample


def solve_weighted(designs: Floats, responses: Floats) -> Floats:
    """Return the least-squares coefficients ``[fits, linear]`` of each design ``[fits, points, linear]``."""
    found: Floats = (np.linalg.pinv(designs) @ responses[..., None])[..., 0]
    return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Backtests:
    """One model's backtests: predicted log y ``[held]`` at each cut, from fits to all points and from late ones.

    A cut is None where too few points are left for the model. ``late`` are the parameters fitted to all data with
    `late_weights`, ``[parameters]``; ``steady`` whether that curve does not run away beyond the data.
    """

    plain: tuple[Floats | None, ...]
    leaning: tuple[Floats | None, ...]
    late: Floats
    steady: bool


def runs_away(model: CurveModel, theta: Floats, sample: Sample) -> bool:
    """Return whether a curve's exponent an octave beyond the data leaves the range it has within them.

    Allowed are twice the range's width on either side (an exponential's exponent doubles in an octave). A term that
    no point shows, as a rising power beside a falling one, would otherwise carry an average away.
    """
    low, high = sample.window[0]
    inside = np.linspace(low, high, 50)
    ahead = high + np.log(2) * np.array([0.9, 1.0])
    value = model.expand(theta[None], replace(sample, logs=np.concatenate([inside, ahead])[:, None])).value[0]
    within = np.diff(value[:50]) / (inside[1] - inside[0])
    beyond = float(np.diff(value[50:])[0] / (ahead[1] - ahead[0]))
    allowed = 2 * float(np.ptp(within)) + 1e-6 * (1 + float(np.abs(within).max()))
    return not (float(within.min()) - allowed <= beyond <= float(within.max()) + allowed)


def backtest(
    model: CurveModel, x: Floats, y: Floats, cuts: Sequence[Cut], loss: Loss, *, num_starts: int, seed: int
) -> Backtests:
    """Refit the model at every cut, to all fitted points alike and with late weights, and predict the held ones."""
    usable = [cut for cut in cuts if int(cut.fitted.sum()) > model.num_parameters]
    everything = np.ones(len(x), dtype=np.bool_)
    rows = [cut.fitted.astype(np.float64) for cut in usable]
    rows += [late_weights(x, mask) for mask in (*(cut.fitted for cut in usable), everything)]
    theta, sample = fit_weighted(model, x, y, np.stack(rows), loss, num_starts=num_starts, seed=seed)
    with np.errstate(over="ignore", invalid="ignore"):
        predicted = model.predict(theta, sample, x[:, None])
    found: list[dict[int, Floats]] = [{}, {}]
    for kind in range(2):
        for number, cut in enumerate(usable):
            row = predicted[kind * len(usable) + number]
            if np.isfinite(row).all():
                found[kind][id(cut)] = row[cut.held]
    plain, leaning = (tuple(rows_of.get(id(cut)) for cut in cuts) for rows_of in found)
    return Backtests(plain=plain, leaning=leaning, late=theta[-1], steady=not runs_away(model, theta[-1], sample))


def fit_quickly(
    model: CurveModel, sample: Sample, response: Floats, loss: Loss, starts: Floats, weights: Floats
) -> Floats:
    """Return the best parameters ``[fits, parameters]`` from starts ``[fits, starts, parameters]``.

    A few steps are taken from every start, then more from the best three.
    """
    num_fits, _, num_parameters = starts.shape
    kept = starts
    for num_steps in (_FIRST_STEPS, _LAST_STEPS):
        theta = kept.reshape(-1, num_parameters)
        rows = np.repeat(weights, len(theta) // num_fits, axis=0)
        theta, best, _ = minimise(
            problem_of(model, sample, response, loss, len(theta), rows), theta, max_steps=num_steps
        )
        order = np.argsort(best.reshape(num_fits, -1), axis=1, kind="stable")[:, :_KEPT]
        kept = np.take_along_axis(theta.reshape(num_fits, -1, num_parameters), order[..., None], axis=1)
    return kept[:, 0]


def root_mean_square(errors: Floats) -> float:
    """Return the root of the mean square, infinite where nothing could be predicted."""
    return math.sqrt(float((errors**2).mean())) if errors.size else math.inf
