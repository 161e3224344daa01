"""The trial table: one row a trial, built from journal records alone; what is missing stays missing.

Importing this file needs neither torch nor Ray nor MLflow, so that a colleague with only the records can
rebuild every number of a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hyperscale.errors import AnalysisError
from hyperscale.trial import TrialRecord

IDENTITY = ("digest", "setting_digest", "seed", "status", "reason")
PROVENANCE = ("wall_time_s", "device", "pack_size", "hardware", "launch", "attempt", "ended_at")
_FIRST_SETTING_COLUMNS = (
    "kind",
    "method",
    "target",
    "depth",
    "primary_width",
    "primary_depth",
    "embedding_dim",
    "latent_dim",
    "accuracy_weight",
    "x_dim",
    "conditioning_dim",
    "num_params_primary",
    "num_params_total",
    "optimizer",
    "lr",
    "steps",
)
_FIRST_METRICS = ("sup_error", "rmse", "test_loss")
_ENDINGS = {".csv": "csv", ".parquet": "parquet"}


def _ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Return the distinct ``names``: the well-known ones in their fixed order, then the others sorted."""
    found = set(names)
    return [name for name in first if name in found] + sorted(found.difference(first))


def setting_columns(records: Sequence[TrialRecord]) -> list[str]:
    """Return the table's names of the setting columns, in table order."""
    return _ordered((_setting_name(n) for r in records for n in r.columns), _FIRST_SETTING_COLUMNS)


def metric_columns(records: Sequence[TrialRecord]) -> list[str]:
    """Return the names of the metrics that at least one trial reports, in table order."""
    names = {name for r in records for name in r.result.metrics}
    return _ordered(names.difference(setting_columns(records)), _FIRST_METRICS)


def build_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row a trial: identity, setting columns, metrics, provenance, always in this order.

    The order of the columns does not depend on the order of the records. A metric that a trial did not report
    and a column that its setting does not have are missing (NaN or NA), never a filled-in number.
    Whole-number columns stay whole (``Int64`` where something is missing). A setting column whose name is
    taken by the identity is kept as ``setting_<name>``.
    """
    settings, metrics = setting_columns(records), metric_columns(records)
    taken = {*IDENTITY, *settings, *metrics}
    provenance = [
        name for name in PROVENANCE if name not in taken and any(name in r.result.provenance for r in records)
    ]
    columns = [*IDENTITY, *settings, *metrics, *provenance]
    data = {name: _typed(values) for name, values in _gather(records, columns, metrics, provenance).items()}
    return pd.DataFrame(data, columns=columns)


def _setting_name(name: str) -> str:
    return f"setting_{name}" if name in IDENTITY else name


def _gather(
    records: Sequence[TrialRecord], columns: Sequence[str], metrics: Sequence[str], provenance: Sequence[str]
) -> dict[str, list[Any]]:
    data: dict[str, list[Any]] = {name: [] for name in columns}
    for record in records:
        row = _row(record, metrics, provenance)
        for name in columns:
            data[name].append(row.get(name))
    return data


def _row(record: TrialRecord, metrics: Sequence[str], provenance: Sequence[str]) -> Mapping[str, Any]:
    result = record.result
    return {
        **{name: result.provenance.get(name) for name in provenance},
        **{name: result.metrics.get(name) for name in metrics},
        **{_setting_name(name): value for name, value in record.columns.items()},
        "digest": result.digest,
        "setting_digest": result.setting_digest,
        "seed": result.seed,
        "status": str(result.status),
        "reason": result.reason,
    }


def _typed(values: list[Any]) -> pd.Series[Any]:
    """Return the values as a column of one kind: whole numbers, floats, truth values or text."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(v, int) and not isinstance(v, bool) for v in present):
        fits = all(-(2**63) <= v < 2**63 for v in present)
        if fits:
            return pd.Series(values, dtype="int64" if len(present) == len(values) else "Int64")
    if present and all(isinstance(v, int | float) and not isinstance(v, bool) and _fits(v) for v in present):
        return pd.Series([None if v is None else float(v) for v in values], dtype="float64")
    if present and all(isinstance(v, bool) for v in present):
        return pd.Series(values, dtype="boolean")
    return pd.Series([None if v is None else str(v) for v in values], dtype="str")


def _fits(value: float) -> bool:
    """Whether a number can be a float; an integer of 400 digits cannot."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write the table as ``.csv`` or ``.parquet``, chosen by the ending; return the path.

    Missing values are empty cells in CSV and nulls in Parquet. Raises `AnalysisError` for another ending or a
    place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        stem = path.stem or "table"
        raise AnalysisError(
            f"Cannot write the table to {str(path)!r}: its ending is {path.suffix!r}; allowed: "
            f"{', '.join(_ENDINGS)}. Give for example '{stem}.csv'."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _ENDINGS[path.suffix.lower()] == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
    except OSError as problem:
        raise AnalysisError(
            f"The table cannot be written to {str(path)!r}: {problem}. Choose another place."
        ) from problem
    return path
