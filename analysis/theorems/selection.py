"""Rates that stand beside the theorems' own: of each y(., I) alone, of both halves together, of deep networks.

Thm. 1 of "On the Modularity of Hypernetworks" (Galanti & Wolf, 2020) speaks of networks on n inputs, whichever they
are: with n = m1 it bounds networks fitted to each y(., I) alone, and with Thm. 4 it gives the hypernetwork's exponent
from both sides. Whether r/m or 2r/m is the exponent of deep networks turns on whether the weights depend continuously
on the target: `continuous_selection_rate` and `deep_selection_rate` are the two answers. Notation as in `modularity`.
"""

from __future__ import annotations

from analysis.theorems.modularity import (
    ADMISSIBLE,
    BEST_WEIGHTS,
    NOT_A_MEMBER,
    PAPER,
    UNIQUE,
    WORST_CASE,
    ZERO_AT_ZERO,
    TheoremTarget,
)
from hyperscale.claims import Calibration, ScalingRate

YAROTSKY = "Yarotsky (COLT 2018)"
_LARGE_F = "f is a ReLU network as large as needed; a small f may be what limits the error."
_BOTH_SIDES = (
    "The paper states the half from above; that from below is Thm. 1 for one y(., I) alone, which it calls the minimal "
    "complexity without a theorem of its own."
)


