"""Tests of `analysis.theorems`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from analysis import theorems
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


def test_modularity_ordering() -> None:
    """The hypernetwork is claimed below the embedding method at equal primary size."""
    claim = theorems.modularity_ordering(Target())
    assert (claim.lower, claim.higher) == ("Hypernetwork", "Embedding")
    assert claim.at_each == "num_params_primary"
    assert "N^-1 against N^-0.5" in claim.statement
    assert theorems.modularity_ordering().metric == "sup_error"
