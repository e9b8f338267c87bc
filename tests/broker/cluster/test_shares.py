"""Groups over nodes: every message to one member, wherever it is."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from support.attached import Attached
from support.memory_nats import LOST, SILENT, MemoryNats, acknowledged_at, refused
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nodes import Client, joined, node_of
from support.polling import until
from trio.testing import MockClock

from broker import Broker
from broker.cluster import record
from broker.cluster.gossip import Gossip
from broker.cluster.group_places import GroupKey
from broker.cluster.names import Names
from broker.cluster.setup import ask
from broker.cluster.shares import (
    ACK_WAIT_S,
    CLEAN_GROUP_S,
    FETCH_MESSAGES,
    FETCH_S,
    IN_PROGRESS_S,
    PER_MEMBER_MAX,
    Shares,
    name_of,
)
from broker.cluster.status import ClusterStatus
from broker.core.access import Access
from broker.core.engine import Engine
from broker.core.publication import Publication
from protocol.mqtt.packets import Puback, Publish
from protocol.nats import headers, jetstream, wire
from protocol.nats.jetstream import NANOSECONDS

SHOP = Names("shop")
KEY = (b"g", b"t/+")
NAME = name_of(KEY)
FILTER = b"$share/g/t/+"


class Group:
    """Node `a` with members of `$share/g/t/+`; what the consumer gives is the test's."""

    def __init__(self, server: MemoryNats, a: MemoryNode) -> None:
        self.server, self.a, self.shares = server, a, a.node.shares

    async def member(self, client_id: bytes, clean: bool = False, granted: int = 1) -> Attached:
        client = await self.a.comes(client_id, clean, ((FILTER, granted),))
        await self.a.settled()
        return client

    @property
    def consumer(self) -> dict[str, Any] | None:
        return self.server.consumers.get(("shop_MSGS", NAME))

    def pull(self) -> tuple[int, bytes]:
        """What the node has asked for last: how many, and where to."""
        for subject, payload, reply in reversed(self.server.requests):
            if b"CONSUMER.MSG.NEXT" in subject:
                return json.loads(payload)["batch"], reply
        raise AssertionError

    def give(self, sequence: int, payload: bytes = b"x", topic: bytes = b"t/1", qos: int = 1) -> bytes:
        """One message of the log, as the consumer sends it; where its acknowledgement goes."""
        publication = Publication(topic, payload, qos, False, b"p")
        value = record.describe(publication, b"n-1", 7, 0.0, 0.0, False)
        block = headers.encode({record.HEADER: value})
        reply = acknowledged_at("shop_MSGS", NAME, sequence, sequence)
        _, inbox = self.pull()
        for socket in self.server._sockets:
            for sid in socket.wanting(inbox):
                socket.hand_over(wire.Message(SHOP.message(b"c", False, topic), sid, reply, block, payload))
        return reply

    def answers(self, reply: bytes) -> list[bytes]:
        return [payload for subject, payload in self.server.said if subject == reply]


@asynccontextmanager
async def grouped() -> AsyncIterator[Group]:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        yield Group(server, a)


async def test_a_group_has_a_consumer_when_its_subscription_is_acknowledged(
    autojump_clock: MockClock,
) -> None:
    """It begins at a place with a number: replicas that are late would each take another for what is new."""
    async with grouped() as it:
        for payload in (b"1", b"2"):
            it.a.publish(b"t/x", payload)
        await it.a.settled()
        client = await it.a.comes(b"m", True)
        with it.a.engine.turn:
            it.a.engine.subscribe_session(client.session, FILTER, 1)
            promise = it.shares.promise(client.session)
            assert promise is not None
            assert not promise.is_kept
        await it.a.settled()
        assert promise.is_kept
        assert it.consumer is not None
        assert it.consumer["filter_subjects"] == ["shop.MSGS.*.*.t.*", "shop.MSGS.*.*.%long.*"]
        assert (it.consumer["deliver_policy"], it.consumer["opt_start_seq"]) == ("by_start_sequence", 3)
        assert it.consumer["ack_policy"] == "explicit"
        assert it.consumer["ack_wait"] == ACK_WAIT_S * NANOSECONDS
        assert it.shares.promise(client.session) is None, "it is there"


