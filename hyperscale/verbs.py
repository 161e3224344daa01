"""What the verbs of the command line do, apart from options and help."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from hyperscale.console import ProgressView, escaped, standard_error, store_words, summary_text
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch, Summary, new_launch_id
from hyperscale.dispatch.pack_queue import Patience
from hyperscale.dispatch.planner import SPEEDS, Limits, Planner
from hyperscale.dispatch.ray_head import MOST_RESTARTS, begin_anew
from hyperscale.dispatch.ray_tune import RayTune
from hyperscale.errors import RecordingError
from hyperscale.recording.credentials import hidden
from hyperscale.recording.mlflow_connection import scheme as check_tracking_uri
from hyperscale.recording.mlflow_store import MlflowStore, ScalingCurve
from hyperscale.recording.outcomes import Journalled
from hyperscale.recording.recorder import LaunchInfo, Recorder
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile, load_study

if TYPE_CHECKING:
    from analysis.reporting.comparison_page import WrittenComparison
    from analysis.reporting.report import Report
    from hyperscale.dispatch.executor import Executor
    from hyperscale.trial import TrialRecord

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How `run` is to go: none of it changes what is computed."""

    num_seeds: int | None
    executor: str
    address: str | None
    tracking_uri: str | None
    no_mlflow: bool
    cpus_per_pack: float
    gpus_per_pack: float | None
    max_pack: int | None
    pack_memory: int | None
    retries: int = 2
    silence_limit_s: float = 1800.0
    pack_time_limit_s: float | None = None
    checkpoint_interval_s: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """How `report` is to go: where its trials come from and what it writes."""

    out_folder: Path | None
    tracking_uri: str | None
    from_mlflow: bool
    no_mlflow: bool
    no_pdf: bool
    command: str


def open_study(study: Path, store_folder: Path) -> tuple[StudyFile, Store]:
    """Load a study file and name its store, creating nothing."""
    store = open_store(store_folder)  # before the study file may change the folder
    return load_study(study), store


def open_store(place: Path) -> Store:
    """Name a store, a folder or a path that stands for a URL, creating nothing."""
    store = Store.at(place)
    if store.remote is not None:
        console = standard_error()
        store.remote.say = lambda text: console.print(f"[yellow]{escaped(text)}[/yellow]", highlight=False)
    return store


def make_executor(options: RunOptions) -> Executor:
    """Return the executor asked for, or raise a usage error."""
    if options.executor == "in-process":
        if options.address:
            raise click.UsageError("--address joins a Ray cluster; it goes with --executor ray.")
        return InProcess(checkpoint_interval_s=options.checkpoint_interval_s)
    gpus = options.gpus_per_pack
    for name, asked in (("--cpus-per-pack", options.cpus_per_pack), ("--gpus-per-pack", gpus)):
        if asked is not None and not math.isfinite(asked):
            raise click.UsageError(f"{name} is {asked}; allowed: a finite number.")
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise click.UsageError(f"--gpus-per-pack is {gpus:g}; allowed: up to 1 in fractions, above 1 whole numbers.")
    return RayTune(
        options.address,
        cpus_per_pack=options.cpus_per_pack,
        gpus_per_pack=gpus,
        patience=Patience(
            max_failures=options.retries, silence_s=options.silence_limit_s, time_limit_s=options.pack_time_limit_s
        ),
        checkpoint_interval_s=options.checkpoint_interval_s,
    )


def make_planner(store: Store, executor: Executor, max_pack: int | None, pack_memory: int | None) -> Planner:
    """Return the planner of a store, which says on standard error that it measures."""
    console = standard_error()
    store.fetch(SPEEDS)

    def on_probe(number: int, total: int) -> None:
        if number == 1:
            console.print(f"Measuring {total} new program{'' if total == 1 else 's'} on this device …", highlight=False)

    return Planner(store.folder, executor, Limits(max_members=max_pack, memory_bytes=pack_memory), on_probe=on_probe)


