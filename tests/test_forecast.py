"""How long a launch still takes: on a clock that the tests hold."""

from __future__ import annotations

import pytest

from hyperscale.dispatch.forecast import Forecast


class Clock:
    """A clock that stands."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def test_nothing_is_said_before_there_is_anything_to_judge_by(clock: Clock) -> None:
    """Neither without news, nor after a moment, nor after too little work."""
    forecast = Forecast(clock)
    assert forecast.remaining_s(0.0, 100.0) is None
    forecast.moved(0, 0.1, 0.0)
    clock.now += 4
    assert forecast.remaining_s(50.0, 100.0) is None
    clock.now += 4
    assert forecast.remaining_s(0.5, 100.0) is None
    clock.now += 10
    assert forecast.remaining_s(50.0, 0.0) is None


def test_the_wait_for_the_first_news_is_not_slowness(clock: Clock) -> None:
    """A minute of waiting, then 20 of 100 in ten seconds: 40 seconds left."""
    forecast = Forecast(clock)
    clock.now += 60
    forecast.moved(0, 0.0, 0.0)
    clock.now += 10
    forecast.moved(0, 1.0, 20.0)
    assert forecast.remaining_s(20.0, 100.0) == pytest.approx(40.0)


def test_the_last_pack_tells_the_end(clock: Clock) -> None:
    """Nine packs of ten are done in ten seconds, but the tenth has come to a tenth only, and nobody helps it."""
    forecast = Forecast(clock)
    forecast.moved(9, 0.0, 0.0)
    clock.now += 10
    for pack in range(9):
        forecast.moved(pack, 1.0, 10.0 * (pack + 1))
    forecast.moved(9, 0.1, 91.0)
    assert forecast.remaining_s(91.0, 100.0) == pytest.approx(90.0)
    forecast.moved(9, 1.0, 100.0)
    assert forecast.remaining_s(100.0, 100.0) == 0.0


def test_what_a_checkpoint_had_is_no_speed(clock: Clock) -> None:
    """A pack that goes on from 0.8 and comes to 0.9 in ten seconds needs ten more."""
    forecast = Forecast(clock)
    forecast.moved(0, 0.8, 80.0)
    clock.now += 10
    forecast.moved(0, 0.9, 90.0)
    assert forecast.remaining_s(90.0, 100.0) == pytest.approx(10.0)
    forecast.lost(0)
    clock.now += 90
    assert forecast.remaining_s(90.0, 100.0) == pytest.approx(100.0), "a lost pack has no pace, and the work waits"
    clock.now -= 90
    forecast.moved(0, 0.9, 90.0)
    forecast.begin_round()
    assert forecast.remaining_s(90.0, 200.0) == pytest.approx(110.0)
