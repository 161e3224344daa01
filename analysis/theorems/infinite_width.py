"""Claims of "On Infinite-Width Hypernetworks" (Littwin, Galanti, Wolf & Yang, 2020).

Notation: f is the hypernetwork (depth L, least hidden width n), g the primary network (depth H = ``depth``, least
hidden width m), both in the NTK parameterisation without biases; u = (x, z), u' = (x', z'). Every claim is about
random weights, so a trial is one draw. ``method`` is the name that the study's settings give to such a draw,
``where`` selects among the settings (those of one depth of g, say).

What all of them share: the limits are sequential, n before m, so n must exceed m by far in a study that lets both
grow; at finite width the slopes are 0.2 to 0.5 shallower than the theorem's, so widths below about 128 mislead.
"""

from __future__ import annotations

from hyperscale.claims import Ceiling, Convergence, Monotone, WidthExponent
from hyperscale.draw_claims import Selection, Statistic
from hyperscale.errors import AnalysisError

PAPER = "Littwin et al. (2020)"

_SEQUENTIAL = (
    "The limits are sequential, n (of f) before m (of g); where both grow at one rate, or m exceeds n, the theorem "
    "does not apply."
)
_ASYMPTOTIC = (
    "Asymptotic in n: at finite width slopes are 0.2 to 0.5 shallower; widths of at least 128 and 200 draws are needed."
)
_PARAMETRISATION = "NTK parameterisation, Gaussian weights, no biases; the standard parameterisation is not covered."
_DEEP_ENOUGH = (
    "f is deep enough: a ReLU f of two layers is piecewise multilinear, its K^(3) is exactly 0 and the law fails; use "
    "L ≥ 4. For ReLU the Taylor expansion holds only approximately."
)
_ONLY_INPUT = "(Eq. 8 prints S^L where its own recursion, whose eq. 10 is circular, gives S^(L-1).)"


def taylor_exponent(
    *,
    order: int,
    depth: int,
    method: str | type,
    metric: str | None = None,
    along: str = "width",
    where: Selection = (),
) -> WidthExponent:
    """Thm. 1: the r-th Taylor term K^(r) ~ n^(H - r) if r > H, else ~ 1 (r = ``order``, H = ``depth`` of g).

    The conclusions print K^(r) ~ 1/n^(r-1), which is the case H = 1. ``metric`` defaults to ``taylor_<order>``.
    Raises `AnalysisError` for an order or a depth below 1.
    """
    _check_orders(order, depth)
    power = max(order - depth, 0)
    return WidthExponent(
        method=method,
        where=where,
        metric=metric or f"taylor_{order}",
        exponent=float(power),
        along=along,
        statistic="median",
        tolerance=0.5,
        theorem=f"Thm. 1, {PAPER}",
        statement=(
            f"K^({order}) ~ {f'n^-{power}' if power else '1'} for a primary network of depth {depth}. (The conclusions "
            "print 1/n^(r-1) for all, which is depth 1.)"
        ),
        conditions=(_ASYMPTOTIC, _DEEP_ENOUGH, _PARAMETRISATION, "g is fixed while n grows."),
    )


def taylor_spacing(
    *, order: int, depth: int, method: str | type, along: str = "width", prefix: str = "taylor_", where: Selection = ()
) -> WidthExponent:
    """Thm. 1: from K^(r-1) to K^(r) the exponent of n falls by 1 if r > H, else by 0.

    The form to test at finite width, where the slopes themselves are shallower but their differences are about 1; the
    margin of 0.5 tells 1 from 0.
    Raises `AnalysisError` for an order below 2 or a depth below 1.
    """
    _check_orders(order, depth, least=2)
    power = max(order - depth, 0) - max(order - 1 - depth, 0)
    return WidthExponent(
        method=method,
        where=where,
        metric=f"{prefix}{order}",
        relative_to=f"{prefix}{order - 1}",
        exponent=float(power),
        along=along,
        statistic="median",
        tolerance=0.5,
        theorem=f"Thm. 1, {PAPER}",
        statement=f"K^({order}) / K^({order - 1}) ~ {'1/n' if power else '1'} for a primary network of depth {depth}.",
        conditions=(_ASYMPTOTIC, _DEEP_ENOUGH, _PARAMETRISATION, "g is fixed while n grows."),
    )


def taylor_term_decay(
    *,
    order: int,
    rate_power: float,
    method: str | type,
    metric: str | None = None,
    along: str = "width",
    where: Selection = (),
) -> WidthExponent:
    """Remark 1: the r-th term of the expansion is O(mu^r / (r! n^(r-1))); with mu = n^a it falls as n^(a r - r + 1).

    The earlier bound was O(mu^r / (r! n)). With mu = o(sqrt n) every term of r >= 2 vanishes, r = 2 last. ``metric``
    (default ``taylor_term_<order>``) is mu^r |K^(r)| / r!, ``rate_power`` is a. For plain networks, H = 1. Raises
    `AnalysisError` for an order below 2.
    """
    _check_orders(order, 1, least=2)
    exponent = (order - 1) - rate_power * order
    return WidthExponent(
        method=method,
        where=where,
        metric=metric or f"taylor_term_{order}",
        exponent=exponent,
        sense="at least",
        along=along,
        statistic="median",
        tolerance=0.5,
        theorem=f"Remark 1, {PAPER}",
        statement=(
            f"With μ = n^{rate_power:.3g} the term of order {order} is O(n^{-exponent:.3g}). (The introduction prints "
            "O(1/√n) for the earlier bound, secs. 3 and 6 O(1/n).)"
        ),
        conditions=(
            "Depth 1, a plain network. For a hypernetwork of depth H the power of n is r - H, and terms of order up to "
            "H do not vanish.",
            _ASYMPTOTIC,
            _DEEP_ENOUGH,
            _PARAMETRISATION,
        ),
    )


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
            _PARAMETRISATION,
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
            _PARAMETRISATION,
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
            _PARAMETRISATION,
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
            _PARAMETRISATION,
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


def _check_orders(order: int, depth: int, least: int = 1) -> None:
    for name, given, minimum in (("order", order, least), ("depth", depth, 1)):
        if isinstance(given, bool) or not isinstance(given, int) or given < minimum:
            raise AnalysisError(
                f"The {name} of a Taylor term's claim is {given!r}; allowed: a whole number of at least {minimum}."
            )
