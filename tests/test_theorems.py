"""Tests of `analysis.theorems`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from analysis import theorems
from analysis.judging.checks import JUDGES, check
from hyperscale.claims import Calibration, Claim, Monotone, Ordering, ScalingRate
from hyperscale.errors import AnalysisError


@dataclass(frozen=True)
class Target:
    """What the theorems ask of a target."""

    x_dim: int = 1
    conditioning_dim: int = 1
    smoothness: int = 1
    is_hard_family: bool = True
    resolution: float | None = 0.01


@pytest.mark.parametrize(
    ("theorem", "dims", "bound", "exponent", "size"),
    [
        (theorems.plain_rate, (2, 1, 2), "lower", 2 / 3, "num_params_total"),
        (theorems.embedding_rate_fixed, (1, 1, 1), "lower", 1 / 2, "num_params_primary"),
        (theorems.embedding_rate_fixed, (1, 3, 1), "lower", 1 / 4, "num_params_primary"),
        (theorems.embedding_rate_growing, (1, 3, 1), "lower", 1 / 2, "num_params_primary"),
        (theorems.embedding_rate_growing, (3, 1, 1), "lower", 1 / 4, "num_params_primary"),
        (theorems.hypernetwork_rate, (1, 1, 1), "upper", 1, "num_params_primary"),
        (theorems.hypernetwork_rate, (2, 5, 3), "upper", 3 / 2, "num_params_primary"),
        (theorems.total_rate, (1, 3, 2), "upper", 2 / 3, "num_params_total"),
        (theorems.total_rate, (3, 1, 1), "upper", 1 / 3, "num_params_total"),
        (theorems.universal_rate, (2, 1, 2), "upper", 2 / 3, "num_params_total"),
        (theorems.instance_rate, (2, 3, 1), "upper", 1 / 2, "num_params_primary"),
        (theorems.continuous_selection_rate, (1, 2, 2), "lower", 2 / 3, "num_params_total"),
        (theorems.deep_selection_rate, (1, 2, 2), "upper", 4 / 3, "num_params_total"),
        (partial(theorems.continuous_selection_rate, of_instance=True), (1, 2, 2), "lower", 2, "num_params_primary"),
        (partial(theorems.deep_selection_rate, of_instance=True), (1, 1, 1), "upper", 2, "num_params_primary"),
        (theorems.instance_plain_rate, (1, 3, 2), "lower", 2, "num_params_primary"),
        (theorems.instance_match, (2, 3, 1), "match", 1 / 2, "num_params_primary"),
        (theorems.hypernetwork_match, (1, 3, 1), "match", 1, "num_params_primary"),
        (theorems.total_plain_rate, (1, 3, 2), "lower", 1 / 2, "num_params_total"),
    ],
)
def test_exponents(theorem, dims, bound: str, exponent: float, size: str) -> None:
    """Each theorem's exponent follows from the dimensions and the smoothness as the paper states it."""
    claim = theorem(Target(*dims))
    assert claim.bound == bound
    assert claim.exponent == pytest.approx(exponent)
    assert claim.size == size


@pytest.mark.parametrize("theorem", [theorems.embedding_rate_fixed, theorems.embedding_rate_growing])
def test_first_order_theorems_refuse_other_smoothness(theorem) -> None:
    """Thms. 2 and 3 are stated for r = 1; another r raises instead of guessing."""
    with pytest.raises(AnalysisError, match=r"smoothness r = 1.*has r = 2"):
        theorem(Target(smoothness=2))


def test_claims_carry_their_conditions_and_the_target() -> None:
    """Every rate cites its theorem, says that plain ReLU is outside it, and knows the target's limits."""
    for theorem in (theorems.plain_rate, theorems.embedding_rate_fixed, theorems.hypernetwork_rate):
        claim = theorem(Target())
        assert "Galanti & Wolf (2020)" in claim.theorem
        assert any("plain ReLU" in condition for condition in claim.conditions)
        assert claim.statement
        assert (claim.hard_family, claim.resolution) == (True, 0.01)


def test_conditions_of_the_embedding_theorems() -> None:
    """Thms. 2 and 3 ask for a continuously differentiable e, which a table is only nearly; Thm. 1 leaves out ReLU."""
    for claim in (
        theorems.embedding_rate_fixed(Target()),
        theorems.embedding_rate_growing(Target()),
        theorems.modularity_separation(Target()),
        theorems.modularity_ordering(),
    ):
        (smooth,) = (condition for condition in claim.conditions if "continuously differentiable" in condition)
        assert "hat functions" in smooth
        assert "approximate" in smooth
    for claim in (theorems.plain_rate(Target()), theorems.instance_plain_rate(Target())):
        assert any("plain ReLU does not" in condition for condition in claim.conditions)


def test_thm_3_says_where_it_is_thm_2() -> None:
    """With m2 <= m1 the exponent is that of Thm. 2; with m2 > m1 it is less."""
    assert "the exponent of Thm. 2" in theorems.embedding_rate_growing(Target(2, 1)).statement
    assert "less than Thm. 2 asks" in theorems.embedding_rate_growing(Target(1, 2)).statement


