"""What a separation of two rates asks of simulated studies: whether one method's exponent exceeds the other's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import stats

from analysis.exponents.curves import Floats
from analysis.exponents.decisions import TOLERANCE
from analysis.exponents.estimators import LEVEL, slope_intervals
from analysis.power.designs import Design
from analysis.power.noise import Noise
from analysis.power.questions import AnyClaim, too_small
from analysis.power.replicates import Chance, Draws, chance_of, simulated_logs

_PARTS = (2, 3)


class RateSeparation(AnyClaim, Protocol):
    """A claim that the rate of its first method is faster than that of its second."""

    @property
    def difference(self) -> float:
        """The difference of the two rates' exponents."""

    @property
    def hard_family(self) -> bool:
        """Whether the target has structure at every scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeparationQuestion:
    """Do two methods' exponents differ? The hull of an interval over seeds and one over sizes, against 0."""

    claim: RateSeparation
    faster: Design
    slower: Design
    noise: Noise
    draws: Draws

    @property
    def extendable(self) -> bool:
        """Always: sizes go on upwards."""
        return True

    @property
    def designs(self) -> tuple[Design, ...]:
        """The designs of both methods."""
        return self.faster, self.slower

    def chances(self, octaves: int, num_seeds: int) -> tuple[Chance, ...]:
        """Return the chance if the exponents differ as the rates do and, for a hard family, if they are equal."""
        expected = self.claim.difference
        texts = [f"the exponents differ by {expected:.3g}", "the exponents are equal"]
        texts = texts if self.claim.hard_family else texts[:1]
        designs = _common_range(*(design.extended(octaves, num_seeds) for design in self.designs))
        if num_seeds < 2 or any(too_small(design) for design in designs):
            never = np.zeros(self.draws.replicates, dtype=bool)
            return tuple(chance_of(never, never, text, None) for text in texts)
        low, high = difference_intervals(*designs, self.noise, self.draws)
        least = expected * (1 - TOLERANCE)
        held_low, held_high = low + expected, high + expected
        chances = [chance_of(held_low > 0, (held_low <= 0) & (held_high < least), texts[0], None)]
        if self.claim.hard_family:
            below, above = high < 0, low > 0
            chances.append(chance_of((high < least) & ~below & ~above, below | above, texts[1], None))
        return tuple(chances)


def _common_range(first: Design, second: Design) -> tuple[Design, Design]:
    """Return both designs restricted to the sizes inside the range that both cover, as far as there are any."""
    low, high = max(first.sizes[0], second.sizes[0]), min(first.sizes[-1], second.sizes[-1])
    cut = []
    for design in (first, second):
        kept = [index for index, size in enumerate(design.sizes) if low <= size <= high] or [0]
        chosen = slice(kept[0], kept[-1] + 1)
        parts = (design.sizes[chosen], design.trials_per_seed[chosen], design.trial_seconds[chosen])
        cut.append(replace(design, sizes=parts[0], trials_per_seed=parts[1], trial_seconds=parts[2]))
    return cut[0], cut[1]


def difference_intervals(first: Design, second: Design, noise: Noise, draws: Draws) -> tuple[Floats, Floats]:
    """Return (low, high) ``[replicates]`` of the difference of exponents where the true one is 0.

    Every seed has its own envelope (the worst of the targets). Over seeds: the t-interval of the paired differences
    of slopes. Over sizes: that of the slope of the mean log ratio where the sizes are equal, else the two slopes'
    with Welch's degrees of freedom. The interval is the hull of both, as in the package's verdict on a separation.
    """
    logs = [
        simulated_logs(d, noise, draws, part=part).max(axis=2) for d, part in zip((first, second), _PARTS, strict=True)
    ]
    x = [np.log(design.sizes) for design in (first, second)]
    lines = [slope_intervals(at, values.swapaxes(1, 2)) for at, values in zip(x, logs, strict=True)]
    per_seed = lines[1].slope - lines[0].slope
    count = per_seed.shape[-1]
    centre = per_seed.mean(axis=-1)
    over_seeds = _half(per_seed.std(axis=-1, ddof=1) / np.sqrt(count), count - 1)
    means = [values.mean(axis=-1) for values in logs]
    if x[0].shape == x[1].shape and np.allclose(x[0], x[1]):
        over_sizes = _half(slope_intervals(x[0], means[1] - means[0]).standard_error, len(x[0]) - 2)
    else:
        variances = [slope_intervals(at, mean).standard_error ** 2 for at, mean in zip(x, means, strict=True)]
        total = variances[0] + variances[1]
        free = total**2 / (variances[0] ** 2 / (len(x[0]) - 2) + variances[1] ** 2 / (len(x[1]) - 2))
        over_sizes = _half(np.sqrt(total), free)
    half = np.maximum(over_seeds, over_sizes)
    return centre - half, centre + half


def _half(standard_error: Floats, degrees: Floats | int) -> Floats:
    half: Floats = stats.t.ppf(0.5 + LEVEL / 2, degrees) * standard_error
    return half
