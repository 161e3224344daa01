"""Tests of `judging.comparisons` on directions that must hold at each step; the other verdicts are in test_checks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.judging.checks import check
from analysis.judging.verdicts import Cause
from hyperscale.claims import Monotone

WIDTHS = np.array([2, 4, 6, 8, 10, 12])
STEPS = Monotone(method="M", metric="test_loss", along="width", direction="decreasing", each_step=True)


def losses(levels, noise: float = 0.03, rng: int = 0, num_seeds: int = 6) -> pd.DataFrame:
    """Return one trial per width and seed with log-normal noise about ``levels`` ``[widths]``."""
    generator = np.random.default_rng(rng)
    values = np.asarray(levels)[:, None] * np.exp(generator.normal(0, noise, (len(levels), num_seeds)))
    width, seed = (grid.ravel() for grid in np.meshgrid(WIDTHS[: len(levels)], range(num_seeds), indexing="ij"))
    columns = {"seed": seed, "width": width, "test_loss": values.ravel()}
    return pd.DataFrame({"method": "M", "status": "finished", **columns})


def test_a_loss_that_falls_at_each_step_is_supported() -> None:
    """A planted law that falls at every width is supported, and the note counts the steps and the residual."""
    verdict = check(STEPS, losses(1 / WIDTHS))
    assert verdict.verdict == "supported", verdict.reason
    assert "No step goes the other way" in verdict.reason
    assert "5 of 5 steps are in the direction by more than two standard errors, 0 against it" in verdict.notes[0]
    assert "isotonic regression of the mean leaves a root mean square of 0 in log units" in verdict.notes[0]


def test_one_step_the_other_way_contradicts_and_is_named() -> None:
    """A fall on the whole with one clear rise supports the direction and contradicts it at each step."""
    levels = 1 / WIDTHS
    levels[3] = 1.2 * levels[2]
    whole = Monotone(method="M", metric="test_loss", along="width", direction="decreasing")
    table = losses(levels)
    assert check(whole, table).verdict == "supported"
    verdict = check(STEPS, table)
    assert verdict.verdict == "contradicted"
    assert "from width 6 to 8" in verdict.reason
    rising = Monotone(method="M", metric="test_loss", along="width", direction="increasing", each_step=True)
    assert check(rising, losses(1 / WIDTHS)).verdict == "contradicted"
    assert check(rising, losses(WIDTHS)).verdict == "supported"


def test_a_doubtful_step_forbids_support() -> None:
    """A rise of two to three standard errors, no more than chance gives among many steps, leaves the claim open."""
    levels = 1 / WIDTHS
    table = losses(levels, noise=1e-9)
    wobble = np.array([0.5, 1.0, 1.5, 0.2, 1.9, 0.9])
    at = table["width"] == 8
    table.loc[at, "test_loss"] = levels[2] * np.exp(0.01 * wobble)
    table.loc[table["width"] == 10, "test_loss"] = levels[4] * np.exp(0.01 * np.arange(6))
    ratio = wobble.mean() / (wobble.std(ddof=1) / np.sqrt(6))
    assert 2 < ratio < stats.t.ppf(1 - 0.01 / 5, 5)
    verdict = check(STEPS, table)
    assert (verdict.verdict, verdict.cause) == ("inconclusive", Cause.UNDERPOWERED), verdict.reason
    assert f"from width 6 to 8 test_loss goes the other way by {ratio:.1f} standard errors" in verdict.reason


@pytest.mark.parametrize(
    "table", [losses(1 / WIDTHS, num_seeds=2), losses(1 / WIDTHS[:1]), losses(1 / WIDTHS).iloc[:0]]
)
def test_few_seeds_or_widths_decide_no_step(table: pd.DataFrame) -> None:
    """Two seeds, one width and no trial at all are inconclusive."""
    assert check(STEPS, table).verdict == "inconclusive"


def test_a_flat_loss_is_seldom_called() -> None:
    """Without any trend the claim is contradicted, or supported, in at most 5 % each (Monte Carlo)."""
    words = Counter(check(STEPS, losses(np.ones(6), rng=draw)).verdict for draw in range(60))
    assert words["contradicted"] <= stats.binom.ppf(0.999, 60, 0.05)
    assert words["supported"] <= stats.binom.ppf(0.999, 60, 0.05)
