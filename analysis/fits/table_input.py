"""Anybody's table: read, filtered, grouped and checked, so that a fit meets positive numbers or a clear error."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.models import Floats
from hyperscale.errors import AnalysisError, brief, did_you_mean

LARGEST = 1e100
_PARQUET = (".parquet", ".pq")
_METHODS = frozenset({"isin", "between", "isna", "notna", "contains", "startswith", "endswith", "lower", "upper"})
_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.Compare,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.Mod, ast.FloorDiv, ast.BitAnd, ast.BitOr, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple,
    ast.Call, ast.Attribute, ast.keyword,
)  # fmt: skip


def read_table(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV file (commas, semicolons or tabs) or a Parquet file, or raise `AnalysisError`."""
    if not path.exists():
        beside = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise AnalysisError(
            f"There is no file {path}{did_you_mean(path.name, beside)}. Name a table in CSV or Parquet form."
        )
    if path.is_dir():
        raise AnalysisError(f"{path} is a folder; name a file in it, a table in CSV or Parquet form.")
    try:
        table = pd.read_parquet(path) if path.suffix.lower() in _PARQUET else _read_text(path)
    except (OSError, ValueError, pd.errors.EmptyDataError, pd.errors.ParserError) as problem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise AnalysisError(
            f"{path} cannot be read as a table ({first}). Allowed: CSV with a header line, or Parquet (.parquet)."
        ) from problem
    return table


def _read_text(path: Path) -> pd.DataFrame:
    """Read CSV; where commas leave a single column, try the separator that its header shows."""
    table = pd.read_csv(path, low_memory=False, skipinitialspace=True)
    header = str(table.columns[0])
    if len(table.columns) == 1:
        for separator in ("\t", ";"):
            if separator in header:
                return pd.read_csv(path, sep=separator, low_memory=False)
    return table


def check_columns(table: pd.DataFrame, roles: Mapping[str, str]) -> None:
    """Raise `AnalysisError` unless every role's column (``{"x": "N"}``) is there once, x, y and x2 being distinct."""
    for role, column in roles.items():
        count = list(table.columns).count(column)
        if not count:
            raise AnalysisError(
                f"The column for {role} is {column!r}{did_you_mean(column, map(str, table.columns))}, which the table "
                f"lacks; its columns are {listed(table.columns)}."
            )
        if count > 1:
            raise AnalysisError(f"The table has {count} columns named {column!r} ({role}); give them distinct names.")
    sizes = {role: column for role, column in roles.items() if role in ("x", "y", "x2")}
    for role, column in sizes.items():
        twice = [other for other in sizes if sizes[other] == column]
        if len(twice) > 1:
            raise AnalysisError(f"{' and '.join(twice)} are both the column {column!r}; {role} needs one of its own.")


def listed(columns: Sequence[Any] | pd.Index, at_most: int = 30) -> str:
    """Return column names for a message."""
    names = [" ".join(brief(str(column))[1:-1].split()) for column in columns[:at_most]]
    more = f" and {len(columns) - at_most} more" if len(columns) > at_most else ""
    return ", ".join(names) + more


def filter_rows(table: pd.DataFrame, expression: str) -> pd.DataFrame:
    """Return the rows where a pandas query expression holds; its index still counts the rows of ``table``.

    The expression sees the columns alone: no variables (``@``), no private names, no functions; of methods only those
    that compare (``isin``, ``between``, ``isna``, ``notna``, ``str.contains`` and the like). Columns with spaces stand
    in backticks. Raises `AnalysisError` for anything else, and where no row is left.
    """
    aliased, text = _without_backticks(table, expression)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as problem:
        raise _bad_expression(table, expression, f"it cannot be read: {problem}") from problem
    _check_expression(table, expression, tree, set(map(str, aliased.columns)))
    try:
        kept = aliased.eval(text.strip(), engine="python", local_dict={}, global_dict={})
    except Exception as problem:  # pandas raises whatever the columns' types do
        raise _bad_expression(table, expression, f"{type(problem).__name__}: {problem}") from problem
    if not isinstance(kept, pd.Series) or not pd.api.types.is_bool_dtype(kept.dtype):
        raise _bad_expression(table, expression, "it does not say true or false for each row")
    rows = table[kept.fillna(value=False).to_numpy(dtype=bool)]
    if rows.empty:
        raise AnalysisError(
            f"No row of {len(table)} is left by where = {expression!r}. Loosen the expression; "
            f"the columns are {listed(table.columns)}."
        )
    return rows


