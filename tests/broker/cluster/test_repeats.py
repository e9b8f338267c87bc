"""What a client sends again at QoS 2 after its node has crashed comes once, and what is new is not taken for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.attached import Attached
from support.memory_nats import LOST, SILENT, MemoryNats
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined
from trio.testing import MockClock

from broker.cluster import session_state
from broker.cluster.names import Names
from broker.cluster.repeats import HELD_MAX
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.links.mqtt.packets import offer_once
from protocol.mqtt.packets import Connect, Pubcomp, Publish, Pubrec, Pubrel
from protocol.nats import jetstream

SHOP = Names("shop")

UNANSWERED = [(b"STREAM.INFO.shop_MSGS", SILENT)] * 3
"""Whoever asks for the log's end hears nothing for a while."""


def publish(
    node: MemoryNode, payload: bytes, packet_id: int = 7, dup: bool = False, qos: int = 2, topic: bytes = b"t"
) -> Promise:
    """As the client's link does; kept when its PUBREC, or PUBACK, would leave."""
    engine = node.engine
    with engine.turn:
        session = engine.sessions[b"c"]
        publication = Publication(topic, payload, qos, False, b"c")
        publication.packet_id, publication.dup = packet_id, dup
        if qos == 2:
            session.expect().accept(packet_id, publication, dup)
            publication = offer_once(engine, session, packet_id, publication)
        else:
            engine.publish_from(session, publication)
        return publication.promise or Promise()


def release(node: MemoryNode, packet_id: int = 7) -> Promise:
    """The same of PUBREL and PUBCOMP."""
    with node.engine.turn:
        session = node.engine.sessions[b"c"]
        session.expect().release(packet_id)
        assert node.engine.finish is not None
        promise = node.engine.finish(session, packet_id)
        assert promise is not None
        return promise


async def kept(promise: Promise) -> None:
    with trio.fail_after(30):
        while not promise.is_kept:  # noqa: ASYNC110 - on the clock of the test
            await trio.sleep(0.1)


async def comes(node: MemoryNode) -> Attached:
    """The client connects here: once its node is dead, if it is."""
    assert await node.owners.claim(b"c", Connect(b"c", False, 0), None) == ""
    with node.engine.turn:
        client = Attached(node.engine, b"c", False)
        node.owners.arrived(b"c", None)
    return client


def messages(server: MemoryNats) -> list[bytes]:
    """What the log has of the client's."""
    return [one.payload for one in server.streams["shop_MSGS"].kept if not SHOP.is_of_nodes(one.subject)]


@asynccontextmanager
async def on_a(server: MemoryNats) -> AsyncIterator[MemoryNode]:
    async with MemoryNode(server, "a").running() as a:
        await comes(a)
        await a.settled()
        yield a


async def crashes_with_on(server: MemoryNats) -> None:
    """The client's node has "on" in the log, under packet id 7, and crashes."""
    async with on_a(server) as a:
        await kept(publish(a, b"on"))


async def test_what_the_crashed_node_sent_to_the_log_is_not_sent_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, b"1", 6))
            await kept(release(a, 6))
            await kept(publish(a, b"on"))
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        await kept(publish(b, b"off", 8))
        assert messages(server) == [b"1", b"on", b"off"]
        await kept(release(b))
        assert messages(server) == [b"1", b"on", b"off"]
        assert (b.node.status.unreadable, b.node.status.duplicates) == (0, 0)


