"""What a node does with the log's answers to what it has sent."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio
from support.interpreted import interpreted_only
from support.memory_nats import LOST, SILENT, MemoryNats
from support.memory_node import MemoryNode, running
from trio.testing import MockClock

from broker.cluster import log_end
from broker.cluster import publisher as module
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.publisher import ALONE_S, Publisher
from broker.cluster.status import ClusterStatus
from broker.cluster.unsent import MANY
from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.promise import Promise
from broker.core.publication import Publication
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import wire

STORED = {"stream": "shop_MSGS", "seq": 9}
DUPLICATE = {**STORED, "duplicate": True}


def refused(code: int, err_code: int) -> dict[str, object]:
    return {"error": {"code": code, "err_code": err_code, "description": "no"}}


IN_PROCESS = refused(409, 10158)
DUPLICATE_IN_BATCH = refused(400, 10201)
TOO_LARGE = refused(400, 10054)
UNDECIDED = refused(400, 10164)


class Log(NatsLink):
    """Answers as it is told, and forgets the connection where that is None."""

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers
        self.at_turn_end: list[Callable[[], None]] = []
        self.sent: list[bytes] = []
        self.awaited: list[float] = []
        self._handler: Callable[[wire.Message | None], None] = lambda message: None

    def payload_max(self) -> int:
        return 1024 * 1024

    def expect(self, handler: Callable[[wire.Message | None], None]) -> bytes:
        self._handler = handler
        return b"_INBOX.r"

    def give_up(self, reply: bytes) -> None:
        self._handler = lambda message: None

    def await_answer(self, until: float) -> None:
        self.awaited.append(until)

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def answer(self) -> None:
        """To what was sent at the end of a turn."""
        self._handler(self._next())

    def end_turn(self) -> None:
        """What was offered is sent."""
        for listener in self.at_turn_end:
            listener()

    async def exchange(self, make: Callable[[bytes], bytes], timeout_s: float) -> wire.Message:
        self.sent.append(make(b"_INBOX.r"))
        answer = self._next()
        if answer is None:
            raise Unavailable("the connection was lost")
        return answer

    def _next(self) -> wire.Message | None:
        value = self.answers.pop(0)
        return None if value is None else wire.Message(b"_INBOX.r", 1, b"", b"", json.dumps(value).encode())


def message(payload: bytes, packet_id: int) -> Publication:
    """One of a client's at QoS 1."""
    publication = Publication(b"t", payload, 1, False, b"client")
    publication.packet_id = packet_id
    return publication