def _without_backticks(table: pd.DataFrame, expression: str) -> tuple[pd.DataFrame, str]:
    """Give each column in backticks a plain name, so that what is checked is what is evaluated."""
    aliases: dict[str, str] = {}

    def alias(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in table.columns:
            hint = did_you_mean(name, map(str, table.columns))
            raise _bad_expression(table, expression, f"{name!r}{hint} is no column")
        return aliases.setdefault(name, f"quoted_column_{len(aliases)}")

    text = re.sub(r"`([^`]*)`", alias, expression)
    return table.assign(**{short: table[name] for name, short in aliases.items()}), text


def _check_expression(table: pd.DataFrame, expression: str, tree: ast.Expression, columns: set[str]) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise _bad_expression(table, expression, f"{type(node).__name__} is not allowed in it")
        if isinstance(node, ast.Name) and node.id not in columns:
            hint = did_you_mean(node.id, columns)
            raise _bad_expression(table, expression, f"{node.id!r}{hint} is no column")
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS | {"str"}:
            raise _bad_expression(
                table, expression, f".{node.attr} is not allowed; of methods: {', '.join(sorted(_METHODS))}"
            )
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            raise _bad_expression(table, expression, "functions are not allowed in it")


def _bad_expression(table: pd.DataFrame, expression: str, why: str) -> AnalysisError:
    return AnalysisError(
        f"where = {expression!r} cannot be used: {why}. Allowed: comparisons of columns with and, or, not, in, such as "
        f"\"N > 1e6 and Task == 'a'\", columns with spaces in backticks; the columns are {listed(table.columns)}."
    )


def as_numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column's numbers, missing where it has none, infinite for integers that no float reaches."""
    plain = values.astype("object") if values.dtype == object else values
    try:
        return pd.to_numeric(plain, errors="coerce")
    except OverflowError:
        reached = plain.map(lambda value: math.inf if isinstance(value, int) and abs(value) > LARGEST else value)
        return pd.to_numeric(reached, errors="coerce")


def numbers_of(rows: pd.DataFrame, role: str, column: str) -> Floats:
    """Return a column's positive finite numbers ``[rows]``; the error says how many are not, and the first's row."""
    values = rows[column]
    numeric = as_numbers(values)
    found = np.asarray(numeric.to_numpy(dtype=np.float64, na_value=np.nan))
    missing = values.isna().to_numpy(dtype=bool)
    faults = (
        ("missing", missing, "Fill them in, or leave the rows out with where ({column}.notna())."),
        ("not numbers", np.isnan(found) & ~missing, "Name a column of numbers, or leave the rows out with where."),
        ("not finite", np.isinf(found), "Leave those rows out with where."),
        (
            "not positive",
            found <= 0,
            "A curve of powers needs numbers above 0: leave those rows out with where, or shift the column.",
        ),
        (
            f"beyond {1 / LARGEST:g} to {LARGEST:g}",
            (found > LARGEST) | (found < 1 / LARGEST),
            "Take other units, or leave those rows out with where.",
        ),
    )
    for what, bad, advice in faults:
        if bad.any():
            first = int(np.argmax(bad))
            quoted = f"`{column}`" if not column.isidentifier() else column
            raise AnalysisError(
                f"The column {column!r} ({role}) has {int(bad.sum())} of {len(rows)} values that are {what}, the first "
                f"in row {int(rows.index[first]) + 1}"
                + ("" if what == "missing" else f" ({_shown(values.iloc[first])})")
                + f" (the row after the header is row 1). {advice.format(column=quoted)}"
            )
    return found


def _shown(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not (isinstance(value, int) and abs(value) > LARGEST)
    return f"{value:g}" if number else brief(value)


def training_mask(rows: pd.DataFrame, column: str | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows a fit may see, ``[rows]``: those where ``column`` is not 0; all without one."""
    if column is None:
        return np.ones(len(rows), dtype=bool)
    values = rows[column]
    if not (pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype)):
        raise AnalysisError(
            f"The column {column!r} (train) holds {_shown(values.iloc[0])} and the like; allowed: 1 or true for rows "
            "to fit, 0 or false for rows to hold out."
        )
    if values.isna().any():
        raise AnalysisError(
            f"The column {column!r} (train) is empty in {int(values.isna().sum())} of {len(rows)} rows; allowed: "
            "1 for rows to fit, 0 for rows to hold out."
        )
    numbers = values.to_numpy(dtype=np.float64)
    others = numbers[(numbers != 0) & (numbers != 1)]
    if others.size:
        raise AnalysisError(
            f"The column {column!r} (train) holds {others[0]:g} and the like; allowed: 1 or true for rows to fit, 0 or "
            "false for rows to hold out."
        )
    return np.asarray(numbers != 0)


def split_groups(rows: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each group's values and rows, in order of appearance; one group without name where no column is given."""
    if not columns:
        yield {}, rows
        return
    try:
        groups = list(rows.groupby(list(columns), sort=False, dropna=False))
    except TypeError:  # lists, say, of a Parquet file
        raise AnalysisError(
            f"The columns {listed(columns)} (group) hold values that are neither text nor numbers; name other columns."
        ) from None
    for key, part in groups:
        yield {column: _plain(value) for column, value in zip(columns, key, strict=True)}, part


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it."""
    if pd.isna(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool) else str(value)
