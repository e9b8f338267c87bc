"""One owner for each client id over nodes, and persistent sessions that come back on another one."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from support.attached import Attached
from support.memory_nats import LOST, SILENT, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker import Broker
from broker.cluster import liveness, session_state
from broker.cluster.link import Unavailable
from broker.cluster.liveness import GRACE_S
from broker.cluster.names import Names
from broker.cluster.owned import SAVE_EVERY_S
from broker.cluster.owners import CLAIM_S, outlives_connection
from broker.cluster.will_record import WillRecord
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.ingest.message_ids import MessageIds
from protocol.mqtt.packets import Connect, Publish, Pubrec, Pubrel
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import jetstream

SHOP = Names("shop")


class Held:
    """Node `a` has the client `c`, who has subscribed to `t`; node `b` is there as well."""

    def __init__(self, server: MemoryNats, a: MemoryNode, b: MemoryNode, client: Attached) -> None:
        self.server, self.a, self.b, self.client = server, a, b, client

    async def claim(self, clean: bool = False) -> str:
        """By node `b`; the connection follows if it may."""
        problem = await self.b.owners.claim(b"c", Connect(b"c", clean, 0), None)
        if not problem:
            with self.b.engine.turn:
                self.client = Attached(self.b.engine, b"c", clean)
                self.b.owners.arrived(b"c", None)
        return problem

    def owner(self) -> bytes:
        found = self.server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))
        return session_state.decode(found[-1].payload, 0.0, 0.0).owner

    def wills(self) -> list[bytes]:
        return [one.payload for one in self.server.streams["shop_MSGS"].kept if one.subject.endswith(b".w")]


@asynccontextmanager
async def held(clean: bool = False) -> AsyncIterator[Held]:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await a.comes(clean=clean, filters=((b"t", 1),))
        await a.settled()
        yield Held(server, a, b, client)


@pytest.mark.parametrize("clean_before", [False, True])
@pytest.mark.parametrize("clean_now", [False, True])
async def test_a_client_has_one_node(autojump_clock: MockClock, clean_before: bool, clean_now: bool) -> None:
    async with held(clean_before) as it:
        older = it.client
        assert await it.claim(clean_now) == ""
        assert older.why == "disconnected: taken over on another node."
        assert older.code == ReasonCode.SESSION_TAKEN_OVER
        assert b"c" not in it.a.engine.sessions
        kept = not clean_before and not clean_now
        assert it.client.was_present is kept
        assert it.client.session.subscriptions == ({b"t": 1} if kept else {})
        assert (it.a.node.status.moved_away, it.b.node.status.moved_here) == (1, 1)
        await it.b.settled()
        assert it.owner() == it.b.node.liveness.mark


@pytest.mark.parametrize(
    ("clean_before", "clean_now", "level", "delay_s", "comes"),
    [
        (False, False, 4, 0, False),
        (False, False, 5, 0, True),
        (False, False, 5, 9, False),
        (False, True, 4, 0, True),
        (True, False, 4, 0, True),
        (True, True, 4, 0, True),
    ],
)
async def test_a_session_that_moves_has_no_will(
    autojump_clock: MockClock, clean_before: bool, clean_now: bool, level: int, delay_s: int, comes: bool
) -> None:
    """As on one node; of 5.0 it has, unless it has a delay, which is not over."""
    async with held(clean_before) as it:
        session = it.client.session
        session.level, session.will_delay_s = level, delay_s
        session.will = Publication(b"w", b"gone", 1, False, b"c")
        assert await it.claim(clean_now) == ""
        await it.b.settled()
        assert it.wills() == ([b"gone"] if comes else [])


@pytest.mark.parametrize("clean_now", [False, True])
async def test_a_will_that_waits_for_its_delay_is_not_wanted_where_the_session_goes_on(
    autojump_clock: MockClock, clean_now: bool
) -> None:
    async with held() as it:
        session = it.client.session
        session.level, session.will_delay_s = 5, 6
        session.will = Publication(b"w", b"gone", 1, False, b"c")
        await it.a.goes(it.client)
        assert session.will_due, "it is kept for that"
        assert b"c" in it.a.engine.sessions
        will = session.will
        assert will is not None
        will.message_id = b"will:1"
        record = WillRecord(it.a.engine, it.a.node.link, SHOP, b"will:1", will, 6, -1)
        await record.put(it.a.node.liveness.mark)
        record.publication = will
        it.a.owners.owned[b"c"].will = record
        began = trio.current_time()
        assert await it.claim(clean_now) == ""
        assert trio.current_time() - began < 1, "at once"
        await trio.sleep(9)
        assert it.wills() == ([b"gone"] if clean_now else [])
        subject = SHOP.record(SHOP.will(it.a.node.liveness.mark, b"c"))
        assert not it.server.streams["shop_SESS"].of(subject)[-1].payload, "nobody is to publish it later"


@pytest.mark.parametrize(
    ("clean_now", "delay_s", "comes"), [(False, 20, False), (True, 20, True), (False, 0, True)]
)
async def test_a_delayed_will_of_a_dead_node_s_client_is_not_wanted_where_the_session_goes_on(
    autojump_clock: MockClock, clean_now: bool, delay_s: int, comes: bool
) -> None:
    """Where it ends instead, the will comes then, and one without a delay was due when the node died [MQTT-3.1.3-9]."""
    async with held() as it:
        said = Publication(b"w", b"gone", 1, False, b"c")
        will = WillRecord(it.a.engine, it.a.node.link, SHOP, b"will:1", said, delay_s, -1)
        await will.put(it.a.node.liveness.mark)
        it.server.drop(it.a.node.link)
        assert await it.claim(clean_now) == ""
        await trio.sleep(10)
        assert it.wills() == ([b"gone"] if comes else [])
        await trio.sleep(30)
        assert it.wills() == ([b"gone"] if comes else [])
        subject = SHOP.record(SHOP.will(it.a.node.liveness.mark, b"c"))
        assert not it.server.streams["shop_SESS"].of(subject)[-1].payload, "nobody is to publish it later"


@pytest.mark.parametrize(
    ("dead_for_s", "expiry_s", "longest_s", "is_there"),
    [
        (5, 20, 0, True),
        (30, 20, 0, False),
        (30, 60, 20, False),
        (30, math.inf, 20, False),
        (30, math.inf, 0, True),
        (-3, 20, 0, True),
    ],
    ids=["not yet", "expired", "expired here", "limited", "for ever", "of a clock that is ahead"],
)
async def test_a_session_of_a_dead_node_is_over_when_it_has_expired_since(
    autojump_clock: MockClock, dead_for_s: int, expiry_s: float, longest_s: int, is_there: bool
) -> None:
    async with held() as it:
        it.client.session.expiry_s = expiry_s
        await trio.sleep(2 * SAVE_EVERY_S)
        it.b.engine.policy.persistent_client_expiration_s = longest_s
        it.server.drop(it.a.node.link)
        dead = SHOP.record(SHOP.node(it.a.node.liveness.mark))
        it.server.streams["shop_SESS"].put(dead, b"", liveness.DEAD).at_ns -= dead_for_s * 10**9
        assert await it.claim() == ""
        assert it.client.was_present is is_there
        assert it.client.session.subscriptions == ({b"t": 1} if is_there else {})


async def test_a_will_that_waits_is_left_to_a_node_that_lives_though_it_has_not_the_client(
    autojump_clock: MockClock,
) -> None:
    """The client may be back there by then, with another will."""
    async with held() as it:
        it.a.owners.owned.clear()
        said = Publication(b"w", b"gone", 1, False, b"c")
        will = WillRecord(it.a.engine, it.a.node.link, SHOP, b"will:1", said, 20, -1)
        await will.put(it.a.node.liveness.mark)
        assert await it.claim() == ""
        await trio.sleep(5)
        subject = SHOP.record(SHOP.will(it.a.node.liveness.mark, b"c"))
        assert it.server.streams["shop_SESS"].of(subject)[-1].payload


async def test_a_node_that_lives_and_says_nothing_keeps_its_client(autojump_clock: MockClock) -> None:
    async with held() as it:
        it.a.owners.asked = lambda message: None  # type: ignore[method-assign]
        it.a.node.link._subscriptions._handlers = {
            sid: (subject, (lambda message: None) if b".ASK." in subject else handler)
            for sid, (subject, handler) in it.a.node.link._subscriptions._handlers.items()
        }
        began = trio.current_time()
        problem = await it.claim()
        assert problem == "the cluster can't say who has this client: no answer within 1 s"
        assert CLAIM_S <= trio.current_time() - began <= CLAIM_S + 2
        assert it.client.why == ""
        assert it.b.node.status.refused == 1
        assert it.b.owners._locks == {}
        assert it.b.owners.owned == {}
        assert it.owner() == it.a.node.liveness.mark


async def test_a_node_that_is_dead_is_not_asked(autojump_clock: MockClock) -> None:
    async with held() as it:
        it.server.drop(it.a.node.link)
        began = trio.current_time()
        assert await it.claim() == ""
        assert GRACE_S <= trio.current_time() - began < CLAIM_S
        assert it.client.session.subscriptions == {b"t": 1}


@pytest.mark.parametrize("place", [b"MSG.GET.shop_SESS", b"shop.SESS.c.", b"shop.ASK."])
@pytest.mark.parametrize(
    "fault",
    [SILENT, LOST, refused(503, 10008), refused(400, jetstream.WRONG_LAST_SEQUENCE)],
    ids=["silent", "lost", "no leader", "conflict"],
)
async def test_what_is_not_answered_is_asked_again(
    autojump_clock: MockClock, place: bytes, fault: object
) -> None:
    async with held() as it:
        it.server.faults.append((place, fault))
        assert await it.claim() == ""
        await it.b.settled()
        assert it.owner() == it.b.node.liveness.mark
        assert it.client.session.subscriptions == {b"t": 1}


async def test_where_nats_is_not_there_nobody_is_let_in(autojump_clock: MockClock) -> None:
    async with held() as it:
        it.server.drop(it.b.node.link)
        problem = await it.claim()
        assert problem == "the cluster can't say who has this client: the connection was lost"


async def test_a_node_that_is_dead_to_the_others_and_has_no_nats_says_so_in_time(
    autojump_clock: MockClock,
) -> None:
    """It has no record under its new mark until NATS is back, however long that takes."""
    async with held() as it:
        it.server.drop(it.b.node.link)
        it.b.node.liveness._die("for a test")
        began = trio.current_time()
        problem = await it.claim()
        assert problem == "the cluster can't say who has this client: this node reaches no quorum"
        assert trio.current_time() - began < CLAIM_S + 1


async def test_two_connects_of_one_client_have_their_turns(autojump_clock: MockClock) -> None:
    async with held() as it:
        came: list[int] = []

        async def connect(number: int) -> None:
            assert await it.claim() == ""
            came.append(number)
            it.client.close("the next one comes")

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(connect, number)
        assert sorted(came) == [0, 1, 2]
        assert it.b.owners._locks == {}
        assert it.b.node.status.claimed == 3
        assert it.b.node.status.moved_here == 1


async def test_a_claim_that_is_given_up_leaves_the_client_to_others(autojump_clock: MockClock) -> None:
    async with held() as it:
        will = WillRecord(
            it.b.engine, it.b.node.link, SHOP, b"will:1", Publication(b"w", b"", 1, False, b"c"), 0, -1
        )
        it.server.faults += [(b"shop.SESS.w.", SILENT)]
        with trio.move_on_after(0.5) as scope:
            await it.b.owners.claim(b"c", Connect(b"c", False, 0), will)
        assert scope.cancelled_caught
        await trio.sleep(2)
        assert it.b.owners.owned == {}
        assert it.b.owners._locks == {}
        assert it.owner() == b""


@pytest.mark.parametrize("goes", [False, True])
async def test_a_will_is_at_its_record_while_its_client_is_here(
    autojump_clock: MockClock, goes: bool
) -> None:
    """And goes the way of the log when it comes, after which its record is not wanted any more."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client = await a.comes_with_will()
        await a.settled()
        records = server.streams["shop_SESS"]
        subject = SHOP.record(SHOP.will(a.node.liveness.mark, b"c"))
        assert records.of(subject)[-1].payload
        client.will_wanted = not goes
        await a.goes(client)
        await trio.sleep(2)
        assert not records.of(subject)[-1].payload
        ids = list(server.streams["shop_MSGS"].ids)
        assert ids == ([] if goes else [b"will:1"])


