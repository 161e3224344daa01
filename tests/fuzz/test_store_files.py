"""The store's other files damaged (signs of life, speeds, checkpoints): that costs time at most, never a result."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperscale.console import pack_rows, print_status, status_data
from hyperscale.dispatch.checkpoints import checkpoint_path, interrupted_packs, seal, unseal
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.planner import Limits, Planner
from hyperscale.dispatch.probe import speed_to_json
from hyperscale.dispatch.worker import PackWorker
from hyperscale.identity import sha256
from hyperscale.methods.monolithic import Monolithic
from hyperscale.packing import Pack, estimated_speed
from hyperscale.recording.store import Store
from hyperscale.settings.approximation import Approximation
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FreshPoints
from hyperscale.trial import Trial, TrialResult
from tests.fuzz.endings import Ending, examples, judge
from tests.fuzz.test_journals import FILE, STUDY

_LEAVES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), -float("inf"), "", "x", "12", "\ud800", [], [1], {},
    {"a": []}, [[[]]], "[bold]", "9" * 400,
)  # fmt: skip
_TEXTS = (
    b"",
    b"null",
    b"[]",
    b"3",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"\x00",
    b"[" * 20_000,
    b"9" * 5000,
    b"[1e999]",
    b"{}",
    b"NaN",
)


def spoiled(sound: Any) -> st.SearchStrategy[bytes]:
    """Return texts that were the JSON of ``sound``: a value replaced somewhere, bytes changed, or anything else."""
    places = list(_places(sound))

    @st.composite
    def draw_text(draw: st.DrawFn) -> bytes:
        how = draw(st.sampled_from(("value", "value", "value", "bytes", "other")))
        if how == "other":
            return draw(st.one_of(st.sampled_from(_TEXTS), st.binary(max_size=20)))
        if how == "value":
            spot = draw(st.sampled_from(places))
            leaf = draw(st.one_of(st.sampled_from(_LEAVES), st.integers(), st.floats(), st.text(max_size=4)))
            return json.dumps(_put(sound, spot, leaf)).encode()
        data = json.dumps(sound).encode()
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 9)) :]

    return draw_text()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, (*path, index))


def _put(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    step, *rest = path
    if isinstance(value, dict):
        return {**value, step: _put(value[step], tuple(rest), leaf)}
    return [*value[:step], _put(value[step], tuple(rest), leaf), *value[step + 1 :]]


_LAUNCH = {
    "study": STUDY.name, "trials": 9, "ended_trials": 2, "running": 3, "fraction": 0.25, "remaining_s": 12.5,
    "ended": False, "heartbeat": 4e9, "pid": 17,
}  # fmt: skip


def stand(text: bytes) -> Ending:
    """Check that `status` answers beside a spoiled sign of life, in words and as JSON, with counts that add up."""
    with tempfile.TemporaryDirectory() as name:
        store = Store(folder=Path(name))
        (store.folder / "launches").mkdir()
        (store.folder / "launches" / "one.json").write_bytes(text)
        store.write_launch("two", {**_LAUNCH, "heartbeat": time.time()})
        data = status_data(FILE, store, None)
        json.dumps(data, allow_nan=False).encode()
        print_status(FILE.headline, data)
        assert 0 <= data["missing"] <= data["trials"]
        assert data["running"] >= 3, "the sound launch is no longer seen"
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=700)
@given(text=spoiled(_LAUNCH))
def test_a_spoiled_sign_of_life_is_passed_over(text: bytes) -> None:
    """`status` tells of the launches that make sense, whatever else lies beside them."""
    judge("signs of life", lambda: stand(text))


_SETTINGS = [
    Approximation(
        method=Monolithic(primary_widths=(width,)),
        target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
        steps=8,
        points=FreshPoints(instances=2, points=2),
        grid_points=3,
    )
    for width in (2, 8)
]
_TRIALS = [trial for setting in _SETTINGS for trial in Trial.of_setting(setting, range(5))]
_EXECUTOR = InProcess(device="cpu")
_NAMES = [sha256(setting.program_key())[:16] for setting in _SETTINGS]
_SPEEDS = {_EXECUTOR.device_key(): {name: speed_to_json(estimated_speed(_SETTINGS[0])) for name in _NAMES}}


def plan(text: bytes) -> Ending:
    """Check that the planner packs every trial once, with finite times, by whatever speeds it finds."""
    with tempfile.TemporaryDirectory() as name:
        planner = Planner(Path(name), _EXECUTOR, Limits(memory_bytes=2**30), measures=False)
        planner.path.write_bytes(text)
        packs = planner(_TRIALS)
        packed = [trial.digest for pack in packs for trial in pack.trials]
        assert sorted(packed) == sorted(trial.digest for trial in _TRIALS)
        json.dumps(pack_rows(packs), allow_nan=False)
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=700)
@given(text=spoiled(_SPEEDS))
def test_spoiled_speeds_are_as_good_as_none(text: bytes) -> None:
    """The planner's file of measurements may hold anything: every trial is packed once."""
    judge("measured speeds", lambda: plan(text))


