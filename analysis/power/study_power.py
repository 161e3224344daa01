"""Power before a study runs: the chance of a decisive verdict, and the cheapest change that reaches 90 %.

Studies are simulated under each claim and under its nearest rival with `power.noise`, and judged by the package's
own rules (`power.questions`). "Decisive" means the right verdict; the wrong one is counted apart. What power does
not know: an optimisation gap that drifts with N, a target that is used up, trials that diverge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.exponents.envelope import Envelope
from analysis.judging.pairing import is_size
from analysis.power.designs import Design, budget_note, study_design, unlike_targets, value_codes
from analysis.power.noise import Noise, measure_noise
from analysis.power.questions import (
    AnyClaim,
    MonotoneQuestion,
    OrderingQuestion,
    Question,
    RateQuestion,
    distinction_chance,
    equivalence_chance,
)
from analysis.power.replicates import REPLICATES, Chance, Draws, Estimator
from analysis.power.rivals import nearest_rival
from analysis.power.separation_questions import SeparationQuestion
from hyperscale.claims import Claim, Monotone, Ordering, ScalingRate, Separation
from hyperscale.errors import AnalysisError
from hyperscale.study import Study

TARGET = 0.9
MAX_MORE_OCTAVES = 12
SEED_LADDER = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A larger study that reaches the target: octaves added, seeds in all, and what that adds.

    ``added_seconds`` are of one core, None where no cost is known.
    """

    octaves: int
    num_seeds: int
    present_seeds: int
    largest_size: float
    chance: float
    added_trials: int
    added_seconds: float | None

    @property
    def words(self) -> str:
        """The change in words: ``2 more octaves (sizes up to 1,536) and 10 seeds instead of 3``."""
        parts = []
        if self.octaves:
            plural = "s" if self.octaves > 1 else ""
            parts.append(f"{self.octaves} more octave{plural} (sizes up to {self.largest_size:,.0f})")
        if self.num_seeds > self.present_seeds:
            parts.append(f"{self.num_seeds} seeds instead of {self.present_seeds}")
        return " and ".join(parts)

    @property
    def price(self) -> float:
        """What the change is ranked by: time where it is known, else trials."""
        return self.added_trials if self.added_seconds is None else self.added_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimPower:
    """One claim's chances in a study as it is, and the changes that reach the target, cheapest first.

    ``equivalence`` is the chance that the exponent is found equal to the claimed one within 10 %, for rates.
    ``obstacle`` says why no verdict can come out whatever the data.
    """

    claim: str
    kind: str
    methods: tuple[str, ...]
    num_sizes: int
    octaves: float | None
    num_seeds: int
    noise: Noise | None
    chances: tuple[Chance, ...]
    equivalence: Chance | None = None
    changes: tuple[Change, ...] = ()
    obstacle: str = ""
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Chance | None:
        """The smallest of the chances: what the study can count on whichever truth holds."""
        return min(self.chances, key=lambda chance: chance.decisive, default=None)

    @property
    def enough(self) -> bool:
        """Whether the study as it is reaches the target."""
        return self.worst is not None and not self.obstacle and self.worst.decisive >= TARGET

    @property
    def advice(self) -> str:
        """What reaches the target, in words: ``2 more octaves (sizes up to 1,536) or 10 seeds instead of 3``."""
        if self.obstacle:
            return self.obstacle
        if self.enough:
            return "enough as it is"
        if not self.changes:
            return f"nothing tried: up to {MAX_MORE_OCTAVES} more octaves and {SEED_LADDER[-1]} seeds"
        return " or ".join(change.words for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "claim": self.claim,
            "kind": self.kind,
            "methods": list(self.methods),
            "sizes": self.num_sizes,
            "octaves": self.octaves,
            "seeds": self.num_seeds,
            "chance": None if self.worst is None else self.worst.decisive,
            "standard_error": None if self.worst is None else self.worst.standard_error,
            "wrong": max((chance.wrong for chance in self.chances), default=None),
            "under": [_chance_json(chance) for chance in self.chances],
            "equivalence": None if self.equivalence is None else _chance_json(self.equivalence),
            "noise": None if self.noise is None else _noise_json(self.noise),
            "enough": self.enough,
            "changes": [_change_json(change) for change in self.changes],
            "advice": self.advice,
            "obstacle": self.obstacle or None,
            "notes": list(self.notes),
        }


