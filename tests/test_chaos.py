"""Faults of fixed seeds on a small study: a handful always, every kind when asked; and that the account can be trusted.

`make chaos` strikes many at random.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hyperscale.dispatch.worker import PackWorker
from hyperscale.packing import make_packs
from hyperscale.study import load_study
from tests.chaos.__main__ import deal, draw
from tests.chaos.account import document
from tests.chaos.faults import KINDS
from tests.chaos.ground import Ground, Table, newest_segment, tear, tmpfs_refused, undisturbed
from tests.chaos.ledger import Ledger, most
from tests.chaos.rounds import Account, Round, Struck
from tests.chaos.study import Shape, write_study
from tests.clusters import Cluster, namespaces_refused

SMALL = Shape(settings=6, seeds=4, steps=25, step_s=0.1)
QUICK = ("worker killed", "driver killed", "journal torn", "checkpoint damaged")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table of the small study, undisturbed."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), SMALL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, in network namespaces where those are allowed."""
    with Cluster(namespaces=not namespaces_refused()) as made:
        made.add("one")
        made.add("two")
        yield made


def strike(folder: Path, cluster: Cluster, kinds: Sequence[str], reference: Table, seed: int) -> Account:
    """Play a round of these kinds and assert that it is clean."""
    mlflow = next((KINDS[kind].needs for kind in kinds if KINDS[kind].needs in ("server", "sqlite")), "none")
    small = any(KINDS[kind].needs == "small" for kind in kinds)
    with Ground(folder / "ground", cluster, SMALL, mlflow=mlflow, small=small) as ground:
        account = Round(ground, kinds, random.Random(seed)).run(reference)
    assert (account.lost, account.different, account.twice) == (0, 0, 0)
    assert account.mlflow_equal is not False
    assert not any(fault.stuck for fault in account.faults)
    return account


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_driver_a_worker_a_line_and_a_checkpoint(cluster: Cluster, reference: Table, tmp_path: Path) -> None:
    """Four faults in one go: the table is the undisturbed one, bit for bit, and something did strike."""
    account = strike(tmp_path, cluster, QUICK, reference, seed=3)
    assert len(account.faults) + len(account.not_struck) == len(QUICK)
    assert account.faults
    assert account.num_runs > 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault(kind: str, cluster: Cluster, reference: Table, tmp_path: Path) -> None:
    """Struck twice by each: nothing lost, nothing twice, bits as undisturbed."""
    refused = {"namespaces": namespaces_refused, "small": lambda: tmpfs_refused(tmp_path / "try")}
    if KINDS[kind].needs in refused and (why := refused[KINDS[kind].needs]()):
        pytest.skip(f"{KINDS[kind].needs}: {why}")
    strike(tmp_path, cluster, [kind, kind], reference, seed=5)


