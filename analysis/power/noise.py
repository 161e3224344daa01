"""How trained errors scatter: the noise that a power analysis draws from.

A seed's best trial lies above the best that its size allows by an excess that is never negative; in log units it is
taken as exponential with mean ``excess``, the same for every seed and size (so the minimum over k seeds lies
``excess / k`` above on average, and scatters as much). Beside it every size has a lack of fit of its own, normal with
standard deviation ``lack_of_fit``, that no number of seeds averages out. Neither depends on the size: a gap that
drifts with N biases an exponent and is a matter of calibration, not of power.

A seed's trials at several learning rates count as one attempt: they share data and initialisation, and at most sizes
one learning rate is the best for all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.exponents.curves import Floats, fit_power_law
from analysis.exponents.envelope import Envelope, build_envelope
from hyperscale.claims import Claim, Ordering, ScalingRate, Separation, is_error
from hyperscale.errors import AnalysisError

DEFAULT_EXCESS = 0.4
DEFAULT_LACK_OF_FIT = 0.05
MIN_PILOT = 4
"""Fewest differences between seeds of one size that a measured excess may rest on."""
_MIN_FIT_SIZES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Scatter of log errors (natural logs; 0.1 is about ten per cent) and where its level comes from."""

    excess: float = DEFAULT_EXCESS
    lack_of_fit: float = DEFAULT_LACK_OF_FIT
    measured: bool = False
    source: str = "assumed"

    def __post_init__(self) -> None:
        """Check that both levels are finite and not negative."""
        for name in ("excess", "lack_of_fit"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise AnalysisError(
                    f"Noise.{name} is {value!r}; allowed: a finite number of at least 0, in log units (default "
                    f"{DEFAULT_EXCESS if name == 'excess' else DEFAULT_LACK_OF_FIT})."
                )

    @property
    def summary(self) -> str:
        """One phrase: ``excess 0.40, lack of fit 0.05 (assumed)``."""
        return f"excess {self.excess:.2f}, lack of fit {self.lack_of_fit:.2f} ({self.source})"

    def log_values(self, exponentials: Floats, normals: Floats) -> Floats:
        """Return log errors about their law, ``[replicates, sizes, targets, seeds]``, the shape of ``exponentials``.

        ``exponentials`` have mean 1; ``normals`` are ``[replicates, sizes]``: a size's lack of fit is shared by its
        seeds and targets.
        """
        values: Floats = self.excess * exponentials + self.lack_of_fit * normals[..., None, None]
        return values


def measure_noise(envelopes: Sequence[Envelope]) -> Noise:
    """Return the noise of the trials that a store already has, or the default where they are too few.

    ``excess``: the k seeds of one size and target exceed their own minimum by excess * (k - 1) in sum on average
    (exponential spacings), so the ratio of the totals is unbiased. ``lack_of_fit``: what the residuals about each
    envelope's power law leave beyond excess / k, never below the default, because a few residuals can be small by
    luck.
    """
    total, count, num_trials = 0.0, 0, 0
    for envelope in envelopes:
        for point in envelope.points:
            for seeds in point.seed_minima:
                if min(seeds) > 0:
                    logs = np.log(seeds)
                    total += float((logs - logs.min()).sum())
                    count += len(seeds) - 1
                    num_trials += len(seeds)
    if count < MIN_PILOT:
        return Noise()
    excess = total / count
    spreads = [spread for envelope in envelopes if (spread := _lack_of_fit(envelope, excess)) is not None]
    lack_of_fit = max([DEFAULT_LACK_OF_FIT, *spreads])
    where = f"measured from {num_trials} seeds' best trials in the store"
    if not any(spread > DEFAULT_LACK_OF_FIT for spread in spreads):
        where += ", lack of fit assumed"
    return Noise(excess=excess, lack_of_fit=lack_of_fit, measured=True, source=where)


def _lack_of_fit(envelope: Envelope, excess: float) -> float | None:
    """Return the standard deviation about the fitted law that the seeds' excess does not explain, or None."""
    points = [point for point in envelope.points if point.value > 0]
    if len(points) < _MIN_FIT_SIZES:
        return None
    std = fit_power_law([point.size for point in points], [point.value for point in points]).residual_std
    if std is None:
        return None
    seeds = np.mean([len(seeds) for point in points for seeds in point.seed_minima])
    return math.sqrt(max(0.0, std**2 - float(excess / seeds) ** 2))


def pilot_envelopes(claim: Claim, table: pd.DataFrame) -> list[Envelope]:
    """Return the envelopes of a claim's methods in the trials that are there, from which `measure_noise` learns.

    None for claims whose metric is no error, and where columns are missing.
    """
    if not isinstance(claim, ScalingRate | Separation | Ordering) or not is_error(claim.metric):
        return []
    if any(name not in table.columns for name in ("method", "status", *claim.columns)):
        return []
    metric, size = claim.columns
    return [build_envelope(table, method=method, metric=metric, size=size) for method in claim.methods]
