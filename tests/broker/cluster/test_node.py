"""What clients of one node publish reaches the clients of the others, and which way it goes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
import trio.testing
from support.attached import Attached
from support.memory_nats import SILENT, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker.cluster import record
from broker.cluster.node import FORGET_S, JOIN_S, LOOK_S
from broker.cluster.will_record import WillRecord
from broker.core.publication import Publication
from broker.core.session import Link
from protocol.mqtt.packets import Pubcomp, Publish, Pubrec, Pubrel
from protocol.mqtt.reserved import CHANNEL_PREFIX


def publication(topic: bytes, **said: Any) -> Publication:
    made = Publication(topic, b"x", said.pop("qos", 1), said.pop("retain", False), said.pop("client", b""))
    for name, value in said.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("one", "to_log", "is_live"),
    [
        (publication(b"t"), True, False),
        (publication(b"t", qos=0), True, False),
        (publication(b"t", client=b"c"), True, False),
        (publication(b"t", client=b"c", qos=0), False, True),
        (publication(b"t", client=b"c", qos=0, retain=True), True, False),
        (publication(b"$SYS/x"), False, False),
        (publication(b"$SYS/x", client=b"c", qos=0), False, False),
        (publication(CHANNEL_PREFIX + b"x"), True, False),
    ],
    ids=["row", "row at 0", "client", "client at 0", "retained at 0", "own", "own at 0", "gateway"],
)
async def test_where_a_publication_goes(one: Publication, to_log: bool, is_live: bool) -> None:
    node = MemoryNode(MemoryNats(), "a").node
    assert node.take(one) is to_log
    assert node.publisher.owed() == to_log
    assert one.sequence == (-1 if to_log else 0)
    assert bool(one.message_id) is is_live, "its number chooses the member of a group"


@pytest.mark.parametrize("sequence", [9, -1, -5], ids=["read", "sent", "sent later"])
async def test_what_the_log_had_before_its_pubrec_is_not_sent_again(sequence: int) -> None:
    node = MemoryNode(MemoryNats(), "a").node
    assert node.take(publication(b"t", sequence=sequence))
    assert node.publisher.owed() == 0


async def test_a_will_goes_by_the_log_at_any_quality(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a") as (a,):
        client = await a.comes()
        own = a.owners.owned[b"c"]
        will = publication(b"w", client=b"c", qos=0, message_id=b"will:1")
        own.will = WillRecord(a.engine, a.node.link, a.node.names, b"will:1", will, 0, -1)
        own.will.publication = will
        assert a.node.take(will)
        assert client.why == ""
        assert a.node.publisher.owed() == 1


@pytest.mark.parametrize(
    ("client", "packet_id", "is_turned_away"), [(b"c", 7, True), (b"c", 0, False), (b"", 0, False)]
)
async def test_where_the_log_takes_nothing_who_waits_for_it_is_sent_elsewhere(
    client: bytes, packet_id: int, is_turned_away: bool
) -> None:
    node = MemoryNode(MemoryNats(), "a").node
    here = Attached(node.engine, b"c")
    node.publisher.overdue.refuses = True
    assert node.take(publication(b"t", client=client, packet_id=packet_id))
    assert node.publisher.owed() == (not is_turned_away)
    assert bool(here.why) is is_turned_away


@pytest.mark.parametrize(
    ("requested", "ingested", "count"), [(True, False, 1), (True, True, 0), (False, False, 0)]
)
async def test_tables_are_offered_it_on_the_node_that_it_came_to(
    requested: bool, ingested: bool, count: int
) -> None:
    node = MemoryNode(MemoryNats(), "a").node
    offered: list[Publication] = []
    node.engine.ingest = offered.append
    one = publication(b"t", is_requested=requested, is_ingested=ingested)
    assert node.take(one)
    assert len(offered) == count
    assert one.is_ingested is (requested or ingested)


async def test_a_report_has_each_node_once_and_by_what_is_known_of_it(autojump_clock: MockClock) -> None:
    node = MemoryNode(MemoryNats(), "m").node
    await trio.sleep(FORGET_S + 10)
    now = trio.current_time()
    said = {"clients": 3, "node": "a stranger's", "heard_s": "never", "here": True}
    node.status.nodes = {
        "z-1": (now - 1, said),
        "b-1": (now - 60, said),
        "b-2": (now - 2, said),
        "c-1": (now - 60, said),
        "d-1": (now - 1, said),
        "d-2": (now - 2, said),
        "m-0": (now - 60, said),
        "gone-1": (now - FORGET_S - 1, said),
    }
    node.status.leader, node.status.log_first, node.status.log_last = "n1", 2, 9
    report = node.report()
    assert (report["cluster"], report["leader"], report["log"]) == ("shop", "n1", {"first": 2, "last": 9})
    shown = [(one["node"], one["heard_s"], one["here"]) for one in report["nodes"]]
    assert shown == [
        ("m", 0.0, True),
        ("b", 2.0, False),
        ("c", 60.0, False),
        ("d", 1.0, False),
        ("d", 2.0, False),
        ("z", 1.0, False),
    ]
    assert report["nodes"][1]["clients"] == 3


@pytest.mark.parametrize("how", ["stays", "unsubscribes", "comes again"])
async def test_a_subscription_gets_what_is_retained_when_all_of_it_is_here(
    autojump_clock: MockClock, how: str
) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        client = await a.comes(filters=((b"r", 1),))
        b.publish(b"r", b"kept", 1, True)
        await a.settled()
        assert client.payloads() == [b"kept"]
        assert a.engine.catch_up is not None
        a.engine.catch_up(client.session, b"r", 1)
        if how == "unsubscribes":
            a.engine.unsubscribe(client.session, b"r")
        elif how == "comes again":
            client.session.link = Link()
        await a.settled()
        assert client.payloads() == ([b"kept"] if how == "stays" else [])


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -3600.0])
async def test_what_expires_goes_by_the_clock_of_nats(autojump_clock: MockClock, ahead_s: float) -> None:
    """The machine of the nodes is wrong by an hour."""
    server = MemoryNats()
    server.ahead_s = ahead_s
    async with running(server, "a") as (a,):
        one = publication(b"t")
        with a.engine.turn:
            one.expires_at = a.engine.now + 60
            a.engine.publish(one)
        await a.settled()
        [kept] = server.streams["shop_MSGS"].kept
        expires = int(record.value_in(kept.block).split(b" ")[6]) / 1000
        assert expires == pytest.approx(time.time() + ahead_s + 60, abs=30)


async def test_the_time_is_known_before_anything_is_read(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        one = publication(b"r", retain=True)
        with a.engine.turn:
            one.expires_at = a.engine.now + 600
            a.engine.publish(one)
        await a.settled()
        server.ahead_s = -3600
        async with running(server, "b") as (b,):
            [kept] = b.engine.retained.all()
            assert kept.expires_at - b.engine.now == pytest.approx(4200, abs=30), "an hour more by that clock"


async def test_it_sees_to_dead_nodes_and_to_the_quorum(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        await trio.sleep(20)
        assert a.node.status.is_janitor
        assert a.node.status.unready() == []
        server.faults = [(b"shop.SESS.", SILENT)] * 1000
        with trio.fail_after(30):
            while not a.node.status.quorum_problem:  # noqa: ASYNC110 - on the clock of the test
                await trio.sleep(0.5)


async def test_clients_that_may_be_elsewhere_publish_nothing_here_any_more(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        await a.comes()
        server.faults.append((b"shop.MSGS.c", SILENT))
        with a.engine.turn:
            a.engine.publish(publication(b"t", client=b"c", packet_id=7))
        await trio.sleep(1)
        with a.engine.turn:
            a.node.liveness.on_dead()
        await a.node.publisher.drained()
        assert server.streams["shop_MSGS"].kept == []


async def test_nodes_of_one_name_hear_each_other(autojump_clock: MockClock) -> None:
    """There should be none; what clients send at QoS 0 is not lost for that."""
    async with running(MemoryNats(), "a", "a") as (a, b):
        client = await b.comes(filters=((b"t", 0),))
        with a.engine.turn:
            a.engine.publish(publication(b"t", client=b"p", qos=0))
        await a.settled()
        assert client.payloads() == [b"x"]


async def test_a_clean_session_s_pubcomp_waits_for_nothing(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a") as (a,):
        finish = a.engine.finish
        assert finish is not None
        for clean in (True, False):
            client = await a.comes(b"%d" % clean, clean=clean)
            assert (finish(client.session, 7) is None) is clean


async def test_what_is_sent_stands_behind_what_was_read(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a") as (a,):
        a.publish(b"t", b"1")
        a.publish(b"t", b"2")
        await a.settled()
        one = publication(b"t")
        assert a.node.take(one)
        assert one.sequence == -1 - 2


async def test_sessions_of_a_file_become_the_cluster_s(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    node = MemoryNode(server, "a")
    session, _ = node.engine.open_session(b"old", False)
    node.engine.identify(session, None, None)
    async with node.running() as a:
        await a.settled()
        assert b"old" not in a.engine.sessions, "it is away, and nobody's"
        record_of = a.node.names.record(a.node.names.client(b"old"))
        assert len(server.streams["shop_SESS"].of(record_of)) == 1


async def test_a_report_says_what_the_log_has(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a") as (a,):
        a.publish(b"t", b"1")
        a.publish(b"t", b"2")
        await trio.sleep(LOOK_S + 0.5)
        assert (a.node.status.log_first, a.node.status.log_last) == (1, 2)


async def test_the_same_trouble_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = MemoryNats()
    server.faults = [(b"$JS.API", refused(503, 10008))] * 3
    async with MemoryNode(server, "a").running():
        said = [one.message for one in caplog.records if "are not ready" in one.message]
        assert said == ["In the cluster shop the streams are not ready: no (503/10008)."]


async def test_a_lost_connection_lets_no_node_be_taken_for_dead(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        assert not await a.node.liveness.is_dead(b"gone-1")
        assert a.node.liveness._seen_ended
        server.drop(a.node.link)
        assert not a.node.liveness._seen_ended
        server.admit(a.node.link)


async def test_a_node_that_ends_says_so_to_all(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await a.comes()
        a.publish(b"t", b"1")
        await trio.sleep(2)
        assert a.node.mark.decode() in b.node.status.nodes
        server.faults.append((b"shop.MSGS.c", SILENT))  # so it has to be sent again
        a.publish(b"t", b"2")
        await a.node.leave()
        await b.settled()
        assert [one.payload for one in server.streams["shop_MSGS"].kept] == [b"1", b"2"]
        assert a.node.mark.decode() not in b.node.status.nodes
        assert await b.node.liveness.is_dead(a.node.liveness.mark)


async def test_what_was_retained_before_the_cluster_was_there_is_everybody_s(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    node = MemoryNode(server, "a")
    for topic in (b"r", b"$SYS/x"):
        node.engine.retained.put(Publication(topic, b"kept", 1, True))
    async with node.running() as a:
        await a.settled()
        assert [one.subject for one in server.streams["shop_MSGS"].kept] == [b"shop.MSGS.c.r.r"]
        late = MemoryNode(server, "b")
        late.engine.retained.put(Publication(b"other", b"of its own", 1, True))
        async with late.running() as b:
            await b.settled()
            assert len(server.streams["shop_MSGS"].kept) == 1, "only who makes the log brings it along"
            assert [one.topic for one in b.engine.retained.all()] == [b"r"]


def without_streams(server: MemoryNats) -> MemoryNode:
    """A node whose log can't be read."""
    server.faults = [(b"$JS.API", refused(503, 10008))] * 1000
    node = MemoryNode(server, "a")
    node.node.link.run = trio.sleep_forever  # type: ignore[method-assign]
    server.admit(node.node.link)
    return node


async def test_listeners_do_not_wait_for_ever(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    node = without_streams(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.node.run, trio.Event())
        assert trio.current_time() == pytest.approx(JOIN_S, abs=0.1)
        assert node.node.status.log_problem == "the streams are not ready: no (503/10008)"
        server.faults.clear()
        with trio.fail_after(5):
            await node.node.reader.current.wait()
        nursery.cancel_scope.cancel()


async def test_who_is_to_end_does_not_wait_for_the_log(autojump_clock: MockClock) -> None:
    node = without_streams(MemoryNats())
    stopping = trio.Event()
    stopping.set()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.node.run, stopping)
        assert trio.current_time() == pytest.approx(0, abs=0.1)
        nursery.cancel_scope.cancel()


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
