"""The command line: plan, run, status, report, export, sync, ui.

Ray, MLflow, torch and the analysis are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hyperscale.errors import HyperscaleError

if TYPE_CHECKING:
    from rich.console import Console

    from hyperscale.dispatch.executor import Executor
    from hyperscale.dispatch.launch import Launch
    from hyperscale.recording.mlflow_store import MlflowStore
    from hyperscale.recording.store import Store
    from hyperscale.study import StudyFile
    from hyperscale.trial import TrialRecord

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LONG_RUN_S = 3600.0


def _command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Turn users' errors into one paragraph and exit code 2; a returned number into the exit code."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            code = function(*args, **options)
        except HyperscaleError as error:
            _console().print(f"[bold red]Error:[/bold red] {_escape(str(error))}", highlight=False)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            _console().print("Interrupted.")
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(code or 0)

    return wrapped


def _console() -> Console:
    """Return the console of standard error: standard output carries data only."""
    from rich.console import Console

    return Console(stderr=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, allow_nan=False, ensure_ascii=False))


_STUDY = click.argument("study", type=click.Path(path_type=Path), metavar="STUDY")
_STORE = click.option(
    "--store",
    "store_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    envvar="HYPERSCALE_STORE",
    show_default=True,
    show_envvar=True,
    help="Folder of the journal, MLflow's database, checkpoints and reports.",
)
_SEEDS = click.option(
    "--seeds", "num_seeds", type=click.IntRange(min=1), help="Only the study's first N seeds.", metavar="N"
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output and nothing else.")
_TRACKING = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow tracking URI.  [default: SQLite in the store]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hyperscale")
def main() -> None:
    """Scaling studies of hypernetworks: a study file in, a report on its claims out.

    \b
    hyperscale plan   studies/quickstart.py    what would run, and what it costs
    hyperscale run    studies/quickstart.py    train what is missing (run again to resume)
    hyperscale report studies/quickstart.py    verdicts, exponents and figures as a page
    hyperscale ui                              compare the runs in MLflow

    A study file is Python that defines `study = Study(...)`; see README.md for one. Exit codes: 0 done,
    1 some trials failed, 2 bad input or usage, 130 interrupted.
    """  # noqa: D301


def _load(study: Path, store_folder: Path) -> tuple[StudyFile, Store]:
    from hyperscale.recording.store import Store
    from hyperscale.study import load_study

    return load_study(study), Store(folder=store_folder.expanduser().resolve())


@main.command()
@_STUDY
@_SEEDS
@_STORE
@_JSON
@_command
def plan(study: Path, num_seeds: int | None, store_folder: Path, as_json: bool) -> None:
    """Show what `run` would do: trials, already done, packs, time and memory. Changes nothing."""
    from hyperscale.console import duration, pack_rows, plan_table
    from hyperscale.dispatch.launch import Launch
    from hyperscale.dispatch.ray_tune import RayTune
    from hyperscale.packing import estimated_wall_seconds

    study_file, store = _load(study, store_folder)
    executor = RayTune()
    launch = Launch(study_file, store, executor, num_seeds=num_seeds)
    wall, rows = estimated_wall_seconds(launch.packs, executor.workers()), pack_rows(launch.packs)
    data = {
        "study": study_file.study.name,
        "trials": len(launch.trials),
        "finished": len(launch.trials) - len(launch.to_run),
        "to_run": len(launch.to_run),
        "packs": len(launch.packs),
        "programs": rows,
        "estimated_core_seconds": round(sum(pack.estimated_seconds for pack in launch.packs), 1),
        "estimated_wall_seconds": round(wall, 1),
        "workers": executor.workers(),
        "memory_bytes_per_pack": max((row["memory_bytes"] for row in rows), default=0),
    }
    if as_json:
        _print_json(data)
        return
    console = _stdout()
    console.print(f"[bold]{_escape(study_file.headline)}[/bold]")
    console.print(
        f"{data['trials']:,} trials ({len(study_file.study.settings):,} settings), {data['finished']:,} already done, "
        f"{data['to_run']:,} to run in {data['packs']:,} packs."
    )
    if launch.packs:
        console.print(plan_table(rows))
        estimate = f"About {duration(wall)} on this machine's {executor.workers()} cores"
        console.print(f"[bold]{estimate}[/bold] (a rough estimate, within a factor of two or so).")
    if wall > LONG_RUN_S:
        one = Launch(study_file, store, executor, num_seeds=1)
        console.print(
            f"[bold yellow]Too long for a laptop.[/bold yellow] Use a cluster (run --address ...), or begin with "
            f"--seeds 1: about {duration(estimated_wall_seconds(one.packs, executor.workers()))} here."
        )


def _stdout() -> Console:
    from rich.console import Console

    return Console()


@main.command()
@_STUDY
@_SEEDS
@click.option("--executor", type=click.Choice(["ray", "in-process"]), default="ray", show_default=True,
              help="Ray Tune, or one pack after another in this process for debugging.")  # fmt: skip
@click.option("--address", help="Join a running Ray cluster: auto, HOST:6379 or ray://HOST:10001.", metavar="A")
@_STORE
@_TRACKING
@click.option("--no-mlflow", is_flag=True, help="Record in the journal only; `sync` can add MLflow later.")
@click.option("--cpus-per-pack", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--gpus-per-pack", type=click.FloatRange(min=0), help="A fraction shares a GPU.  [default: 0.25 if any]")
@click.option("--max-pack", type=click.IntRange(min=1), help="Most trials in a pack.  [default: 16, as memory allows]")
@_JSON
@_command
def run(study: Path, num_seeds: int | None, **options: Any) -> int:
    """Train what is missing of STUDY. Running again resumes; Ctrl-C keeps what is finished."""
    study_file, store = _load(study, options["store_folder"])
    executor = _executor(options)
    return _run(study_file, store, executor, num_seeds, options)


def _executor(options: dict[str, Any]) -> Executor:
    if options["executor"] == "in-process":
        if options["address"]:
            raise click.UsageError("--address joins a Ray cluster; it goes with --executor ray.")
        from hyperscale.dispatch.in_process import InProcess

        return InProcess()
    from hyperscale.dispatch.ray_tune import RayTune

    gpus = options["gpus_per_pack"]
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise click.UsageError(f"--gpus-per-pack is {gpus:g}; allowed: up to 1 in fractions, above 1 whole numbers.")
    return RayTune(options["address"], cpus_per_pack=options["cpus_per_pack"], gpus_per_pack=gpus)


def _run(
    study_file: StudyFile, store: Store, executor: Executor, num_seeds: int | None, options: dict[str, Any]
) -> int:
    from hyperscale.console import ProgressView, duration, summary_text
    from hyperscale.dispatch.launch import Launch

    console = _console()
    launch = Launch(study_file, store, executor, num_seeds=num_seeds, max_members=options["max_pack"])
    view = ProgressView(console, launch)
    launch.on_change = view.update
    if launch.to_run:
        reused = len(launch.trials) - len(launch.to_run)
        console.print(
            f"[bold]{study_file.study.name}[/bold]: {len(launch.to_run):,} trials in {len(launch.packs):,} packs "
            f"with {executor.name}" + (f"; {reused:,} already done" if reused else "") + ". Ctrl-C keeps what is finished."
        )
    recorder = None if options["no_mlflow"] else _recorder(launch, options["tracking_uri"], console)
    launch.recording = recorder
    try:
        with view:
            summary = launch.run()
    except BaseException:
        if recorder is not None:
            recorder.close("failed")
        raise
    unrecorded = None
    if recorder is not None:
        unrecorded = recorder.close("interrupted" if summary.interrupted else "finished")
    if options["as_json"]:
        _print_json({**summary.to_json(), "mlflow_missing": unrecorded})
    console.print(summary_text(summary), highlight=False)
    if summary.interrupted:
        console.print("Interrupted; run the same command again to go on.")
        return EXIT_INTERRUPTED
    if summary.failed or summary.out_of_memory:
        _print_failures(launch, console)
        return EXIT_FAILED
    if summary.ran:
        console.print(f"Next: hyperscale report {shlex.quote(str(study_file.path))}   ({duration(5)} or so)")
    return 0


def _print_failures(launch: Launch, console: Console) -> None:
    """Say why trials failed, each reason once."""
    reasons: dict[str, int] = {}
    for record in launch.journal.records(trial.digest for trial in launch.trials):
        if record.result.status.value in ("failed", "out_of_memory"):
            text = f"{record.result.status.value}: {record.result.reason}"
            reasons[text] = reasons.get(text, 0) + 1
    for text, count in sorted(reasons.items(), key=lambda item: -item[1])[:5]:
        console.print(f"  {count} x {_escape(text)}", highlight=False)
    console.print("Failed trials are tried again by the next run.")


def _mlflow(store: Store, tracking_uri: str | None) -> MlflowStore:
    from hyperscale.recording.mlflow_store import MlflowStore

    if tracking_uri:
        return MlflowStore(tracking_uri)
    return MlflowStore(store.tracking_uri, store.artifacts)


def _recorder(launch: Launch, tracking_uri: str | None, console: Console) -> Any:
    """Start recording in MLflow beside the launch."""
    from hyperscale.recording.recorder import Recorder

    def journalled() -> Sequence[TrialRecord]:
        return launch.journal.records(trial.digest for trial in launch.trials)

    return Recorder(
        lambda: _mlflow(launch.store, tracking_uri),
        launch.study_file,
        launch.id,
        num_trials=len(launch.to_run),
        backlog=journalled(),
        journalled=journalled,
        warn=lambda text: console.print(f"[yellow]MLflow:[/yellow] {_escape(text)}", highlight=False),
    )


@main.command()
@_STUDY
@_SEEDS
@_STORE
@_JSON
@_command
def status(study: Path, num_seeds: int | None, store_folder: Path, as_json: bool) -> None:
    """Show where STUDY stands: finished, diverged, failed, running, missing."""
    from hyperscale.console import duration
    from hyperscale.trial import TrialStatus

    study_file, store = _load(study, store_folder)
    journal = store.journal("status")
    trials = study_file.study.trials(num_seeds)
    results = [journal.get(trial.digest) for trial in trials]
    counts = {s.value: sum(r is not None and r.status == s for r in results) for s in TrialStatus}
    launches = store.running(study_file.study.name)
    data = {
        "study": study_file.study.name,
        "trials": len(trials),
        **counts,
        "running": sum(int(launch.get("running", 0)) for launch in launches),
        "missing": sum(result is None for result in results),
        "launches": launches,
        "torn_lines": journal.torn_lines,
    }
    if as_json:
        _print_json(data)
        return
    console = _stdout()
    console.print(f"[bold]{_escape(study_file.headline)}[/bold]")
    shown = {"finished": 1, "diverged": 0, "out_of_memory": 0, "failed": 0, "running": 0, "missing": 0}
    words = [f"{data[name]:,} {name.replace('_', ' ')}" for name, always in shown.items() if data[name] or always]
    console.print(f"{data['trials']:,} trials: {', '.join(words)}.")
    for launch in launches:
        left = duration(launch.get("remaining_s"))
        console.print(f"running now: {launch.get('ended_trials')}/{launch.get('trials')} trials, {left} left")


@main.command()
@_STUDY
@click.option("--out", "out_folder", type=click.Path(path_type=Path, file_okay=False),
              help="Where to write.  [default: STORE/reports/STUDY-NAME]", metavar="DIR")  # fmt: skip
@_STORE
@_TRACKING
@click.option("--from-mlflow", is_flag=True, help="Read the trials from MLflow instead of the store's journal.")
@click.option("--no-mlflow", is_flag=True, help="Do not add the report and its curves to MLflow.")
@_JSON
@_command
def report(study: Path, out_folder: Path | None, **options: Any) -> None:
    """Write STUDY's report: verdicts, exponents with intervals, figures, provenance."""
    from analysis.report import write_report

    study_file, store = _load(study, options["store_folder"])
    records = _records(study_file, store, options)
    folder = out_folder or store.report(study_file.study.name)
    command = " ".join(["hyperscale", *(shlex.quote(argument) for argument in sys.argv[1:])])
    written = write_report(study_file, records, folder, command=command)
    console = _console()
    if not options["no_mlflow"]:
        _record_report(study_file, store, options["tracking_uri"], written.data, folder, console)
    if options["as_json"]:
        _print_json(written.data)
        return
    out = _stdout()
    for verdict in written.verdicts:
        out.print(f"[bold]{_escape(verdict.verdict)}[/bold]  {_escape(verdict.claim)}", highlight=False)
        out.print(f"    {_escape(verdict.reason)}", highlight=False, style="dim")
    out.print(f"Report: {written.html}", highlight=False, soft_wrap=True)


