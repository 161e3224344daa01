"""Random streams that vectorise: counter-based numbers keyed by (seed, stream, step).

A number is a pure function of its key and its index, ``mix(key + (index + 1) * gamma)``: SplitMix64 read at
random access (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). So a
trial's numbers are the same in any pack, after any resume, and on any device, and no generator object has to
be carried or saved. Keys are built by the same mixing from the seed, the stream's name and the step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Stream = Literal["init", "data", "batches", "evaluation", "target"]

_BLOCK = 2**15
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _signed(word: int) -> int:
    """Return the two's-complement int64 with the bits of the unsigned 64-bit ``word``."""
    return word - (1 << 64) if word >> 63 else word


def _mix_word(word: int) -> int:
    """SplitMix64's finaliser on one Python integer (the tensor form is `_mix`)."""
    word &= _MASK
    word = ((word ^ (word >> 30)) * _MULTIPLIERS[0]) & _MASK
    word = ((word ^ (word >> 27)) * _MULTIPLIERS[1]) & _MASK
    return word ^ (word >> 31)


def _mix(words: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 words, in place; logical shifts by masking the copied sign bits."""
    for shift, multiplier in ((30, _MULTIPLIERS[0]), (27, _MULTIPLIERS[1])):
        words.bitwise_xor_((words >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(_signed(multiplier))
    return words.bitwise_xor_((words >> 31).bitwise_and_((1 << 33) - 1))


def stream_key(seed: int, stream: str, *labels: int | str) -> int:
    """Return the 64-bit key of one stream of one seed; ``labels`` (a layer, a level) split it further."""
    key = _mix_word(seed + _GAMMA)
    for label in (stream, *labels):
        text = hashlib.sha256(str(label).encode()).digest()[:8]
        key = _mix_word((key ^ int.from_bytes(text, "little")) + _GAMMA)
    return key


def stream_keys(seeds: Sequence[int], stream: Stream, *labels: int | str) -> Tensor:
    """Return the keys of one stream for several seeds: int64 [len(seeds)]."""
    return torch.tensor([_signed(stream_key(seed, stream, *labels)) for seed in seeds], dtype=torch.int64)


def step_keys(keys: Tensor, steps: Tensor) -> Tensor:
    """Return one key per (stream, step): ``keys`` [S] and ``steps`` int64 [T] give int64 [S, T]."""
    return _mix(_mix(steps.to(keys.device) + _signed(_GAMMA))[None, :] ^ keys[:, None])


def random_bits(keys: Tensor, count: int, start: int = 0) -> Tensor:
    """Return 64-bit words number ``start`` to ``start + count`` of each key: int64 [*keys.shape, count]."""
    index = torch.arange(start + 1, start + count + 1, dtype=torch.int64, device=keys.device) * _signed(_GAMMA)
    return _mix(keys.unsqueeze(-1) + index)


def uniform(keys: Tensor, count: int, dtype: torch.dtype = torch.float64, start: int = 0) -> Tensor:
    """Return uniform numbers in (0, 1), never an end point before rounding to ``dtype``: [*keys.shape, count]."""
    words = (random_bits(keys, count, start) >> 12).bitwise_and_((1 << 52) - 1)
    return words.to(torch.float64).add_(0.5).mul_(2.0**-52).to(dtype)


def uniform_between(keys: Tensor, count: int, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """Return uniform numbers in (low, high): [*keys.shape, count]."""
    return uniform(keys, count).mul_(high - low).add_(low).to(dtype)


def normal(keys: Tensor, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers by Box-Muller, cosine and sine halves: [*keys.shape, count].

    On a CPU they are made in blocks that stay in the cache, which changes none of them.
    """
    half = (count + 1) // 2
    step = max(1, _BLOCK // max(1, keys.numel())) if keys.device.type == "cpu" else half
    numbers = torch.empty((*keys.shape, 2 * half), dtype=dtype, device=keys.device)
    for start in range(0, half, step):
        size = min(step, half - start)
        radius = uniform(keys, size, start=start).log_().mul_(-2.0).sqrt_()
        angle = uniform(keys, size, start=half + start).mul_(2.0 * math.pi)
        numbers[..., start : start + size] = radius * angle.cos()
        numbers[..., half + start : half + start + size] = radius * angle.sin_()
    return numbers[..., :count]


def truncated_normal(keys: Tensor, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers conditioned on [-2, 2], by inversion: [*keys.shape, count]."""
    low, high = (0.5 * math.erfc(bound / math.sqrt(2.0)) for bound in (2.0, -2.0))
    return torch.special.ndtri(uniform(keys, count).mul_(high - low).add_(low)).to(dtype)


def random_signs(keys: Tensor, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return independent signs in {-1, +1}: [*keys.shape, count]."""
    return (random_bits(keys, count) >> 63).bitwise_and_(1).mul_(2).sub_(1).to(dtype)


def random_below(keys: Tensor, count: int, bound: int) -> Tensor:
    """Return whole numbers in [0, bound), int64 [*keys.shape, count]; bound is far below 2**32, so bias is nil."""
    words = (random_bits(keys, count) >> 32).bitwise_and_((1 << 32) - 1)
    return words.mul_(bound) >> 32
