"""How a record becomes tags, params and metrics, and comes back."""

from __future__ import annotations

import pytest

from analysis.reporting.palette import method_style
from hyperscale.recording import mlflow_layout as layout
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus
from tests.test_mlflow_store import changed, make_file, make_records


@pytest.mark.parametrize("method", ["Hypernetwork", "Embedding", "Monolithic", "PerInstance", "WeightGenerator", "X"])
def test_colours_are_those_of_the_figures(method: str) -> None:
    """MLflow's charts and the report give a method the same colour."""
    assert layout.colour_tag(method)["mlflow.runColor"] == method_style(method).colour


def test_at_most_twenty_metric_keys_and_a_thousand_values() -> None:
    """A trial fits one batch however much it measured, last step included."""
    steps = list(range(5000))
    many = changed(
        make_records(make_file())[0],
        metrics={f"metric_{i}": float(i) for i in range(40)},
        curves={f"curve_{i}": [steps, [1.0] * 5000] for i in range(9)},
    )
    points = layout.metrics(many)
    assert len({point.key for point in points}) == layout.MAX_METRIC_KEYS
    assert len(points) <= layout.MAX_BATCH_METRICS
    assert max(point.step for point in points) == 4999
    assert "wall_time_s" in {point.key for point in points}


def test_names_show_what_differs() -> None:
    """Size, what differs in the study, seed."""
    columns = [{"method": "Embedding", "num_params_primary": 9, "lr": lr, "depth": 2} for lr in (0.01, 0.003)]
    result = TrialResult(digest="d", setting_digest="s", seed=4, status=TrialStatus.FINISHED)
    record = TrialRecord(result=result, columns=columns[1])
    assert layout.run_name(record, layout.name_columns(columns)) == "Embedding N=9 lr=0.003 seed=4"
    toy = TrialRecord(result=result, columns={"kind": "Generation", "accuracy_weight": 0.5})
    assert layout.run_name(toy, ["accuracy_weight"]) == "Generation λ=0.5 seed=4"
