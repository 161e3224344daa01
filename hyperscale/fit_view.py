"""What `hyperscale fit` does and shows: the law, its parameters, how far to trust it, and where the figure is."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.fits.fitting import MODELS, CurveFit, Estimate
from analysis.fits.table_fit import TableFit, fit_table
from analysis.fits.table_records import FitRecord
from hyperscale.console import escaped, standard_output
from hyperscale.errors import AnalysisError

FOLDER = Path("results") / "fits"
_ENDINGS = (".png", ".svg", ".pdf")
_COLOURS = {"converged": "green", "failed": "red"}
_WORDS = {
    "converged": "converged: one optimum, and nothing in the data speaks against this law",
    "not_identified": "not identified: the data do not determine this law",
    "bound_hit": "bound hit: a parameter lies at the end of its range",
    "misfit": "misfit: the data are not of this form",
    "failed": "failed",
}


def make_fit(table: Path, options: Mapping[str, Any]) -> TableFit:
    """Fit a table as the command line's options say."""
    known = ("x", "y", "x2", "model", "loss", "where", "train", "num_resamples", "level", "seed")
    if options["out"] is not None:
        _check_ending(options["out"])
    places: Sequence[tuple[float, ...]] = options["predict"]
    predict: Any = [place[0] if len(place) == 1 else place for place in places]
    return fit_table(table, **{name: options[name] for name in known}, group=options["group"], predict=predict)


def _check_ending(out: Path) -> None:
    if out.suffix and not out.is_dir() and out.suffix.lower() not in _ENDINGS:
        raise AnalysisError(f"--out is {out}; allowed: a folder, or a file that ends in {', '.join(_ENDINGS)}.")


def draw(
    found: TableFit, table: Path, out: Path | None, *, as_json: bool
) -> tuple[dict[str, Any] | list[dict[str, Any]], Path | None]:
    """Write the figure, unless there is nothing to draw or only JSON is asked for; return the JSON, and its path."""
    data = found.to_json()
    figure = None
    if not found.all_failed and not (as_json and out is None):
        figure = _figure_path(found, table, out or FOLDER)
        try:
            figure.parent.mkdir(parents=True, exist_ok=True)
            found.figure().savefig(figure, dpi=160)
        except OSError as problem:
            raise AnalysisError(
                f"The figure cannot be written to {figure} ({problem.strerror}). Name another place with --out."
            ) from problem
    for one in data if isinstance(data, list) else [data]:
        one["figure"] = None if figure is None else str(figure)
    return data, figure


def _figure_path(found: TableFit, table: Path, out: Path) -> Path:
    """Return ``out`` if it is a file's name, else a name in that folder made of the table's and the columns'."""
    if out.suffix.lower() in _ENDINGS and not out.is_dir():
        return out
    words = [table.stem, found.y, "against", found.x, *([found.x2] if found.x2 else [])]
    words += ["by", *found.group] if found.group else []
    return out / (re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)).strip("-.") + ".png")


def print_fit(found: TableFit, figure: Path | None) -> None:
    """Print one fit in full, or a line for each group."""
    console = standard_output()
    if found.group:
        _print_groups(console, found)
    else:
        _print_one(console, found, found.records[0])
    if figure is not None:
        console.print(f"Figure: {escaped(str(figure))}", highlight=False)


def _print_one(console: Console, found: TableFit, record: FitRecord) -> None:
    fit = record.fit
    assert fit is not None
    say = functools.partial(console.print, highlight=False)
    x2 = f", x2 = {found.x2}" if found.x2 else ""
    say(escaped(f"y = {found.y}, x = {found.x}{x2}: {fit.num_points} points"))
    say()
    say(f"[bold]{escaped(record.equation)}[/bold]")
    say(escaped(f"{_named(fit.model)}, {fit.formula}"))
    say(_how(fit))
    if record.average is not None:
        say(escaped(_named(record.average.agreement)))
        if record.averaged:
            also = "" if record.average.agreed else " and the exponent"
            say(escaped(f"Predictions{also} average {_members(record)}; the law shown is {_named(fit.model)}'s."))
    console.print(_parameters(fit))
    exponent = record.exponent
    if exponent is not None:
        say(f"exponent{_which(fit)}: [bold]{_with_interval(exponent)}[/bold]")
    _say_status(console, record)
    if record.predictions is not None:
        console.print(_predictions(found, record))
    if record.held_out is not None:
        say(_held_out_line(found, record))
    if record.extrapolation:
        say(escaped(f"Extrapolation: {record.extrapolation}"))


def _named(model: str) -> str:
    return model.replace("_", " ")


def _which(fit: CurveFit) -> str:
    """Name the parameter that is the exponent, where the formula has several."""
    name = MODELS[fit.model].exponent
    return f" ({name}, of x)" if fit.model == "chinchilla" else f" ({name})"


def _how(fit: CurveFit) -> str:
    """Say how it was fitted: loss, objective, starts."""
    starts = (
        "solved in one step"
        if fit.num_starts == 1
        else f"{fit.num_agreeing} of {fit.num_starts} starts ended at this optimum"
    )
    criterion = f"AICc {fit.aicc:.1f}" if math.isfinite(fit.aicc) else "AICc unknown (too few points)"
    return f"{fit.loss.title}; objective {fit.objective:.6g}, {criterion}; {starts}"


def _members(record: FitRecord) -> str:
    assert record.average is not None
    members = [member for member in record.average.members if member.weight >= 0.005]
    return ", ".join(f"{_named(member.fit.model)} ({100 * member.weight:.0f} %)" for member in members)


