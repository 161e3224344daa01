"""Kernels of "On Infinite-Width Hypernetworks" (Littwin, Galanti, Wolf & Yang, 2020): theorems 2 and 3, figs. 1 and 2.

Notation: f is the hypernetwork (depth L, least hidden width n), g the primary network (depth H = ``depth``, least
hidden width m), both in the NTK parameterisation without biases; u = (x, z), u' = (x', z'). Every claim is about
random weights, so a trial is one draw. ``method`` is the name that the study's settings give to such a draw,
``where`` selects among the settings (those of one depth of g, say).

What all of them share: the limits are sequential, n before m, so n must exceed m by far in a study that lets both
grow. Thm. 1 and Remark 1 are in `taylor_terms`.
"""

from __future__ import annotations

from hyperscale.claims import Ceiling, Convergence, Monotone, WidthExponent
from hyperscale.draw_claims import Selection, Statistic

PAPER = "Littwin et al. (2020)"

_SEQUENTIAL = (
    "The limits are sequential, n (of f) before m (of g); where both grow at one rate, or m exceeds n, the theorem "
    "does not apply."
)
PARAMETRISATION = "NTK parameterisation, Gaussian weights, no biases; the standard parameterisation is not covered."
_ONLY_INPUT = "(Eq. 8 prints S^L where its own recursion, whose eq. 10 is circular, gives S^(L-1).)"


def process_limit(
    *,
    limit: float | str,
    method: str | type,
    metric: str = "output_covariance",
    along: str = "width",
    where: Selection = (),
) -> Convergence:
    """Thm. 2: outputs of g become Gaussian processes, E[h(u) h(u')] -> Lambda^H(u, u') = S^(L-1) Sigma^(H-1).

    ``limit`` is the closed form, or the column that holds it. The output's covariance is Lambda^H and not
    Sigma^(H-1). The paper states no rate; the correction of order 1/width is the usual one.
    """
    return _limit(
        method=method,
        where=where,
        metric=metric,
        limit=limit,
        along=along,
        theorem=f"Thm. 2, eqs. 7 to 10, {PAPER}",
        statement=f"The output covariance tends to the NNGP kernel Λ^H. {_ONLY_INPUT}",
    )


def hyperkernel_limit(
    *, limit: float | str, method: str | type, metric: str = "hyperkernel", along: str = "width", where: Selection = ()
) -> Convergence:
    """Thm. 3, eqs. 13, 14: K^h(u, u') -> Theta^f(x, x') Theta^g(u, u', S).

    The paper leaves Theta^g's recursion to its appendix: each backward step carries a factor S. Eq. 17 takes the
    same u twice, Fig. 1(b) two different ones.
    """
    return _limit(
        method=method,
        where=where,
        metric=metric,
        limit=limit,
        along=along,
        theorem=f"Thm. 3, eqs. 13 and 14, {PAPER}",
        statement=(
            f"The hyperkernel tends to Θ^f Θ^g. {_ONLY_INPUT} (Eq. 17 takes u twice, which makes the limit constant in "
            "the angle of Fig. 1b.)"
        ),
    )


def meta_kernel_limit(
    *, limit: float | str, method: str | type, metric: str = "meta_kernel", along: str = "width", where: Selection = ()
) -> Convergence:
    """Thm. 3, eq. 15, first half: K^f(x, x') -> Theta^f(x, x') I, a diagonal entry of it."""
    return _limit(
        method=method,
        where=where,
        metric=metric,
        limit=limit,
        along=along,
        theorem=f"Thm. 3, eq. 15, {PAPER}",
        statement=f"The tangent kernel of f tends to Θ^f times the identity. {_ONLY_INPUT}",
    )


def primary_kernel_limit(
    *,
    limit: float | str,
    method: str | type,
    metric: str = "primary_kernel",
    along: str = "width",
    where: Selection = (),
) -> Convergence:
    """Thm. 3, eq. 15, second half: K^g(u, u') -> Theta^g(u, u', S), every backward step with a factor S."""
    return _limit(
        method=method,
        where=where,
        metric=metric,
        limit=limit,
        along=along,
        theorem=f"Thm. 3, eq. 15, {PAPER}",
        statement=f"The tangent kernel of g in its own weights tends to Θ^g. {_ONLY_INPUT}",
    )


def _limit(
    *, method: str | type, metric: str, limit: float | str, along: str, theorem: str, statement: str, where: Selection
) -> Convergence:
    return Convergence(
        method=method,
        where=where,
        metric=metric,
        limit=limit,
        along=along,
        theorem=theorem,
        statement=statement,
        conditions=(
            _SEQUENTIAL,
            PARAMETRISATION,
            "The order 1 of the correction is the usual one and not stated in the paper; at small widths it does not "
            "hold yet.",
        ),
    )


def variance_decay(
    *,
    method: str | type,
    metric: str = "hyperkernel",
    along: str = "width",
    statistic: Statistic = "variance",
    where: Selection = (),
) -> WidthExponent:
    """Thm. 3, Fig. 1(a): with both widths growing the hyperkernel becomes deterministic, its variance tends to 0.

    ``statistic="geometric mean"`` is for a metric that is itself a variance over draws. No rate is stated.
    """
    return WidthExponent(
        method=method,
        where=where,
        metric=metric,
        sense="vanishing",
        along=along,
        statistic=statistic,
        theorem=f"Thm. 3 and Fig. 1a, {PAPER}",
        statement="The variance of the hyperkernel over initialisations tends to 0 when both widths grow.",
        conditions=(
            _SEQUENTIAL,
            PARAMETRISATION,
            "Both widths grow; with one of them fixed the variance does not vanish.",
        ),
    )


