"""A hypernetwork's table of networks of several x: one first layer for all I, last layers by least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperscale import HatEncoder, Hypernetwork, Knots, SobolevBall, TrainingGrid, VarPro
from hyperscale.errors import StudyError
from hyperscale.methods.method import Method
from hyperscale.networks.encoders import FourierEncoder
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.shared_ridges import RidgeFits, RidgeVarPro, place_shared_ridges
from hyperscale.training.stages import Stage
from tests.grid_fits import finish, make_fit, mean_squares, run_stages

WHERE = TrainingGrid(x_points=13, instances=9)
TABLES: dict[str, Method] = {
    "hidden": Hypernetwork(primary_widths=(7,), bias="hidden", encoder=HatEncoder(knots=9)),
    "all": Hypernetwork(primary_widths=(7,), bias="all", encoder=HatEncoder(knots=9)),
    "coarse": Hypernetwork(primary_widths=(7,), bias="hidden", encoder=HatEncoder(knots=4)),
    "tanh": Hypernetwork(primary_widths=(5,), bias="hidden", encoder=HatEncoder(knots=9), activation="tanh"),
    "no bias": Hypernetwork(primary_widths=(7,), bias="none", encoder=HatEncoder(knots=9)),
}


def target(seed: int = 0) -> SobolevBall:
    """Return a target of two x with three scales."""
    return SobolevBall(x_dim=2, conditioning_dim=1, levels=3, seed=seed)


def placed(name: str, seeds: tuple[int, ...] = (3,)) -> GridFit:
    """Return a fit whose first layers are ridges and whose last layers are zero."""
    fit = make_fit(TABLES[name], [target(seed) for seed in seeds], seeds, WHERE)
    place_shared_ridges(fit, 0.25)
    return fit


def product_design(fit: GridFit) -> np.ndarray:
    """Return the hats times the last layer's inputs, the columns of one last layer's table, [I x, rows units]."""
    fits = RidgeFits(fit)
    own = fits.design(fits.hidden(fits.read_first()[0])).numpy()
    return np.einsum("ir,pu->ipru", fit.features.numpy(), own).reshape(fit.y[0].numel(), -1)


@pytest.mark.parametrize("name", TABLES)
def test_the_last_layers_are_the_least_squares_ones(name: str) -> None:
    """`Knots` leaves the mean square of numpy.linalg.lstsq on the whole table, at every kind of table."""
    fit = placed(name)
    design, y = product_design(fit), fit.y[0].flatten().numpy()
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    run_stages(fit, Knots())
    assert float(mean_squares(fit)[0]) == pytest.approx(float(np.mean(residual**2)), rel=1e-6)


def test_where_rows_stand_at_every_instance_each_is_fitted_for_itself() -> None:
    """With as many knots as values of I, every I has the mean square of its own numpy.linalg.lstsq."""
    fit = placed("hidden")
    fits = RidgeFits(fit)
    design = fits.design(fits.hidden(fits.read_first()[0])).numpy()
    run_stages(fit, Knots())
    for y, residual in zip(fit.y[0].numpy(), fit.residuals()[0].numpy(), strict=True):
        left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        assert np.mean(residual**2) == pytest.approx(np.mean(left**2), rel=1e-6)


@pytest.mark.parametrize("name", ["hidden", "all", "tanh", "no bias"])
def test_the_step_is_that_of_the_whole_jacobian(name: str) -> None:
    """J^T J and J^T r agree with finite differences of the outputs, projected off the design, at every I."""
    fit = placed(name)
    run = RidgeVarPro(fit, 1)
    fits, first, last = run.fits, *(torch.from_numpy(run.arrays[part][0]) for part in ("first", "last"))
    design = fits.design(fits.hidden(first))
    basis = torch.linalg.qr(design)[0]
    columns = []
    for one in range(len(first)):
        step = torch.zeros_like(first)
        step[one] = 1e-6
        change = fits.design(fits.hidden(first + step)) - fits.design(fits.hidden(first - step))
        columns.append(last @ change.mT / 2e-6)  # [outputs, points]
    jacobian = torch.stack(columns, dim=-1)
    projected = jacobian - basis @ (basis.mT @ jacobian)
    matrix, right = run._normal_equations(0, first, last)
    wanted = torch.einsum("opn,opm->nm", projected, projected)
    torch.testing.assert_close(matrix, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
    pull = torch.einsum("opn,op->n", jacobian, fits.y[0] - last @ design.mT)
    torch.testing.assert_close(right, pull, rtol=1e-4, atol=1e-6 * float(pull.abs().max()))


def test_a_table_of_its_own_kind_is_found_again() -> None:
    """A target that is such a table, its ridges turned and shifted by about 0.1, is fitted to 1e-5 of its size."""
    fit = placed("tanh")
    truth = RidgeFits(fit).params(
        RidgeFits(fit).read_first(), torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(0))
    )
    fit.y.copy_(fit.respond(truth.double()))
    generator = torch.Generator().manual_seed(1)
    fits = RidgeFits(fit)
    first = fits.read_first()
    moved = first + 0.1 * torch.randn(first.shape, generator=generator, dtype=torch.float64)
    fit.params.copy_(fits.params(moved, torch.zeros(1, 9, 5, dtype=torch.float64)))
    run_stages(fit, VarPro(iterations=200))
    assert float(mean_squares(fit)[0]) < 1e-10 * float(fit.y.square().mean())


def test_variable_projection_lowers_what_the_ridges_leave() -> None:
    """Moving the ridges lowers every member's mean square by a tenth at least, and never raises it."""
    fit = make_fit(TABLES["hidden"], [target(0), target(1)], (0, 1), WHERE)
    run_stages(fit, Knots())
    before = mean_squares(fit)
    run_stages(fit, VarPro(iterations=20))
    assert bool((mean_squares(fit) < 0.9 * before).all())


