"""What comes over a replication connection is delivered, whole transactions and streamed ones."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from psycopg.pq import DiagnosticField
from support.feeds import Collector, running
from support.installed import connect, sql
from support.polling import until
from support.tcp_proxy import tcp_proxy
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.status import FeedStatus
from broker.feed.wal import slots
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.stream import WalStream
from protocol.pgjson import TypeEntry
from protocol.pgoutput import EPOCH_UNIX_S, Relation

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")


async def test_streamed_transaction_is_delivered_at_its_commit_without_aborted_parts(
    config: FeedConfig, cluster: Any
) -> None:
    sql(config, "ALTER SYSTEM SET logical_decoding_work_mem = '64kB'", "SELECT pg_reload_conf()")
    try:
        async with running(config) as feed:
            with connect(config.dsn) as large, connect(config.dsn) as small:
                large.execute(
                    "BEGIN; INSERT INTO event SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i"
                )
                large.execute(
                    "SAVEPOINT s; INSERT INTO event SELECT i, repeat('y', 100) FROM generate_series(10000, 13000) i"
                )
                small.execute("INSERT INTO event VALUES (0, 'small')")
                await feed.outlet.until(1)
                await until(lambda: feed.status.spooled_bytes > 0)
                large.execute("ROLLBACK TO s; INSERT INTO event VALUES (3001, 'last'); COMMIT")
            await feed.outlet.until(3002)
            await until(lambda: feed.status.spooled_bytes == 0)
            sql(
                config,
                "BEGIN; INSERT INTO event SELECT i, repeat('z', 100) FROM generate_series(20000, 23000) i; ROLLBACK",
            )
            sql(config, "INSERT INTO event VALUES (5000, 'after')")
            await feed.outlet.until(3003)
    finally:
        sql(config, "ALTER SYSTEM RESET logical_decoding_work_mem", "SELECT pg_reload_conf()")
    numbers = [int(topic[6:]) for topic in feed.outlet.topics()]
    assert numbers == [0, *range(1, 3002), 5000]


async def test_silent_server_is_noticed(config: FeedConfig, cluster: Any) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        dsn = config.dsn.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(evolve(config, dsn=dsn, check_interval_s=0.3, check_timeout_s=0.5)) as feed:
            sql(config, "INSERT INTO event VALUES (1, 'a')")
            await feed.outlet.until(1)
            proxy.freeze()
            sql(config, "INSERT INTO event VALUES (2, 'b')")
            await until(lambda: feed.status.state != "live")
            assert "silent" in feed.status.problem
            proxy.thaw()
            await feed.outlet.until(2)
            sql(config, "INSERT INTO event VALUES (3, 'c')")
            await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/1", b"event/2", b"event/3"]


async def test_server_that_can_not_stream_is_read_with_protocol_1(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before PostgreSQL 14 there are neither streamed transactions nor logical messages."""
    monkeypatch.setattr(slots, "PG_STREAMING", 10**9)
    async with running(config) as feed:
        sql(config, "INSERT INTO event SELECT i, 'x' FROM generate_series(1, 1000) i")
        sql(config, "SELECT rowcast.publish('a', 'unseen')", "INSERT INTO event VALUES (1001, 'x')")
        await feed.outlet.until(1001)
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, 1002)]


