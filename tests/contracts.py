"""The suite every method passes, and a plain re-implementation of networks to hold the stacked code against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Bias, Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.packed import PackedModel
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import ACTIVATIONS, Activation, vanishes_at_zero
from hyperscale.networks.encoders import Encoder, FourierEncoder, HatEncoder

# The symbols of the papers, written once more: conditioning network (hidden, last), primary network (hidden, last).
BIASES: dict[Bias, tuple[bool, bool, bool, bool]] = {
    "none": (False, False, False, False),
    "f_only": (True, True, False, False),
    "primary_only": (False, False, True, False),
    "hidden": (True, False, True, False),
    "all": (True, True, True, True),
}
MODULES: dict[Activation, torch.nn.Module] = {
    "relu": torch.nn.ReLU(),
    "clipped_relu": torch.nn.Hardtanh(0.0, 1.0),
    "tanh": torch.nn.Tanh(),
    "sigmoid": torch.nn.Sigmoid(),
    "elu": torch.nn.ELU(),
    "leaky_relu": torch.nn.LeakyReLU(0.05),
    "identity": torch.nn.Identity(),
}
DIMS = Dims(x_dim=2, conditioning_dim=3, output_dim=2)


def sample_methods() -> dict[str, Method]:
    """Return methods by a readable name: all four, every bias, every activation, with and without an encoder."""
    methods: dict[str, Method] = {}
    for bias in BIASES:
        tanh = {"activation": "tanh", "bias": bias}
        methods[f"hypernetwork-{bias}"] = Hypernetwork(primary_widths=(4,), widths=(5, 3), **tanh)
        methods[f"embedding-{bias}"] = Embedding(primary_widths=(4, 3), widths=(5,), embedding_dim=2, **tanh)
        methods[f"monolithic-{bias}"] = Monolithic(primary_widths=(4, 3), **tanh)
        methods[f"per-instance-{bias}"] = PerInstance(primary_widths=(4,), num_instances=2, **tanh)
    for activation in ACTIVATIONS:
        methods[f"hypernetwork-{activation}"] = Hypernetwork(primary_widths=(4,), widths=(5,), activation=activation)
        methods[f"embedding-{activation}"] = Embedding(
            primary_widths=(4,), widths=(5,), embedding_dim=2, activation=activation
        )
    for activation in ("tanh", "relu"):
        methods[f"embedding-then-{activation}"] = ActivatedEmbedding(
            primary_widths=(4,), widths=(5,), embedding_dim=2, activation="tanh", embedding_activation=activation
        )
    fourier = FourierEncoder(frequencies=7, scale=1.5, seed=4)
    methods |= {
        "hypernetwork-fourier": Hypernetwork(primary_widths=(4,), activation="tanh", bias="hidden", encoder=fourier),
        "embedding-fourier": Embedding(
            primary_widths=(4,), widths=(5,), embedding_dim=2, activation="tanh", bias="hidden", encoder=fourier
        ),
        "embedding-then-tanh-table": ActivatedEmbedding(
            primary_widths=(4, 3), embedding_dim=5, activation="tanh", bias="all", encoder=HatEncoder(knots=3)
        ),
    }
    encoder = HatEncoder(knots=3)
    shared = {"activation": "tanh", "bias": "hidden", "encoder": encoder}
    methods |= {
        "hypernetwork-table": Hypernetwork(primary_widths=(4,), **shared),
        "hypernetwork-encoder": Hypernetwork(primary_widths=(4,), widths=(5,), **shared),
        "embedding-table": Embedding(primary_widths=(4,), embedding_dim=2, **shared),
        "embedding-encoder": Embedding(primary_widths=(4,), widths=(5,), embedding_dim=2, **shared),
        "hypernetwork-linear-primary": Hypernetwork(primary_widths=(), widths=(5,), activation="tanh"),
        "embedding-linear-primary": Embedding(primary_widths=(), embedding_dim=2, activation="tanh"),
        "monolithic-linear": Monolithic(primary_widths=(), activation="tanh"),
        "per-instance-restarts": PerInstance(
            primary_widths=(4,), activation="tanh", bias="all", num_instances=2, restarts=3
        ),
        "embedding-he": Embedding(primary_widths=(4,), embedding_dim=2, activation="tanh", initialization="he_uniform"),
        "monolithic-he": Monolithic(primary_widths=(4,), activation="tanh", initialization="he_uniform"),
    }
    for scheme in ("he_uniform", "primary_fan_in", "hyperfan", "shared_primary"):
        methods[f"hypernetwork-{scheme}"] = Hypernetwork(
            primary_widths=(4,), widths=(5,), activation="tanh", bias="all", initialization=scheme
        )
    methods["hypernetwork-table-shared_primary"] = Hypernetwork(
        primary_widths=(4,), initialization="shared_primary", **shared
    )
    return methods


def sequential(
    sizes: Sequence[int], biases: Sequence[bool], flat: Tensor, activation: Activation
) -> torch.nn.Sequential:
    """Return a torch.nn.Sequential with the flat parameters: weight [fan_in, fan_out] row by row, then the bias."""
    modules: list[torch.nn.Module] = []
    start = 0
    for index, ((fan_in, fan_out), bias) in enumerate(zip(itertools.pairwise(sizes), biases, strict=True)):
        layer = torch.nn.Linear(fan_in, fan_out, bias=bias, dtype=flat.dtype)
        stop = start + fan_in * fan_out
        layer.weight = torch.nn.Parameter(flat[start:stop].reshape(fan_in, fan_out).T)
        if bias:
            layer.bias = torch.nn.Parameter(flat[stop : stop + fan_out])
        modules += [MODULES[activation]] * (index > 0) + [layer]
        start = stop + bias * fan_out
    assert start == len(flat), "every parameter belongs to some layer"
    return torch.nn.Sequential(*modules)


def hat_features(knots: int, conditioning: Tensor) -> Tensor:
    """Return the tensor product of hat functions at one I [m2], by explicit loops: [knots ** m2]."""
    spacing = 2 / (knots - 1)
    rows = [[max(0.0, 1 - abs(float(c) - (-1 + j * spacing)) / spacing) for j in range(knots)] for c in conditioning]
    products = [math.prod(combination) for combination in itertools.product(*rows)]
    return torch.tensor(products, dtype=conditioning.dtype)


def encoded(encoder: Encoder | None, instance: Tensor) -> Tensor:
    """Return the features of one I [m2], by explicit loops where a formula says what they are."""
    if encoder is None:
        return instance
    if isinstance(encoder, HatEncoder):
        return hat_features(encoder.knots, instance)
    assert isinstance(encoder, FourierEncoder)
    weight, shift = encoder.weights(len(instance))
    return torch.tensor(
        [
            math.cos(sum(float(c * w) for c, w in zip(instance, column, strict=True)) + float(b))
            for column, b in zip(weight.T, shift, strict=True)
        ],
        dtype=instance.dtype,
    )


def plain_outputs(method: Method, dims: Dims, flat: Tensor, x: Tensor, conditioning: Tensor) -> Tensor:
    """Return one member's h(x, I) by plain modules and loops: x [B, n, m1], I [B, m2] -> [B, n, output_dim]."""
    hidden_c, last_c, hidden_g, last_g = BIASES[method.bias]
    biases_g = (hidden_g,) * len(method.primary_widths) + (last_g,)
    outputs: list[Tensor] = []
    for index, (points, instance) in enumerate(zip(x, conditioning, strict=True)):
        if isinstance(method, Monolithic):
            sizes = (dims.x_dim + dims.conditioning_dim, *method.primary_widths, dims.output_dim)
            beside = torch.stack([torch.cat((point, instance)) for point in points])
            outputs.append(sequential(sizes, biases_g, flat, method.activation)(beside))
            continue
        sizes_g = (dims.x_dim, *method.primary_widths, dims.output_dim)
        if isinstance(method, PerInstance):
            share = len(flat) // len(conditioning)
            own = flat[index * share : (index + 1) * share]
            outputs.append(sequential(sizes_g, biases_g, own, method.activation)(points))
            continue
        assert isinstance(method, Hypernetwork | Embedding)
        features = encoded(method.encoder, instance)
        biases_c = (hidden_c,) * len(method.widths) + (last_c,)
        if isinstance(method, Hypernetwork):
            generated = sum(
                a * b + bias * b for (a, b), bias in zip(itertools.pairwise(sizes_g), biases_g, strict=True)
            )
            f = sequential((len(features), *method.widths, generated), biases_c, flat, method.activation)
            outputs.append(sequential(sizes_g, biases_g, f(features).detach(), method.activation)(points))
            continue
        sizes_e = (len(features), *method.widths, method.embedding_dim)
        sizes_q = (dims.x_dim + method.embedding_dim, *method.primary_widths, dims.output_dim)
        count = sum(a * b + bias * b for (a, b), bias in zip(itertools.pairwise(sizes_e), biases_c, strict=True))
        embedded = sequential(sizes_e, biases_c, flat[:count], method.activation)(features)
        if isinstance(method, ActivatedEmbedding):
            embedded = MODULES[method.embedding_activation](embedded)
        q = sequential(sizes_q, biases_g, flat[count:], method.activation)
        outputs.append(torch.stack([q(torch.cat((point, embedded))) for point in points]))
    return torch.stack(outputs).detach()


