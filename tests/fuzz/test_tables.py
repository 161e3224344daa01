"""Anybody's tables for `hyperscale fit`: whatever a file holds, a fit with a status, or one paragraph."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.commands import check, invoke
from tests.fuzz.endings import Ending, examples, judge

_HEADERS = (
    "N", "loss", "D", "task", "", " N", "N ", "n", "名前", "a b", "N,loss", '"N"', "1", "nan", "[red]",
    "\ufeffN", "x" * 3000, "\x00",
    "a\nb", "__class__", "@N", "index",
)  # fmt: skip
_CELLS = (
    "", "nan", "NaN", "inf", "-inf", "0", "-1", "1e308", "-1e308", "1e309", "5e-324", "1e-30", "1e30",
    "9" * 400, "text", "1,5",
    "1;5", "True", "None", "名", "0x10", "1_000", "2026-01-01", '"', "'", "1+2j", " 3 ", "\x00", "\\ud800", "3%", "½",
)  # fmt: skip
_SEPARATORS = (",", ",", ",", ";", "\t", "|", " ")
_ENDS = ("\n", "\n", "\r\n", "\r")


def _power(number: int) -> list[list[str]]:
    """Return the rows of a clean power law: N, loss, D and a task."""
    return [[str(8 * 2**i), f"{3 * (8 * 2**i) ** -0.5:.6g}", str(100 * 3**i), "ab"[i % 2]] for i in range(number)]


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Draw a CSV file: a clean one with some headers, cells, rows, separators or bytes changed."""
    header = ["N", "loss", "D", "task"]
    rows = _power(draw(st.sampled_from((0, 1, 2, 3, 5, 6, 8, 12))))
    for _ in range(draw(st.integers(0, 3))):
        how = draw(st.sampled_from(("header", "cell", "cell", "cell", "row", "short", "column", "constant")))
        if how == "header":
            header[draw(st.integers(0, 3))] = draw(st.one_of(st.sampled_from(_HEADERS), st.text(max_size=5)))
        elif how == "column" and rows:
            place, value = draw(st.integers(0, 3)), draw(st.sampled_from(_CELLS))
            rows = [[*row[:place], value, *row[place + 1 :]] for row in rows]
        elif how == "constant" and rows:
            rows = [rows[0]] * len(rows)
        elif rows:
            row = rows[draw(st.integers(0, len(rows) - 1))]
            if how == "cell" and row:
                row[draw(st.integers(0, len(row) - 1))] = draw(st.one_of(st.sampled_from(_CELLS), st.floats().map(str)))
            elif how == "row":
                rows.append(list(row))
            elif how == "short":
                del row[draw(st.integers(0, 3)) :]
    separator, end = draw(st.sampled_from(_SEPARATORS)), draw(st.sampled_from(_ENDS))
    text = end.join(separator.join(row) for row in [header, *rows])
    data = text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"))), "replace")
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.one_of(st.binary(max_size=8), st.just(b"\x00" * 5000))) + data[at:]
    return data


@st.composite
def parquet_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a table of odd types: dates, lists, categories, nullable numbers, a multi-index, no rows."""
    table = pd.DataFrame(_power(draw(st.sampled_from((0, 1, 6, 9)))), columns=["N", "loss", "D", "task"])
    table = table.astype({"N": "float64", "loss": "float64", "D": "int64"})
    column = draw(st.sampled_from(("N", "loss", "D", "task")))
    values: list[Any] = [
        pd.date_range("2026-01-01", periods=len(table)), [[1, 2]] * len(table), pd.array([pd.NA] * len(table),
        dtype="Int64"),
        ["x"] * len(table), [True] * len(table), [b"\xff"] * len(table), pd.Categorical(["1"] * len(table)),
        [None] * len(table), [2**63 - 1] * len(table), [1e300] * len(table), [0.5] * len(table),
    ]  # fmt: skip
    table[column] = draw(st.sampled_from(values))
    lists = any(isinstance(value, list) for name in ("N", "D") for value in table[name])  # those make no index
    return table.set_index(["N", "D"]) if not lists and draw(st.integers(0, 5)) == 0 else table


_MODELS = ("power", "power", "power", "power-floor", "saturating", "exponential", "two-terms", "log-corrected")
_NAMES = ("N", "loss", "D", "task", "N", "loss", "absent", "", "名前", "a b", "index")
_WHERE = (
    "N > 10", "loss < 1 and task == 'a'", "task.str.contains('a')", "N >", "@x", "__import__('os')",
    "N == '8'", "N", "loss + 1",
    "`a b` > 1", "N in [8, 16]", "N.isna()", "1", "'", "N > 10" * 200, "(" * 500, "not " * 500 + "N",
    "N" + "**9" * 9, "N/0 > 1",
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> list[str]:
    """Draw the options of a fit, most of them sensible."""
    x = draw(st.sampled_from(("N", "N", "N", "N", draw(st.sampled_from(_NAMES)))))
    y = draw(st.sampled_from(("loss", "loss", "loss", "loss", draw(st.sampled_from(_NAMES)))))
    words = ["--x", x, "--y", y, "--model", draw(st.sampled_from(_MODELS))]
    some = {
        "--where": st.sampled_from(_WHERE),
        "--group": st.sampled_from(_NAMES),
        "--train": st.sampled_from(_NAMES),
        "--predict": st.sampled_from(("1e9", "nan", "inf", "-1", "0", "1,2", "", "x", "1e400", "1e-320", "1e308")),
        "--level": st.sampled_from(("0", "1", "0.5", "0.999999999", "nan", "inf", "-1", "x", "1e-300")),
        "--loss": st.sampled_from(
            ("huber", "huber:0", "huber:nan", "huber:1e-3", "least-squares", "huber:", "squares")
        ),
        "--bootstrap": st.sampled_from(("0", "1", "20", "-1", "x", "10000000000")),
        "--seed": st.sampled_from(("0", "7", "-1", str(2**64), "9" * 5000)),
    }
    for name in draw(st.lists(st.sampled_from(sorted(some)), max_size=2, unique=True)):
        words += [name, draw(some[name])]
    return words


def fit(data: bytes | pd.DataFrame, words: list[str], as_json: bool) -> Ending:
    """Write the table, fit it, and check how the command ended."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / ("t.csv" if isinstance(data, bytes) else "t.parquet")
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            data.to_parquet(path)
        out = [] if as_json else ["--out", str(Path(name) / "figure.svg")]
        shown = invoke(["fit", str(path), *words, *out, *(["--json"] if as_json else [])])
        return check(shown, as_json=as_json, given=2 * sum(map(len, words)))


@examples(40, fuzzed=700)
@given(data=csv_files(), words=questions(), plain=st.integers(0, 9))
def test_any_csv_is_fitted_or_refused(data: bytes, words: list[str], plain: int) -> None:
    """Exit code 0, 1 or 2 and no traceback; `--json` parses and holds no NaN."""
    judge("tables, CSV", lambda: fit(data, words, as_json=plain > 0), seconds=60)


@examples(15, fuzzed=200)
@given(data=parquet_tables(), words=questions())
def test_any_parquet_table_is_fitted_or_refused(data: pd.DataFrame, words: list[str]) -> None:
    """The same for tables with types of their own."""
    judge("tables, Parquet", lambda: fit(data, words, as_json=True), seconds=60)