def run_study(study_file: StudyFile, store: Store, options: RunOptions) -> tuple[Summary, int | None, Launch]:
    """Train what is missing; return the summary, how many trials MLflow lacks (None without it), and the launch."""
    console = standard_error()
    executor = make_executor(options)
    if options.tracking_uri and not options.no_mlflow:
        check_tracking_uri(options.tracking_uri)
    store.check_writable()  # before anything is measured
    planner = make_planner(store, executor, options.max_pack, options.pack_memory)
    launch = Launch(study_file, store, executor, num_seeds=options.num_seeds, planner=planner)
    if isinstance(executor, RayTune):
        executor.on_head_lost = lambda address: _begin_anew(address, launch, console)
    store.publish(store.folder / SPEEDS)
    view = ProgressView(console, launch)
    launch.on_change = view.update
    launch.warn = lambda text: console.print(f"[yellow]{escaped(text)}[/yellow]", highlight=False)
    if launch.to_run:
        _announce(launch, console)
    if store.remote is not None and not (options.no_mlflow or options.tracking_uri):
        console.print(f"MLflow's database stays on this machine: {store.tracking_uri}. --tracking-uri names another.")
    recorder = None if options.no_mlflow else _start_recorder(launch, options.tracking_uri, console)
    launch.recording = recorder
    try:
        with view:
            summary = launch.run()
    except BaseException:
        if recorder is not None:
            recorder.close("failed")
        raise
    if recorder is None:
        return summary, None, launch
    return summary, recorder.close("interrupted" if summary.interrupted else "finished"), launch


def _begin_anew(address: str, launch: Launch, console: Console) -> None:
    """Go on after Ray's head was lost: as a new process with the same command, or not at all after so many times."""
    console.print(
        f"[yellow]Ray's head at {address} is gone, or was started anew.[/yellow] What has ended is kept; beginning "
        "anew with what is missing.",
        highlight=False,
    )
    launch.abandon()
    begin_anew()
    console.print(f"Ray's head was lost {MOST_RESTARTS + 1} times. Run the same command again to go on.")
    os._exit(EXIT_FAILED)


def _announce(launch: Launch, console: Console) -> None:
    reused = len(launch.trials) - len(launch.to_run)
    console.print(
        f"[bold]{launch.study_file.study.name}[/bold]: {len(launch.to_run):,} trials in {len(launch.packs):,} packs "
        f"with {launch.executor.name}"
        + (f"; {reused:,} already done" if reused else "")
        + ". Ctrl-C keeps what is done."
    )


def say_summary(summary: Summary, launch: Launch) -> int:
    """Say how a run ended and what to do next; return the exit code."""
    console = standard_error()
    console.print(summary_text(summary), highlight=False)
    if summary.interrupted:
        console.print("Interrupted. Run the same command again to go on.")
        return EXIT_INTERRUPTED
    if summary.failed or summary.out_of_memory:
        _say_failures(launch, console)
        return EXIT_FAILED
    words = ["hyperscale", "report", str(launch.study_file.path), *store_words(launch.store)]
    console.print(f"Next: {shlex.join(words)}", highlight=False)
    return 0


def _say_failures(launch: Launch, console: Console) -> None:
    """Say why trials failed, each reason once."""
    reasons: dict[str, int] = {}
    unsettled = (trial.digest for trial in launch.trials if not launch.journal.settled(trial.digest))
    for record in launch.journal.view(unsettled):
        text = f"{record.result.status.value}: {record.result.reason}"
        reasons[text] = reasons.get(text, 0) + 1
    for text, count in sorted(reasons.items(), key=lambda item: -item[1])[:5]:
        console.print(f"  {count} x {escaped(text)}", highlight=False)
    console.print("The next run tries failed trials again.")


def open_mlflow(store: Store, tracking_uri: str | None) -> MlflowStore:
    """Return the MLflow store at the tracking URI, by default the database in the store folder.

    A server has a place for artifacts, and so has a folder with an SQLite database; another database has not.
    """
    if not tracking_uri:
        return MlflowStore(store.tracking_uri, store.artifacts)
    needs_place = check_tracking_uri(tracking_uri) not in ("http", "https", "sqlite")
    return MlflowStore(tracking_uri, store.artifacts if needs_place else None)