@pytest.mark.parametrize(
    "said",
    [b"", b"{", b"[]", b"{}", b'{"c":"zz","n":true}', b'{"c":7,"n":true}', b'{"c":"63"}', b"[" * 100_000],
    ids=["nothing", "no JSON", "list", "empty", "no hex", "number", "no clean", "deep"],
)
async def test_what_no_node_asks_is_not_answered(autojump_clock: MockClock, said: bytes) -> None:
    async with held() as it:
        with pytest.raises(Unavailable, match="no answer"):
            await it.b.node.link.request(SHOP.ask(it.a.node.liveness.mark), said, 1.0)
        assert it.client.why == ""


async def test_who_has_no_such_client_says_so_and_one_that_is_just_coming_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with held() as it:

        async def ask(client_id: bytes) -> bytes:
            said = json.dumps({"c": client_id.hex(), "n": True}).encode()
            subject = SHOP.ask(it.a.node.liveness.mark)
            return (await it.b.node.link.request(subject, said, 1.0)).payload

        assert await ask(b"other") == b"not here"
        it.a.owners.owned[b"c"].is_arriving = True
        assert await ask(b"c") == b"wait"
        assert it.client.why == ""
        it.a.owners.owned[b"c"].is_arriving = False
        assert await ask(b"c") == b"released"
        assert b"c" not in it.a.owners.owned


