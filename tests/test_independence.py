"""A trial's result depends on its digest alone: packs of any size and company give every member the same numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.activations import ACTIVATIONS
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.generation import Generation
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints, Target
from hyperscale.training.optimizers import SGD, Adam
from tests.packs import METHODS, RULES, Member, assert_same, finish, mixed_pack


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("method", METHODS)
def test_results_do_not_depend_on_pack_mates(method: str, rule: str) -> None:
    """In float64, after 1000 steps, members of packs of 7, 3 and 1 agree to 1e-8 in parameters and metrics."""
    members = mixed_pack(rule, METHODS[method], 7, steps=1000, precision="float64")
    whole = finish(members)
    outcomes = whole.outcomes()
    for start, stop in ((3, 6), (4, 5)):
        part = finish(members[start:stop])
        torch.testing.assert_close(part.params, whole.params[start:stop], rtol=1e-8, atol=0)
        for outcome, other in zip(part.outcomes(), outcomes[start:stop], strict=True):
            assert_same(outcome, other, 1e-8)
    assert len({outcome.metrics["rmse"] for outcome in outcomes}) == 7


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("method", METHODS)
def test_small_packs_agree_bit_for_bit_in_float32(method: str, rule: str) -> None:
    """At these sizes packs of 16, 3 and 1 give the same float32 parameters and the same metrics, exactly."""
    members = mixed_pack(rule, METHODS[method], 16, steps=60)
    whole = finish(members)
    assert whole.params.dtype == torch.float32
    for start, stop in ((3, 6), (4, 5)):
        part = finish(members[start:stop])
        assert torch.equal(part.params, whole.params[start:stop])
        for outcome, other in zip(part.outcomes(), whole.outcomes()[start:stop], strict=True):
            assert_same(outcome, other, 0)


def test_a_fixed_samples_results_do_not_depend_on_pack_mates() -> None:
    """With a sample drawn once, epochs and baselines included, packs of 4 and 1 agree to 1e-8."""
    members: list[Member] = [
        (
            Approximation(
                method=METHODS["embedding"],
                target=InnerProduct(x_dim=3, conditioning_dim=2),
                optimizer=SGD(lr=0.01 * (1 + i)),
                points=FixedSample(size=60, test_size=40, batch_size=20),
                steps=100,
                precision="float64",
            ),
            i // 2,
        )
        for i in range(4)
    ]
    whole = finish(members).outcomes()
    for i in range(4):
        assert_same(finish(members[i : i + 1]).outcomes()[0], whole[i], 1e-8)
    assert whole[0].metrics["zero_loss"] == whole[1].metrics["zero_loss"] != whole[2].metrics["zero_loss"]


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_generators_results_do_not_depend_on_pack_mates(latent_dim: int) -> None:
    """Generators of packs of 4 and 1 agree bit for bit, metrics and drawn points included."""
    members: list[Member] = [
        (
            Generation(
                accuracy_weight=0.2 * (1 + i),
                generator=WeightGenerator(latent_dim=latent_dim, widths=(6,), init_scale=60),
                target=GaussianMixture(num_components=400),
                optimizer=Adam(lr=0.003 * (1 + i)),
                norm_penalty=0.01 * i,
                steps=60,
            ),
            i % 3,
        )
        for i in range(4)
    ]
    whole = finish(members)
    for i in range(4):
        alone = finish(members[i : i + 1])
        assert torch.equal(alone.params, whole.params[i : i + 1])
        assert_same(alone.outcomes()[0], whole.outcomes()[i], 0)


BITWISE_TARGET = SobolevBall(x_dim=2, conditioning_dim=1, levels=2)
BITWISE_SAMPLE = FixedSample(size=500, batch_size=50, test_size=100)
BITWISE_PACKS: dict[str, list[Member]] = {
    **{
        f"{method.name} {points.instances} x {points.points}": [
            (
                Approximation(
                    method=method,
                    target=BITWISE_TARGET,
                    optimizer=Adam(lr=lr),
                    points=points,
                    steps=60,
                    grid_points=9,
                ),
                seed,
            )
            for lr in (1e-3, 3e-3, 1e-2)
            for seed in range(2)
        ]
        for method in (
            Hypernetwork(primary_widths=(7, 5), widths=(13,), bias="all"),
            Embedding(primary_widths=(17,), widths=(9,), embedding_dim=5, bias="all"),
            Monolithic(primary_widths=(128, 31), bias="all"),
            PerInstance(primary_widths=(5,), num_instances=3, restarts=2, bias="hidden"),
        )
        for points in (FreshPoints(instances=7, points=9), FreshPoints(instances=32, points=32))
    },
    **{
        f"a sample, {name}": [
            (
                Approximation(
                    method=method,
                    target=InnerProduct(x_dim=51, conditioning_dim=37),
                    optimizer=SGD(lr=lr),
                    points=BITWISE_SAMPLE,
                    steps=60,
                ),
                seed,
            )
            for lr in (1e-3, 3e-3, 1e-2)
            for seed in range(2)
        ]
        for name, method in (
            ("composed", Embedding(primary_widths=(10,), widths=(33,), embedding_dim=77)),
            ("contracted", Hypernetwork(primary_widths=(10,), widths=(33,), bias="all")),
            ("contracted to one unit", Hypernetwork(primary_widths=(1,), bias="all")),
            ("contracted from one unit", Hypernetwork(primary_widths=(1,), widths=(1,), bias="all")),
        )
    },
    "generation": [(Generation(accuracy_weight=w, steps=300), seed) for w in (0.1, 1.0, 10.0) for seed in range(2)],
}


@pytest.mark.parametrize("members", BITWISE_PACKS.values(), ids=BITWISE_PACKS)
def test_packs_agree_bit_for_bit_whatever_the_sizes(members: list[Member]) -> None:
    """In float32, with odd sizes that leave rows unaligned, a member alone or in any pack gives the same bits."""
    whole = finish(members)
    for start, stop in ((2, 3), (3, 5), (1, 6)):
        part = finish(members[start:stop])
        assert torch.equal(part.params, whole.params[start:stop])
        for outcome, other in zip(part.outcomes(), whole.outcomes()[start:stop], strict=True):
            assert_same(outcome, other, 0)


# --- drawn at random -------------------------------------------------------------------------------------------

ACROSS = st.sampled_from([1, 2, 3, 5, 8, 9, 10, 12, 13, 16, 17, 31, 32, 33, 60, 64])


@st.composite
def methods(draw: st.DrawFn) -> Method:
    """Return any method of the four, of odd and even widths."""
    widths = st.lists(ACROSS, max_size=2).map(tuple)
    shared: dict[str, Any] = {
        "primary_widths": draw(widths),
        "activation": draw(st.sampled_from(ACTIVATIONS)),
        "bias": draw(st.sampled_from(["none", "hidden", "all"])),
    }
    kind = draw(st.sampled_from(["hypernetwork", "embedding", "monolithic", "per-instance"]))
    if kind == "hypernetwork":
        return Hypernetwork(widths=draw(widths), **shared)
    if kind == "embedding":
        return Embedding(widths=draw(widths), embedding_dim=draw(st.sampled_from([1, 8, 50, 300])), **shared)
    if kind == "monolithic":
        return Monolithic(**shared)
    return PerInstance(num_instances=draw(st.integers(2, 8)), **shared)


@st.composite
def packs(draw: st.DrawFn) -> list[Member]:
    """Return three members of a program, one of another length and, where that is the same program, padded widths."""
    method = draw(methods())
    target: Target = SobolevBall(x_dim=1, conditioning_dim=1, levels=2)
    points: FreshPoints | FixedSample = FreshPoints(
        instances=draw(st.sampled_from([1, 5, 16, 40])), points=draw(st.sampled_from([1, 7, 32]))
    )
    if not isinstance(method, PerInstance) and draw(st.booleans()):
        target = InnerProduct(x_dim=draw(st.sampled_from([3, 40])), conditioning_dim=draw(st.sampled_from([2, 20])))
        points = FixedSample(size=300, batch_size=draw(st.sampled_from([1, 20, 50])), test_size=30)
    shared: dict[str, Any] = {"target": target, "points": points, "grid_points": 5}
    first = Approximation(method=method, steps=4, optimizer=Adam(lr=0.003), **shared)
    other = Approximation(method=first.padded_method, steps=6, optimizer=Adam(lr=0.01), **shared)
    if other.program_key() != first.program_key():  # what is padded finely may itself be padded coarsely
        other = replace(other, method=method)
    return [(first, 0), (other, 1), (first, 2)]


@settings(max_examples=60, deadline=None)
@given(members=packs())
def test_any_member_has_the_same_bits_alone(members: list[Member]) -> None:
    """Whatever the method, the widths and the points, a float32 trial's outcome is the same in a pack and alone."""
    whole = finish(members).outcomes()
    for member, outcome in zip(members, whole, strict=True):
        assert finish([member]).outcomes() == [outcome]
