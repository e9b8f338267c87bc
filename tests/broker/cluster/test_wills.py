"""A client's will comes once on every node, whatever happened to its node."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.nats import Server
from support.nodes import Client, joined

from broker import Broker, Listener
from broker.config.model import Security
from protocol.mqtt.packets import Disconnect, Publish, Will


async def watching(broker: Broker, *filters: bytes) -> Client:
    client = Client(broker)
    await client.connect(b"watch")
    await client.subscribe(*[(one, 1) for one in filters])
    return client


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_lost_connection_s_will_comes_once_on_each_node(
    nats_server: Server, cluster_name: str, qos: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        there, here = await watching(b, b"#"), Client(a)
        await here.connect(b"here")
        await here.subscribe((b"#", 1))
        client = Client(a)
        await client.connect(b"c", True, Will(b"w", b"gone", qos, True))
        await client.close()
        for one in (there, here):
            assert await one.message() == (b"w", b"gone", qos, False)
        publisher = Client(b)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        for one in (there, here):
            assert (await one.message())[0] == b"end"


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


async def test_a_will_that_may_not_be_published_is_not(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    path = tmp_path / "acl"
    path.write_text("topic readwrite ok/#\n")
    restricted = Listener(port=0, security=Security(allow_anonymous=True, acl_file=path))
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        there = await watching(b, b"#")
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            bad, good = Client(a, restricted), Client(a, restricted)
            await bad.connect(b"bad", True, Will(b"secret", b"", 1, False))
            await good.connect(b"good", True, Will(b"ok/1", b"", 1, False))
        assert (await there.message(20))[0] == b"ok/1"
        publisher = Client(b)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        assert (await there.message())[0] == b"end"


async def test_a_session_that_moves_is_judged_anew(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    """What waits for it was for whoever it was then; it gets what it may read by who it is now."""
    path = tmp_path / "acl"
    path.write_text("topic readwrite ok/#\n")
    restricted = Listener(port=0, security=Security(allow_anonymous=True, acl_file=path))
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        client, publisher = Client(a), Client(a)
        await publisher.connect(b"p")
        await client.connect(b"c", False)
        await client.subscribe((b"#", 1))
        await publisher.publish(b"secret", b"in flight")
        assert isinstance(await client.receive(), Publish)
        await client.close()
        await publisher.publish(b"secret", b"while away")
        await publisher.publish(b"ok/1", b"1")
        b.app.engine.trie.restrict(True)  # as with a listener that has rules in the configuration
        client = Client(b, restricted)
        assert await client.connect(b"c", False)
        assert (await client.message())[:2] == (b"ok/1", b"1")
        await publisher.publish(b"secret", b"live")
        await publisher.publish(b"ok/2", b"2")
        assert (await client.message())[:2] == (b"ok/2", b"2")