@pytest.mark.parametrize("members", [(True,), (False,), (True, False), (False, True)])
async def test_a_group_with_a_persistent_member_lasts(
    autojump_clock: MockClock, members: tuple[bool, ...]
) -> None:
    async with grouped() as it:
        for number, clean in enumerate(members):
            await it.member(b"%d" % number, clean)
        assert it.consumer is not None
        lasts_s = CLEAN_GROUP_S if all(members) else it.a.config.keep_s
        assert it.consumer["inactive_threshold"] == lasts_s * NANOSECONDS


async def test_groups_of_the_broker_s_own_topics_are_this_node_s(autojump_clock: MockClock) -> None:
    async with grouped() as it:
        await it.a.comes(b"m", True, ((b"$share/g/$SYS/#", 1),))
        await it.a.settled()
        assert not any(b"CONSUMER.CREATE" in one and b"share-" in one for one in it.server.asked)


@pytest.mark.parametrize("fault", [SILENT, LOST, refused(503, 10008), refused(400, 10148)])
async def test_a_consumer_that_can_t_be_made_is_made_later(autojump_clock: MockClock, fault: object) -> None:
    """Also where another node was faster."""
    async with grouped() as it:
        it.server.faults.append((b"CONSUMER.CREATE.shop_MSGS.share-", fault))
        client = await it.a.comes(b"m", True)
        with it.a.engine.turn:
            it.a.engine.subscribe_session(client.session, FILTER, 1)
            promise = it.shares.promise(client.session)
        assert promise is not None
        await trio.sleep(8)
        assert promise.is_kept
        assert it.consumer is not None


async def test_a_message_goes_to_one_member_each_in_its_turn_and_is_acknowledged_when_it_has(
    autojump_clock: MockClock,
) -> None:
    async with grouped() as it:
        members = [await it.member(b"m%d" % number, True) for number in range(2)]
        replies = [it.give(number, b"%d" % number) for number in range(1, 5)]
        await it.a.settled()
        got = [one.payloads() for one in members]
        assert sorted(map(sorted, got)) == [[b"1", b"3"], [b"2", b"4"]]
        assert it.a.node.status.shared == 4
        assert all(it.answers(one) == [] for one in replies)
        for one in members:
            with it.a.engine.turn:
                first = next(iter(one.session.outbound.inflight()))
                one.session.outbound.puback(first.packet_id)
        await it.a.settled()
        assert [it.answers(one) for one in replies] == [[b"+ACK"], [b"+ACK"], [], []]


@pytest.mark.parametrize(("granted", "qos"), [(0, 1), (1, 0)])
async def test_at_qos_0_it_is_acknowledged_at_once(autojump_clock: MockClock, granted: int, qos: int) -> None:
    async with grouped() as it:
        member = await it.member(b"m", True, granted)
        reply = it.give(1, b"1", qos=qos)
        await it.a.settled()
        assert member.payloads() == [b"1"]
        assert it.answers(reply) == [b"+ACK"]


async def test_what_a_member_does_not_finish_is_said_to_be_in_progress(autojump_clock: MockClock) -> None:
    async with grouped() as it:
        await it.member(b"m", True)
        reply = it.give(1)
        await trio.sleep(IN_PROGRESS_S * 3.5)
        assert it.answers(reply) == [b"+WPI"] * 3
        assert IN_PROGRESS_S < ACK_WAIT_S


async def test_what_nobody_may_or_can_have_is_given_back(autojump_clock: MockClock) -> None:
    class Nothing(Access):
        def may_read(self, topic: bytes) -> bool:
            return topic != b"t/secret"

    async with grouped() as it:
        member = await it.member(b"m", True)
        member.session.set_access(Nothing())
        reply = it.give(1, topic=b"t/secret")
        await it.a.settled()
        assert member.payloads() == []
        (answer,) = it.answers(reply)
        assert answer.startswith(b"-NAK")
        assert b"delay" in answer
        it.a.engine.window.inflight_messages = 1
        replies = [it.give(number) for number in (2, 3)]
        await it.a.settled()
        assert len(member.payloads()) == 1
        assert [bool(it.answers(one)) for one in replies] == [False, True]


