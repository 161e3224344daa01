"""Tests of `hyperscale.training.constraints`: projections onto the theorems' bounds, and what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.encoders import FourierEncoder, HatEncoder
from hyperscale.networks.mlp import Shape, evaluate, spectral_complexity
from hyperscale.networks.projections import project_onto_l1_ball
from hyperscale.training.constraints import (
    Constraints,
    conditioning_lipschitz,
    constraint_metric_names,
    constraint_metrics,
)

LINE, PLANE = Dims(x_dim=1, conditioning_dim=1), Dims(x_dim=1, conditioning_dim=2)
SHARED: dict[str, Any] = {"primary_widths": (6, 4), "embedding_dim": 3, "activation": "tanh", "bias": "primary_only"}
CASES: dict[str, tuple[Embedding, Dims]] = {
    "deep": (Embedding(widths=(5, 4), **SHARED), PLANE),
    "linear": (Embedding(**SHARED), PLANE),
    "table": (Embedding(encoder=HatEncoder(knots=9), **SHARED), LINE),
    "table in the plane": (Embedding(encoder=HatEncoder(knots=4), **SHARED), PLANE),
    "hats": (Embedding(widths=(5,), encoder=HatEncoder(knots=5), **SHARED), LINE),
    "fourier": (Embedding(encoder=FourierEncoder(frequencies=12, scale=2), **SHARED), PLANE),
    "relu": (Embedding(widths=(5, 4), **{**SHARED, "activation": "relu"}), PLANE),
    "activated": (ActivatedEmbedding(encoder=HatEncoder(knots=9), embedding_activation="relu", **SHARED), LINE),
}
ALL = Constraints(max_conditioning_complexity=0.75, max_primary_complexity=1.5, max_first_layer=0.9)


def random_params(method: Method, dims: Dims, members: int = 5, scale: float = 1.0) -> Tensor:
    """Return normal parameters, well outside the bounds."""
    shape = (members, method.num_params_trained(dims))
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def measured(method: Embedding, dims: Dims, params: Tensor) -> dict[str, Tensor]:
    """Return the three numbers that are bounded."""
    metrics = constraint_metrics(method, dims, params)
    _, q_params = method.split_networks(dims, params)
    layers = method.primary_shape(dims).split(q_params)
    return {**metrics, "primary": spectral_complexity(layers, method.activation)}


@pytest.mark.parametrize("case", CASES)
def test_a_projection_meets_every_bound_and_is_idempotent(case: str) -> None:
    """Parameters far outside end within 1e-12 of the bounds; projecting again changes no bit, nor the argument."""
    method, dims = CASES[case]
    params = random_params(method, dims)
    before = params.clone()
    ALL.check(method, dims)
    assert (measured(method, dims, params)["lipschitz_conditioning"] > 0.75).all()
    projected = ALL.project(method, dims, params)
    assert torch.equal(params, before)
    found = measured(method, dims, projected)
    assert (found["lipschitz_conditioning"] <= 0.75 * (1 + 1e-12)).all()
    assert (found["lipschitz_conditioning"] >= 0.75 * (1 - 1e-9)).all(), "no further than needed"
    assert (found["primary"] <= 1.5 * (1 + 1e-12)).all()
    assert (found["first_layer_norm"] <= 0.9 * (1 + 1e-12)).all()
    assert torch.equal(ALL.project(method, dims, projected), projected)


@pytest.mark.parametrize("case", CASES)
def test_members_within_the_bounds_stay_and_none_sees_another(case: str) -> None:
    """A small member between two large ones keeps its bits, and each is projected as it is alone."""
    method, dims = CASES[case]
    params = random_params(method, dims, members=3)
    params[1] *= 1e-3
    projected = ALL.project(method, dims, params)
    assert torch.equal(projected[1], params[1])
    assert not torch.equal(projected[0], params[0])
    for row in range(3):
        assert torch.equal(ALL.project(method, dims, params[row : row + 1])[0], projected[row])


def test_biases_do_not_count() -> None:
    """Biases of q are as they were, however large; its weights alone shrink."""
    method, dims = CASES["deep"]
    params = random_params(method, dims)
    layers = [
        method.primary_shape(dims).split(method.split_networks(dims, p)[1])
        for p in (params, ALL.project(method, dims, params))
    ]
    for (weight, bias), (projected, kept) in zip(*layers, strict=True):
        assert not torch.equal(weight, projected)
        if bias is not None and kept is not None:
            assert torch.equal(bias, kept)


def test_layers_shrink_by_equal_factors() -> None:
    """C(q) = 2^3 with bound 1 on a tanh network: every layer is halved."""
    method = Monolithic(primary_widths=(3, 2), activation="tanh")
    params = random_params(method, PLANE, members=1)
    layers = method.primary_shape(PLANE).split(params)
    for weight, _ in layers:
        weight *= 2 / weight.abs().sum(dim=-1).amax(dim=-1)
    projected = Constraints(max_primary_complexity=1).project(method, PLANE, params)
    torch.testing.assert_close(projected, params / 2, rtol=1e-14, atol=0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_a_homogeneous_network_shrinks_by_one_factor_and_only_where_rescaling_is_not_enough(activation: Any) -> None:
    """Between its path norm and its C a network stays the same function; below, it is multiplied by bound / paths."""
    method = Monolithic(primary_widths=(5, 4), activation=activation, bias="hidden")
    params = random_params(method, PLANE)
    layers = method.primary_shape(PLANE).split(params)
    paths = layers[0][0].abs() @ layers[1][0].abs() @ layers[2][0].abs()
    smallest = paths.amax(dim=(1, 2))
    assert (smallest < 0.9 * spectral_complexity(layers, activation)).all()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn((5, 3, 7, 1), generator=generator, dtype=torch.float64)
    conditioning = torch.randn((5, 3, 2), generator=generator, dtype=torch.float64)
    before = method.evaluate(PLANE, params, x, conditioning)
    for row in range(5):
        one, bound = slice(row, row + 1), float(smallest[row])
        for part in (1.001, 0.5):
            constraints = Constraints(max_primary_complexity=part * bound, max_first_layer=0.3)
            projected = constraints.project(method, PLANE, params[one])
            after = method.evaluate(PLANE, projected, x[one], conditioning[one])
            torch.testing.assert_close(after, before[one] * min(1, part), rtol=1e-12, atol=1e-12)
            found = spectral_complexity(method.primary_shape(PLANE).split(projected), activation)
            assert found <= part * bound * (1 + 1e-12)
            assert constraint_metrics(method, PLANE, projected)["first_layer_norm"] <= 0.3 * (1 + 1e-12)


def test_complexity_of_a_shallow_relu_network_bounds_the_total_variation_of_its_slope() -> None:
    """On one input, sum of abs(v_j w_j), the slope's variation over the line (by differences), is at most C."""
    shape = Shape(sizes=(1, 9, 1), biases=(True, False))
    params = torch.randn((50, shape.num_params), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    layers = shape.split(params)
    x = torch.linspace(-300, 300, 200_001, dtype=torch.float64)
    variation = (layers[0][0].abs() @ layers[1][0].abs()).flatten()
    first = evaluate([(w[:1], None if b is None else b[:1]) for w, b in layers], x[None, :, None], torch.relu)
    measured_on_grid = float(first.flatten().diff().diff().abs().sum() / (x[1] - x[0]))
    assert measured_on_grid == pytest.approx(float(variation[0]), rel=1e-3)
    assert (variation <= spectral_complexity(layers, "relu")).all()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_projected_training_learns_within_the_bounds(activation: Any) -> None:
    """Adam with a projection after each step brings the mean square of y = abs(x - I) / 4 down by 20, feasible."""
    method = Embedding(
        primary_widths=(8,), embedding_dim=1, encoder=HatEncoder(knots=5), activation=activation, bias="primary_only"
    )
    constraints = Constraints(max_conditioning_complexity=1, max_primary_complexity=3, max_first_layer=3)
    constraints.check(method, LINE)
    x = torch.linspace(-1, 1, 17, dtype=torch.float64)
    points, conditioning = x[None, None, :, None].expand(1, 17, -1, 1), x[None, :, None]
    y = (x[None, :] - x[:, None]).abs() / 4
    params = constraints.project(method, LINE, method.initialize(LINE, [0])).requires_grad_()
    rule = torch.optim.Adam([params], lr=0.02)
    losses = []
    for _ in range(400):
        loss = (method.evaluate(LINE, params, points, conditioning)[0, :, :, 0] - y).square().mean()
        losses.append(loss.item())
        rule.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()
        with torch.no_grad():
            params.copy_(constraints.project(method, LINE, params))
    found = measured(method, LINE, params.detach())
    assert losses[-1] < losses[0] / 20
    assert float(found["lipschitz_conditioning"]) <= 1 + 1e-12
    assert float(found["primary"]) <= 3 * (1 + 1e-12)


def test_projection_onto_the_l1_ball_is_the_nearest_point() -> None:
    """Against SciPy's constrained minimisation to 1e-6, for rows inside and outside; signs and norms hold."""
    rows = torch.randn((6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[0] *= 0.01
    rows[1] = torch.tensor([2.0, -2.0, 0.0, 0.0, 0.0])
    projected = project_onto_l1_ball(rows, 1.0)
    assert torch.equal(projected[0], rows[0])
    torch.testing.assert_close(projected[1, :2], torch.tensor([0.5, -0.5], dtype=torch.float64))
    for row, point in zip(rows[1:].numpy(), projected[1:].numpy(), strict=True):
        signs = np.sign(row)
        found = scipy.optimize.minimize(
            lambda v, row=row: 0.5 * np.sum((v - row) ** 2),
            np.zeros(5),
            jac=lambda v, row=row: v - row,
            bounds=[(0, None) if s > 0 else (None, 0) for s in signs],
            constraints={
                "type": "ineq",
                "fun": lambda v, signs=signs: 1 - v @ signs,
                "jac": lambda v, signs=signs: -signs,
            },
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(point, found.x, atol=1e-6)
        assert np.abs(point).sum() == pytest.approx(1, abs=1e-14)
    huge = project_onto_l1_ball(1e9 * rows[1:], 1.0)
    assert (huge.abs().sum(dim=-1) <= 1 + 1e-14).all()


def test_a_table_keeps_its_mean_and_its_allowed_steps() -> None:
    """Only the one step that is too steep shrinks: 0, 0, 4, 4, 4 with h = 1/2 and bound 2 becomes a step of 1."""
    method = Embedding(primary_widths=(2,), embedding_dim=1, encoder=HatEncoder(knots=5))
    params = random_params(method, LINE, members=1, scale=0.01)
    table = method.e_shape(LINE).split(method.split_networks(LINE, params)[0])[0][0]
    table[0, :, 0] = torch.tensor([0.0, 0.0, 4.0, 4.0, 4.0])
    projected = Constraints(max_conditioning_complexity=2).project(method, LINE, params)
    table = method.e_shape(LINE).split(method.split_networks(LINE, projected)[0])[0][0]
    wanted = torch.tensor([1.8, 1.8, 2.8, 2.8, 2.8], dtype=torch.float64)
    torch.testing.assert_close(table[0, :, 0], wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_no_quotient_of_e_exceeds_its_lipschitz_number(case: str) -> None:
    """Over close pairs of I the L1 quotient of e stays below the number; a table's comes within 1e-6 of it."""
    method, dims = CASES[case]
    params = random_params(method, dims, members=2)
    e_params, _ = method.split_networks(dims, params)
    number = conditioning_lipschitz(method, dims, method.e_shape(dims).split(e_params))
    generator = torch.Generator().manual_seed(5)
    points = torch.rand((20_000, dims.conditioning_dim), generator=generator, dtype=torch.float64) * 1.99 - 0.995
    step = torch.zeros_like(points)
    step[torch.arange(len(points)), torch.randint(dims.conditioning_dim, (len(points),), generator=generator)] = 1e-6
    if case == "table in the plane":  # steepest on a line of knots: both coordinates in turn
        step[:, 0], step[:, 1] = 1e-6, 0.0
        points[:, 1] = ((points[:, 1] + 1) * 1.5).round() / 1.5 - 1
        half = len(points) // 2
        points[:half], step[:half] = points[:half].flip(-1), step[:half].flip(-1)
    features = [method.features(place).expand(2, -1, -1) for place in (points, points + step)]
    start, end = (method.embed(dims, e_params, part) for part in features)
    quotient = ((end - start).abs().sum(dim=-1) / step.abs().sum(dim=-1)).amax(dim=-1)
    assert (quotient <= number * (1 + 1e-7)).all()
    if case.startswith("table"):
        assert (quotient >= number * (1 - 1e-6)).all()


def test_first_layer_norm_is_the_largest_row_sum() -> None:
    """Hand-made weights: rows of x and of the embedding count alike; PerInstance gives the largest of its networks."""
    method = Embedding(primary_widths=(2,), embedding_dim=1)
    params = torch.zeros((1, method.num_params_total(LINE)), dtype=torch.float64)
    (weight, _), *_ = method.primary_shape(LINE).split(method.split_networks(LINE, params)[1])
    weight[0] = torch.tensor([[1.0, -2.0], [-2.5, 1.5]])
    assert constraint_metrics(method, LINE, params)["first_layer_norm"].tolist() == [4.0]
    several = PerInstance(primary_widths=(2,), num_instances=2)
    weights = torch.tensor([[1.0, 1.0, 9.0, 9.0, -3.0, 0.5, 9.0, 9.0]], dtype=torch.float64)
    assert constraint_metrics(several, LINE, weights) == {"first_layer_norm": torch.tensor([3.5])}


@pytest.mark.parametrize(
    "method",
    [
        Embedding(primary_widths=(4,), embedding_dim=2),
        Monolithic(primary_widths=(4,)),
        PerInstance(primary_widths=(4,), num_instances=3),
        Hypernetwork(primary_widths=(4,), encoder=HatEncoder(knots=5)),
        Hypernetwork(primary_widths=(4,), widths=(3,), encoder=FourierEncoder(frequencies=5)),
    ],
)
def test_metrics_are_named_positive_and_per_member(method: Method) -> None:
    """Every method has the metrics it names, one positive number for each member."""
    metrics = constraint_metrics(method, LINE, method.initialize(LINE, [0, 1]))
    assert set(metrics) == set(constraint_metric_names(method))
    assert all(value.shape == (2,) and (value > 0).all() for value in metrics.values())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Hypernetwork(primary_widths=(4,)), "allowed: Embedding"),
        (PerInstance(primary_widths=(4,), num_instances=3), "allowed: Embedding"),
        (Monolithic(primary_widths=(4,)), "max_primary_complexity"),
        (Embedding(primary_widths=(4,), embedding_dim=2, activation="sigmoid"), r"s\(0\) = 0"),
        (Embedding(primary_widths=(4,), embedding_dim=2, bias="hidden"), "bias='primary_only'"),
        (Embedding(primary_widths=(4,), embedding_dim=2, bias="f_only"), "bias='primary_only'"),
        (Embedding(primary_widths=(4,), embedding_dim=2, bias="all"), "bias='primary_only'"),
    ],
)
def test_what_the_theorems_do_not_speak_of_is_refused(method: Method, message: str) -> None:
    """Methods without e or q, activations with s(0) != 0 and biases in e are errors that say what to write."""
    with pytest.raises(StudyError, match=message):
        ALL.check(method, LINE)


@pytest.mark.parametrize("bound", [0, -1.0, float("inf"), "1", True])
@pytest.mark.parametrize("field", ["max_conditioning_complexity", "max_primary_complexity", "max_first_layer"])
def test_bounds_are_positive_numbers(field: str, bound: Any) -> None:
    """A bound that is no positive finite number is an error that names the field."""
    with pytest.raises(StudyError, match=rf"Constraints\.{field}"):
        Constraints(**{field: bound})


def test_constraints_bound_something() -> None:
    """No bound at all is an error; whole numbers are the same bounds as reals, and columns hold what is set."""
    with pytest.raises(StudyError, match="bounds nothing"):
        Constraints()
    assert Constraints(max_first_layer=2) == Constraints(max_first_layer=2.0)
    assert Constraints(max_first_layer=2).columns() == {"max_first_layer": 2.0}


def test_monolithic_is_a_q_of_its_own() -> None:
    """Both bounds of q hold for one network on [x, I] too."""
    method = Monolithic(primary_widths=(5, 3), activation="tanh", bias="all")
    constraints = Constraints(max_primary_complexity=2, max_first_layer=0.5)
    constraints.check(method, PLANE)
    projected = constraints.project(method, PLANE, random_params(method, PLANE))
    layers = method.primary_shape(PLANE).split(projected)
    assert (spectral_complexity(layers, "tanh") <= 2 * (1 + 1e-12)).all()
    assert (constraint_metrics(method, PLANE, projected)["first_layer_norm"] <= 0.5 * (1 + 1e-12)).all()