def assert_packed_is_differentiated(
    method: Method, dims: Dims, params: Tensor, x: Tensor, conditioning: Tensor
) -> PackedModel:
    """Hold the form that trains against automatic differentiation of `respond`, to 1e-11; return it.

    Gradients replace what was there, nothing that was handed in is changed, a second batch leaves no trace of the
    first, and outputs may be overwritten before the backward pass.
    """
    features = method.features(conditioning)
    leaf = params.clone().requires_grad_()
    expected = method.respond(dims, leaf, x, features)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9)).to(expected)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, weights)
    gradient = torch.full_like(params, math.nan)
    given = {"params": params, "x": x, "features": features, "weights": weights}
    before = {name: tensor.clone() for name, tensor in given.items()}
    with torch.no_grad():
        model = method.packed(dims, params, gradient, (x.shape[1], x.shape[2]))
        for point, instance, weight in ((x.flip(2), features, -3 * weights), (x, features, weights)):
            given_back = model.forward(point, instance)
            outputs = given_back.clone()
            given_back.fill_(math.nan)
            model.backward(weight)
    assert outputs.shape == expected.shape
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-11, atol=1e-11)
    for name, tensor in given.items():
        assert torch.equal(tensor, before[name]), f"{name} was changed"
    return model


def assert_padding_changes_nothing(method: Method, dims: Dims, params: Tensor, x: Tensor, conditioning: Tensor) -> None:
    """Check that parameters put at `positions` of the padded method are the same function with the same gradient."""
    wider = method.padded(dims, (x.shape[1], x.shape[2]))
    place = method.positions(dims, wider)
    count = wider.num_params_trained(dims)
    assert place.shape == (method.num_params_trained(dims),)
    assert place.min() >= 0
    assert place.max() < count
    assert len(place.unique()) == len(place)
    padded = torch.zeros(len(params), count, dtype=params.dtype)
    padded[:, place] = params
    outputs, gradients = [], []
    for form, values in ((method, params), (wider, padded)):
        leaf = values.clone().requires_grad_()
        output = form.evaluate(dims, leaf, x, conditioning)
        (gradient,) = torch.autograd.grad(output.sin().sum(), leaf)
        outputs.append(output.detach())
        gradients.append(gradient)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[1][:, place], gradients[0], rtol=1e-12, atol=1e-12)
    surplus = torch.ones(count, dtype=torch.bool)
    surplus[place] = False
    if vanishes_at_zero(method.activation):
        assert (gradients[1][:, surplus] == 0).all(), "a unit that padding adds would not stay silent"
    assert_packed_is_differentiated(wider, dims, padded, x, conditioning)


