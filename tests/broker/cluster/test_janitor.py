"""What a node that dies leaves behind is seen to by one of the others, once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from support.attached import Attached
from support.memory_nats import SILENT, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nodes import Client, joined, watching
from trio.testing import MockClock

from broker.cluster import session_state
from broker.cluster.janitor import LOOK_FOR_ALL_EVERY, LOOK_S
from broker.cluster.names import Names
from broker.cluster.will_record import WillRecord
from broker.core.publication import Publication
from protocol.mqtt.packets import Disconnect, Will
from protocol.nats import jetstream

SHOP = Names("shop")


class Left:
    """A cluster of `b`, and what the dead node `x-1` has left."""

    def __init__(self, server: MemoryNats, b: MemoryNode) -> None:
        self.server, self.b = server, b
        self.records = server.streams["shop_SESS"]

    def dies(self, mark: bytes = b"x-1") -> None:
        self.records.put(SHOP.record(SHOP.node(mark)), b"", b"dead")

    async def will(
        self, client_id: bytes, delay_s: int = 0, expiry_s: int = -1, mark: bytes = b"x-1", **more: Any
    ) -> None:
        said = Publication(b"w/" + client_id, b"gone", 1, False, client_id)
        for name, value in more.items():
            setattr(said, name, value)
        link = self.b.node.link
        await WillRecord(self.b.engine, link, SHOP, b"will:" + client_id, said, delay_s, expiry_s).put(mark)

    def put(self, client: bytes, value: Any) -> None:
        self.records.put(b"shop.SESS.w.x-1." + client, b"", json.dumps(value).encode())

    def wills(self) -> list[bytes]:
        """Topics, as they stand in the log."""
        kept = self.server.streams["shop_MSGS"].kept
        return [one.subject.rpartition(b".")[2] for one in kept if b".w." in one.subject]

    def stored(self) -> list[bytes]:
        return [one.subject for one in self.records.of(b"shop.SESS.w.>") if one.payload]


@asynccontextmanager
async def left() -> AsyncIterator[Left]:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await trio.sleep(1)  # so it has the lease
        yield Left(server, b)


async def test_wills_of_a_dead_node_come_once_and_their_records_go(autojump_clock: MockClock) -> None:
    async with left() as it:
        await it.will(b"1")
        await it.will(b"2", retain=True)
        await trio.sleep(2 * LOOK_S)
        assert it.wills() == [], "its node may live"
        it.dies()
        await trio.sleep(3 * LOOK_S)
        assert sorted(it.wills()) == [b"1", b"2"]
        assert it.stored() == []
        await trio.sleep(20)
        assert len(it.wills()) == 2
        assert it.b.node.status.wills == 2
        assert it.b.node.status.is_janitor
        stored = it.b.engine.retained.get(b"w/2")
        assert stored is not None


async def test_a_will_is_known_by_its_id_whoever_publishes_it(autojump_clock: MockClock) -> None:
    """The node itself may have done so, and have died before it could say that."""
    async with left() as it:
        await it.will(b"1")
        link, status = it.b.node.link, it.b.node.status
        block = {jetstream.MSG_ID: b"will:1"}
        await link.request(b"shop.MSGS.c.m.other", b"", 1.0, block)
        it.dies()
        await trio.sleep(3 * LOOK_S)
        assert it.wills() == []
        assert status.duplicates == 1
        assert it.stored() == []


async def test_its_delay_is_waited_for_and_its_expiry_begins_after_that(autojump_clock: MockClock) -> None:
    async with left() as it:
        watcher = Attached(it.b.engine, b"watcher", filters=((b"w/#", 1),))
        await it.will(b"now")
        await it.will(b"late", delay_s=8, expiry_s=100)
        it.dies()
        await trio.sleep(3 * LOOK_S)
        assert it.wills() == [b"now"]
        await trio.sleep(8 - 3 * LOOK_S)
        assert it.wills() == [b"now"]
        await trio.sleep(6)
        assert it.wills() == [b"now", b"late"]
        entries = {one.message.topic: one.message for one in watcher.session.outbound.inflight()}
        late, now = entries[b"w/late"], entries[b"w/now"]
        assert isinstance(late, Publication)
        assert isinstance(now, Publication)
        assert 85 < late.expires_at - it.b.engine.now < 100
        assert now.expires_at == 0.0


async def test_a_client_that_is_back_before_its_delay_is_over_has_none(autojump_clock: MockClock) -> None:
    async with left() as it:
        await it.will(b"late", delay_s=8)
        it.dies()
        await trio.sleep(3 * LOOK_S)
        (subject,) = it.stored()
        it.records.put(subject, b"", b"")
        await trio.sleep(20)
        assert it.wills() == []


async def test_what_nobody_can_have_written_stops_nothing(autojump_clock: MockClock) -> None:
    async with left() as it:
        good = session_state.written(Publication(b"w/x", b""), 0.0, 0.0)
        for number, value in enumerate(
            (
                {},
                [],
                {"i": "1", "w": good, "d": 0},
                {"i": "1", "w": good, "d": "x", "e": -1},
                {"i": "1", "w": good, "d": 0, "e": float("inf")},
                {"i": "1", "w": [7] * 10, "d": 0, "e": -1},
                {"i": "1", "w": None, "d": 0, "e": -1},
            )
        ):
            it.put(b"%d" % number, value)
        it.records.put(b"shop.SESS.w.x-1.deep", b"", b"[" * 100_000)
        await it.will(b"good")
        it.dies()
        await trio.sleep(3 * LOOK_S)
        assert it.wills() == [b"good"]


@pytest.mark.parametrize("fault", [SILENT, refused(503, 10008)], ids=["silent", "no leader"])
@pytest.mark.parametrize("place", [b"STREAM.INFO.shop_SESS", b"MSG.GET.shop_SESS", b"shop.MSGS.c"])
async def test_what_is_not_answered_is_tried_again(
    autojump_clock: MockClock, fault: object, place: bytes
) -> None:
    async with left() as it:
        await it.will(b"1")
        it.dies()
        it.server.faults += [(place, fault)] * 4
        await trio.sleep(30)
        assert it.wills() == [b"1"]
        assert it.stored() == []


async def test_a_log_that_takes_nothing_for_long_ends_nobody(autojump_clock: MockClock) -> None:
    """The will comes when it does; the lease is kept meanwhile, since records are written."""
    async with left() as it:
        await it.will(b"1")
        it.server.faults += [(b"shop.MSGS.c", SILENT)] * 1000
        it.dies()
        await trio.sleep(60)
        assert it.wills() == []
        it.server.faults.clear()
        await trio.sleep(10)
        assert it.wills() == [b"1"]
        assert it.stored() == []


async def test_one_dead_node_that_can_not_be_seen_to_is_in_no_others_way(autojump_clock: MockClock) -> None:
    async with left() as it:
        for client, mark in ((b"1", b"x-1"), (b"2", b"y-1"), (b"3", b"z-1")):
            await it.will(client, mark=mark)
        it.server.faults += [(b"shop.MSGS.x.y-1", refused(503))] * 1000
        for mark in (b"x-1", b"y-1", b"z-1"):
            it.dies(mark)
        await trio.sleep(3 * LOOK_S)
        assert sorted(it.wills()) == [b"1", b"3"]
        it.server.faults.clear()
        await trio.sleep(3 * LOOK_S)
        assert sorted(it.wills()) == [b"1", b"2", b"3"]


async def test_of_two_nodes_one_sees_to_it_and_the_other_after_it(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await trio.sleep(1)
        async with running(server, "c") as (c,):
            await trio.sleep(5)
            it = Left(server, b)
            await it.will(b"1")
            it.dies()
            await trio.sleep(3)
            assert (b.node.status.wills, c.node.status.wills) == (1, 0)
            assert not c.node.status.is_janitor
            server.drop(b.node.link)
            await trio.sleep(8)
            assert not b.node.status.is_janitor
            assert c.node.status.is_janitor
            it = Left(server, c)
            await it.will(b"2", mark=b"y-1")
            it.dies(b"y-1")
            await trio.sleep(3)
            assert c.node.status.wills == 1


async def test_now_and_then_wills_are_looked_for_whose_node_has_no_record_any_more(
    autojump_clock: MockClock,
) -> None:
    async with left() as it:
        await it.will(b"1")
        await trio.sleep(LOOK_S * 5)
        assert it.wills() == []
        await trio.sleep(LOOK_S * (LOOK_FOR_ALL_EVERY + 5))  # that it is dead takes its time
        assert it.wills() == [b"1"]


async def test_wills_of_a_node_that_crashes_come_once(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b, joined(urls, cluster_name, "c") as c:
        there, third = await watching(b, b"w/#", b"end"), Client(c)
        await third.connect(b"third")
        await third.subscribe((b"w/#", 1), (b"end", 0))
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            left, stays, moves = Client(a), Client(a), Client(a)
            await left.connect(b"left", True, Will(b"w/left", b"", 1, False))
            await left.send(Disconnect())
            await stays.connect(b"stays", True, Will(b"w/stays", b"1", 1, True))
            await moves.connect(b"moves", False, Will(b"w/moves", b"1", 1, False))
            moved = Client(b)
            await moved.connect(b"moves", False)
        assert (await there.message(20))[:2] == (b"w/stays", b"1")
        assert (await third.message())[:2] == (b"w/stays", b"1")
        publisher = Client(c)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        for one in (there, third):
            assert (await one.message())[0] == b"end"
        late = Client(b)
        await late.connect(b"late")
        await late.subscribe((b"w/#", 1))
        assert await late.message() == (b"w/stays", b"1", 1, True)
