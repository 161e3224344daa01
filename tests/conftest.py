"""Fixtures shared by all tests: small studies, stores, and one Ray for the tests that need it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study

TINY_STUDY = '''"""Tiny: does a pack train?

Question    Does everything run, from study file to report?
"""

from analysis import theorems
from hyperscale import Adam, Approximation, Embedding, FreshPoints, Hypernetwork, SobolevBall, Study

target = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
study = Study(
    name="tiny",
    settings=[
        Approximation(
            method=method, target=target, optimizer=Adam(lr=lr), steps=STEPS, grid_points=9,
            points=FreshPoints(instances=4, points=4),
        )
        for width in (2, 4, 8, 16)
        for method in (
            Hypernetwork(primary_widths=(width,), widths=(4,), bias="all"),
            Embedding(primary_widths=(width,), widths=(4,), bias="all", embedding_dim=2),
        )
        for lr in LRS
    ],
    seeds=range(2),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(target),
        theorems.embedding_rate_fixed(target),
        theorems.modularity_ordering(target),
    ),
)
'''


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests: those that start Ray go to one of them, first; the rest by files.

    Two Rays at once would fight for two cores, and a file's tests may share what a fixture made.
    """
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a study file and returns its path."""

    def write(text: str, name: str = "written.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def tiny_text(steps: int = 40, lrs: str = "(0.003, 0.01)") -> str:
    """Return the text of the tiny study: 16 settings x 2 seeds in 8 programs."""
    return TINY_STUDY.replace("STEPS", str(steps)).replace("LRS", lrs)


@pytest.fixture
def tiny(write_study: Callable[..., Path]) -> StudyFile:
    """Return the tiny study, loaded."""
    return load_study(write_study(tiny_text(), "tiny.py"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store folder that does not exist yet."""
    return Store(folder=tmp_path / "store")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start one Ray for all tests that dispatch to it."""
    from hyperscale.dispatch.ray_session import end_own_session, start_own_session
    from hyperscale.dispatch.ray_tune import prepare_environment

    prepare_environment()
    start_own_session(num_cpus=2, log_to_driver=False, logging_level="ERROR")
    yield
    end_own_session()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Compute as a worker does: sums differ in the last bits between one thread and several."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests apart from the store and tracking server of whoever runs them."""
    for name in (
        "HYPERSCALE_STORE",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
        "MLFLOW_AUTH_CONFIG_PATH",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
    ):
        monkeypatch.delenv(name, raising=False)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's with nothing in it: making one takes seconds, copying it does not."""
    from hyperscale.recording.mlflow_store import MlflowStore

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}")._client(create=True)
    return path


@pytest.fixture
def fresh(empty_mlflow: Path, tmp_path: Path) -> Callable[[], str]:
    """Return a function that makes an empty store and returns its URI."""
    from tests.mlflow_faults import copy_database

    numbers = iter(range(1000))

    def make() -> str:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        copy_database(empty_mlflow, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return make
