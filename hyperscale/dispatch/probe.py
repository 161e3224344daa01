"""Measuring how fast packs of a program train on the device at hand: a few steps of packs of rising size."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from hyperscale.dispatch.worker import default_device, hardware_name, keep_freed_memory
from hyperscale.packing import Speed
from hyperscale.settings.setting import Cost, PackRun, Setting
from hyperscale.trial import is_finite

Member = tuple[Setting, int]

_GROWTH = 4
_SLICE_S = 0.03
_WARM_UP_S = 0.004
_SLICES, _FEWEST_SLICES = 5, 3
_LONGEST_S = 2.0
_WORTH_GOING_ON = 0.97
_CLOSE = 1.3


def device_key(device: str) -> str:
    """Return what a measurement holds for: the hardware, torch's version, one thread on a CPU."""
    return f"{hardware_name(device)}, torch {torch.__version__}"


def device_key_here() -> str:
    """Return the key of the device that packs of this process train on."""
    return device_key(default_device())


def measure_here(members: Sequence[Member], memory_bytes: int) -> Speed | None:
    """Measure on the device of this process; None where packs cannot even be started (their run says why)."""
    try:
        return measure(members, default_device(), memory_bytes)
    except Exception:  # noqa: BLE001  (a trial that fails says so when it is run)
        return None


def device_memory() -> int:
    """Return the bytes free on the GPU where there is one, else those of this machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return 4 * 2**30


def measure(members: Sequence[Member], device: str, memory_bytes: int) -> Speed:
    """Measure a program with packs of 1, 4, 16, … of ``members``, while larger ones pay and fit in ``memory_bytes``.

    It takes some tenths of a second for small networks, and a step or two of large ones. On CUDA the memory a member
    adds is the allocator's peak; elsewhere it is the settings' own model.
    """
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    model = members[0][0].cost()
    started = time.monotonic()
    sizes: list[int] = []
    seconds: list[float] = []
    peaks: list[int] = []
    size = grown = 1
    while True:
        try:
            step, peak = _step(members[:size], device)
        except (RuntimeError, MemoryError):
            if not sizes:
                raise
            break
        sizes.append(size)
        seconds.append(step)
        peaks.append(peak)
        grown = next_size(model, size, len(members), memory_bytes)
        if grown == size or not _pays(sizes, seconds) or time.monotonic() - started > _LONGEST_S:
            break
        size = grown
    if len(sizes) > 1 and seconds[0] < _CLOSE * min(s / n for n, s in zip(sizes[1:], seconds[1:], strict=True)):
        # A near thing is looked at twice: the first pack of all is the one that a cold machine slows most.
        seconds[0] = min(seconds[0], _step(members[:1], device)[0])
    member = (peaks[-1] - peaks[0]) // max(sizes[-1] - sizes[0], 1) or peaks[0]
    return Speed(
        members=tuple(sizes),
        step_seconds=tuple(seconds),
        evaluation_s=_evaluation(members, device, seconds[0]),
        member_bytes=member or model.memory_bytes,
        shared_bytes=max(model.shared_bytes, peaks[0] - member),
        open_ended=grown == sizes[-1] and _pays(sizes, seconds),
    )


def next_size(cost: Cost, size: int, num_members: int, memory_bytes: int) -> int:
    """Return the size to measure after ``size``: four times that, or all there are; ``size`` if that does not fit."""
    grown = min(size * _GROWTH, num_members)
    return grown if cost.shared_bytes + grown * cost.memory_bytes <= memory_bytes else size


def _pays(sizes: Sequence[int], seconds: Sequence[float]) -> bool:
    """Whether the largest size trained its members faster, one by one, than every smaller size."""
    each = [time_s / count for time_s, count in zip(seconds, sizes, strict=True)]
    return len(each) == 1 or each[-1] < _WORTH_GOING_ON * min(each[:-1])


def _step(members: Sequence[Member], device: str) -> tuple[float, int]:
    """Return the seconds of one step and the peak memory in bytes, 0 where the device does not say."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    setting = members[0][0].brief(num_steps=None)
    run = setting.start([(member.brief(num_steps=None), seed) for member, seed in members], device)
    if hasattr(run, "measure_step"):
        seconds = run.measure_step(_SLICE_S, torch.cuda.synchronize if cuda else lambda: None)
    else:
        _timed(run, _WARM_UP_S, device)
        seconds = _timed(run, _SLICE_S, device)
    return seconds, int(torch.cuda.max_memory_allocated() - before) if cuda else 0


def _timed(run: PackRun, at_least_s: float, device: str) -> float:
    """Return the seconds of a step: the second best of some slices, for whatever else runs only slows them."""
    slices: list[float] = []
    while True:
        first, started = run.step, time.perf_counter()
        ended = False
        while not ended and time.perf_counter() - started < at_least_s / _SLICES:
            if device.startswith("cuda"):  # launches run ahead of the device: wait for it, but not at every step
                ended = run.advance(at_least_s / _SLICES)
                torch.cuda.synchronize()
            else:
                ended = run.advance(0.0)
        slices.append((time.perf_counter() - started) / max(run.step - first, 1))
        slow = len(slices) >= _FEWEST_SLICES and sum(slices) > at_least_s
        if ended or len(slices) >= _SLICES or slow:
            return sorted(slices)[min(1, len(slices) - 1)]


def _evaluation(members: Sequence[Member], device: str, step_s: float) -> float:
    """Return the seconds of a member's evaluation on average: a run of one step less the step.

    Where a first evaluation is long a second is looked at, for what the first keeps in memory may serve all others.
    """
    setting = members[0][0].brief(num_steps=1)
    if setting.cost().num_steps > 1:
        return 0.0
    seconds = [_run(members[0], device, step_s)]
    if len(members) > 1 and seconds[0] > _SLICE_S:
        others = _run(members[1], device, step_s)
        seconds = [*seconds, *[min(others, seconds[0])] * (len(members) - 1)]
    return sum(seconds) / len(seconds)


def _run(member: Member, device: str, step_s: float) -> float:
    """Return the seconds that a run of one step takes beyond the step."""
    setting = member[0].brief(num_steps=1)
    run = setting.start([(setting, member[1])], device)
    started = time.perf_counter()
    while not run.advance(60.0):
        pass
    seconds = time.perf_counter() - started
    return seconds if hasattr(run, "measure_step") else max(0.0, seconds - step_s)


def speed_to_json(speed: Speed) -> dict[str, Any]:
    """Return plain JSON data."""
    return asdict(speed)


def speed_from_json(data: Any) -> Speed | None:
    """Return the speed of `speed_to_json`'s data; None where it makes no sense, as in a damaged or another's file."""
    try:
        sequences = {name: tuple(data[name]) for name in ("members", "step_seconds")}
        speed = Speed(**{**data, **sequences})
        sizes, numbers = speed.members, (speed.evaluation_s, speed.member_bytes, speed.shared_bytes)
        rising = all(low < high for low, high in itertools.pairwise((0, *sizes)))
        finite = all(is_finite(number) and number >= 0 for number in (*sizes, *speed.step_seconds, *numbers))
    except (KeyError, TypeError):
        return None
    return speed if sizes and len(sizes) == len(speed.step_seconds) and rising and finite else None
