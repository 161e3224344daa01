"""Training one pack wherever an executor puts it: slices, checkpoints, and failures that stay small."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import hyperscale
from hyperscale.dispatch.checkpoints import checkpoint_path, discard, fetch, note_members, seal, unseal
from hyperscale.packing import Pack
from hyperscale.recording.credentials import hidden
from hyperscale.settings.setting import Outcome, PackRun
from hyperscale.trial import Trial, TrialResult, TrialStatus

CHECKPOINT_INTERVAL_S = 30.0

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@functools.lru_cache(maxsize=8)
def hardware_name(device: str) -> str:
    """Return the model of the GPU or CPU that ``device`` stands for."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    with contextlib.suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return names[0].split(":", 1)[1].strip() if names else platform.machine()
    return platform.machine()


@functools.lru_cache(maxsize=8)
def _environment(device: str) -> dict[str, Any]:
    """Return the part of the provenance that is the same for every trial of a process."""
    versions = {
        "hyperscale": hyperscale.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    return {"device": device, "hardware": hardware_name(device), "versions": versions}


def device_readings(device: str) -> dict[str, float]:
    """Return a GPU's own word, as fractions: ``gpu_memory`` in use, and ``gpu_use`` where NVML is installed."""
    if not device.startswith("cuda"):
        return {}
    readings: dict[str, float] = {}
    with contextlib.suppress(Exception):  # a view for people: never a reason to lose a step
        free, total = torch.cuda.mem_get_info()
        readings["gpu_memory"] = round(1 - free / total, 3)
        readings["gpu_use"] = torch.cuda.utilization() / 100
    return readings


def default_device() -> str:
    """Return ``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step instead of giving it back to the system every time.

    Fetching pages anew costs a small step up to a tenth of its time. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class PackWorker:
    """Trains one pack in slices and hands back every trial's result exactly once.

    When a pack of several fails or does not fit in memory it is halved and the halves are tried, down to single
    trials, so that one bad trial takes nobody along. A checkpoint is written to ``checkpoints`` every
    ``checkpoint_interval_s`` seconds (`CHECKPOINT_INTERVAL_S`), and taken up by whoever trains the same pack next, or
    a part of it: halves go on from what the whole had saved. ``origins`` are the packs that ``pack`` is a part of, the
    smallest first, and the number there of its first trial.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        device: str = "cpu",
        checkpoints: Path | None = None,
        checkpoint_interval_s: float | None = None,
        origins: Sequence[tuple[Pack, int]] = (),
    ) -> None:
        if device == "cpu":
            torch.set_num_threads(1)  # sums differ in the last bits between one thread and several
            keep_freed_memory()
        self.pack = pack
        self.device = device
        self.checkpoints = checkpoints
        self.checkpoint_interval_s = CHECKPOINT_INTERVAL_S if checkpoint_interval_s is None else checkpoint_interval_s
        self._waiting: list[Pack] = [pack]
        self._origins = {pack.digest: tuple(origins)}
        self._run: PackRun | None = None
        self._ended = 0
        self._elapsed_s = 0.0
        self._saved_at = time.monotonic()

    @property
    def done(self) -> bool:
        """Whether every trial has a result."""
        return self._run is None and not self._waiting

    @property
    def fraction(self) -> float:
        """The part of the work that is done, between 0 and 1."""
        running = 0.0
        if self._run is not None:
            running = len(self._waiting[0].trials) * self._run.step / self._run.num_steps
        return min(1.0, (self._ended + running) / len(self.pack.trials))

    def advance(self, max_seconds: float) -> list[TrialResult]:
        """Work for about ``max_seconds`` and return the results of the trials that ended."""
        current = self._waiting[0]
        started = time.monotonic()
        try:
            if self._run is None:
                self._run = self._start(current)
            outcomes = self._run.outcomes() if self._run.advance(max_seconds) else None
            self._elapsed_s += time.monotonic() - started
        except Exception as error:  # noqa: BLE001  (whatever a trial raises becomes its status, never the driver's)
            return self._fail(current, error)
        if outcomes is None:
            if time.monotonic() - self._saved_at > self.checkpoint_interval_s:
                self.save()
            return []
        return self._finish(current, outcomes)

    def _start(self, pack: Pack) -> PackRun:
        self._elapsed_s = 0.0
        self._saved_at = time.monotonic()
        members = [(trial.setting, trial.seed) for trial in pack.trials]
        run = pack.trials[0].setting.start(members, self.device)
        try:
            saved = self._load(pack)
            if saved is not None:
                run.restore(saved["run"])
                self._elapsed_s = float(saved["elapsed_s"])
            elif hasattr(run, "restore_part"):
                self._take_part(run, pack)
        except Exception:  # noqa: BLE001  (a checkpoint that does not fit costs time, never a result)
            self._elapsed_s = 0.0
            run = pack.trials[0].setting.start(members, self.device)
        return run

    def _take_part(self, run: Any, pack: Pack) -> None:
        """Have a run go on from what a pack that it is a part of had saved, if any."""
        for origin, offset in self._origins.get(pack.digest, ()):
            saved = self._load(origin)
            if saved is not None:
                run.restore_part(saved["run"], range(offset, offset + len(pack.trials)))
                self._elapsed_s = float(saved["elapsed_s"]) * len(pack.trials) / len(origin.trials)
                return

    def _load(self, pack: Pack) -> Mapping[str, Any] | None:
        """Return what was saved of a pack; a damaged checkpoint is none, and is removed."""
        path = self._checkpoint(pack)
        if self.checkpoints is None or path is None:
            return None
        fetch(self.checkpoints, pack)
        if not path.exists():
            return None
        try:
            data = io.BytesIO(unseal(path.read_bytes()))
            saved: Mapping[str, Any] = torch.load(data, map_location=self.device, weights_only=True)
        except Exception:  # noqa: BLE001  (it costs time, never a result)
            path.unlink(missing_ok=True)
            return None
        return saved

    def _checkpoint(self, pack: Pack) -> Path | None:
        return None if self.checkpoints is None else checkpoint_path(self.checkpoints, pack)

    def save(self) -> None:
        """Write a checkpoint now, atomically; a store that cannot be written to is not the trial's fault."""
        self._saved_at = time.monotonic()
        path = self._checkpoint(self._waiting[0]) if self._waiting else None
        if path is None or self._run is None or self.checkpoints is None:
            return
        with contextlib.suppress(OSError, RuntimeError):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            data = io.BytesIO()
            torch.save({"run": self._run.state(), "elapsed_s": self._elapsed_s}, data)
            draft.write_bytes(seal(data.getvalue()))
            draft.replace(path)
            note_members(self.checkpoints, self._waiting[0])

    def _finish(self, pack: Pack, outcomes: list[Outcome]) -> list[TrialResult]:
        share = self._elapsed_s / len(pack.trials)
        results = [self._result(t, o, share, pack) for t, o in zip(pack.trials, outcomes, strict=True)]
        try:
            for result in results:
                result.check()
        except (TypeError, ValueError) as error:  # the journal could not hold it
            return self._fail(pack, error)
        self._drop(pack)
        return results

    def _drop(self, pack: Pack) -> None:
        """Forget the current pack. The whole pack's checkpoint stays until the driver has its results."""
        if self.checkpoints is not None and pack is not self.pack:
            discard(self.checkpoints, pack)
        self._run = None
        self._waiting.pop(0)
        self._ended += len(pack.trials)
        if self.checkpoints is not None and not self._waiting:  # larger ones, and the whole's, are others'
            halved = {origin.digest: origin for origins in self._origins.values() for origin, _ in origins}
            for origin in halved.values():
                if len(origin.trials) < len(self.pack.trials):
                    discard(self.checkpoints, origin)

    def _fail(self, pack: Pack, error: Exception) -> list[TrialResult]:
        """Halve a failing pack; a single failing trial ends with a reason."""
        self._run = None
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in str(error).lower()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(pack.trials) > 1:
            self._waiting[:1] = pack.halves()
            first, above = 0, self._origins.get(pack.digest, ())
            for half in pack.halves():
                self._origins[half.digest] = ((pack, first), *((origin, at + first) for origin, at in above))
                first += len(half.trials)
            return []
        status = TrialStatus.OUT_OF_MEMORY if out_of_memory else TrialStatus.FAILED
        reason = hidden(f"{type(error).__name__}: {error}".strip().splitlines()[0])[:500]
        elapsed, outcome = self._elapsed_s, Outcome(status=status, reason=reason)
        self._drop(pack)
        return [self._result(pack.trials[0], outcome, elapsed, pack)]

    def _result(self, trial: Trial, outcome: Outcome, wall_time_s: float, pack: Pack) -> TrialResult:
        return TrialResult(
            digest=trial.digest,
            setting_digest=trial.setting.digest(),
            seed=trial.seed,
            status=TrialStatus(outcome.status),
            reason=outcome.reason,
            metrics=dict(outcome.metrics),
            curves=dict(outcome.curves),
            provenance={
                "wall_time_s": round(wall_time_s, 6),
                "pack_size": len(pack.trials),
                "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                **_environment(self.device),
            },
        )
