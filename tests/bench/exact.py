"""Sequences whose law is known exactly: what `--model auto` and `--model power` say of them; writes ``exact.md``.

``python -m tests.bench.exact FOLDER`` reads the folder's tables of best approximation errors: polynomials to |x|, free
knots to x^2 and exp, rationals to |x| (asymptotic) and deep ReLU networks to x^2. The last two are no power laws.
NIST's DanWood is here because an exponent means nothing without its estimator.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import fit_table
from analysis.fits.table_records import FitRecord
from tests.bench.machine import machine
from tests.bench.tables import HERE, publish, table

DANWOOD = ((1.309, 1.471, 1.490, 1.565, 1.611, 1.680), (2.138, 3.421, 3.597, 4.340, 4.882, 5.660))
CERTIFIED = (0.76886226176, 3.8604055871)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLaw:
    """A table of the folder, its columns, and the exponent and constant of its law (None: no power law)."""

    file: str
    x: str
    y: str
    law: str
    exponent: float | None = None
    constant: float | None = None


SEQUENCES = (
    KnownLaw(
        file="poly_absx_minimax",
        x="n",
        y="E_upper",
        law="0.280169 n^-1 (in the limit)",
        exponent=1.0,
        constant=0.280169499,
    ),
    KnownLaw(file="free_knot_pl_x2", x="n_segments", y="eps", law="n^-2 / 2", exponent=2.0, constant=0.5),
    KnownLaw(
        file="free_knot_pl_exp",
        x="n_segments",
        y="eps",
        law="0.271540 n^-2 (in the limit)",
        exponent=2.0,
        constant=0.2715403174,
    ),
    KnownLaw(file="rational_absx_rootexp_asymptotic", x="n", y="eps", law="8 exp(-π √n)"),
    KnownLaw(file="deep_relu_x2_exponential", x="compositions", y="eps", law="4^-(n + 1)"),
)


def read(sequence: KnownLaw, folder: Path, model: str) -> FitRecord:
    """Return the fit of one sequence."""
    rows = pd.read_csv(folder / f"{sequence.file}.csv")
    return fit_table(rows, x=sequence.x, y=sequence.y, model=model).records[0]


def row(sequence: KnownLaw, folder: Path) -> list[str]:
    """Return a sequence's line: what auto finds and how far off it is, and what is said of a power law."""
    found, forced = read(sequence, folder, "auto").to_json(), read(sequence, folder, "power").to_json()
    exponent = found["exponent"] and found["exponent"]["estimate"]
    errors = ["–", "–"]
    if sequence.exponent is not None and sequence.constant is not None and exponent is not None:
        constant = found["parameters"]["c" if "c" in found["parameters"] else "a"]["estimate"]
        errors = [f"{abs(exponent - sequence.exponent):.1e}", f"{100 * abs(constant / sequence.constant - 1):.2g} %"]
    shown = "none" if exponent is None else f"{exponent:.6g}"
    forced_exponent = f"{forced['exponent']['estimate']:.5g}"
    return [sequence.file, sequence.law, found["model"], shown, *errors, f"{forced_exponent}, {forced['status']}"]


def danwood() -> str:
    """Return the two estimators of NIST's DanWood beside the certified values."""
    rows = pd.DataFrame({"x": DANWOOD[0], "y": DANWOOD[1]})
    lines = []
    for loss in ("least-squares", "log-least-squares"):
        found = fit_table(rows, x="x", y="y", model="power", loss=loss).records[0].to_json()
        b1, b2 = found["parameters"]["c"]["estimate"], -found["parameters"]["s"]["estimate"]
        lines.append([loss, f"{b1:.11f}", f"{b2:.10f}"])
    lines.append(["certified (NIST StRD, least squares on y)", f"{CERTIFIED[0]:.11f}", f"{CERTIFIED[1]:.10f}"])
    return table(["estimator", "b1", "b2"], lines)


def document(rows: Sequence[list[str]]) -> str:
    """Return the page."""
    header = ["sequence", "its law", "auto says", "exponent", "off by", "constant off by", "asked for a power law"]
    return f"""# Sequences of known law

`python -m tests.bench.exact FOLDER`, {machine("numpy", "scipy")}

{table(header, rows)}

Goals: exponents to 1e-3, constants to 1 %, and the last two refused as power laws (`misfit`).

## DanWood, y = b1 x^b2

{danwood()}
"""


def main() -> None:
    """Fit all sequences and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the tables")
    folder = parser.parse_args().folder
    publish(document([row(sequence, folder) for sequence in SEQUENCES]), HERE / "exact.md")


if __name__ == "__main__":
    main()