def _records(study_file: StudyFile, store: Store, options: dict[str, Any]) -> list[TrialRecord]:
    if options.get("from_mlflow"):
        digests = {trial.digest for trial in study_file.study.trials()}
        records = _mlflow(store, options["tracking_uri"]).read_records(study_file.study.name)
        return [record for record in records if record.result.digest in digests]
    return store.journal("report").records(trial.digest for trial in study_file.study.trials())


def _record_report(
    study_file: StudyFile, store: Store, tracking_uri: str | None, data: Any, folder: Path, console: Console
) -> None:
    """Add the fitted curves and the report to MLflow; MLflow's troubles never spoil a report."""
    from hyperscale.errors import RecordingError
    from hyperscale.recording.mlflow_store import ScalingCurve

    if not tracking_uri and not (store.folder / "mlflow.db").exists():
        return
    try:
        mlflow = _mlflow(store, tracking_uri)
        curves = ScalingCurve.from_report(data)
        if curves:
            mlflow.record_curves(study_file.study.name, curves)
        mlflow.log_report(study_file.study.name, folder)
    except RecordingError as error:
        console.print(f"[yellow]MLflow:[/yellow] the report was not added there: {_escape(str(error))}")


@main.command()
@_STUDY
@click.option("--out", "out_file", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="FILE.csv or FILE.parquet.", metavar="FILE")  # fmt: skip
@_STORE
@_TRACKING
@click.option("--from-mlflow", is_flag=True, help="Read the trials from MLflow instead of the store's journal.")
@_command
def export(study: Path, out_file: Path, **options: Any) -> None:
    """Write STUDY's trials as a tidy table, one row a trial."""
    from analysis.table import build_table, write_table

    study_file, store = _load(study, options["store_folder"])
    table = build_table(_records(study_file, store, options))
    write_table(table, out_file)
    click.echo(f"{out_file}: {len(table)} trials, {len(table.columns)} columns.")


