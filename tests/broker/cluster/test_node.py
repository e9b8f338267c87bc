"""What clients of one node publish reaches the clients of the others, with a real NATS server between them."""

from __future__ import annotations

import pytest
import trio
from support.nats import Server
from support.nodes import Client, joined, node_of

from protocol.mqtt.packets import Pubcomp, Publish, Pubrec, Pubrel


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("topic", [b"a/b", b"v1.0/x y//", "é/$".encode(), b"l/" * 150 + b"l", b"x" * 4000])
async def test_a_message_reaches_the_clients_of_both_nodes_once(
    nats_server: Server, cluster_name: str, topic: bytes, qos: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        here, there, publisher = Client(a), Client(b), Client(a)
        for client, name in ((here, b"here"), (there, b"there")):
            await client.connect(name)
            await client.subscribe((b"#", 1))
        await publisher.connect(b"p")
        await publisher.publish(topic, b"1", qos)
        await publisher.publish(topic, b"2", 1)
        for client in (here, there):
            got = [await client.message(), await client.message()]
            assert sorted(got) == [(topic, b"1", qos, False), (topic, b"2", 1, False)]


async def test_a_publishers_order_is_kept(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        there, publisher = Client(b), Client(a)
        await there.connect(b"there")
        await there.subscribe((b"t/#", 1))
        await publisher.connect(b"p")
        await publisher.send(
            *[Publish(b"t/%d" % (n % 3), b"%d" % n, 1, False, False, n) for n in range(1, 301)]
        )
        assert [(await there.message())[1] for _ in range(300)] == [b"%d" % n for n in range(1, 301)]


async def test_qos_2_arrives_once_though_it_is_sent_again(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        there, publisher = Client(b), Client(a)
        await there.connect(b"there")
        await there.subscribe((b"t", 1))
        await publisher.connect(b"p")
        for payload in (b"1", b"2"):
            for dup in (False, True):
                await publisher.send(Publish(b"t", payload, 2, False, dup, 5))
                assert await publisher.receive() == Pubrec(5)
            await publisher.send(Pubrel(5))
            assert await publisher.receive() == Pubcomp(5)
        await publisher.publish(b"t", b"end")
        assert [(await there.message())[1] for _ in range(3)] == [b"1", b"2", b"end"]


async def test_the_acknowledgement_waits_for_the_log(nats_server: Server, cluster_name: str) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        publisher = Client(a)
        await publisher.connect(b"p")
        node = node_of(a)
        await publisher.publish(b"t", b"1")
        assert node.status.published == 1
        assert node.status.retried == 0, "or it would have waited for nothing"
        with trio.fail_after(60):
            while node.status.delivered < 1:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert node.publisher.own(1) is None, "known again when the log brought it"


async def test_programs_publish_to_all_nodes(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        there = Client(b)
        await there.connect(b"there")
        await there.subscribe((b"t", 1))
        await a.publish("t", b"from a program", qos=1)
        assert await there.message() == (b"t", b"from a program", 1, False)
        await a.publish("t", b"at QoS 0")
        assert await there.message() == (b"t", b"at QoS 0", 0, False)


async def test_what_the_broker_says_of_itself_stays_here(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b"):
        assert node_of(a).status.published == 0
        assert any(one.topic.startswith(b"$SYS") for one in a.app.engine.retained.all())
