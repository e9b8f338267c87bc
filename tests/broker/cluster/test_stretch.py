"""A stretch of a stream, read whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from support.memory_nats import SILENT, MemoryNats, acknowledged_at
from trio.testing import MockClock

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.stretch import SILENCE_S, read_all
from protocol.nats import wire
from protocol.nats.jetstream import ApiError

FLOW_CONTROL = b"NATS/1.0 100 FlowControl Request\r\n\r\n"
HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\nNats-Last-Stream: %d\r\n\r\n"
DELETED = b"NATS/1.0 409 Consumer Deleted\r\n\r\n"


class Source:
    """A stream of so many messages, of which every third is of `b`."""

    def __init__(self, count: int = 6) -> None:
        self.server = MemoryNats()
        stream = self.server.stream("S", ("s.>",))
        self.link = self.server.connected()
        for number in range(1, count + 1):
            stream.put(b"s.b" if number % 3 == 0 else b"s.a", b"", b"%d" % number)
        self.got: list[bytes] = []

    async def read(self, start: int, end: int, *filters: bytes) -> list[bytes]:
        with trio.fail_after(SILENCE_S + 10):
            await read_all(self.link, "S", start, end, filters, lambda one: self.got.append(one.payload))
        return self.got


@pytest.mark.parametrize(
    ("start", "end", "filters", "got"),
    [
        (1, 6, (), "123456"),
        (3, 4, (), "34"),
        (1, 6, (b"s.b",), "36"),
        (1, 5, (b"s.b",), "3"),
        (4, 5, (b"s.b",), ""),
        (1, 6, (b"s.none",), ""),
        (1, 6, (b"s.a", b"s.b"), "123456"),
    ],
)
async def test_it_has_what_the_stream_has_between_two_sequences(
    autojump_clock: MockClock, start: int, end: int, filters: tuple[bytes, ...], got: str
) -> None:
    source = Source()
    assert await source.read(start, end, *filters) == [one.encode() for one in got]
    await trio.testing.wait_all_tasks_blocked()
    assert source.server.consumers == {}


@pytest.mark.parametrize("filters", [(), (b"s.b",)])
@pytest.mark.parametrize("how", ["questions", "heartbeats"])
async def test_who_has_yet_to_catch_up_with_it_is_waited_for(
    autojump_clock: MockClock, filters: tuple[bytes, ...], how: str
) -> None:
    source = Source()
    stream = source.server.streams["S"]
    stream.fall_behind(3)

    async def catch_up() -> None:
        await trio.sleep(0.03 if how == "questions" else 3)
        source.server.catch_up("S")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.server.beat)
        nursery.start_soon(catch_up)
        assert await source.read(1, 5, *filters) == [one.encode() for one in ("3" if filters else "12345")]
        nursery.cancel_scope.cancel()


async def test_but_not_for_ever(autojump_clock: MockClock) -> None:
    source = Source()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.server.beat)
        with pytest.raises(Unavailable, match="has yet to catch up"):
            await source.read(1, 7)
        nursery.cancel_scope.cancel()
    assert len(source.got) == 6


async def test_a_consumer_that_is_refused_is_said_and_leaves_nothing(autojump_clock: MockClock) -> None:
    source = Source()
    del source.server.streams["S"]
    with pytest.raises(ApiError):
        await source.read(1, 6)
    assert source.link._subscriptions._handlers == {}


class Told:
    """Reads messages 1 to 3 of a stream that is empty by itself: what comes is told to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source = Source(0)
        self.inbox = b""

        def subscribe(subject: bytes, handler: Callable[[wire.Message], None]) -> int:
            self.inbox = subject
            return NatsLink.subscribe(self.source.link, subject, handler)

        monkeypatch.setattr(self.source.link, "subscribe", subscribe)
        # So it does not end at once.
        self.source.server.faults.append((b"CONSUMER.CREATE", {"config": {}, "num_pending": 3}))

    def tell(self, block: bytes, reply: bytes = b"") -> None:
        self.source.server.deliver(self.inbox, b"", reply, block)

    def message(self, sequence: int, number: int, pending: int) -> None:
        reply = acknowledged_at("S", "copy", sequence, number, pending)
        self.source.server.deliver(self.inbox, b"%d" % sequence, reply)

    async def read(self, what: Callable[[], Any]) -> list[bytes]:
        """As `Source.read`, and do something once it waits."""
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def later() -> None:
                await trio.sleep(0.1)
                what()

            return await self.source.read(1, 3)
        raise AssertionError


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


async def test_flow_control_is_answered(autojump_clock: MockClock, told: Told) -> None:
    def what() -> None:
        told.message(1, 1, 2)
        told.tell(FLOW_CONTROL, b"flow.1")
        told.message(3, 2, 0)

    assert await told.read(what) == [b"1", b"3"]
    assert b"flow.1" in told.source.server.asked


@pytest.mark.parametrize("how", ["deleted", "hole", "heartbeat"])
async def test_what_does_not_come_whole_is_told(autojump_clock: MockClock, told: Told, how: str) -> None:
    def what() -> None:
        told.message(1, 1, 2)
        if how == "deleted":
            told.tell(DELETED)
        elif how == "hole":
            told.message(3, 3, 0)
        else:
            told.tell(HEARTBEAT % (2, 2))

    with pytest.RaisesGroup(pytest.RaisesExc(Unavailable, match="whole")):
        await told.read(what)
    assert told.source.got == [b"1"]


async def test_a_heartbeat_when_all_was_sent_ends_it(autojump_clock: MockClock, told: Told) -> None:
    """As where what is left of the stretch was deleted meanwhile."""

    def what() -> None:
        told.message(1, 1, 2)
        told.tell(HEARTBEAT % (1, 3))

    assert await told.read(what) == [b"1"]


async def test_of_what_comes_behind_its_end_nothing_is_kept(autojump_clock: MockClock, told: Told) -> None:
    def what() -> None:
        told.message(2, 1, 9)
        told.message(4, 2, 8)

    assert await told.read(what) == [b"2"]


@pytest.mark.parametrize("how", ["silent", "lost"])
async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    autojump_clock: MockClock, told: Told, how: str
) -> None:
    began = trio.current_time()

    def what() -> None:
        told.message(1, 1, 2)
        if how == "lost":
            told.source.server.drop(told.source.link)

    with pytest.RaisesGroup(pytest.RaisesExc(Unavailable, match="did not come$")):
        await told.read(what)
    assert trio.current_time() - began <= SILENCE_S + 1


async def test_nor_one_that_does_not_answer(autojump_clock: MockClock) -> None:
    source = Source()
    source.server.faults.append((b"CONSUMER.CREATE", SILENT))
    with pytest.raises(Unavailable):
        await source.read(1, 6)
