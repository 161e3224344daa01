"""What a field may be given by mistake: wrong types, numbers out of range, empty and endless things, odd strings."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

LONE_SURROGATE = "\ud800"


def _itself() -> list[Any]:
    """Return a list that holds itself."""
    items: list[Any] = []
    items.append(items)
    return items


NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, -1, -2, 10**9, 10**9 + 1, 2**31, 2**63, -(2**63), 10**400, -(10**400), 10**5000,
    0.0, -0.0, 0.5, 1.0, -1.0, 1e-30, 5e-324, 1e30, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
    True, False, 1 + 1j, Decimal("0.1"), Fraction(1, 3),
)  # fmt: skip
FOREIGN: tuple[Any, ...] = (
    np.float64(0.5), np.float32(0.5), np.float16(2), np.int64(3), np.uint8(1), np.bool_(True), np.float64("nan"),
    np.array(3), np.array([4, 4]), np.array(["relu"]), np.str_("relu"), torch.tensor(1.0), torch.tensor([1, 2]),
    pd.NA, pd.NaT, pd.Series([1, 2]),
)  # fmt: skip
STRINGS = (
    "", " ", "relu", "rellu", "none", "None", "1", "nan", "../../etc/passwd", "a/b", "a\x00b", "a\nb\n\nc", "名前", "🜁",
    LONE_SURROGATE, "[bold]", "{0}", "%s", "x" * 100_000, "rmse", "Hypernetwork", "num_params_primary",
)  # fmt: skip
CONTAINERS: tuple[Any, ...] = (
    None, (), [], {}, set(), frozenset({1}), b"", b"x", (0,), (-1,), (True,), (1.5,), ("a",), (None,), ((1,),), [3],
    [3, 3],
    (4,) * 100, (4,) * 5000, (10**9,), (10**5000,), range(3), range(0), range(10**12), {"a": 1},
    {"target": "SobolevBall"},
    {1: 2}, {"a": float("nan")}, {"lr": [1]}, {(1, 2): 3}, _itself(), int, dict, len, object(), NotImplemented, ...,
)  # fmt: skip


def odd_values() -> st.SearchStrategy[Any]:
    """Return what is put in the place of a field's value."""
    near = st.one_of(st.integers(-3, 300), st.floats(width=64), st.text(max_size=8), st.tuples(st.integers(-2, 70)))
    listed = st.one_of(*(st.sampled_from(pool) for pool in (NUMBERS, FOREIGN, STRINGS, CONTAINERS)))
    endless = st.sampled_from((itertools.count, itertools.repeat)).map(lambda make: make(1))  # type: ignore[operator]
    return st.one_of(listed, listed, near, endless)
