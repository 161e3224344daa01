"""What predicting 0 everywhere would score: errors no better than that say nothing of the methods.

Where the bumps of a target shrink as their number grows with N, predicting 0 has a rate of its own, which no training
is needed for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.exponents.curves import fit_power_law
from analysis.exponents.envelope import Envelope
from hyperscale.claims import Claim
from hyperscale.errors import AnalysisError

BASELINES = {"sup_error": "zero_sup_error", "rmse": "zero_rmse", "test_loss": "zero_loss"}
"""What predicting 0 everywhere would score, by metric."""
_TAUGHT = 0.9


def no_better_than_zero(claim: Claim, rows: pd.DataFrame, best: Sequence[pd.DataFrame], column: str) -> str:
    """Return an empty text, or that the methods' typical trials are no better than predicting 0.

    ``best`` are the methods' values ``[target and seed, value of column]``; each is compared with the baseline of its
    own target and size.
    """
    baseline = BASELINES.get(claim.metric)
    if baseline is None or baseline not in rows.columns or rows[baseline].isna().all():
        return ""
    for method, frame in zip(claim.methods, best, strict=True):
        own = rows[(rows["method"] == method) & rows[baseline].notna()]
        zeros = own[baseline].astype("float64").groupby([own["_target"], own["seed"], own[column]]).median()
        ratios = (frame / zeros.unstack(column).reindex_like(frame)).to_numpy()
        if np.isfinite(ratios).any() and float(np.median(ratios[np.isfinite(ratios)])) >= _TAUGHT:
            zero = float(own[baseline].median())
            return (
                f"the trained networks of {method} typically err no less than {_TAUGHT:g} of what predicting 0 does "
                f"({zero:.3g}): there is nothing to order yet. Train longer, or with other learning rates."
            )
    return ""


def zero_by_size(table: pd.DataFrame, envelope: Envelope) -> pd.Series:
    """Return what predicting 0 scores on the worst target at each size of the envelope; empty where it is unknown."""
    baseline = BASELINES.get(envelope.metric)
    if baseline is None or baseline not in table.columns:
        return pd.Series(dtype="float64")
    rows = table[(table["method"] == envelope.method) & (table["status"] == "finished") & table[envelope.size].notna()]
    found = rows[baseline].astype("float64").groupby(rows[envelope.size].astype("float64")).max()
    return found.reindex(pd.Index(envelope.sizes, dtype="float64")).dropna()


def growing_baseline(table: pd.DataFrame, envelope: Envelope) -> tuple[str, str]:
    """Return an obstacle and a note, each perhaps empty, on an envelope whose target grows with N.

    The obstacle: the envelope is typically no better than predicting 0, so that its exponent is the bumps' own. The
    note: the exponent that predicting 0 has, beside which the envelope's is to be read.
    """
    zeros = zero_by_size(table, envelope) if envelope.growth_note else pd.Series(dtype="float64")
    zeros = zeros[zeros > 0]
    if len(zeros) < 2:
        return "", ""
    values = pd.Series(envelope.values, index=pd.Index(envelope.sizes, dtype="float64"))[zeros.index]
    try:
        exponent = fit_power_law(zeros.index.tolist(), zeros.tolist()).exponent
    except AnalysisError:
        return "", ""
    typical = float((values / zeros).median())
    note = (
        f"the target's bumps shrink as N grows: predicting 0 everywhere would fall like N^-{exponent:.3g}, and the "
        f"trained networks typically err {typical:.2g} of that"
    )
    if typical < _TAUGHT:
        return "", note
    return f"{note}, so that their exponent is the bumps' own; use fewer bumps at each size, or train better", ""
