"""``make chaos``: many random faults over rounds of a study, and a table of what they cost.

``python -m tests.chaos --faults 100 --seed 1`` starts a cluster of three nodes (in network namespaces, where that is
allowed), strikes, checks the account of every round, measures a node's death against an undisturbed study, and writes
the table into ``tests/chaos/README.md``. It ends with 1 where anything was lost, counted twice or changed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.account import Comparison, document
from tests.chaos.faults import KINDS
from tests.chaos.ground import Ground, Table, tmpfs_refused, undisturbed
from tests.chaos.rounds import Account, Round
from tests.chaos.study import Shape
from tests.clusters import Cluster, namespaces_refused, wait_until

README = Path(__file__).parent / "README.md"
PER_ROUND = 10
_PASSES = 3
NODES = (("one", 2.0), ("two", 1.0), ("three", 1.0))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201


def draw(num_faults: int, offered: Sequence[str], chance: random.Random) -> list[str]:
    """Return kinds in random order, as often as their weights say; those that the ground cannot have are left out."""
    weights = {name: kind.weight for name, kind in KINDS.items() if not kind.needs or kind.needs in offered}
    total = sum(weights.values())
    counts = {name: num_faults * weight // total for name, weight in weights.items()}
    rest = num_faults - sum(counts.values())
    for name in chance.sample(sorted(weights), min(rest, len(weights))):
        counts[name] += 1
    kinds = [name for name, count in counts.items() for _ in range(count)]
    chance.shuffle(kinds)
    return kinds


def deal(kinds: Sequence[str], per_round: int) -> list[tuple[str, list[str]]]:
    """Return rounds of at most ``per_round`` kinds, each with the MLflow that its kinds need."""
    rounds: list[tuple[str, list[str]]] = []
    waiting = list(kinds)
    while waiting:
        mlflow = ("server", "sqlite")[len(rounds) % 2]
        taken: list[str] = []
        for kind in list(waiting):
            if len(taken) < per_round and KINDS[kind].needs not in {"server", "sqlite"} - {mlflow}:
                taken.append(kind)
                waiting.remove(kind)
        rounds.append((mlflow, taken))
    return [(mlflow, taken) for mlflow, taken in rounds if taken]


def compare(folder: Path, cluster: Cluster, shape: Shape, reference: Table) -> Comparison:
    """Time the study on three nodes undisturbed, and with one node killed at four tenths and not replaced."""
    seconds: list[float] = []
    for name, kills in (("all three nodes", False), ("one killed", True)):
        with Ground(folder / name.replace(" ", "-"), cluster, shape) as ground:
            started = time.time()
            ground.start_driver()
            if kills:
                wait_until(lambda: ground.fraction > 0.4 or ground.died(), "four tenths are done", 900.0)
                cluster.drop("three" if "three" in cluster.nodes else sorted(cluster.nodes)[-1])
            wait_until(lambda: ground.finished or ground.died(), "the study ends", 1800.0)
            assert ground.finished, ground.words()
            assert ground.table() == reference
            seconds.append(time.time() - started)
            say(f"{name}: {seconds[-1]:.1f} s, {ground.num_runs} run")
    return Comparison(undisturbed_s=seconds[0], node_killed_s=seconds[1])


def one_round(
    folder: Path, cluster: Cluster, shape: Shape, drawn: tuple[str, list[str]], small: bool, seed: int, reference: Table
) -> Account:
    """Play one round in a folder that is removed when the account is clean."""
    mlflow, kinds = drawn
    with Ground(folder, cluster, shape, mlflow=mlflow, small=small) as ground:
        account = Round(ground, kinds, random.Random(seed), say).run(reference)
    say(
        f"  lost {account.lost}, changed {account.different}, twice {account.twice}, runs {account.num_runs}, "
        f"MLflow equal {account.mlflow_equal}, {account.wall_s:.0f} s"
    )
    if account.clean:
        shutil.rmtree(folder, ignore_errors=True)
    return account


def main() -> int:
    """Strike, check and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100, help="faults in all (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="of kinds and moments (default 1)")
    parser.add_argument("--per-round", type=int, default=PER_ROUND, help=f"faults a round (default {PER_ROUND})")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only these kinds (may be repeated)")
    parser.add_argument("--no-comparison", action="store_true", help="do not time a node's death")
    parser.add_argument("--output", type=Path, default=README, help="where the table is written")
    options = parser.parse_args()
    started, shape, chance = time.time(), Shape(), random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="hsc-"))
    refused = {"namespaces": namespaces_refused(), "small": tmpfs_refused(folder / "try")}
    for what, why in refused.items():
        if why:
            say(f"Left out what needs {what}: {why}.")
    offered = ["server", "sqlite", *(what for what, why in refused.items() if not why)]
    kinds = draw(options.faults, offered, chance)
    if options.kind:
        kinds = [chance.choice(options.kind) for _ in kinds]
    accounts: list[Account] = []
    comparison = None
    reference = undisturbed(folder / "undisturbed", shape)
    with Cluster(namespaces=not refused["namespaces"]) as cluster:
        for name, cpus in NODES:
            cluster.add(name, cpus=cpus)
        waiting = list(kinds)
        for _ in range(_PASSES):  # faults for which the study ended too early are carried over
            missed: list[str] = []
            for drawn in deal(waiting, options.per_round):
                say(f"Round {len(accounts) + 1}, MLflow by {drawn[0]}: {dict(Counter(drawn[1]))}")
                place, seed = folder / f"r{len(accounts) + 1}", chance.randrange(2**32)
                accounts.append(one_round(place, cluster, shape, drawn, not refused["small"], seed, reference))
                missed += accounts[-1].not_struck
            waiting = missed
        if not options.no_comparison:
            comparison = compare(folder, cluster, shape, reference)
    clean = all(account.clean for account in accounts)
    text = document(accounts, comparison, shape, options.seed, time.time() - started, refused)
    options.output.write_text(text)
    say(text)
    if clean:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"Not clean: what is left lies in {folder}.")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