_PACK = Pack(trials=tuple(_TRIALS[:2]))
_MEMBERS = [trial.digest for trial in _PACK.trials]


def resume(text: bytes) -> Ending:
    """Check that packs found in a folder with a spoiled list of members are sound packs of waiting trials."""
    with tempfile.TemporaryDirectory() as name:
        path = checkpoint_path(Path(name), _PACK)
        path.write_bytes(b"")
        path.with_suffix(".json").write_bytes(text)
        (path.parent / ("f" * 64 + ".json")).write_text(json.dumps([_TRIALS[7].digest]))
        (path.parent / ("f" * 64 + ".pt")).touch()
        packs = interrupted_packs(Path(name), _TRIALS)
        found = [trial.digest for pack in packs for trial in pack.trials]
        assert len(set(found)) == len(found), "a trial is in two packs"
        assert _TRIALS[7].digest in found, "the sound list is passed over"
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=500)
@given(text=st.one_of(spoiled(_MEMBERS), spoiled([*_MEMBERS, _MEMBERS[0], _TRIALS[7].digest])))
def test_a_spoiled_list_of_members_is_passed_over(text: bytes) -> None:
    """No pack is made of a list that is damaged, names strangers, or names a trial twice."""
    judge("checkpoint members", lambda: resume(text))


def _checkpoint() -> bytes:
    """Return the checkpoint of the pack after some steps."""
    with tempfile.TemporaryDirectory() as name:
        worker = PackWorker(_PACK, checkpoints=Path(name))
        worker.advance(0.0)
        worker.save()
        return unseal(checkpoint_path(Path(name), _PACK).read_bytes())


def _trained(worker: PackWorker) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    while not worker.done:
        results |= {result.digest: result for result in worker.advance(1.0)}
    return results


_CHECKPOINT = _checkpoint()
_UNDISTURBED = _trained(PackWorker(_PACK))


class Touch:
    """What a malicious pickle would run: it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def _member(state: Any, spot: tuple[Any, ...], leaf: Any) -> bytes:
    """Return the checkpoint with something else at one place of its state."""
    stream = io.BytesIO()
    torch.save(_put(state, spot, leaf), stream)
    return stream.getvalue()


_STATE = torch.load(io.BytesIO(_CHECKPOINT), weights_only=True)
_SPOTS = [spot for spot in _places(_STATE) if spot]
_TENSORS = (torch.zeros(0), torch.zeros(1, 1), torch.full((2, 7), torch.nan), torch.zeros(2, 3, dtype=torch.int64))


@st.composite
def checkpoints(draw: st.DrawFn) -> bytes:
    """Draw a damaged checkpoint: bytes changed, cut, random or another program's; or a sealed one that is none."""
    if draw(st.integers(0, 2)) == 0:
        return seal(draw(_forged()))
    sealed = seal(_CHECKPOINT)
    at = draw(st.integers(0, len(sealed) - 1))
    how = draw(st.sampled_from(("flip", "flip", "cut", "random", "unsealed", "insert")))
    if how == "flip":
        return sealed[:at] + bytes([sealed[at] ^ 1 << draw(st.integers(0, 7))]) + sealed[at + 1 :]
    if how == "insert":
        return sealed[:at] + draw(st.binary(min_size=1, max_size=9)) + sealed[at:]
    return sealed[:at] if how == "cut" else _CHECKPOINT if how == "unsealed" else draw(st.binary(max_size=200))


