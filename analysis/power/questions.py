"""What a claim asks of simulated studies: which verdict is right under each truth, by the package's own rules.

A question answers ``chances(octaves, num_seeds)`` for the study's design with so many octaves added and so many
seeds in all: one `Chance` for each truth that the data should tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from analysis.exponents.curves import Floats
from analysis.exponents.decisions import MIN_OCTAVES, MIN_SIZES, TOLERANCE, Outcome, decide_rates
from analysis.judging.pairing import is_size
from analysis.power.designs import Design
from analysis.power.noise import Noise
from analysis.power.replicates import (
    Chance,
    Draws,
    Estimator,
    SimulatedRates,
    chance_of,
    exponent_intervals,
    interpolation_weights,
    kendall_taus,
    mean_signs,
)
from analysis.power.rivals import Rival
from hyperscale.claims import Monotone, Ordering, ScalingRate

ORDERING_RATIO = 0.8
"""The effect assumed of an ordering: the lower method's error is this part of the higher one's at every size."""
MONOTONE_EFFECT = 3.0
"""The effect assumed of a direction: first value to last, in standard deviations between seeds."""
_PAIRS, _LEAST_REPLICATES = 2e8, 400
_OUTCOMES = {
    "upper": ([Outcome.ATTAINED], [Outcome.NOT_ATTAINED, Outcome.NOT_ATTAINED_GAP]),
    "lower": ([Outcome.NOT_CONTRADICTED], [Outcome.CONTRADICTED]),
    "match": ([Outcome.MATCHED], [Outcome.NOT_MATCHED, Outcome.NOT_ATTAINED]),
}
"""By the kind of bound: what is right where the claim holds, and what where it fails."""
_EQUIVALENCE_LEVEL = 0.9  # two one-sided tests at 5 %


class AnyClaim(Protocol):
    """What every claim has."""

    @property
    def title(self) -> str:
        """One line for tables."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods the claim speaks of."""


