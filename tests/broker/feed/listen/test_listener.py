"""What was notified is handed out once and in its order, past libpq and through it, however the connection ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen import listener as listener_module
from broker.feed.listen.hearing import ByLibpq, BySocket
from broker.feed.listen.listener import BATCH_MAX, Listener
from protocol.notifications import Notification


@pytest.fixture(params=[BySocket, ByLibpq])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def chosen(connection: TrioConnection, timeout_s: float) -> Any:
        return request.param(connection)

    monkeypatch.setattr(listener_module, "hearing_of", chosen)
    return request.param


@pytest.fixture
def config(database: str) -> FeedConfig:
    return FeedConfig("test", database, check_interval_s=0.1, check_timeout_s=1.0)


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
        listener = Listener(connection, evolve(config, check_interval_s=0.02))
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
            await until(lambda: asked >= 3)
            nursery.cancel_scope.cancel()
        await notify(writer, "still here")
        assert await next_texts(listener, 1) == [b"still here"]
