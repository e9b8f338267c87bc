"""A pause between slices: for those who read, never longer than it may be, and for nobody else."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.feeds import Collector

from broker.feed.slices import LOOK_S_MAX, SLICE_WAIT_S_MAX, Slices


class Strained(Collector):
    """An outlet whose readers have caught up at a certain time."""

    def __init__(self, caught_up_at: float) -> None:
        super().__init__()
        self.is_strained = True
        self.caught_up_at = caught_up_at
        self.looks = 0

    def awaits_readers(self, now: float) -> bool:
        self.looks += 1
        return now < self.caught_up_at


async def pause(outlet: Strained) -> float:
    began = trio.current_time()
    outlet.caught_up_at += began
    await Slices(outlet).breathe()
    return trio.current_time() - began


async def test_it_ends_soon_after_the_readers_have_caught_up(autojump_clock: trio.testing.MockClock) -> None:
    assert await pause(Strained(0.0)) == 0.0
    for until in (0.001, 0.1, 1.0):
        assert until <= await pause(Strained(until)) <= until + LOOK_S_MAX


async def test_it_is_no_longer_than_it_may_be(autojump_clock: trio.testing.MockClock) -> None:
    outlet = Strained(100.0)
    assert await pause(outlet) == pytest.approx(SLICE_WAIT_S_MAX)
    assert outlet.looks < 150, "it looks less often, the longer it takes"


async def test_nobody_waits_where_nothing_is_owed(autojump_clock: trio.testing.MockClock) -> None:
    outlet = Strained(1.0)
    outlet.is_strained = False
    assert await pause(outlet) == 0.0
    assert outlet.looks == 0
    assert not Slices(outlet).is_due
    outlet.is_strained = True
    assert Slices(outlet).is_due


async def test_a_outlet_that_does_not_know_its_readers_is_never_waited_for() -> None:
    slices = Slices(Collector())
    assert not slices.is_due
    await slices.breathe()
    await slices.until_room()


class Bounded(Collector):
    ends_other_readers = False

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    async def until_room(self) -> None:
        self.waits += 1


async def test_a_outlet_that_takes_only_so_much_is_asked() -> None:
    outlet = Bounded()
    await Slices(outlet).until_room()
    assert outlet.waits == 1
