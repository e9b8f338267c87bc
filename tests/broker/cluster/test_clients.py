"""The clients of a node as its door sees them: what of a will may be published is decided here."""

from __future__ import annotations

from pathlib import Path

from support.nats import Server
from support.nodes import Client, joined, watching

from broker import Listener
from broker.config.model import Security
from protocol.mqtt.packets import Publish, Will


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
