"""Tests of `reporting.figures`, `reporting.sweeps` and `reporting.palette`: what is drawn, read off the axes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis.exponents.envelope import build_envelopes
from analysis.judging.checks import check
from analysis.judging.verdicts import Cause, inconclusive
from analysis.reporting import figures, palette, sweeps
from analysis.reporting.guides import named_slopes
from hyperscale.claims import Monotone, Ordering, ScalingRate, Separation
from hyperscale.errors import AnalysisError
from hyperscale.trial import TrialRecord, TrialResult, TrialStatus

METHODS = ("Hypernetwork", "Embedding", "Monolithic", "PerInstance")
RATE = ScalingRate(method="Hypernetwork", bound="upper", exponent=1.0, theorem="Thm. 4, Galanti & Wolf (2020)")


def scaling_table() -> pd.DataFrame:
    """Return noiseless power laws of two methods at five sizes and three seeds."""
    rows = [
        {
            "digest": f"{method}{n}{seed}",
            "method": method,
            "num_params_primary": n,
            "lr": 0.01,
            "seed": seed,
            "status": "finished",
            "sup_error": n**-slope * (1 + 0.1 * seed),
        }
        for (method, slope), n, seed in product(
            (("Hypernetwork", 1.0), ("Embedding", 0.5)), (4, 8, 16, 32, 64), range(3)
        )
    ]
    return pd.DataFrame(rows)


def points_record(weight: float, seed: int) -> TrialRecord:
    """Return a record of a generator with points and the mixture's means."""
    generator = np.random.default_rng(seed)
    curves = {
        "points": generator.normal(size=(2, 30)).tolist(),
        "mixture_means": [[0.0, 1.0], [0.0, 1.0]],
        "train_loss": [[0, 1, 10], [-1.0, -1.5, -2.0]],
    }
    result = TrialResult(
        digest=f"{weight}-{seed}",
        setting_digest=f"{weight}",
        seed=seed,
        status=TrialStatus.FINISHED,
        metrics={"entropy": -weight},
        curves=curves,
    )
    return TrialRecord(result=result, columns={"method": "WeightGenerator", "accuracy_weight": weight, "lr": 0.1})


def test_methods_differ_in_colour_marker_and_line() -> None:
    """No two methods share a colour, a marker or a line style, so that grey prints can be read."""
    styles = [palette.method_style(method) for method in METHODS]
    for field in ("colour", "marker", "dashes"):
        assert len({str(getattr(style, field)) for style in styles}) == len(METHODS)
    assert palette.method_style("Unheard") == palette.method_style("Unheard")


def test_scaling_figure_shows_trials_envelope_and_guide() -> None:
    """Both axes are logarithmic; trials, envelopes and the theorem's slope are there with their numbers."""
    table = scaling_table()
    figure = figures.plot_scaling(table, build_envelopes(table), [RATE])
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    counts = sorted(len(line.get_xdata()) for line in axes.lines)
    assert counts == [5, 5, 15, 15, 60, 60]
    envelope = next(line for line in axes.lines if len(line.get_xdata()) == 5)
    assert np.allclose(envelope.get_ydata(), np.array([4, 8, 16, 32, 64.0]) ** -1)
    corners = np.log(axes.patches[0].get_xy())
    slope = (corners[2, 1] - corners[0, 1]) / (corners[2, 0] - corners[0, 0])
    assert slope == pytest.approx(-1.0)
    assert any("Thm. 4" in text.get_text() and "slope −1" in text.get_text() for text in axes.texts)


def approximation_table() -> pd.DataFrame:
    """Return the scaling table with the hypernetwork's infimum, and certified bounds a quarter above every error."""
    table = scaling_table().assign(sup_error_bound=lambda t: 1.25 * t["sup_error"])
    known = table["method"] == "Hypernetwork"
    infimum = (0.8 / table["num_params_primary"]).where(known)
    return table.assign(per_instance_infimum=0.9 * infimum, per_instance_reached=infimum)


