"""The table of `make chaos`: by kind of fault, what was lost, counted twice, repeated, and how it went on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.machine import machine
from tests.bench.tables import table
from tests.chaos.faults import KINDS
from tests.chaos.ledger import most
from tests.chaos.rounds import Account, Struck
from tests.chaos.study import Shape

INTERVAL_S, SLICE_S = 1.0, 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Seconds of a study on three nodes, undisturbed and with one node killed."""

    undisturbed_s: float
    node_killed_s: float


def _row(kind: str, faults: Sequence[Struck], shape: Shape) -> list[str]:
    repeats = [repeat for fault in faults for repeat in fault.repeats]
    times = sorted(fault.recovered_s for fault in faults if fault.recovered_s is not None)
    again = [fault for fault in faults if fault.run_again]
    return [
        kind,
        str(len(faults)),
        str(sum(fault.lost for fault in faults)),
        f"{most(repeats) * shape.step_s:.1f}" if repeats else "0",
        f"{len(repeats) / len(faults):.1f}",
        str(len(faults) - len(again)),
        str(len(again)),
        str(sum(fault.stuck for fault in faults)),
        f"{statistics.median(times):.1f} / {times[-1]:.1f}" if times else "–",
    ]


def _over(faults: Sequence[Struck], shape: Shape) -> list[str]:
    """Return what packs repeated beyond an interval after faults that leave checkpoints whole."""
    limit = INTERVAL_S + SLICE_S + shape.step_s / 2
    return [
        f"{fault.kind} {repeat.steps * shape.step_s:.1f} s" + (" (disputed)" if repeat.disputed else "")
        for fault in faults
        for repeat in fault.repeats
        if KINDS[fault.kind].keeps_checkpoints and repeat.steps * shape.step_s > limit
    ]


def document(
    accounts: Sequence[Account],
    comparison: Comparison | None,
    shape: Shape,
    seed: int,
    took_s: float,
    refused: Mapping[str, str],
) -> str:
    """Return the document."""
    faults = [fault for account in accounts for fault in account.faults]
    by_kind = {kind: [fault for fault in faults if fault.kind == kind] for kind in KINDS}
    rows = [_row(kind, struck, shape) for kind, struck in by_kind.items() if struck]
    header = [
        "fault", "times", "lost", "most repeated by a pack, s", "packs that repeated, each time", "went on alone",
        "`run` again", "stuck", "s until as many packs were at work: median / most",
    ]  # fmt: skip
    told = [account.mlflow_equal for account in accounts if account.mlflow_equal is not None]
    over = _over(faults, shape)
    left_out = "".join(f"\nLeft out, for there are no {what} here: {why}." for what, why in refused.items() if why)
    return f"""# Chaos

A study of {shape.num_trials} trials in {shape.settings} packs of {shape.steps * shape.step_s:.0f} s on three nodes ({
        "network namespaces with addresses of their own" if not refused["namespaces"] else "addresses on loopback"
    }), checkpoints every {INTERVAL_S:.0f} s. Faults strike at seeded random moments; after each, `hyperscale run` is
called again where the driver died, and nothing else is done (a lost node is replaced, the head and the MLflow server
are started again). Then the exported table is compared with that of the same study trained in one process, and the
workers' own ledger says what was done twice. Written by `make chaos`; `CHAOS_FAULTS` and `CHAOS_SEED` choose how many
and which.

{table(header, rows)}

- **{len(faults)} faults in {len(accounts)} rounds: {sum(a.lost for a in accounts)} trials lost,
  {sum(a.twice for a in accounts)} counted twice, {sum(a.different for a in accounts)} rows other than the undisturbed
  ones** (bits of every metric, statuses), of {sum(a.num_trials for a in accounts)}.
- Results that two goes at a pack both brought in, of which the journal keeps one: {
        sum(a.written_twice for a in accounts)
    }.
- MLflow, after `sync`, equal to the journal in {sum(map(bool, told))} of {len(told)} rounds.
- Packs that repeated more than a checkpoint interval and a slice ({INTERVAL_S + SLICE_S:.2f} s) after a fault that
  leaves checkpoints whole: {len(over)} of {sum(len(fault.repeats) for fault in faults)} that repeated anything{
        ": " + "; ".join(over) if over else ""
    }. (Disputed: a fault that spoils checkpoints struck at the same time.) Work repeated with no fault to blame: {
        sum(len(a.unexplained) for a in accounts)
    } packs.
{
        ""
        if comparison is None
        else f'''- Three nodes, undisturbed: {comparison.undisturbed_s:.0f} s. One of them killed at four tenths and not
  replaced: {comparison.node_killed_s:.0f} s, without help.
'''
    }
Seconds of repeated work are steps times the {shape.step_s} s that a step waits. Where a journal's line is cut its trial
runs anew, a checkpoint that is damaged or could not be written is none: there more than an interval is repeated.{
        left_out
    }

{machine("ray", "mlflow")}
`make chaos CHAOS_FAULTS={len(faults)} CHAOS_SEED={seed}`, {took_s / 60:.0f} minutes.
"""
