"""What a study spends on a claim: sizes, seeds, trials, time, and the same with more of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.exponents.target_keys import target_key
from analysis.judging.pairing import best_values, complete_seeds, gaps_between, is_size, same_members
from hyperscale.claims import Claim, Ordering, ScalingRate
from hyperscale.errors import AnalysisError
from hyperscale.settings.setting import Scalar
from hyperscale.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """The sizes of one method in rising order, and how many trials each seed has there.

    ``trials_per_seed`` and ``trial_seconds`` (of one trial on one core; empty where unknown) go with ``sizes``.
    """

    sizes: tuple[float, ...]
    num_seeds: int
    trials_per_seed: tuple[int, ...]
    num_targets: int = 1
    trial_seconds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the sizes and counts."""
        rising = all(a < b for a, b in zip(self.sizes, self.sizes[1:], strict=False))
        if not self.sizes or not rising or not all(math.isfinite(n) and n > 0 for n in self.sizes):
            raise AnalysisError(
                f"Design.sizes is {list(self.sizes)}; allowed: positive finite sizes, each once, in rising order."
            )
        for name in ("num_seeds", "num_targets"):
            if getattr(self, name) < 1:
                raise AnalysisError(f"Design.{name} is {getattr(self, name)}; allowed: a whole number of at least 1.")
        assert len(self.trials_per_seed) == len(self.sizes)
        assert len(self.trial_seconds) in (0, len(self.sizes))

    @classmethod
    def spaced(cls, octaves: float, sizes_per_octave: int, num_seeds: int) -> Design:
        """Return sizes from 1 to 2^octaves, both ends included: octaves * sizes_per_octave + 1 of them."""
        if sizes_per_octave < 1 or not 0 < octaves < math.inf:
            raise AnalysisError(
                f"A design of {octaves:g} octaves with {sizes_per_octave} sizes each was asked for; allowed: more than "
                "0 octaves and at least 1 size in each."
            )
        count = round(octaves * sizes_per_octave) + 1
        sizes = tuple(2.0 ** (index / sizes_per_octave) for index in range(count))
        return cls(sizes=sizes, num_seeds=num_seeds, trials_per_seed=(1,) * count)

    @property
    def octaves(self) -> float:
        """The base-2 logarithm of the largest size over the smallest."""
        return math.log2(self.sizes[-1] / self.sizes[0])

    @property
    def sizes_per_octave(self) -> int:
        """How densely sizes lie, as a whole number of at least 1."""
        return max(1, round((len(self.sizes) - 1) / self.octaves)) if self.octaves else 1

    @property
    def num_trials(self) -> int:
        """Trials in all."""
        return self.num_seeds * sum(self.trials_per_seed)

    @property
    def seconds(self) -> float | None:
        """Time of all trials on one core, None where it is unknown."""
        if not self.trial_seconds:
            return None
        each = zip(self.trials_per_seed, self.trial_seconds, strict=True)
        return self.num_seeds * sum(count * seconds for count, seconds in each)

    def extended(self, octaves: int, num_seeds: int | None = None) -> Design:
        """Return the design with ``octaves`` more above the largest size, as dense as it is, and other seeds.

        New sizes get as many trials as the largest one. Their time goes on as the last two sizes' does, linearly in
        N: a fixed part and a part for every parameter.
        """
        dense = self.sizes_per_octave
        added = [self.sizes[-1] * 2 ** (index / dense) for index in range(1, octaves * dense + 1)]
        times = self.trial_seconds + tuple(self._seconds_at(size) for size in added) if self.trial_seconds else ()
        return replace(
            self,
            sizes=(*self.sizes, *added),
            num_seeds=num_seeds or self.num_seeds,
            trials_per_seed=(*self.trials_per_seed, *[self.trials_per_seed[-1]] * len(added)),
            trial_seconds=times,
        )

    def shortened(self, octaves: float) -> Design:
        """Return the design with only those sizes that lie within ``octaves`` of the smallest."""
        count = sum(size <= self.sizes[0] * 2**octaves * (1 + 1e-9) for size in self.sizes)
        parts = (self.sizes[:count], self.trials_per_seed[:count], self.trial_seconds[:count])
        return replace(self, sizes=parts[0], trials_per_seed=parts[1], trial_seconds=parts[2])

    def _seconds_at(self, size: float) -> float:
        """Return one trial's seconds beyond the largest size."""
        if len(self.sizes) < 2:
            return self.trial_seconds[-1] * size / self.sizes[-1]
        slope = (self.trial_seconds[-1] - self.trial_seconds[-2]) / (self.sizes[-1] - self.sizes[-2])
        return self.trial_seconds[-1] + max(0.0, slope) * (size - self.sizes[-1])