async def all_taken(publisher: Publisher) -> None:
    with trio.fail_after(30):
        await publisher.drained()


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([STORED], 1),
        ([None, DUPLICATE], 2),
        ([None, None, STORED], 3),
        ([None, IN_PROCESS, IN_PROCESS, DUPLICATE], 4),
        ([None, IN_PROCESS, STORED], 3),
        ([refused(500, 10000), refused(503, 0), STORED], 3),
        ([TOO_LARGE, TOO_LARGE], 2),
    ],
)
async def test_an_acknowledgement_waits_until_the_log_has_it_for_certain(
    answers: list[object], tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process is not in the log: whoever takes it on may be no leader any more before it is."""
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    engine, log = Engine(), Log(list(answers))
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    publication = message(b"x", 7)
    kept: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        with engine.turn:
            publisher.offer(publication)
            promise = publication.promise
            assert promise is not None
            promise.on_kept = lambda: kept.append(len(log.answers))
            log.end_turn()
        log.answer()
        await all_taken(publisher)
        nursery.cancel_scope.cancel()
    assert kept == [0]
    assert len(log.sent) == tries


@pytest.mark.parametrize("log_is_first", [True, False])
async def test_what_a_table_takes_too_is_kept_when_both_have_it(log_is_first: bool) -> None:
    engine, log = Engine(), Log([STORED])
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    publication = Publication(b"t", b"x", 1, False)
    table = publication.promise = Promise()
    table.join()
    with engine.turn:
        publisher.offer(publication)
        log.end_turn()
    log.answer() if log_is_first else table.keep(0x99)
    assert not table.is_kept
    table.keep(0x99) if log_is_first else log.answer()
    assert (table.is_kept, table.code) == (True, 0x99)


@pytest.mark.parametrize(("count", "alone_s"), [(MANY - 1, None), (MANY, ALONE_S)])
async def test_where_many_come_who_publishes_is_heard_with_the_answer_of_the_log(
    count: int, alone_s: float | None
) -> None:
    engine, log = Engine(), Log([STORED, STORED])
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    engine.now = 60.0
    until = 0.0 if alone_s is None else engine.now + alone_s
    for number in range(count - 1):
        publisher.offer(message(b"x", number + 1))
    log.end_turn()
    log.answer()
    publisher.offer(message(b"x", count))
    log.end_turn()
    log.end_turn()  # somebody else was heard meanwhile
    assert log.awaited[1:] == [until, until]
    log.answer()
    log.end_turn()
    assert len(log.awaited) == 3  # nothing is under way


class Narrow(Log):
    def payload_max(self) -> int:
        return 300


async def test_what_is_too_large_for_the_log_is_told_to_who_waits() -> None:
    engine = Engine()
    publisher = Publisher(engine, Narrow([]), Names("shop"), b"n1-1234", ClusterStatus())
    publication = Publication(b"t", b"x" * 300, 1, False)
    publication.promise = Promise()
    with engine.turn:
        publisher.offer(publication)
    assert publication.promise.code == ReasonCode.PACKET_TOO_LARGE
    assert publisher.owed() == 0


async def test_a_batch_of_which_some_is_there_goes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    engine, log = Engine(), Log([None, DUPLICATE_IN_BATCH, DUPLICATE, IN_PROCESS, STORED])
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for payload in (b"1", b"2"):
            publisher.offer(Publication(b"t", payload))
        log.end_turn()
        log.answer()
        await all_taken(publisher)
        nursery.cancel_scope.cancel()
    assert [data.count(b"HPUB ") for data in log.sent] == [2, 2, 1, 1, 1]
    assert log.sent[3].endswith(b"2\r\n")
    assert log.sent[4].endswith(b"2\r\n")


@pytest.mark.parametrize("count", [1, 2])
async def test_nothing_is_sent_where_all_that_was_under_way_is_given_up(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    engine, log = Engine(), Log([None])
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for packet_id in range(1, count + 1):
            publisher.offer(message(b"x", packet_id))
        log.end_turn()
        log.answer()
        session, _ = engine.open_session(b"other", False)
        session.outbox = Outbox(engine.round, 0, None)
        publisher._paused.pause(b"other")
        with engine.turn:
            publisher.give_up({b"client"})
        await all_taken(publisher)
        nursery.cancel_scope.cancel()
    assert len(log.sent) == 1
    assert not session.outbox.is_paused


async def test_what_is_given_up_while_others_go_one_by_one_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)

    class Giving(Log):
        async def exchange(self, make: Callable[[bytes], bytes], timeout_s: float) -> wire.Message:
            answer = await super().exchange(make, timeout_s)
            if len(self.sent) == 3:
                publisher.give_up({b"client"})
            return answer

    engine, log = Engine(), Giving([None, DUPLICATE_IN_BATCH, DUPLICATE, STORED])
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", ClusterStatus())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        publisher.offer(Publication(b"t", b"1"))
        publisher.offer(message(b"2", 7))
        log.end_turn()
        log.answer()
        await all_taken(publisher)
        nursery.cancel_scope.cancel()
    assert len(log.sent) == 3


def in_the_log(server: MemoryNats) -> list[bytes]:
    """What clients and programs have published."""
    kept = server.streams["shop_MSGS"].kept
    return [one.payload for one in kept if not Names("shop").is_of_nodes(one.subject)]


@pytest.mark.parametrize("count", [1, 3])
async def test_what_waits_longer_than_nats_knows_its_ids_is_not_sent_again_if_the_log_has_it(
    autojump_clock: MockClock, count: int
) -> None:
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        server.faults += [(b"shop.MSGS.c", LOST)] * count + [(b"shop.MSGS.c", SILENT)] * 1000
        with a.engine.turn:
            for number in range(count):
                a.engine.publish(Publication(b"t", b"%d" % number, 1))
        await trio.sleep(180)
        a.publish(b"t", b"last")
        server.streams["shop_MSGS"].ids.clear()  # as a server does, after its window
        server.faults.clear()
        await all_taken(a.node.publisher)
        assert in_the_log(server) == [*[b"%d" % number for number in range(count)], b"last"]


async def test_what_waits_so_long_and_is_not_there_is_sent_again(autojump_clock: MockClock) -> None:
    """Once everything has been read that the log has."""
    server = MemoryNats()
    async with running(server, "a", "b") as (a, b):
        server.faults += [(b"shop.MSGS.c", SILENT)] * 1000
        a.publish(b"t", b"1")
        await trio.sleep(180)
        server.faults.clear()
        b.publish(b"t", b"2")
        await all_taken(a.node.publisher)
        assert sorted(in_the_log(server)) == [b"1", b"2"]


async def test_a_log_that_is_made_anew_before_all_of_it_was_read_is_asked_for_its_end_again(
    autojump_clock: MockClock,
) -> None:
    """No node ever reads up to where the one before it ended."""
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        for number in range(20):
            a.publish(b"t", b"%d" % number)
        await a.settled()
        server.faults += [(b"shop.MSGS.c", SILENT)] * 1000
        a.publish(b"t", b"last")
        await trio.sleep(180)
        before = len(server.streams["shop_MSGS"].kept)
        server.consumers.clear()
        # So that nothing is read:
        server.faults = [(b"CONSUMER.CREATE.shop_MSGS", refused(503, 10008))] * 1000
        while len(server.streams["shop_MSGS"].kept) == before:  # noqa: ASYNC110 - a server's, which has no event
            await trio.sleep(0.1)
        del server.streams["shop_MSGS"]
        server.faults.clear()
        await all_taken(a.node.publisher)
        assert in_the_log(server) == [b"last"]


@pytest.mark.parametrize("after_s", [20, 62])
async def test_what_the_log_has_lost_since_is_not_taken_for_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    """It had brought it, and then an older copy of its disk was put back: its client would have had its PUBACK."""
    monkeypatch.setattr(log_end, "CLOCKS_NS", 0)
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        a.publish(b"t", b"before")
        await a.settled()
        server.faults += [(b"shop.MSGS.c", LOST)] + [(b"shop.MSGS.c", SILENT)] * 1000
        kept = message(b"1", 7)
        with a.engine.turn:
            a.engine.publish(kept)
        await trio.sleep(
            after_s
        )  # a minute later it is looked for, in the latter case before its node has noticed
        assert kept.sequence > 0
        assert in_the_log(server) == [b"before", b"1"]
        stream = server.streams["shop_MSGS"]
        stream.lose(len(stream.kept) - 1)
        stream.ids.clear()
        server.consumers.clear()  # none lives in a server that was stopped for that
        await trio.sleep(60)
        server.faults.clear()
        await all_taken(a.node.publisher)
        assert in_the_log(server) == [b"before", b"1"]


@interpreted_only
async def test_what_is_given_up_while_the_log_is_read_is_not_sent(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go under the mark of the node's next life, whose fence is not there."""
    monkeypatch.setattr(module, "FORGOTTEN_S", -1.0)
    server = MemoryNats()
    async with MemoryNode(server, "a").running() as a:
        publisher = a.node.publisher
        server.faults += [(b"shop.MSGS.c", refused(503, 0))] * 2  # of both messages of the batch
        with a.engine.turn:
            publisher.offer(Publication(b"t", b"a program's", 1))
            publisher.offer(message(b"a client's", 7))
        server.faults.append((b"shop.MSGS.x.end", SILENT))  # so it is not known where it ends
        await trio.sleep(0.5)
        with a.engine.turn:
            publisher.give_up({b"client"})
        await all_taken(publisher)
        assert in_the_log(server) == [b"a program's"]


async def test_what_the_log_can_not_compare_yet_is_sent_again_at_once(autojump_clock: MockClock) -> None:
    """NATS has not done with what it has just acknowledged; that is no trouble, and nobody looks for a fence."""
    engine, log, status = Engine(), Log([UNDECIDED, UNDECIDED, STORED]), ClusterStatus()
    publisher = Publisher(engine, log, Names("shop"), b"n1-1234", status)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        began = trio.current_time()
        with engine.turn:
            publisher.offer(message(b"x", 7))
            log.end_turn()
        before = status.log_problem
        log.answer()
        assert status.log_problem == before
        await all_taken(publisher)
        assert trio.current_time() - began < 0.05
        assert len(log.sent) == 3
        nursery.cancel_scope.cancel()
