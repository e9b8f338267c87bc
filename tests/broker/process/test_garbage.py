"""When the garbage collector runs, seen through its own callbacks and a clock that jumps."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from broker.core.counters import Counters
from broker.process.garbage import FULL_INTERVAL_S, YOUNG_MANY, collect_when_quiet, traffic


@pytest.fixture
def generations() -> Iterator[list[int]]:
    """The generation of each collection that was begun."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.collect()  # so that none is due by what tests before this one have left
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


async def collecting_for(seconds: float, packets: Callable[[], int]) -> None:
    with trio.move_on_after(seconds):
        await collect_when_quiet(packets)


async def test_all_is_collected_once_it_is_quiet(
    autojump_clock: trio.testing.MockClock, generations: list[int]
) -> None:
    await collecting_for(FULL_INTERVAL_S + 0.5, lambda: 0)
    assert generations.count(2) == 2
    assert generations.count(1) == FULL_INTERVAL_S - 2


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_importing_left_is_thrown_away_in_the_first_quiet_second_and_not_before(
    autojump_clock: trio.testing.MockClock, generations: list[int]
) -> None:
    left = weakref.ref(Cycle())
    packets = iter([0, 1, 2, 2, 2, 3])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collecting_for, 4.5, lambda: next(packets))
        await trio.testing.wait_all_tasks_blocked()
        assert generations == []
        await trio.sleep(2.1)
        assert generations == [1, 1]
        assert left() is not None
        await trio.sleep(1)
        assert generations == [1, 1, 2]
        assert left() is None
        assert gc.get_freeze_count() > 0
        await trio.sleep(1)
        assert generations == [1, 1, 2, 1]


async def test_a_busy_broker_collects_only_young_objects(
    autojump_clock: trio.testing.MockClock, generations: list[int]
) -> None:
    busy = iter(range(10_000))
    await collecting_for(3 * FULL_INTERVAL_S, lambda: next(busy))
    assert generations.count(2) == 0


async def test_a_broker_that_only_sends_is_busy_too(
    autojump_clock: trio.testing.MockClock, generations: list[int]
) -> None:
    """Rows to WebSocket clients: no MQTT packet comes, and a full collection would hold them all up."""
    counters = Counters()

    def seen() -> int:
        counters.bytes_sent += 1
        return traffic(counters)

    await collecting_for(3 * FULL_INTERVAL_S, seen)
    assert generations.count(2) == 0


async def test_many_new_objects_are_looked_through_at_once_and_kept_ones_not_for_ever(
    generations: list[int],
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_when_quiet, lambda: 0)
        await trio.testing.wait_all_tasks_blocked()
        generations.clear()
        kept: list[list[int]] = [[] for _ in range(8 * YOUNG_MANY)]
        seen = list(generations)
        nursery.cancel_scope.cancel()
    assert len(kept) == 8 * YOUNG_MANY
    assert 0 in seen
    assert 1 in seen
    assert 2 not in seen


async def test_the_collector_is_as_before_afterwards(autojump_clock: trio.testing.MockClock) -> None:
    before = gc.get_threshold()
    await collecting_for(5, lambda: 0)
    assert gc.isenabled()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
