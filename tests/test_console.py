"""The progress display: live, and seldom enough to cost nothing."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from hyperscale import console as console_module
from hyperscale.console import ProgressView
from hyperscale.dispatch.in_process import InProcess
from hyperscale.dispatch.launch import Launch
from hyperscale.dispatch.tally import Tally
from hyperscale.recording.store import Store
from hyperscale.study import StudyFile


@pytest.fixture
def launch(tiny: StudyFile, store: Store) -> Launch:
    """Return a launch of the tiny study that has not begun."""
    return Launch(tiny, store, InProcess(device="cpu"))


def drawn(launch: Launch, *, terminal: bool, updates: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often the display is made anew in so many updates, one a millisecond."""
    now, count = [1000.0], [0]
    whole_line = ProgressView._line

    def line(view: ProgressView, tally: Tally) -> str:
        count[0] += 1
        return whole_line(view, tally)

    tally = Tally(launch)
    monkeypatch.setattr(ProgressView, "_line", line)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    view = ProgressView(Console(file=io.StringIO(), force_terminal=terminal), launch)
    if terminal:
        view._live = console_module.Live(console=view.console, auto_refresh=False)
    else:
        view.__enter__()
    for _ in range(updates):
        view.update(tally)
        now[0] += 0.001
    return count[0]


def test_a_terminal_is_drawn_at_once_and_then_four_times_a_second(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 trials a minute cost no more display than ten."""
    assert drawn(launch, terminal=True, updates=1, monkeypatch=monkeypatch) == 1
    assert drawn(launch, terminal=True, updates=2000, monkeypatch=monkeypatch) in (8, 9)


def test_elsewhere_a_line_now_and_then(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in the first 15 seconds, then one every 15."""
    assert drawn(launch, terminal=False, updates=14_000, monkeypatch=monkeypatch) == 0
    assert drawn(launch, terminal=False, updates=31_000, monkeypatch=monkeypatch) == 2


def test_stopping_is_shown_at_once(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is answered however recently the display was drawn."""
    output = io.StringIO()
    with ProgressView(Console(file=output, force_terminal=True, width=120), launch) as view:
        tally = Tally(launch)
        view.update(tally)
        tally.stop_requested.set()
        view.update(tally)
        assert view._live is not None
        view._live.refresh()
    assert "stopping: finished trials are kept" in output.getvalue()