async def test_who_has_yet_to_catch_up_does_not_say_that_it_is_not_there(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await crashes_with_on(server)
        await comes(b)
        stream = server.streams["shop_MSGS"]
        stream.fall_behind(2)
        promise = publish(b, b"on", dup=True)
        await trio.sleep(2)
        assert not promise.is_kept
        server.catch_up("shop_MSGS")
        await kept(promise)
        assert messages(server) == [b"on"]


async def test_it_is_known_by_the_log_after_any_time(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await crashes_with_on(server)
        await trio.sleep(500)
        server.streams["shop_MSGS"].ids.clear()  # as a server does, after its window
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on"]


async def test_a_packet_id_that_was_used_again_for_the_same_is_a_message_of_its_own(
    autojump_clock: MockClock,
) -> None:
    """The node crashes before the log has the second; its client has had the PUBCOMP of the first."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, b"on"))
            await kept(release(a))
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on", b"on"]


async def test_so_it_is_where_the_record_says_that_the_first_waits(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, b"on"))
            await trio.sleep(5)  # the record has it
            await kept(release(a))
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on", b"on"]


async def test_no_pubcomp_leaves_before_the_log_knows(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with on_a(server) as a:
        await kept(publish(a, b"on"))
        server.faults.append((SHOP.finished, SILENT))
        promise = release(a)
        await trio.sleep(1)
        assert not promise.is_kept
        await kept(promise)


@pytest.mark.parametrize(
    ("payload", "topic", "qos"),
    [(b"off", b"t", 2), (b"on", b"u", 2), (b"on", b"t", 1)],
    ids=["payload", "topic", "qos"],
)
async def test_what_says_something_else_is_a_message_of_its_own(
    autojump_clock: MockClock, payload: bytes, topic: bytes, qos: int
) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, payload, topic=topic, qos=qos))
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [payload, b"on"]


async def test_what_the_log_never_had_comes_and_nothing_overtakes_it(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, b"1", 1))
        await comes(b)
        first = publish(b, b"1", 1, dup=True)
        last = [publish(b, b"2", 2, dup=True), publish(b, b"3", 3), publish(b, b"4", 4, qos=1)]
        assert not first.is_kept
        for promise in (first, *last):
            await kept(promise)
        assert messages(server) == [b"1", b"2", b"3", b"4"]
        assert not b.node.publisher.repeats.held


async def test_who_is_there_when_two_nodes_crash_looks_from_where_the_first_did(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "d") as (d,):
        async with MemoryNode(server, "b").running() as b:
            await crashes_with_on(server)
            await comes(b)
            b.publish(b"else", b"x")
            await kept(publish(b, b"2", 2))
            await trio.sleep(5)  # its own record is written
        await comes(d)
        await kept(publish(d, b"on", dup=True))
        await kept(publish(d, b"2", 2, dup=True))
        assert messages(server) == [b"on", b"x", b"2"]


async def test_who_comes_after_a_node_where_it_said_nothing_looks_from_where_that_would_have(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "b", "d") as (b, d):
        await crashes_with_on(server)
        await b.goes(await comes(b))
        await comes(d)
        await kept(publish(d, b"on", dup=True))
        assert messages(server) == [b"on"]


async def test_what_was_on_its_way_when_it_left_is_found_by_who_comes_after_a_crash(
    autojump_clock: MockClock,
) -> None:
    """The log has it before the node that crashes has read so far."""
    server = MemoryNats()
    async with running(server, "a", "d") as (a, d):
        async with MemoryNode(server, "b").running() as b:
            client = await comes(a)
            server.faults = [(b"shop.MSGS.c", LOST)] * 100
            publish(a, b"on")
            await a.goes(client)
            await trio.sleep(3)
            server.faults.clear()
            await comes(b)
            await trio.sleep(5)  # its own record is written
        await comes(d)
        await kept(publish(d, b"on", dup=True))
        assert messages(server) == [b"on"]


async def test_a_node_that_hears_nothing_of_the_log_tries_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await crashes_with_on(server)
        await comes(b)
        await b.settled()
        server.faults += [(b"STREAM.INFO.shop_MSGS", LOST), (b"CONSUMER.CREATE.shop_MSGS", SILENT)]
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on"]


async def test_a_client_that_leaves_meanwhile_has_said_it_on_the_next_node_for_the_first_time(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "b", "d") as (b, d):
        await crashes_with_on(server)
        client = await comes(b)
        server.faults += UNANSWERED
        promise = publish(b, b"on", dup=True)
        await b.goes(client)
        await comes(d)
        assert not promise.is_kept
        await kept(publish(d, b"on", dup=True))
        assert messages(server) == [b"on"]


async def test_what_this_node_knew_of_an_earlier_stay_counts_no_more(autojump_clock: MockClock) -> None:
    """Else NATS would drop another message that says the same under the same packet id."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await comes(a)
        await kept(publish(a, b"on"))
        await kept(release(a))
        await a.goes(client)
        client = await comes(b)
        await b.goes(client)
        await comes(a)
        await kept(publish(a, b"on", dup=True))
        assert messages(server) == [b"on", b"on"]


async def test_a_packet_id_that_has_ended_here_begins_anew_on_the_next_connection(
    autojump_clock: MockClock,
) -> None:
    """The client is taken over on its own node, so its stay goes on."""
    server = MemoryNats()
    async with on_a(server) as a:
        await kept(publish(a, b"on"))
        await kept(release(a))
        await comes(a)
        await kept(publish(a, b"on", dup=True))
        assert messages(server) == [b"on", b"on"]


async def test_after_its_puback_a_packet_id_is_another_messages_whatever_its_dup_says(
    autojump_clock: MockClock,
) -> None:
    """[MQTT-4.3.2-2]: the client has used it again, and the first of its words was lost with a connection."""
    server = MemoryNats()
    async with on_a(server) as a:
        await kept(publish(a, b"on", qos=1))
        await comes(a)
        await kept(publish(a, b"on", dup=True, qos=1))
        assert messages(server) == [b"on", b"on"]


async def test_what_is_too_much_to_be_held_comes_when_it_is_said_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b", "d") as (b, d):
        await crashes_with_on(server)
        client = await comes(b)
        server.faults += UNANSWERED
        publish(b, b"on", dup=True)
        for number in range(1, HELD_MAX):
            publish(b, b"filler", 1000 + number, qos=1)
        publish(b, b"2", 8)
        assert client.why
        await comes(d)
        await kept(publish(d, b"on", dup=True))
        await kept(publish(d, b"2", 8, dup=True))
        assert messages(server) == [b"on", b"2"]


async def test_a_will_that_waits_behind_what_is_held_is_not_lost_with_the_stay(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        await crashes_with_on(server)
        client = await comes(b)
        server.faults += UNANSWERED
        publish(b, b"on", dup=True)
        with b.engine.turn:
            b.engine.publish(Publication(b"w", b"gone", 1, False, b"c"))
        await b.goes(client)
        await trio.sleep(20)
        assert b"c" not in b.owners.owned
        assert messages(server) == [b"on", b"gone"]


async def test_a_record_of_an_older_version_is_read_as_that_version_does(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with on_a(server) as a:
            await kept(publish(a, b"on"))
            await trio.sleep(5)
            [found] = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))
            found.payload = found.payload.replace(b'"n":', b'"_":')
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on"], "it waits for its PUBREL, the record says"


async def test_a_clean_session_pays_nothing(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        await a.comes(clean=True)
        assert a.engine.finish is not None
        assert a.engine.finish(a.engine.sessions[b"c"], 7) is None


async def test_the_record_says_from_where_to_look(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with on_a(server) as a:
        for number in range(3):
            await kept(publish(a, b"%d" % number, number + 1))
        await kept(release(a, 1))
        await trio.sleep(5)
        [found] = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))
        assert session_state.decode(found.payload, 0.0, 0.0).unsettled_from == 1


async def test_a_node_whose_clients_may_be_elsewhere_sends_nothing_of_them_again(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with on_a(server) as a:
        publisher = a.node.publisher
        publisher._sends_again = True  # so nothing goes to the log
        publish(a, b"on")
        a.publish(b"t", b"of a program")
        with a.engine.turn:
            a.owners._drop_all()
        publisher._sends_again = False
        with a.engine.turn:
            pass
        await publisher.drained()
        assert messages(server) == [b"of a program"]
        assert publisher.waiting.size == 0
        assert list(publisher._own) == []


@pytest.mark.parametrize("has_it", [True, False], ids=["the log has it", "the log never had it"])
async def test_what_was_on_its_way_when_the_client_left_comes_once_however_late_it_is_said_again(
    autojump_clock: MockClock, has_it: bool
) -> None:
    """NATS knows its id for two minutes, so the log is asked."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with MemoryNode(server, "a").running() as a:
            client = await comes(a)
            server.faults = [(b"shop.MSGS.c", LOST if has_it else SILENT), *[(b"shop.MSGS.c", SILENT)] * 100]
            publish(a, b"on")
            await a.goes(client)
            await trio.sleep(3)
        server.faults.clear()
        await trio.sleep(500)
        server.streams["shop_MSGS"].ids.clear()  # as a server does, after its window
        await comes(b)
        await kept(publish(b, b"on", dup=True))
        assert messages(server) == [b"on"]


# --- with a real server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last_word", ["publish", "pubrec", "pubcomp"])
async def test_each_message_comes_once_wherever_the_exchange_was_cut(
    nats_server: Server, cluster_name: str, last_word: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            client = Client(a)
            await client.connect(b"c", False)
            await client.send(Publish(b"t", b"1", 2, False, False, 5))
            assert await client.receive() == Pubrec(5)  # which the client may not have had
            if last_word == "pubcomp":
                await client.send(Pubrel(5))
                assert await client.receive() == Pubcomp(5)
        client = Client(b)
        with trio.fail_after(60):
            assert await client.connect(b"c", False)
        if last_word != "pubrec":
            await client.send(Publish(b"t", b"1", 2, False, True, 5))
            assert await client.receive() == Pubrec(5)
        await client.send(Pubrel(5))
        assert await client.receive() == Pubcomp(5)
        with NatsClient(nats_server.port) as reader:
            found = reader.ask(
                jetstream.stream_subjects(f"{cluster_name}_MSGS", f"{cluster_name}.MSGS.c.>".encode())
            )
        [count] = found["state"]["subjects"].values()
        assert count == (2 if last_word == "pubcomp" else 1)