def _chance_json(chance: Chance) -> dict[str, Any]:
    names = ("truth", "exponent", "decisive", "wrong", "standard_error")
    return {name: getattr(chance, name) for name in names}


def _noise_json(noise: Noise) -> dict[str, Any]:
    return {name: getattr(noise, name) for name in ("excess", "lack_of_fit", "measured", "source")}


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "octaves": change.octaves,
        "seeds": change.num_seeds,
        "largest_size": change.largest_size,
        "chance": change.chance,
        "added_trials": change.added_trials,
        "added_seconds": None if change.added_seconds is None else round(change.added_seconds, 1),
        "words": change.words,
    }


def cheapest_changes(question: Question, target: float = TARGET) -> tuple[Change, ...]:
    """Return up to three changes that reach ``target`` under every truth, the cheapest first.

    For every number of octaves added the fewest seeds that suffice are found; kept are octaves alone, seeds alone,
    and a mixture of both where it is cheaper than either.
    """
    now = question.designs[0].num_seeds
    ladder = [now, *(count for count in SEED_LADDER if count > now)]
    found: list[Change] = []
    for octaves in range(MAX_MORE_OCTAVES + 1 if question.extendable else 1):
        if isinstance(question, RateQuestion) and _worst(question.with_perfect_seeds(), octaves, now) < target:
            continue
        # More octaves never need more seeds, so the ladder only shrinks.
        reached = _fewest_seeds(question, octaves, ladder, target)
        if reached is None:
            continue
        count, chance = reached
        found.append(_change(question, octaves, count, chance))
        ladder = [seeds for seeds in ladder if seeds <= count]
        if count == now:
            break
    pure = [change for change in found if not change.octaves or change.num_seeds == now]
    mixed = [change for change in found if change.octaves and change.num_seeds > now]
    best = min(mixed, key=lambda change: change.price, default=None)
    if best is not None and all(best.price < change.price for change in pure):
        pure.append(best)
    return tuple(sorted(pure, key=lambda change: change.price))


def _fewest_seeds(question: Question, octaves: int, ladder: Sequence[int], target: float) -> tuple[int, float] | None:
    """Return the first rung of a rising ladder that reaches the target, with its chance, or None."""
    for count in ladder:
        chance = _worst(question, octaves, count)
        if chance >= target:
            return count, chance
    return None


def _worst(question: Question, octaves: int, num_seeds: int) -> float:
    return min(chance.decisive for chance in question.chances(octaves, num_seeds))


def _change(question: Question, octaves: int, num_seeds: int, chance: float) -> Change:
    larger = [design.extended(octaves, num_seeds) for design in question.designs]
    seconds = [(new.seconds, old.seconds) for new, old in zip(larger, question.designs, strict=True)]
    known = [new - old for new, old in seconds if new is not None and old is not None]
    return Change(
        octaves=octaves,
        num_seeds=num_seeds,
        present_seeds=question.designs[0].num_seeds,
        largest_size=max(design.sizes[-1] for design in larger),
        chance=chance,
        added_trials=sum(design.num_trials for design in larger) - sum(d.num_trials for d in question.designs),
        added_seconds=sum(known) if len(known) == len(seconds) else None,
    )