def instance_plain_rate(
    target: TheoremTarget,
    *,
    method: str | type = "PerInstance",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 1 with n = m1: a network for each y(., I) alone that reaches eps has N = Omega(eps^(-m1/r)).

    Of the hardest y(., I) in W(r, m1). The lower half beside `instance_rate`; with m1 = 1 the exponent of the error
    is r itself.
    """
    dim, r = target.x_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="lower",
        exponent=r / dim,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thm. 1 with n = m1, {PAPER}",
        statement=(
            f"A network for each instance alone needs N = Ω(ε^-{dim / r:.3g}) parameters: error ≥ c N^-{r / dim:.3g}. "
            "(The main text prints Ω(N^(-m/r)) for Ω(N^(-r/m)).)"
        ),
        conditions=(ADMISSIBLE, NOT_A_MEMBER, UNIQUE, WORST_CASE),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def instance_match(
    target: TheoremTarget,
    *,
    calibration: Calibration | None = None,
    method: str | type = "PerInstance",
    metric: str = "sup_error",
) -> ScalingRate:
    """Def. 1 and Thm. 1 with n = m1: the exponent of networks fitted to each y(., I) alone is r/m1, from both sides."""
    dim, r = target.x_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="match",
        exponent=r / dim,
        metric=metric,
        size="num_params_primary",
        theorem=f"Def. 1 and Thm. 1 with n = m1, {PAPER}",
        statement=f"For each instance alone the best error on the hardest target is of order N^-{r / dim:.3g}.",
        conditions=(ADMISSIBLE, NOT_A_MEMBER, UNIQUE, WORST_CASE, BEST_WEIGHTS),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def hypernetwork_match(
    target: TheoremTarget,
    *,
    calibration: Calibration | None = None,
    method: str | type = "Hypernetwork",
    metric: str = "sup_error",
) -> ScalingRate:
    """Thm. 4 with Thm. 1 for n = m1: the exponent of the hypernetwork in its primary size is r/m1, from both sides."""
    dim, r = target.x_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="match",
        exponent=r / dim,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thm. 4 and Thm. 1 with n = m1, {PAPER}",
        statement=(
            f"With f as large as needed the best error on the hardest target is of order N^-{r / dim:.3g} in the "
            "parameters of the primary network. (The sketch of Thm. 4 prints m2 for m1 twice.)"
        ),
        conditions=(ZERO_AT_ZERO, _LARGE_F, _BOTH_SIDES, NOT_A_MEMBER, UNIQUE, WORST_CASE, BEST_WEIGHTS),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def total_plain_rate(
    target: TheoremTarget,
    *,
    method: str | type = "Embedding",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Sec. 4.2 (Thm. 1): an embedding method needs N = Omega(eps^(-m/r)) parameters in all, e and q together.

    q(x, e(I)) is one network on (x, I), so Thm. 1 holds for it; `total_rate` is what Thm. 5 sets against it.
    """
    dim, r = target.x_dim + target.conditioning_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="lower",
        exponent=r / dim,
        metric=metric,
        size="num_params_total",
        theorem=f"Sec. 4.2 (Thm. 1), {PAPER}",
        statement=(
            f"All parameters together, N = Ω(ε^-{dim / r:.3g}) are needed: error ≥ c N^-{r / dim:.3g}. "
            "(Sec. 4.2 cites Thm. 5 as Thm. 3.)"
        ),
        conditions=(
            ADMISSIBLE,
            NOT_A_MEMBER,
            UNIQUE,
            WORST_CASE,
            "A target that meets Thm. 5 (a continuous selector of bounded dimension) need not be as hard as the worst "
            "case; there the bound says nothing.",
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def continuous_selection_rate(
    target: TheoremTarget,
    *,
    of_instance: bool = False,
    method: str | type | None = None,
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Eq. 2 (DeVore et al. 1989; [APP] Lemmas 18, 19): weights chosen continuously give error >= c N^(-r/m).

    Holds for every class of functions, networks or not; Thm. 1 is what removes the continuity. ``of_instance`` is of
    networks fitted to each y(., I) alone: m1 for m, and the primary size. `deep_selection_rate` is the other answer.
    """
    dim, r = _dim(target, of_instance), target.smoothness
    return ScalingRate(
        method=method or _plain(of_instance),
        bound="lower",
        exponent=r / dim,
        metric=metric,
        size=_size(of_instance),
        theorem=f"Eq. 2 and [APP] Lemma 19, {PAPER}",
        statement=(
            f"Weights chosen continuously in the target: error ≥ c N^-{r / dim:.3g}. (The main text prints "
            "Ω(N^(-m/r)) for Ω(N^(-r/m)); the appendix has this exponent.)"
        ),
        conditions=(
            "The weights depend continuously on the target. Training from a random start need not choose them so; "
            "with a discontinuous choice the bound fails (deep ReLU networks reach about N^(-2r/m)).",
            WORST_CASE,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def deep_selection_rate(
    target: TheoremTarget,
    *,
    of_instance: bool = False,
    method: str | type | None = None,
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Yarotsky (COLT 2018): deep ReLU networks with weights chosen discontinuously reach error O(N^(-2r/m)).

    For r = 1 there, for larger r in Yarotsky and Zhevnerchuk (NeurIPS 2020); no ReLU network does better, up to
    logarithms. Beside `continuous_selection_rate` (r/m) it asks which of the two training finds: an envelope between
    the two attains neither this rate nor contradicts it. ``of_instance`` as there.
    """
    dim, r = _dim(target, of_instance), target.smoothness
    source = YAROTSKY if r == 1 else "Yarotsky & Zhevnerchuk (NeurIPS 2020)"
    return ScalingRate(
        method=method or _plain(of_instance),
        bound="upper",
        exponent=2 * r / dim,
        metric=metric,
        size=_size(of_instance),
        theorem=f"Discontinuous choice of weights, {source}",
        statement=(
            "Deep ReLU networks whose weights depend discontinuously on the target reach error ≤ "
            f"c N^-{2 * r / dim:.3g}, where a continuous choice reaches N^-{r / dim:.3g}; logarithms apart, no ReLU "
            "network does better."
        ),
        conditions=(
            "ReLU, and a depth that grows in proportion to N; networks of fixed depth have the exponent r/m, up to "
            "logarithms.",
            "The weights are constructed, with the target's values encoded in their digits. Training may not find "
            "them: an exponent below 2r/m says nothing against the statement.",
            BEST_WEIGHTS,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def _dim(target: TheoremTarget, of_instance: bool) -> int:
    return target.x_dim if of_instance else target.x_dim + target.conditioning_dim


def _size(of_instance: bool) -> str:
    return "num_params_primary" if of_instance else "num_params_total"


def _plain(of_instance: bool) -> str:
    return "PerInstance" if of_instance else "Monolithic"
