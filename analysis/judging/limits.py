"""Verdicts on random networks of growing width: whether a mean reaches its limit, and how fast a metric falls.

Every finished trial is one draw of the metric, seeds being independent; several trials of one seed at one width
are averaged first. The theorems are asymptotic, so a verdict speaks of the widths that were tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.exponents.curves import Floats
from analysis.exponents.target_keys import target_key
from analysis.exponents.uncertainty import Interval, hull
from analysis.judging.pairing import selected_draws
from analysis.judging.slopes import Estimate, mean_of, slope_of_line, slope_weights, sum_of
from analysis.judging.verdicts import Cause, Verdict, inconclusive
from hyperscale.claims import Convergence, WidthExponent

MIN_WIDTHS = 4
MIN_OCTAVES = 2.0
MIN_DRAWS = 5
MIN_DRAWS_OF_MEAN = 10
"""Fewest draws at each width for an extrapolation, whose interval covers 94 % from ten draws on, 93 % from five."""
MIN_DRAWS_OF_SPREAD = 20
"""Fewest draws at each width for a median or a variance, whose standard errors are bootstrapped."""
MARGIN = 0.05
"""How far from the limit, as a fraction of it, the value at infinite width may lie and still be called the limit."""
NUM_RESAMPLES = 1000
MISFIT = 0.01
"""The p-value below which a model of the bias is said not to fit."""
_EXPONENTS = np.linspace(0.0, 4.0, 401)


def _draws(
    claim: Convergence | WidthExponent, table: pd.DataFrame, columns: tuple[str, ...]
) -> tuple[list[tuple[float, Floats]], tuple[str, ...]]:
    """Return for each width, rising, the draws ``[seeds, columns]``, and notes on trials averaged or left out."""
    rows, num_left_out = selected_draws(table, claim)
    data = rows[[claim.along, *columns]].astype("float64").assign(_target=target_key(rows), seed=rows["seed"])
    groups = data.groupby([claim.along, "_target", "seed"])[list(columns)]
    means, most = groups.mean(), groups.size().max() if len(data) else 1
    widths = np.unique(means.index.get_level_values(0).to_numpy(np.float64))
    notes = []
    if num_left_out:
        notes.append(f"{num_left_out} finished trials without a finite value left out.")
    if most > 1:
        notes.append(
            f"Up to {most} trials of one seed at one {claim.along} are averaged; select among them with where=."
        )
    return [(float(width), means.loc[[width]].to_numpy(np.float64)) for width in widths if width > 0], tuple(notes)


def _too_few(draws: list[tuple[float, Floats]], along: str, least: int) -> str:
    """Return an empty text, or what is missing for any verdict along a width."""
    if not draws:
        return f"no finished trial has the metric at a value of {along}; run some."
    octaves = math.log2(draws[-1][0] / draws[0][0])
    if len(draws) < MIN_WIDTHS or octaves < MIN_OCTAVES:
        return (
            f"{len(draws)} values of {along} over {octaves:.1f} octaves, where at least {MIN_WIDTHS} over "
            f"{MIN_OCTAVES:g} octaves are needed; add smaller or larger ones."
        )
    fewest, width = min((len(values), width) for width, values in draws)
    if fewest < least:
        return f"{fewest} draws at {along} = {width:g}, where at least {least} are needed; run more seeds."
    return ""


def check_convergence(claim: Convergence, table: pd.DataFrame) -> Verdict:
    """Judge that ``mean = limit + a + c width^-exponent`` has a = 0, by weighted least squares on the biases.

    Supported if the interval of a lies inside the margin (5 % of the limit, an equivalence test) and the bias at the
    largest width is below its Monte Carlo error or inside the margin; contradicted if the interval excludes 0 with
    and without a term of second order, d width^(-2 exponent), which is also used where the fit without it is bad.
    """
    columns = (claim.metric, *([claim.limit] if isinstance(claim.limit, str) else []))
    draws, remarks = _draws(claim, table, columns)
    if missing := _too_few(draws, claim.along, MIN_DRAWS_OF_MEAN):
        return inconclusive(claim, Cause.UNDERPOWERED, missing)
    widths = np.array([width for width, _ in draws])
    limits = [
        values[:, -1] if isinstance(claim.limit, str) else np.full(len(values), claim.limit) for _, values in draws
    ]
    biases = [values[:, 0] - limit for (_, values), limit in zip(draws, limits, strict=True)]
    measured = extrapolate_bias(widths, biases, claim.exponent)
    scale = abs(float(np.concatenate(limits).mean())) or abs(measured.means[0].value)
    verdict = _judge_convergence(claim, measured, MARGIN * scale)
    low, high = measured.decay
    decay = f"{low:.2f} or more" if high >= _EXPONENTS[-1] else f"{low:.2f} to {high:.2f}"
    last = measured.means[-1]
    return replace(
        verdict,
        estimate=measured.offset.value,
        interval=measured.offset.interval(),
        notes=(
            f"At the largest {claim.along}, {widths[-1]:g}, mean less limit is {last.value:.3g} with a Monte Carlo "
            f"error of {last.half_width(0.975):.2g} (95 %).",
            *(
                ["Fitted with a correction of second order: one of first order alone does not fit."]
                if measured.bent
                else []
            ),
            f"If the limit is right, the bias decays with an exponent of {decay} (claimed {claim.exponent:.3g}).",
            *remarks,
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """Biases against width with their extrapolation to infinite width.

    ``second_order`` is the offset a of ``bias = a + c w^-p + d w^-2p``; ``offset`` that of the model without d, or
    with it where the simpler one does not fit (``bent``).
    """

    means: tuple[Estimate, ...]
    offset: Estimate
    second_order: Estimate
    bent: bool
    misfit: float
    """The p-value of the lack of fit of the model of ``offset`` (F-test against the Monte Carlo errors)."""
    decay: Interval
    """The exponents p for which ``bias = c width^-p``, without offset, fits about as well as the best p."""


def extrapolate_bias(widths: Floats, biases: list[Floats], exponent: float) -> Extrapolation:
    """Extrapolate mean biases ``[widths][draws]`` to infinite width with a correction of the given order.

    The weights come from variances smoothed over the widths (log-linear), because a variance from few draws is a
    poor weight; the interval uses the raw variances with Satterthwaite's degrees of freedom.
    """
    means = tuple(mean_of(values) for values in biases)
    values = np.array([mean.value for mean in means])
    precision = _smoothed_precision(widths, means)
    pooled = sum(mean.degrees for mean in means)
    offsets, misfits = [], []
    for num_terms in (2, 3):
        weights, residuals = _offset(widths, values, precision, exponent, num_terms)
        free = len(widths) - num_terms
        offsets.append(sum_of(mean.times(weight) for mean, weight in zip(means, weights, strict=True)))
        misfits.append(float(stats.f.sf(float(precision @ residuals**2) / free, free, pooled)))
    bent = misfits[0] < MISFIT
    return Extrapolation(
        means=means,
        offset=offsets[int(bent)],
        second_order=offsets[1],
        bent=bent,
        misfit=misfits[int(bent)],
        decay=_decay_interval(widths, values, precision),
    )


def _smoothed_precision(widths: Floats, means: tuple[Estimate, ...]) -> Floats:
    """Return ``[widths]`` reciprocal variances of the means, the variances of draws being smoothed log-linearly."""
    counts = np.array([mean.degrees + 1 for mean in means])
    variances = np.array([mean.variance for mean in means]) * counts
    tiny = 1e-24 * max(float(np.max([mean.value**2 for mean in means])), 1e-24)
    logs, x = np.log(np.maximum(variances, tiny)), np.log(widths)
    slope, constant = np.polyfit(x, logs, 1, w=np.sqrt(counts - 1))
    precision: Floats = counts / np.exp(constant + slope * x)
    return precision


def _offset(
    widths: Floats, values: Floats, precision: Floats, exponent: float, num_terms: int
) -> tuple[Floats, Floats]:
    """Return the weights ``[widths]`` whose sum with the values is the offset, and the residuals ``[widths]``.

    The terms are width^0, width^-p, width^-2p, ... with p = ``exponent``, scaled to the smallest width.
    """
    powers = (widths / widths[0]) ** -exponent
    design = powers[:, None] ** np.arange(num_terms)
    solved = np.linalg.solve(design.T @ (precision[:, None] * design), design.T * precision)
    weights: Floats = solved[0]
    return weights, values - design @ (solved @ values)


def _decay_interval(widths: Floats, values: Floats, precision: Floats, level: float = 0.95) -> Interval:
    """Return the profile interval of p in ``bias = c width^-p``, all p of the grid at once, ``[exponents, widths]``."""
    powers = (widths / widths[0]) ** -_EXPONENTS[:, None]
    scale = (powers * precision * values).sum(axis=1) / (powers**2 * precision).sum(axis=1)
    misfit = (precision * (values - scale[:, None] * powers) ** 2).sum(axis=1)
    free = len(widths) - 2
    inflation = max(1.0, float(misfit.min()) / free)
    near = _EXPONENTS[misfit <= misfit.min() + inflation * float(stats.chi2.ppf(level, 1))]
    return float(near.min()), float(near.max())


def _judge_convergence(claim: Convergence, measured: Extrapolation, margin: float) -> Verdict:
    low, high = measured.offset.interval()
    last, second = measured.means[-1], measured.second_order.interval()
    below_noise = abs(last.value) <= last.half_width(0.975)
    if measured.misfit < MISFIT:
        text = f"the means do not approach any value as {claim.along}^-{claim.exponent:.3g}, over these widths"
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{text}; use larger ones.")
    if min(low, second[0]) > 0 or max(high, second[1]) < 0:
        return Verdict.of(
            claim,
            "contradicted",
            f"as {claim.along} grows the mean approaches a value that differs from the limit, with or without a "
            "correction of second order. Check the closed form and the order of the limits first: at finite widths a "
            "correction of a lower order than the claimed one would look the same.",
        )
    if low > 0 or high < 0:
        text = "whether the limit is reached hangs on the order of the correction at these widths"
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{text}; use larger ones.")
    if max(abs(low), abs(high)) > margin:
        return inconclusive(
            claim,
            Cause.UNDERPOWERED,
            f"the Monte Carlo error is too large to tell: the value at infinite {claim.along} is known to within "
            f"{max(abs(low), abs(high)):.2g} of the limit, where {margin:.2g} is asked for. Run more seeds.",
        )
    if measured.decay[1] < claim.exponent * 0.9:
        text = f"the bias decays more slowly (exponent at most {measured.decay[1]:.2f}) than claimed"
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{text}; use larger widths.")
    if not below_noise and abs(last.value) > margin:
        text = f"the bias at the largest {claim.along}, {last.value:.3g}, is still above its Monte Carlo error"
        return inconclusive(claim, Cause.UNDERPOWERED, f"{text}; add larger widths.")
    return Verdict.of(
        claim,
        "supported",
        f"as {claim.along} grows the mean approaches the limit to within {margin:.2g}, and the bias at the largest is "
        + ("below its Monte Carlo error." if below_noise else "small, though larger than its Monte Carlo error."),
    )


def check_width_exponent(claim: WidthExponent, table: pd.DataFrame) -> Verdict:
    """Judge the exponent of a width by the slope of a statistic of the draws, on logs.

    The interval is the hull of two: the draws' spread, carried to the slope with Satterthwaite's degrees of freedom,
    and the scatter of the widths about the line.
    """
    columns = (claim.metric, *([claim.relative_to] if claim.relative_to else []))
    draws, remarks = _draws(claim, table, columns)
    least = MIN_DRAWS if claim.statistic == "geometric mean" else MIN_DRAWS_OF_SPREAD
    if missing := _too_few(draws, claim.along, least):
        return inconclusive(claim, Cause.UNDERPOWERED, missing)
    generator = np.random.default_rng(0)
    logs = [log_statistic(values, claim.statistic, generator) for _, values in draws]
    if not all(math.isfinite(log.value) and math.isfinite(log.variance) for log in logs):
        text = (
            f"the {claim.statistic} of {' or '.join(columns)} is 0 at some width or in a resample, without a logarithm"
        )
        remedy = " Use the median or the root mean square." if claim.statistic == "geometric mean" else ""
        return inconclusive(claim, Cause.NOT_IDENTIFIED, f"{text}.{remedy}")
    x = np.log([width for width, _ in draws])
    over_draws = sum_of(log.times(-weight) for log, weight in zip(logs, slope_weights(x), strict=True))
    over_widths = slope_of_line(x, -np.array([log.value for log in logs]))
    interval = hull(over_draws.interval(), over_widths.interval())
    assert interval is not None
    return replace(
        _judge_exponent(claim, interval),
        estimate=over_draws.value,
        interval=interval,
        notes=(
            f"The {claim.statistic} over the draws at each of {len(x)} values of {claim.along}; interval: the hull of "
            "the draws' spread and the scatter about a line.",
            *remarks,
        ),
    )


def log_statistic(values: Floats, statistic: str, generator: np.random.Generator) -> Estimate:
    """Return the log of a statistic of ``values`` ``[draws, 1 or 2]``; with two columns, that of their ratio.

    Signs are dropped, because the terms' signs are random. The geometric mean has the t-theory of a mean of logs;
    the others get the variance of their logs over resamples of the draws (both columns together). Not finite where
    the statistic is 0.
    """
    sign = np.array([1.0, -1.0])[: values.shape[1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        if statistic == "geometric mean":
            return mean_of(np.log(np.abs(values)) @ sign)
        redrawn = generator.integers(0, len(values), size=(NUM_RESAMPLES, len(values)))
        logs = _logs_of(values[redrawn], statistic) @ sign
        value = float((_logs_of(values[None], statistic) @ sign)[0])
        return Estimate(value=value, variance=float(logs.var(ddof=1)), degrees=len(values) - 1)


def _logs_of(values: Floats, statistic: str) -> Floats:
    """Return ``[resamples, columns]`` logs of the statistic of ``values`` ``[resamples, draws, columns]``."""
    taken: Floats
    if statistic == "median":
        taken = np.median(np.abs(values), axis=1)
    elif statistic == "root mean square":
        taken = np.sqrt((values**2).mean(axis=1))
    else:
        taken = values.var(axis=1, ddof=1)
    return np.log(taken)


def _judge_exponent(claim: WidthExponent, interval: Interval) -> Verdict:
    low, high = interval
    margin = claim.tolerance
    widths = f"over the values of {claim.along} tried"
    contradiction = "Check first whether the widths are in the asymptotic range: before it, this is what one would see."
    if claim.sense == "match":
        if claim.exponent - margin <= low and high <= claim.exponent + margin:
            return Verdict.of(
                claim, "supported", f"{widths} the whole interval is within {margin:.3g} of the exponent."
            )
        if high < claim.exponent - margin or low > claim.exponent + margin:
            text = f"{widths} the whole interval is farther than {margin:.3g} from the exponent."
            return Verdict.of(claim, "contradicted", f"{text} {contradiction}")
        limits = f"the limits {claim.exponent - margin:.3g} and {claim.exponent + margin:.3g}"
    else:
        vanishing = claim.sense == "vanishing"
        least = 0.0 if vanishing else claim.exponent - margin
        if low > least:
            text = (
                "it falls" if vanishing else f"it falls at least as fast as claimed (whole interval above {least:.3g})"
            )
            return Verdict.of(claim, "supported", f"{widths} {text}.")
        if high < (margin if vanishing else least) and not (vanishing and high > 0):
            text = "no fall is seen" if vanishing else f"it falls more slowly (whole interval below {least:.3g})"
            return Verdict.of(claim, "contradicted", f"{widths} {text}. {contradiction}")
        limits = f"the limit {least:.3g}"
    return inconclusive(
        claim,
        Cause.UNDERPOWERED,
        f"the interval from {low:.3g} to {high:.3g} does not lie on one side of {limits}; more octaves of "
        f"{claim.along} or more seeds would narrow it.",
    )
