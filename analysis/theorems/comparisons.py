"""What "On the Modularity of Hypernetworks" (Galanti & Wolf, 2020) says of methods side by side and of classes.

Orderings, separations and factors follow from the rates in `modularity`; Assumption 1 and the spectral complexity are
statements about single classes of networks, as are those in `neurons`.
"""

from __future__ import annotations

from analysis.theorems.modularity import (
    ADMISSIBLE,
    BEST_WEIGHTS,
    BOUNDED_SPECTRUM,
    PAPER,
    SMOOTH_EMBEDDING,
    WORST_CASE,
    ZERO_AT_ZERO,
    TheoremTarget,
    require_first_order,
)
from hyperscale.claims import Ceiling, Factor, Ordering, Separation

_LARGE_N = "The rates hold for large N; at a study's sizes the constants may decide instead, which no theorem gives."
_LARGE_F = "f is as large as needed; a small f may be what limits the hypernetwork's error."


def modularity_ordering(
    target: TheoremTarget | None = None,
    *,
    lower: str | type = "Hypernetwork",
    higher: str | type = "Embedding",
    metric: str = "sup_error",
    at_each: str = "num_params_primary",
) -> Ordering:
    """Thms. 2 and 4 together: at equal primary size the hypernetwork errs less than the embedding method.

    The theorems give this for large N and the hardest target; at a study's sizes it is a prediction.
    """
    rates = ""
    if target is not None and target.smoothness == 1:  # Thm. 2 is stated for r = 1 only.
        upper = target.smoothness / target.x_dim
        both = target.smoothness / (target.x_dim + target.conditioning_dim)
        rates = f" (best error of order N^-{upper:.3g} against N^-{both:.3g})"
    return Ordering(
        metric=metric,
        lower=lower,
        higher=higher,
        at_each=at_each,
        theorem=f"Thms. 2 and 4, {PAPER}",
        statement=f"At equal primary size the hypernetwork errs less than the embedding method{rates}.",
        conditions=(ZERO_AT_ZERO, BOUNDED_SPECTRUM, SMOOTH_EMBEDDING, _LARGE_F, _LARGE_N, WORST_CASE),
    )


def modularity_separation(
    target: TheoremTarget,
    *,
    growing: bool = False,
    faster: str | type = "Hypernetwork",
    slower: str | type = "Embedding",
    metric: str = "sup_error",
) -> Separation:
    """Thms. 2 and 4 (3 and 4 if ``growing``): exponents 1/m1 against 1/(m1 + m2) at equal primary size.

    With an embedding whose dimension grows the second is 1/min(m, 2 m1). For r = 1 only; else `AnalysisError`.
    """
    require_first_order("Thms. 2 to 4 together (modularity_separation)", target)
    dim = target.x_dim + target.conditioning_dim
    power = min(dim, 2 * target.x_dim) if growing else dim
    embedding = "even when the embedding's dimension may grow" if growing else "with an embedding of fixed dimension"
    return Separation(
        faster=faster,
        slower=slower,
        faster_exponent=1 / target.x_dim,
        slower_exponent=1 / power,
        metric=metric,
        size="num_params_primary",
        theorem=f"Thms. {3 if growing else 2} and 4, {PAPER}",
        statement=(
            f"At equal primary size the best error is of order N^-{1 / target.x_dim:.3g} for the hypernetwork and at "
            f"least of order N^-{1 / power:.3g} for the embedding method, {embedding}."
        ),
        conditions=(ZERO_AT_ZERO, BOUNDED_SPECTRUM, SMOOTH_EMBEDDING, _LARGE_F, BEST_WEIGHTS, WORST_CASE),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
    )


