"""L_p continuation on a table of networks of several x: each row's last layer, over one first layer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

from hyperscale import HatEncoder, Hypernetwork, Knots, LpContinuation, SobolevBall, TrainingGrid, VarPro
from hyperscale.errors import StudyError
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.shared_ridges import RidgeFits
from tests.grid_fits import make_fit, run_stages

WHERE = TrainingGrid(x_points=13, instances=5)
TABLE = Hypernetwork(primary_widths=(6,), bias="hidden", encoder=HatEncoder(knots=5))


def knotted(*seeds: int) -> GridFit:
    """Return a fit of targets of two x after `Knots`."""
    targets = [SobolevBall(x_dim=2, conditioning_dim=1, levels=3, seed=seed) for seed in seeds]
    fit = make_fit(TABLE, targets, seeds, WHERE)
    run_stages(fit, Knots())
    return fit


def least_largest(design: np.ndarray, y: np.ndarray) -> float:
    """Return min over c of the largest abs(y - design c), by a linear program."""
    one = np.ones((len(y), 1))
    matrix = np.block([[design, -one], [-design, -one]])
    cost = np.append(np.zeros(design.shape[1]), 1.0)
    bounds = [(None, None)] * design.shape[1] + [(0, None)]
    return float(scipy.optimize.linprog(cost, matrix, np.concatenate((y, -y)), bounds=bounds).fun)


def test_high_powers_come_near_the_best_last_layers_of_every_row() -> None:
    """With powers to 64 each row's largest error is within 10 per cent of its linear program's, and not below."""
    fit = knotted(1)
    fits = RidgeFits(fit)
    design = fits.design(fits.hidden(fits.read_first()[0])).numpy()
    run_stages(fit, LpContinuation(powers=(4, 16, 64), iterations=40))
    for y, residual in zip(fit.y[0].numpy(), fit.residuals()[0].numpy(), strict=True):
        least = least_largest(design, y)
        assert (1 - 1e-9) * least <= np.abs(residual).max() <= 1.1 * least


def test_the_fourth_power_reaches_its_minimum() -> None:
    """At power 4 the sums of fourth powers have no slope in the last layers: Phi^T r^3 = 0 at every row."""
    fit = knotted(2)
    fits = RidgeFits(fit)
    design = fits.design(fits.hidden(fits.read_first()[0]))
    before = fit.sup_errors()
    run_stages(fit, LpContinuation(powers=(4,), iterations=100))
    assert float(fit.sup_errors()[0]) < float(before[0])
    run = LpContinuation(powers=(4,), iterations=100).start(fit)
    while not run.advance(float("inf")):
        pass
    coordinates = torch.from_numpy(run.arrays["coordinates"])  # type: ignore[attr-defined]
    residual = run.y[0] - coordinates @ run.bases[0].columns[0].mT  # type: ignore[attr-defined]
    pull = (residual**3) @ design
    assert float(pull.abs().max()) < 1e-5 * float((residual.abs() ** 3 @ design.abs()).max())


def test_a_member_does_not_depend_on_its_pack_nor_on_slices() -> None:
    """Alone, in a pack, and saved and restored at every step, a member has the same bits."""
    stage = LpContinuation(powers=(4, 8), iterations=3)
    alone, pack, sliced = knotted(1), knotted(0, 1), knotted(1)
    run_stages(alone, stage)
    run_stages(pack, stage)
    begun = sliced.params.clone()
    run = stage.start(sliced)
    while not run.advance(0.0):
        state, now = run.state(), sliced.params.clone()
        sliced.params.copy_(begun)
        run = stage.start(sliced)
        sliced.params.copy_(now)
        run.restore(state)
    assert torch.equal(alone.params[0], pack.params[1])
    assert torch.equal(alone.params, sliced.params)


def test_rows_between_the_values_of_the_grid_are_refused() -> None:
    """Where no I of the grid stands at a row's knot the stage says so; least squares goes on."""
    fit = make_fit(
        TABLE, [SobolevBall(x_dim=2, conditioning_dim=1, levels=3)], [0], TrainingGrid(x_points=9, instances=7)
    )
    run_stages(fit, Knots(), VarPro(iterations=2))
    with pytest.raises(StudyError, match="instances - 1 a multiple"):
        LpContinuation().start(fit)
