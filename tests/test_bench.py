"""The benchmarks do the same work on both sides, run where only torch and numpy are, and write sound tables."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.target import FixedSample, FreshPoints
from hyperscale.training.optimizers import SGD
from tests.bench.machine import machine
from tests.bench.programs import PackProgram, build, compare
from tests.bench.ray_grid import STEPS, grid, parts
from tests.bench.results import RowResult, rate_table, ratio_table, spread_text, time_table
from tests.bench.rows import METHODS, PACKS, Row, scaling_row, scaling_rows, synthetic_row, synthetic_rows
from tests.bench.tables import publish, table
from tests.bench.timing import Effort, Timing, interleave, plan_steps, steps_for
from tests.bench.trials import Done, largest_difference, spread

ROOT = Path(__file__).parent.parent


def in_float64(row: Row) -> Row:
    """Return the row with its setting in double precision."""
    return replace(row, setting=replace(row.setting, precision="float64"))


def small_synthetic(method: str) -> Row:
    """Return the synthetic row with x and I of 6 numbers: no biases, a fixed sample, plain SGD."""
    row = synthetic_row(method, 5)
    setting = replace(
        row.setting,
        target=InnerProduct(x_dim=6, conditioning_dim=6),
        points=FixedSample(size=32, test_size=1, batch_size=8),
        optimizer=SGD(lr=0.1, momentum=0.9),
    )
    if method == "Embedding":
        setting = replace(setting, method=replace(setting.method, embedding_dim=7))
    return replace(row, setting=setting)


def several_points(method: str) -> Row:
    """Return the smallest row with three x per I."""
    row = scaling_row(method, 8)
    return replace(row, setting=replace(row.setting, points=FreshPoints(instances=5, points=3)))


@pytest.mark.parametrize("variant", ["default", "foreach", "fused"])
@pytest.mark.parametrize("make", [lambda name: scaling_row(name, 8), small_synthetic, several_points])
@pytest.mark.parametrize("method", METHODS)
def test_eager_trials_follow_a_pack(method: str, make: object, variant: str) -> None:
    """From the same parameters and batches the eager loop gives the pack's losses and updates, to rounding."""
    row = in_float64(make(method))
    agreement = compare(row, variant)
    assert agreement.loss < 1e-12
    assert agreement.update < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_pack_that_computes_something_else_is_noticed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong learning rate shows in the updates, a wrong network in the losses."""
    row = in_float64(scaling_row(method, 8))
    with monkeypatch.context() as patched:
        patched.setattr("tests.bench.eager.torch.optim.Adam", lambda p, lr, **o: torch.optim.AdamW(p, lr=1.1 * lr))
        assert compare(row).update > 0.05
    monkeypatch.setattr("tests.bench.eager.nn.ReLU", torch.nn.Tanh)
    assert compare(row).loss > 1e-3


def test_the_published_sizes() -> None:
    """The synthetic rows of width 100 have the paper's parameter counts; the named cells are among the rows."""
    assert synthetic_row("Hypernetwork", 100).num_params == 1_101_000
    assert synthetic_row("Embedding", 100).num_params == 1_210_010
    assert {(row.width, row.batch) for row in scaling_rows()} >= {(8, 64), (8, 256)}
    assert len(synthetic_rows()) == 8
    assert 1 <= scaling_row("Embedding", 8).planned_members("cpu", 2**30) <= max(PACKS)


@pytest.mark.parametrize("mode", ["pack:3", "default", "fused"])
def test_programs_take_steps(mode: str) -> None:
    """Every program takes the steps it is asked for and tells a time."""
    program = build(scaling_row("Hypernetwork", 8), mode)
    assert program.time(2) > 0
    assert program.members == (3 if mode == "pack:3" else 1)