def total_separation(
    target: TheoremTarget,
    *,
    faster: str | type = "Hypernetwork",
    slower: str | type = "Monolithic",
    metric: str = "sup_error",
) -> Separation:
    """Thms. 1 and 5: exponents r/max(m1, m2) against r/(m1 + m2) in all parameters together.

    Sec. 4.2 says the same of embedding methods; it cites Thm. 3 where Thm. 5 is meant.
    """
    r, most, dim = (
        target.smoothness,
        max(target.x_dim, target.conditioning_dim),
        target.x_dim + target.conditioning_dim,
    )
    return Separation(
        faster=faster,
        slower=slower,
        faster_exponent=r / most,
        slower_exponent=r / dim,
        metric=metric,
        size="num_params_total",
        theorem=f"Thms. 1 and 5, {PAPER}",
        statement=(
            f"In all parameters together the best error is of order N^-{r / most:.3g} for the hypernetwork and at "
            f"least of order N^-{r / dim:.3g} for one network on (x, I). (Sec. 4.2 cites Thm. 5 as Thm. 3.)"
        ),
        conditions=(
            ADMISSIBLE,
            ZERO_AT_ZERO,
            "The target has a continuous selector of bounded dimension, as in Thm. 5, and is yet as hard as the worst "
            "case for the other method. The paper does not show that one target does both.",
            BEST_WEIGHTS,
        ),
        hard_family=target.is_hard_family,
        resolution=target.resolution,
    )


def total_ordering(
    *, lower: str | type = "Hypernetwork", higher: str | type = "Embedding", metric: str = "sup_error"
) -> Ordering:
    """Sec. 4.2 (Thms. 1 and 5): with as many parameters in all the hypernetwork errs less than the embedding method.

    The paper calls the difference significant; Thm. 5's selector must exist, and training shrinks it.
    """
    return Ordering(
        metric=metric,
        lower=lower,
        higher=higher,
        at_each="num_params_total",
        theorem=f"Sec. 4.2 (Thms. 1 and 5), {PAPER}",
        statement="With equally many parameters in all the hypernetwork errs less than the embedding method.",
        conditions=(
            ZERO_AT_ZERO,
            "The target has a continuous selector of bounded dimension (Thm. 5); general targets need not have one.",
            _LARGE_N,
        ),
    )


def instance_factor(
    *,
    appendix: bool = False,
    method: str | type = "Hypernetwork",
    reference: str | type = "PerInstance",
    metric: str = "sup_error",
) -> Factor:
    """Thm. 4, eq. 4: the hypernetwork errs at most 3 times what networks fitted to each y(., I) alone do.

    sup_I |g(.; f(I)) - y_I| <= 3 sup_I inf_theta |g(.; theta) - y_I| in the sketch; the proof in the appendix
    (Lemmas 23, 24) reaches 4, which ``appendix=True`` claims.
    """
    factor = 4.0 if appendix else 3.0
    return Factor(
        method=method,
        reference=reference,
        factor=factor,
        metric=metric,
        at_each="num_params_primary",
        theorem=f"Thm. 4, {'[APP] Lemmas 23 and 24' if appendix else 'eq. 4'}, {PAPER}",
        statement=(
            f"With the same primary network the hypernetwork errs at most {factor:g} times what the best weights of "
            "each instance alone do. (The sketch says 3, the appendix reaches 4.)"
        ),
        conditions=(
            ZERO_AT_ZERO,
            _LARGE_F,
            "The right side is an infimum over weights: a trained reference is above it and does not certify the "
            "factor.",
            BEST_WEIGHTS,
        ),
    )


def infimum_factor(
    *,
    appendix: bool = False,
    column: str = "per_instance_infimum",
    method: str | type = "Hypernetwork",
    metric: str = "sup_error",
) -> Factor:
    """Thm. 4, eq. 4, against the infimum itself: sup_I |g(.; f(I)) - y_I| <= 3 sup_I inf_theta |g(.; theta) - y_I|.

    ``column`` of the hypernetwork's own trials is a lower bound on the right side: the largest over I of the infimum
    over networks of the primary size. With ``appendix`` the factor is 4 (see `instance_factor`).
    """
    factor = 4.0 if appendix else 3.0
    return Factor(
        method=method,
        reference_column=column,
        factor=factor,
        metric=metric,
        at_each="num_params_primary",
        theorem=f"Thm. 4, {'[APP] Lemmas 23 and 24' if appendix else 'eq. 4'}, {PAPER}",
        statement=(
            f"With the same primary network the hypernetwork errs at most {factor:g} times the largest infimum of one "
            "instance. (The sketch says 3, the appendix reaches 4.)"
        ),
        conditions=(
            ZERO_AT_ZERO,
            _LARGE_F,
            "The infimum is over networks of the primary network's own architecture. Where a larger class was computed "
            "(all piecewise linear functions with as many pieces), its infimum is smaller, and missing the factor says "
            "less.",
            BEST_WEIGHTS,
        ),
    )


