"""What a node has sent gets into the log no more once the node is dead to the others, however late it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.memory_nats import HELD, LOST, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined, let_in
from support.ports import free_port
from torture.cables import HANGING, OPEN, Cable
from trio.testing import MockClock

from broker.cluster.fences import Fences
from broker.cluster.link import Unavailable
from broker.cluster.names import Names
from broker.core.publication import Publication
from protocol.mqtt.packets import Publish, Pubrec
from protocol.nats import jetstream, wire
from protocol.nats.jetstream import ApiError

SHOP = Names("shop")


def with_log() -> tuple[MemoryNats, Fences]:
    server = MemoryNats()
    server.stream("shop_MSGS", ("shop.MSGS.>",))
    return server, Fences(server.connected(), SHOP)


def fences_in(server: MemoryNats) -> list[bytes]:
    return [
        one.subject for one in server.streams["shop_MSGS"].kept if one.subject.startswith(b"shop.MSGS.x.")
    ]


def said(payload: bytes) -> Publication:
    """By the client `c`, at QoS 2 and packet id 7."""
    publication = Publication(b"t", payload, 2, False, b"c")
    publication.packet_id = 7
    return publication


def payloads(server: MemoryNats) -> list[bytes]:
    return [one.payload for one in server.streams["shop_MSGS"].kept if not SHOP.is_of_nodes(one.subject)]


async def test_there_is_one_whoever_puts_it_up_and_however_often(autojump_clock: MockClock) -> None:
    server, fences = with_log()
    for one in (fences, fences, Fences(server.connected(), SHOP)):
        await one.put_up(b"a-1")
    assert fences_in(server) == [b"shop.MSGS.x.a-1"]


async def test_it_is_there_also_where_the_answer_was_lost(autojump_clock: MockClock) -> None:
    server, fences = with_log()
    server.faults.append((b"shop.MSGS.x.", LOST))
    with pytest.raises(Unavailable):
        await fences.put_up(b"a-1")
    await fences.put_up(b"a-1")
    assert fences_in(server) == [b"shop.MSGS.x.a-1"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(refused(400, jetstream.WRONG_LAST_SEQUENCE_OF), Unavailable), (refused(503), ApiError)],
    ids=["the node's last batch is just being taken", "no quorum"],
)
async def test_it_is_not_there_while_the_log_has_not_said_so(
    autojump_clock: MockClock, answer: dict[str, object], error: type[Exception]
) -> None:
    server, fences = with_log()
    server.faults.append((b"shop.MSGS.x.", answer))
    with pytest.raises(error):
        await fences.put_up(b"a-1")
    await fences.put_up(b"a-1")
    assert fences_in(server) == [b"shop.MSGS.x.a-1"]


async def test_a_log_that_was_made_anew_gets_it_again(autojump_clock: MockClock) -> None:
    server, fences = with_log()
    await fences.put_up(b"a-1")
    server.stream("shop_MSGS", ("shop.MSGS.>",))
    fences.log_is_new()
    await fences.put_up(b"a-1")
    assert fences_in(server) == [b"shop.MSGS.x.a-1"]


async def test_a_node_whose_batch_is_refused_for_no_fence_sends_it_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        mark = a.node.liveness.mark
        await a.comes()
        server.faults.append((b"shop.MSGS.c", refused(400, jetstream.WRONG_LAST_SEQUENCE_OF)))
        a.publish(b"t", b"1")
        await a.settled()
        assert payloads(server) == [b"1"]
        assert a.node.liveness.mark == mark


async def test_a_node_that_finds_its_fence_closes_its_clients_and_goes_on_under_another_mark(
    autojump_clock: MockClock,
) -> None:
    """What is no client's, or needs no acknowledgement, is not lost."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        mark = a.node.liveness.mark
        client = await a.comes()
        await b.node.publisher.fences.put_up(mark)
        with a.engine.turn:
            publication = Publication(b"t", b"a client's", 1, False, b"c")
            publication.packet_id = 7
            a.engine.publish_from(client.session, publication)
        a.publish(b"t", b"a program's")
        await a.settled()
        assert payloads(server) == [b"a program's"]
        assert client.why
        assert a.node.liveness.mark != mark
        await a.comes()
        a.publish(b"t", b"2")
        await a.settled()
        assert payloads(server) == [b"a program's", b"2"]
        assert [one.node.status.unreadable for one in (a, b)] == [0, 0]


