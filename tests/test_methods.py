"""Tests of `hyperscale.methods`: the contract, the papers' parameter counts, and what ties the methods together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperscale.errors import StudyError
from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.encoders import HatEncoder
from hyperscale.seeding import uniform_between
from tests.contracts import DIMS, MethodContract, sample_methods

METHODS = sample_methods()


class TestContract(MethodContract):
    """Every method passes the contract."""

    @pytest.fixture(params=list(METHODS))
    def method(self, request: pytest.FixtureRequest) -> Method:
        """Give one method after another."""
        return METHODS[request.param]


# --- parameter counts of "On the Modularity of Hypernetworks" ---------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "n_f", "n_e", "embedding_total"),
    [
        (2, 1_101_000, 1_100_000, 1_210_010),
        (3, 1_111_000, 1_110_000, 1_220_010),
        (4, 1_121_000, 1_120_000, 1_230_010),
        (5, 1_131_000, 1_130_000, 1_240_010),
        (6, 1_141_000, 1_140_000, 1_250_010),
        (7, 1_151_000, 1_150_000, 1_260_010),
        (8, 1_161_000, 1_160_000, 1_270_010),
        (9, 1_171_000, 1_170_000, 1_280_010),
    ],
)
def test_counts_of_the_synthetic_depth_sweep(depth: int, n_f: int, n_e: int, embedding_total: int) -> None:
    """MOD-S1: g 1000-10-1, q 11000-10-1, f and e with k weight layers of width 100, no biases."""
    dims = Dims(x_dim=1000, conditioning_dim=1000)
    hyper = Hypernetwork(primary_widths=(10,), widths=(100,) * (depth - 1))
    embedding = Embedding(primary_widths=(10,), widths=(100,) * (depth - 1), embedding_dim=10_000)
    assert hyper.num_params_primary(dims) == 10_010
    assert hyper.num_params_total(dims) == n_f
    assert embedding.num_params_primary(dims) == 110_010
    assert embedding.e_shape(dims).num_params == n_e
    assert embedding.num_params_total(dims) == embedding_total


@pytest.mark.parametrize(
    ("i", "n_f", "n_e", "n_q"),
    [
        (1, 121_000, 120_000, 11_010),
        (2, 232_000, 220_000, 21_010),
        (3, 343_000, 320_000, 31_010),
        (4, 454_000, 420_000, 41_010),
        (5, 565_000, 520_000, 51_010),
        (6, 676_000, 620_000, 61_010),
        (7, 787_000, 720_000, 71_010),
        (8, 898_000, 820_000, 81_010),
    ],
)
def test_counts_of_the_synthetic_embedding_sweep(i: int, n_f: int, n_e: int, n_q: int) -> None:
    """MOD-S1e: f 100-100-100i-1010, e 100-100-100-1000i, q (100 + 1000i)-10-1."""
    dims = Dims(x_dim=100, conditioning_dim=100)
    hyper = Hypernetwork(primary_widths=(10,), widths=(100, 100 * i))
    embedding = Embedding(primary_widths=(10,), widths=(100, 100), embedding_dim=1000 * i)
    assert hyper.num_params_primary(dims) == 1_010
    assert hyper.num_params_total(dims) == n_f
    assert embedding.num_params_primary(dims) == n_q
    assert embedding.num_params_total(dims) == n_e + n_q


@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "n_g", "n_q", "f_first", "f_last"),
    [
        (784, 1, 50, 7_850, 86_350, 431_700, 449_200),
        (784, 12, 50, 7_960, 86_460, 437_200, 454_700),
        (3072, 1, 100, 30_730, 338_030, 3_380_200, 3_450_200),
        (3072, 12, 100, 30_840, 338_140, 3_391_200, 3_461_200),
    ],
)
def test_counts_of_the_rotation_experiment(
    inputs: int, outputs: int, width: int, n_g: int, n_q: int, f_first: int, f_last: int
) -> None:
    """MOD-R1: g h^2c-10-outputs, embeddings of 10h^2c + 10 numbers, f of k = 2 and of k = 9 layers."""
    dims = Dims(x_dim=inputs, conditioning_dim=inputs, output_dim=outputs)
    for depth, n_f in ((2, f_first), (9, f_last)):
        hyper = Hypernetwork(primary_widths=(10,), widths=(width,) * (depth - 1))
        assert hyper.num_params_primary(dims) == n_g
        assert hyper.num_params_total(dims) == n_f
    embedding = Embedding(primary_widths=(10,), widths=(width,), embedding_dim=10 * inputs + 10)
    assert embedding.num_params_primary(dims) == n_q


@pytest.mark.parametrize(
    ("inputs", "i", "n_e", "n_q"),
    [
        (3072, 1, 1_307_200, 130_840),
        (3072, 3, 3_307_200, 330_840),
        (3072, 4, 4_307_200, 430_840),
        (3072, 8, 8_307_200, 830_840),
        (784, 1, 1_078_400, 107_960),
        (784, 8, 8_078_400, 807_960),
    ],
)
def test_counts_of_the_rotation_embedding_sweep(inputs: int, i: int, n_e: int, n_q: int) -> None:
    """MOD-R2: embeddings of 10^4 i numbers, e h^2c-100-E_i, q (h^2c + E_i)-10-12."""
    dims = Dims(x_dim=inputs, conditioning_dim=inputs, output_dim=12)
    embedding = Embedding(primary_widths=(10,), widths=(100,), embedding_dim=10_000 * i)
    assert embedding.e_shape(dims).num_params == n_e
    assert embedding.num_params_primary(dims) == n_q


@pytest.mark.parametrize(
    ("depth", "n_f"), [(2, 147_400), (3, 157_400), (4, 167_400), (5, 177_400), (6, 187_400), (7, 197_400)]
)
def test_counts_of_the_colorization_experiment(depth: int, n_f: int) -> None:
    """MOD-C1: g 42-10-3, q 492-10-3, f and e 1024-100-...-450."""
    dims = Dims(x_dim=42, conditioning_dim=1024, output_dim=3)
    hyper = Hypernetwork(primary_widths=(10,), widths=(100,) * (depth - 1), activation="elu")
    embedding = Embedding(primary_widths=(10,), widths=(100,) * (depth - 1), embedding_dim=450, activation="elu")
    assert hyper.num_params_primary(dims) == 450
    assert embedding.num_params_primary(dims) == 4_950
    assert hyper.num_params_total(dims) == n_f
    assert embedding.num_params_total(dims) == n_f + 4_950


@pytest.mark.parametrize(("inputs", "count"), [(784, 79_510), (3072, 308_310)])
def test_counts_of_the_students(inputs: int, count: int) -> None:
    """MOD-A1: students d-100-10 with all biases, counted as one instance's network."""
    dims = Dims(x_dim=inputs, conditioning_dim=1, output_dim=10)
    method = PerInstance(primary_widths=(100,), bias="all", num_instances=2, restarts=5)
    assert method.num_params_primary(dims) == count
    assert method.num_params_total(dims) == 2 * count
    assert method.num_params_trained(dims) == 10 * count