def study_design(
    study: Study,
    method: str,
    size: str,
    *,
    num_seeds: int | None = None,
    setting_seconds: Mapping[str, float] | None = None,
    codes: Mapping[Scalar, float] | None = None,
) -> Design:
    """Return the design of ``method`` along the column ``size``.

    ``num_seeds`` takes the study's first few seeds; ``setting_seconds`` gives one trial's seconds by the setting's
    digest; ``codes`` stands in for the column's values where they count nothing (`value_codes`). Trials that
    calibrate a rate have a target of their own and do not count. Raises `AnalysisError` where the method has no
    numeric ``size``.
    """
    chosen = [(s, s.columns()) for s in study.settings if s.method_name == method]
    chosen = [(s, columns) for s, columns in chosen if not calibrates(study.claims, method, columns)]
    values = [columns.get(size) for _, columns in chosen]
    if codes is not None:
        values = [value if value is None else codes[value] for value in values]
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    if not numbers or len(numbers) < len(values):
        raise AnalysisError(
            f"Study {study.name!r}: {method} has no numeric column {size!r} in each of its settings; "
            "a power analysis needs one, such as num_params_primary."
        )
    counts = Counter(numbers)
    sizes = sorted(counts)
    seconds: list[float] = []
    if setting_seconds:
        for n in sizes:
            digests = [s.digest() for (s, _), v in zip(chosen, numbers, strict=True) if v == n]
            known = [setting_seconds[digest] for digest in digests if digest in setting_seconds]
            if not known:  # A size that nobody has timed leaves no cost of the whole.
                seconds = []
                break
            seconds.append(sum(known) / len(known))
    return Design(
        sizes=tuple(sizes),
        num_seeds=min(num_seeds or len(study.seeds), len(study.seeds)),
        trials_per_seed=tuple(counts[n] for n in sizes),
        num_targets=_num_targets([{**columns, size: n} for (_, columns), n in zip(chosen, numbers, strict=True)], size),
        trial_seconds=tuple(seconds),
    )


def calibrates(claims: Sequence[Claim], method: str, columns: Mapping[str, Scalar]) -> bool:
    """Whether a setting of ``method`` with these columns is a calibration of one of the claims."""
    for claim in claims:
        if isinstance(claim, ScalingRate) and claim.calibration is not None and method in claim.methods:
            where = claim.calibration.where
            if all(columns.get(name) == value for name, value in where.items()):
                return True
    return False


def value_codes(study: Study, methods: Sequence[str], column: str) -> dict[Scalar, float]:
    """Return the rank, from 1, of every value that ``column`` takes in the settings of ``methods``."""
    rows = (setting.columns() for setting in study.settings if setting.method_name in methods)
    found = {row[column] for row in rows if column in row}
    rising = sorted(found, key=lambda value: (isinstance(value, str), value))
    return {value: float(rank) for rank, value in enumerate(rising, start=1)}


def _num_targets(columns: Sequence[Mapping[str, Scalar]], size: str) -> int:
    """Return how many different targets the settings have; a family that grows along ``size`` is one."""
    return max(1, target_key(pd.DataFrame([dict(row) for row in columns]), size).nunique())


def unlike_targets(study: Study, claim: Ordering) -> str:
    """Return an empty text, or that two methods have no value at which both see the same member of a growing target.

    The package compares no errors on different targets, so this is found before the study runs.
    """
    rows = [{**s.columns(), "method": s.method_name} for s in study.settings if s.method_name in claim.methods]
    table = pd.DataFrame([row for row in rows if not calibrates(study.claims, str(row["method"]), row)])
    if claim.at_each not in table.columns:
        return ""
    spent = complete_seeds(table.assign(status="finished", seed=0, **{claim.metric: 1.0}), claim, claim.at_each)
    frames = [best_values(spent.rows, method, claim.metric, claim.at_each, smallest=True) for method in claim.methods]
    gaps = gaps_between(frames[0], frames[1], interpolate=is_size(claim.at_each), logs=False)
    kept, unlike = same_members(gaps, frames, spent.rows, claim)
    if not unlike or not kept.empty:
        return ""
    return (
        f"{' and '.join(claim.methods)} have different members of the target's family at every {claim.at_each}, and "
        "errors on different targets cannot be compared; compare along another column, such as primary_width"
    )


def budget_note(designs: Sequence[Design], names: Sequence[str]) -> str:
    """Return an empty text where every size of every design gets equally many trials, else who gets how many.

    The package gives no verdict on unequal budgets, so this is found before the study runs.
    """
    counts = [
        (count, size, name)
        for design, name in zip(designs, names, strict=True)
        for size, count in zip(design.sizes, design.trials_per_seed, strict=True)
    ]
    least, most = min(counts), max(counts)
    if least[0] == most[0]:
        return ""
    texts = [f"{count} of {name} at {size:g}" for count, size, name in (least, most)]
    return f"unequal numbers of trials for each seed: {texts[0]}, but {texts[1]}"
