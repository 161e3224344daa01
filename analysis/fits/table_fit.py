"""A curve fitted to anybody's table: one call from a file or a data frame to records and a figure.

>>> from analysis import fit_table
>>> found = fit_table("runs.csv", x="parameters", y="loss", group="task")      # doctest: +SKIP
>>> found.records[0].fit.parameters, found.figure()                            # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.fits.fitting import CurveFit, find_model, fit_curve
from analysis.fits.losses import Loss
from analysis.fits.prediction import LEVEL
from analysis.fits.selection import ModelAverage, choose_model
from analysis.fits.table_input import (
    LARGEST,
    as_numbers,
    check_columns,
    filter_rows,
    numbers_of,
    read_table,
    split_groups,
    training_mask,
)
from analysis.fits.table_records import FAILED, FitRecord, HeldOut, Points
from hyperscale.errors import AnalysisError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUTO = "auto"
MOST_RESAMPLES = 100_000
"""Sizes to predict at lie between its inverse and this."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TableFit:
    """What `fit_table` found: one record a group (one in all without groups), and the columns it read."""

    records: tuple[FitRecord, ...]
    x: str
    y: str
    x2: str | None = None
    group: tuple[str, ...] = ()
    train: str | None = None
    level: float = LEVEL

    def figure(self) -> Figure:
        """Return a matplotlib figure: points, curves with prediction bands, residuals; log axes.

        Raises `AnalysisError` where no group could be fitted.
        """
        from analysis.fits.fit_figures import plot_fits

        return plot_fits(self.records, x=self.x, y=self.y, x2=self.x2)

    def to_json(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return strict JSON: one object, or with groups a list of them, each with its group."""
        found = [record.to_json() for record in self.records]
        return found if self.group else found[0]

    @property
    def all_failed(self) -> bool:
        """Whether no group could be fitted."""
        return all(record.status == FAILED for record in self.records)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """How each group is to be fitted."""

    columns: dict[str, str]
    model: str
    loss: Loss | None
    train: str | None
    num_resamples: int
    asked: Points | None
    level: float
    seed: int


def fit_table(  # noqa: PLR0913
    table: pd.DataFrame | Path | str,
    *,
    x: str,
    y: str,
    x2: str | None = None,
    model: str = AUTO,
    loss: Loss | str | None = None,
    where: str | None = None,
    group: str | Sequence[str] | None = None,
    train: str | None = None,
    num_resamples: int = 0,
    predict: Sequence[float] | Sequence[tuple[float, float]] = (),
    level: float = LEVEL,
    seed: int = 0,
) -> TableFit:
    """Fit a curve to two columns of a table (three with ``x2``), for each group of rows, and say how far to trust it.

    ``table`` is a data frame, or the path of a CSV or Parquet file. ``model`` is a name of `fits.fitting.MODELS`,
    or ``auto``: the power family weighed by the data; with ``x2`` that is ``chinchilla``. ``loss`` is a `Loss` or its
    text (``huber``, ``huber:DELTA``, ``log-least-squares``, ``least-squares``), by default Huber's of log residuals at
    1.345 robust scales, and for ``auto``, whose models are compared by their squares, squares of log residuals.
    ``where`` is a pandas query expression over the columns. Rows where the column ``train`` is 0 are held out,
    predicted and scored. ``num_resamples`` above 0 bootstraps the points. ``predict`` lists sizes, pairs ``(x, x2)``
    with two inputs; ``level`` is that of prediction intervals (parameters have 95 % intervals).

    Raises `AnalysisError` for what cannot be read or used; with ``group``, a group that cannot be fitted is a record
    of status ``failed`` with the reason as its remedy. The same seed gives the same result.
    """
    columns = {"x": x, "y": y} | ({} if x2 is None else {"x2": x2})
    groups = (group,) if isinstance(group, str) else tuple(dict.fromkeys(group or ()))
    request = _Request(
        columns=columns,
        model=_resolve_model(model, x2),
        loss=Loss.parse(loss) if isinstance(loss, str) else loss,
        train=train,
        num_resamples=_checked_resamples(num_resamples),
        asked=_asked(predict, x2),
        level=_checked_level(level),
        seed=seed,
    )
    rows = read_table(Path(table)) if isinstance(table, str | Path) else table.reset_index(drop=True)
    rows = rows.set_axis([str(column) for column in rows.columns], axis=1)
    if rows.empty:
        raise AnalysisError("The table has a header but no rows; give one with data.")
    roles = columns | {f"group {i + 1}" if len(groups) > 1 else "group": name for i, name in enumerate(groups)}
    check_columns(rows, roles | ({} if train is None else {"train": train}))
    if where is not None:
        rows = filter_rows(rows, where)
    _check_some_numbers(rows, columns)
    records = tuple(
        _fit_group(values, part, request, may_fail=bool(groups)) for values, part in split_groups(rows, groups)
    )
    return TableFit(records=records, x=x, y=y, x2=x2, group=groups, train=train, level=level)


def _resolve_model(model: str, x2: str | None) -> str:
    """Return the model's name, or raise `AnalysisError` where it does not go with the number of sizes."""
    name = model.replace("-", "_")
    if name == AUTO:
        return AUTO if x2 is None else "chinchilla"
    try:
        found = find_model(name)
    except AnalysisError as problem:
        hint = did_you_mean(name, [AUTO])
        raise AnalysisError(str(problem).replace("allowed: ", f"allowed: {AUTO}{hint}, ", 1)) from None
    if found.num_inputs == 2 and x2 is None:
        raise AnalysisError(
            f"The model {found.name} has two sizes ({found.formula}), and only x is given. Name the column of the "
            "second with x2 (--x2), or use a model of one size such as auto."
        )
    if found.num_inputs == 1 and x2 is not None:
        raise AnalysisError(
            f"The model {found.name} has one size ({found.formula}), and x2 is {x2!r}. Leave x2 out, or use the model "
            "chinchilla, which has two."
        )
    return found.name


def _checked_resamples(number: int) -> int:
    if number < 0 or number == 1 or number > MOST_RESAMPLES:
        raise AnalysisError(
            f"The number of bootstrap fits is {number}; allowed: 0 for none, or from 2 to {MOST_RESAMPLES:,} "
            "(1,000 are enough for an interval)."
        )
    return number


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise AnalysisError(f"The level of prediction intervals is {level:g}; allowed: between 0 and 1, such as 0.9.")
    return level


def _asked(predict: Sequence[float] | Sequence[tuple[float, float]], x2: str | None) -> Points | None:
    """Return the sizes to predict at, or raise `AnalysisError` for what is no size, or no pair where a pair is due."""
    if not len(predict):
        return None
    wanted = 1 if x2 is None else 2
    rows = [np.atleast_1d(np.asarray(place, dtype=np.float64)) for place in predict]
    for row in rows:
        given = ",".join(f"{number:g}" for number in row)
        if row.shape != (wanted,):
            form = "one number, x" if wanted == 1 else "a pair x,x2 (such as 1e9,2e10)"
            raise AnalysisError(f"A prediction is asked for at {given}; with this model a place is {form}.")
        if not ((row > 0) & (row >= 1 / LARGEST) & (row <= LARGEST)).all():
            raise AnalysisError(f"A prediction is asked for at {given}; allowed: numbers above 0, up to {LARGEST:g}.")
    sizes = np.stack(rows)
    return Points(x=sizes[:, 0], y=np.full(len(sizes), np.nan), x2=None if wanted == 1 else sizes[:, 1])


def _check_some_numbers(rows: pd.DataFrame, columns: dict[str, str]) -> None:
    """Raise `AnalysisError` for a column without a single number: it was named by mistake, whatever the group."""
    for role, column in columns.items():
        if not as_numbers(rows[column].astype("object")).notna().any():
            numbers_of(rows, role, column)


def _fit_group(group: dict[str, Any], rows: pd.DataFrame, request: _Request, *, may_fail: bool) -> FitRecord:
    """Fit one group's rows; where that cannot be, raise `AnalysisError`, or return a failed record if ``may_fail``."""
    nothing = Points(x=np.empty(0), y=np.empty(0))
    try:
        arrays = {role: numbers_of(rows, role, column) for role, column in request.columns.items()}
        points = Points(x=arrays["x"], y=arrays["y"], x2=arrays.get("x2"))
        training = training_mask(rows, request.train)
        nothing = points.where(training)
        fit, average = _fit_points(points.where(training), request)
    except AnalysisError as problem:
        if not may_fail:
            raise
        return FitRecord(group=group, points=nothing, level=request.level, reason=str(problem))
    record = FitRecord(group=group, points=points.where(training), fit=fit, average=average, level=request.level)
    if not training.all():
        record = replace(record, held_out=_score(record, points.where(~training)))
    if request.asked is not None:
        prediction = record.predict(request.asked)
        record = replace(record, predictions=prediction, asked=replace(request.asked, y=prediction.y))
    return record


def _fit_points(points: Points, request: _Request) -> tuple[CurveFit, ModelAverage | None]:
    """Return the fit, and the models it was chosen from where the model is ``auto``."""
    _check_spread(points, request)
    if request.model == AUTO:
        average = choose_model(
            points.x, points.y, loss=request.loss, seed=request.seed, num_resamples=request.num_resamples
        )
        return average.chosen, average
    fit = fit_curve(
        points.x,
        points.y,
        x2=points.x2,
        model=request.model,
        loss=request.loss,
        num_resamples=request.num_resamples,
        seed=request.seed,
    )
    return fit, None


def _check_spread(points: Points, request: _Request) -> None:
    """Raise `AnalysisError` for too few points or a constant size, in the table's words."""
    if not len(points):
        raise AnalysisError(
            f"Every row is held out: the column {request.train!r} (train) is 0 throughout. Set it to 1 in the rows to "
            "fit, or leave train out."
        )
    for role, values in (("x", points.x), ("x2", points.x2)):
        if values is not None and np.unique(values).size < 2:
            where = "the one row" if len(values) == 1 else f"each of the {len(values)} rows"
            raise AnalysisError(
                f"The column {request.columns[role]!r} ({role}) is {values[0]:g} in {where} to fit; a curve needs at "
                "least two sizes. Add rows of other sizes, or loosen where."
            )
    needed = 2 if request.model == AUTO else find_model(request.model).num_parameters
    if len(points) < needed:
        raise AnalysisError(
            f"The model {request.model} has {needed} parameters, and there are {len(points)} rows to fit; give at "
            "least as many, or use a model with fewer parameters (power has 2)."
        )


def _score(record: FitRecord, held_out: Points) -> HeldOut:
    """Predict the rows held out and score them."""
    prediction = record.predict(held_out)
    misses = np.log(prediction.y) - np.log(held_out.y)
    known = np.isfinite(prediction.low) & np.isfinite(prediction.high)
    inside = (prediction.low <= held_out.y) & (held_out.y <= prediction.high)
    return HeldOut(
        points=held_out,
        prediction=prediction,
        rmsle=math.sqrt(float(np.mean(misses**2))),
        coverage=float(inside.mean()) if known.all() else None,
    )