def _parameters(fit: CurveFit) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=True)
    where = f"{len(fit.draws):,} bootstrap fits" if len(fit.draws) else "from the loss's curvature"
    table.add_column("parameter")
    for name in ("estimate", "standard error", f"{100 * fit.level:g} % interval ({where})"):
        table.add_column(name, justify="right")
    for name, estimate in fit.parameters.items():
        error = "unknown" if estimate.standard_error is None else f"{estimate.standard_error:.3g}"
        digits = _digits(estimate.interval, least=6)
        table.add_row(name, f"{estimate.estimate:.{digits}g}", error, _interval(estimate.interval))
    return table


def _interval(interval: tuple[float, float] | None) -> str:
    """Return an interval with enough digits for its ends to differ."""
    if interval is None or not all(map(math.isfinite, interval)):
        return "unknown"
    digits = _digits(interval)
    return f"{interval[0]:.{digits}g} to {interval[1]:.{digits}g}"


def _digits(interval: tuple[float, float] | None, least: int = 4) -> int:
    """Return how many digits tell an interval's ends apart."""
    if interval is None or not 0 < interval[1] - interval[0] < math.inf:
        return least
    size = max(abs(end) for end in interval)
    return min(max(least, math.ceil(math.log10(size / (interval[1] - interval[0]))) + 2), 10)


def _with_interval(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{estimate.estimate:.4g}"
    return f"{estimate.estimate:.{_digits(estimate.interval)}g} ({_interval(estimate.interval)})"


def _say_status(console: Console, record: FitRecord) -> None:
    colour = _COLOURS.get(record.status, "yellow")
    console.print(f"status: [{colour}]{_WORDS[record.status]}[/{colour}]", highlight=False)
    if record.remedy:
        remedy = record.remedy[0].upper() + record.remedy[1:]
        console.print(escaped(f"  {remedy}" + ("" if remedy.endswith(".") else ".")), highlight=False)


def _predictions(found: TableFit, record: FitRecord) -> Table:
    asked, predictions = record.asked, record.predictions
    assert asked is not None
    assert predictions is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = [found.x, *([found.x2] if found.x2 else []), f"predicted {found.y}", f"{100 * record.level:g} % interval"]
    for name in heads:
        table.add_column(escaped(name), justify="right")
    for i in range(len(asked)):
        second = [] if asked.x2 is None else [f"{asked.x2[i]:.4g}"]
        low, high = predictions.low[i], predictions.high[i]
        table.add_row(f"{asked.x[i]:.4g}", *second, f"{predictions.y[i]:.4g}", _interval((low, high)))
    return table


def _held_out_line(found: TableFit, record: FitRecord) -> str:
    held_out = record.held_out
    assert held_out is not None
    inside = "" if held_out.coverage is None else (
        f"; {100 * held_out.coverage:.0f} % of them inside the {100 * record.level:g} % interval"
    )  # fmt: skip
    return escaped(f"held out ({found.train} is 0): {len(held_out.points)} rows, RMSLE {held_out.rmsle:.4f}{inside}")


def _print_groups(console: Console, found: TableFit) -> None:
    """Print a line for each group, and why some failed or are in doubt."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in found.group:
        table.add_column(escaped(name), overflow="fold")
    scored = any(record.held_out is not None for record in found.records)
    asked = next((record.asked for record in found.records if record.asked is not None), None)
    table.add_column("law")
    heads = ["points", "exponent (95 % interval)"] + (["RMSLE", "inside"] if scored else [])
    heads += [f"at {place:.4g}" for place in (asked.x if asked is not None else ())]
    for name in heads:
        table.add_column(name, justify="right")
    table.add_column("status")
    for record in found.records:
        table.add_row(*_group_row(record, scored=scored, num_asked=0 if asked is None else len(asked)))
    console.print(table)
    _say_summary(console, found)


def _group_row(record: FitRecord, *, scored: bool, num_asked: int) -> list[str]:
    cells = ["" if value is None else escaped(str(value)) for value in record.group.values()]
    cells += ["–" if record.fit is None else _named(record.fit.model), str(len(record.points))]
    cells.append("–" if record.exponent is None else _with_interval(record.exponent))
    if scored:
        held_out = record.held_out
        cells.append("–" if held_out is None else f"{held_out.rmsle:.4f}")
        known = held_out is not None and held_out.coverage is not None
        cells.append(
            f"{100 * held_out.coverage:.0f} %" if known and held_out and held_out.coverage is not None else "–"
        )
    predictions = record.predictions
    cells += ["–"] * num_asked if predictions is None else [f"{value:.4g}" for value in predictions.y]
    colour = _COLOURS.get(record.status, "yellow")
    return [*cells, f"[{colour}]{_named(record.status)}[/{colour}]"]


def _say_summary(console: Console, found: TableFit) -> None:
    """Say the groups' scores together, and each remedy once with the groups it is for."""
    held_out = [record.held_out for record in found.records if record.held_out is not None]
    if held_out:
        import numpy as np

        scores = np.array([one.rmsle for one in held_out])
        known = [one for one in held_out if one.coverage is not None]
        inside = sum((one.coverage or 0.0) * len(one.points) for one in known)
        total = sum(len(one.points) for one in known)
        text = f"held out ({found.train} is 0): RMSLE median {np.median(scores):.4f}, mean {scores.mean():.4f}"
        if total:
            text += f"; {100 * inside / total:.0f} % of {total:,} rows inside the {100 * found.level:g} % interval"
        console.print(escaped(text), highlight=False)
    remedies: dict[str, list[str]] = {}
    for record in found.records:
        if record.remedy:
            name = " ".join(str(value) for value in record.group.values())
            remedies.setdefault(f"{_named(record.status)}: {record.remedy}", []).append(name)
    for text, names in remedies.items():
        who = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.print(escaped(f"{who}: {text}"), highlight=False)
