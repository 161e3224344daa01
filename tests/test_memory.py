"""The memory model against what packs take: peaks of a fresh process, since packs are sized by the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLEAR = Path("/proc/self/clear_refs")
MEBIBYTE = 2**20

PROGRAM = """
import ctypes, gc, json
import torch
from hyperscale import *
from hyperscale.packing import Pack
from hyperscale.trial import Trial

torch.set_num_threads(1)
ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=4)
shared = {"bias": "hidden", "activation": "tanh"}
SHAPES = {
    "generated weights": (16, Approximation(
        method=Hypernetwork(primary_widths=(128,), widths=(256,), **shared), target=ball, steps=3,
        points=FreshPoints(instances=32, points=32))),
    "wide activations": (16, Approximation(
        method=Monolithic(primary_widths=(128,) * 4, **shared), target=ball, steps=3,
        points=FreshPoints(instances=128, points=32))),
    "a sample": (4, Approximation(
        method=Embedding(primary_widths=(10,), widths=(100,), embedding_dim=5000), steps=3, optimizer=SGD(lr=0.01),
        target=InnerProduct(x_dim=500, conditioning_dim=500),
        points=FixedSample(size=4000, test_size=1000, batch_size=200))),
    "contracted": (4, Approximation(
        method=Hypernetwork(primary_widths=(10,), widths=(100,)), steps=3, optimizer=SGD(lr=0.01),
        target=InnerProduct(x_dim=500, conditioning_dim=500),
        points=FixedSample(size=1000, test_size=1000, batch_size=200))),
    "evaluation": (2, Generation(accuracy_weight=1.0, steps=3)),
}


def kilobytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def train(setting, count):
    run = setting.start([(setting, seed) for seed in range(count)], "cpu")
    while not run.advance(60.0):
        pass


for count, setting in SHAPES.values():  # what torch takes once, for threads and kernels, is no pack's doing
    train(setting.brief(1), 1)
for name, (count, setting) in SHAPES.items():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = kilobytes("VmRSS")
    train(setting, count)
    pack = Pack(trials=tuple(Trial(setting=setting, seed=seed) for seed in range(count)))
    print(json.dumps([name, 1024 * (kilobytes("VmHWM") - before), pack.memory_bytes]))
"""


@pytest.mark.skipif(not os.access(CLEAR, os.W_OK), reason="the peak of a process can only be reset on Linux")
def test_packs_take_about_the_memory_they_are_said_to() -> None:
    """Peaks of training and evaluation lie within a factor of 2.5 of the model, up or down, and 16 MiB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 5
    for name, peak, model in rows:
        assert model > 40 * MEBIBYTE, f"{name} is too small to tell"
        assert model / 2.5 - 16 * MEBIBYTE < peak < 2.5 * model + 16 * MEBIBYTE, f"{name}: {peak:,} for {model:,}"
