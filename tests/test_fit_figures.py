"""Tests of `analysis.fits.fit_figures`: what is drawn, read off the axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis import fit_table
from analysis.fits.fit_figures import MAX_PANELS, NUM_ISO
from hyperscale.errors import AnalysisError
from tests.test_table_fit import chinchilla_table, power_table


def panels(figure: Figure) -> list[Axes]:
    """Return the axes that show data, without colour bars."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def words(figure: Figure) -> list[str]:
    """Return the texts of the figure's legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_fit_shows_points_curve_band_and_residuals() -> None:
    """Log axes with the columns' names; the curve is the fit's; residuals below are observed less fitted in logs."""
    table = power_table(9, noise=0.1)
    found = fit_table(table, x="N", y="loss", model="power", predict=[10_000.0])
    figure = found.figure()
    main, below = panels(figure)
    assert (main.get_xscale(), main.get_yscale()) == ("log", "log")
    assert (main.get_ylabel(), below.get_xlabel()) == ("loss", "N")
    inside, beyond, points, asked = main.lines
    fit = found.records[0].fit
    assert fit is not None
    for curve in (inside, beyond):
        assert np.allclose(curve.get_ydata(), fit.predict(np.asarray(curve.get_xdata(), dtype=float)))
    assert max(inside.get_xdata()) <= table["N"].max() < max(beyond.get_xdata()) * 1.0001
    assert beyond.get_linestyle() == "--"
    assert np.allclose(points.get_ydata(), table["loss"])
    assert np.allclose(asked.get_xdata(), [10_000.0])
    assert np.allclose(below.lines[1].get_ydata(), np.log(table["loss"]) - np.log(fit.predict(table["N"].to_numpy())))
    (interval,) = [part for part in main.collections if isinstance(part, LineCollection)]
    drawn = interval.get_segments()[0][:, 1]
    predictions = found.records[0].predictions
    assert predictions is not None
    assert np.allclose(drawn, [predictions.low[0], predictions.high[0]])
    assert words(figure) == ["observed", words(figure)[1], "90 % of new points", "predicted"]
    assert words(figure)[1].startswith("y = ")


def test_held_out_rows_are_rings_in_both_panels() -> None:
    """Rows held out are drawn unlike fitted ones, and their misses below."""
    table = power_table(12, noise=0.05).assign(train=[1] * 9 + [0] * 3)
    figure = fit_table(table, x="N", y="loss", model="power", train="train").figure()
    main, below = panels(figure)
    rings = [line for axes in (main, below) for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in rings] == [3, 3]
    assert np.allclose(rings[0].get_ydata(), table["loss"][9:])
    assert "held out" in words(figure)


def test_each_group_has_a_panel_and_a_failed_one_none() -> None:
    """Panels carry the group's values and exponent; a group without a fit is left out."""
    table = pd.concat([power_table(8, slope=s).assign(task=f"s{s}") for s in (0.5, 1.0, 2.0)], ignore_index=True)
    table.loc[0, "loss"] = -1.0
    figure = fit_table(table, x="N", y="loss", model="power", group="task").figure()
    titles = [axes.get_title(loc="left") for axes in panels(figure) if axes.get_title(loc="left")]
    assert [title.split("\n")[0] for title in titles] == ["s1.0", "s2.0"]
    assert titles[0].split("\n")[1].startswith("exponent 1")
    assert len(panels(figure)) == 4


def test_doubt_is_written_on_the_panel() -> None:
    """A group whose law is not identified says so, instead of an error bar."""
    table = pd.concat([power_table(8, noise=0.1, seed=seed).assign(task=seed) for seed in (0, 1)])
    found = fit_table(table, x="N", y="loss", model="broken-power", group="task")
    assert {record.status for record in found.records} <= {"not_identified", "bound_hit"}
    titles = [axes.get_title(loc="left") for axes in panels(found.figure()) if axes.get_title(loc="left")]
    assert all("identified" in title or "bound hit" in title for title in titles)
    assert not any("±" in title for title in titles)


def test_many_groups_are_cut_and_it_is_said() -> None:
    """At most 24 panels, without residuals; the figure says how many there are."""
    table = pd.concat([power_table(4).assign(task=task) for task in range(MAX_PANELS + 3)])
    figure = fit_table(table, x="N", y="loss", model="power", group="task").figure()
    assert len(panels(figure)) == MAX_PANELS
    assert figure.get_suptitle().startswith("the first 24 of 27 groups")


def test_two_sizes_show_lines_of_the_second_and_the_agreement() -> None:
    """Five lines of equal D, the points in D's colours, residuals, and fitted against observed on one scale."""
    found = fit_table(chinchilla_table(), x="N", x2="D", y="loss", predict=[(1e10, 1e12)])
    figure = found.figure()
    main, below, beside = panels(figure)
    assert len([line for line in main.lines if len(line.get_xdata()) > 100]) == NUM_ISO
    assert len(main.collections[0].get_offsets()) == 120
    assert len(below.lines[1].get_xdata()) == 120
    assert beside.get_xlabel() == "observed loss"
    assert np.allclose(beside.lines[0].get_xdata(), beside.lines[0].get_ydata())
    assert any(axes.get_label() == "<colorbar>" and axes.get_ylabel() == "D" for axes in figure.axes)


def test_exact_data_have_a_flat_residual_panel() -> None:
    """Residuals of rounding size are not blown up into a pattern."""
    figure = fit_table(power_table(), x="N", y="loss", model="power").figure()
    assert panels(figure)[1].get_ylim() == pytest.approx((-1e-5, 1e-5))


def test_nothing_fitted_is_nothing_drawn() -> None:
    """Where every group failed there is no figure."""
    table = power_table(4).assign(task="a", loss=[1.0, -1.0, 1.0, 1.0])
    found = fit_table(table, x="N", y="loss", group="task")
    assert found.all_failed
    with pytest.raises(AnalysisError, match="no fit to draw"):
        found.figure()