def _start_recorder(launch: Launch, tracking_uri: str | None, console: Console) -> Recorder:
    """Start recording in MLflow beside the launch."""
    study = launch.study_file.study
    whole = len(launch.trials) == len(study.settings) * len(study.seeds)
    trials = launch.trials if whole else study.trials()

    def elsewhere() -> set[str]:
        return {one["launch"] for one in launch.store.running(study.name)} - {launch.id}

    return Recorder(
        lambda: open_mlflow(launch.store, tracking_uri),
        LaunchInfo(launch_id=launch.id, study_file=launch.study_file, trials=launch.to_run),
        journalled=Journalled(launch.journal, [trial.digest for trial in trials], elsewhere),
        warn=lambda text: console.print(f"[yellow]MLflow:[/yellow] {escaped(hidden(text))}", highlight=False),
        say=lambda text: console.print(f"MLflow: {escaped(text)}", highlight=False),
    )


def sync_study(study_file: StudyFile, store: Store, tracking_uri: str | None) -> tuple[int, int]:
    """Replay the journal into MLflow; return how many trials that added, and how many the journal has."""
    digests = [trial.digest for trial in study_file.study.trials()]
    journalled = Journalled(store.journal("reader"), digests)
    num_trials = sum(1 for _ in journalled.outcomes())
    if not num_trials:
        return 0, 0
    return open_mlflow(store, tracking_uri).sync(study_file, journalled, new_launch_id()), num_trials


def read_records(
    study_file: StudyFile, store: Store, tracking_uri: str | None, *, from_mlflow: bool
) -> list[TrialRecord]:
    """Return the study's recorded trials, from the journal or from MLflow alone."""
    digests = [trial.digest for trial in study_file.study.trials()]
    if not from_mlflow:
        return store.journal("reader").records(digests)
    wanted = set(digests)
    records = open_mlflow(store, tracking_uri).read_records(study_file.study.name)
    return [record for record in records if record.result.digest in wanted]


def report_study(study_file: StudyFile, store: Store, options: ReportOptions) -> Report:
    """Write one study's report and add it to MLflow."""
    from analysis.reporting.report import write_report
    from analysis.reporting.supplement import write_pdf

    records = read_records(study_file, store, options.tracking_uri, from_mlflow=options.from_mlflow)
    name = study_file.study.name
    folder = options.out_folder or store.report(name)
    written = write_report(study_file, records, folder, command=options.command)
    if not options.no_pdf:
        write_pdf(study_file, written)
    store.publish(folder)
    if records and not options.no_mlflow:
        record_report(name, store, options.tracking_uri, written.data, folder)
    return written


def compare(studies: Sequence[Path], store_folder: Path, options: ReportOptions) -> WrittenComparison:
    """Write one page that compares several studies of a store."""
    from analysis.reporting.comparison_page import write_comparison
    from analysis.reporting.study_comparison import StudyTrials

    found = []
    for path in studies:
        study_file, store = open_study(path, store_folder)
        records = read_records(study_file, store, options.tracking_uri, from_mlflow=options.from_mlflow)
        page = store.report(study_file.study.name) / "report.html"
        found.append(StudyTrials(study_file=study_file, records=records, page=page))
    folder = options.out_folder or store.comparison([study.name for study in found])
    compared = write_comparison(found, folder, command=options.command, pdf=not options.no_pdf)
    store.publish(folder)
    return compared


def record_report(
    study_name: str, store: Store, tracking_uri: str | None, data: Mapping[str, Any], folder: Path
) -> None:
    """Add the fitted curves and the report to MLflow; MLflow's troubles never spoil a report."""
    if not tracking_uri and not (store.folder / "mlflow.db").exists():
        return
    try:
        mlflow = open_mlflow(store, tracking_uri)
        mlflow.record_curves(study_name, [_scaling_curve(curve) for curve in data["curves"] if curve["points"]])
        mlflow.log_report(study_name, folder)
    except RecordingError as problem:
        standard_error().print(f"[yellow]MLflow:[/yellow] the report was not added: {escaped(hidden(str(problem)))}")


def _scaling_curve(curve: Mapping[str, Any]) -> ScalingCurve:
    """Return one curve of ``report.json`` as MLflow's room takes it."""
    interval = curve["interval"]
    return ScalingCurve(
        method=curve["method"],
        metric=curve["metric"],
        points=[(int(point["size"]), float(point["value"])) for point in curve["points"]],
        slope=curve["exponent"],
        interval=None if interval is None else (interval[0], interval[1]),
        size=curve["size"],
    )
