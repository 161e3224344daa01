"""The verb `submit`: a study and its project to a Ray cluster's job server, followed to its end."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperscale.errors import ResourceError, StudyError
from hyperscale.options import MemorySize, StorePlace

if TYPE_CHECKING:
    from hyperscale.dispatch.following import Follower, JobRequest, JobState
    from hyperscale.dispatch.ray_jobs import RayJobs

EXIT_INTERRUPTED = 130
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_MOST_BRANCHES = 2000
_NOT_OF_RUN = {"study", "store_folder", "address", "executor", "as_json"}
_STOP_LIKE_CTRL_C = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_OPTIONS = (
    click.argument("study", required=False, type=click.Path(path_type=Path), metavar="[STUDY]"),
    click.option(
        "--address",
        default=DEFAULT_ADDRESS,
        envvar="RAY_API_SERVER_ADDRESS",
        show_default=True,
        show_envvar=True,
        help="The cluster's dashboard.",
        metavar="URL",
    ),
    click.option(
        "--store",
        type=StorePlace(),
        envvar="HYPERSCALE_STORE",
        show_envvar=True,
        help="Where the cluster keeps the results: an absolute path that its nodes see, or a URL.",
        metavar="STORE",
    ),
    click.option(
        "--working-dir",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="What to send with the study.  [default: nearest folder above it with pyproject.toml or .git]",
        metavar="DIR",
    ),
    click.option(
        "--max-upload",
        type=MemorySize(),
        default="100MiB",
        show_default=True,
        help="Most to send; a single file above a quarter of it is left out, and named.",
        metavar="SIZE",
    ),
    click.option(
        "--env",
        "env_names",
        multiple=True,
        help="Pass this variable on with its value here, which is not shown. (Who may read the cluster's logs finds it "
        "there.) May be repeated.",
        metavar="NAME",
    ),
    click.option(
        "--runtime-env",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A Ray runtime environment (pip, env_vars, excludes, ...) for the job.",
        metavar="FILE.yaml",
    ),
    click.option(
        "--resubmit",
        "most_resubmits",
        type=click.IntRange(min=0),
        default=3,
        show_default=True,
        help="Submit anew at most N times where the head was restarted or the driver killed.",
        metavar="N",
    ),
    click.option("--no-follow", is_flag=True, help="Return once the job is submitted."),
    click.option("--follow", "follow_id", help="Follow this job instead of submitting one.", metavar="ID"),
    click.option("--stop", "stop_id", help="Stop this job instead; what is finished is kept.", metavar="ID"),
)


def submit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of `submit`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def options_of_run(run: click.Command) -> list[click.Parameter]:
    """Return the options of `run` that `submit` passes on."""
    return [option for option in run.params if option.name not in _NOT_OF_RUN]


def words_of_run(context: click.Context, run: click.Command) -> list[str]:
    """Return what the command line gave of the options of `run`, as words for its own command line."""
    words = []
    for option in options_of_run(run):
        name = option.name or ""
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            _say(f"Not passed on: the variable behind {option.opts[0]}, which is set here. --env NAME passes one on.")
        if source is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(option, click.Option) and option.is_flag:
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for item in value if option.multiple else [value]:
            words += [option.opts[0], *(str(part) for part in (item if option.nargs > 1 else [item]))]
    return words


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """How a study is to be submitted; ``words`` are the options of `run`."""

    address: str
    store: str | None
    working_dir: Path | None
    max_upload: int
    env_names: Sequence[str]
    runtime_env: Path | None
    most_resubmits: int
    no_follow: bool
    as_json: bool
    words: Sequence[str]


def submit_or_follow(context: click.Context, run: click.Command, *, as_json: bool) -> tuple[int, dict[str, Any]]:
    """Do what the command line of `submit` asks; return the exit code and what --json prints."""
    given = context.params
    study, follow_id, stop_id = given["study"], given["follow_id"], given["stop_id"]
    if sum(word is not None for word in (study, follow_id, stop_id)) != 1:
        raise click.UsageError("Give one of: STUDY to submit it, --follow ID, --stop ID.")
    if stop_id is not None:
        return stop_job(given["address"], stop_id)
    if follow_id is not None:
        return follow_job(given["address"], follow_id, as_json=as_json)
    words = words_of_run(context, run)
    run.make_context("run", [str(study), *words])  # a word that `run` would refuse is refused here
    names = ("address", "store", "working_dir", "max_upload", "env_names", "runtime_env", "most_resubmits", "no_follow")
    return submit_study(study, Submission(**{name: given[name] for name in names}, as_json=as_json, words=words))


def submit_study(study: Path, how: Submission) -> tuple[int, dict[str, Any]]:
    """Submit a study and, unless told otherwise, follow it; return the exit code and what --json prints."""
    from hyperscale.dispatch.following import JobRequest, submit_patiently
    from hyperscale.dispatch.ray_jobs import RayJobs
    from hyperscale.dispatch.upload import find_root, gather_project
    from hyperscale.study import load_study

    study_file = load_study(study)
    root = (how.working_dir or find_root(study)).resolve()
    entrypoint = entrypoint_of(study, root, how.store, how.words)
    runtime_env, excludes = make_runtime_env(how.runtime_env, how.env_names)
    project = gather_project(root, study, limit_bytes=how.max_upload, excludes=excludes)
    for name, reason in project.left_out:
        _say(f"Not sent: {name} ({reason}).")
    server = RayJobs(how.address)
    with tempfile.TemporaryDirectory(prefix="hyperscale-submit-") as scratch:
        archive = Path(scratch) / "project.zip"
        project.write_archive(archive)
        request = JobRequest(
            submission_id=f"{study_file.study.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
            entrypoint=entrypoint,
            archive=archive,
            runtime_env=runtime_env,
        )
        follower = _follower(server, as_json=how.as_json)
        submit_patiently(follower, request)
        size = f"{len(project.files):,} files, {project.size_bytes / 2**20:.1f} MiB"
        _say(f"Submitted {request.submission_id} to {server.shown} ({size} of {root}).")
        if not how.no_follow:
            return _follow(follower, request, how.most_resubmits)
    if not how.as_json:
        click.echo(request.submission_id)
    _say(_how_to_go_on(server, request.submission_id))
    return 0, _data(server, request.submission_id, None, 0)


def follow_job(address: str, submission_id: str, *, as_json: bool) -> tuple[int, dict[str, Any]]:
    """Follow a job that was submitted before; return its exit code and what --json prints."""
    from hyperscale.dispatch.following import JobRequest
    from hyperscale.dispatch.ray_jobs import RayJobs

    server = RayJobs(address)
    if server.state(submission_id) is None:
        raise ResourceError(f"The cluster at {server.shown} knows no job {submission_id!r}.")
    request = JobRequest(submission_id=submission_id, entrypoint="", archive=Path())
    return _follow(_follower(server, as_json=as_json), request, 0)


def stop_job(address: str, submission_id: str) -> tuple[int, dict[str, Any]]:
    """Ask a job to end; return the exit code and what --json prints."""
    from hyperscale.dispatch.ray_jobs import RayJobs

    server = RayJobs(address)
    if server.stop(submission_id):
        _say(f"Job {submission_id} is being stopped; what is finished is kept. Submit the study again to go on.")
    else:
        _say(f"Job {submission_id} was not running any more.")
    return 0, _data(server, submission_id, server.state(submission_id), 0)


def _follow(follower: Follower, request: JobRequest, most_resubmits: int) -> tuple[int, dict[str, Any]]:
    from hyperscale.dispatch.following import LostConnectionError, run_through

    server: Any = follower.server
    try:
        request, state = run_through(follower, request, most_resubmits=most_resubmits)
    except KeyboardInterrupt:
        _say(f"Following stopped. {_how_to_go_on(server, follower.following)}")
        return EXIT_INTERRUPTED, _data(server, follower.following, None, EXIT_INTERRUPTED)
    except LostConnectionError as problem:
        raise ResourceError(f"{problem} {_how_to_go_on(server, follower.following)}") from problem
    code = state.code() if state is not None else 1
    if state is not None and state.exit_code is None and state.status == "FAILED":
        _say(f"Job {request.submission_id} failed: {_last_lines(state.message)}")
    elif state is not None:
        _say(f"Job {request.submission_id}: {state.status.lower()}, exit code {code}.")
    return code, _data(server, request.submission_id, state, code)


def entrypoint_of(study: Path, root: Path, store: str | None, words: Sequence[str]) -> str:
    """Return the shell command of the job, with every word quoted that needs it."""
    from hyperscale.dispatch.upload import check_no_password, check_store, study_below

    if store is None:
        raise StudyError("submit needs --store (or HYPERSCALE_STORE): where the cluster keeps the results.")
    check_store(store)
    check_no_password([store, *words])
    command = ["python", "-m", "hyperscale.cli", "run", f"./{study_below(study, root)}", "--address", "auto"]
    return shlex.join([*command, "--store", store, *words])


def make_runtime_env(file: Path | None, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the job's runtime environment, and the patterns of files that it excludes from the upload."""
    given = _read_runtime_env(file) if file else {}
    variables = {**_STOP_LIKE_CTRL_C, **given.pop("env_vars", {})}
    for name in names:
        if not _NAME.fullmatch(name) or name not in os.environ:
            raise StudyError(
                f"--env {name.partition('=')[0]!r}: no such variable here. Give the name of one that is set; its value "
                "is passed on without being shown: export NAME=..., then --env NAME."
            )
        variables[name] = os.environ[name]
    excludes = given.pop("excludes", [])
    return {**given, "env_vars": variables}, [str(pattern) for pattern in excludes]