def selector_factor(
    *, method: str | type = "Hypernetwork", reference: str | type = "PerInstance", metric: str = "sup_error"
) -> Factor:
    """Sketch of Thm. 4 and [APP] Lemma 17: a continuous choice of weights errs at most twice the infimum.

    For a hypernetwork whose f can represent any continuous map, such as a table of weights per knot of I.
    """
    return Factor(
        method=method,
        reference=reference,
        factor=2.0,
        metric=metric,
        at_each="num_params_primary",
        theorem=f"[APP] Lemma 17, {PAPER}",
        statement="Weights that depend continuously on I err at most twice what the best weights of each I do.",
        conditions=(
            "f represents the selector exactly; a network f adds its own error, and the bound fails by that much.",
            "The targets form a compact set, none of which is itself a network of g's class.",
            BEST_WEIGHTS,
        ),
    )


def emulation_factor(
    *, method: str | type = "Hypernetwork", reference: str | type = "Embedding", metric: str = "sup_error"
) -> Factor:
    """Sec. 4.1: an embedding method is a hypernetwork that makes only the first layer's biases of g.

    So with g of q's architecture the hypernetwork's best error is at most that of the embedding method.
    """
    return Factor(
        method=method,
        reference=reference,
        factor=1.0,
        metric=metric,
        at_each="primary_width",
        theorem=f"Sec. 4.1, {PAPER}",
        statement="With g of q's hidden widths the hypernetwork's best error is at most that of the embedding method.",
        conditions=(
            "f is at least as large as e, and g has q's hidden layers; with equal parameter counts instead the "
            "inclusion does not hold.",
            BEST_WEIGHTS,
        ),
    )


def unique_approximator(
    *,
    method: str | type,
    metric: str = "student_distance",
    ceiling: str = "teacher_distance",
) -> Ceiling:
    """Assumption 1: the best approximator is unique as a function, so two students are closer than to the teacher.

    ``metric`` is the distance between two networks trained from different starts, ``ceiling`` that of one of them
    to the target, both metrics of the same trial.
    """
    return Ceiling(
        method=method,
        metric=metric,
        ceiling=ceiling,
        always=False,
        theorem=f"Assumption 1, {PAPER}",
        statement="Two trained networks of one class are closer to each other than to the target.",
        conditions=(
            "The target is outside the class; else both distances tend to 0 and their order says nothing.",
            "Both networks are best approximators; two trained ones need not be, so the order is a symptom of "
            "uniqueness and does not establish it.",
        ),
    )


def lipschitz_ceiling(
    *, method: str | type, metric: str = "lipschitz_quotient", ceiling: str = "spectral_complexity_primary"
) -> Ceiling:
    """Sec. 2.1, [APP] Lemma 3: C(f) = L^(k-1) prod_i |W^i|_1 is at least the Lipschitz constant of f.

    L is that of the activation, the norms are induced L1 norms (largest column sum), distances are L1. ``metric``
    is the largest |f(x) - f(x')|_1 / |x - x'|_1 that was found.
    """
    return Ceiling(
        method=method,
        metric=metric,
        ceiling=ceiling,
        theorem=f"Sec. 2.1 and [APP] Lemma 3, {PAPER}",
        statement="No quotient |f(x) - f(x')| / |x - x'| exceeds the spectral complexity C(f).",
        conditions=(
            "Both distances are L1. With another norm the bound does not hold as it stands.",
            "A quotient that was found is a lower bound on the Lipschitz constant.",
        ),
    )
