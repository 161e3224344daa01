"""Trials through Ray Tune: whole studies in our packs, and single trials the two ways Tune documents for users.

A *stock function trainable* trains its trial and reports once; Tune starts a process for each. A *class trainable with
reused actors* keeps its processes. Both train one trial at a time on one core each, with the loop a user would write:
automatic differentiation of the method's plain form, and torch's own Adam. ``class-own-step`` is the class trainable
with our step on a pack of one (`Setting.start`) instead, which no user has without us.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.planner import Planner
from hyperscale.dispatch.ray_tune import RayTune, prepare_environment
from hyperscale.recording.store import Store
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.fitting import ApproximationObjective
from hyperscale.study import StudyFile
from hyperscale.training.optimizers import Adam
from hyperscale.trial import Trial

Kind = Literal["class", "class-own-step", "function"]


@dataclass(kw_only=True)
class Done:
    """What came of a set of trials: seconds in all, when each ended, and the metrics of those that finished."""

    seconds: float
    ended_s: list[float] = field(default_factory=list)
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def per_minute(self) -> float:
        """Trials per minute, everything included."""
        return 60 * len(self.metrics) / self.seconds

    def steady_per_minute(self, workers: int) -> float:
        """Trials per minute between the end of every worker's first trial and that of the last trial."""
        ended = sorted(self.ended_s)
        first = min(workers, len(ended) - 1)
        return 60 * (len(ended) - first) / (ended[-1] - ended[first - 1])


def spread(trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return about ``count`` trials, the same number of every program."""
    programs: dict[str, list[Trial]] = {}
    for trial in trials:
        programs.setdefault(trial.setting.program_key(), []).append(trial)
    each = max(1, count // len(programs))
    return [trial for group in programs.values() for trial in group[:: max(1, len(group) // each)][:each]]


def in_packs(study_file: StudyFile) -> Done:
    """Train a whole study as `hyperscale run` does, the planner's measurements and the start of Ray included."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        executor = RayTune()
        planner = Planner(Path(folder), executor)
        launch = Launch(study_file, Store(folder=Path(folder)), executor, planner=planner)
        launch.run()
        seconds = time.perf_counter() - started
        records = launch.journal.records(trial.digest for trial in launch.trials)
        metrics = {record.result.digest: record.result.metrics for record in records if record.result.metrics}
    return Done(seconds=seconds, metrics=metrics)


@contextmanager
def local_ray() -> Iterator[None]:
    """Start Ray on all cores of this machine as our executor does, and end it."""
    prepare_environment()
    import ray

    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def train_with_our_step(trial: Trial) -> Mapping[str, float]:
    """Train one trial as a pack of one and return its metrics."""
    run = trial.setting.start([(trial.setting, trial.seed)], "cpu")
    run.advance(math.inf)
    (outcome,) = run.outcomes()
    return outcome.metrics


def train_plainly(trial: Trial) -> Mapping[str, float]:
    """Train one trial by a plain loop, with the same initial parameters, batches and evaluation; return its metrics."""
    import torch

    setting = trial.setting
    assert isinstance(setting, Approximation)
    assert isinstance(setting.optimizer, Adam)
    objective = ApproximationObjective([(setting, trial.seed)], "cpu")
    params = torch.nn.Parameter(objective.initialize().to(setting.dtype))
    rule = setting.optimizer
    optimizer = torch.optim.Adam([params], lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps)
    for step in range(setting.steps):
        optimizer.param_groups[0]["lr"] = rule.lr * rule.schedule.factor(step, setting.steps)
        optimizer.zero_grad(set_to_none=True)
        objective.loss(params, step).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return {name: float(value) for name, value in objective.metrics(params, [0]).items()}


def _trainable(kind: Kind) -> Any:
    """Return the trainable; it is made here so that Ray ships it by value."""
    from ray import tune

    loop = train_with_our_step if kind == "class-own-step" else train_plainly

    def train(trial: Trial) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)
        return {"digest": trial.digest, "metrics": dict(loop(trial))}

    def stock(config: dict[str, Any]) -> None:
        tune.report(train(config["trial"]))

    class Reused(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.trial = config["trial"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.trial = new_config["trial"]
            return True

        def step(self) -> dict[str, Any]:
            return {**train(self.trial), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Keep nothing."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Take up nothing."""

    return stock if kind == "function" else Reused


def _clock(ended_s: list[float]) -> Any:
    """Return the Tune callback that notes when trials end."""
    from ray import tune

    class Clock(tune.Callback):
        def on_trial_complete(self, **_: Any) -> None:
            ended_s.append(time.perf_counter())

        def __getstate__(self) -> dict[str, Any]:
            return {}

    return Clock()


def one_by_one(trials: Sequence[Trial], kind: Kind) -> Done:
    """Train each trial as a Tune trial of its own; Ray must be running."""
    from ray import tune

    ended_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        grid = tune.Tuner(
            tune.with_resources(_trainable(kind), {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(trials))},
            tune_config=tune.TuneConfig(reuse_actors=kind != "function"),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[_clock(ended_s)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False) if kind != "function" else None,
            ),
        ).fit()
        seconds = time.perf_counter() - started
    reports = [result.metrics for result in grid if result.metrics and "digest" in result.metrics]
    return Done(seconds=seconds, ended_s=ended_s, metrics={r["digest"]: r["metrics"] for r in reports})


def largest_difference(ours: Done, theirs: Done, metric: str) -> float:
    """Return the largest relative difference of a metric over the trials that both sides trained."""
    common = ours.metrics.keys() & theirs.metrics.keys()
    pairs = [(ours.metrics[digest][metric], theirs.metrics[digest][metric]) for digest in common]
    return max(abs(a - b) / abs(b) for a, b in pairs)
