"""Tests of `hyperscale.settings.best_approximation`: its checks, metrics, cost, packs and how it runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperscale.dispatch.probe import measure
from hyperscale.dispatch.worker import PackWorker
from hyperscale.errors import StudyError
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import HatEncoder
from hyperscale.packing import Pack, make_packs, programs
from hyperscale.settings import best_errors
from hyperscale.settings.best_approximation import BestApproximation
from hyperscale.settings.best_errors import infimum_knots
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.training.constraints import Constraints
from hyperscale.training.descent import Descent
from hyperscale.training.grid_fit import TrainingGrid
from hyperscale.training.knots import Knots
from hyperscale.training.lbfgs import LBFGS
from hyperscale.training.lp_continuation import LpContinuation
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.outer_lp import OuterLP
from hyperscale.training.stages import Stage, Stages
from hyperscale.training.variable_projection import VarPro
from hyperscale.trial import Trial
from tests.fits import METHODS

BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=2)
CHAIN = Stages(Descent(optimizer=Adam(lr=0.02), steps=20), LBFGS(iterations=10))


def tiny(method: Method = METHODS["monolithic"], **fields: Any) -> BestApproximation:
    """Return a setting that trains in no time."""
    shared: dict[str, Any] = {
        "target": BALL, "optimizer": CHAIN, "grid": TrainingGrid(x_points=13, instances=7), "grid_points": 17, **fields,
    }  # fmt: skip
    return BestApproximation(method=method, **shared)


def finish(members: list[tuple[BestApproximation, int]]) -> Any:
    """Train a pack and return its run."""
    run: Any = members[0][0].start(members, "cpu")
    while not run.advance(60.0):
        pass
    return run


# --- validation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "hypernetwork"}, "BestApproximation.method"),
        ({"target": None}, "BestApproximation.target"),
        ({"optimizer": Adam(lr=0.1)}, r"BestApproximation.optimizer .* Stages\(LBFGS\(\)\)"),
        ({"optimizer": LBFGS()}, "BestApproximation.optimizer"),
        ({"grid": 33}, "BestApproximation.grid"),
        ({"grid_points": 1}, "BestApproximation.grid_points"),
        ({"grid_points": 4097}, r"BestApproximation.grid_points .* 2\^24"),
        ({"grid": TrainingGrid(x_points=4097, instances=4097)}, r"BestApproximation.grid is .* 2\^24"),
        ({"certificate": 1}, "BestApproximation.certificate"),
        ({"constraints": 2.0}, "BestApproximation.constraints"),
        ({"method": METHODS["per-instance"], "constraints": Constraints(max_first_layer=1)}, "allowed: Embedding"),
        ({"target": InnerProduct(x_dim=4, conditioning_dim=3)}, "unbounded inputs"),
        ({"method": Hypernetwork(primary_widths=(4,), encoder=HatEncoder(knots=100_000))}, "features"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: str) -> None:
    """A wrong value, or parts that do not fit together, raise an error that names the field."""
    with pytest.raises(StudyError, match=named):
        tiny(**fields)


def test_a_stage_may_refuse_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage's own check is asked when the setting is made."""

    def refuse(self: object, method: Method, dims: object) -> None:
        raise StudyError(f"not {method.name}")

    monkeypatch.setattr(LBFGS, "check", refuse)
    with pytest.raises(StudyError, match="not Monolithic"):
        tiny()


# --- metrics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_promised_metrics_are_the_reported_ones(method: Method) -> None:
    """A finished trial reports exactly the metrics its setting names, all finite, none negative."""
    setting = tiny(method)
    (outcome,) = finish([(setting, 0)]).outcomes()
    assert outcome.status == "finished"
    assert sorted(outcome.metrics) == sorted(setting.metric_names())
    assert all(math.isfinite(value) and value >= 0 for value in outcome.metrics.values())
    assert outcome.metrics["rmse"] <= outcome.metrics["sup_error"]
    assert outcome.metrics["rmse"] < outcome.metrics["zero_rmse"]


