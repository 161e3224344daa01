"""Rates of "On the Modularity of Hypernetworks" (Galanti & Wolf, 2020): definition 1, eq. 2, theorems 1 to 5.

Notation: m1 = ``x_dim``, m2 = ``conditioning_dim``, m = m1 + m2, r = ``smoothness``; W(r, m) is the Sobolev
ball of order r on [-1, 1]^m. A theorem that says "error eps needs N of order eps^-p" becomes the exponent
1/p of ``error ~ N^-exponent``.

A ``calibration`` on trials of known infimum says how far the optimisation gap may change an exponent; for a target
whose number of bumps grows with N, give the member of the largest size, whose ``resolution`` is the finest.

What all of them share, and a verdict must not forget: they speak of the best weights, not of those that
training finds; the lower bounds speak of the hardest target of a class, not of each one. What the paper prints
wrongly is said in the statement of the claim it touches. The comparisons that these rates imply, the assumptions
and the lemma are in `comparisons`. Study files import this file, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Protocol

from hyperscale.claims import Calibration, ScalingRate
from hyperscale.errors import AnalysisError

PAPER = "Galanti & Wolf (2020)"

ADMISSIBLE = (
    "The activation is piecewise C^1 with a derivative of bounded variation inside L^1. Clipped ReLU, sigmoid, "
    "tanh and arctan qualify; plain ReLU does not (its derivative is not integrable), so a ReLU study is an analogy."
)
ZERO_AT_ZERO = (
    "The activation is universal and zero at zero, as above of bounded variation. Clipped ReLU and tanh "
    "qualify; sigmoid fails at zero, plain ReLU fails the integrability."
)
BOUNDED_SPECTRUM = (
    "The spectral complexities of the embedding network and of the primary network are bounded, and the "
    "embedding network has no biases; training does not enforce either."
)
SMOOTH_EMBEDDING = (
    "The embedding network e is continuously differentiable. A table of hat functions, or e of ReLU, is only piecewise "
    "so: a smooth network can approximate it as closely as wanted, and the bound is then about that network."
)
WORST_CASE = "The error is that of the hardest target of the Sobolev ball; an easier one may fall faster."
BEST_WEIGHTS = "Existence only: the best weights reach the rate, and training may not find them."
UNIQUE = (
    "Best approximators are unique and bounded (Assumption 1). Without a continuous choice of weights deep ReLU "
    "networks reach about twice this exponent (Yarotsky, COLT 2018)."
)
NOT_A_MEMBER = "No non-constant member of the ball is itself a network of the class; a network as target fails this."


class TheoremTarget(Protocol):
    """What the theorems need to know of a target y(x, I). Any object with these attributes will do."""

    @property
    def x_dim(self) -> int:
        """m1, the dimension of x."""

    @property
    def conditioning_dim(self) -> int:
        """m2, the dimension of I."""

    @property
    def smoothness(self) -> int:
        """r, the number of bounded derivatives."""

    @property
    def is_hard_family(self) -> bool:
        """Whether the target has structure at every scale that the study probes."""

    @property
    def resolution(self) -> float | None:
        """The height of the finest structure: errors below it say nothing of the rate."""


def plain_rate(
    target: TheoremTarget,
    *,
    method: str | type = "Monolithic",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 1: one network on (x, I) that reaches eps on all of W(r, m) has N = Omega(eps^(-m/r)).

    As a rate of the error: at least c N^(-r/m). The paper prints Omega(N^(-m/r)) in three places; its
    appendix has the exponent used here.
    """
    dim, r = target.x_dim + target.conditioning_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="lower",
        exponent=r / dim,
        metric=metric,
        size="num_params_total",
        theorem=f"Thm. 1, {PAPER}",
        statement=(
            f"A plain network needs N = Ω(ε^-{dim / r:.3g}) parameters: error ≥ c N^-{r / dim:.3g}. "
            "(The main text prints Ω(N^(-m/r)) for Ω(N^(-r/m)); the appendix has this exponent. As printed, eq. 3 "
            "gives the L^1 norm, not the variation.)"
        ),
        conditions=(ADMISSIBLE, NOT_A_MEMBER, UNIQUE, WORST_CASE),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def universal_rate(
    target: TheoremTarget,
    *,
    method: str | type = "Monolithic",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Def. 1: universal activations reach eps on all of W(r, n) with N = O(eps^(-n/r)) parameters.

    As a rate of the best error: at most c N^(-r/n) with n = m, against the lower bound of the same exponent in
    `plain_rate`. Networks fitted to each y(., I) alone (`instance_rate`) have n = m1.
    """
    return _universal(target, target.x_dim + target.conditioning_dim, method, metric, "num_params_total", calibration)


def instance_rate(
    target: TheoremTarget,
    *,
    method: str | type = "PerInstance",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Sec. 4.1: a network for each y(., I) alone reaches eps with N = O(eps^(-m1/r)) (Def. 1 with n = m1).

    The rate that modularity (Thm. 4) says the hypernetwork's primary network shares. The paper calls it "the
    minimal complexity ... O(.)" where Omega is meant for the lower half.
    """
    return _universal(target, target.x_dim, method, metric, "num_params_primary", calibration)


def _universal(
    target: TheoremTarget, dim: int, method: str | type, metric: str, size: str, calibration: Calibration | None
) -> ScalingRate:
    r = target.smoothness
    return ScalingRate(
        method=method,
        bound="upper",
        exponent=r / dim,
        metric=metric,
        size=size,
        theorem=f"Def. 1, {PAPER}",
        statement=f"N = O(ε^-{dim / r:.3g}) parameters are enough on the whole ball: error ≤ c N^-{r / dim:.3g}.",
        conditions=(
            "The activation is universal: smooth and nowhere polynomial, or ReLU, for which depth may have to grow; "
            "polynomial activations are not.",
            BEST_WEIGHTS,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def embedding_rate_fixed(
    target: TheoremTarget,
    *,
    method: str | type = "Embedding",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 2: with an embedding of fixed dimension, N_q = Omega(eps^(-(m1 + m2))), however large e is.

    Stated for r = 1 only; another smoothness raises `AnalysisError`.
    """
    require_first_order("Thm. 2 (embedding_rate_fixed)", target)
    dim = target.x_dim + target.conditioning_dim
    return ScalingRate(
        method=method,
        bound="lower",
        exponent=1 / dim,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thm. 2, {PAPER}",
        statement=(
            f"With an embedding of fixed dimension, q needs N = Ω(ε^-{dim}): error ≥ c N^-{1 / dim:.3g}, "
            "whatever the size of e."
        ),
        conditions=(
            ZERO_AT_ZERO,
            BOUNDED_SPECTRUM,
            SMOOTH_EMBEDDING,
            "The embedding's dimension stays fixed while N grows.",
            NOT_A_MEMBER,
            WORST_CASE,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def embedding_rate_growing(
    target: TheoremTarget,
    *,
    method: str | type = "Embedding",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 3: even with a growing embedding, N_q = Omega(eps^(-min(m, 2 m1))).

    Stated for r = 1 only; another smoothness raises `AnalysisError`. Weaker than Thm. 2 only when m2 > m1.
    """
    require_first_order("Thm. 3 (embedding_rate_growing)", target)
    power = min(target.x_dim + target.conditioning_dim, 2 * target.x_dim)
    return ScalingRate(
        method=method,
        bound="lower",
        exponent=1 / power,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thm. 3, {PAPER}",
        statement=(
            f"Even when the embedding's dimension may grow, q needs N = Ω(ε^-{power}): error ≥ c N^-{1 / power:.3g}"
            f"{', the exponent of Thm. 2' if target.conditioning_dim <= target.x_dim else ', less than Thm. 2 asks'}."
        ),
        conditions=(
            ZERO_AT_ZERO,
            BOUNDED_SPECTRUM,
            SMOOTH_EMBEDDING,
            "The first layer of q has an L1 norm bounded by a constant; training does not enforce it.",
            "The dimension grows in effect too: where e's last layer and q's first are linear, q sees no more than its "
            "own first width of it, as in the paper's experiments, and the condition fails.",
            NOT_A_MEMBER,
            WORST_CASE,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def hypernetwork_rate(
    target: TheoremTarget,
    *,
    method: str | type = "Hypernetwork",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 4 (modularity): some g with N_g = O(eps^(-m1/r)) and a large enough f reach eps.

    As a rate of the best error: at most c N_g^(-r/m1). The sketch in the main text prints m2 for m1 twice.
    """
    dim, r = target.x_dim, target.smoothness
    return ScalingRate(
        method=method,
        bound="upper",
        exponent=r / dim,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thm. 4, {PAPER}",
        statement=(
            f"A primary network of N = O(ε^-{dim / r:.3g}) is enough, f as large as needed: error ≤ "
            f"c N^-{r / dim:.3g}. (The sketch in the main text prints m2 for m1 twice.)"
        ),
        conditions=(
            ZERO_AT_ZERO,
            "f is a ReLU network as large as needed; a small f may be what limits the error.",
            "No y(., I) is itself a network of g's class.",
            BEST_WEIGHTS,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def total_rate(
    target: TheoremTarget,
    *,
    method: str | type = "Hypernetwork",
    metric: str = "sup_error",
    calibration: Calibration | None = None,
) -> ScalingRate:
    """Thm. 5: all parameters together, N_f = O(eps^(-m2/r) + eps^(-m1/r)) reach eps.

    As a rate of the best error in the total count: at most c N^(-r / max(m1, m2)), against r / (m1 + m2) of
    `plain_rate`.
    """
    dim, r = max(target.x_dim, target.conditioning_dim), target.smoothness
    return ScalingRate(
        method=method,
        bound="upper",
        exponent=r / dim,
        metric=metric,
        size="num_params_total",
        theorem=f"Thm. 5, {PAPER}",
        statement=(
            f"All parameters together, N = O(ε^-{dim / r:.3g}) is enough: error ≤ c N^-{r / dim:.3g}. "
            "(Sec. 4.2 cites it as Thm. 3.)"
        ),
        conditions=(
            ZERO_AT_ZERO,
            "The best weights of g depend on I through a continuous selector: a fixed number w of features "
            "in the Sobolev ball, followed by a bounded linear map. General targets need not have one.",
            "w is constant; the count grows as w^(1 + m2/r) otherwise.",
            BEST_WEIGHTS,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
        calibration=calibration,
    )


def require_first_order(theorem: str, target: TheoremTarget) -> None:
    """Raise `AnalysisError` unless the target's smoothness is 1, the only one that Thms. 2 and 3 are stated for."""
    if target.smoothness != 1:
        raise AnalysisError(
            f"{theorem} is stated for smoothness r = 1, and the target has r = {target.smoothness}. "
            "Use a target of smoothness 1, or leave this claim out."
        )
