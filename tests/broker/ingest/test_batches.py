"""When a batch is taken off a sink, what becomes of it if it is tried again, and where the end is."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.ingest import Batch as BatchConfig
from broker.config.ingest import SinkConfig, parse_expression, parse_pattern
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.ingest.batches import Batch, Batches
from broker.ingest.message_ids import MessageIds
from broker.ingest.rows import Rows
from broker.ingest.sink import Sink

EVERY_S = 0.5
CONFIG = SinkConfig(
    "s",
    (parse_pattern("t/{n}"),),
    columns=(("n", parse_expression("{n}", ("n",))),),
    batch=BatchConfig(rows=3, every_s=EVERY_S),
)


class Run:
    """Batches of a sink, taken by a task of this nursery."""

    def __init__(self, nursery: trio.Nursery | None = None) -> None:
        self.sink = Sink(CONFIG, Engine(), MessageIds())
        self.batches = Batches(self.sink)
        self._count = 0
        if nursery is not None:
            self.sink.clock_ns = lambda: int(trio.current_time() * 1e9)
            nursery.start_soon(self.batches.keep_taking)

    def come(self, count: int) -> None:
        for _ in range(count):
            self._count += 1
            self.sink.take(Publication(b"t/%d" % self._count, b"", 1, client_id=b"c"))

    async def first(self) -> list[int]:
        """The numbers of the messages that are to be written now."""
        batch = await self.batches.first()
        assert batch is not None
        return [int(one.levels[0]) for one in batch.messages]

    async def off(self) -> int:
        """How many have been taken off the sink, once nothing more happens by itself."""
        await wait_all_tasks_blocked()
        return len(self.batches.unsettled())


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    return mock_clock


async def test_one_message_waits_for_others_as_long_as_it_may(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        assert await run.off() == 0
        run.come(1)
        clock.jump(EVERY_S - 0.1)
        run.come(1)
        assert await run.off() == 0
        clock.jump(0.1)
        assert await run.off() == 2
        assert await run.first() == [1, 2]
        nursery.cancel_scope.cancel()


async def test_a_full_batch_waits_for_nothing(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(3)
        assert await run.off() == 3
        nursery.cancel_scope.cancel()


async def test_behind_the_one_that_is_written_a_full_one_is_made_ready_and_no_third(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(3)
        assert await run.first() == [1, 2, 3]
        run.come(2)
        clock.jump(2 * EVERY_S)
        assert await run.off() == 3, "half a batch has time while another is written"
        run.come(1)
        assert await run.off() == 6
        run.come(6)
        assert await run.off() == 6
        assert await run.first() == [1, 2, 3]
        run.batches.written()
        assert await run.off() == 6
        assert await run.first() == [4, 5, 6]
        nursery.cancel_scope.cancel()


async def test_what_came_while_another_was_written_goes_when_its_own_time_is_over(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(3)
        await run.first()
        run.come(1)
        clock.jump(EVERY_S - 0.1)
        run.batches.written()
        assert await run.off() == 0
        clock.jump(0.1)
        assert await run.off() == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("clock_s", "due_s"), [(0.2, 0.3), (0.5, 0.0), (9.0, 0.0), (-3600.0, EVERY_S)])
def test_a_clock_that_is_put_back_keeps_nothing_waiting_longer(clock_s: float, due_s: float) -> None:
    run = Run()
    run.sink.clock_ns = lambda: 0
    run.come(1)
    run.sink.clock_ns = lambda: int(clock_s * 1e9)
    assert run.batches._due_s() == pytest.approx(due_s)


def test_nothing_is_due_without_a_message() -> None:
    run = Run()
    assert run.batches._due_s() == math.inf
    run.batches.end()
    assert run.batches._due_s() == math.inf


async def test_at_the_end_all_is_taken_at_once_and_then_there_is_no_first(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(4)
        assert await run.first() == [1, 2, 3]
        run.batches.end()
        assert not run.batches.is_done
        run.batches.written()
        assert await run.first() == [4]
        assert not run.batches.is_done
        run.batches.written()
        assert await run.batches.first() is None
        assert run.batches.is_done
        nursery.cancel_scope.cancel()


async def test_who_waits_for_a_batch_hears_of_the_end(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        heard: list[object] = []

        async def wait() -> None:
            heard.append(await run.batches.first())

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        run.batches.end()
        await wait_all_tasks_blocked()
        assert heard == [None]
        nursery.cancel_scope.cancel()


async def test_what_is_given_up_is_all_that_is_not_settled(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(6)
        await run.off()
        assert run.batches.holds_any
        first = await run.batches.first()
        assert first is not None
        run.sink.settle(first.messages[:2])
        assert [one.levels[0] for one in run.batches.give_up()] == ["3", "4", "5", "6"]
        assert not run.batches.holds_any
        run.come(3)
        assert await run.first() == [7, 8, 9]
        nursery.cancel_scope.cancel()


async def test_columns_are_made_ahead_once_the_table_is_known(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(nursery)
        run.come(3)
        unknown = await run.batches.first()
        run.batches.rows = Rows(CONFIG, ("text",))
        run.come(3)
        await run.off()
        run.batches.written()
        known = await run.batches.first()
        assert unknown is not None
        assert known is not None
        assert (unknown.made, known.rows) == (None, run.batches.rows)
        assert known.made is not None
        assert known.made[1] == [["4", "5", "6"]]
        nursery.cancel_scope.cancel()


def test_a_batch_s_columns_are_made_anew_for_another_table_and_for_what_is_left() -> None:
    run, rows, other = Run(), Rows(CONFIG, ("text",)), Rows(CONFIG, ("int8",))
    run.come(3)
    batch = Batch(run.sink.next_batch())
    made = batch.make(rows)
    assert batch.make(rows) is made
    assert batch.make(other) is not made
    run.sink.settle(batch.messages[:1])
    batch.forget_settled()
    assert batch.make(other)[1] == [["2", "3"]]