async def test_what_is_for_nobody_of_the_group_is_done_with(autojump_clock: MockClock) -> None:
    """As what no node writes, or a topic whose subject the filter only seems to match."""
    async with grouped() as it:
        member = await it.member(b"m", True)
        reply = it.give(1, topic=b"u/1")
        _, inbox = it.pull()
        strange = acknowledged_at("shop_MSGS", NAME, 2, 2)
        it.server.deliver(inbox, b"", strange, b"NATS/1.0\r\nOther: 1\r\n\r\n")
        await it.a.settled()
        assert it.answers(reply) == it.answers(strange) == [b"+ACK"]
        assert member.payloads() == []


@pytest.mark.parametrize("clean", [False, True])
async def test_what_a_member_leaves_goes_back(autojump_clock: MockClock, clean: bool) -> None:
    async with grouped() as it:
        await it.member(b"stays", True)
        leaves = await it.member(b"leaves", clean, 2)
        replies = [it.give(number, b"%d" % number, qos=2) for number in range(1, 7)]
        await it.a.settled()
        mine = leaves.payloads()
        assert len(mine) == 3
        session = leaves.session
        ids = [entry.packet_id for entry in session.outbound.inflight()]
        session.outbound.pubrec(ids[0])
        sequences = {int(one) for one in mine}
        with it.a.engine.turn:
            leaves.close("it goes")
            given_back = it.shares.given_back(session)
        await it.a.settled()
        found = {number: it.answers(replies[number - 1]) for number in sequences}
        if clean:
            assert set(map(tuple, found.values())) == {(b"-NAK",)}
            assert given_back == sequences
        else:
            received = int(mine[0])
            assert found.pop(received) == [b"+ACK"]
            assert set(map(tuple, found.values())) == {(b"-NAK",)}
            assert given_back == sequences - {received}
        it.shares.forget(session)
        assert it.shares.given_back(session) == set()


async def test_a_node_fetches_for_the_members_that_are_connected(autojump_clock: MockClock) -> None:
    async with grouped() as it:
        member = await it.member(b"m0")
        count, _ = it.pull()
        assert count == PER_MEMBER_MAX
        for number in range(1, PER_MEMBER_MAX + 1):
            it.give(number)
        await it.a.settled()
        it.server.requests.clear()
        await trio.sleep(3)
        assert not any(b"MSG.NEXT" in one[0] for one in it.server.requests), "it has as much as it may"
        with it.a.engine.turn:
            for entry in list(member.session.outbound.inflight())[:5]:
                member.session.outbound.puback(entry.packet_id)
        await it.a.settled()
        assert it.pull()[0] == 5
        await it.member(b"m1")
        await trio.sleep(FETCH_S + 2)
        assert it.pull()[0] in (5 + PER_MEMBER_MAX, FETCH_MESSAGES)
        await it.a.goes(member)
        assert member.session.link is None