def study_power(
    study: Study,
    *,
    num_seeds: int | None = None,
    pilot: Sequence[Sequence[Envelope]] = (),
    setting_seconds: Mapping[str, float] | None = None,
    noise: Noise | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[ClaimPower, ...]:
    """Return the power of every claim of ``study``, in its order.

    ``noise`` overrides what ``pilot`` (for each claim the envelopes of trials already there) and the defaults say;
    ``setting_seconds`` gives one trial's time by the setting's digest, and with it changes are ranked by time.
    """
    draws = Draws(replicates, seed)
    found = []
    for claim, envelopes in zip(study.claims, pilot or [()] * len(study.claims), strict=True):
        own = noise or measure_noise(envelopes)
        try:
            question = claim_question(study, claim, own, draws, num_seeds=num_seeds, setting_seconds=setting_seconds)
        except AnalysisError as problem:
            found.append(_without_power(claim, num_seeds or len(study.seeds), str(problem)))
        else:
            found.append(question_power(question, own))
    return tuple(found)


def claim_question(
    study: Study,
    claim: Claim,
    noise: Noise,
    draws: Draws,
    *,
    num_seeds: int | None = None,
    setting_seconds: Mapping[str, float] | None = None,
) -> Question:
    """Return the question that ``claim`` asks of ``study``; `AnalysisError` where it cannot be simulated."""
    if not isinstance(claim, ScalingRate | Separation | Ordering | Monotone):
        raise AnalysisError(f"Claims of kind {type(claim).__name__} have no power analysis.")
    column = claim.columns[-1]
    counted = isinstance(claim, ScalingRate | Separation) or is_size(column)
    codes = None if counted else value_codes(study, claim.methods, column)
    designs = [
        study_design(
            study,
            method,
            column,
            num_seeds=num_seeds,
            setting_seconds=setting_seconds,
            codes=codes,
        )
        for method in claim.methods
    ]
    if isinstance(claim, ScalingRate):
        rival = nearest_rival(claim, study)
        return RateQuestion(claim=claim, design=designs[0], noise=noise, rival=rival, draws=draws)
    if isinstance(claim, Separation):
        return SeparationQuestion(claim=claim, faster=designs[0], slower=designs[1], noise=noise, draws=draws)
    if isinstance(claim, Ordering):
        if obstacle := unlike_targets(study, claim):
            raise AnalysisError(obstacle)
        return OrderingQuestion(claim=claim, lower=designs[0], higher=designs[1], noise=noise, draws=draws)
    return MonotoneQuestion(claim=claim, design=designs[0], draws=draws)


def question_power(question: Question, noise: Noise) -> ClaimPower:
    """Return the power of one claim: its chances, and the changes that reach the target where they are too small."""
    claim, design = question.claim, question.designs[0]
    directed = isinstance(claim, Monotone)
    obstacle = "" if directed else budget_note(question.designs, claim.methods)
    if isinstance(claim, ScalingRate) and claim.bound == "match" and claim.calibration is None:
        obstacle = "a match is never decided without a calibration of the optimisation gap; give the claim one"
    chances = question.chances(0, design.num_seeds)
    settled = bool(obstacle) or min(chance.decisive for chance in chances) >= TARGET
    return ClaimPower(
        claim=claim.title,
        kind=type(claim).__name__,
        methods=claim.methods,
        num_sizes=len(design.sizes),
        octaves=design.octaves if question.extendable else None,
        num_seeds=design.num_seeds,
        noise=None if directed else noise,
        chances=chances,
        equivalence=question.equivalence() if isinstance(question, RateQuestion) else None,
        changes=() if settled else cheapest_changes(question),
        obstacle=obstacle,
        notes=_notes(claim),
    )


def _without_power(claim: Claim, num_seeds: int, obstacle: str) -> ClaimPower:
    return ClaimPower(
        claim=claim.title,
        kind=type(claim).__name__,
        methods=claim.methods,
        num_sizes=0,
        octaves=None,
        num_seeds=num_seeds,
        noise=None,
        chances=(),
        obstacle=obstacle,
    )


def _notes(claim: AnyClaim) -> tuple[str, ...]:
    notes = []
    if isinstance(claim, ScalingRate) and claim.bound != "upper" and not claim.hard_family:
        notes.append("an error below the bound can decide nothing: the target may be easier than the worst case")
    if isinstance(claim, ScalingRate) and claim.calibration is not None:
        notes.append("a calibration is simulated with the sizes and seeds of the claim; its trials come on top")
    return tuple(notes)


def octaves_needed(  # noqa: PLR0913
    exponent: float,
    rival: float | None = None,
    *,
    num_seeds: int = 5,
    sizes_per_octave: int = 2,
    noise: Noise | None = None,
    target: float = TARGET,
    most: int = 15,
    draws: Draws | None = None,
    estimator: Estimator = "edge",
) -> int | None:
    """Return the fewest whole octaves of N that reach ``target``, or None above ``most``.

    With a ``rival`` the question is whether the 95 % interval excludes it; without, whether the exponent is found
    equal to the true one within 10 % (TOST). The minimal sizes and octaves of a verdict do not apply to a rival.
    """
    noise, draws = noise or Noise(), draws or Draws()
    for octaves in range(1, most + 1):
        design = Design.spaced(octaves, sizes_per_octave, num_seeds)
        if len(design.sizes) < 3:
            continue
        if rival is None:
            chance = equivalence_chance(exponent, design, noise, draws, estimator)
        else:
            chance = distinction_chance(exponent, rival, design, noise, draws, estimator)
        if chance.decisive >= target:
            return octaves
    return None
