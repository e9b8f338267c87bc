"""A node's copy of what is retained."""

from __future__ import annotations

from itertools import pairwise

from support import nats
from support.memory_nats import MemoryNats
from support.memory_node import MemoryNode, running
from support.nodes import Client, joined
from trio.testing import MockClock

from broker.cluster.retained_copy import RETAINED_A_TURN, _retain
from broker.core.publication import Publication
from protocol.mqtt.packets import Publish
from protocol.nats import headers, jetstream

LOG = "shop_MSGS"


async def test_what_is_retained_is_here_before_anything_is_read(autojump_clock: MockClock) -> None:
    """Of what NATS has copied the newest counts, and of what it has not copied yet the log has it."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        for topic, payload in ((b"r/1", b"1"), (b"r/2", b"2"), (b"r/1", b"3"), (b"r/2", b"")):
            b.publish(topic, payload, 1, True)
        b.publish(b"live", b"x")
        await b.settled()
        first = server.streams[LOG].kept[0]
        copied = headers.encode(
            {**headers.decode(first.block).values, jetstream.STREAM_SOURCE: b"shop_MSGS 1 shop.MSGS.*.r.> >"}
        )
        server.streams["shop_RET"].put(b"shop.RET.r.1", copied, first.payload)
        server.streams["shop_RET"].put(b"shop.RET.old", copied, b"old")
        a = MemoryNode(server, "a")
        for topic in (b"r/2", b"of the file", b"$SYS/x"):
            a.engine.retained.put(Publication(topic, b"from before", 1, True))
        async with a.running():
            assert a.node.reader.last == 5
            there = {one.topic: one.payload for one in a.engine.retained.all()}
            assert there == {b"r/1": b"3", b"old": b"old", b"$SYS/x": b"from before"}


async def test_very_many_retained_messages_come_some_in_each_turn(
    nats_server: nats.Server, cluster_name: str
) -> None:
    count = 2 * RETAINED_A_TURN + 7
    async with joined((nats_server.url,), cluster_name, "a") as a:
        client = Client(a)
        await client.connect(b"c")
        for number in range(count):
            await client.send(Publish(b"r/%d" % number, b"x", retain=True))
        await client.publish(b"r/last", b"x", 1, True)
        async with joined((nats_server.url,), cluster_name, "b") as b:
            store, turns = b.app.engine.retained, [0]
            kept = [one for one in store.all() if one.topic.startswith(b"r/")]
            assert len(kept) == count + 1
            for one in kept:
                store.put(Publication(one.topic, b"", 0, True))
            before = len(store)
            b.app.engine.turn.on_settled(lambda: turns.append(len(store) - before))
            await _retain(b.app.engine, kept)
            assert turns[-1] == count + 1
            assert max(after - earlier for earlier, after in pairwise(turns)) <= RETAINED_A_TURN
        await client.close()
