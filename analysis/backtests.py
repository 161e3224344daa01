"""Backtests: leave the largest sizes out at several cuts, refit, and see how well they are predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.fitting import problem_of
from analysis.losses import Loss
from analysis.minimisation import minimise
from analysis.models import CurveModel, Floats, LogLinear, Sample

HOLDOUTS = (0.5, 1.0, 1.5, 2.0)
"""Octaves held out at the large end, one backtest each."""
HORIZON = 1.0
"""Octaves beyond a cut that are predicted: an error further out says little of the next octave."""
_FIRST_STEPS, _LAST_STEPS, _KEPT = 25, 150, 3


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


def fit_cuts(
    model: CurveModel,
    x: Floats,
    y: Floats,
    masks: Sequence[NDArray[np.bool_]],
    loss: Loss,
    *,
    num_starts: int,
    seed: int,
) -> tuple[Floats, Sample]:
    """Return the parameters ``[masks, parameters]`` fitted to the points that each mask keeps, and their sample.

    All masks and all starts are one batch: a mask is a row of weights, 0 for the points it holds out. Starts see the
    kept points only. A few steps are taken from every start, then more from the best three of each mask.
    """
    logs = np.log(y)
    mean = float(logs.mean())
    sample, response = Sample.of(x[:, None], mean), logs - mean
    starts = []
    for mask in masks:
        part = replace(sample, logs=sample.logs[mask])
        starts.append(model.starts(part, response[mask], num_starts, np.random.default_rng((seed, int(mask.sum())))))
    weights = np.stack(masks).astype(np.float64)
    return fit_quickly(model, sample, response, loss, np.stack(starts), weights), sample


def backtest(
    model: CurveModel, x: Floats, y: Floats, cuts: Sequence[Cut], loss: Loss, *, num_starts: int, seed: int
) -> list[Floats | None]:
    """Return each cut's predicted log y ``[held]``, None where too few points are left for the model."""
    usable = [number for number, cut in enumerate(cuts) if int(cut.fitted.sum()) > model.num_parameters]
    found: list[Floats | None] = [None] * len(cuts)
    if not usable:
        return found
    masks = [cuts[number].fitted for number in usable]
    theta, sample = fit_cuts(model, x, y, masks, loss, num_starts=num_starts, seed=seed)
    with np.errstate(over="ignore", invalid="ignore"):
        predicted = model.predict(theta, sample, x[:, None])
    for number, row in zip(usable, predicted, strict=True):
        found[number] = row[cuts[number].held] if np.isfinite(row).all() else None
    return found


def fit_quickly(
    model: CurveModel, sample: Sample, response: Floats, loss: Loss, starts: Floats, weights: Floats
) -> Floats:
    """Return the best parameters ``[cuts, parameters]`` from starts ``[cuts, starts, parameters]``."""
    num_cuts, _, num_parameters = starts.shape
    if isinstance(model, LogLinear) and loss.kind == "log-least-squares":
        return starts[:, 0]
    kept = starts
    for num_steps in (_FIRST_STEPS, _LAST_STEPS):
        theta = kept.reshape(-1, num_parameters)
        rows = np.repeat(weights, len(theta) // num_cuts, axis=0)
        theta, best, _ = minimise(
            problem_of(model, sample, response, loss, len(theta), rows), theta, max_steps=num_steps
        )
        order = np.argsort(best.reshape(num_cuts, -1), axis=1, kind="stable")[:, :_KEPT]
        kept = np.take_along_axis(theta.reshape(num_cuts, -1, num_parameters), order[..., None], axis=1)
    return kept[:, 0]


def root_mean_square(errors: Floats) -> float:
    """Return the root of the mean square, infinite where nothing could be predicted."""
    return math.sqrt(float((errors**2).mean())) if errors.size else math.inf