class TestTheAccount:
    """What is counted is what was done."""

    def test_work_done_twice_is_found_in_the_ledger(self, tmp_path: Path) -> None:
        """A pack that goes on from a checkpoint at step 2, after 3 steps: one step again, of two members."""
        lines = [
            {"at": 1.0, "run": "a", "from": 0, "to": 3, "value": 0.1, "seeds": [0, 1]},
            {"at": 5.0, "run": "b", "from": 2, "to": 4, "value": 0.1, "seeds": [0, 1]},
            {"at": 6.0, "run": "b", "from": 4, "to": 6, "value": 0.1, "seeds": [0, 1]},
        ]
        path = tmp_path / "ledger"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at": 7')
        ledger = Ledger(path)
        ledger.read()
        assert ledger.done == 12
        repeats = list(ledger.repeats())
        assert [(r.broken_at, r.began_at, r.steps, r.member_steps) for r in repeats] == [(1.0, 5.0, 1, 2)]
        assert most(repeats) == 1
        assert len(ledger.goes()) == 2

    def test_halves_that_begin_anew_repeat_what_the_whole_had_done(self, tmp_path: Path) -> None:
        """Two halves from the start after 3 steps of the whole: each repeats 3 steps of its member."""
        lines = [{"at": 1.0, "run": "a", "from": 0, "to": 3, "value": 0.1, "seeds": [0, 1]}]
        lines += [{"at": 5.0 + s, "run": f"b{s}", "from": 0, "to": 5, "value": 0.1, "seeds": [s]} for s in (0, 1)]
        path = tmp_path / "ledger"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        ledger = Ledger(path)
        ledger.read()
        assert [(r.steps, r.member_steps) for r in ledger.repeats()] == [(3, 3), (3, 3)]

    def test_the_study_is_restored_to_the_bit(self, tmp_path: Path) -> None:
        """A pack of the study that is saved and taken up elsewhere ends as one that never stopped."""
        shape = Shape(settings=1, seeds=3, steps=8, step_s=0.01)
        study = load_study(write_study(tmp_path / "study", shape)).study
        pack = make_packs(study.trials())[0]
        first = PackWorker(pack, checkpoints=tmp_path / "checkpoints")
        first.advance(0.03)
        first.save()
        assert 0 < first.fraction < 1
        second, ended = PackWorker(pack, checkpoints=tmp_path / "checkpoints"), []
        while not second.done:
            ended += second.advance(1.0)
        whole, undisturbed_ones = PackWorker(pack), []
        while not whole.done:
            undisturbed_ones += whole.advance(1.0)
        assert [(r.status, r.metrics, r.curves) for r in ended] == [
            (r.status, r.metrics, r.curves) for r in undisturbed_ones
        ]

    def test_a_torn_journal_is_torn_as_told(self, tmp_path: Path) -> None:
        """Either half a line is appended, or the last line loses its end; whole lines before it stay."""
        folder = tmp_path / "journal"
        folder.mkdir()
        whole = b'{"record":"setting"}\n{"record":"trial"}\n'
        seen = set()
        for seed in range(8):
            (folder / "one.jsonl").write_bytes(whole)
            seen.add(tear(tmp_path, random.Random(seed)))
            data = newest_segment(tmp_path).read_bytes()
            assert data.startswith(whole[:21])
            assert not data.endswith(b"\n")
        assert seen == {"half a line more", "the last line cut"}

    def test_kinds_are_drawn_by_weight_and_dealt_to_rounds_that_can_have_them(self) -> None:
        """Of 100 as many as the weights say; what the ground lacks is left out; MLflow's faults meet their MLflow."""
        kinds = draw(100, ["server", "sqlite", "small", "namespaces"], random.Random(1))
        assert len(kinds) == 100
        assert {kind: kinds.count(kind) for kind in KINDS} == {kind: each.weight for kind, each in KINDS.items()}
        few = draw(20, ["server", "sqlite"], random.Random(1))
        assert len(few) == 20
        assert not {"disk full", "network of a node lost"} & set(few)
        rounds = deal(kinds, 10)
        assert sorted(kind for _, taken in rounds for kind in taken) == sorted(kinds)
        for mlflow, taken in rounds:
            assert {KINDS[kind].needs for kind in taken} <= {"", "small", "namespaces", mlflow}

    def test_the_document_tells_what_was_lost(self) -> None:
        """A lost trial, a changed row and a driver that was stuck are in the text."""
        fault = Struck(kind="driver killed", at=0.0, lost=3, run_again=1, stuck=True, recovered_s=2.0)
        account = Account(
            faults=[fault], num_trials=24, lost=3, different=2, twice=1, written_twice=4, mlflow_equal=None,
            unexplained=[], num_runs=2, wall_s=1.0, not_struck=[],
        )  # fmt: skip
        assert not account.clean
        text = document([account], None, SMALL, 1, 60.0, {"namespaces": "not allowed", "small": ""})
        assert "| driver killed | 1 | 3 | 0 | 0.0 | 0 | 1 | 1 | 2.0 / 2.0 |" in text
        assert "3 trials lost,\n  1 counted twice, 2 rows other" in text
        assert "no namespaces here: not allowed" in text
