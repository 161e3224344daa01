"""Taylor terms of "On Infinite-Width Hypernetworks" (Littwin et al., 2020): theorem 1 and remark 1.

K^(r)_ij = <grad^(r) h_i, (grad h_j)^r>, the r-th term of a step's expansion; n is the least hidden width of f, H the
depth of g. At finite width the slopes are 0.2 to 0.5 shallower than the theorem's, so widths below about 128 mislead.
"""

from __future__ import annotations

from analysis.theorems.infinite_width import PAPER, PARAMETRISATION
from hyperscale.claims import WidthExponent
from hyperscale.draw_claims import Selection
from hyperscale.errors import AnalysisError

_ASYMPTOTIC = (
    "Asymptotic in n: at finite width slopes are 0.2 to 0.5 shallower; widths of at least 128 and 200 draws are needed."
)
_DEEP_ENOUGH = (
    "f is deep enough: a ReLU f of two layers is piecewise multilinear, its K^(3) is exactly 0 and the law fails; use "
    "L ≥ 4. For ReLU the Taylor expansion holds only approximately."
)


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
        conditions=(_ASYMPTOTIC, _DEEP_ENOUGH, PARAMETRISATION, "g is fixed while n grows."),
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
        conditions=(_ASYMPTOTIC, _DEEP_ENOUGH, PARAMETRISATION, "g is fixed while n grows."),
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
            PARAMETRISATION,
        ),
    )


def _check_orders(order: int, depth: int, least: int = 1) -> None:
    for name, given, minimum in (("order", order, least), ("depth", depth, 1)):
        if isinstance(given, bool) or not isinstance(given, int) or given < minimum:
            raise AnalysisError(
                f"The {name} of a Taylor term's claim is {given!r}; allowed: a whole number of at least {minimum}."
            )
