"""What was notified is handed out once and in its order, past libpq and through it, however the connection ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from support.polling import until
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen import listener as listener_module
from broker.feed.listen.hearing import ByLibpq, BySocket
from broker.feed.listen.listener import BATCH_MAX, MUCH, PIECE, Listener
from protocol.notifications import Notification


@pytest.fixture(params=[BySocket, ByLibpq])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def chosen(connection: TrioConnection, timeout_s: float) -> Any:
        return request.param(connection)

    monkeypatch.setattr(listener_module, "hearing_of", chosen)
    return request.param


@pytest.fixture
def config(database: str) -> FeedConfig:
    return FeedConfig("test", database, check_interval_s=0.1, check_timeout_s=60.0)


@pytest.fixture
async def writer(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        yield connection


async def notify(writer: TrioConnection, *texts: str) -> None:
    for text in texts:
        await writer.execute("SELECT pg_notify('news', %s)", [text])


async def next_texts(listener: Listener, count: int) -> list[bytes]:
    found: list[Notification] = []
    with trio.fail_after(60):
        while len(found) < count:
            await listener.wait()
            for some in listener.arrivals():
                found += some
    assert {channel for channel, _ in found} == {b"news"}
    return [text for _, text in found]


async def test_notifications_come_in_their_order(
    way: Any, config: FeedConfig, writer: TrioConnection
) -> None:
    async with connected(config) as connection:
        listener = Listener(connection, config)
        await listener.listen(["news", 'Odd "one"'])
        texts = ["", "é ☃", "x" * 7999, "short"]
        await notify(writer, *texts)
        assert await next_texts(listener, 4) == [text.encode() for text in texts]
        many = 3 * BATCH_MAX
        await writer.execute(
            f"SELECT pg_notify('news', g || repeat('x', 500)) FROM generate_series(1, {many}) g"
        )
        found = await next_texts(listener, many)
        assert [int(text.rstrip(b"x")) for text in found] == list(range(1, many + 1))


async def test_until_now_gives_all_that_was_committed_before(
    way: Any, config: FeedConfig, writer: TrioConnection
) -> None:
    async with connected(config) as connection:
        listener = Listener(connection, config)
        await listener.listen(["news"])
        assert await listener.until_now() == []
        await notify(writer, "1", "2")
        assert [text for _, text in await listener.until_now()] == [b"1", b"2"]
        assert await listener.until_now() == []
        await notify(writer, "3")
        assert await next_texts(listener, 1) == [b"3"]


async def test_what_had_come_before_the_connection_ended_is_the_rest(
    way: Any, config: FeedConfig, writer: TrioConnection
) -> None:
    async with connected(config) as connection:
        listener = Listener(connection, config)
        await listener.listen(["news"])
        await notify(writer, "1", "2")
        await writer.execute("SELECT pg_sleep(0.1)")  # a backend told to end sends nothing more
        await writer.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'rowcast'"
            " AND datname = current_database()"
        )
        found: list[Notification] = []

        async def read_for_ever() -> None:
            while True:
                await listener.wait()
                for some in listener.arrivals():
                    found.extend(some)

        with pytest.raises(psycopg.OperationalError, match=r"terminating connection|closed the connection"):
            await read_for_ever()
        assert [text for _, text in found + listener.rest()] == [b"1", b"2"]
        assert listener.rest() == []


async def test_a_closed_connection_is_read_no_more(way: Any, config: FeedConfig) -> None:
    """Its descriptor may be another file's by now."""
    async with connected(config) as connection:
        listener = Listener(connection, config)
        await listener.listen(["news"])
        await connection.close()
        with pytest.raises(psycopg.OperationalError):
            list(listener.arrivals())
        if way is BySocket:
            assert listener.rest() == []


async def test_a_sign_of_life_is_asked_for_and_is_no_notification(
    way: Any, config: FeedConfig, writer: TrioConnection
) -> None:
    async with connected(config) as connection:
        listener = Listener(connection, evolve(config, check_interval_s=0.02, check_timeout_s=3.0))
        await listener.listen(["news"])
        asked = 0

        async def read() -> None:
            nonlocal asked
            while True:
                await listener.wait()
                assert list(listener.arrivals()) == []
                asked += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.watch)
            nursery.start_soon(read)
            await until(lambda: asked >= 2)
            nursery.cancel_scope.cancel()
        await notify(writer, "still here")
        assert await next_texts(listener, 1) == [b"still here"]


