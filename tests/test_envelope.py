"""Tests of `analysis.exponents.envelope`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.exponents.envelope import build_envelope, build_envelopes
from hyperscale.errors import AnalysisError


def table(*rows: tuple) -> pd.DataFrame:
    """Return trials given as (size, lr, seed, value or None for diverged)."""
    return pd.DataFrame(
        [
            {
                "digest": f"d{index}",
                "method": "Hypernetwork",
                "num_params_primary": size,
                "lr": lr,
                "seed": seed,
                "status": "diverged" if value is None else "finished",
                "sup_error": value,
            }
            for index, (size, lr, seed, value) in enumerate(rows)
        ]
    )


GRID = table(
    (8, 0.1, 0, 0.5), (8, 0.1, 1, 0.4), (8, 0.2, 0, 0.3), (8, 0.2, 1, None),
    (4, 0.1, 0, 0.9), (4, 0.1, 1, 0.8), (4, 0.2, 0, 1.0), (4, 0.2, 1, 0.7),
)  # fmt: skip


def test_minimum_and_attaining_trial() -> None:
    """Each size has its smallest value, the trial that reached it, and every seed's best over rates."""
    envelope = build_envelope(GRID, method="Hypernetwork")
    assert envelope.sizes == (4.0, 8.0)
    assert envelope.values == (0.7, 0.3)
    assert [point.digest for point in envelope.points] == ["d7", "d2"]
    assert envelope.points[1].lr == 0.2
    assert envelope.points[1].seed_minima == ((0.3, 0.4),)


def test_diverged_trials_count_as_spent() -> None:
    """A diverged trial used up its share of the budget, a failed one did not."""
    envelope = build_envelope(GRID, method="Hypernetwork")
    assert envelope.equal_budget
    assert [(p.num_spent, p.num_finished) for p in envelope.points] == [(4, 4), (4, 3)]
    failed = GRID.assign(status=GRID["status"].replace("diverged", "failed"))
    unequal = build_envelope(failed, method="Hypernetwork")
    assert not unequal.equal_budget
    assert "3 at N = 8" in unequal.budget_note


def test_a_size_where_all_diverged_is_absent_but_paid_for() -> None:
    """No point is invented where nothing finished, and the budget still counts as equal."""
    rows = table((4, 0.1, 0, 0.5), (8, 0.1, 0, None))
    envelope = build_envelope(rows, method="Hypernetwork")
    assert envelope.sizes == (4.0,)
    assert envelope.equal_budget


def test_rises_are_noted() -> None:
    """A minimum that grows with size is called out with both sizes."""
    envelope = build_envelope(table((4, 0.1, 0, 0.5), (8, 0.1, 0, 0.6)), method="Hypernetwork")
    assert not envelope.monotone
    assert "N = 4 to 8" in envelope.monotonicity_note
    assert build_envelope(GRID, method="Hypernetwork").monotone


def test_the_worst_target_counts() -> None:
    """With several targets the value is the largest of their minima, as the supremum over a class asks."""
    easy, hard = GRID.assign(target="easy"), GRID.assign(target="hard", sup_error=GRID["sup_error"] * 2)
    envelope = build_envelope(pd.concat([easy, hard], ignore_index=True), method="Hypernetwork")
    assert envelope.values == (1.4, 0.6)
    assert len(envelope.points[0].seed_minima) == 2


def test_a_target_that_finished_nowhere_at_a_size_is_named() -> None:
    """The worst target there is not known; its seeds are NaN among the logs, and the note says where."""
    easy, hard = GRID.assign(target="easy"), GRID.assign(target="hard", sup_error=GRID["sup_error"] * 2)
    hard = hard.assign(status=hard["status"].where(hard["num_params_primary"] == 4, "diverged"))
    envelope = build_envelope(pd.concat([easy, hard], ignore_index=True), method="Hypernetwork")
    logs = envelope.log_seed_minima()
    assert logs.shape == (2, 2, 2)
    assert np.isnan(logs[1, 1]).all()
    assert logs[0] == pytest.approx(np.log([[0.9, 0.7], [1.8, 1.4]]))
    assert "1 at N = 8" in envelope.missing_note
    assert build_envelope(GRID, method="Hypernetwork").missing_note == ""


def test_unknown_column_says_what_there_is() -> None:
    """A misspelt metric raises with the closest column."""
    with pytest.raises(AnalysisError, match="did you mean 'sup_error'"):
        build_envelope(GRID, method="Hypernetwork", metric="sup_eror")
    assert build_envelope(GRID, method="Nobody").points == ()
    assert [e.method for e in build_envelopes(GRID)] == ["Hypernetwork"]
