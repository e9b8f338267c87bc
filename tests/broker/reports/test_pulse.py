"""How late the loop is, while it turns and while it does not."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from broker.reports.pulse import BEAT_S, STUCK_S, Pulse


@pytest.mark.parametrize(
    ("late", "stuck"), [(0.0, 0.0), (STUCK_S, 0.0), (STUCK_S + 0.5, STUCK_S + 0.5), (-5.0, 0.0)]
)
def test_a_beat_that_was_too_late_is_told_until_the_next_one(late: float, stuck: float) -> None:
    pulse = Pulse()
    pulse.beat(100.0, 100.0 + late)
    assert pulse.last_lag_s == max(0.0, late)
    assert pulse.stuck_s(100.0 + late) == stuck
    pulse.beat(200.0, 200.0)
    assert pulse.stuck_s(200.0) == 0.0


@pytest.mark.parametrize(
    ("silent", "stuck"), [(0.0, 0.0), (BEAT_S + STUCK_S, 0.0), (BEAT_S + STUCK_S + 0.5, STUCK_S + 0.5)]
)
def test_a_loop_that_does_not_turn_now_is_told_by_who_asks(silent: float, stuck: float) -> None:
    pulse = Pulse()
    pulse.beat(100.0, 100.0)
    assert pulse.stuck_s(100.0 + silent) == stuck


def test_before_the_first_beat_nothing_is_late() -> None:
    assert Pulse().stuck_s(1e9) == 0.0


async def test_it_beats_for_whoever_watches(autojump_clock: trio.testing.MockClock) -> None:
    pulse = Pulse()
    beats: list[float] = []
    pulse.on_beat = beats.append
    began = trio.current_time()
    with trio.move_on_after(4.5 * BEAT_S):
        await pulse.run()
    assert beats == [pytest.approx(began + (number + 1) * BEAT_S) for number in range(4)]
    assert pulse.last_lag_s == 0.0
    assert pulse.lag.count() == 4