def test_the_infimum_lies_under_the_curves_and_the_bound_over_them() -> None:
    """A labelled line at each size's infimum with its bracket, a band from each envelope to its certified bound."""
    table = approximation_table()
    figure = figures.plot_scaling(table, build_envelopes(table), [RATE])
    axes = figure.axes[0]
    floors = [line for line in axes.lines if np.allclose(line.get_ydata()[0], 0.9 * 0.8 / 4)]
    assert len(floors) == 1
    assert np.allclose(floors[0].get_ydata(), 0.72 / np.array([4, 8, 16, 32, 64]))
    assert [text.get_text() for text in axes.texts if "infimum" in text.get_text()] == ["per-instance\ninfimum"]
    heights = [band.get_paths()[0].vertices[:, 1].max() for band in axes.collections]
    for top in (0.8 / 4, 1.25 / 4, 1.25 / 2):  # the bracket, and each method's bound at N = 4
        assert any(np.isclose(height, top) for height in heights)
    assert any(text.get_text() == "up to the certified bound" for text in figure.legends[0].get_texts())
    corners = axes.patches[0].get_xy()
    assert (corners[:, 1] < 0.72 / corners[:, 0]).all()  # the triangle is under the floor too


def test_a_second_floor_says_whose_sizes_it_is_at() -> None:
    """Methods of the same sizes have one line, the larger of their infima; other sizes have one of their own."""
    table = approximation_table()
    other = table["method"] == "Embedding"
    sizes = table["num_params_primary"]
    for stretch, factor, count in ((1.0, 1.0, 1), (1.0, 0.5, 1), (1.5, 1.0, 2)):
        infimum = table["per_instance_infimum"].where(~other, factor * 0.72 / sizes)
        two = table.assign(per_instance_infimum=infimum, num_params_primary=sizes.where(~other, stretch * sizes))
        axes = figures.plot_scaling(two, build_envelopes(two)).axes[0]
        texts = [text.get_text() for text in axes.texts if "infimum" in text.get_text()]
        assert len(texts) == count
        assert any("Embedding's sizes" in text for text in texts) is (count == 2)
        floors = [line for line in axes.lines if np.allclose(line.get_ydata()[0], 0.72 / 4)]
        assert len(floors) >= 1


def test_slopes_are_named_once() -> None:
    """Rates of one exponent share a triangle, in ink where methods differ; a separation adds what no rate has."""
    instance = ScalingRate(method="PerInstance", bound="upper", exponent=1.0, theorem="Def. 1, Galanti & Wolf (2020)")
    apart = Separation(
        faster="Hypernetwork", slower="Embedding", faster_exponent=1.0, slower_exponent=0.5, theorem="Thms. 2 and 4"
    )
    steep, flat = named_slopes([RATE, instance, apart], "sup_error", "num_params_primary")
    assert (steep.exponent, steep.text, steep.colour) == (1.0, "Thm. 4: O, Def. 1: O\nslope −1", palette.INK)
    assert (flat.exponent, flat.text) == (0.5, "Thms. 2 and 4\nslope −0.5")
    assert flat.colour == palette.method_style("Embedding").colour
    assert named_slopes([RATE], "rmse", "num_params_primary") == []