@pytest.mark.parametrize(
    ("inputs", "width", "depth", "n_g", "n_f"),
    [
        (784, 10, 3, 8_060, 1_848_800),
        (784, 10, 8, 8_560, 1_948_800),
        (784, 50, 6, 49_800, 10_196_800),
        (784, 100, 8, 139_600, 28_156_800),
        (3072, 100, 3, 318_400, 64_374_400),
        (3072, 200, 6, 776_800, 156_054_400),
        (3072, 300, 8, 1_465_200, 293_734_400),
    ],
)
def test_counts_of_the_infinite_width_experiment(inputs: int, width: int, depth: int, n_g: int, n_f: int) -> None:
    """INF-D1: g of H weight layers of width m and 12 outputs, f h^2c-200-200-200-N_g, no biases."""
    dims = Dims(x_dim=inputs, conditioning_dim=inputs, output_dim=12)
    method = Hypernetwork(primary_widths=(width,) * (depth - 1), widths=(200, 200, 200))
    assert method.num_params_primary(dims) == n_g
    assert method.num_params_total(dims) == n_f


def test_count_of_the_toy_generator() -> None:
    """GEN-TOY: 1-30-10-10-2 with biases has 60 + 310 + 110 + 22 = 502 parameters."""
    generator = WeightGenerator()
    assert generator.shape(2).part_sizes() == [30, 30, 300, 10, 100, 10, 20, 2]
    assert generator.shape(2).num_params == 502
    assert generator.initialize(2, [0, 1]).shape == (2, 502)


