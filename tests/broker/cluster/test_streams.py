"""Streams that somebody removes while nodes run."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.memory_nats import MemoryNats, refused
from support.memory_node import running
from support.nats import Server
from support.nodes import Client, joined, node_of
from support.polling import until
from trio.testing import MockClock

from broker.cluster.complaints import SAY_AGAIN_S
from broker.cluster.node import LOOK_S
from broker.cluster.setup import ask, info
from protocol.nats import jetstream


async def test_a_log_that_is_gone_is_made_again_with_what_is_retained(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        a.publish(b"r", b"kept", 1, True)
        await a.settled()
        del server.streams["shop_MSGS"]
        await a.node.streams.make_again()
        await a.settled()
        assert [one.payload for one in server.streams["shop_MSGS"].kept] == [b"kept"]
        await a.node.streams.make_again()
        await a.settled()
        kept = [one for one in server.streams["shop_MSGS"].kept if not a.node.names.is_of_nodes(one.subject)]
        assert len(kept) == 1, "it is there"


async def test_what_is_retained_is_brought_along_once_whoever_misses_a_stream(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        a.publish(b"r", b"kept", 1, True)
        await a.settled()
        server.streams.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.node.streams.make_again)
            nursery.start_soon(a.node.streams.make_again)
        await a.settled()
        assert [one.payload for one in server.streams["shop_MSGS"].kept] == [b"kept"]


@pytest.mark.parametrize("name", ["shop_RET", "shop_SESS"])
async def test_a_stream_that_can_t_be_made_again_is_said_with_what_helps(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Once a minute, and for all the time on /readyz."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        server.faults = [(b"STREAM.CREATE", refused(500, 10047))] * 1000
        del server.streams[name]
        await trio.sleep(2 * SAY_AGAIN_S - LOOK_S)
        why = f"the stream {name} is gone and can't be made again: no (500/10047); lower keep_bytes in [cluster]"
        (unready,) = a.node.status.unready()
        assert unready.startswith(f"cluster: {why}")
        said = [one.message for one in caplog.records if one.name == "broker.cluster" and name in one.message]
        assert said[0] == f"The stream {name} is gone, with what was in it; it is made again."
        assert len(said) == 3
        assert all(one.startswith(f"In the cluster shop {why}") for one in said[1:])
        server.faults.clear()
        await trio.sleep(2 * LOOK_S)
        assert not a.node.status.unready()
        assert name in server.streams


async def test_a_stream_that_can_t_be_made_to_copy_again_is_said_and_the_others_are_seen_to(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        server.faults = [(b"STREAM.UPDATE", refused(400, 10052))] * 1000
        server.sources["shop_RET"] = [{"name": "shop_MSGS", "seq": 1_000_000}]
        await trio.sleep(LOOK_S)
        del server.streams["shop_SESS"]
        await trio.sleep(SAY_AGAIN_S - LOOK_S)
        assert "shop_SESS" in server.streams
        said = [one.message for one in caplog.records if "does not copy again" in one.message]
        assert said == [
            "In the cluster shop NATS does not copy again what is retained in the log: no (400/10052)."
        ]
        assert not a.node.status.unready()
        server.faults.clear()


async def test_why_the_log_can_t_be_made_again_is_said_with_what_helps(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        server.faults = [(b"STREAM.CREATE", refused(500, 10047))] * 1000
        del server.streams["shop_MSGS"]
        server.drop(a.node.link)
        await trio.sleep(10)
        server.admit(a.node.link)
        await a.settled()
        assert "the log can't be read: no (500/10047); lower keep_bytes" in a.node.status.unready()[0]


@pytest.mark.parametrize("which", ["retained", "sessions"])
async def test_a_stream_that_somebody_removes_is_made_again(
    nats_server: Server, cluster_name: str, which: str
) -> None:
    """The node goes on with it, and lets clients in."""
    async with joined((nats_server.url,), cluster_name, "a") as a:
        node = node_of(a)
        name = getattr(node.names, which)
        await ask(node.link, (jetstream.API + b"STREAM.DELETE." + name.encode(), b""))
        with trio.fail_after(60):
            while await info(node.link, name) is None:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await until(lambda: not node.status.unready(), 60)
        client = Client(a)
        await client.connect(b"c", False)
        await client.subscribe((b"t", 1))
        await client.publish(b"t", b"1")
        assert (await client.message())[1] == b"1"