@st.composite
def _forged(draw: st.DrawFn) -> bytes:
    """Draw the contents of a checkpoint whose seal fits: archives and states of the wrong form."""
    how = draw(st.sampled_from(("flip", "cut", "random", "zip", "state", "state", "other")))
    at = draw(st.integers(0, len(_CHECKPOINT) - 1))
    if how == "flip":
        return _CHECKPOINT[:at] + bytes([_CHECKPOINT[at] ^ 1 << draw(st.integers(0, 7))]) + _CHECKPOINT[at + 1 :]
    if how == "cut":
        return _CHECKPOINT[:at]
    if how == "zip":
        return _rezipped(draw(st.binary(max_size=30)))
    if how == "state":
        leaves = st.one_of(st.sampled_from(_LEAVES[:5]), st.sampled_from(_TENSORS))
        return _member(_STATE, draw(st.sampled_from(_SPOTS)), draw(leaves))
    if how == "other":
        return draw(st.sampled_from((pickle.dumps([1, 2]), pickle.dumps({"run": {}}), b"PK\x03\x04", b"\x80\x02.")))
    return draw(st.binary(max_size=200))


def _rezipped(data: bytes) -> bytes:
    """Return the checkpoint's archive with its pickle replaced by ``data``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_CHECKPOINT)) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry.endswith("data.pkl") else old.read(entry))
    return stream.getvalue()


def train(data: bytes) -> Ending:
    """Check that training beside a damaged checkpoint ends every trial once; return with what.

    What a bit has changed in must cost time only. A forged one, whose seal fits, may tell of another training, or make
    the trials fail with a reason; it must never end them otherwise.
    """
    with tempfile.TemporaryDirectory() as name:
        path = checkpoint_path(Path(name), _PACK)
        path.write_bytes(data)
        worker = PackWorker(_PACK, checkpoints=Path(name))
        results = _trained(worker)
        assert results.keys() == _UNDISTURBED.keys()
        for digest, result in results.items():
            json.dumps(result.to_json(), allow_nan=False)
            if not _sealed(data):
                assert (result.status, result.metrics) == (_UNDISTURBED[digest].status, _UNDISTURBED[digest].metrics)
    return Ending.RIGHT_ANSWER


def _sealed(data: bytes) -> bool:
    """Whether the seal fits, so that whoever wrote the bytes meant them."""
    try:
        unseal(data)
    except ValueError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@examples(40, fuzzed=600)
@given(data=checkpoints())
def test_a_damaged_checkpoint_costs_time_and_no_result(data: bytes) -> None:
    """The pack begins anew: the same bits as without a checkpoint, every trial once."""
    judge("checkpoints", lambda: train(data))


@pytest.mark.parametrize("form", ["pickle", "archive", "torch.save"])
def test_no_checkpoint_runs_code(form: str, tmp_path: Path) -> None:
    """A pickle that would leave a folder behind leaves none, whichever way it is wrapped; the pack trains anew."""
    trap = Touch(tmp_path / "run")
    stream = io.BytesIO()
    torch.save({"run": trap, "elapsed_s": 1.0}, stream)
    data = {"pickle": pickle.dumps(trap), "archive": _rezipped(pickle.dumps(trap)), "torch.save": stream.getvalue()}
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    checkpoint_path(folder, _PACK).write_bytes(seal(data[form]))
    results = _trained(PackWorker(_PACK, checkpoints=folder))
    assert not (tmp_path / "run").exists()
    assert {d: r.metrics for d, r in results.items()} == {d: r.metrics for d, r in _UNDISTURBED.items()}
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "run").exists(), "the trap is none"
