"""How long the packs of a launch still take, judged by how they have gone so far."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_S, _LEAST_FRACTION = 5.0, 0.01


class Forecast:
    """Seconds left: the rest of the work at the rate of what was done, and no less than the slowest pack needs.

    Work is counted in packs' estimated seconds. The clock starts with the first news of any pack, so that neither
    Ray's start nor the wait for a cluster counts as slowness; and the end is that of the pack which ends last, whose
    own pace tells when: workers that have run out of packs are of no help to it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._running: dict[int, tuple[float, float, float]] = {}

    def begin_round(self) -> None:
        """Forget which packs run; their numbers are given anew."""
        self._running.clear()

    def moved(self, pack: int, fraction: float, done_weight: float) -> None:
        """Note how far a pack has come, and how much work is done with that."""
        now = self._clock()
        self._began = self._began or (now, done_weight)
        if fraction >= 1:
            self._running.pop(pack, None)
        else:
            began, start, _ = self._running.get(pack, (now, fraction, fraction))
            self._running[pack] = (began, start, fraction)

    def lost(self, pack: int) -> None:
        """Note that a pack runs no more; when it does again its pace is told anew."""
        self._running.pop(pack, None)

    def remaining_s(self, done_weight: float, whole_weight: float) -> float | None:
        """Return the seconds left, or None while there is too little to judge by."""
        if self._began is None or not whole_weight:
            return None
        now = self._clock()
        elapsed, gained = now - self._began[0], done_weight - self._began[1]
        if elapsed < _LEAST_S or gained < _LEAST_FRACTION * whole_weight:
            return None
        return max([elapsed * max(0.0, whole_weight - done_weight) / gained, *self._slowest(now)])

    def _slowest(self, now: float) -> list[float]:
        """Return what each running pack still needs at its own pace, of those whose pace is known."""
        return [
            (now - began) * (1 - fraction) / (fraction - start)
            for began, start, fraction in self._running.values()
            if now - began >= _LEAST_S and fraction - start >= _LEAST_FRACTION
        ]