class Server:
    """A replication connection's server: frames that a test sends, and the statuses that it gets."""

    server_version = 170000

    def __init__(self) -> None:
        self.pgconn = self
        self.frames: list[bytes] = []
        self.behind: list[bytes] = []
        """What is in the kernel, and comes once somebody looks."""
        self.statuses: list[tuple[int, int, bool]] = []
        self.status_time_us = 0
        """Of the last one, since Postgres' epoch."""
        self.is_over = False
        self.encoding = b"UTF8"
        self.error_message = b""
        self._arrived = trio.Event()
        self.result: Any = self

    def send(self, *frames: bytes) -> None:
        self.frames += frames
        self._arrived.set()

    def end(self, result: bool = False) -> None:
        self.is_over = True
        self.result = self if result else None
        self._arrived.set()

    async def wait_readable(self) -> None:
        await self._arrived.wait()
        self._arrived = trio.Event()

    def get_copy_data(self, nowait: int) -> tuple[int, memoryview]:
        if not self.frames:
            return (-1 if self.is_over else 0), memoryview(b"")
        frame = self.frames.pop(0)
        return len(frame), memoryview(frame)

    def consume_input(self) -> None:
        self.frames += self.behind
        self.behind.clear()

    def flush(self) -> None: ...

    def parameter_status(self, name: bytes) -> bytes:
        assert name == b"server_encoding"
        return self.encoding

    def get_result(self) -> Any:
        return self.result

    def put_copy_data(self, data: bytes) -> None:
        received, confirmed = int.from_bytes(data[1:9], "big"), int.from_bytes(data[9:17], "big")
        self.statuses.append((received, confirmed, bool(data[-1])))
        self.status_time_us = int.from_bytes(data[25:33], "big")


def data(message: bytes, wal_end: int = 0) -> bytes:
    return b"w" + bytes(8) + wal_end.to_bytes(8, "big") + bytes(8) + message


def keep_alive(wal_end: int, reply: bool = False) -> bytes:
    return b"k" + wal_end.to_bytes(8, "big") + bytes(8) + bytes([reply])


def begin(lsn: int, xid: int = 7) -> bytes:
    return data(b"B" + lsn.to_bytes(8, "big") + bytes(8) + xid.to_bytes(4, "big"))


def commit(lsn: int) -> bytes:
    return data(b"C\0" + lsn.to_bytes(8, "big") + (lsn + 1).to_bytes(8, "big") + bytes(8))


RELATION = data(
    b"R" + (1).to_bytes(4, "big") + b"public\0event\0d\0\1\1id\0" + (20).to_bytes(4, "big") + b"\xff" * 4
)


def insert(id: bytes) -> bytes:
    return data(b"I" + (1).to_bytes(4, "big") + b"N\0\1t" + len(id).to_bytes(4, "big") + id)


CONFIG = FeedConfig(
    "main",
    "",
    "wal",
    (Source("s", (), tables=("public.event",)),),
    (Route("s", ("event/{id}",)),),
    check_interval_s=10.0,
    check_timeout_s=5.0,
)


class Pulled:
    """A stream that is pulled from `server`."""

    def __init__(self, encoding: bytes = b"UTF8", outlet: Collector | None = None) -> None:
        self.server = Server()
        self.server.encoding = encoding
        self.outlet, self.status = outlet or Collector(), FeedStatus("main")
        self.delivery = Delivery(CONFIG, self.outlet, self.status)
        self.described: list[bool] = []
        self.due: set[int] = set()
        self.looks: list[int] = []
        connection: Any = self.server
        self.stream = WalStream(
            connection, CONFIG, self.delivery, self.outlet, self.status,
            self._look_up, self._describe, lambda lsn: lsn in self.due, self._look,
        )  # fmt: skip

    async def _look_up(self, oids: list[int]) -> dict[int, Any]:
        raise AssertionError(oids)

    async def _describe(self, relation: Relation, is_first: bool) -> str:
        self.described.append(is_first)
        return "public.event"

    async def _look(self) -> None:
        self.looks.append(len(self.outlet.published))

    async def take(self, *frames: bytes) -> None:
        """Until the server has nothing more."""
        self.server.send(*frames)
        await wait_all_tasks_blocked()


async def test_transactions_are_delivered_and_looked_at_where_that_is_due(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.due = {200}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), RELATION, insert(b"1"), insert(b"2"), commit(100), begin(200), RELATION)
        await pulled.take(insert(b"3"), commit(200))
        assert pulled.outlet.topics() == [b"event/1", b"event/2", b"event/3"]
        assert (pulled.looks, pulled.described) == ([2], [True, False])
        assert (pulled.status.received, pulled.status.published, pulled.status.delivered) == (3, 3, 201)
        assert list(pulled.status.delivered_xids) == [7, 7]
        assert pulled.stream.news.is_set()
        assert pulled.outlet.flushes > 0
        nursery.cancel_scope.cancel()