def test_brackets_are_asked_for_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search and the certificate get one member's parameters; a bound that is not known is left out."""
    asked: dict[str, Any] = {}
    found = SimpleNamespace(value=0.5, rmse=0.1, zero_value=1.0, zero_rmse=0.4, attempts=None)

    def find(method: Method, dims: object, params: Any, target: object, **fields: Any) -> Any:
        asked["find"] = (tuple(params.shape), fields["grid_points"], fields["instances"])
        return found

    def certify(method: Method, dims: object, params: Any, target: object, seed: int, **fields: Any) -> float:
        asked["certify"] = (tuple(params.shape), target, seed, fields)
        return math.inf if seed else 0.75

    monkeypatch.setattr(best_errors, "find_sup_error", find)
    monkeypatch.setattr(best_errors, "certify_sup_error", certify)
    setting = tiny(certificate=True)
    first, second = finish([(setting, 0), (setting, 1)]).outcomes()
    num_params = setting.method.num_params_total(BALL.dims)
    assert asked["find"] == ((1, num_params), 17, None)
    assert asked["certify"] == ((1, num_params), BALL, 1, {"found": 0.5, "attempts": None})
    assert first.metrics["sup_error"] == 0.5
    assert first.metrics["sup_error_bound"] == 0.75
    assert "sup_error_bound" in setting.metric_names()
    assert "sup_error_bound" not in second.metrics


@pytest.mark.parametrize(
    ("method", "knots"),
    [
        (PerInstance(primary_widths=(6,), bias="hidden"), (6, 4)),
        (Hypernetwork(primary_widths=(1,), bias="all"), (1, 0)),
        (PerInstance(primary_widths=(6,), bias="none"), (6,)),
        (PerInstance(primary_widths=(6,), bias="hidden", activation="tanh"), ()),
        (PerInstance(primary_widths=(6, 6), bias="hidden"), ()),
        (Monolithic(primary_widths=(6,), bias="hidden"), ()),
    ],
)
def test_knots_of_what_a_width_can_do(method: Method, knots: tuple[int, ...]) -> None:
    """A network of w units has at most w knots, and with biases any w - 2; of other networks nothing is known."""
    names = ("per_instance_infimum", "per_instance_reached")
    assert infimum_knots(method, BALL.dims) == dict(zip(names, knots, strict=False))
    assert not infimum_knots(method, replace(BALL.dims, x_dim=2))


