"""What a benchmark ran on: cores, processor, versions, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import torch

from tests.bench.programs import synchronize

_SIZES = (512, 1024, 2048)
_REPEATS = 8


def processor() -> str:
    """Return the processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions(*packages: str) -> str:
    """Return the versions of Python, torch and further ``packages``, as far as they are installed."""
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def machine(*packages: str, device: str = "cpu") -> str:
    """Return one line: the date, the processor and its cores, a GPU if that was used, versions."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    return (
        f"{date.today().isoformat()}, {os.cpu_count()} cores ({processor()}, {platform.machine()}){gpu}, "
        f"{versions(*packages)}."
    )


def command() -> str:
    """Return the command line that was given, with the module's name."""
    name = Path(sys.argv[0]).stem
    return " ".join(["python -m tests.bench." + name, *map(shlex.quote, sys.argv[1:])])


def peak_flops(device: str) -> float:
    """Return the best rate of square float32 matrix products over a few sizes, operations per second."""
    best = 0.0
    for size in _SIZES if device == "cpu" else (2048, 4096, 8192):
        a, b = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
        a @ b
        for _ in range(_REPEATS):
            synchronize(device)
            started = time.perf_counter()
            a @ b
            synchronize(device)
            best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best