async def test_a_batch_of_a_dead_node_that_comes_late_is_refused_whole(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with MemoryNode(server, "a").running() as a:
            await a.comes()
            server.faults += [(b"shop.MSGS.c", HELD)] * 3
            with a.engine.turn:
                for payload in (b"1", b"2", b"3"):
                    a.engine.publish(Publication(b"t", payload, 1))
            await a.settled()
        await b.comes()
        server.release()
        b.publish(b"t", b"4")
        await b.settled()
        assert payloads(server) == [b"4"]


@pytest.mark.parametrize("where", [0, 1], ids=["to the same node", "to another"])
async def test_who_comes_back_at_once_finds_the_fence_of_its_nodes_earlier_life(
    autojump_clock: MockClock, where: int
) -> None:
    """What that life had sent may still be on its way."""
    server = MemoryNats()
    async with running(server, "a", "b") as nodes:
        a, there = nodes[0], nodes[where]
        client = await a.comes()
        server.faults.append((b"shop.MSGS.c", HELD))
        first, again = said(b"1"), said(b"1")
        again.dup = True
        with a.engine.turn:
            a.engine.publish_from(client.session, first)
        mark = a.node.liveness.mark
        with a.engine.turn:
            a.node.liveness._die("for a test")
        began = trio.current_time()
        await there.comes()
        assert trio.current_time() - began < 2, "nobody waits for a life that this process knows to be over"
        assert b"shop.MSGS.x." + mark in fences_in(server)
        with there.engine.turn:
            there.node.publisher.offer(again)
        await there.settled()
        server.release()
        await there.settled()
        assert payloads(server) == [b"1"]


async def test_a_will_that_others_have_published_is_not_sent_again_however_late(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await a.comes_with_will()
        server.drop(a.node.link)
        with a.engine.turn:
            client.close("it goes")
        await trio.sleep(200)
        assert payloads(server) == [b"gone"]
        server.streams["shop_MSGS"].ids.clear()
        server.admit(a.node.link)
        await a.settled()
        await trio.sleep(5)
        assert payloads(server) == [b"gone"]
        assert b.node.status.wills + a.node.status.wills == 1


async def test_what_a_client_had_retained_here_does_not_come_back_over_what_it_retained_elsewhere(
    autojump_clock: MockClock,
) -> None:
    """At QoS 0, too, of which nobody waits for an acknowledgement."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        older = await a.comes()
        server.drop(a.node.link)
        with a.engine.turn:
            a.engine.publish_from(older.session, Publication(b"t", b"old", 0, True, b"c"))
        await trio.sleep(12)
        newer = await b.comes()
        with b.engine.turn:
            b.engine.publish_from(newer.session, Publication(b"t", b"new", 0, True, b"c"))
        await b.settled()
        server.admit(a.node.link)
        await trio.sleep(10)
        await a.settled()
        assert payloads(server) == [b"new"]
        for one in (a, b):
            retained = one.engine.retained.get(b"t")
            assert retained is not None
            assert retained.payload == b"new"


async def test_a_pubrel_of_a_client_that_has_moved_is_not_told_late(autojump_clock: MockClock) -> None:
    """It would end the next message under that packet id, which the client has sent to another node."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        publisher = a.node.publisher
        publisher._sends_again = True  # so nothing goes to the log
        for client_id in (b"c", b"d"):
            publisher.finish(client_id, 7)
        publisher.give_up({b"c"})
        publisher.finish(b"e", 7)
        publisher._sends_again = False
        with a.engine.turn:
            pass
        await publisher.drained()
        told = [one.payload for one in server.streams["shop_MSGS"].kept]
        assert told == [b"d:7:\ne:7:\n"]
        publisher._sends_again = True
        publisher.finish(b"c", 7)
        publisher.give_up({b"c"})
        publisher.finish(b"c", 8)
        publisher._sends_again = False
        with a.engine.turn:
            pass
        await publisher.drained()
        told = [one.payload for one in server.streams["shop_MSGS"].kept]
        assert told == [b"d:7:\ne:7:\n", b"c:8:\n"]


# --- with a real server ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def cable_to(server: Server) -> AsyncIterator[Cable]:
    async with trio.open_nursery() as nursery:
        cable = Cable(free_port(), server.port)
        await nursery.start(cable.run)
        yield cable
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("others", [0, 2], ids=["alone", "in a batch"])
async def test_what_hung_on_a_link_when_its_node_was_killed_does_not_come_once_more(
    nats_server: Server, cluster_name: str, others: int
) -> None:
    """The client has moved by then, and said it again."""
    async with cable_to(nats_server) as cable, joined((nats_server.url,), cluster_name, "b") as b:
        way = f"nats://127.0.0.1:{cable.port}"
        async with joined((way,), cluster_name, "a", crashes=True) as a:
            client = Client(a)
            await client.connect(b"c", False)
            await cable.become(HANGING)
            said = [Publish(b"t", b"%d" % number, 2, False, False, number) for number in range(1, others + 2)]
            await client.send(*said)
            await cable.until_under_way(jetstream.BATCH_COMMIT if others else b".MSGS.c.m.t ")
        client, _ = await let_in(b, b"c")
        for packet_id in range(1, others + 2):
            await client.send(Publish(b"t", b"%d" % packet_id, 2, False, True, packet_id))
        for packet_id in range(1, others + 2):
            assert await client.receive() == Pubrec(packet_id)
        with NatsClient(nats_server.port) as reader:
            answers: list[wire.Message] = reader.subscribe(b"_INBOX.>")
            stream = f'"stream":"{cluster_name}_MSGS"'.encode()
            reader.ask(jetstream.stream_info(f"{cluster_name}_MSGS"))  # so the server has the subscription
            await cable.become(OPEN)
            await trio.to_thread.run_sync(reader.until, lambda: any(stream in one.payload for one in answers))
            found = reader.ask(
                jetstream.stream_subjects(f"{cluster_name}_MSGS", f"{cluster_name}.MSGS.c.>".encode())
            )
        [count] = found["state"]["subjects"].values()
        assert count == others + 1
