"""Packs through Ray Tune against the same trials one per Tune trial with a stock function trainable.

``python tests/bench/packs.py [--stock-trials N]`` runs both in one go on this machine and writes ``packs.md`` beside
this file. The stock side runs N of the quickstart's trials, the same number from every program, each a Tune trial of
its own with one core, as a user of Tune would write it; its rate is compared with that of the whole quickstart in
packs. Both sides start Ray afresh and include its start.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.ray_tune import RayTune, prepare_environment
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study
from hyperscale.trial import Trial

HERE = Path(__file__).parent
STUDY = HERE.parent.parent / "studies" / "quickstart.py"


def packs_seconds(study_file: StudyFile) -> tuple[int, float]:
    """Train the whole study in packs; return the number of trials and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = Launch(study_file, Store(folder=Path(folder)), RayTune()).run()
        return summary.finished, time.perf_counter() - started


def spread(trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return about ``count`` trials, the same number of every program."""
    programs: dict[str, list[Trial]] = {}
    for trial in trials:
        programs.setdefault(trial.setting.program_key(), []).append(trial)
    each = max(1, count // len(programs))
    return [trial for group in programs.values() for trial in group[:: max(1, len(group) // each)][:each]]


def stock_seconds(trials: Sequence[Trial]) -> tuple[int, float]:
    """Train each trial as a Tune trial of its own; return how many finished and the seconds."""
    import ray
    from ray import tune

    def train(config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        trial = config["trial"]
        run = trial.setting.start([(trial.setting, trial.seed)], "cpu")
        run.advance(math.inf)
        (outcome,) = run.outcomes()
        tune.report(dict(outcome.metrics))

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        grid = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(trials))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        seconds = time.perf_counter() - started
        ray.shutdown()
    return sum("sup_error" in result.metrics for result in grid), seconds


def main() -> None:
    """Measure both sides and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stock-trials", type=int, default=36, help="trials on the stock side (default 36)")
    options = parser.parse_args()
    prepare_environment()
    study_file = load_study(STUDY)
    ours, our_seconds = packs_seconds(study_file)
    theirs, their_seconds = stock_seconds(spread(study_file.study.trials(), options.stock_trials))
    our_rate, their_rate = 60 * ours / our_seconds, 60 * theirs / their_seconds
    import ray
    import torch

    text = f"""# Packs against one trial per process

The quickstart's trials through Ray Tune: in packs, and one per Tune trial with a stock function trainable (an equal
number from every program). Both include the start of Ray. Written by `make bench-packs`.

| | trials | seconds | trials per minute |
|---|---|---|---|
| packs | {ours} | {our_seconds:.0f} | {our_rate:.1f} |
| stock function trainable | {theirs} | {their_seconds:.0f} | {their_rate:.1f} |
| **ratio** | | | **{our_rate / their_rate:.1f}** |

{date.today().isoformat()}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()},
torch {torch.__version__}, Ray {ray.__version__}.
"""
    (HERE / "packs.md").write_text(text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
