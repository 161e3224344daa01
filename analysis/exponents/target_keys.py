"""Which trials have the same target, and targets that grow with the network.

The lower bounds of the theorems are about a target that is as hard as N parameters allow: one bump for each cell of a
grid whose number of cells grows with N. Such a family has another function at every size, and it is the family that
takes the target's place: the error at N is that of the member of size N. So a count of bumps (`COUNT_COLUMNS`) that is
a function of the size, and never falls along it, is no part of the target's key. Where one size has several values of
it, they are several targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_TARGET_COLUMNS = ("target", "x_dim", "conditioning_dim", "smoothness", "signs")
COUNT_COLUMNS = ("levels", "cells", "bumps")
"""The columns that count a target's bumps, or the scales that it has bumps at; any may grow with the size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetKeys:
    """The target of every trial. ``key`` is a text per row, equal for exactly the rows with the same target.

    ``member`` is the count of bumps that is left out of the key because it grows with the size, empty without one:
    rows with equal keys have the same function where their members are equal too. ``note`` says what grows.
    """

    key: pd.Series
    member: pd.Series
    note: str = ""


def target_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell one target from another, counts of bumps included."""
    known = (*_TARGET_COLUMNS, *COUNT_COLUMNS)
    return [c for c in table.columns if c in known or str(c).startswith("target_")]


def target_keys(table: pd.DataFrame, size: str | None = None) -> TargetKeys:
    """Return the targets of the rows; along the column ``size``, counts that grow with it are left out of the key.

    A count grows where, in every method, each size has one value of it and larger sizes no smaller one, and in some
    method it is not the same throughout. Without ``size`` every count is part of the key.
    """
    names = target_columns(table)
    counts = [name for name in names if name in COUNT_COLUMNS]
    key = _joined(table, [name for name in names if name not in counts])
    member = pd.Series("", index=table.index, dtype="str")
    ranges: dict[str, tuple[float, float]] = {}
    for name in counts:
        grows = _growing(table, key, name, size)
        text = f"{name} = " + table[name].astype("str").fillna("")
        member = member.where(~grows, member + text)
        key = key.where(grows, key + "|" + table[name].astype("str").fillna(""))
        if grows.any():
            values = pd.to_numeric(table.loc[grows, name]).astype("float64")
            ranges[name] = (float(values.min()), float(values.max()))
    return TargetKeys(key=key, member=member, note=_note(ranges, size))


def target_key(table: pd.DataFrame, size: str | None = None) -> pd.Series:
    """Return a text per row, equal for exactly the rows with the same target (see `target_keys`)."""
    return target_keys(table, size).key


def _joined(table: pd.DataFrame, names: list[str]) -> pd.Series:
    key = pd.Series("", index=table.index, dtype="str")
    for name in names:
        key = key + "|" + table[name].astype("str").fillna("")
    return key


def _growing(table: pd.DataFrame, key: pd.Series, name: str, size: str | None) -> pd.Series:
    """Return a boolean per row: whether its target's count ``name`` grows along ``size``, by the rows of one ``key``.

    Targets that differ in another count, one that does not grow, are told apart by ``key`` where it came first.
    """
    grows = pd.Series(False, index=table.index)
    if size is None or size not in table.columns or table.empty:
        return grows
    count = pd.to_numeric(table[name], errors="coerce").astype("float64")
    along = table[size] if pd.api.types.is_numeric_dtype(table[size]) else None
    if along is None:
        return grows
    method = table["method"].astype("str") if "method" in table.columns else pd.Series("", index=table.index)
    data = pd.DataFrame(
        {"key": key, "method": method, "size": along.astype("float64"), "count": count}, index=table.index
    ).dropna()
    for value, group in data.groupby("key"):
        spans = group.groupby(["method", "size"])["count"].agg(["min", "max"])
        if (spans["min"] < spans["max"]).any():
            continue
        steps = [np.diff(own.to_numpy()) for _, own in spans["min"].groupby(level="method")]
        if all((step >= 0).all() for step in steps) and any((step > 0).any() for step in steps):
            grows |= (key == value) & count.notna()
    return grows


def _note(ranges: dict[str, tuple[float, float]], size: str | None) -> str:
    if not ranges:
        return ""
    along = "N" if str(size).startswith("num_params") else str(size)
    grown = [f"{name} grow with {along}, from {low:g} to {high:g}" for name, (low, high) in ranges.items()]
    return f"the target's {' and its '.join(grown)}: at each size the family's own member takes the target's place"
