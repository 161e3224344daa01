"""The command line: plan, run, submit, status, report, export, sync, ui, fit.

torch, Ray, MLflow and the analysis are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hyperscale.errors import HyperscaleError, brief
from hyperscale.options import (
    FROM_MLFLOW,
    JSON,
    MAX_PACK,
    PACK_MEMORY,
    SEEDS,
    STORE,
    STUDY,
    TRACKING,
    ManyPlaces,
    endurance_options,
    fit_options,
)
from hyperscale.recording.credentials import hidden, hidden_command
from hyperscale.submission import options_of_run, submit_options, submit_or_follow

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LONG_RUN_S = 3600.0


def _verb(function: Callable[..., int | None]) -> Callable[..., None]:
    """Turn users' errors into one paragraph and exit code 2, and a returned number into the exit code."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            code = function(*args, **options)
        except HyperscaleError as problem:
            click.echo(f"Error: {hidden(str(problem))}", err=True)
            sys.exit(EXIT_USAGE)
        except BrokenPipeError:
            raise
        except OSError as problem:
            place = "" if problem.filename is None else f" ({brief(str(problem.filename))})"
            click.echo(f"Error: {problem.strerror or problem}{place}.", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(code or 0)

    return wrapped


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, allow_nan=False, ensure_ascii=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hyperscale")
def main() -> None:
    """Scaling studies of hypernetworks: a study file in, a report on its claims out.

    \b
    hyperscale plan   studies/quickstart.py    what would run, and what it costs
    hyperscale run    studies/quickstart.py    train what is missing; again to resume
    hyperscale submit studies/quickstart.py    the same on a Ray cluster
    hyperscale report studies/quickstart.py    verdicts, exponents and figures
    hyperscale ui                              compare the runs in MLflow
    hyperscale fit    table.csv --x N --y loss a curve through anybody's data

    A study file is Python that defines `study = Study(...)`; README.md shows one.

    Exit codes: 0 done, 1 some trials failed, 2 bad input or usage, 130 interrupted.
    """  # noqa: D301


@main.command()
@STUDY
@SEEDS
@STORE
@MAX_PACK
@PACK_MEMORY
@click.option(
    "--power",
    "with_power",
    is_flag=True,
    help="Also simulate the study: each claim's chance of a decisive verdict, and what would make it 90 %.",
)
@JSON
@_verb
def plan(
    study: Path, num_seeds: int | None, store_folder: Path, with_power: bool, as_json: bool, **limits: Any
) -> None:
    """Show what `run` would do: trials, already done, packs, time, memory.

    Trains nothing. Programs that are new to this machine are measured for some tenths of a second each, and what was
    measured is kept in the store.

    With --power the study is simulated some thousand times with its sizes and seeds, under every claim and under the
    claim's nearest rival, and judged as `report` would: how likely is a decisive verdict, and is it cheaper to add
    octaves of N or seeds? Trials that the store already has say how much results scatter; without, it is assumed.
    """
    from hyperscale.console import plan_data, print_plan
    from hyperscale.dispatch.launch import Launch
    from hyperscale.dispatch.ray_tune import RayTune
    from hyperscale.verbs import make_planner, open_study

    study_file, store = open_study(study, store_folder)
    executor = RayTune()
    planner = make_planner(store, executor, limits["max_pack"], limits["pack_memory"])
    launch = Launch(study_file, store, executor, num_seeds=num_seeds, planner=planner)
    data = plan_data(launch)
    if with_power:
        from hyperscale.power_view import power_data, print_power

        data["power"] = power_data(launch)
    if as_json:
        _print_json(data)
        return
    one_seed = None
    if data["estimated_wall_seconds"] > LONG_RUN_S and num_seeds != 1:
        one_seed = plan_data(Launch(study_file, store, executor, num_seeds=1, planner=planner))
    print_plan(study_file.headline, data, one_seed)
    if with_power:
        print_power(data["power"])


@main.command()
@STUDY
@SEEDS
@click.option(
    "--executor",
    type=click.Choice(["ray", "in-process"]),
    default="ray",
    show_default=True,
    help="Ray Tune, or one pack after another in this process for debugging.",
)
@click.option(
    "--address",
    help="Join a running Ray cluster: auto, HOST:6379 or ray://HOST:10001.  [default: RAY_ADDRESS, else its own Ray]",
    metavar="A",
)
@STORE
@TRACKING
@click.option("--no-mlflow", is_flag=True, help="Record in the journal only; `sync` can add MLflow later.")
@click.option(
    "--cpus-per-pack",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="CPU cores a pack asks Ray for.",
)
@click.option(
    "--gpus-per-pack",
    type=click.FloatRange(min=0),
    help="GPUs a pack asks Ray for; a fraction shares one.  [default: 0.25 where there is a GPU]",
)
@MAX_PACK
@PACK_MEMORY
@endurance_options
@JSON
@_verb
def run(study: Path, store_folder: Path, as_json: bool, **options: Any) -> int:
    """Train what is missing of STUDY. Running again resumes; Ctrl-C keeps what is finished."""
    from hyperscale.verbs import RunOptions, open_study, run_study, say_summary

    study_file, store = open_study(study, store_folder)
    summary, mlflow_missing, launch = run_study(study_file, store, RunOptions(**options))
    if as_json:
        _print_json({**summary.to_json(), "mlflow_missing": mlflow_missing})
    return say_summary(summary, launch)


@main.command()
@submit_options
@JSON
@_verb
def submit(as_json: bool, **_: Any) -> int:
    """Send STUDY with its project to a Ray cluster, run it there and follow it.

    The job is `run` on the cluster, so submitting again resumes. Takes the options of `run` too. A lost connection is
    taken up again; Ctrl-C stops following, not the job, and says how to follow or stop it. Examples:

    \b
      hyperscale submit studies/quickstart.py --address http://HOST:8265 --store /shared/results
      hyperscale submit --follow quickstart-20261126-101500-3f2a
      hyperscale submit --stop   quickstart-20261126-101500-3f2a

    Exit codes: the run's; 130 when following or the job was stopped.
    """  # noqa: D301
    code, data = submit_or_follow(click.get_current_context(), run, as_json=as_json)
    if as_json:
        _print_json(data)
    return code


submit.params += options_of_run(run)


@main.command()
@STUDY
@SEEDS
@STORE
@click.option(
    "--watch", "watching", is_flag=True, help="Look on: nodes, packs, rate, retries, GPUs, time left. Ctrl-C ends it."
)
@JSON
@_verb
def status(study: Path, num_seeds: int | None, store_folder: Path, watching: bool, as_json: bool) -> None:
    """Show where STUDY stands: finished, diverged, failed, running, missing.

    Reads the store only, so it works on any machine that sees the store, whoever runs the study.
    """
    from hyperscale.console import print_status, standard_output, status_data
    from hyperscale.verbs import open_study

    study_file, store = open_study(study, store_folder)
    if watching:
        if as_json:
            raise click.UsageError("--watch is for looking on; --json tells once. Give one of them.")
        from hyperscale.watch_view import watch

        watch(study_file, store, num_seeds, standard_output())
        return
    data = status_data(study_file, store, num_seeds)
    if as_json:
        _print_json(data)
    else:
        print_status(study_file.headline, data)


@main.command()
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="STUDY...")
@click.option(
    "--out",
    "out_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write.  [default: STORE/reports/STUDY-NAME, or STORE/reports/compare-A-B]",
    metavar="DIR",
)
@STORE
@TRACKING
@FROM_MLFLOW
@click.option("--no-mlflow", is_flag=True, help="Do not add the report and its curves to MLflow.")
@click.option("--no-pdf", is_flag=True, help="Write the page and the JSON only.")
@JSON
@_verb
def report(studies: tuple[Path, ...], store_folder: Path, as_json: bool, **options: Any) -> None:
    """Write STUDY's report: verdicts, exponents with intervals, figures, provenance.

    With several studies: one page that compares them instead. Verdicts and exponents side by side, whether the
    exponents differ, envelopes in one figure, what was set differently. All are read from the same store, and their
    own reports are linked where they exist.
    """
    from hyperscale.console import print_comparison, print_verdicts
    from hyperscale.verbs import ReportOptions, compare, open_study, report_study

    how = ReportOptions(**options, command=hidden_command(["hyperscale", *sys.argv[1:]]))
    if len(studies) > 1:
        compared = compare(studies, store_folder, how)
        if as_json:
            _print_json(compared.data)
        else:
            print_comparison([difference["sentence"] for difference in compared.data["differences"]], compared.html)
        return
    written = report_study(*open_study(studies[0], store_folder), how)
    if as_json:
        _print_json(written.data)
    else:
        sentences = [verdict["evidence"]["sentence"] for verdict in written.data["verdicts"]]
        verdicts = [(v.verdict, v.claim, v.reason, s) for v, s in zip(written.verdicts, sentences, strict=True)]
        print_verdicts(verdicts, written.data["troubles"], written.html)


