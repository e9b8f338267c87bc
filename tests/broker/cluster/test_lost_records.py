"""Somebody has removed the stream of the records: who is connected stays, and is written down again."""

from __future__ import annotations

import time

import pytest
import trio
from support.memory_nats import LOST, MemoryNats
from support.memory_node import running
from trio.testing import MockClock

from broker.cluster.names import Names
from broker.cluster.node import LOOK_S

SHOP = Names("shop")


@pytest.mark.parametrize("clean", [False, True])
async def test_where_all_records_are_gone_who_is_connected_is_written_down_again(
    autojump_clock: MockClock, clean: bool
) -> None:
    """Else another node takes it for a client that nobody has."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await a.comes(clean=clean, filters=((b"t", 1),))
        await trio.sleep(2 * LOOK_S)
        del server.streams["shop_SESS"]
        await trio.sleep(3 * LOOK_S)
        assert client.why == ""
        another = await b.comes(clean=clean)
        assert client.why == "disconnected: taken over on another node."
        assert another.session.subscriptions == ({} if clean else {b"t": 1})


async def test_who_came_elsewhere_meanwhile_is_there(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await a.comes(clean=True)
        await trio.sleep(2 * LOOK_S)
        del server.streams["shop_SESS"]
        await a.node.streams.make_again()
        another = await b.comes(clean=True)
        assert client.why == ""
        await trio.sleep(3 * LOOK_S)
        assert client.why == "disconnected: taken over on another node."
        assert another.why == ""


async def test_what_a_connected_client_does_is_written_where_its_record_is_gone(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client = await a.comes(filters=((b"t", 1),))
        await a.settled()
        del server.streams["shop_SESS"]
        await a.node.streams.make_again()
        with a.engine.turn:
            a.engine.subscribe_session(client.session, b"u", 1)
            assert a.engine.keep is not None
            a.engine.keep(client.session)
        await trio.sleep(3)
        assert client.why == ""
        assert server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))


@pytest.mark.parametrize("goes", [False, True])
async def test_a_will_is_there_again_unless_its_client_says_goodbye(
    autojump_clock: MockClock, goes: bool
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client = await a.comes_with_will()
        await trio.sleep(2 * LOOK_S)
        del server.streams["shop_SESS"]
        await a.node.streams.make_again()
        subject = SHOP.record(SHOP.will(a.node.liveness.mark, b"c"))
        server.faults = [(subject, LOST)] * 3
        a.owners.records_are_of("then")
        await trio.sleep(0.01)
        if goes:
            client.will_wanted = False
            await a.goes(client)
        await trio.sleep(10)
        found = server.streams["shop_SESS"].of(subject)
        assert bool(found[-1].payload) is not goes


async def test_what_is_written_there_fits_nothing_that_stood_there_before(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node could write over the record of the node that has its client by now."""
    server = MemoryNats()
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + trio.current_time())
    async with running(server, "a") as (a,):
        await a.comes()
        await a.settled()
        before = server.streams["shop_SESS"].last
        del server.streams["shop_SESS"]
        await a.node.streams.make_again()
        assert server.streams["shop_SESS"].last > before
