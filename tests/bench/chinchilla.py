"""Chinchilla's law on its replication's data: our minimum against the published point; writes ``chinchilla.md``.

The data carry no licence, so they are not in the repository: give the replication's table (columns ``Model Size``,
``Training FLOP`` and ``loss``; Besiroglu et al. 2024) as the argument.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import fit_table
from analysis.fits.losses import huber
from tests.bench.tables import HERE, publish, table

DELTA, NUM_RESAMPLES, NUM_DROPPED = 1e-3, 4000, 5
PUBLISHED = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
"""Besiroglu et al. (2024), Chinchilla scaling: a replication attempt, equation 2, as printed."""
PUBLISHED_OBJECTIVE = 1.01864e-3
"""At the same point with all its digits."""
REFERENCE_ERRORS = {"alpha": 0.01540, "beta": 0.02060, "E": 0.0257}
"""Standard errors that another implementation's bootstrap of the same rows and loss gave."""
FURTHER_SEEDS = (1, 2, 3)


OPTIONS: dict[str, Any] = {"x": "N", "x2": "D", "y": "loss", "model": "chinchilla", "loss": f"huber:{DELTA:g}"}


def prepare(path: Path) -> pd.DataFrame:
    """Return N, D = C / (6 N) and the loss, without the rows of the five largest losses, as the replication does."""
    rows = pd.read_csv(path).sort_values("loss").iloc[:-NUM_DROPPED]
    n = rows["Model Size"]
    return pd.DataFrame({"N": n, "D": rows["Training FLOP"] / (6 * n), "loss": rows["loss"]})


def objective(rows: pd.DataFrame, point: dict[str, float]) -> float:
    """Return the sum of Huber's loss of log residuals at a point."""
    fitted = point["E"] + point["A"] * rows["N"] ** -point["alpha"] + point["B"] * rows["D"] ** -point["beta"]
    return float(huber(np.log(rows["loss"].to_numpy()) - np.log(fitted.to_numpy()), DELTA)[0].sum())


def measure(rows: pd.DataFrame) -> tuple[dict[str, Any], float, float]:
    """Return the fit as JSON, and the seconds without and with the bootstrap."""
    started = time.perf_counter()
    fit_table(rows, **OPTIONS)
    plain = time.perf_counter() - started
    started = time.perf_counter()
    found = fit_table(rows, **OPTIONS, num_resamples=NUM_RESAMPLES).to_json()
    assert isinstance(found, dict)
    return found, plain, time.perf_counter() - started


def over_seeds(rows: pd.DataFrame, first: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over seeds of the bootstrap's standard errors, by parameter."""
    found = [first]
    for seed in FURTHER_SEEDS:
        record = fit_table(rows, **OPTIONS, num_resamples=NUM_RESAMPLES, seed=seed).records[0].to_json()
        found.append({name: one["standard_error"] for name, one in record["parameters"].items()})
    values = {name: np.array([one[name] for one in found]) for name in REFERENCE_ERRORS}
    return {name: (float(each.mean()), float(each.std(ddof=1))) for name, each in values.items()}


def document(rows: pd.DataFrame, found: dict[str, Any], plain: float, bootstrapped: float) -> str:
    """Return the page."""
    ours = {name: one["estimate"] for name, one in found["parameters"].items()}
    errors = {name: one["standard_error"] for name, one in found["parameters"].items()}
    seeds = over_seeds(rows, errors)
    lines = [
        ["objective", f"{objective(rows, ours):.10e}", f"{PUBLISHED_OBJECTIVE:.5e}"],
        ["objective at the parameters as printed", "", f"{objective(rows, PUBLISHED):.5e}"],
        *[[name, f"{ours[name]:.7g}", f"{PUBLISHED[name]:g}"] for name in PUBLISHED],
        *[
            [f"standard error of {name} (four seeds)", f"{errors[name]:.5f} ({mean:.5f} ± {sd:.5f})", f"{given:.5f}"]
            for (name, given), (mean, sd) in zip(REFERENCE_ERRORS.items(), seeds.values(), strict=True)
        ],
        ["starts that end at this optimum", f"{found['starts_agreeing']} of {found['starts']}", ""],
        ["seconds, the fit alone", f"{plain:.2f}", ""],
        [f"seconds, with {NUM_RESAMPLES:,} bootstrap fits", f"{bootstrapped:.1f}", ""],
    ]
    return f"""# Chinchilla's law on its replication's data

L = E + A N^-alpha + B D^-beta, {len(rows)} of {len(rows) + NUM_DROPPED} runs (those of the {NUM_DROPPED} largest
losses dropped), Huber's loss of log residuals with delta {DELTA:g} summed over runs; standard errors from
{NUM_RESAMPLES:,} fits to redrawn runs. Published: Besiroglu et al. (2024), equation 2; its
point is no minimum, with all its digits or as printed. Status: {found["status"]}. Written by
`python -m tests.bench.chinchilla DATA.csv` (the data carry no licence and are not in the repository); the same by
`hyperscale fit DATA.csv --x N --x2 D --y loss --model chinchilla --loss huber:{DELTA:g} --bootstrap {NUM_RESAMPLES}`.

{table(["", "ours", "published, or reference"], lines)}

{date.today().isoformat()}, {os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}.
Python {platform.python_version()}, {", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy"))}.
"""


def main() -> None:
    """Measure and write the table."""
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m tests.bench.chinchilla DATA.csv")
    rows = prepare(Path(sys.argv[1]))
    publish(document(rows, *measure(rows)), HERE / "chinchilla.md")


if __name__ == "__main__":
    main()