def test_a_member_does_not_depend_on_its_pack_nor_on_slices() -> None:
    """Alone, in a pack, and saved and restored at every step, a member has the same bits."""
    alone = make_fit(TABLES["hidden"], [target(1)], (1,), WHERE)
    pack = make_fit(TABLES["hidden"], [target(0), target(1)], (0, 1), WHERE)
    for fit in (alone, pack):
        run_stages(fit, Knots())
    sliced = make_fit(TABLES["hidden"], [target(1)], (1,), WHERE)
    sliced.params.copy_(alone.params)
    stage = VarPro(iterations=6)
    run_stages(alone, stage)
    run_stages(pack, stage)
    run = stage.start(sliced)
    begun = sliced.params.clone()
    while not run.advance(0.0):
        state = run.state()
        now = sliced.params.clone()
        sliced.params.copy_(begun)
        run = stage.start(sliced)
        sliced.params.copy_(now)
        run.restore(state)
    assert torch.equal(alone.params[0], pack.params[1])
    assert torch.equal(alone.params, sliced.params)


def test_good_parameters_are_not_made_worse() -> None:
    """Parameters that fit better than one shared first layer can are left as they are."""
    fit = placed("hidden")
    fit.params.copy_(
        0.3 * torch.randn(fit.params.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    )
    fit.y.copy_(fit.respond(fit.params))
    before = fit.params.clone()
    finish(VarPro(iterations=2).start(fit))
    assert torch.equal(fit.params, before)


@pytest.mark.parametrize(
    ("stage", "method"),
    [
        (Knots(), Hypernetwork(primary_widths=(7, 7), bias="hidden", encoder=HatEncoder(knots=5))),
        (VarPro(), Hypernetwork(primary_widths=(7,), bias="hidden", encoder=FourierEncoder(frequencies=8))),
        (Knots(placement="equidistributed"), TABLES["hidden"]),
        (Knots(placement="greedy"), TABLES["hidden"]),
    ],
)
def test_other_tables_are_refused(stage: Stage, method: Method) -> None:
    """Deep primary networks, features that do not sum to one, and spacings of one x are no start for two x."""
    with pytest.raises(StudyError, match=r"Hypernetwork|hypernetwork"):
        stage.check(method, target().dims)