class Heard:
    """A `Hearing` whose reads give what a test says."""

    def __init__(self) -> None:
        self.reads: list[list[Notification]] = []
        self.asked = 0
        self.is_answered = True
        self.is_over = False

    def ask(self, statement: str) -> None:
        self.asked += 1

    def receive(self) -> list[Notification]:
        if self.is_over:
            raise psycopg.OperationalError("ended")
        return self.reads.pop(0) if self.reads else []

    def rest(self) -> list[Notification]:
        return self.reads.pop(0) if self.reads else []


def heard_by() -> tuple[Listener, Heard]:
    listener, heard = Listener(None, FeedConfig("t", "", check_interval_s=10.0, check_timeout_s=5.0)), Heard()  # type: ignore[arg-type]
    hearing: Any = heard
    listener._hearing = hearing
    return listener, heard


def some(first: int, count: int) -> list[Notification]:
    return [(b"c", b"%d" % number) for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("reads", "pieces"),
    [
        ([], []),
        ([1], [1]),
        ([MUCH - 1, 5], [MUCH - 1]),
        ([MUCH, 2, 5], [MUCH, 2]),
        ([MUCH], [MUCH]),
        ([PIECE], [PIECE]),
        ([PIECE + 1], [PIECE, 1]),
        ([2 * PIECE + 3, 1], [PIECE, PIECE, 3, 1]),
        ([BATCH_MAX, 7], [PIECE] * (BATCH_MAX // PIECE) + [BATCH_MAX % PIECE]),
        ([BATCH_MAX - 1, 7, 7], [PIECE] * (BATCH_MAX // PIECE) + [BATCH_MAX % PIECE - 1, 7]),
    ],
)
def test_what_has_arrived_comes_in_pieces_as_long_as_there_is_much(
    reads: list[int], pieces: list[int]
) -> None:
    listener, heard = heard_by()
    starts = [sum(reads[:number]) for number in range(len(reads))]
    heard.reads = [some(start, count) for start, count in zip(starts, reads, strict=True)]
    found = list(listener.arrivals())
    assert [len(piece) for piece in found] == pieces
    assert [one for piece in found for one in piece] == some(0, sum(pieces))


def test_pieces_that_were_not_taken_are_the_rest() -> None:
    listener, heard = heard_by()
    heard.reads = [some(0, 2 * PIECE + 1), some(2 * PIECE + 1, 2)]
    taking = listener.arrivals()
    assert next(taking) == some(0, PIECE)
    taking.close()  # type: ignore[attr-defined]
    assert listener.rest() == some(PIECE, PIECE + 3)
    assert listener.rest() == []


def test_who_has_not_listened_has_heard_nothing() -> None:
    assert Listener(None, FeedConfig("t", "")).rest() == []  # type: ignore[arg-type]


async def test_after_a_silence_a_sign_of_life_is_asked_for_and_waited_for(autojump_clock: MockClock) -> None:
    listener, heard = heard_by()
    began = trio.current_time()
    with pytest.raises(psycopg.OperationalError, match="no sign of life from the server within 5 s"):
        await listener.watch()
    assert trio.current_time() - began == pytest.approx(15.0)
    assert heard.asked == 1


async def test_who_is_heard_is_not_asked(autojump_clock: MockClock) -> None:
    listener, heard = heard_by()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.watch)
        await trio.sleep(0.5)  # it looks every ten seconds; we read between two of its looks
        for _ in range(10):
            list(listener.arrivals())
            await trio.sleep(9)
        assert heard.asked == 0
        await trio.sleep(12)
        assert heard.asked == 1
        list(listener.arrivals())
        await trio.sleep(5)
        nursery.cancel_scope.cancel()


async def test_one_question_is_open_at_a_time(autojump_clock: MockClock) -> None:
    listener, heard = heard_by()
    heard.is_answered = False
    with pytest.raises(psycopg.OperationalError):
        await listener.watch()
    assert heard.asked == 0


async def test_where_nothing_is_read_silence_proves_nothing(autojump_clock: MockClock) -> None:
    listener, heard = heard_by()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.watch)
        with listener.set_aside():
            await trio.sleep(95)
        assert heard.asked == 0
        await trio.sleep(4)
        list(listener.arrivals())
        await trio.sleep(9)
        assert heard.asked == 0
        nursery.cancel_scope.cancel()


async def test_who_was_set_aside_while_it_was_asked_lives(autojump_clock: MockClock) -> None:
    listener, heard = heard_by()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.watch)
        await trio.sleep(12)
        assert heard.asked == 1
        with listener.set_aside():
            await trio.sleep(4)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