@pytest.mark.parametrize("status", [b"404 No Messages", b"408 Request Timeout"])
async def test_a_fetch_that_brought_nothing_is_followed_by_the_next(
    autojump_clock: MockClock, status: bytes
) -> None:
    async with grouped() as it:
        await it.member(b"m", True)
        _, inbox = it.pull()
        it.server.deliver(inbox, b"", b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")
        await it.a.settled()
        assert it.pull()[1] == inbox, "that it lives says nothing"
        it.server.deliver(inbox, b"", b"", b"NATS/1.0 %b\r\n\r\n" % status)
        await it.a.settled()
        assert it.pull()[1] != inbox


@pytest.mark.parametrize("status", [b"503 No Responders", b"409 Consumer Deleted"])
async def test_a_group_whose_consumer_is_gone_goes_on_behind_what_it_had(
    autojump_clock: MockClock, status: bytes
) -> None:
    async with grouped() as it:
        await it.member(b"m", True)
        it.server.streams["shop_MSGS"].last = 3
        it.give(3)
        await it.a.settled()
        del it.server.consumers["shop_MSGS", NAME]
        it.server.requests.clear()
        await trio.sleep(FETCH_S + 3)
        assert it.consumer is not None
        assert it.consumer["deliver_policy"] == "by_start_sequence"
        assert it.consumer["opt_start_seq"] == 4
        _, inbox = it.pull()
        del it.server.consumers["shop_MSGS", NAME]
        it.server.deliver(inbox, b"", b"", b"NATS/1.0 %b\r\n\r\n" % status)
        await it.a.settled()
        assert it.consumer is not None


async def test_in_a_log_that_was_made_anew_it_begins_with_what_is_new(autojump_clock: MockClock) -> None:
    async with grouped() as it:
        await it.member(b"m", True)
        it.give(3)
        await it.a.settled()
        old = it.server.streams.pop("shop_MSGS")
        it.server.consumers.clear()
        it.server.stream("shop_MSGS").config.update(old.config)
        await trio.sleep(FETCH_S + 5)
        assert it.consumer is not None
        assert it.consumer["opt_start_seq"] == 1


async def test_a_group_without_members_is_fetched_for_no_more(autojump_clock: MockClock) -> None:
    async with grouped() as it:
        member = await it.member(b"m", True)
        await it.a.goes(member)
        it.server.requests.clear()
        await trio.sleep(5)
        assert not any(b"MSG.NEXT" in one[0] for one in it.server.requests)
        assert it.shares._serving == {}
        assert it.shares._places._given == {}
        assert it.shares._groups_here() == []


@pytest.mark.parametrize(
    ("others", "message_id", "sequence", "connected", "here"),
    [
        ([], b"7", 0, True, True),
        ([], b"7", 5, True, False),
        ([], b"", 0, True, True),
        ([], b"7", 0, False, False),
        (["0-before"], b"6", 0, True, False),
        (["0-before"], b"7", 0, True, True),
        (["z-after"], b"6", 0, True, True),
        (["z-after"], b"7", 0, True, False),
        (["0-before", "z-after"], b"7", 0, True, True),
    ],
)
async def test_at_qos_0_the_number_of_the_message_chooses_the_node(
    autojump_clock: MockClock,
    others: list[str],
    message_id: bytes,
    sequence: int,
    connected: bool,
    here: bool,
) -> None:
    async with grouped() as it:
        member = await it.member(b"m")
        if not connected:
            member.session.link = None
        for node in others:
            said = {"n": node, "g": [NAME], "r": {}}
            it.server.deliver(SHOP.groups(node), json.dumps(said).encode())
        await trio.testing.wait_all_tasks_blocked()
        publication = Publication(b"t/1", b"")
        publication.message_id, publication.sequence = message_id, sequence
        assert it.shares._is_here(KEY, publication) is here
        assert it.shares._groups_here() == ([NAME] if connected else [])


def test_names_of_groups_differ_where_the_groups_do() -> None:
    names = {name_of(key) for key in ((b"g", b"t"), (b"gt", b""), (b"", b"gt"), (b"g", b"t/+"))}
    assert len(names) == 4
    assert all(len(name) == 30 and name.startswith("share-") for name in names)


class Silent:
    """A connection to NATS that nothing comes by."""

    def subscribe(self, subject: bytes, take: Callable[[wire.Message], None]) -> int:
        return 1

    def send(self, data: bytes) -> bool:
        return True


class Member:
    """Takes what it gets, and acknowledges it."""

    def __init__(self, broker: Broker) -> None:
        self.client = Client(broker)
        self.got: list[int] = []

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            try:
                packet = await self.client.receive(60)
            except (EOFError, trio.ClosedResourceError):
                return
            if isinstance(packet, Publish):
                self.got.append(int(packet.payload))
                if packet.qos == 1:
                    await self.client.send(Puback(packet.packet_id or 0))


async def all_came(members: list[Member], count: int) -> Counter[int]:
    with trio.fail_after(60):
        while True:
            came = Counter(number for member in members for number in member.got)
            if len(came) >= count:
                return came
            await trio.sleep(0.02)


def told_of_members(broker: Broker) -> bool:
    """Whether this node knows that another one has members of some group."""
    return bool(node_of(broker)._gossip._elsewhere)


@pytest.mark.parametrize("qos", [0, 1])
async def test_each_message_goes_to_one_member_of_the_group(
    nats_server: Server, cluster_name: str, qos: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher = Client(b)
        await publisher.connect(b"p")
        members = [Member(a), Member(a), Member(b)]
        async with trio.open_nursery() as nursery:
            for number, member in enumerate(members):
                await member.client.connect(b"m%d" % number)
                await member.client.subscribe((b"$share/g/t/#", 1))
                await nursery.start(member.run)
            if qos == 0:
                await until(lambda: all(told_of_members(one) for one in (a, b)))
            for number in range(60):
                await publisher.publish(b"t/x", b"%d" % number, qos)
            came = await all_came(members, 60)
            assert set(came.values()) == {1}
            assert all(member.got for member in members[:1] + members[2:])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("clean", [False, True])
async def test_what_a_member_leaves_others_get(nats_server: Server, cluster_name: str, clean: bool) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, lazy = Client(b), Client(a)
        await publisher.connect(b"p")
        await lazy.connect(b"lazy", clean)
        await lazy.subscribe((b"$share/g/t", 1))
        keeper = Client(a)  # so that the group lasts while nobody is connected
        await keeper.connect(b"keeper", False)
        await keeper.subscribe((b"$share/g/t", 1))
        await keeper.close()
        await trio.sleep(0.3)
        for number in range(5):
            await publisher.publish(b"t", b"%d" % number)
        for _ in range(5):
            assert isinstance(await lazy.receive(), Publish)
        await lazy.close()
        for number in range(5, 10):
            await publisher.publish(b"t", b"%d" % number)
        member = Member(b)
        async with trio.open_nursery() as nursery:
            await member.client.connect(b"m")
            await member.client.subscribe((b"$share/g/t", 1))
            await nursery.start(member.run)
            assert set(await all_came([member], 10)) == set(range(10))
            nursery.cancel_scope.cancel()


async def test_members_of_a_node_that_crashes_are_replaced(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        member = Member(b)
        async with trio.open_nursery() as nursery:
            await member.client.connect(b"m")
            await member.client.subscribe((b"$share/g/t", 1))
            async with joined(urls, cluster_name, "a", crashes=True) as a:
                lazy, publisher = Client(a), Client(a)
                await publisher.connect(b"p")
                await lazy.connect(b"lazy")
                await lazy.subscribe((b"$share/g/t", 1))
                await nursery.start(member.run)
                for number in range(10):
                    await publisher.publish(b"t", b"%d" % number)
                with trio.fail_after(60):
                    await lazy.receive()
            came = await all_came([member], 10)
            assert set(came) == set(range(10))
            nursery.cancel_scope.cancel()


async def test_a_group_lasts_for_a_persistent_member_that_is_away(
    nats_server: Server, cluster_name: str
) -> None:
    """Though the last clean member leaves on a node that knows of no other."""
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, keeper, clean = Client(a), Client(a), Client(b)
        await publisher.connect(b"p")
        await keeper.connect(b"keeper", False)
        await keeper.subscribe((b"$share/g/t", 1))
        await keeper.close()
        await clean.connect(b"clean")
        await clean.subscribe((b"$share/g/t", 1))
        await clean.close()
        with trio.fail_after(60):
            while b.app.engine.shared.all_keys():  # noqa: ASYNC110 - plain data, has no event
                await trio.sleep(0.01)
        await trio.sleep(0.3)  # what it would do, it has done
        await publisher.publish(b"t", b"1")
        keeper = Client(b)
        assert await keeper.connect(b"keeper", False)
        assert (await keeper.message())[:2] == (b"t", b"1")


async def test_a_group_whose_consumer_is_gone_goes_on_where_it_was(
    nats_server: Server, cluster_name: str
) -> None:
    """As after somebody deleted it, or NATS forgot it because no node could fetch for a while."""
    async with joined((nats_server.url,), cluster_name, "a") as a:
        publisher, member = Client(a), Client(a)
        await publisher.connect(b"p")
        await member.connect(b"m")
        await member.subscribe((b"$share/g/t", 1))
        await publisher.publish(b"t", b"0")
        assert (await member.message())[:2] == (b"t", b"0")
        names = node_of(a).names
        await ask(node_of(a).link, jetstream.consumer_delete(names.messages, name_of((b"g", b"t"))))
        await publisher.publish(b"t", b"1")
        assert (await member.message())[:2] == (b"t", b"1")


@pytest.mark.parametrize("stream", ["messages", "sessions", "all"])
async def test_groups_go_on_when_streams_are_removed(
    nats_server: Server, cluster_name: str, stream: str
) -> None:
    """What was acknowledged to its publisher comes to one member, and once."""
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher = Client(a)
        await publisher.connect(b"p")
        members = [Member(a), Member(b)]
        async with trio.open_nursery() as nursery:
            for member, name in zip(members, (b"m1", b"m2"), strict=True):
                await member.client.connect(name, False)
                await member.client.subscribe((b"$share/g/t", 1))
                await nursery.start(member.run)
            for number in range(30):
                if number == 10:
                    await all_came(members, 10)
                    await remove(a, stream)
                await publisher.publish(b"t", b"%d" % number)
            came = await all_came(members, 30)
            assert came == Counter(range(30))
            nursery.cancel_scope.cancel()


async def test_a_group_that_is_away_gets_what_a_log_that_was_made_anew_has(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, member = await with_one_member(a)
        await publisher.publish(b"t", b"0")
        assert (await member.message())[:2] == (b"t", b"0")
        await goes_away(a, member)
        await remove(a, "messages")
        await publisher.publish(b"t", b"1")
        await finds(b, b"1")


async def test_a_group_that_is_away_and_whose_consumer_is_removed_goes_on_where_it_left(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, member = await with_one_member(a)
        await goes_away(a, member)
        await publisher.publish(b"t", b"1")
        names = node_of(a).names
        await ask(node_of(a).link, jetstream.consumer_delete(names.messages, name_of((b"g", b"t"))))
        await finds(b, b"1")


async def test_who_is_new_to_a_group_leaves_its_consumer_to_those_who_know_where_it_was(
    nats_server: Server, cluster_name: str
) -> None:
    """It is gone, with the log or without, and a node gets its first member before the others have noticed that."""
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, member = await with_one_member(a)
        shares, names = node_of(a).shares, node_of(a).names
        await until(lambda: bool(node_of(b)._gossip.others_who_know(name_of((b"g", b"t")))))
        make, may_notice = shares._make, trio.Event()

        async def make_later(key: GroupKey) -> None:
            await may_notice.wait()
            await make(key)

        shares._make = make_later  # type: ignore[method-assign]
        await ask(node_of(a).link, jetstream.consumer_delete(names.messages, name_of((b"g", b"t"))))
        await publisher.publish(b"t", b"1")
        newer = Client(b)
        await newer.connect(b"n")
        await newer.send_subscribe((b"$share/g/t", 1))
        await until(lambda: bool(node_of(b).shares._missed_since))
        may_notice.set()
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def read(client: Client) -> None:
                got.append((await client.message())[1])
                nursery.cancel_scope.cancel()

            nursery.start_soon(read, member)
            nursery.start_soon(read, newer)
        assert got == [b"1"]


async def with_one_member(broker: Broker) -> tuple[Client, Client]:
    """A publisher, and the only member of the group g of t, which is a session that lasts."""
    publisher, member = Client(broker), Client(broker)
    await publisher.connect(b"p")
    await member.connect(b"m", False)
    await member.subscribe((b"$share/g/t", 1))
    return publisher, member


async def goes_away(broker: Broker, member: Client) -> None:
    await member.close()
    await until(lambda: not broker.app.engine.shared.all_keys())


async def finds(broker: Broker, payload: bytes) -> None:
    """The member comes back to this broker, and gets this."""
    member = Client(broker)
    assert await member.connect(b"m", False)
    assert (await member.message())[:2] == (b"t", payload)


async def remove(broker: Broker, stream: str) -> None:
    """As an operator does."""
    names = node_of(broker).names
    found = {"messages": [names.messages], "sessions": [names.sessions]}
    found["all"] = [names.messages, names.sessions, names.retained]
    for name in found[stream]:
        await ask(node_of(broker).link, (jetstream.API + b"STREAM.DELETE." + name.encode(), b""))


async def test_a_node_whose_members_have_nothing_wakes_up_for_nothing() -> None:
    engine, names, status = Engine(), Names("shop"), ClusterStatus()
    link: Any = Silent()
    reader: Any = SimpleNamespace(on_lost=[])
    gossip = Gossip(engine, link, names, b"n1.1", status)
    shares = Shares(engine, link, names, b"n1.1", reader, gossip, 60.0, status)
    async with trio.open_nursery() as nursery:
        await nursery.start(shares.run)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()