async def test_a_record_that_names_a_node_that_does_not_know_it_is_taken(autojump_clock: MockClock) -> None:
    """As where that node has dropped it, and could not say so."""
    async with held() as it:
        it.a.owners._drop_all()
        assert await it.claim() == ""
        assert it.client.session.subscriptions == {b"t": 1}


async def test_a_node_that_ends_leaves_its_clients_to_the_others(autojump_clock: MockClock) -> None:
    async with held() as it:
        with it.a.engine.turn:
            it.client.close("the broker stops")
        await it.a.owners.leave()
        assert it.owner() == b""
        assert it.a.owners.owned == {}
        problem = await it.a.owners.claim(b"late", Connect(b"late", True, 0), None)
        assert problem.endswith("its node does not answer")


async def test_sessions_of_a_node_s_file_become_the_cluster_s_unless_it_has_them(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        known = await a.comes(b"known", filters=((b"t", 1),))
        await a.settled()
        await a.goes(known)
        node = MemoryNode(server, "b")
        for client_id in (b"known", b"new"):
            session, _ = node.engine.open_session(client_id, False)
            node.engine.identify(session, None, None)
            node.engine.subscribe_session(session, b"from the file", 1)
        async with node.running() as b:
            await trio.sleep(3)
            assert b.engine.sessions == {}
            assert b.owners.owned == {}
            there = [await a.comes(one) for one in (b"known", b"new")]
            assert [list(one.session.subscriptions) for one in there] == [[b"t"], [b"from the file"]]


async def test_a_session_of_a_node_s_file_gives_way_to_what_the_cluster_has(
    autojump_clock: MockClock,
) -> None:
    async with held() as it:
        session, _ = it.b.engine.open_session(b"c", False)
        it.b.engine.identify(session, None, None)
        it.b.engine.subscribe_session(session, b"from the file", 1)
        assert await it.claim() == ""
        assert it.client.session is not session
        assert it.client.session.subscriptions == {b"t": 1}


async def test_ids_of_what_the_log_may_not_have_yet_are_told(autojump_clock: MockClock) -> None:
    async with held() as it:
        message = Publication(b"t", b"1", 2, False, b"c")
        message.packet_id, message.dup = 5, True
        message.message_id = MessageIds().fresh(message, 1).encode()
        message.promise = Promise()
        message.promise.join()
        it.client.session.expect().accept(5, message, False)
        assert await it.claim() == ""
        repeated = Publication(b"t", b"1", 2, False, b"c")
        repeated.packet_id, repeated.dup = 5, True
        with it.b.engine.turn:
            it.b.node.publisher.offer(repeated)
        await it.b.settled()
        assert repeated.message_id == message.message_id


async def test_a_session_that_its_client_knows_of_is_there_when_its_node_crashes(
    autojump_clock: MockClock,
) -> None:
    """Though nothing of it was written but what let the client in."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with MemoryNode(server, "a").running() as a:
            assert not (await a.comes()).was_present
            server.faults += [(b"shop.SESS.c.", SILENT)] * 10
            await a.settled()
        server.faults.clear()
        client = await b.comes()
        assert client.was_present
        assert client.session.subscriptions == {}
        assert b.node.status.session_gaps == 0


async def test_no_session_begins_on_a_node_that_has_not_read_the_log(autojump_clock: MockClock) -> None:
    """Its record could not say from where on the client is owed anything."""
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        a.node.reader.current = trio.Event()
        assert "yet to read the log" in await a.owners.claim(b"c", Connect(b"c", False, 0), None)
        await a.comes(b"d", clean=True)
        a.node.reader.current.set()
        await a.comes()


@pytest.mark.parametrize(
    ("level", "clean", "expiry_s", "outlives"),
    [
        (4, False, None, True),
        (4, True, None, False),
        (5, True, 9, True),
        (5, False, None, False),
        (5, False, 0, False),
    ],
)
def test_which_sessions_are_kept(level: int, clean: bool, expiry_s: int | None, outlives: bool) -> None:
    numbers = {} if expiry_s is None else {SESSION_EXPIRY: expiry_s}
    packet = Connect(b"c", clean, 0, level, properties=Properties(numbers=numbers))
    assert outlives_connection(packet) is outlives


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
        assert node_of(b).status.published == 1, "and not what says that the first is finished"


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
