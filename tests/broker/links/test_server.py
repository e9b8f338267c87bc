"""The end of a broker: each client's will goes out before it, and nobody waits for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.limits import STEPS_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.links.listening.door import Door
from broker.links.server import WILLS_MAX, Server
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Subscribe, Will

DOOR = Door(Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False)


class Collector(Receiver):
    """Gets every will, and knows how many each turn brought, with the messages that they became."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.came: list[bytes] = []
        self.turns: list[tuple[int, int]] = []
        self._engine = engine
        self._before = (0, 0)
        engine.subscribe(self, b"will/#", 0)
        engine.turn.on_settled(self._turn_ended)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append(publication.topic)

    def _turn_ended(self) -> None:
        now = (len(self.came), self._engine.counters.publishes_sent)
        if now != self._before:
            self.turns.append((now[0] - self._before[0], now[1] - self._before[1]))
        self._before = now


@asynccontextmanager
async def clients(count: int, *filters: bytes) -> AsyncIterator[tuple[Server, Collector]]:
    """A server with so many that have a will each, and have subscribed."""
    engine = Engine()
    collector = Collector(engine)
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        ends = []
        for number in range(count):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, theirs, DOOR, "client")
            will = Will(b"will/%d" % number, b"gone", 0, False)
            await ours.send_all(encode(Connect(b"c%d" % number, True, 60, will=will)))
            await ours.receive_some()
            if filters:
                await ours.send_all(encode(Subscribe(1, tuple((one, 0) for one in filters))))
                await ours.receive_some()
            ends.append(ours)
        yield server, collector
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_all_wills_go_out_some_in_each_turn(is_cancelled: bool) -> None:
    count = 3 * WILLS_MAX + 5
    async with clients(count) as (server, collector):
        with trio.CancelScope() as scope:
            if is_cancelled:
                scope.cancel()
            await server.send_wills()
        assert sorted(collector.came) == sorted(b"will/%d" % number for number in range(count))
        assert max(wills for wills, _ in collector.turns) <= WILLS_MAX


async def test_wills_that_very_many_get_are_fewer_in_a_turn() -> None:
    count = 50
    async with clients(count, b"will/#") as (server, collector):
        await server.send_wills()
        assert len(collector.came) == count
        assert sum(sent for _, sent in collector.turns) == count * count
        assert max(sent for _, sent in collector.turns) <= STEPS_MAX + count


async def test_others_have_their_turns_in_between() -> None:
    async with clients(2 * WILLS_MAX) as (server, collector), trio.open_nursery() as nursery:
        seen: list[int] = []

        async def look() -> None:
            while True:
                seen.append(len(collector.came))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(look)
        await server.send_wills()
        nursery.cancel_scope.cancel()
    assert WILLS_MAX in seen