def test_exponent_figure_has_a_row_per_rate() -> None:
    """Each claimed rate has its estimate drawn at the fitted exponent, with the verdict beside it."""
    table = scaling_table()
    verdicts = [
        check(RATE, table),
        check(Ordering(metric="sup_error", lower="Hypernetwork", higher="Embedding"), table),
    ]
    axes = figures.plot_exponents(verdicts).axes[0]
    assert len(axes.get_yticklabels()) == 1
    drawn = [float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert drawn == pytest.approx([1.0])
    assert any(text.get_text() == "attained" for text in axes.texts)
    with pytest.raises(AnalysisError):
        figures.plot_exponents(verdicts[1:])


def test_a_match_is_shaded_on_both_sides() -> None:
    """A claim that the exponent is the rate has its own sign and a band of a tenth around the prediction."""
    claim = ScalingRate(method="Hypernetwork", bound="match", exponent=1.0)
    axes = figures.plot_exponents([replace(inconclusive(claim, Cause.GAP, "unknown"), estimate=0.9)]).axes[0]
    assert axes.get_yticklabels()[0].get_text().endswith("Θ")
    extent = axes.collections[0].get_datalim(axes.transData)
    assert (extent.x0, extent.x1) == pytest.approx((0.9, 1.1))


def test_training_figure_draws_negative_losses_linearly() -> None:
    """A loss with an entropy term may be negative: no log axis; step 0 is left out of the log step axis."""
    records = [points_record(weight, seed) for weight in (1.0, 10.0) for seed in range(2)]
    figure = figures.plot_training(records, shade_by="accuracy_weight", metric="entropy")
    axes = figure.axes[0]
    assert axes.get_yscale() == "linear"
    segments = axes.collections[0].get_segments()
    assert len(segments) == 4
    assert all(segment[0][0] == 1 for segment in segments)
    with pytest.raises(AnalysisError, match="curve 'other'"):
        figures.plot_training(records, shade_by="lr", metric="entropy", curve="other")


def test_points_figure_has_a_panel_per_weight() -> None:
    """One seed's points at each λ, with the means as crosses; nothing where no record has points."""
    records = [points_record(weight, seed) for weight in (10.0, 1.0, 100.0) for seed in (1, 0)]
    figure = sweeps.plot_points(records)
    assert figure is not None
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["λ = 1", "λ = 10", "λ = 100"]
    assert np.allclose(shown[0].lines[0].get_xdata(), records[3].result.curves["points"][0])
    assert shown[0].lines[1].get_marker() == "x"
    assert sweeps.plot_points([]) is None


def test_sweep_means_use_the_best_learning_rate() -> None:
    """The mean at a depth is over the seeds of the better rate; baselines are drawn as lines."""
    rows = [
        {"method": "Embedding", "status": "finished", "depth": k, "lr": lr, "seed": s,
         "test_loss": 1.0 * k + 9 * lr + s, "zero_loss": 50.0}
        for k, lr, s in product((2, 3, 4), (0.0, 1.0), (0, 1, 2))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    summary = sweeps.summarise(table, "depth", "test_loss")
    assert summary["mean"].tolist() == [3.0, 4.0, 5.0]
    assert summary["spread"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    axes = sweeps.plot_sweep(table, "depth", ["test_loss"]).axes[0]
    assert any(np.allclose(line.get_ydata(), 50.0) for line in axes.lines)
    assert [text.get_text() for text in axes.texts] == ["predicting\nzero"]
    with pytest.raises(AnalysisError):
        sweeps.plot_sweep(table, "depth", ["rmse"])


def test_sweep_column_prefers_claims_and_ignores_sizes() -> None:
    """A column named by a claim wins; parameter counts, learning rate and constants are never swept."""
    table = pd.DataFrame(
        {"method": "M", "depth": [2, 3], "width": [5, 9], "lr": [0.1, 0.2], "num_params_primary": [7, 9], "x_dim": 1}
    )
    settings = list(table.columns)
    assert sweeps.sweep_column(table, (), settings) == "depth"
    claim = Monotone(method="M", metric="rmse", along="width", direction="decreasing")
    assert sweeps.sweep_column(table, (claim,), settings) == "width"
    assert (
        sweeps.sweep_column(table[["lr", "num_params_primary", "x_dim"]], (), ["lr", "num_params_primary", "x_dim"])
        is None
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 10, 100, 1000], True), ([2, 3, 4, 5, 9], False), ([0, 1, 10], False), ([1, 2, 4, 8, 16], True), ([3], False)],
)
def test_log_spacing_is_recognised(values, expected: bool) -> None:
    """λ = 1, 10, 100 asks for a log axis; depths and lists with zero do not."""
    assert palette.log_spaced(values) is expected


def test_drawing_leaves_global_settings_alone_and_saves_both(tmp_path) -> None:
    """The style is gone afterwards; an SVG (same bytes each time) and a PNG are written."""
    before = dict(mpl.rcParams)
    table = scaling_table()
    for name in ("one", "two"):
        with palette.drawing("salt"):
            palette.save(figures.plot_scaling(table, build_envelopes(table), [RATE]), tmp_path, name)
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