@pytest.mark.parametrize(
    ("bias", "hyper", "embedding", "monolithic", "per_instance"),
    [
        # g 2-4-2: 16 (hidden bias 4, last 2); f 3-5-N_g; e 3-5-2: 25; q 4-4-2: 24; h 5-4-2: 28; 8 instances
        ("none", 15 + 5 * 16, 25 + 24, 28, 8 * 16),
        ("f_only", 15 + 5 * 16 + 5 + 16, 25 + 7 + 24, 28, 8 * 16),
        ("primary_only", 15 + 5 * 20, 25 + 28, 32, 8 * 20),
        ("hidden", 15 + 5 * 20 + 5, 25 + 5 + 28, 32, 8 * 20),
        ("all", 15 + 5 * 22 + 5 + 22, 25 + 7 + 30, 34, 8 * 22),
    ],
)
def test_counts_with_every_bias(bias: Any, hyper: int, embedding: int, monolithic: int, per_instance: int) -> None:
    """Each bias choice adds exactly the biases it names."""
    shared: dict[str, Any] = {"primary_widths": (4,), "bias": bias}
    assert Hypernetwork(widths=(5,), **shared).num_params_total(DIMS) == hyper
    assert Embedding(widths=(5,), embedding_dim=2, **shared).num_params_total(DIMS) == embedding
    assert Monolithic(**shared).num_params_total(DIMS) == monolithic
    assert PerInstance(num_instances=2, **shared).num_params_total(DIMS) == per_instance


# --- multiply-adds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "count"),
    [
        # 3 instances, 7 points each; biases are additions only
        (Hypernetwork(primary_widths=(4,), widths=(5,), bias="all"), 3 * (3 * 5 + 5 * 22) + 21 * (2 * 4 + 4 * 2)),
        (Hypernetwork(primary_widths=(4,), encoder=HatEncoder(knots=3)), 3 * (27 * 16) + 21 * (2 * 4 + 4 * 2)),
        (Embedding(primary_widths=(4,), widths=(5,), embedding_dim=6), 3 * (3 * 5 + 5 * 6 + 6 * 4) + 21 * (2 * 4 + 8)),
        (Embedding(primary_widths=(), embedding_dim=6), 3 * (3 * 6 + 6 * 2) + 21 * (2 * 2)),
        (Monolithic(primary_widths=(4,)), 21 * (5 * 4 + 4 * 2)),
        (PerInstance(primary_widths=(4,), num_instances=2), 21 * (2 * 4 + 4 * 2)),
    ],
)
def test_multiply_adds_equal_hand_counts(method: Method, count: int) -> None:
    """Work is counted once per I where it depends on I alone, and once per (x, I) elsewhere."""
    assert method.multiply_adds(DIMS, 3, 7) == count


# --- what the methods are to each other ------------------------------------------------------------------------


