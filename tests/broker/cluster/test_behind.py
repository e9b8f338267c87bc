"""What a session that comes back gets of the log: all that was for it, once, in order, and no faster than it takes."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.attached import Attached
from support.memory_nats import SILENT, MemoryNats, Stream, refused
from support.memory_node import MemoryNode, running
from trio.testing import MockClock

from broker.cluster import behind as module
from broker.cluster import log_end
from broker.cluster.behind import Behind, Reading
from broker.core.access import Access
from broker.core.engine import Engine
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connect
from protocol.nats import jetstream

LOG = "shop_MSGS"


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few messages are more than one."""
    monkeypatch.setattr(module, "SLICE_MESSAGES", 5)
    monkeypatch.setattr(module, "LEAP_FROM", 20)


async def away(a: MemoryNode, *filters: tuple[bytes, int]) -> None:
    """The client `c` has subscribed to that, and is away."""
    client = await a.comes(filters=filters)
    await a.settled()
    await a.goes(client)
    assert a.engine.sessions == {}


async def back(b: MemoryNode) -> list[bytes]:
    client = await b.comes()
    await b.settled()
    assert client.session not in b.owners.behind.readings, "it has caught up"
    assert not client.session.behind
    return client.payloads()


async def test_it_gets_what_its_filters_match_with_what_they_were_granted(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t/+", 1), (b"u", 1), (b"zero", 0), (b"$share/g/s", 1))
        for topic, qos in ((b"t/1", 1), (b"t/1/2", 1), (b"u", 2), (b"s", 1), (b"zero", 1), (b"t/2", 1)):
            a.publish(topic, topic, qos)
        await a.settled()
        client = await b.comes()
        await b.settled()
        assert client.payloads() == [b"t/1", b"u", b"t/2"], "a group has its own way"
        assert [entry.qos for entry in client.session.outbound.inflight()] == [1, 1, 1]


async def test_while_it_is_read_for_it_is_handed_no_packets_of_what_the_others_get(
    autojump_clock: MockClock,
) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        others = [await b.comes(name, filters=((b"t", 0),)) for name in (b"x", b"y")]
        await away(a, (b"t", 0))
        for number in range(1, 4):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        client = await b.comes()
        assert client.session.behind
        assert not client.session.plain
        with a.engine.turn:  # one batch, which comes together
            for number in range(4, 7):
                a.publish(b"t", b"%d" % number)
        await b.settled()
        assert client.payloads() == [b"4", b"5", b"6"]
        assert [one.payloads() for one in others] == [[b"%d" % number for number in range(1, 7)]] * 2
        assert client.session.plain


async def test_where_subscriptions_overlap_it_gets_one_message(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t/#", 1), (b"+/1", 2))
        a.publish(b"t/1", b"1", 2)
        assert await back(b) == [b"1"]


async def test_what_came_before_and_after_is_in_order(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(3):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        b.engine.window.inflight_messages = 100
        client = await b.comes()
        for number in range(3, 6):
            a.publish(b"t", b"%d" % number)
        await b.settled()
        a.publish(b"t", b"6")
        await b.settled()
        assert client.payloads() == [b"%d" % number for number in range(7)]


async def test_a_filter_that_is_younger_than_its_return_brings_nothing_older(
    autojump_clock: MockClock,
) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t", 1))
        a.publish(b"new", b"before")
        a.publish(b"t", b"1")
        await a.settled()
        client = await b.comes(filters=((b"new", 1), (b"t", 1)))
        a.publish(b"new", b"after")
        await b.settled()
        assert client.payloads() == [b"1", b"after"]


async def test_what_its_client_may_not_read_by_now_is_left_out(autojump_clock: MockClock) -> None:
    class Restricted(Access):
        def may_read(self, topic: bytes) -> bool:
            return topic != b"t/secret"

        def may_write(self, topic: bytes) -> bool:
            return True

    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t/#", 1))
        for topic in (b"t/secret", b"t/open"):
            a.publish(topic, topic)
        await a.settled()
        b.engine.trie.restrict(True)
        client = await b.comes()
        client.session.set_access(Restricted())
        await b.settled()
        assert client.payloads() == [b"t/open"]


async def test_it_is_read_no_faster_than_its_client_takes(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(20):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        b.engine.window.adopt(Window(2, 0, 3))
        client = await b.comes()
        await b.settled()
        session = client.session
        got = client.payloads()
        assert got == [b"0", b"1"]
        assert session.outbound.queued_count() == 3
        reading = b.owners.behind.readings[session]
        assert len(reading.waiting) == 15
        assert b.owners.behind.read_up_to(session) == reading.position == 5
        while len(got) < 20:
            with b.engine.turn:
                for entry in list(session.outbound.inflight()):
                    session.outbound.puback(entry.packet_id)
            await b.settled()
            more = client.payloads()
            assert more
            got += more
        assert got == [b"%d" % number for number in range(20)]
        assert b.owners.behind.read_up_to(session) == 20


async def test_bytes_that_it_has_not_taken_hold_it_back_as_well(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for _ in range(20):
            a.publish(b"t", b"x" * 100_000)
        await a.settled()
        client = await b.comes()
        client.is_stuck = True
        await b.settled()
        assert (
            client.outbox.limit_bytes // 2 < client.outbox.pending_bytes < client.outbox.limit_bytes * 3 // 4
        )


async def test_a_client_that_leaves_meanwhile_gets_the_rest_the_next_time(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(10):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        b.engine.window.adopt(Window(2, 0, 3))
        client = await b.comes()
        await b.settled()
        assert client.payloads() == [b"0", b"1"]
        await b.goes(client)
        assert b.owners.behind.readings == {}
        again = await a.comes()
        await a.settled()
        assert again.payloads() == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("fault", [SILENT, refused(503, 10008)], ids=["silent", "no leader"])
async def test_a_slice_that_does_not_come_is_asked_for_again(
    autojump_clock: MockClock, fault: object
) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        a.publish(b"t", b"1")
        await a.settled()
        server.faults.append((b"DIRECT.GET", fault))
        client = await b.comes()
        await trio.sleep(5)
        assert server.faults == []
        assert client.payloads() == [b"1"]


async def test_a_replica_that_has_it_later_is_asked_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        a.publish(b"t", b"1")
        await a.settled()
        server.faults += [(b"DIRECT.GET", {})] * 1000
        client = await b.comes()
        await b.settled()
        assert client.payloads() == []
        server.faults.clear()
        await b.settled()
        assert client.payloads() == [b"1"]
        assert b.node.status.session_gaps == 0


async def test_what_the_log_has_no_more_is_a_gap(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(4):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        del server.streams[LOG].kept[:2]
        assert await back(b) == [b"2", b"3"]
        assert b.node.status.session_gaps == 1


@pytest.mark.parametrize(
    ("cursor", "epoch", "is_gap"),
    [(0, "", False), (2, "", False), (3, "", True), (1, "mine", False), (1, "another", True)],
)
async def test_a_cursor_of_another_log_reads_this_one_from_its_beginning(
    autojump_clock: MockClock, cursor: int, epoch: str, is_gap: bool
) -> None:
    async with running(MemoryNats(), "a") as (a,):
        for number in range(2):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        session = Attached(a.engine, b"c", filters=((b"t", 1),)).session
        behind = a.owners.behind
        behind.begin(session, cursor, a.node.reader.epoch if epoch == "mine" else epoch)
        assert a.node.status.session_gaps == is_gap
        assert behind.read_up_to(session) == (0 if is_gap else cursor)
        behind.forget(session)
        behind.forget(session)
        assert behind.read_up_to(session) == 2, "as far as its node"


async def away_beyond(a: MemoryNode, b: MemoryNode) -> None:
    """The client has had of node `a` what node `b`, which was cut off, has yet to read."""
    client = await a.comes(filters=((b"t", 1),))
    await a.settled()
    a.server.drop(b.node.link)
    for number in range(3):
        a.publish(b"t", b"%d" % number)
    await a.settled()
    assert client.payloads() == [b"0", b"1", b"2"]
    for packet_id in range(1, 4):
        client.session.outbound.puback(packet_id)
    await a.goes(client)
    assert b.node.reader.last == 0


async def test_a_node_that_was_cut_off_reads_on_before_it_takes_a_session_that_is_ahead(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away_beyond(a, b)
        server.admit(b.node.link)
        client = await b.comes()
        a.publish(b"t", b"3")
        await b.settled()
        assert client.payloads() == [b"3"]
        assert b.node.status.session_gaps == 0


async def test_who_comes_to_a_node_that_does_not_read_on_is_sent_elsewhere(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away_beyond(a, b)
        server.faults = [(b"CONSUMER.CREATE", SILENT)] * 100
        server.admit(b.node.link)
        problem = await b.owners.claim(b"c", Connect(b"c", False, 0), None)
        assert "yet to read what the session has had" in problem
        assert b.node.status.session_gaps == 0
        server.faults.clear()
        client = await b.comes()
        assert client.payloads() == []


async def test_nor_does_one_take_a_session_for_one_of_another_log_that_is_told_too_little(
    autojump_clock: MockClock,
) -> None:
    """By who leads and has yet to catch up: it would be given all of the log again."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away_beyond(a, b)
        server.streams[LOG].fall_behind(2)
        server.admit(b.node.link)
        problem = await b.owners.claim(b"c", Connect(b"c", False, 0), None)
        assert "no answer" in problem
        server.catch_up(LOG)
        client = await b.comes()
        await b.settled()
        assert client.payloads() == []
        assert b.node.status.session_gaps == 0


@pytest.mark.parametrize(("cursor", "epoch"), [(3, ""), (1, "another"), (3, "another")])
async def test_a_place_that_the_log_does_not_have_is_not_waited_for(
    autojump_clock: MockClock, cursor: int, epoch: str
) -> None:
    async with running(MemoryNats(), "a") as (a,):
        for number in range(2):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        with trio.fail_after(1):
            await a.owners.behind.until_read(cursor, epoch)


async def test_what_others_wrote_where_a_log_had_lost_its_end_is_for_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At places up to which it had been given everything."""
    monkeypatch.setattr(log_end, "CLOCKS_NS", 0)
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        client = await a.comes(filters=((b"t", 1),))
        for number in range(4):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        assert client.payloads() == [b"0", b"1", b"2", b"3"]
        for packet_id in range(1, 5):
            client.session.outbound.puback(packet_id)
        await a.goes(client)
        for node in (a, b):
            server.drop(node.node.link)
        await trio.sleep(2)
        server.streams[LOG].lose(2)
        for node in (a, b):
            server.admit(node.node.link)
        for number in range(4, 10):
            a.publish(b"t", b"%d" % number)
        await trio.sleep(6)
        assert await back(b) == [b"%d" % number for number in range(4, 10)]


@pytest.mark.parametrize("left", [0, 2, 4], ids=["nothing", "the oldest", "all"])
async def test_where_nothing_is_left_of_what_is_to_be_read_it_is_not_waited_for(
    autojump_clock: MockClock, left: int
) -> None:
    """It has expired, or somebody has removed it, and nobody publishes."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        a.publish(b"t", b"0")
        a.publish(b"t", b"1")
        await away(a, (b"t", 1))
        a.publish(b"t", b"2")
        a.publish(b"t", b"3")
        await b.settled()
        del server.streams[LOG].kept[left:]
        assert await back(b) == [b"2", b"3"][: left - 2 if left > 2 else 0]
        assert b.node.status.session_gaps == (left < 4)
        slices = [one for one in server.asked if b"DIRECT.GET" in one]
        assert len(slices) <= 2


async def test_nor_where_only_something_is_left_that_its_node_has_yet_to_read(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        a.publish(b"t", b"0")
        await b.settled()
        server.drop(a.node.link)
        server.consumers.clear()
        server.faults += [(b"CONSUMER.CREATE", SILENT)] * 100
        a.server.admit(a.node.link)
        a.publish(b"t", b"1")
        await b.settled()
        del server.streams[LOG].kept[0]
        client = await b.comes()
        await b.settled()
        assert client.payloads() == []
        assert b.node.status.session_gaps == 1
        server.faults.clear()
        await trio.sleep(6)
        assert client.payloads() == [b"1"]


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize("filters", [((b"t", 1),), ((b"t", 1), (b"u/+", 1)), ((b"#", 1),)])
async def test_where_nothing_is_for_it_the_log_says_where_to_go_on(
    autojump_clock: MockClock, filters: tuple[tuple[bytes, int], ...]
) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, *filters)
        for number in range(60):
            a.publish(b"other", b"%d" % number, 1)
        a.publish(b"t", b"last")
        await a.settled()
        if filters != ((b"#", 1),):
            server.asked.clear()
            assert await back(b) == [b"last"]
            slices = sum(b"DIRECT.GET" in one for one in server.asked)
            assert slices == 2, "the first, and the one with the message"
            return
        server.asked.clear()
        await b.comes()
        await b.settled()
        assert not any(b"STREAM.MSG.GET.shop_MSGS" in one for one in server.asked), "all of it is for it"


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize("fault", [SILENT, refused(503, 10008)], ids=["silent", "no leader"])
async def test_a_leap_that_is_not_answered_costs_a_slice(autojump_clock: MockClock, fault: object) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(60):
            a.publish(b"other", b"%d" % number, 1)
        a.publish(b"t", b"last")
        await trio.sleep(5)
        server.faults.append((b"STREAM.MSG.GET.shop_MSGS", fault))
        client = await b.comes()
        await trio.sleep(5)
        assert server.faults == []
        assert client.payloads() == [b"last"]


@pytest.mark.usefixtures("short_slices")
async def test_nor_is_anything_left_out_that_who_leads_has_yet_to_hear_of(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(60):
            a.publish(b"other", b"%d" % number, 1)
        a.publish(b"t", b"last")
        await trio.sleep(5)
        server.streams[LOG].fall_behind(30)
        client = await b.comes()
        await b.settled()
        assert client.payloads() == []
        server.catch_up(LOG)
        await b.settled()
        assert client.payloads() == [b"last"]


NOTHING = refused(404, jetstream.NO_MESSAGE)


@pytest.mark.usefixtures("short_slices")
async def test_nor_where_one_that_has_yet_to_catch_up_leads_between_two_questions(
    autojump_clock: MockClock,
) -> None:
    class Elected(MemoryNats):
        def _message(self, stream: Stream, body: dict[str, Any]) -> dict[str, Any]:
            if self.leader == "before" and "next_by_subj" in body:
                self.leader = "after"
                return NOTHING
            return super()._message(stream, body)

    server = Elected()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(60):
            a.publish(b"other", b"%d" % number, 1)
        a.publish(b"t", b"last")
        await trio.sleep(5)
        server.leader = "before"
        assert await back(b) == [b"last"]
        assert server.leader == "after"


async def test_nor_is_it_taken_for_gone_by_the_word_of_such_a_one(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        a.publish(b"t", b"0")
        a.publish(b"t", b"1")
        await b.settled()
        server.faults += [(b"DIRECT.GET", SILENT), (b"STREAM.MSG.GET.shop_MSGS", NOTHING)]
        client = await b.comes()
        await trio.sleep(9)
        assert not server.faults
        assert client.payloads() == [b"0", b"1"]
        assert b.node.status.session_gaps == 0


@pytest.mark.usefixtures("short_slices")
async def test_where_nothing_more_is_for_it_it_is_at_the_end_at_once(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        await away(a, (b"t", 1))
        for number in range(60):
            a.publish(b"other", b"%d" % number, 1)
        await trio.sleep(5)
        server.asked.clear()
        assert await back(b) == []
        assert sum(b"DIRECT.GET" in one for one in server.asked) == 1


async def test_one_task_reads_for_a_session(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a") as (a,):
        a.publish(b"t", b"1")
        await a.settled()
        session = Attached(a.engine, b"c", filters=((b"t", 1),)).session
        behind = a.owners.behind
        await behind.run(session)  # of one that is not behind
        behind.begin(session, 0, "")
        behind.readings[session].is_read = True
        await behind.run(session)
        assert behind.read_up_to(session) == 0
        behind.readings[session].is_read = False
        await behind.run(session)
        assert behind.read_up_to(session) == 1


async def test_a_message_without_number_or_subject_ends_the_slice(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        behind: Behind = a.owners.behind
        server.streams[LOG].kept = []
        found: list[object] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                found.append(await behind._slice(1))

            await trio.testing.wait_all_tasks_blocked()
        assert found == [[]]


def test_what_was_subscribed_is_known_by_when_that_was() -> None:
    client = Attached(Engine(), filters=((b"old", 1),))
    reading = Reading(client.session, 3)
    engine = client.engine
    engine.subscribe_session(client.session, b"new", 1)
    reading.subscribed(7)
    engine.unsubscribe(client.session, b"old")
    reading.subscribed(8)
    engine.subscribe_session(client.session, b"old", 1)
    reading.subscribed(9)
    assert reading.since == {b"new": 7, b"old": 9}