def row(oid: int, text: bytes) -> bytes:
    """An insert into a table of one column."""
    return data(b"I" + oid.to_bytes(4, "big") + b"N\0\1t" + len(text).to_bytes(4, "big") + text)


async def test_latency_is_counted_for_each_transaction_once_it_was_sent(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), RELATION, insert(b"1"), insert(b"2"), commit(100))
        await pulled.take(begin(200), insert(b"3"), commit(200))
        assert pulled.status.latency.count() == 2
        nursery.cancel_scope.cancel()


async def test_what_came_with_the_end_is_counted_and_sent(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.send(begin(100), RELATION, insert(b"1"), insert(b"2"), commit(100))
    pulled.server.end()
    with pytest.raises(psycopg.OperationalError):
        await pulled.stream.pull()
    pulled.stream.close()
    assert (pulled.status.received, pulled.status.published) == (2, 2)
    pulled.stream.close()
    assert (pulled.status.received, pulled.status.published) == (2, 2), "once"


async def test_what_the_kernel_has_is_looked_for_before_anybody_waits(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.behind = [begin(100), RELATION, insert(b"1"), commit(100)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await wait_all_tasks_blocked()
        assert pulled.outlet.topics() == [b"event/1"]
        nursery.cancel_scope.cancel()


async def test_others_have_their_turns_in_a_transaction_that_takes_long(autojump_clock: MockClock) -> None:
    """Every row takes 2 ms; after 5 ms the loop goes on, and whoever was written to gets what there is."""
    pulled = Pulled()
    seen: list[int] = []

    async def look() -> None:
        while len(pulled.outlet.published) < 320:
            seen.append(len(pulled.outlet.published))
            await trio.lowlevel.checkpoint()

    pulled.outlet.on_publish = lambda published: autojump_clock.jump(0.002)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(
            begin(100), RELATION, *[insert(b"%d" % number) for number in range(320)], commit(100)
        )
        flushes = pulled.outlet.flushes
        nursery.cancel_scope.cancel()
    assert len(set(seen)) >= 5
    assert 5 <= flushes <= 160, "after some rows each time, however they come"


async def test_what_says_nothing_of_rows_is_passed_over(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    origin = data(b"O" + bytes(8) + b"elsewhere\0")
    truncate = data(b"T" + (1).to_bytes(4, "big") + b"\0" + (1).to_bytes(4, "big"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), origin, RELATION, insert(b"1"), truncate, insert(b"2"), commit(100))
        assert pulled.outlet.topics() == [b"event/1", b"event/2"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("encoding", [b"UTF8", b"SQL_ASCII"])
async def test_text_that_is_not_utf_8_costs_its_row_where_the_server_takes_it(
    autojump_clock: MockClock, encoding: bytes
) -> None:
    """Elsewhere the server has seen to it, and nobody looks."""
    pulled = Pulled(encoding)
    described = data(
        b"R" + (1).to_bytes(4, "big") + b"public\0event\0d\0\1\1id\0" + (25).to_bytes(4, "big") + b"\xff" * 4
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), described, row(1, b"a"), row(1, b"\xff"), row(1, b"b"), commit(100))
        nursery.cancel_scope.cancel()
    if encoding == b"SQL_ASCII":
        assert pulled.outlet.topics() == [b"event/a", b"event/b"]
        assert pulled.status.dropped == {"not_utf8": 1}
    else:
        assert [pulled.outlet.topics()[0], pulled.outlet.topics()[-1]] == [b"event/a", b"event/b"]
        assert "not_utf8" not in pulled.status.dropped


def described(*columns: tuple[bytes, int]) -> bytes:
    """A table, its columns with their types."""
    names = b"".join(b"\0" + name + b"\0" + oid.to_bytes(4, "big") + b"\xff" * 4 for name, oid in columns)
    head = b"R" + (1).to_bytes(4, "big") + b"public\0event\0d"
    return data(head + len(columns).to_bytes(2, "big") + names)


def inserted(*values: bytes) -> bytes:
    texts = b"".join(b"t" + len(value).to_bytes(4, "big") + value for value in values)
    return data(b"I" + (1).to_bytes(4, "big") + b"N" + len(values).to_bytes(2, "big") + texts)


async def test_text_in_a_body_is_looked_at_where_the_server_does_not(autojump_clock: MockClock) -> None:
    pulled = Pulled(b"SQL_ASCII")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(
            begin(100),
            described((b"id", 20), (b"name", 25)),
            inserted(b"1", b"a"),
            inserted(b"2", b"\xff"),
            inserted(b"3", b"b"),
            commit(100),
        )
        nursery.cancel_scope.cancel()
    assert [(topic, body) for topic, body, *_ in pulled.outlet.published] == [
        (b"event/1", b'{"id":1,"name":"a"}'),
        (b"event/3", b'{"id":3,"name":"b"}'),
    ]
    assert pulled.status.dropped == {"not_utf8": 1}


async def test_types_of_the_application_are_asked_for_with_each_description(
    autojump_clock: MockClock,
) -> None:
    """A domain over bigint, that is one over text the next time."""
    pulled = Pulled()
    asked: list[list[int]] = []

    async def look_up(oids: list[int]) -> dict[int, TypeEntry]:
        asked.append(oids)
        return {oid: TypeEntry(base_oid=20 if len(asked) == 1 else 25) for oid in oids}

    pulled.stream._look_up = look_up
    table = described((b"id", 20), (b"own", 99_999))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), table, inserted(b"1", b"5"), commit(100))
        await pulled.take(begin(200), table, inserted(b"2", b"6"), commit(200))
        nursery.cancel_scope.cancel()
    assert asked == [[99_999], [99_999]]
    assert [body for _, body, *_ in pulled.outlet.published] == [b'{"id":1,"own":5}', b'{"id":2,"own":"6"}']


async def test_between_transactions_an_idle_server_s_end_counts_and_inside_of_one_it_does_not(
    autojump_clock: MockClock,
) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(keep_alive(500))
        assert (pulled.delivery.progress.safe_lsn, pulled.status.delivered, pulled.stream.wal_end) == (
            500,
            500,
            500,
        )
        assert pulled.stream.news.is_set()
        pulled.stream.news = trio.Event()
        await pulled.take(begin(600), keep_alive(700))
        assert (pulled.delivery.progress.safe_lsn, pulled.stream.wal_end) == (500, 700)
        assert not pulled.stream.news.is_set()
        await pulled.take(keep_alive(700, reply=True))
        assert pulled.stream.news.is_set(), "it wants an answer all the same"
        nursery.cancel_scope.cancel()


async def test_a_status_says_what_came_and_what_may_be_forgotten(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(keep_alive(500))
        began = time.time()
        pulled.stream.send_status(300)
        assert began - 0.001 <= EPOCH_UNIX_S + pulled.server.status_time_us / 1e6 <= time.time() + 0.001
        pulled.stream.send_status(900, reply_requested=True)
        assert pulled.server.statuses == [(500, 300, False), (900, 900, True)]
        nursery.cancel_scope.cancel()


async def until_asked(pulled: Pulled, asked: list[bool]) -> None:
    """A stop, which notes when it may go on."""
    await pulled.stream.until_asked(0)
    asked.append(True)


async def test_a_stop_waits_until_the_server_asks_between_two_transactions(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    asked: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await wait_all_tasks_blocked()
        nursery.start_soon(until_asked, pulled, asked)
        await pulled.take(keep_alive(1), begin(100), keep_alive(2, reply=True))
        assert (asked, len(pulled.server.statuses)) == ([], 1)
        await pulled.take(commit(100), keep_alive(200, reply=True))
        assert asked == [True]
        nursery.cancel_scope.cancel()


async def test_a_stop_waits_while_a_transaction_is_streamed(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    asked: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        nursery.start_soon(until_asked, pulled, asked)
        await wait_all_tasks_blocked()
        await pulled.take(streamed(b"S", (9, 4), (1, 1)), keep_alive(2, reply=True))
        assert asked == []
        await pulled.take(streamed(b"E"), keep_alive(3, reply=True))
        assert asked == [True]
        nursery.cancel_scope.cancel()


async def test_the_end_of_wal_is_heard_of_from_every_message(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    assert pulled.stream.wal_end == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), data(RELATION[25:], 110), data(insert(b"1")[25:], 120))
        assert pulled.stream.wal_end == 120
        await pulled.take(commit(100), streamed(b"S", (9, 4), (1, 1)))
        await pulled.take(data(inside(RELATION, 9)[25:], 130))
        assert pulled.stream.wal_end == 130
        nursery.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_asked_and_given_up(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    began = trio.current_time()
    with pytest.raises(psycopg.OperationalError, match="the server has been silent for 15 s"):
        await pulled.stream.pull()
    assert trio.current_time() - began == pytest.approx(15.0)
    assert pulled.server.statuses == [(0, 0, True)]


async def test_a_server_that_answers_is_waited_for(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        for number in range(1, 5):
            await trio.sleep(12)
            assert len(pulled.server.statuses) == number
            pulled.server.send(keep_alive(number))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (data(b"?"), "malformed"),
        (b"x", "neither XLogData nor a keepalive"),
        (data(b""), "an empty message"),
        (keep_alive(1)[:-1], "neither XLogData nor a keepalive"),
    ],
    ids=["unknown", "no frame", "empty", "short"],
)
async def test_what_can_t_be_read_ends_the_connection(frame: bytes, error: str) -> None:
    pulled = Pulled()
    pulled.server.send(frame)
    with pytest.raises(psycopg.DataError, match=error):
        await pulled.stream.pull()


async def test_the_end_of_the_stream_is_raised_behind_what_came(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.send(begin(100), RELATION, insert(b"1"), commit(100))
    pulled.server.end()
    with pytest.raises(psycopg.OperationalError, match="the server ended the replication"):
        await pulled.stream.pull()
    assert pulled.outlet.topics() == [b"event/1"]


def streamed(kind: bytes, *numbers: tuple[int, int], rest: bytes = b"") -> bytes:
    return data(kind + b"".join(value.to_bytes(size, "big") for value, size in numbers) + rest)


def inside(message: bytes, xid: int) -> bytes:
    """A message of a streamed transaction."""
    return message[:26] + xid.to_bytes(4, "big") + message[26:]


async def test_a_streamed_transaction_waits_in_a_spool_for_its_commit(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    start, stop = streamed(b"S", (9, 4), (1, 1)), streamed(b"E")
    rows = [inside(RELATION, 9), inside(insert(b"1"), 9), inside(insert(b"2"), 10)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(start, *rows)
        await pulled.take(keep_alive(400))
        assert pulled.delivery.progress.safe_lsn == 0, "its rows have not been delivered"
        await pulled.take(stop)
        assert pulled.status.spooled_bytes > 0
        assert pulled.outlet.published == []
        await pulled.take(streamed(b"A", (9, 4), (10, 4)))
        pulled.due = {500}
        await pulled.take(streamed(b"c", (9, 4), (0, 1), (500, 8), (501, 8), (0, 8)))
        assert pulled.outlet.topics() == [b"event/1"]
        assert pulled.looks == [0]
        assert (pulled.status.spooled_bytes, pulled.status.delivered) == (0, 501)
        assert list(pulled.status.delivered_xids) == [9]
        await pulled.take(keep_alive(600))
        assert pulled.delivery.progress.safe_lsn == 600
        nursery.cancel_scope.cancel()


async def test_nobody_looks_before_a_streamed_transaction_where_that_is_not_due(
    autojump_clock: MockClock,
) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(
            streamed(b"S", (9, 4), (1, 1)), inside(RELATION, 9), inside(insert(b"1"), 9), streamed(b"E")
        )
        await pulled.take(streamed(b"c", (9, 4), (0, 1), (500, 8), (501, 8), (0, 8)))
        assert (pulled.outlet.topics(), pulled.looks, pulled.described) == ([b"event/1"], [], [True])
        nursery.cancel_scope.cancel()


async def test_of_interleaved_streamed_transactions_each_is_delivered_at_its_own_commit(
    autojump_clock: MockClock,
) -> None:
    pulled = Pulled()

    def piece(xid: int, first: int, *numbers: bytes) -> list[bytes]:
        rows = [inside(insert(number), xid) for number in numbers]
        return [
            streamed(b"S", (xid, 4), (first, 1)),
            *([inside(RELATION, xid)] if first else []),
            *rows,
            streamed(b"E"),
        ]

    def committed(xid: int, lsn: int) -> bytes:
        return streamed(b"c", (xid, 4), (0, 1), (lsn, 8), (lsn + 1, 8), (0, 8))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(*piece(9, 1, b"1"), *piece(11, 1, b"2"), *piece(9, 0, b"3"), *piece(13, 1, b"4"))
        spooled = pulled.status.spooled_bytes
        await pulled.take(begin(400), RELATION, insert(b"5"), commit(400), committed(11, 500))
        assert pulled.outlet.topics() == [b"event/5", b"event/2"]
        assert 0 < pulled.status.spooled_bytes < spooled
        await pulled.take(streamed(b"A", (13, 4), (13, 4)), committed(9, 600))
        assert pulled.outlet.topics()[2:] == [b"event/1", b"event/3"]
        assert (pulled.status.spooled_bytes, pulled.status.delivered) == (0, 601)
        nursery.cancel_scope.cancel()


async def test_what_has_not_committed_is_forgotten_with_the_connection(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(streamed(b"S", (9, 4), (1, 1)), inside(RELATION, 9), streamed(b"E"))
        nursery.cancel_scope.cancel()
    assert pulled.status.spooled_bytes > 0
    pulled.stream.close()
    assert pulled.status.spooled_bytes == 0


def nameless_files() -> list[str]:
    """What this process has open that has no name any more, as spools have none."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if name.endswith("(deleted)")]


async def test_spools_are_given_up_with_the_connection(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    before = len(nameless_files())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(streamed(b"S", (9, 4), (1, 1)), inside(RELATION, 9), streamed(b"E"))
        nursery.cancel_scope.cancel()
    assert len(nameless_files()) == before + 1
    pulled.stream.close()
    assert len(nameless_files()) == before


async def test_a_spool_is_given_up_when_its_transaction_is_delivered(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    before = len(nameless_files())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(
            streamed(b"S", (9, 4), (1, 1)), inside(RELATION, 9), inside(insert(b"1"), 9), streamed(b"E")
        )
        assert len(nameless_files()) == before + 1
        await pulled.take(streamed(b"c", (9, 4), (0, 1), (500, 8), (501, 8), (0, 8)))
        assert (pulled.outlet.topics(), len(nameless_files())) == ([b"event/1"], before)
        nursery.cancel_scope.cancel()


async def test_an_empty_message_inside_of_a_stream_ends_the_connection(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.send(streamed(b"S", (9, 4), (1, 1)), data(b""))
    with pytest.raises(psycopg.DataError, match="an empty message"):
        await pulled.stream.pull()


async def test_the_end_of_wal_is_read_to_its_last_bit(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await pulled.take(begin(100), data(RELATION[25:], 0xFEDC_BA98_7654_3210))
        assert pulled.stream.wal_end == 0xFEDC_BA98_7654_3210
        await pulled.take(data(commit(100)[25:], 0xFEDC_BA98_7654_3211), streamed(b"S", (9, 4), (1, 1)))
        await pulled.take(data(inside(RELATION, 9)[25:], 0xFEDC_BA98_7654_3212))
        assert pulled.stream.wal_end == 0xFEDC_BA98_7654_3212
        nursery.cancel_scope.cancel()


class Ended:
    """A result that says why the server ends the stream, as libpq has it in any version of psycopg."""

    error_message = b"terminating walsender process"

    def get_error_message(self, encoding: str = "utf-8") -> str:
        return self.error_message.decode(encoding)

    def error_field(self, field: int) -> bytes | None:
        return b"57P01" if field == DiagnosticField.SQLSTATE else None


async def test_a_server_that_says_why_it_ends_the_stream_is_quoted(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.send(begin(100), RELATION, insert(b"1"), commit(100))
    pulled.server.end(result=True)
    pulled.server.result = Ended()
    with pytest.raises(psycopg.errors.AdminShutdown, match="terminating walsender process"):
        await pulled.stream.pull()
    assert pulled.outlet.topics() == [b"event/1"]


async def test_a_result_without_an_error_is_an_end_like_any_other(autojump_clock: MockClock) -> None:
    pulled = Pulled()
    pulled.server.end(result=True)
    with pytest.raises(psycopg.OperationalError, match="the server ended the replication"):
        await pulled.stream.pull()


class Narrow(Collector):
    """An outlet that has room once `room` is set."""

    ends_other_readers = False

    def __init__(self) -> None:
        super().__init__()
        self.room = trio.Event()

    async def until_room(self) -> None:
        await self.room.wait()


async def test_nothing_is_read_while_the_outlet_has_no_room(autojump_clock: MockClock) -> None:
    outlet = Narrow()
    pulled = Pulled(outlet=outlet)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulled.stream.pull)
        await wait_all_tasks_blocked()
        await pulled.take(begin(100), RELATION, insert(b"1"), commit(100))
        assert outlet.published == []
        outlet.room.set()
        await wait_all_tasks_blocked()
        assert outlet.topics() == [b"event/1"]
        nursery.cancel_scope.cancel()


class Strained(Collector):
    """An outlet whose readers have caught up at second 1, having more before them than they should."""

    is_strained = True

    def awaits_readers(self, now: float) -> bool:
        return now < 1.0


async def test_readers_that_are_behind_catch_up_between_two_rows(autojump_clock: MockClock) -> None:
    outlet = Strained()
    pulled = Pulled(outlet=outlet)
    times: list[float] = []
    outlet.on_publish = lambda published: times.append(trio.current_time())
    pulled.server.send(begin(100), RELATION, insert(b"1"), insert(b"2"), commit(100))
    with trio.move_on_at(5.0):
        await pulled.stream.pull()
    assert outlet.topics() == [b"event/1", b"event/2"]
    assert 1.0 <= times[0] < 2.0


async def test_readers_that_are_behind_catch_up_between_rows_of_a_spool(autojump_clock: MockClock) -> None:
    outlet = Strained()
    pulled = Pulled(outlet=outlet)
    times: list[float] = []
    outlet.on_publish = lambda published: times.append(trio.current_time())
    outlet.is_strained = False
    pulled.server.send(
        streamed(b"S", (9, 4), (1, 1)),
        inside(RELATION, 9),
        inside(insert(b"1"), 9),
        inside(insert(b"2"), 9),
        streamed(b"E"),
    )
    with trio.move_on_at(0.5):
        await pulled.stream.pull()
    outlet.is_strained = True
    pulled.server.send(streamed(b"c", (9, 4), (0, 1), (500, 8), (501, 8), (0, 8)))
    with trio.move_on_at(5.0):
        await pulled.stream.pull()
    assert outlet.topics() == [b"event/1", b"event/2"]
    assert 1.0 <= times[0] < 2.0