class MethodContract:
    """What every method must do; a test class gives it a fixture ``method``."""

    seeds = (3, 0, 11)

    def inputs(self, method: Method, members: int = 3, points: int = 4, instances: int = 12) -> tuple[Tensor, Tensor]:
        """Return random float64 x [members, B, points, m1] and I [members, B, m2]; PerInstance has its own I."""
        generator = torch.Generator().manual_seed(5)
        instances = method.num_networks(DIMS) if isinstance(method, PerInstance) else instances
        x = torch.rand((members, instances, points, DIMS.x_dim), generator=generator, dtype=torch.float64) * 2 - 1
        conditioning = (
            torch.rand((members, instances, DIMS.conditioning_dim), generator=generator, dtype=torch.float64) * 2 - 1
        )
        if isinstance(method, PerInstance):
            conditioning = method.instances(DIMS).expand(members, -1, -1)
        return x, conditioning

    def test_parameters_are_as_many_as_counted(self, method: Method) -> None:
        """The initial parameters are float64 rows of exactly the trained count, and the total is no larger."""
        params = method.initialize(DIMS, self.seeds)
        assert params.dtype == torch.float64
        assert params.shape == (3, method.num_params_trained(DIMS))
        assert method.num_params_total(DIMS) <= method.num_params_trained(DIMS)
        assert params.isfinite().all()

    def test_initial_parameters_depend_on_the_seed_alone(self, method: Method) -> None:
        """The same seed gives the same bits among any pack-mates, and another seed gives others."""
        together = method.initialize(DIMS, self.seeds)
        for row, seed in enumerate(self.seeds):
            assert torch.equal(together[row], method.initialize(DIMS, [seed])[0])
        assert not torch.equal(together[0], together[1])
        assert not torch.equal(together[1], together[2])

    def test_stacked_evaluation_equals_plain_modules(self, method: Method) -> None:
        """Each member of a pack computes what torch.nn.Sequential computes with its parameters, to 1e-12."""
        x, conditioning = self.inputs(method)
        params = method.initialize(DIMS, self.seeds)
        stacked = method.evaluate(DIMS, params, x, conditioning)
        assert stacked.shape == (*x.shape[:3], DIMS.output_dim)
        for row in range(3):
            alone = method.evaluate(DIMS, params[row : row + 1], x[row : row + 1], conditioning[row : row + 1])
            torch.testing.assert_close(stacked[row], alone[0], rtol=1e-12, atol=1e-12)
            plain = plain_outputs(method, DIMS, params[row], x[row], conditioning[row])
            torch.testing.assert_close(stacked[row], plain, rtol=1e-12, atol=1e-12)

    def test_every_parameter_has_a_gradient_and_members_are_apart(self, method: Method) -> None:
        """Some input moves every parameter of a smooth network, and no member moves another's parameters."""
        x, conditioning = self.inputs(method, members=2, instances=60)
        params = method.initialize(DIMS, self.seeds[:2]).requires_grad_()
        outputs = method.evaluate(DIMS, params, x, conditioning)
        (gradient,) = torch.autograd.grad(outputs[0].square().sum(), params)
        assert (gradient[1] == 0).all()
        embedded = method.embedding_activation if isinstance(method, ActivatedEmbedding) else "identity"
        if {method.activation, embedded} <= {"tanh", "sigmoid", "elu", "leaky_relu", "identity"}:
            assert (gradient[0] != 0).all()

    def test_output_depends_on_the_conditioning_input(self, method: Method) -> None:
        """Two instances with the same x give different outputs."""
        x, conditioning = self.inputs(method, members=1)
        x = x[:, :1].expand_as(x)
        params = method.initialize(DIMS, [1])
        outputs = method.evaluate(DIMS, params, x, conditioning)[0]
        assert (outputs[0] - outputs[1]).abs().max() > 1e-6

    def test_gradient_equals_a_finite_difference(self, method: Method) -> None:
        """The gradient along a random direction equals the central difference, for smooth activations."""
        if method.activation in ("relu", "clipped_relu", "leaky_relu", "elu"):
            return
        if isinstance(method, ActivatedEmbedding) and method.embedding_activation == "relu":
            return
        x, conditioning = self.inputs(method, members=1)
        params = method.initialize(DIMS, [2])
        direction = torch.randn(params.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        leaf = params.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(method.evaluate(DIMS, leaf, x, conditioning).sin().sum(), leaf)
        step = 1e-6
        ahead, behind = (
            method.evaluate(DIMS, params + sign * step * direction, x, conditioning).sin().sum() for sign in (1, -1)
        )
        slope = (gradient * direction).sum()
        torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-6, atol=1e-6)

    def test_the_form_that_trains_equals_automatic_differentiation(self, method: Method) -> None:
        """Outputs and gradients of `packed` are those of `respond`, with few I and many, one x for each and several."""
        for instances, points in ((12, 1), (12, 4), (40, 1), (40, 2)):
            x, conditioning = self.inputs(method, points=points, instances=instances)
            assert_packed_is_differentiated(method, DIMS, method.initialize(DIMS, self.seeds), x, conditioning)

    def test_padding_is_the_same_function(self, method: Method) -> None:
        """The padded method with the parameters in their positions has the same outputs and gradients."""
        x, conditioning = self.inputs(method)
        assert_padding_changes_nothing(method, DIMS, method.initialize(DIMS, self.seeds), x, conditioning)

    def test_spectral_complexities_are_named_positive_and_per_member(self, method: Method) -> None:
        """One positive number per member for the primary network, one more where a network sees I."""
        _, conditioning = self.inputs(method)
        values = method.spectral_complexities(DIMS, method.initialize(DIMS, self.seeds), conditioning)
        names = ["spectral_complexity_primary"]
        if isinstance(method, Hypernetwork | Embedding):
            names.append("spectral_complexity_conditioning")
        assert sorted(values) == sorted(names)
        assert all(value.shape == (3,) and (value > 0).all() for value in values.values())

    def test_columns_are_flat_and_name_the_method(self, method: Method) -> None:
        """Tables get strings and numbers only, the method's name among them."""
        columns = method.columns()
        kind = Embedding if isinstance(method, ActivatedEmbedding) else type(method)
        assert columns["method"] == kind.__name__ == method.name
        assert all(isinstance(value, str | int | float) for value in columns.values())
