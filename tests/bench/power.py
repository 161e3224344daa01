"""Octaves of N that a verdict needs: the power analysis against a table of known answers.

``python -m tests.bench.power`` simulates every entry and writes ``power.md`` beside this file: to tell the exponents
of two theorems apart (the 95 % interval excludes the rival), and to find an exponent equal to the claimed one (two
one-sided 5 % tests, margins of 10 %), with 90 % power, two sizes in each octave, and five seeds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from analysis.power.designs import Design
from analysis.power.noise import Noise
from analysis.power.questions import distinction_chance, equivalence_chance
from analysis.power.replicates import Draws, Estimator
from analysis.power.study_power import TARGET, octaves_needed
from tests.bench.machine import command, machine
from tests.bench.tables import HERE, publish, table

SIZES_PER_OCTAVE, SEEDS, MOST = 2, 5, 15
OVER = MOST + 1
"""Stands for "over 15"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One question of the table with its known answer, in octaves."""

    dims: str
    exponent: float
    rival: float | None
    num_seeds: int
    known: int

    @property
    def question(self) -> str:
        """The question in words."""
        seeds = f", {self.num_seeds} seeds" if self.num_seeds != SEEDS else ""
        return ("TOST ±10 %" if self.rival is None else "tell apart") + seeds

    def simulate(self, draws: Draws, estimator: Estimator) -> int:
        """Return the octaves that the simulation finds, `OVER` above 15."""
        found = octaves_needed(
            self.exponent,
            self.rival,
            num_seeds=self.num_seeds,
            sizes_per_octave=SIZES_PER_OCTAVE,
            noise=Noise(),
            most=MOST,
            draws=draws,
            estimator=estimator,
        )
        return OVER if found is None else found

    def power(self, octaves: int, draws: Draws, estimator: Estimator = "minimum") -> tuple[float, float]:
        """Return the power at so many octaves and its standard error."""
        design = Design.spaced(octaves, SIZES_PER_OCTAVE, self.num_seeds)
        if self.rival is None:
            chance = equivalence_chance(self.exponent, design, Noise(), draws, estimator)
        else:
            chance = distinction_chance(self.exponent, self.rival, design, Noise(), draws, estimator)
        return chance.decisive, chance.standard_error


def _entries() -> list[Entry]:
    pairs = {
        "(1, 1)": (1 / 2, 1.0, 2, 8),
        "(2, 1)": (1 / 3, 1 / 2, 4, 11),
        "(1, 2)": (1 / 3, 1.0, 2, 11),
        "(2, 2)": (1 / 4, 1 / 2, 3, 13),
        "(3, 3)": (1 / 6, 1 / 3, 4, OVER),
    }
    found = []
    for dims, (low, high, apart, equal) in pairs.items():
        found.append(Entry(dims=dims, exponent=high, rival=low, num_seeds=SEEDS, known=apart))
        found.append(Entry(dims=dims, exponent=low, rival=None, num_seeds=SEEDS, known=equal))
    found.append(Entry(dims="(2, 2)", exponent=1 / 4, rival=None, num_seeds=10, known=10))
    return found


ENTRIES = _entries()


def octaves(count: int) -> str:
    """Return a number of octaves as the tables write it."""
    return f"over {MOST}" if count == OVER else str(count)


def rows(draws: Draws) -> list[list[str]]:
    """Return the table's rows."""
    found = []
    for entry in ENTRIES:
        minimum = entry.simulate(draws, "minimum")
        at = min(minimum, MOST)
        below = entry.power(at - 1, draws)[0] if (at - 1) * SIZES_PER_OCTAVE >= 2 and minimum != OVER else None
        power, standard_error = entry.power(at, draws)
        exponents = f"{entry.exponent:.3g}" + ("" if entry.rival is None else f" vs {entry.rival:.3g}")
        found.append(
            [
                entry.dims,
                exponents,
                entry.question,
                octaves(entry.known),
                octaves(minimum),
                f"{100 * power:.1f} ± {100 * standard_error:.1f} %" + (f" at {MOST}" if minimum == OVER else ""),
                "-" if below is None else f"{100 * below:.1f} %",
                octaves(entry.simulate(draws, "edge")),
            ]
        )
    return found


def report(draws: Draws, took_s: float, lines: list[list[str]]) -> str:
    """Return the document."""
    noise = Noise()
    header = [
        "(m1, m2)",
        "exponents",
        "question",
        "known",
        "simulated",
        "power there",
        "one octave less",
        "by the edge",
    ]
    agree = sum(line[3] == line[4] for line in lines)
    return f"""# Octaves of N that a verdict needs

Fewest octaves with {100 * TARGET:.0f} % power, {SIZES_PER_OCTAVE} sizes in each octave and both ends, {SEEDS} seeds
unless said, {draws.replicates:,} simulated studies for each entry. "Tell apart": the 95 % interval excludes the rival's
exponent. "TOST ±10 %": two one-sided 5 % tests put the exponent within 10 % of the claimed one, which is the truth.
The minimal number of octaves that the package asks of a verdict (3) does not apply here.

Noise, in log units: a seed lies above the envelope by an exponential excess of mean {noise.excess:g}, and every size
has a lack of fit of {noise.lack_of_fit:g} of its own. The known table states the second number and not the first, which
is the round number that gives all its entries: so do means from 0.39 to 0.42, and from 0.36 to 0.44 at most three
entries differ, by one octave each.

"Simulated": least squares through the minima over seeds, as in the known table; {agree} of {len(lines)} entries agree.
"By the edge": the interval that the package's verdicts use, which takes the minima's own height above the best off and
pays for it with scatter. `plan --power` uses that one.

{table(header, lines)}

{machine("numpy", "scipy")}
`{command()}`, {took_s:.0f} s.
"""


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=20_000, help="simulated studies (default 20,000)")
    parser.add_argument("--output", type=Path, default=HERE / "power.md", help="where to write (default power.md)")
    return parser.parse_args()


def main() -> None:
    """Simulate every entry and write the table."""
    options = parse_options()
    started = time.perf_counter()
    draws = Draws(options.replicates)
    lines = rows(draws)
    publish(report(draws, time.perf_counter() - started, lines), options.output)


if __name__ == "__main__":
    main()