def test_hypnettorch_trains() -> None:
    """Where hypnettorch is installed its step lowers the loss on a batch seen again and again."""
    pytest.importorskip("hypnettorch")
    program = build(scaling_row("Hypernetwork", 8), "hypnettorch")
    program.trial.batches = program.trial.batches[:1]
    losses = [float(program.trial.step()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_a_part_of_a_group_of_batches_pays_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps timed within one group of fresh batches are charged for making the group."""
    program = PackProgram(scaling_row("Hypernetwork", 8), 2, "cpu")
    assert program.unit(1e-9) == program.group > 1
    assert program.unit(10.0) == 1
    monkeypatch.setattr(program, "_making_batches_s", lambda: 3.0)
    assert program.time(1) > 1.5
    assert program.time(program.group) < 1.5


def test_rounds_are_interleaved() -> None:
    """Every measure is called once per round, not always in the same order."""
    calls: list[str] = []
    measures = {name: lambda name=name: float(calls.append(name) or len(calls)) for name in "abc"}
    timings = interleave(measures, 3)
    assert ["".join(calls[i : i + 3]) for i in (0, 3, 6)] == ["abc", "bca", "cab"]
    assert timings["a"].seconds == [1.0, 6.0, 8.0]
    assert timings["a"].median == 6.0


class Clockwork:
    """A station whose every step of four members takes 0.1 s."""

    def prepare(self, mode: str) -> None:
        """Do nothing."""

    def unit(self, mode: str, step_s: float) -> int:
        """Ask for multiples of three."""
        return 3

    def members(self, mode: str) -> int:
        """Hold four."""
        return 4

    def time(self, mode: str, count: int) -> float:
        """Take 0.025 s for each member's step."""
        return 0.025


def test_the_number_of_steps_is_planned() -> None:
    """A round is filled with a multiple of the unit; what would take too long is left out."""
    assert plan_steps(Clockwork(), "pack:4", Effort(rounds=5, seconds=0.7, longest_s=5)) == (9, 0.1)
    assert plan_steps(Clockwork(), "pack:4", Effort(rounds=5, seconds=0.7, longest_s=4)) is None
    assert plan_steps(Clockwork(), "pack:4", Effort(rounds=50, seconds=0.7, longest_s=1)) is None
    assert steps_for(0.001, 1.0) == 1


def example() -> RowResult:
    """Return made-up timings of one row."""
    seconds = {"default": 4e-4, "foreach": 5e-4, "fused": 3e-4, "pack:1": 5e-4, "pack:4": 1e-4}
    return RowResult(
        row=scaling_row("Hypernetwork", 8),
        timings={mode: Timing(seconds=[value, value, 2 * value]) for mode, value in seconds.items()},
        absent={"pack:16": "does not fit"},
        rates={"processes": 5000.0, "threads": 100.0, "other": 6000.0, "planned": 12_000.0},
        planned=4,
    )


def test_tables_say_what_was_measured(tmp_path: Path) -> None:
    """Times, ratios, fractions of the peak and rates come out as given; what was not timed says why."""
    result = example()
    packs = [1, 4, 16]
    times = time_table([result], packs, ["fused", "hypnettorch"])
    assert times.splitlines()[0].count("|") == times.splitlines()[2].count("|")
    assert "| Hypernetwork, w = 8, batch 64 | 832 | 400 | 300 | 500 | 100 | does not fit |" in times
    fraction = 100 * result.row.flops_per_step / 1e-4 / 1e11
    assert f"0.80×, {fraction / 5:.2g} % | 4.0×, {fraction:.2g} % | does not fit" in ratio_table([result], packs, 1e11)
    assert "5,000 | 100 | 6,000 (eager (fused)) | 12,000 (pack of 4) | **2.00** |" in rate_table([result], 2)
    assert "100 %" in spread_text([result])
    publish(table(["a"], [["b"]]), tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == "| a |\n| --- |\n| b |"
    assert "cores" in machine("numpy", "no-such-package")
    assert "no-such-package not installed" in machine("no-such-package")


def test_the_grid_and_its_subsets() -> None:
    """The grid has 540 trials of batches of 64; the subsets are disjoint and take from every program."""
    study = grid(20, STEPS).study
    trials = study.trials()
    assert len(trials) == 540
    assert all(setting.batch_shape == (16, 4) for setting in study.settings)
    subsets = parts(trials, 9, 5)
    chosen = [trial.digest for subset in subsets for trial in subset]
    assert len(chosen) == len(set(chosen)) == 45
    programs = {trial.setting.program_key() for trial in trials}
    assert {trial.setting.program_key() for subset in subsets for trial in subset} == programs
    assert len(spread(trials, 9)) == len(programs)


def test_rates_of_trials() -> None:
    """The steady rate counts from the end of every worker's first trial."""
    done = Done(seconds=30.0, ended_s=[5.0, 6.0, 10.0, 16.0], metrics={"a": {"m": 2.0}, "b": {"m": 1.0}})
    assert done.per_minute == 4.0
    assert done.steady_per_minute(2) == 60 * 2 / 10
    assert largest_difference(done, Done(seconds=1.0, metrics={"a": {"m": 1.0}, "c": {}}), "m") == 1.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository's root."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_gpu_benchmark_runs_dry_without_anything_but_torch_and_numpy() -> None:
    """``--device cpu --quick`` measures the smallest cells with no Ray, MLflow, Optuna, pandas or SciPy to import."""
    blocked = ("ray", "mlflow", "optuna", "pandas", "scipy", "seaborn", "matplotlib", "torchvision", "click", "rich")
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "sys.argv = ['gpu', '--device', 'cpu', '--quick']\n"
        "runpy.run_module('tests.bench.gpu', run_name='__main__')\n"
    )
    ran = run("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert "| Embedding, w = 8, batch 64 | 168 |" in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_benchmark_says_that_there_is_no_gpu() -> None:
    """Without a CUDA device the benchmark ends with one sentence that says what to do."""
    ran = run("-m", "tests.bench.gpu")
    assert ran.returncode == 1
    assert "no CUDA device here" in ran.stderr
    assert "Traceback" not in ran.stderr