def _read_runtime_env(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or raise `StudyError` saying what is wrong, without any value."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        if sum(map(text.count, "[{?-")) > _MOST_BRANCHES:  # thousands of open brackets take a parser minutes
            raise StudyError(f"--runtime-env {file}: allowed: at most {_MOST_BRANCHES:,} lists, entries and mappings.")
        given = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise StudyError(f"--runtime-env {file}: cannot be read as YAML{where}: {type(problem).__name__}.") from None
    if not isinstance(given, Mapping):
        raise StudyError(f"--runtime-env {file}: allowed: a mapping such as pip: [einops], not {type(given).__name__}.")
    if "working_dir" in given:
        raise StudyError(f"--runtime-env {file}: sets working_dir; that is --working-dir of submit.")
    variables, excludes = given.get("env_vars") or {}, given.get("excludes") or []
    texts = [text for pair in variables.items() for text in pair] if isinstance(variables, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise StudyError(f"--runtime-env {file}: env_vars is a mapping of texts; put numbers and yes or no in quotes.")
    if not isinstance(excludes, list):
        raise StudyError(f"--runtime-env {file}: excludes is a list of patterns, as in .gitignore.")
    return {**given, "env_vars": dict(variables), "excludes": excludes}


def _follower(server: RayJobs, *, as_json: bool) -> Follower:
    from hyperscale.dispatch.following import Follower

    return Follower(server=server, write=lambda text: click.echo(text, nl=False, err=as_json), say=_say)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _how_to_go_on(server: RayJobs, submission_id: str) -> str:
    command = f"hyperscale submit --address {shlex.quote(server.shown)}"
    return (
        f"Job {submission_id} goes on.\n  follow it: {command} --follow {submission_id}"
        f"\n  stop it:   {command} --stop {submission_id}"
    )


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-10:])[-2000:] or "no reason given"


def _data(server: RayJobs, submission_id: str, state: JobState | None, code: int) -> dict[str, Any]:
    status = state.status if state is not None else None
    return {"submission_id": submission_id, "address": server.shown, "status": status, "exit_code": code}
