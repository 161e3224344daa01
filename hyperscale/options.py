"""The options that verbs share, what they take (sizes of memory, numbers to predict at), and the options of `fit`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click

from hyperscale.recording.credentials import has_password, hidden
from hyperscale.recording.remote import why_no_store


class MemorySize(click.ParamType[int]):
    """A size of memory: a number with B, KiB, MiB, GiB, KB, MB or GB; bytes where nothing follows."""

    name = "size"
    _UNITS: ClassVar = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
    _UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ARG002
        """Return the number of bytes."""
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(value).lower())
        size = float(match.group(1)) * self._UNITS.get(match.group(2), 0) if match else 0.0
        if not 0 < size < math.inf:
            self.fail(f"{value!r} is not a size; allowed: a number above 0 with a unit, such as 500MiB or 2GiB.")
        return max(1, int(size))


class StorePlace(click.Path):
    """A folder or URL for a store; what looks like a URL and is none, or keeps nothing, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, which may stand for a URL."""
        text = str(os.fspath(value))
        wrong = why_no_store(text)
        if wrong:
            self.fail(f"{hidden(text)!r} {wrong}; allowed: a folder, or a URL such as s3://BUCKET/FOLDER.")
        return super().convert(value, param, ctx)


class Place(click.ParamType[tuple[float, ...]]):
    """A size to predict at, or with two sizes the pair ``X,X2``."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:  # noqa: ARG002
        """Return one number, or as many as there are between commas."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no number; allowed: X, such as 1e9, or with --x2 the pair X,X2, such as 1e9,2e10.")


class ManyPlaces(click.Command):
    """A command whose ``--predict`` takes all the numbers that follow it, not only the first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``--predict`` before each of the numbers, which is the form that click knows."""
        words: list[str] = []
        following = False
        for word in args:
            if words and words[-1] == "--predict":
                words.append(word)
                following = True
            elif following and is_place(word):
                words += ["--predict", word]
            else:
                words.append(word)
                following = word.startswith("--predict=")
        return super().parse_args(ctx, words)


def is_place(word: str) -> bool:
    """Whether a word of the command line is a number, or numbers with commas between."""
    try:
        return bool([float(part) for part in word.split(",")])
    except ValueError:
        return False


def refuse_password(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the option's value; a password in it may come from the environment, not from the command line."""
    source = context.get_parameter_source(option.name or "")
    if value and source is click.core.ParameterSource.COMMANDLINE and has_password(value):
        variable = option.envvar if isinstance(option.envvar, str) else "the environment"
        raise click.UsageError(
            f"{option.opts[0]} has a password in it, which everybody on this machine can read in the list of "
            f"processes. Give the address without it on the command line, or the whole of it in {variable} instead."
        )
    return value


_FIT_OPTIONS = (
    click.argument("table", type=click.Path(path_type=Path), metavar="TABLE"),
    click.option("--x", required=True, help="Column of sizes.", metavar="COL"),
    click.option("--y", required=True, help="Column of errors or losses, above 0.", metavar="COL"),
    click.option("--x2", help="Column of a second size: Chinchilla's law.", metavar="COL"),
    click.option(
        "--model",
        default="auto",
        show_default=True,
        help="auto: the power family, weighed by the data (with --x2: chinchilla). Or power, power-floor, "
        "broken-power, twice-broken-power, broken-power-floor, two-powers, two-terms, corrected-power, saturating, "
        "log-corrected, root-exponential, exponential, chinchilla.",
        metavar="NAME",
    ),
    click.option(
        "--loss",
        help="huber (of log residuals, bending at 1.345 robust scales), huber:DELTA, log-least-squares, or "
        "least-squares (of y itself).  [default: huber; with --model auto log-least-squares]",
        metavar="LOSS",
    ),
    click.option("--where", help="Keep rows where this holds, such as \"N > 1e6 and Task == 'a'\".", metavar="EXPR"),
    click.option(
        "--group", multiple=True, help="A fit for each value of COL; several make combinations.", metavar="COL"
    ),
    click.option("--train", help="Rows where COL is 0 are held out, predicted and scored.", metavar="COL"),
    click.option(
        "--bootstrap",
        "num_resamples",
        type=int,
        default=0,
        help="Standard errors and intervals from B refits to redrawn rows.  [default: from the loss's curvature]",
        metavar="B",
    ),
    click.option(
        "--predict", type=Place(), multiple=True, help="Sizes to predict y at; with --x2 pairs X,X2.", metavar="X..."
    ),
    click.option("--level", type=float, default=0.9, show_default=True, help="Level of the prediction intervals."),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of starts and redraws."
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Where to draw: a folder, or FILE.png, .svg or .pdf.  [default: results/fits; with --json nowhere]",
        metavar="PATH",
    ),
)


STUDY = click.argument("study", type=click.Path(path_type=Path), metavar="STUDY")
STORE = click.option(
    "--store",
    "store_folder",
    type=StorePlace(path_type=Path, file_okay=False),
    default="results",
    envvar="HYPERSCALE_STORE",
    show_default=True,
    show_envvar=True,
    help="Folder, or URL such as s3://BUCKET/FOLDER, of the journal, checkpoints and reports.",
)
SEEDS = click.option(
    "--seeds", "num_seeds", type=click.IntRange(min=1), help="Only the study's first N seeds.", metavar="N"
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else there.")
TRACKING = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    callback=refuse_password,
    help="MLflow tracking URI.  [default: SQLite in the store]",
)
FROM_MLFLOW = click.option(
    "--from-mlflow", is_flag=True, help="Read the trials from MLflow; the store's journal is not needed."
)
MAX_PACK = click.option(
    "--max-pack", "max_pack", type=click.IntRange(min=1), help="Most trials in a pack.  [default: as measurements say]"
)
PACK_MEMORY = click.option(
    "--pack-memory",
    "pack_memory",
    type=MemorySize(),
    help="Most memory a pack may take, such as 500MiB or 2GiB.  [default: a share of the device]",
    metavar="SIZE",
)

_ENDURANCE_OPTIONS = (
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="How often a pack whose worker is lost begins again before it is halved.",
    ),
    click.option(
        "--silence-limit",
        "silence_limit_s",
        type=click.FloatRange(min=1),
        default=1800.0,
        show_default=True,
        help="Seconds without a word after which Ray's worker of a pack is ended and the pack begins again.",
        metavar="S",
    ),
    click.option(
        "--pack-time-limit",
        "pack_time_limit_s",
        type=click.FloatRange(min=1),
        help="Seconds a pack may take on a worker of Ray's.  [default: 20 times its estimate, an hour at least]",
        metavar="S",
    ),
    click.option(
        "--checkpoint-interval",
        "checkpoint_interval_s",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        envvar="HYPERSCALE_CHECKPOINT_INTERVAL_S",
        show_envvar=True,
        help="Seconds between a pack's checkpoints: the most work that a fault costs.",
        metavar="S",
    ),
)


def endurance_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of what it bears: retries, limits of time, checkpoints."""
    for option in reversed(_ENDURANCE_OPTIONS):
        function = option(function)
    return function


def fit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the table and the options of `fit`."""
    for option in reversed(_FIT_OPTIONS):
        function = option(function)
    return function