@main.command()
@_STUDY
@_STORE
@_TRACKING
@_command
def sync(study: Path, store_folder: Path, tracking_uri: str | None) -> None:
    """Add to MLflow what the journal has and MLflow lacks. Never makes duplicates."""
    from hyperscale.dispatch.launch import new_launch_id

    study_file, store = _load(study, store_folder)
    records = store.journal("sync").records(trial.digest for trial in study_file.study.trials())
    if not records:
        click.echo(f"{study_file.study.name}: the journal has no trials yet; nothing to add.")
        return
    added = _mlflow(store, tracking_uri).sync(study_file, records, f"sync-{new_launch_id()}")
    click.echo(f"{study_file.study.name}: {added} trials added to MLflow, {len(records) - added} were there already.")


@main.command()
@_STORE
@_TRACKING
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@_command
def ui(store_folder: Path, tracking_uri: str | None, host: str, port: int) -> int:
    """Start the MLflow UI on the store and print its address. Ctrl-C ends it."""
    import subprocess

    from hyperscale.recording.mlflow_store import serve_ui
    from hyperscale.recording.store import Store

    store = Store(folder=store_folder.expanduser().resolve())
    command, environment, address = serve_ui(tracking_uri or store.tracking_uri, store.artifacts, host=host, port=port)
    click.echo(f"MLflow UI: {address}   (Ctrl-C ends it)")
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0


def entry() -> NoReturn:
    """Run the command line as ``python -m hyperscale``."""
    main()
    raise SystemExit


if __name__ == "__main__":
    entry()
