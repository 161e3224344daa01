"""Tests of `hyperscale.seeding`: SplitMix64 itself, its distributions, and the independence of streams."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hyperscale.seeding import (
    normal,
    random_below,
    random_bits,
    random_signs,
    step_keys,
    stream_key,
    stream_keys,
    truncated_normal,
    uniform,
    uniform_between,
)

GOLDEN = Path(__file__).parent / "golden" / "seeding.json"
MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
STREAMS = ("init", "data", "batches", "evaluation", "target")


def splitmix64(state: int) -> int:
    """SplitMix64's output function, as published by Steele, Lea and Flood (2014)."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def unsigned(words: torch.Tensor) -> list[int]:
    """Read int64 words as unsigned Python integers."""
    return [int(word) & MASK for word in words.flatten().tolist()]


def signed(word: int) -> int:
    """Read an unsigned word as a two's-complement integer."""
    return word - 2**64 if word >= 2**63 else word


def test_published_splitmix64_vector() -> None:
    """The words of key 1234567 are the published first outputs of SplitMix64 seeded with it."""
    words = unsigned(random_bits(torch.tensor([1234567]), 5))
    assert words == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 2**63, MASK, 0xDEADBEEFCAFEF00D])
def test_tensor_mixing_equals_integer_mixing(key: int) -> None:
    """Random bits, and the mixing of steps into keys, equal the reference in Python integers, sign bit included."""
    words = unsigned(random_bits(torch.tensor([signed(key)]), 300))
    assert words == [splitmix64((key + (index + 1) * GAMMA) & MASK) for index in range(300)]
    steps = [0, 1, 2, 77, 2**40, 2**62]
    mixed = unsigned(step_keys(torch.tensor([signed(key)]), torch.tensor(steps)))
    assert mixed == [splitmix64(splitmix64((step + GAMMA) & MASK) ^ key) for step in steps]


def test_first_values_are_the_recorded_ones() -> None:
    """Keys, bits and numbers equal the recorded ones: a change of streams would change every result."""
    golden = json.loads(GOLDEN.read_text())
    for row in golden["keys"]:
        assert stream_key(row["seed"], row["stream"], *row["labels"]) == row["key"]
    keys = torch.tensor([signed(golden["key"])])
    assert unsigned(random_bits(keys, 4)) == golden["bits"]
    assert unsigned(step_keys(keys, torch.tensor([0, 1, 1000]))) == golden["step_keys"]
    assert [value.hex() for value in uniform(keys, 4)[0].tolist()] == golden["uniform"]
    assert random_signs(keys, 8)[0].tolist() == golden["signs"]
    assert random_below(keys, 8, 1000)[0].tolist() == golden["below_1000"]
    np.testing.assert_allclose(normal(keys, 4)[0].numpy(), golden["normal"], rtol=1e-13)
    np.testing.assert_allclose(truncated_normal(keys, 4)[0].numpy(), golden["truncated_normal"], rtol=1e-13)


def test_keys_differ_in_every_ingredient() -> None:
    """Seeds, streams, labels and the order of labels all give different keys."""
    ingredients = [
        *((seed, stream) for seed in (0, 1, 2, 10**12) for stream in STREAMS),
        *((0, "init", label) for label in ("f", "g", 0, 1)),
        (0, "init", "f", 0),
        (0, "init", 0, "f"),
        (0, "init", "f0"),
    ]
    assert len({stream_key(*ingredient) for ingredient in ingredients}) == len(ingredients)


def test_numbers_do_not_depend_on_the_keys_drawn_together() -> None:
    """A key's numbers are the same alone, in any company and in any shape; fewer numbers are a prefix."""
    keys = stream_keys(range(40), "data")
    for draw in (uniform, normal, truncated_normal, random_signs, random_bits):
        together = draw(keys.reshape(5, 8), 9)
        assert together.shape == (5, 8, 9)
        alone = torch.stack([draw(key, 9) for key in keys])
        assert torch.equal(together.reshape(40, 9), alone)
    for draw in (uniform, truncated_normal, random_signs, random_bits):
        assert torch.equal(draw(keys, 20)[:, :7], draw(keys, 7))
    assert torch.equal(step_keys(keys, torch.arange(10))[3:5, 4:6], step_keys(keys[3:5], torch.arange(4, 6)))


def test_drawing_leaves_the_keys_alone() -> None:
    """Keys and steps are read only."""
    keys, steps = stream_keys([1, 2], "data"), torch.arange(3)
    before = keys.clone()
    for draw in (uniform, normal, truncated_normal, random_signs, random_bits):
        draw(keys, 5)
    step_keys(keys, steps)
    random_below(keys, 5, 3)
    assert torch.equal(keys, before)
    assert steps.tolist() == [0, 1, 2]


