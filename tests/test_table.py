"""Tests of `analysis.table`."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from analysis.table import build_table, metric_columns, setting_columns, write_table
from hyperscale.errors import AnalysisError
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus


def record(index: int, columns: dict, metrics: dict | None = None, status: str = "finished") -> TrialRecord:
    """Return a record with the given setting columns and metrics."""
    result = TrialResult(
        digest=f"d{index}",
        setting_digest=f"s{index // 2}",
        seed=index,
        status=TrialStatus(status),
        reason="" if status == "finished" else "loss was not finite",
        metrics=metrics or {},
        provenance={"wall_time_s": 1.5, "versions": {"torch": "2"}},
    )
    return TrialRecord(result=result, columns=columns)


RECORDS = [
    record(0, {"method": "Hypernetwork", "num_params_primary": 7, "lr": 0.1}, {"sup_error": 0.5, "rmse": 0.2}),
    record(1, {"method": "Hypernetwork", "num_params_primary": 13, "lr": 0.1}, {}, "diverged"),
    record(2, {"method": "Embedding", "num_params_primary": 9, "embedding_dim": 8, "lr": 1}, {"rmse": 0.25}),
]


def test_missing_stays_missing() -> None:
    """A metric or column that a trial does not have is NA, not zero, and whole numbers stay whole."""
    table = build_table(RECORDS)
    assert table["sup_error"].isna().tolist() == [False, True, True]
    assert table["embedding_dim"].isna().tolist() == [True, True, False]
    assert str(table["embedding_dim"].dtype) == "Int64"
    assert str(table["num_params_primary"].dtype) == "int64"
    assert table["rmse"].dropna().tolist() == [0.2, 0.25]


def test_column_order_ignores_record_order() -> None:
    """Identity, settings, metrics, provenance, in the same order whatever the records' order."""
    table = build_table(RECORDS)
    assert list(table.columns) == list(build_table(RECORDS[::-1]).columns)
    assert list(table.columns[:6]) == ["digest", "setting_digest", "seed", "status", "reason", "method"]
    assert list(table.columns[-3:]) == ["sup_error", "rmse", "wall_time_s"]
    assert setting_columns(RECORDS) == ["method", "embedding_dim", "num_params_primary", "lr"]
    assert metric_columns(RECORDS) == ["sup_error", "rmse"]


def test_no_records_give_an_empty_table() -> None:
    """An empty journal is a table without rows that still has the identity columns."""
    table = build_table([])
    assert len(table) == 0
    assert "status" in table.columns


def test_setting_column_cannot_hide_the_identity() -> None:
    """A setting's own column called seed is kept beside the trial's seed."""
    table = build_table([record(5, {"method": "M", "seed": 99})])
    assert table["seed"].tolist() == [5]
    assert table["setting_seed"].tolist() == [99]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_round_trip(tmp_path, ending: str) -> None:
    """A written table reads back with the same numbers and the same missing cells."""
    table = build_table(RECORDS)
    path = write_table(table, tmp_path / "deep" / f"trials.{ending}")
    back = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    assert list(back.columns) == list(table.columns)
    for name in ("sup_error", "rmse", "lr", "embedding_dim", "num_params_primary"):
        assert back[name].isna().tolist() == table[name].isna().tolist()
        assert back[name].dropna().tolist() == table[name].dropna().tolist()


def test_other_endings_are_refused(tmp_path) -> None:
    """An unknown ending names the allowed ones and writes nothing."""
    with pytest.raises(AnalysisError, match=r"\.xlsx.*allowed: \.csv, \.parquet"):
        write_table(build_table(RECORDS), tmp_path / "trials.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_import_stays_light() -> None:
    """The table and the theorems load neither torch nor Ray nor MLflow."""
    code = "import sys, analysis.table, analysis.theorems; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
