"""Tests of `hyperscale.training.lp_continuation` and `hyperscale.training.knot_balance` against known infima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from hyperscale import KnotBalance, Knots, LpContinuation, PerInstance, VarPro
from hyperscale.errors import StudyError
from hyperscale.training.grid_fit import GridFit, TrainingGrid
from hyperscale.training.knot_balance import chord_errors, equidistribute
from hyperscale.training.spline_meshes import mesh_of
from hyperscale.training.stages import Stage
from tests.grid_fits import METHODS, Formula, bumps, make_fit, run_stages


def exp_infimum(num_knots: int) -> float:
    """Return E_k of exp on [-1, 1]: half the chord error that num_knots + 1 pieces of equal chord error have."""

    def reach(start: float, width: float) -> float:
        def surplus(end: float) -> float:
            slope = (math.exp(end) - math.exp(start)) / (end - start)
            return math.exp(start) + slope * (math.log(slope) - start) - slope - width

        return float(brentq(surplus, start + 1e-3, start + 20))

    def last(width: float) -> float:
        end = -1.0
        for _ in range(num_knots + 1):
            end = reach(end, width)
        return end - 1

    return 0.5 * float(brentq(last, 1e-5, 2, xtol=1e-14))


def fine_errors(fit: GridFit) -> torch.Tensor:
    """Return the largest errors on a grid 40 times as fine."""
    count = 40 * (fit.where.x_points - 1) + 1
    fine = make_fit(fit.method, fit.targets, fit.seeds, TrainingGrid(x_points=count))
    fine.params.copy_(fit.params)
    return fine.sup_errors()


def shallow(num_knots: int, target: str, *stages: Stage) -> torch.Tensor:
    """Return the largest errors of a chain from jittered equispaced knots, 5 seeds, 32 points per piece."""
    method = PerInstance(primary_widths=(num_knots + 2,), bias="hidden", num_instances=2)
    where = TrainingGrid(x_points=32 * (num_knots + 1) + 1)
    fit = make_fit(method, [Formula(name=target)] * 5, list(range(5)), where)
    run_stages(fit, Knots(), *stages)
    return fine_errors(fit)


@pytest.mark.parametrize("num_knots", [3, 7, 15])
def test_powers_come_near_the_infimum_of_the_square(num_knots: int) -> None:
    """x^2 with k knots, infimum 1 / (2 (k + 1)^2): within 5 % at power 32 and 3 % at 128; least squares is 30 % off."""
    infimum = 0.5 / (num_knots + 1) ** 2
    square = shallow(num_knots, "square", VarPro()).median() / infimum
    gaps = [
        float(shallow(num_knots, "square", VarPro(), LpContinuation(powers=powers)).median() / infimum)
        for powers in ((2, 8, 32), (2, 8, 32, 128))
    ]
    assert 1.3 < square < 1.45
    assert 1 <= gaps[1] < gaps[0] < 1.05
    assert gaps[1] < 1.03


@pytest.mark.parametrize("target", ["square", "exp"])
@pytest.mark.parametrize("num_knots", [3, 15])
def test_balance_reaches_the_infimum(target: str, num_knots: int) -> None:
    """Gap at most 1 % on x^2 and exp from jittered equispaced knots, every seed, and never below 1."""
    infimum = 0.5 / (num_knots + 1) ** 2 if target == "square" else exp_infimum(num_knots)
    gaps = shallow(num_knots, target, VarPro(iterations=20), LpContinuation(), KnotBalance()) / infimum
    assert (gaps >= 1 - 1e-9).all()
    assert (gaps < 1.01).all()


def test_the_infimum_of_exp_has_its_known_limit() -> None:
    """n^2 E -> (e^(1/2) - e^(-1/2))^2 / 4 = 0.2715403174."""
    assert 64**2 * exp_infimum(63) == pytest.approx((math.exp(0.5) - math.exp(-0.5)) ** 2 / 4, rel=1e-3)


def test_equidistribution_gives_every_piece_the_same_chord_error() -> None:
    """Exp with 7 knots from equispaced ones: chord errors within 2 % of each other after five rounds."""
    x = np.linspace(-1, 1, 2001)
    mesh = mesh_of(x, np.exp(x)[None], np.linspace(-1, 1, 9)[None, 1:-1])
    assert chord_errors(mesh).max() > 3 * chord_errors(mesh).min()
    for _ in range(5):
        mesh = mesh_of(x, np.exp(x)[None], equidistribute(mesh.nodes, chord_errors(mesh)))
    errors = chord_errors(mesh)
    assert errors.max() < 1.02 * errors.min()
    assert errors.max() / 2 == pytest.approx(exp_infimum(7), rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_error_falls(method: str) -> None:
    """After variable projection the continuation lowers the largest error of every member by at least 3 %."""
    fit = make_fit(METHODS[method], [bumps(1), bumps(2)], [0, 1], TrainingGrid(x_points=65, instances=5))
    run_stages(fit, Knots(), VarPro(iterations=20))
    before = fit.sup_errors()
    run_stages(fit, LpContinuation(powers=(2, 8, 32), iterations=20))
    assert (fit.sup_errors() < 0.97 * before).all()


def test_a_table_off_the_grid_of_instances_is_refused() -> None:
    """Rows of a table are fitted where they stand, so the instances must contain the encoder's knots."""
    fit = make_fit(METHODS["Hypernetwork"], [bumps(1)], [0], TrainingGrid(x_points=41, instances=8))
    with pytest.raises(StudyError, match=r"instances - 1 a multiple of encoder\.knots - 1"):
        LpContinuation().start(fit)


@pytest.mark.parametrize("powers", [(), [2, 8], (1.5,), (2, 5000)])
def test_wrong_powers_are_named(powers: object) -> None:
    """Powers are a tuple of numbers from 2 to 1024."""
    with pytest.raises(StudyError, match=r"LpContinuation\.powers"):
        LpContinuation(powers=powers)  # type: ignore[arg-type]
