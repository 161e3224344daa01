"""Tests of the planner and its probes: what is measured, what is kept, and what a budget of memory refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hyperscale.dispatch import planner as planner_module
from hyperscale.dispatch.executor import Events, Executor
from hyperscale.dispatch.planner import Limits, Planner
from hyperscale.dispatch.probe import speed_to_json
from hyperscale.errors import ResourceError
from hyperscale.methods.monolithic import Monolithic
from hyperscale.packing import Pack, Speed
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.setting import Setting
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.trial import Trial

KNOWN = Speed(members=(1, 4, 16), step_seconds=(1e-3, 1.2e-3, 6e-3), evaluation_s=0.01, member_bytes=1000)


class Measuring(Executor):
    """An executor that measures by heart and notes what it was asked."""

    name = "measuring"

    def __init__(self, speed: Speed | None = KNOWN, device: str = "a device", num_workers: int = 1) -> None:
        self.speed, self.device, self.num_workers = speed, device, num_workers
        self.asked: list[tuple[int, int, int]] = []

    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Refuse: planning trains nothing."""
        raise AssertionError("planning trains nothing")

    def workers(self) -> int:
        """As told."""
        return self.num_workers

    def device_key(self) -> str:
        """As told."""
        return self.device

    def measure(self, members: Sequence[tuple[Setting, int]], memory_bytes: int) -> Speed | None:
        """Note the widest layer of the first member, how many members there are, and the memory."""
        width = members[0][0].columns()["primary_width"]
        assert isinstance(width, int)
        self.asked.append((width, len(members), memory_bytes))
        return self.speed

    def memory_per_pack(self) -> int:
        """A round number."""
        return 10**9


def trials(width: int, count: int, steps: int = 20_000) -> list[Trial]:
    """Return trials of one program; 20 000 steps are some seconds of work."""
    setting = Approximation(
        method=Monolithic(primary_widths=(width,)),
        target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
        points=FreshPoints(instances=4, points=4),
        steps=steps,
        grid_points=9,
    )
    return [Trial(setting=setting, seed=seed) for seed in range(count)]


# --- what is measured, and kept --------------------------------------------------------------------------------


def test_a_second_planner_measures_nothing(tmp_path: Path) -> None:
    """Measurements are kept in the store per device and program: the same study is measured once on a device."""
    study = [*trials(4, 20, steps=10**6), *trials(8, 20, steps=10**6)]
    first = Measuring()
    packs = Planner(tmp_path, first)(study)
    assert sorted(first.asked) == [(4, 20, 10**9), (8, 20, 10**9)]
    again = Measuring(speed=None)
    assert [pack.digest for pack in Planner(tmp_path, again)(study)] == [pack.digest for pack in packs]
    assert again.asked == []
    elsewhere = Measuring(device="another device")
    Planner(tmp_path, elsewhere)(study)
    assert len(elsewhere.asked) == 2
    more = Measuring()
    Planner(tmp_path, more)([*study, *trials(16, 20)])
    assert [width for width, _, _ in more.asked] == [16]
    assert json.loads((tmp_path / "probes.json").read_text()).keys() == {"a device", "another device"}
    assert [path.name for path in tmp_path.iterdir()] == ["probes.json"]


def test_the_measured_best_size_is_used(tmp_path: Path) -> None:
    """Packs are as large as the measurement pays for, and carry it for their estimates."""
    packs = Planner(tmp_path, Measuring())(trials(4, 20))
    assert [len(pack.trials) for pack in packs] == [4] * 5
    assert {pack.speed for pack in packs} == {KNOWN}
    limited = Planner(tmp_path, Measuring(), Limits(max_members=2))(trials(4, 20))
    assert [len(pack.trials) for pack in limited] == [2] * 10


@pytest.mark.parametrize(
    ("study", "measures"),
    [
        (trials(4, 20, steps=10), True),  # milliseconds of work
        (trials(4, 20), False),  # told not to
        (trials(4, 1, steps=200_000), True),  # a lone trial: nothing to pack
        ([], True),
    ],
    ids=["little work", "measures=False", "a lone trial", "no trial"],
)
def test_nothing_is_measured_without_need(study: list[Trial], measures: bool, tmp_path: Path) -> None:
    """Little work, nothing to pack, or a planner that is told not to: the fixed model plans, and nothing is written."""
    executor = Measuring()
    packs = Planner(tmp_path, executor, measures=measures)(study)
    assert executor.asked == []
    assert sum(len(pack.trials) for pack in packs) == len(study)
    assert all(pack.speed is not None and not pack.speed.measured for pack in packs)
    assert list(tmp_path.iterdir()) == []