class Question(Protocol):
    """A claim with a design, ready to be simulated."""

    @property
    def claim(self) -> AnyClaim:
        """The claim."""

    @property
    def extendable(self) -> bool:
        """Whether octaves can be added."""

    @property
    def designs(self) -> Sequence[Design]:
        """The designs of the claim's methods."""

    def chances(self, octaves: int, num_seeds: int) -> tuple[Chance, ...]:
        """Return the chances with ``octaves`` more and ``num_seeds`` in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateQuestion:
    """Does the envelope's exponent settle a rate? Simulated under the claimed exponent and under its rival's."""

    claim: ScalingRate
    design: Design
    noise: Noise
    rival: Rival
    draws: Draws

    @property
    def extendable(self) -> bool:
        """Always: sizes go on upwards."""
        return True

    @property
    def designs(self) -> tuple[Design, ...]:
        """The one design."""
        return (self.design,)

    def chances(self, octaves: int, num_seeds: int) -> tuple[Chance, ...]:
        """Return the chance under the claim and, unless no verdict is possible there, under the rival."""
        return self.chances_of(self.design.extended(octaves, num_seeds))

    def chances_of(self, design: Design) -> tuple[Chance, ...]:
        """Return the chances of one design, by `analysis.exponents.decisions.decide_rates`."""
        claim, rival = self.claim, self.rival
        holding, failing = _OUTCOMES[claim.bound]
        truths = [(claim.exponent, f"the error falls as N^-{claim.exponent:.3g}", holding, failing)]
        # An error below a bound decides nothing where the target may be easier than the worst case.
        if rival.exponent < claim.exponent or claim.hard_family:
            source = f"the error falls as N^-{rival.exponent:.3g} ({rival.source})"
            truths.append((rival.exponent, source, failing, holding))
        if too_small(design):
            never = np.zeros(self.draws.replicates, dtype=bool)
            return tuple(chance_of(never, never, text, exponent) for exponent, text, _, _ in truths)
        found = SimulatedRates.of(design, self.noise, self.draws, calibrated=claim.calibration is not None)
        chances = []
        for exponent, text, right, wrong in truths:
            outcomes = decide_rates(
                claim.bound, claim.exponent, found.at(exponent), gap=found.gap, hard_family=claim.hard_family
            )
            chances.append(chance_of(np.isin(outcomes, right), np.isin(outcomes, wrong), text, exponent))
        return tuple(chances)

    def with_perfect_seeds(self) -> RateQuestion:
        """Return the question where every seed finds the best: what no number of seeds can surpass."""
        return replace(self, noise=replace(self.noise, excess=0.0))

    def equivalence(self, octaves: int = 0, num_seeds: int | None = None) -> Chance:
        """Return the chance that two one-sided tests put the exponent within 10 % of the claimed one, when it is."""
        design = self.design.extended(octaves, num_seeds)
        return equivalence_chance(self.claim.exponent, design, self.noise, self.draws)


def equivalence_chance(
    exponent: float, design: Design, noise: Noise, draws: Draws, estimator: Estimator = "edge"
) -> Chance:
    """Return the power of TOST +-10 %: the 90 % interval lies inside (0.9 s, 1.1 s) when s is the truth."""
    truth = f"the exponent is {exponent:.3g}"
    never = np.zeros(draws.replicates, dtype=bool)
    if too_small(design):
        return chance_of(never, never, truth, exponent)
    found = exponent_intervals(design, noise, draws, level=_EQUIVALENCE_LEVEL, estimator=estimator)
    margin = TOLERANCE * exponent
    return chance_of((found.low > -margin) & (found.high < margin), never, truth, exponent)


def distinction_chance(
    exponent: float, rival: float, design: Design, noise: Noise, draws: Draws, estimator: Estimator = "edge"
) -> Chance:
    """Return the chance that the 95 % interval excludes ``rival`` on the right side when ``exponent`` is the truth.

    ``wrong`` is the chance that it lies wholly on the other side of the rival.
    """
    found = exponent_intervals(design, noise, draws, estimator=estimator)
    above, below = found.low + exponent > rival, found.high + exponent < rival
    right, wrong = (above, below) if exponent > rival else (below, above)
    return chance_of(right, wrong, f"the exponent is {exponent:.3g}, not {rival:.3g}", exponent)


def too_small(design: Design) -> bool:
    """Whether the package would refuse any verdict on a rate: too few sizes or octaves."""
    return len(design.sizes) < MIN_SIZES or design.octaves < MIN_OCTAVES


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderingQuestion:
    """Is one method below another? The per-seed mean log ratio over sizes, and its t-interval across seeds."""

    claim: Ordering
    lower: Design
    higher: Design
    noise: Noise
    draws: Draws
    ratio: float = ORDERING_RATIO

    @property
    def extendable(self) -> bool:
        """Whether octaves can be added: only where the methods are compared along a count of parameters."""
        return is_size(self.claim.at_each)

    @property
    def designs(self) -> tuple[Design, ...]:
        """The designs of both methods."""
        return self.lower, self.higher

    def chances(self, octaves: int, num_seeds: int) -> tuple[Chance, ...]:
        """Return the chance that the order is found (``wrong``: the opposite one), in one entry."""
        text = f"{self.claim.lower} errs {self.ratio:g} of what {self.claim.higher} errs"
        lower, higher = (design.extended(octaves, num_seeds) for design in self.designs)
        weights = self._weights(lower, higher)
        if weights is None:
            never = np.zeros(self.draws.replicates, dtype=bool)
            return (chance_of(never, never, text, None),)
        first, second = weights
        shifts = self._shared(first, 0) - self._shared(second, 1)
        seeds = [self._seed_gap(first, second, number) for number in range(num_seeds)]
        gaps = math.log(self.ratio) + shifts[:, None] + np.stack(seeds, axis=1)
        below, above = mean_signs(gaps)
        return (chance_of(below, above, text, None),)

    def _weights(self, lower: Design, higher: Design) -> tuple[Floats, Floats] | None:
        """Return what each size of either method counts in the mean over compared values, None without any."""
        first, second = np.array(lower.sizes), np.array(higher.sizes)
        if not is_size(self.claim.at_each):
            common = np.intersect1d(first, second)
            if not common.size:
                return None
            return np.isin(first, common) / common.size, np.isin(second, common) / common.size
        low, high = max(first[0], second[0]), min(first[-1], second[-1])
        wanted = np.array([n for n in np.union1d(first, second) if low <= n <= high])
        if not wanted.size:
            return None
        return interpolation_weights(first, wanted), interpolation_weights(second, wanted)

    def _shared(self, weights: Floats, stream: int) -> Floats:
        """Return ``[replicates]``: the mean lack of fit of one method, the same for all its seeds."""
        spread = self.noise.lack_of_fit * float(np.sqrt(weights @ weights))
        return spread * self.draws.normals(1, 2)[:, stream]

    def _seed_gap(self, first: Floats, second: Floats, number: int) -> Floats:
        """Return ``[replicates]``: one seed's mean excess of the lower method less that of the higher.

        A mean of several independent differences of exponentials, taken as normal with its exact variance.
        """
        spread = self.noise.excess * math.sqrt(float(first @ first + second @ second))
        return spread * self.draws.normals(2 + number, 1)[:, 0]


@dataclass(frozen=True, kw_only=True, slots=True)
class MonotoneQuestion:
    """Does a metric rise or fall along a column? Kendall's tau of each seed, and its t-interval across seeds."""

    claim: Monotone
    design: Design
    draws: Draws
    effect: float = MONOTONE_EFFECT

    @property
    def extendable(self) -> bool:
        """Never: what further values the column could take is not known."""
        return False

    @property
    def designs(self) -> tuple[Design, ...]:
        """The one design."""
        return (self.design,)

    def chances(self, octaves: int, num_seeds: int) -> tuple[Chance, ...]:  # noqa: ARG002
        """Return the chance that the direction is found (``wrong``: the opposite one), in one entry."""
        count = len(self.design.sizes)
        text = f"{self.claim.metric} changes by {self.effect:g} standard deviations between seeds"
        by_chance = 2.0 * math.exp(-num_seeds * math.lgamma(count + 1))
        if count < 2 or by_chance > 0.05:
            never = np.zeros(self.draws.replicates, dtype=bool)
            return (chance_of(never, never, text, None),)
        kept = self._replicates(num_seeds, count)
        trend = np.linspace(0, self.effect, count)
        taus = [kendall_taus(trend + self.draws.normals(2 + number, count)[:kept]) for number in range(num_seeds)]
        below, above = mean_signs(np.stack(taus, axis=1))
        return (chance_of(above, below, text, None),)

    def _replicates(self, num_seeds: int, count: int) -> int:
        """Return how many replicates to use: fewer where each compares many pairs of values."""
        affordable = int(_PAIRS / (num_seeds * count**2))
        return min(self.draws.replicates, max(_LEAST_REPLICATES, affordable))
