"""One owner for each client id over nodes, and persistent sessions that come back on another one."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from support.nats import Server
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined, node_of

from broker import Broker
from broker.cluster import liveness
from broker.cluster.names import Names
from protocol.mqtt.packets import Publish, Pubrec, Pubrel


async def numbers(client: Client, count: int) -> list[int]:
    return [int((await client.message())[1]) for _ in range(count)]


async def closed(client: Client) -> None:
    with suppress(EOFError):
        while True:
            await client.receive()


async def gone(broker: Broker, client_id: bytes) -> None:
    """Wait until a node has nothing of a client any more."""
    with trio.fail_after(60):
        while (own := node_of(broker).owners.owned.get(client_id)) is not None:
            await own.idle.wait()
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("clean", [False, True])
async def test_a_client_that_connects_elsewhere_is_closed_here(
    nats_server: Server, cluster_name: str, clean: bool
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        nodes = [a, b]
        before: Client | None = None
        for number in range(6):
            client = Client(nodes[number % 2])
            assert await client.connect(b"c", clean) is (number > 0 and not clean)
            if before is not None:
                await closed(before)
            assert [b"c" in one.app.engine.sessions for one in nodes] == [number % 2 == 0, number % 2 == 1]
            await client.publish(b"t", b"x")
            before = client


async def test_what_came_while_a_client_was_away_waits_on_every_node(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, client = Client(b), Client(a)
        await publisher.connect(b"p")
        await client.connect(b"c", False)
        await client.subscribe((b"t/+", 1), (b"u", 0))
        await publisher.publish(b"t/1", b"0")
        assert await numbers(client, 1) == [0]
        await client.close()
        await gone(a, b"c")
        sent = 0
        for here, there in ((a, b), (b, a), (b, b)):
            for _ in range(3):
                sent += 1
                await publisher.publish(b"t/2", b"%d" % sent)
                await publisher.publish(b"other", b"-1")
                await publisher.publish(b"u", b"-1", 0)
            client = Client(there)
            assert await client.connect(b"c", False)
            assert await numbers(client, 3) == [sent - 2, sent - 1, sent]
            sent += 1
            await publisher.publish(b"t/3", b"%d" % sent)
            assert await numbers(client, 1) == [sent], here
            await client.close()
            await gone(there, b"c")


async def test_more_than_a_queue_takes_waits_in_the_log(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, client = Client(b), Client(a)
        await publisher.connect(b"p")
        await client.connect(b"c", False)
        await client.subscribe((b"t/#", 1))
        await client.close()
        await gone(a, b"c")
        for start in range(0, 3000, 500):
            batch = [Publish(b"t/x", b"%d" % n, 1, False, False, n + 1) for n in range(start, start + 500)]
            noise = [
                Publish(b"no", b"", 1, False, False, n + 10_000) for n in range(3 * start, 3 * start + 1500)
            ]
            await publisher.send(*batch, *noise)
            for _ in range(2000):
                await publisher.receive()
        client = Client(b)
        assert await client.connect(b"c", False)
        # As a client library does: it subscribes again, and new messages come meanwhile.
        await client.send_subscribe((b"t/#", 1), (b"new", 1))
        await publisher.publish(b"t/x", b"3000")
        await publisher.publish(b"new", b"3001")
        assert await numbers(client, 3002) == list(range(3002))


async def test_what_was_not_acknowledged_comes_again_after_a_crash(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        publisher = Client(b)
        await publisher.connect(b"p")
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            client = Client(a)
            await client.connect(b"c", False)
            await client.subscribe((b"t", 1))
            for number in range(5):
                await publisher.publish(b"t", b"%d" % number)
            got = [await client.receive() for _ in range(5)]
            assert [one.payload for one in got if isinstance(one, Publish)] == [b"0", b"1", b"2", b"3", b"4"]
        await publisher.publish(b"t", b"5")
        client = Client(b)
        with trio.fail_after(60):
            assert await client.connect(b"c", False)
        assert await numbers(client, 6) == [0, 1, 2, 3, 4, 5]


async def test_qos_2_is_finished_on_the_other_node(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, client = Client(a), Client(a)
        await client.connect(b"c", False)
        await client.subscribe((b"t", 2))
        await publisher.connect(b"p", False)
        await publisher.send(Publish(b"t", b"1", 2, False, False, 7))
        assert await publisher.receive() == Pubrec(7)
        first = await client.receive()
        assert isinstance(first, Publish)
        await client.send(Pubrec(first.packet_id or 0))
        assert await client.receive() == Pubrel(first.packet_id or 0)
        client, publisher = Client(b), Client(b)
        assert await client.connect(b"c", False)
        assert await client.receive() == Pubrel(first.packet_id or 0)
        assert await publisher.connect(b"p", False)
        await publisher.send(Publish(b"t", b"1", 2, False, True, 7))
        assert await publisher.receive() == Pubrec(7)
        await publisher.send(Pubrel(7))
        await publisher.receive()
        await publisher.publish(b"t", b"2")
        assert (await client.message())[:2] == (b"t", b"2"), "and not the first a second time"


async def test_a_clean_connect_elsewhere_ends_the_session(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        client = Client(a)
        await client.connect(b"c", False)
        await client.subscribe((b"t", 1))
        client = Client(b)
        assert not await client.connect(b"c", True)
        await client.close()
        await gone(b, b"c")
        client = Client(a)
        assert not await client.connect(b"c", False)
        await client.publish(b"t", b"1")
        assert not a.app.engine.sessions[b"c"].subscriptions


async def test_a_node_that_ends_leaves_its_sessions_to_the_others_at_once(
    nats_server: Server, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until it counts as dead, which takes ten minutes here."""
    monkeypatch.setattr(liveness, "GRACE_S", 600.0)
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        async with joined(urls, cluster_name, "a") as a:
            client = Client(a)
            await client.connect(b"c", False)
            await client.subscribe((b"t", 1))
        publisher = Client(b)
        await publisher.connect(b"p")
        await publisher.publish(b"t", b"1")
        client = Client(b)
        with trio.fail_after(60):
            assert await client.connect(b"c", False)
        assert await numbers(client, 1) == [1]


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("value", [b"", b"[" * 10_000, b'{"o":1}', b'{"o":"","c":false,"l":1e400}', b"\xff"])
async def test_a_record_that_nobody_can_read_keeps_its_client_from_nothing(
    nats_server: Server, cluster_name: str, value: bytes, clean: bool
) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        names = Names(cluster_name)
        with NatsClient(nats_server.port) as stranger:
            stranger.put(names.record(names.client(b"c")), value)
        client = Client(a)
        assert not await client.connect(b"c", clean)
        await client.subscribe((b"t", 1))
        await client.publish(b"t", b"1")
        assert (await client.message())[1] == b"1"
        await client.close()