def test_rates_take_a_calibration() -> None:
    """Every function that makes a rate hands its calibration on."""
    known = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")
    for name, call in CALLS.items():
        if isinstance(call(), ScalingRate):
            assert call(calibration=known).calibration == known, name


def test_modularity_ordering() -> None:
    """The hypernetwork is claimed below the embedding method at equal primary size."""
    claim = theorems.modularity_ordering(Target())
    assert (claim.lower, claim.higher) == ("Hypernetwork", "Embedding")
    assert claim.at_each == "num_params_primary"
    assert "N^-1 against N^-0.5" in claim.statement
    assert theorems.modularity_ordering().metric == "sup_error"


# Every public function with the least it needs: the table test below sees that none is forgotten.
CALLS: dict[str, Callable[[], Claim]] = {
    **{
        name: partial(getattr(theorems, name), Target())
        for name in (
            "universal_rate", "instance_rate", "continuous_selection_rate", "plain_rate", "embedding_rate_fixed",
            "embedding_rate_growing", "hypernetwork_rate", "total_rate", "modularity_ordering",
            "modularity_separation", "total_separation", "instance_plain_rate", "instance_match", "hypernetwork_match",
            "total_plain_rate", "deep_selection_rate",
        )
    },
    **{
        name: getattr(theorems, name)
        for name in ("total_ordering", "instance_factor", "selector_factor", "emulation_factor", "infimum_factor")
    },
    **{
        name: partial(getattr(theorems, name), method="M")
        for name in (
            "unique_approximator", "added_neuron_ceiling",
            "neuron_gain", "shallow_neuron_gain", "lipschitz_ceiling", "variance_decay",
            "variance_plateau", "kernel_derivative_decay", "rotation_invariance", "feature_invariance",
            "depth_penalty", "width_benefit",
        )
    },
    **{
        name: partial(getattr(theorems, name), method="M", limit=0.5)
        for name in ("process_limit", "hyperkernel_limit", "meta_kernel_limit", "primary_kernel_limit")
    },
    "taylor_exponent": partial(theorems.taylor_exponent, order=3, depth=2, method="M"),
    "taylor_spacing": partial(theorems.taylor_spacing, order=3, depth=2, method="M"),
    "taylor_term_decay": partial(theorems.taylor_term_decay, order=2, rate_power=0.25, method="M"),
}  # fmt: skip
ROW = re.compile(r"^(\S.*?)\s{2,}(\w+)\s{2,}(\w+)$", re.MULTILINE)


def test_the_table_names_every_function_and_its_kind_of_claim() -> None:
    """The package's table, its public functions and the calls tested here are the same set, kinds included."""
    rows = {name: kind for _, name, kind in ROW.findall(inspect.getdoc(theorems)) if name != "function"}
    public = set(theorems.__all__) - {"TheoremTarget"}
    assert set(rows) == public == set(CALLS)
    assert rows == {name: type(call()).__name__ for name, call in CALLS.items()}
    statements = " ".join(statement for statement, _, _ in ROW.findall(inspect.getdoc(theorems)))
    for wanted in ("TH-M1", "TH-M2", "TH-M3", "TH-M4", "TH-M5", "TH-LIP", "TH-I1", "TH-I1b", "TH-I2", "TH-I3"):
        assert wanted in statements
    for wanted in ("Assumption 1", "Assumption 2", "Lemma 1", "Def. 1", "Eq. 2", "eq. 4", "eq. 16", "Remarks 2, 3"):
        assert wanted in statements
    assert set(JUDGES) | {ScalingRate} == set(get_args(Claim)) == {type(call()) for call in CALLS.values()}


@pytest.mark.parametrize("name", CALLS)
def test_each_claim_cites_its_source_and_says_where_it_fails(name: str) -> None:
    """Source with paper, a statement, conditions one of which says what is outside them; nothing is ever proved."""
    claim = CALLS[name]()
    assert re.search(r"((Galanti & Wolf|Littwin et al\.) \(2020\)|Yarotsky \(COLT 2018\))$", claim.theorem)
    assert claim.statement.endswith((".", ".)"))
    assert claim.title
    assert claim.metric in claim.columns
    text = " ".join(claim.conditions)
    assert re.search(r"\b(not|fails?|mislead|may|no theorem|other|adds|flatters|cannot|lower bound)\b", text), text
    assert "prove" not in (text + claim.statement + claim.title).lower()
    assert inspect.getdoc(getattr(theorems, name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain_rate", "prints Ω(N^(-m/r))"),
        ("continuous_selection_rate", "prints Ω(N^(-m/r))"),
        ("hypernetwork_rate", "prints m2 for m1"),
        ("total_rate", "cites it as Thm. 3"),
        ("total_separation", "cites Thm. 5 as Thm. 3"),
        ("instance_factor", "appendix reaches 4"),
        ("neuron_gain", "both sides"),
        ("shallow_neuron_gain", "both sides"),
        ("taylor_exponent", "1/n^(r-1) for all"),
        ("taylor_term_decay", "O(1/√n)"),
        ("process_limit", "gives S^(L-1)"),
        ("hyperkernel_limit", "Eq. 17 takes u twice"),
    ],
)
def test_what_the_papers_print_wrongly_is_said_where_it_touches(name: str, words: str) -> None:
    """The statement of a claim names the misprint that a reader of the paper would stumble over."""
    assert words in CALLS[name]().statement