def test_a_planner_that_may_not_measure_uses_what_is_known(tmp_path: Path) -> None:
    """Kept measurements count with measures=False too, and with little work."""
    Planner(tmp_path, Measuring())(trials(4, 20))
    packs = Planner(tmp_path, Measuring(), measures=False)(trials(4, 20, steps=10))
    assert {pack.speed for pack in packs} == {KNOWN}


def test_packs_of_one_are_not_measured(tmp_path: Path) -> None:
    """With --max-pack 1 there is nothing to choose."""
    executor = Measuring()
    packs = Planner(tmp_path, executor, Limits(max_members=1))(trials(4, 3, steps=100_000))
    assert executor.asked == []
    assert [len(pack.trials) for pack in packs] == [1] * 3


def test_a_measurement_that_ended_for_want_of_trials_is_made_anew_with_more(tmp_path: Path) -> None:
    """What a run of few trials (--seeds 1, --max-pack) could not see does not bind a larger one; nor is it repeated."""
    few = Speed(members=(1, 3), step_seconds=(1e-3, 1.1e-3), evaluation_s=0.01, member_bytes=1000, open_ended=True)
    cost = trials(4, 1)[0].setting.cost()
    Planner(tmp_path, Measuring(few))(trials(4, 3, steps=10**6))
    for count, options, asked in (
        (3, {}, []),
        (5, {}, []),  # not twice as many: not worth another probe
        (20, {"max_members": 4}, []),
        (20, {"max_members": 1}, []),
        (20, {"memory_bytes": cost.shared_bytes + 6 * cost.memory_bytes}, []),  # the next size would be 12
        (20, {"max_members": 6}, [6]),
        (20, {}, [20]),
    ):
        executor = Measuring(few)
        Planner(tmp_path, executor, Limits(**options))(trials(4, count, steps=10**6))
        assert [members for _, members, _ in executor.asked] == asked
    Planner(tmp_path, Measuring())(trials(4, 20, steps=10**6))
    settled = Measuring()
    assert {pack.speed for pack in Planner(tmp_path, settled)(trials(4, 500, steps=10**6))} == {KNOWN}
    assert settled.asked == []