def _random_inputs(dims: Dims) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    x = torch.rand((1, 9, 5, dims.x_dim), generator=generator, dtype=torch.float64) * 2 - 1
    return x, torch.rand((1, 9, dims.conditioning_dim), generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("primary_widths", [(4,), (4, 3), ()])
def test_embedding_is_a_hypernetwork_whose_f_gives_first_biases_only(primary_widths: tuple[int, ...]) -> None:
    """With f's last layer constant in I but for the first layer's biases, W_e e(I) + b, the outputs agree."""
    shared: dict[str, Any] = {"primary_widths": primary_widths, "widths": (5,), "activation": "tanh", "bias": "all"}
    embedding, hyper = Embedding(embedding_dim=3, **shared), Hypernetwork(**shared)
    params = embedding.initialize(DIMS, [4])
    e_params, q_params = params.split([embedding.e_shape(DIMS).num_params, embedding.num_params_primary(DIMS)], dim=-1)
    (first_weight, first_bias), (last_weight, last_bias) = embedding.e_shape(DIMS).split(e_params)
    (weight, bias), *rest = embedding.primary_shape(DIMS).split(q_params)
    assert first_bias is not None
    assert last_bias is not None
    assert bias is not None
    weight_x, weight_e = weight.split([DIMS.x_dim, 3], dim=-2)
    n_first, n_x = weight.shape[-1], weight_x.numel()
    f_weight = torch.zeros(5, hyper.num_params_primary(DIMS), dtype=torch.float64)
    f_weight[:, n_x : n_x + n_first] = last_weight[0] @ weight_e[0]
    shift = last_bias[0] @ weight_e[0] + bias[0]
    constant = [weight_x[0].flatten(), shift]
    for layer_weight, layer_bias in rest:
        assert layer_bias is not None
        constant += [layer_weight[0].flatten(), layer_bias[0]]
    tied = torch.cat([first_weight[0].flatten(), first_bias[0], f_weight.flatten(), *constant]).unsqueeze(0)
    assert tied.shape[-1] == hyper.num_params_total(DIMS)
    x, conditioning = _random_inputs(DIMS)
    expected = embedding.evaluate(DIMS, params, x, conditioning)
    torch.testing.assert_close(hyper.evaluate(DIMS, tied, x, conditioning), expected, rtol=1e-13, atol=1e-14)


def test_effective_embedding_dimension_is_at_most_the_first_width() -> None:
    """The last layer of e and the first of q compose to one linear map, so 50 embedding numbers do no more than 4."""
    shared: dict[str, Any] = {"primary_widths": (4,), "widths": (5,), "activation": "relu"}
    wide, narrow = Embedding(embedding_dim=50, **shared), Embedding(embedding_dim=4, **shared)
    params = wide.initialize(DIMS, [6])
    e_params, q_params = params.split([wide.e_shape(DIMS).num_params, wide.num_params_primary(DIMS)], dim=-1)
    (e_first, _), (e_last, _) = wide.e_shape(DIMS).split(e_params)
    (weight, _), (q_last, _) = wide.primary_shape(DIMS).split(q_params)
    weight_x, weight_e = weight.split([DIMS.x_dim, 50], dim=-2)
    parts = [e_first, e_last @ weight_e, weight_x, torch.eye(4, dtype=torch.float64)[None], q_last]
    composed = torch.cat([part.flatten(1) for part in parts], dim=-1)
    assert composed.shape[-1] == narrow.num_params_total(DIMS)
    x, conditioning = _random_inputs(DIMS)
    expected = wide.evaluate(DIMS, params, x, conditioning)
    torch.testing.assert_close(narrow.evaluate(DIMS, composed, x, conditioning), expected, rtol=1e-12, atol=1e-14)


def test_table_gives_the_knots_weights_and_interpolates_between() -> None:
    """On an encoder without hidden layers f is a table: its rows at the knots, their mean halfway."""
    dims = Dims(x_dim=1, conditioning_dim=1)
    method = Hypernetwork(primary_widths=(3,), encoder=HatEncoder(knots=5), bias="hidden")
    params = method.initialize(dims, [0])
    table = params.unflatten(-1, (5, method.num_params_primary(dims)))[0]
    knots = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(method.generate(dims, params, knots[None, :, None])[0], table, rtol=0, atol=1e-15)
    halfway = (knots[1:] + knots[:-1]) / 2
    between = method.generate(dims, params, halfway[None, :, None])[0]
    torch.testing.assert_close(between, (table[1:] + table[:-1]) / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("encoder", [None, HatEncoder(knots=4)])
@pytest.mark.parametrize(
    ("scheme", "activation"), [("primary_fan_in", "tanh"), ("hyperfan", "relu"), ("hyperfan", "elu")]
)
def test_rescaled_initialisation_gives_the_generated_weights_their_variance(
    scheme: Any, activation: Any, encoder: HatEncoder | None
) -> None:
    """Weights of g start with variance 1/(3 fan_in), 2/fan_in (ReLU) or 1/fan_in, whatever f is, within 10 %."""
    dims = Dims(x_dim=8, conditioning_dim=2)
    method = Hypernetwork(
        primary_widths=(32,), widths=(64,), activation=activation, bias="all", encoder=encoder, initialization=scheme
    )
    params = method.initialize(dims, list(range(20)))
    keys = torch.arange(20, dtype=torch.int64)
    conditioning = uniform_between(keys, 400, -1, 1, torch.float64).unflatten(-1, (200, 2))
    layers = method.primary_shape(dims).split(method.generate(dims, params, conditioning))
    gain = {"primary_fan_in": 1 / 3, "hyperfan": 2.0 if activation == "relu" else 1.0}[scheme]
    for (weight, _), fan_in in zip(layers, (8, 32), strict=True):
        assert float(weight.square().mean()) * fan_in == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize(
    "method",
    [
        Hypernetwork(primary_widths=(6,), encoder=HatEncoder(knots=5), bias="hidden", initialization="shared_primary"),
        Hypernetwork(primary_widths=(6,), widths=(8,), bias="f_only", initialization="shared_primary"),
    ],
    ids=["table", "bias"],
)
def test_shared_primary_starts_near_one_network(method: Hypernetwork) -> None:
    """The spread of g's weights over I is small beside their size, which is torch.nn.Linear's in g."""
    dims = Dims(x_dim=4, conditioning_dim=1)
    conditioning = torch.linspace(-1, 1, 41, dtype=torch.float64)[None, :, None].expand(30, -1, -1)
    theta = method.generate(dims, method.initialize(dims, list(range(30))), conditioning)
    assert theta.std(dim=1).mean() < 0.15 * theta.mean(dim=1).abs().mean()
    weight, _ = method.primary_shape(dims).split(theta.mean(dim=1))[0]
    assert float(weight.var()) == pytest.approx(1 / (3 * 4), rel=0.15)


# --- several attempts at an instance ---------------------------------------------------------------------------


def test_restarts_keep_the_best_attempt_of_every_instance() -> None:
    """Of each instance's attempts the one with the smallest largest error counts, its mean square with it."""
    method = PerInstance(primary_widths=(2,), num_instances=2, restarts=3)
    largest = torch.tensor([[3.0, 1.0, 2.0, 5.0, 6.0, 4.0]])
    squared = torch.tensor([[0.3, 0.9, 0.2, 0.1, 0.2, 0.5]])
    worst, kept = method.keep_best(largest, squared)
    assert worst.tolist() == [[1.0, 4.0]]
    torch.testing.assert_close(kept, torch.tensor([[0.9, 0.5]]))
    assert method.instances(Dims(x_dim=1, conditioning_dim=1)).flatten().tolist() == [-0.5] * 3 + [0.5] * 3


def test_restarts_start_from_different_weights() -> None:
    """No two attempts at an instance start alike."""
    method = PerInstance(primary_widths=(2,), num_instances=2, restarts=3)
    rows = method.initialize(DIMS, [0]).unflatten(-1, (method.num_networks(DIMS), -1))[0]
    assert len({tuple(row.tolist()) for row in rows}) == 24


# --- validation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Hypernetwork, {"primary_widths": 16}, "Hypernetwork.primary_widths"),
        (Hypernetwork, {"primary_widths": (0,)}, "Hypernetwork.primary_widths"),
        (Hypernetwork, {"primary_widths": "16"}, "Hypernetwork.primary_widths"),
        (Hypernetwork, {"primary_widths": (True,)}, "Hypernetwork.primary_widths"),
        (Hypernetwork, {"primary_widths": (4,), "widths": (2.5,)}, "Hypernetwork.widths"),
        (Hypernetwork, {"primary_widths": (4,), "activation": "rleu"}, "did you mean 'relu'"),
        (Hypernetwork, {"primary_widths": (4,), "bias": "some"}, "Hypernetwork.bias"),
        (Hypernetwork, {"primary_widths": (4,), "encoder": 33}, "Hypernetwork.encoder"),
        (Hypernetwork, {"primary_widths": (4,), "initialization": "fan"}, "Hypernetwork.initialization"),
        (Hypernetwork, {"primary_widths": (4,), "initialization": "shared_primary"}, "shared_primary"),
        (Embedding, {"primary_widths": (4,), "embedding_dim": 0}, "Embedding.embedding_dim"),
        (Embedding, {"primary_widths": (4,), "embedding_dim": 1, "initialization": "x"}, "Embedding.initialization"),
        (Monolithic, {"primary_widths": (4,), "initialization": "hyperfan"}, "Monolithic.initialization"),
        (PerInstance, {"primary_widths": (4,), "num_instances": 1}, "PerInstance.num_instances"),
        (PerInstance, {"primary_widths": (4,), "restarts": 0}, "PerInstance.restarts"),
        (WeightGenerator, {"latent_dim": 0}, "WeightGenerator.latent_dim"),
        (WeightGenerator, {"widths": 3}, "WeightGenerator.widths"),
        (WeightGenerator, {"activation": "tan"}, "WeightGenerator.activation"),
        (WeightGenerator, {"init_scale": 0}, "WeightGenerator.init_scale"),
    ],
)
def test_bad_fields_are_named(kind: Any, fields: dict[str, Any], named: str) -> None:
    """A wrong value raises an error that names the field."""
    with pytest.raises(StudyError) as caught:
        kind(**fields)
    assert named in str(caught.value)
    assert "llowed" in str(caught.value) or "Use " in str(caught.value)


