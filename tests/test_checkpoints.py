"""Pack checkpoints in the store: found again by the next driver, however it would pack today."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch

from hyperscale.dispatch.checkpoints import checkpoint_path, discard, interrupted_packs, seal, unseal
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.worker import PackWorker
from hyperscale.packing import Pack, make_packs
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile


def saved(pack: Pack, folder: Path) -> PackWorker:
    """Begin a pack, save it, and leave it."""
    worker = PackWorker(pack, checkpoints=folder)
    worker.advance(0.0)
    worker.save()
    return worker


def test_a_saved_pack_comes_back_as_it_was(tiny: StudyFile, store: Store) -> None:
    """The next launch goes on with the very pack, though it would pack otherwise; results are those undisturbed."""
    trials = tiny.study.trials()
    odd = Pack(trials=(trials[5], trials[4]))
    saved(odd, store.checkpoints)
    launch = Launch(tiny, store, InProcess(device="cpu"), max_members=1)
    assert launch.packs[0] == odd
    packed = [trial.digest for pack in launch.packs for trial in pack.trials]
    assert sorted(packed) == sorted(trial.digest for trial in trials)
    launch.run()
    undisturbed = Store(folder=store.folder.parent / "undisturbed")
    Launch(tiny, undisturbed, InProcess(device="cpu")).run()
    for trial in trials[4:6]:
        ours, theirs = (place.journal("reader").get(trial.digest) for place in (store, undisturbed))
        assert ours is not None
        assert theirs is not None
        assert (ours.metrics, ours.curves) == (theirs.metrics, theirs.curves)
    assert not list(store.checkpoints.iterdir())


def test_only_packs_that_wait_as_a_whole_come_back(tiny: StudyFile, tmp_path: Path) -> None:
    """A pack one of whose trials is settled meanwhile, damaged notes and notes without tensors are passed over."""
    packs = make_packs(tiny.study.trials(), max_members=2)
    for pack in packs[:4]:
        saved(pack, tmp_path)
    checkpoint_path(tmp_path, packs[2]).unlink()
    checkpoint_path(tmp_path, packs[3]).with_suffix(".json").write_text("{")
    waiting = [trial for pack in packs for trial in pack.trials if trial is not packs[1].trials[0]]
    assert interrupted_packs(tmp_path, waiting) == [packs[0]]
    assert interrupted_packs(tmp_path / "absent", waiting) == []
    discard(tmp_path, packs[0])
    assert interrupted_packs(tmp_path, waiting) == []


def test_a_bit_lost_on_disk_is_noticed(tiny: StudyFile, tmp_path: Path) -> None:
    """One flipped bit of a saved tensor, which torch would load without a word: the pack begins anew instead."""
    pack = make_packs(tiny.study.trials(), max_members=2)[0]
    whole = PackWorker(pack).advance(1e9)
    saved(pack, tmp_path)
    path = checkpoint_path(tmp_path, pack)
    with zipfile.ZipFile(io.BytesIO(unseal(path.read_bytes()))) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        content = archive.read(largest)
    data = bytearray(path.read_bytes())
    data[bytes(data).index(content) + len(content) // 2] ^= 1
    path.write_bytes(data)
    torch.load(io.BytesIO(data[len(seal(b"")) :]), weights_only=True)
    worker = PackWorker(pack, checkpoints=tmp_path)
    rest = worker.advance(1e9)
    assert [(r.metrics, r.curves) for r in rest] == [(r.metrics, r.curves) for r in whole]
    assert not path.exists()