def test_infima_are_asked_at_the_values_of_the_conditioning_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PerInstance` has its own values of I, each once; others are asked where every scale shows."""
    asked: list[Any] = []

    def infimum(target: Any, seed: int, **fields: Any) -> float:
        asked.append((seed, fields["num_knots"], len(fields["conditioning"]), fields["x_points"]))
        return 0.3 if fields["num_knots"] == 5 else 0.4

    monkeypatch.setattr(best_errors, "per_instance_infimum", infimum)
    own = PerInstance(primary_widths=(5,), bias="hidden", num_instances=3, restarts=2)
    (outcome,) = finish([(tiny(own), 4)]).outcomes()
    assert (outcome.metrics["per_instance_infimum"], outcome.metrics["per_instance_reached"]) == (0.3, 0.4)
    table = Hypernetwork(primary_widths=(5,), bias="hidden", encoder=HatEncoder(knots=4))
    finish([(tiny(table), 0)])
    finish([(tiny(table, grid=TrainingGrid(x_points=3, instances=300)), 0)])
    assert asked == [(seed, knots, count, 1025) for seed, count in ((4, 3), (0, 96), (0, 96)) for knots in (5, 3)]


# --- constraints -----------------------------------------------------------------------------------------------

BOUNDED = Embedding(widths=(6,), embedding_dim=3, primary_widths=(6,), activation="tanh", bias="primary_only")
BOUNDS = Constraints(max_conditioning_complexity=0.75, max_primary_complexity=0.2, max_first_layer=0.9)


def test_a_constrained_fit_ends_within_its_bounds() -> None:
    """What is kept is within every bound, where the fit without constraints is outside of them."""
    free, bounded = (tiny(BOUNDED, constraints=constraints, optimizer=CHAIN) for constraints in (None, BOUNDS))
    (outside,), (inside,) = (finish([(setting, 3)]).outcomes() for setting in (free, bounded))
    assert inside.status == "finished"
    bounds = {"lipschitz_conditioning": 0.75, "spectral_complexity_primary": 0.2, "first_layer_norm": 0.9}
    for name, bound in bounds.items():
        assert inside.metrics[name] <= bound * (1 + 1e-9), name
        assert outside.metrics[name] > bound, name
    assert inside.metrics["sup_error"] >= outside.metrics["sup_error"]
    assert set(inside.metrics) == set(bounded.metric_names()) == set(free.metric_names())
    assert bounded.columns()["max_first_layer"] == 0.9
    assert bounded.program_key() != free.program_key()


def test_placed_kinks_are_taken_back_within_the_bounds() -> None:
    """`Knots` leaves parameters that keep the constraints, though what it places does not."""
    relu = replace(BOUNDED, activation="relu", widths=(), encoder=HatEncoder(knots=4))
    setting = tiny(relu, constraints=Constraints(max_primary_complexity=0.5), optimizer=Stages(Knots()))
    (inside,) = finish([(setting, 3)]).outcomes()
    (outside,) = finish([(replace(setting, constraints=None), 3)]).outcomes()
    assert inside.metrics["spectral_complexity_primary"] <= 0.5 * (1 + 1e-9)
    assert outside.metrics["spectral_complexity_primary"] > 0.5


def test_constrained_outcomes_do_not_depend_on_pack_mates() -> None:
    """Projections are row by row too: bit for bit the outcome that each member has alone."""
    members = [(tiny(BOUNDED, constraints=BOUNDS, target=replace(BALL, seed=seed % 2)), seed) for seed in (3, 0, 8)]
    whole = finish(members).outcomes()
    for member, outcome in zip(members, whole, strict=True):
        assert finish([member]).outcomes() == [outcome]


@pytest.mark.parametrize("stage", [VarPro(), LpContinuation(), OuterLP()])
def test_stages_that_ignore_constraints_are_refused(stage: Stage) -> None:
    """Solvers of linear systems would leave the bounds; the message says which stages would not."""
    method = Monolithic(primary_widths=(5,), bias="hidden")
    bounds = Constraints(max_primary_complexity=2.0)
    with pytest.raises(StudyError, match=f"{type(stage).__name__} does not keep .* Knots, Descent and LBFGS"):
        tiny(method, constraints=bounds, optimizer=Stages(Knots(), stage, LBFGS()))


# --- columns, cost, packs --------------------------------------------------------------------------------------


def test_columns_describe_method_target_and_chain() -> None:
    """Tables get the chain in words, its steps, the grid's pairs, and the rate of the first gradient stage."""
    columns = tiny().columns()
    assert columns["kind"] == "best_approximation"
    assert (columns["optimizer"], columns["steps"], columns["batch"]) == ("Adam > LBFGS", 20 + 35, "91")
    assert (columns["lr"], columns["schedule"], columns["precision"]) == (0.02, "Constant", "float64")
    assert columns["method"] == "Monolithic"
    assert columns["num_params_total"] == METHODS["monolithic"].num_params_total(BALL.dims)
    assert "lr" not in tiny(optimizer=Stages(LBFGS())).columns()
    assert tiny(METHODS["per-instance"]).columns()["batch"] == str(13 * 6)


def test_trials_share_a_program_where_only_seed_and_coefficients_differ() -> None:
    """Other coefficients are the same program; another width, chain, grid or evaluation is not."""
    first = tiny()
    others = [
        tiny(Monolithic(primary_widths=(6,), bias="hidden")),
        tiny(optimizer=Stages(LBFGS(iterations=10))),
        tiny(optimizer=Stages(Descent(optimizer=Adam(lr=0.03), steps=20), LBFGS(iterations=10))),
        tiny(grid=TrainingGrid(x_points=13, instances=8)),
        tiny(grid_points=18),
        tiny(certificate=True),
    ]
    assert tiny(target=replace(BALL, seed=5)).program_key() == first.program_key()
    assert len({other.program_key() for other in (first, *others)}) == 7


def test_cost_grows_with_the_chain_and_the_grid() -> None:
    """Longer chains take more arithmetic, larger grids more memory; steps are the chain's."""
    small = tiny().cost()
    assert small.num_steps == CHAIN.num_steps
    assert tiny(optimizer=Stages(*CHAIN.stages, LBFGS())).cost().flops > small.flops
    assert tiny(grid=TrainingGrid(x_points=26, instances=7)).cost().memory_bytes > 1.5 * small.memory_bytes
    assert tiny(grid_points=257).cost().shared_bytes > small.shared_bytes


def test_many_small_fits_make_one_pack() -> None:
    """Sixty-four seeds of a small fit are one pack on one core, by the fixed model and by measurement."""
    setting = tiny()
    trials = [Trial(setting=setting, seed=seed) for seed in range(64)]
    assert len(programs(trials)) == 1
    assert [len(pack.trials) for pack in make_packs(trials)] == [64]
    speed = measure([(setting, seed) for seed in range(64)], "cpu", 2**32)
    assert speed.members[-1] >= 16
    assert speed.evaluation_s < 5


def test_a_brief_setting_is_short_enough_to_be_measured() -> None:
    """With a number of steps the chain has so many; without, it is the setting itself."""
    setting = tiny()
    assert setting.brief(None) is setting
    assert setting.brief(1).cost().num_steps == 1
    assert setting.brief(1).method == setting.method


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_outcomes_do_not_depend_on_pack_mates(method: Method) -> None:
    """Every member of a pack with other targets and seeds has, bit for bit, the outcome it has alone."""
    members = [(tiny(method, target=replace(BALL, seed=seed % 2)), seed) for seed in (3, 0, 8, 1)]
    whole = finish(members).outcomes()
    for member, outcome in zip(members, whole, strict=True):
        assert finish([member]).outcomes() == [outcome]


def test_a_worker_takes_up_a_checkpoint(tmp_path: Path) -> None:
    """A pack that a worker saved in the middle is gone on with by the next one, to the same results."""
    pack = Pack(trials=tuple(Trial(setting=tiny(), seed=seed) for seed in range(3)))
    whole, begun, resumed = (PackWorker(pack, checkpoints=tmp_path / name) for name in ("a", "b", "b"))
    expected = whole.advance(60.0)
    for _ in range(25):
        assert not begun.advance(0.0)
    assert 0.1 < begun.fraction < 0.9
    begun.save()
    assert not resumed.advance(0.0)
    assert resumed.fraction > begun.fraction * 0.99
    results = resumed.advance(60.0)
    assert [result.metrics for result in results] == [result.metrics for result in expected]
    assert [result.curves for result in results] == [result.curves for result in expected]
    assert all(result.status == "finished" for result in results)


def test_a_diverged_trial_says_in_which_stage() -> None:
    """A chain that explodes gives diverged trials whose reason names stage and rule."""
    linear = Hypernetwork(primary_widths=(), bias="none", encoder=HatEncoder(knots=4))
    setting = tiny(linear, optimizer=Stages(LBFGS(iterations=2), Descent(optimizer=SGD(lr=1e6), steps=300)))
    (outcome,) = finish([(setting, 0)]).outcomes()
    assert outcome.status == "diverged"
    assert "stage 2 of 2 (SGD)" in outcome.reason
