"""Packs through Ray Tune against the same trials one per Tune trial with a stock function trainable.

``python -m tests.bench.packs [--stock-trials N]`` runs both in one go on this machine and writes ``packs.md`` beside
this file. The stock side runs N of the quickstart's trials, the same number from every program, each a Tune trial of
its own with one core, as a user of Tune would write it; its rate is compared with that of the whole quickstart in
packs. Both sides start Ray afresh and include its start.
"""

from __future__ import annotations

import argparse
import time

from hyperscale.study import load_study
from tests.bench.machine import command, machine
from tests.bench.tables import HERE, publish, table
from tests.bench.trials import Done, in_packs, local_ray, one_by_one, spread

STUDY = HERE.parent.parent / "studies" / "quickstart.py"


def main() -> None:
    """Measure both sides and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stock-trials", type=int, default=36, help="trials on the stock side (default 36)")
    options = parser.parse_args()
    study_file = load_study(STUDY)
    ours = in_packs(study_file)
    started = time.perf_counter()
    with local_ray():
        stock = one_by_one(spread(study_file.study.trials(), options.stock_trials), "function")
    theirs = Done(seconds=time.perf_counter() - started, metrics=stock.metrics)
    rows = [
        [name, str(len(done.metrics)), f"{done.seconds:.0f}", f"{done.per_minute:.1f}"]
        for name, done in (("packs", ours), ("stock function trainable", theirs))
    ]
    rows.append(["**ratio**", "", "", f"**{ours.per_minute / theirs.per_minute:.1f}**"])
    text = f"""# Packs against one trial per process

The quickstart's trials through Ray Tune: in packs, and one per Tune trial with a stock function trainable (an equal
number from every program). Both include the start of Ray. Written by `make bench-packs`.

{table(["", "trials", "seconds", "trials per minute"], rows)}

{machine("ray")}
`{command()}`
"""
    publish(text, HERE / "packs.md")


if __name__ == "__main__":
    main()