# --- distributions (fixed seeds: the outcome is the same every time) --------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_distributions_pass_kolmogorov_smirnov(seed: int) -> None:
    """20,000 numbers of one key are uniform, normal and truncated normal at the 1 % level."""
    key = stream_keys([seed], "data")[0]
    assert stats.kstest(uniform(key, 20_000).numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(normal(key, 20_000).numpy(), "norm").pvalue > 0.01
    assert stats.kstest(truncated_normal(key, 20_000).numpy(), stats.truncnorm(-2, 2).cdf).pvalue > 0.01
    between = uniform_between(key, 20_000, -3, 5, torch.float64).numpy()
    assert stats.kstest(between, stats.uniform(-3, 8).cdf).pvalue > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_whole_numbers_pass_chi_square(seed: int) -> None:
    """Signs, dice and the top bits' pairs are equally frequent at the 1 % level."""
    key = stream_keys([seed], "batches")[0]
    signs = random_signs(key, 20_000)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((signs > 0).sum()), 20_000).pvalue > 0.01
    dice = random_below(key, 20_000, 7)
    assert dice.min() == 0
    assert dice.max() == 6
    assert stats.chisquare(np.bincount(dice.numpy(), minlength=7)).pvalue > 0.01
    pairs = dice[:-1:2] * 7 + dice[1::2]
    assert stats.chisquare(np.bincount(pairs.numpy(), minlength=49)).pvalue > 0.01


def test_every_bit_is_fair() -> None:
    """Each of the 64 bits is set half of the time (a binomial test with Bonferroni's correction)."""
    words = random_bits(stream_keys([5], "data")[0], 20_000)
    counts = [int(((words >> bit) & 1).sum()) for bit in range(64)]
    assert min(stats.binomtest(count, 20_000).pvalue for count in counts) > 0.01 / 64


def test_normal_halves_are_independent() -> None:
    """Box-Muller's cosine and sine halves are uncorrelated, in value and in square."""
    numbers = normal(stream_keys([0], "data")[0], 40_000).numpy()
    first, second = numbers[:20_000], numbers[20_000:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.025
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 0.025


@pytest.mark.parametrize("count", [1, 2, 5])
def test_odd_counts_give_as_many_normal_numbers(count: int) -> None:
    """Any count is served, and bounds of a truncated normal hold."""
    keys = stream_keys(range(2000), "data")
    assert normal(keys, count).shape == (2000, count)
    assert stats.kstest(normal(keys, count)[:, -1].numpy(), "norm").pvalue > 0.01
    assert truncated_normal(keys, count).abs().max() <= 2


def test_uniform_never_reaches_its_end_points() -> None:
    """In float64 the smallest and largest possible numbers are 2^-53 and 1 - 2^-53."""
    numbers = uniform(stream_keys(range(50), "data"), 2000)
    assert 0 < numbers.min() < 1e-3
    assert 1 - 1e-3 < numbers.max() < 1
    assert (2**52 - 1 + 0.5) * 2.0**-52 < 1


# --- streams have nothing to do with one another ----------------------------------------------------------------


def _worst_correlation(rows: np.ndarray) -> float:
    correlations = np.corrcoef(rows)
    return float(np.abs(correlations - np.eye(len(rows))).max())


def test_streams_are_uncorrelated() -> None:
    """Neighbouring seeds, streams and steps of 4,000 numbers correlate by less than 5 standard errors."""
    limit = 5 / 4000**0.5
    keys = stream_keys(range(12), "batches")
    assert _worst_correlation(uniform(keys, 4000).numpy()) < limit
    by_stream = torch.tensor([signed(stream_key(0, stream)) for stream in STREAMS])
    assert _worst_correlation(uniform(by_stream, 4000).numpy()) < limit
    steps = step_keys(keys[:2], torch.arange(12))
    assert _worst_correlation(uniform(steps, 4000).flatten(0, 1).numpy()) < limit


def test_first_numbers_across_seeds_and_steps_are_uniform() -> None:
    """The first number of consecutive seeds, and of consecutive steps, is uniform and serially uncorrelated."""
    seeds = uniform(stream_keys(range(4000), "init", "f", 0, "weight"), 1)[:, 0].numpy()
    steps = uniform(step_keys(stream_keys([0], "batches"), torch.arange(4000)), 1)[0, :, 0].numpy()
    for numbers in (seeds, steps):
        assert stats.kstest(numbers, "uniform").pvalue > 0.01
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / 4000**0.5


def test_no_word_repeats_across_streams() -> None:
    """A hundred thousand words of neighbouring seeds and steps are all different."""
    keys = step_keys(stream_keys(range(10), "batches"), torch.arange(100))
    words = random_bits(keys, 100).flatten().tolist()
    assert len(set(words)) == len(words) == 100_000


def test_flipping_one_bit_of_a_key_changes_half_of_the_bits() -> None:
    """Avalanche: between 24 and 40 of 64 bits change on average for every key bit."""
    base = stream_key(0, "data")
    keys = torch.tensor([signed(base ^ (1 << bit)) for bit in range(64)])
    reference = unsigned(random_bits(torch.tensor([signed(base)]), 32))
    for row in random_bits(keys, 32):
        changed = [(a ^ b).bit_count() for a, b in zip(unsigned(row), reference, strict=True)]
        assert 26 < np.mean(changed) < 38


def test_seeds_beyond_64_bits_wrap_like_words() -> None:
    """A seed is read modulo 2^64, so negative seeds are words too."""
    assert stream_key(-1, "init") == stream_key(MASK, "init")
    assert len({stream_key(seed, "init") for seed in itertools.chain(range(-5, 5))}) == 10