@main.command()
@STUDY
@click.option(
    "--out",
    "out_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="FILE.csv or FILE.parquet.",
    metavar="FILE",
)
@STORE
@TRACKING
@FROM_MLFLOW
@_verb
def export(study: Path, out_file: Path, store_folder: Path, tracking_uri: str | None, from_mlflow: bool) -> None:
    """Write STUDY's trials as a tidy table, one row a trial."""
    from analysis.table import build_table, write_table
    from hyperscale.verbs import open_study, read_records

    study_file, store = open_study(study, store_folder)
    table = build_table(read_records(study_file, store, tracking_uri, from_mlflow=from_mlflow))
    write_table(table, out_file)
    click.echo(f"{out_file}: {len(table)} trials, {len(table.columns)} columns.")


@main.command()
@STUDY
@STORE
@TRACKING
@_verb
def sync(study: Path, store_folder: Path, tracking_uri: str | None) -> None:
    """Add to MLflow what the journal has and MLflow lacks. Never makes duplicates."""
    from hyperscale.verbs import open_study, sync_study

    study_file, store = open_study(study, store_folder)
    added, num_trials = sync_study(study_file, store, tracking_uri)
    if not num_trials:
        click.echo(f"{study_file.study.name}: the journal has no trials yet; nothing to add.")
        return
    click.echo(f"{study_file.study.name}: {added} trials added to MLflow, {num_trials - added} were there already.")