def test_probes_are_a_small_part_of_the_work_and_take_the_longest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 4 % of the time and 0.3 s a probe, so many programs are measured as that allows, most work first."""
    widths = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
    study = [trial for i, width in enumerate(widths) for trial in trials(width, 4, steps=4000 * (1 + i))]
    total = sum(pack.estimated_seconds for pack in Planner(tmp_path, Measuring(), measures=False)(study))
    allowed = int(0.04 * total / 0.3)
    assert 1 <= allowed < len(widths)
    heard: list[tuple[int, int]] = []
    executor = Measuring()
    Planner(tmp_path / "a", executor, on_probe=lambda number, of: heard.append((number, of)))(study)
    assert [width for width, _, _ in executor.asked] == list(widths[::-1])[:allowed]
    assert heard == [(number, allowed) for number in range(1, allowed + 1)]
    monkeypatch.setattr(planner_module, "_PROBED_PART", 10.0)
    everything = Measuring()
    Planner(tmp_path / "b", everything)(study)
    assert len(everything.asked) == len(widths)


def test_what_cannot_be_measured_is_planned_by_the_model(tmp_path: Path) -> None:
    """A program that does not even start is packed by the fixed model; its run will say why."""
    packs = Planner(tmp_path, Measuring(speed=None))(trials(4, 20))
    assert sum(len(pack.trials) for pack in packs) == 20
    assert all(pack.speed is not None and not pack.speed.measured for pack in packs)


def _kept(speed: object) -> str:
    """Return the text of a store that knows one program of `trials(4, ...)` on the device at hand."""
    name = planner_module.sha256(trials(4, 1)[0].setting.program_key())[:16]
    return json.dumps({"a device": {name: speed}})


SOUND = speed_to_json(KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{torn",
        "\x00\x01",
        "3",
        "[]",
        '{"a device": 3}',
        '{"a device": ["x"]}',
        '{"a device": null}',
        _kept(3),
        _kept(None),
        _kept({}),
        _kept({**SOUND, "members": []}),
        _kept({**SOUND, "members": [1, 4]}),
        _kept({**SOUND, "members": "14"}),
        _kept({**SOUND, "members": [4, 1, 16]}),
        _kept({**SOUND, "members": [0, 1, 2]}),
        _kept({**SOUND, "step_seconds": ["a", "b", "c"]}),
        _kept({**SOUND, "step_seconds": [1.0, math.nan, 2.0]}),
        _kept({**SOUND, "evaluation_s": None}),
        _kept({key: value for key, value in SOUND.items() if key != "member_bytes"}),
        _kept({**SOUND, "from_a_later_version": 1}),
    ],
)
def test_a_corrupted_file_of_probes_is_ignored(text: str, tmp_path: Path) -> None:
    """Whatever stands in probes.json, the study is planned; what makes no sense is measured again and replaced."""
    (tmp_path / "probes.json").write_text(text)
    executor = Measuring()
    packs = Planner(tmp_path, executor)(trials(4, 20))
    assert len(executor.asked) == 1
    assert {pack.speed for pack in packs} == {KNOWN}
    again = Measuring()
    assert {pack.speed for pack in Planner(tmp_path, again)(trials(4, 20))} == {KNOWN}
    assert again.asked == []


@pytest.mark.parametrize("kind", ["a file in the way", "a folder in the way", "no permission"])
def test_a_folder_that_cannot_be_written_to_costs_a_measurement_only(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning goes on with what was measured, and the next planner measures again."""
    folder = tmp_path / "store"
    if kind == "a file in the way":
        folder.write_text("")
    elif kind == "a folder in the way":
        (folder / "probes.json").mkdir(parents=True)
    else:
        plain = Path.write_text

        def refuse(self: Path, *arguments: Any, **options: Any) -> int:
            if self.parent == folder:
                raise PermissionError(13, "Permission denied")
            return plain(self, *arguments, **options)

        monkeypatch.setattr(Path, "write_text", refuse)
    for _ in range(2):
        executor = Measuring()
        assert {pack.speed for pack in Planner(folder, executor)(trials(4, 20))} == {KNOWN}
        assert len(executor.asked) == 1


# --- budgets ---------------------------------------------------------------------------------------------------


def test_a_budget_below_one_trial_is_refused_with_its_numbers(tmp_path: Path) -> None:
    """The message says what a pack may take, what one trial wants, of which method, and which option to change."""
    study = [*trials(4, 3), *trials(3000, 3)]
    cost = study[-1].setting.cost()
    needed = cost.memory_bytes + cost.shared_bytes
    executor = Measuring()
    with pytest.raises(ResourceError) as caught:
        Planner(tmp_path, executor, Limits(memory_bytes=needed - 1))(study)
    count = study[-1].setting.columns()["num_params_total"]
    for part in (f"{(needed - 1) / 2**20:.0f} MiB (--pack-memory)", f"Monolithic with {count:,} parameters"):
        assert part in str(caught.value)
    assert f"wants about {needed / 2**20:.0f} MiB" in str(caught.value)
    assert executor.asked == []
    assert list(tmp_path.iterdir()) == []
    assert Planner(tmp_path, Measuring(None), Limits(memory_bytes=needed))(study)


def test_without_a_told_budget_the_executors_share_counts_and_nothing_is_refused(tmp_path: Path) -> None:
    """The default budget makes packs smaller; a trial above it is tried in a pack of its own."""

    class Poor(Measuring):
        def memory_per_pack(self) -> int:
            return 10_000

    roomy = Speed(members=(1, 16), step_seconds=(1.0, 1.0), evaluation_s=0.0, member_bytes=4000)
    packs = Planner(tmp_path, Poor(roomy))(trials(4, 8))
    assert [len(pack.trials) for pack in packs] == [2] * 4
    large = Planner(tmp_path, Poor(None))(trials(3000, 2))
    assert [len(pack.trials) for pack in large] == [1, 1]
    told = Planner(tmp_path, Poor(roomy), Limits(memory_bytes=2**30))(trials(4, 8))
    assert [len(pack.trials) for pack in told] == [8]