def test_separations_have_the_rates_exponents() -> None:
    """Exponents by hand: 1/m1 against 1/(m1 + m2) or 1/min(m, 2 m1); r/max(m1, m2) against r/(m1 + m2)."""
    fixed = theorems.modularity_separation(Target(2, 3))
    assert (fixed.faster_exponent, fixed.slower_exponent) == pytest.approx((1 / 2, 1 / 5))
    growing = theorems.modularity_separation(Target(2, 3), growing=True)
    assert (growing.faster_exponent, growing.slower_exponent) == pytest.approx((1 / 2, 1 / 4))
    assert "Thms. 3 and 4" in growing.theorem
    total = theorems.total_separation(Target(1, 3, 2))
    assert (total.faster_exponent, total.slower_exponent) == pytest.approx((2 / 3, 1 / 2))
    assert (total.size, total.difference) == ("num_params_total", pytest.approx(1 / 6))
    with pytest.raises(AnalysisError, match="smoothness r = 1"):
        theorems.modularity_separation(Target(1, 1, 2))


def test_factors() -> None:
    """3 by the sketch, 4 by the appendix, 2 for a continuous choice, 1 for what contains the other."""
    assert theorems.instance_factor().factor == 3
    assert theorems.instance_factor(appendix=True).factor == 4
    assert (theorems.selector_factor().factor, theorems.emulation_factor().factor) == (2, 1)


@pytest.mark.parametrize(
    ("order", "depth", "exponent", "spacing"),
    [(2, 1, 1, 1), (3, 1, 2, 1), (2, 2, 0, 0), (3, 2, 1, 1), (5, 2, 3, 1), (2, 4, 0, 0), (5, 4, 1, 1)],
)
def test_taylor_exponents(order: int, depth: int, exponent: float, spacing: float) -> None:
    """K^(r) ~ n^(H - r) for r > H, else ~ 1; successive exponents differ by 1 once r > H."""
    assert theorems.taylor_exponent(order=order, depth=depth, method="K").exponent == exponent
    claim = theorems.taylor_spacing(order=order, depth=depth, method="K")
    assert (claim.exponent, claim.relative_to) == (spacing, f"taylor_{order - 1}")


@pytest.mark.parametrize(
    ("order", "power", "exponent"), [(2, 0, 1), (2, 0.5, 0), (3, 0.5, 0.5), (2, 0.25, 0.5), (4, 0.6, 0.6)]
)
def test_taylor_terms(order: int, power: float, exponent: float) -> None:
    """mu^r / n^(r-1) with mu = n^a is n^(a r - r + 1): the second order is the last to vanish, at a = 1/2."""
    claim = theorems.taylor_term_decay(order=order, rate_power=power, method="K")
    assert claim.exponent == pytest.approx(exponent)
    assert claim.sense == "at least"


@pytest.mark.parametrize(("order", "depth"), [(0, 1), (1, 0), (2.5, 1), (True, 1)])
def test_impossible_orders_are_refused(order, depth) -> None:
    """An order or a depth that is no whole number of at least 1 raises with what is allowed."""
    with pytest.raises(AnalysisError, match="allowed: a whole number of at least 1"):
        theorems.taylor_exponent(order=order, depth=depth, method="K")
    with pytest.raises(AnalysisError, match="at least 2"):
        theorems.taylor_spacing(order=1, depth=1, method="K")


@pytest.mark.parametrize("name", CALLS)
def test_each_claim_gets_a_verdict_from_any_table(name: str) -> None:
    """No data, no columns, missing values and a single trial are inconclusive with a reason; no claim raises."""
    claim = CALLS[name]()
    row = dict.fromkeys(claim.columns, 1.0)
    one = pd.DataFrame([{"method": m, "status": "finished", "seed": 0, "digest": "d", **row} for m in claim.methods])
    empty = pd.DataFrame(columns=["method", "status"])
    missing = one.assign(**{claim.metric: np.nan})
    for table in (empty, one.iloc[:0], one.assign(status="diverged"), missing, one.drop(columns=claim.metric)):
        verdict = check(claim, table)
        assert verdict.verdict == "inconclusive"
        assert verdict.reason.startswith(str(verdict.cause))
        assert verdict.conditions == claim.conditions
    assert check(claim, one).verdict in ("inconclusive", "contradicted")


def test_no_verdict_in_the_code_says_proved() -> None:
    """No word of proof stands in any text of the judges, and ordering and monotone claims carry conditions too."""
    for judge in set(JUDGES.values()):
        assert not re.search(r"\bprove[ns]?\b|\bproved\b", inspect.getsource(inspect.getmodule(judge)).lower())
    assert Ordering(metric="rmse", lower="A", higher="B", conditions=("If.",)).conditions == ("If.",)
    claim = Monotone(method="A", metric="rmse", along="depth", direction="decreasing", each_step=True)
    assert claim.title == "rmse of A decreasing at each step along depth"
