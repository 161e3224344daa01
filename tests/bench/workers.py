"""Worker processes that hold programs and time them: one per core, each on one thread unless told otherwise."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.bench.rows import Row


class _Bench:
    """What a worker process does; the methods are called by name from the driver."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch = torch
        self.row: Row | None = None
        self.programs: dict[str, Any] = {}

    def take(self, row: Row) -> None:
        """Forget all programs and turn to ``row``."""
        self.row = row
        self.programs.clear()

    def prepare(self, mode: str) -> None:
        from tests.bench.programs import build

        assert self.row is not None
        if mode not in self.programs:
            self.programs[mode] = build(self.row, mode)

    def drop(self, mode: str) -> None:
        del self.programs[mode]

    def unit(self, mode: str, step_s: float) -> int:
        return self.programs[mode].unit(step_s)

    def members(self, mode: str) -> int:
        return self.programs[mode].members

    def time(self, mode: str, count: int, threads: int = 1) -> float:
        if threads > 1:
            self.torch.set_num_threads(threads)
            self.programs[mode].time(1)
        try:
            return self.programs[mode].time(count)
        finally:
            self.torch.set_num_threads(1)

    def check(self, variant: str) -> None:
        from tests.bench.programs import compare, follows

        assert self.row is not None
        follows(self.row, variant, compare(self.row, variant))

    def peak_flops(self) -> float:
        from tests.bench.machine import peak_flops

        return peak_flops("cpu")


def _serve(connection: Connection) -> None:
    bench = _Bench()
    while True:
        call = connection.recv()
        if call is None:
            return
        name, arguments = call
        try:
            connection.send((getattr(bench, name)(*arguments), None))
        except SystemExit as problem:
            connection.send((None, str(problem)))
        except Exception:  # noqa: BLE001  (the driver raises it)
            connection.send((None, traceback.format_exc()))


class Worker:
    """One worker process; a `timing.Station` on one thread."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, name: str, *arguments: object) -> Callable[[], Any]:
        """Start a call and return the function that waits for its result."""
        self._connection.send((name, arguments))

        def result() -> Any:
            value, problem = self._connection.recv()
            if problem is not None:
                raise RuntimeError(f"a benchmark worker failed in {name}{arguments}:\n{problem}")
            return value

        return result

    def call(self, name: str, *arguments: object) -> Any:
        """Call a method of the worker's and wait for its result."""
        return self.begin(name, *arguments)()

    def prepare(self, mode: str) -> None:
        """Build the program of ``mode``."""
        self.call("prepare", mode)

    def unit(self, mode: str, step_s: float) -> int:
        """Return the number of steps that a fair measurement is a multiple of."""
        return self.call("unit", mode, step_s)

    def members(self, mode: str) -> int:
        """Return the number of members of the program of ``mode``."""
        return self.call("members", mode)

    def time(self, mode: str, count: int, threads: int = 1) -> float:
        """Return the seconds of one step of one member."""
        return self.call("time", mode, count, threads)

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join(timeout=10)


def rate_of_all(workers: list[Worker], mode: str, count: int) -> float:
    """Let every worker take ``count`` steps at the same time; return the member-steps per second of all together."""
    return sum(1 / result() for result in [worker.begin("time", mode, count) for worker in workers])