@pytest.mark.parametrize("word", ["identity", "sigmoid", "tahn"])
def test_an_embeddings_activation_vanishes_at_zero(word: Any) -> None:
    """The identity is `Embedding` itself, and s(0) != 0 is not in the theorem: both are refused by name."""
    with pytest.raises(StudyError, match=r"ActivatedEmbedding\.embedding_activation"):
        ActivatedEmbedding(primary_widths=(4,), embedding_dim=2, embedding_activation=word)


def test_only_a_nonlinearity_gives_a_long_embedding_a_rank_above_qs_width() -> None:
    """With e a table of 9 rows, q of width 2 sees rank 2 of an embedding of 6; behind a nonlinearity, all of it."""
    dims = Dims(x_dim=1, conditioning_dim=1)
    shared: dict[str, Any] = {"primary_widths": (2,), "embedding_dim": 6, "encoder": HatEncoder(knots=9)}
    features = torch.eye(9, dtype=torch.float64)[None]
    ranks = []
    for method in (Embedding(**shared), ActivatedEmbedding(**shared)):
        assert method.name == "Embedding"
        params = method.initialize(dims, [0])
        e_params, q_params = method.split_networks(dims, params)
        weight = method.primary_shape(dims).split(q_params)[0][0][:, 1:]
        (table, _), *_ = method.e_shape(dims).split(e_params)
        # What e reaches once its table may be anything whose product with W_e is the same: the row space that counts.
        inside = table @ weight @ torch.linalg.pinv(weight)
        embedded = method.embed(dims, inside.flatten(1), features)
        ranks.append(int(torch.linalg.matrix_rank(embedded[0])))
    assert ranks == [2, 6]