@main.command()
@STORE
@TRACKING
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; beyond this machine: --auth.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to bind.")
@click.option("--auth", is_flag=True, help="Have people log in: user admin, password of MLFLOW_AUTH_ADMIN_PASSWORD.")
@_verb
def ui(store_folder: Path, tracking_uri: str | None, host: str, port: int, auth: bool) -> int:
    """Start the MLflow UI on the store and print its address. Ctrl-C ends it.

    An address that others can reach is refused unless people must log in. MLFLOW_AUTH_ADMIN_PASSWORD (or a file of
    mode 600 that MLFLOW_AUTH_CONFIG_PATH names) turns that on. Behind a proxy of another name, tell MLflow the name in
    MLFLOW_SERVER_ALLOWED_HOSTS and MLFLOW_SERVER_CORS_ALLOWED_ORIGINS.
    """
    from hyperscale.verbs import open_store
    from hyperscale.web_ui import serve

    return serve(open_store(store_folder), tracking_uri, host=host, port=port, auth=auth)


@main.command(cls=ManyPlaces)
@fit_options
@JSON
@_verb
def fit(table: Path, as_json: bool, **options: Any) -> int:
    """Fit a scaling law to columns of any TABLE (CSV or Parquet), and say how far to trust it.

    Prints the law, its parameters, a status with what to do about it, and predictions; draws points, curve and
    residuals. Examples:

    \b
      hyperscale fit runs.csv --x parameters --y loss --predict 1e9 1e10
        loss against size, and the next two sizes predicted
      hyperscale fit runs.csv --x examples --y loss --group task --train seen
        a curve for each task, fitted to rows whose column seen is 1, scored on the others
      hyperscale fit runs.csv --x N --x2 D --y loss --loss huber:1e-3 --bootstrap 4000
        Chinchilla's law of parameters N and tokens D, as its replication fitted it

    \b
    Status: converged       one optimum, and nothing in the data speaks against the law
            not_identified  they do not; the remedy says what would
            bound_hit       a parameter lies at the end of its range
            misfit          the data are not of this form
            failed          with --group: no fit, for the reason given

    Exit codes: 0 a fit, whatever its status; 1 every group failed; 2 bad input.
    """  # noqa: D301
    from hyperscale.fit_view import draw, make_fit, print_fit

    found = make_fit(table, options)
    data, figure = draw(found, table, options["out"], as_json=as_json)
    if as_json:
        _print_json(data)
    else:
        print_fit(found, figure)
    return EXIT_FAILED if found.all_failed else 0


if __name__ == "__main__":
    main(prog_name="hyperscale")