def variance_plateau(
    *,
    method: str | type,
    metric: str = "hyperkernel",
    along: str = "width",
    statistic: Statistic = "variance",
    where: Selection = (),
) -> WidthExponent:
    """Sec. 5.1, Fig. 1(a): with one width fixed the variance of the hyperkernel stays, exponent 0 in the other.

    ``along`` is the width that grows.
    """
    return WidthExponent(
        method=method,
        where=where,
        metric=metric,
        exponent=0.0,
        along=along,
        statistic=statistic,
        theorem=f"Fig. 1a, {PAPER}",
        statement="The variance of the hyperkernel does not vanish when only one of the two widths grows.",
        conditions=(
            "The other width is fixed and small. Before the plateau is reached the variance falls, so small widths "
            "mislead.",
            PARAMETRISATION,
        ),
    )


def kernel_derivative_decay(
    *, method: str | type, metric: str = "hyperkernel_derivative", along: str = "width", where: Selection = ()
) -> WidthExponent:
    """Thm. 3, eq. 16: under gradient flow d K^h / dt at t = 0 tends to 0 in probability. No rate is stated.

    ``metric`` is |K^h after a small step - K^h before| / step.
    """
    return WidthExponent(
        method=method,
        where=where,
        metric=metric,
        sense="vanishing",
        along=along,
        statistic="median",
        theorem=f"Thm. 3, eq. 16, {PAPER}",
        statement="The time derivative of the hyperkernel at initialisation tends to 0.",
        conditions=(
            _SEQUENTIAL,
            PARAMETRISATION,
            "Gradient flow at t = 0 only: nothing is said of later times, and a finite step adds its own error.",
        ),
    )


def rotation_invariance(
    *, method: str | type, metric: str = "rotation_shift", rounding: float = 1e-8, where: Selection = ()
) -> Ceiling:
    """Cor. 1: Lambda^H depends on the inputs only through Sigma^0(z, z') and S^0(x, x') (and their diagonals).

    So rotating x with x', and z with z', must not move the kernel: ``metric`` is its relative change, and only
    ``rounding`` is allowed.
    """
    return Ceiling(
        method=method,
        where=where,
        metric=metric,
        ceiling=rounding,
        theorem=f"Cor. 1, {PAPER}",
        statement="Joint rotations of (x, x') and of (z, z') leave the NNGP kernel unchanged.",
        conditions=("The kernel is the limit (the closed form); a draw at finite width is not invariant.",),
    )


def feature_invariance(
    *,
    method: str | type,
    metric: str = "shift_change",
    along: str = "num_features",
    tangent: bool = False,
    where: Selection = (),
) -> WidthExponent:
    """Remarks 2 and 3 (``tangent``): with Fourier features the kernels depend on z, z' only through |z - z'|.

    p(z) . p(z') / k -> exp(-|z - z'|^2 / 2) / 2 with a Monte Carlo error of order k^(-1/2) in the number k of
    features; so the change of the kernel under z + c, z' + c falls at least so fast.
    """
    kernel, number = ("tangent kernel Θ^g", 3) if tangent else ("NNGP kernel Λ^l", 2)
    return WidthExponent(
        method=method,
        where=where,
        metric=metric,
        exponent=0.5,
        sense="at least",
        along=along,
        statistic="root mean square",
        tolerance=0.1,
        theorem=f"Remark {number}, {PAPER}",
        statement=(
            f"With k Fourier features the {kernel} becomes invariant to shifts of z, up to O(k^(-1/2))."
            + (f" {_ONLY_INPUT}" if not tangent else "")
        ),
        conditions=(
            "W ~ N(0, 1) and b ~ U[-π, π]; with b on half a period the limit does not depend on the distance alone.",
            "The number of features is finite in any study, which the remarks do not treat.",
        ),
    )


def depth_penalty(*, method: str | type, metric: str = "test_accuracy", along: str = "primary_depth") -> Monotone:
    """Sec. 3, Fig. 2: with f wide and fixed, a deeper g trains worse: test accuracy falls with the depth of g.

    Thm. 1 is the reason given (a larger H leaves more non-linear terms); it does not imply the order itself.
    """
    return Monotone(
        method=method,
        metric=metric,
        along=along,
        direction="decreasing",
        theorem=f"Sec. 3 and Fig. 2, {PAPER}",
        statement="With f wide and fixed, a deeper primary network ends with a lower test accuracy.",
        conditions=("An observation on one task (rotations); Thm. 1 illustrates it and does not imply it.",),
    )


def width_benefit(*, method: str | type, metric: str = "test_accuracy", along: str = "primary_width") -> Monotone:
    """Sec. 5.2, Fig. 2: a wider g trains faster and better: test accuracy rises with the width of g."""
    return Monotone(
        method=method,
        metric=metric,
        along=along,
        direction="increasing",
        theorem=f"Sec. 5.2 and Fig. 2, {PAPER}",
        statement="A wider primary network ends with a higher test accuracy.",
        conditions=("An observation on one task (rotations); Thm. 3 illustrates it and does not imply it.",),
    )
