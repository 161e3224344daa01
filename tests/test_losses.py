"""Tests of `hyperscale.training.losses`: curves and divergence, whenever and beside whom losses are noted."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.training.losses import LossLog, curve_steps

CPU = torch.device("cpu")


@st.composite
def histories(draw: st.DrawFn) -> list[list[float]]:
    """Return some members' losses, of different lengths, now and then not finite."""
    seed = draw(st.integers(0, 2**30))
    lengths = draw(st.lists(st.integers(1, 150), min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.rand(length, generator=generator, dtype=torch.float64).tolist() for length in lengths]
    for row in rows:
        for value in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=2)):
            row[draw(st.integers(0, len(row) - 1))] = value
    return rows


def reference(losses: list[float]) -> tuple[int | None, list[list[float]]]:
    """Return the step of divergence and the curve, by plain loops."""
    lost = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    steps, means, total, count = [], [], 0.0, 0
    for step, loss in enumerate(losses if lost is None else losses[: lost - 1], start=1):
        total, count = total + loss, count + 1
        if step in curve_steps(len(losses)):
            steps.append(float(step))
            means.append(total / count)
            total, count = 0.0, 0
    return lost, [steps, means]


@settings(max_examples=100, deadline=None)
@given(rows=histories(), often=st.floats(0.0, 0.5), random=st.randoms(use_true_random=False))
def test_neither_cadence_nor_company_changes_curves_or_divergence(
    rows: list[list[float]], often: float, random: Random
) -> None:
    """Flushed at random steps, ended members dropped or kept at random, saved and restored: the reference's bits."""
    lengths = [len(row) for row in rows]
    log, members = LossLog(lengths, CPU), list(range(len(rows)))
    for step in range(max(lengths)):
        # what the row of an ended member shows is no loss of its own
        now = [rows[member][step] if step < lengths[member] else math.nan for member in members]
        log.put(torch.tensor(now, dtype=torch.float64), members)
        if random.random() < often:
            log.flush(members)
            if random.random() < 0.5:
                fresh = LossLog(lengths, CPU)
                fresh.restore(log.state())
                log = fresh
            going = [m for m in members if lengths[m] > step + 1 and log.diverged_at[m] is None]
            if going and random.random() < 0.5:
                members = going
    log.flush(members)
    for member, row in enumerate(rows):
        lost, curve = reference(row)
        assert log.diverged_at[member] == lost
        assert log.curve(member) == curve


def test_a_full_buffer_is_accounted_for_and_says_so() -> None:
    """Losses are looked at on the host every 32 steps: only then is divergence known."""
    log = LossLog([100], CPU)
    for step in range(1, 65):
        log.put(torch.tensor([math.nan if step >= 40 else 1.0]), [0])
        assert log.just_flushed == (step % 32 == 0)
        assert log.diverged_at == [40 if step == 64 else None]


def test_a_curve_ends_where_its_member_diverged() -> None:
    """Losses that are finite again after one that was not are no part of the curve, and neither is its stretch."""
    log = LossLog([200], CPU)
    for step in range(1, 201):
        log.put(torch.tensor([math.inf if step == 50 else 1.0]), [0])
    log.flush([0])
    assert log.diverged_at == [50]
    steps, values = log.curve(0)
    assert steps == [step for step in curve_steps(200) if step < 50]
    assert set(values) == {1.0}


def test_a_state_is_taken_after_a_flush_only() -> None:
    """What is still in the buffer would be lost: asking for the state then is a mistake in the program."""
    log = LossLog([3], CPU)
    log.put(torch.tensor([1.0]), [0])
    with pytest.raises(AssertionError):
        log.state()
