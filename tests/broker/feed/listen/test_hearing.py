"""How a connection is listened to: past libpq where it can be, and the same from outside."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.listen.hearing import ByLibpq, BySocket, hearing_of


@pytest.fixture
def config(database: str) -> FeedConfig:
    return FeedConfig("test", database, check_interval_s=0.1, check_timeout_s=60.0)


async def test_a_plain_connection_is_read_past_libpq(config: FeedConfig) -> None:
    async with connected(config) as connection:
        assert isinstance(await hearing_of(connection, 1.0), BySocket)


async def test_an_encrypted_connection_is_read_by_libpq(config: FeedConfig) -> None:
    class Encrypted:
        ssl_in_use = True
        notify_handler: Any = None

    async with connected(config) as connection:
        kept, connection.pgconn = connection.pgconn, Encrypted()  # type: ignore[assignment]
        assert isinstance(await hearing_of(connection, 1.0), ByLibpq)
        connection.pgconn = kept


@pytest.mark.parametrize("way", [BySocket, ByLibpq])
async def test_a_refusal_is_raised_as_what_it_is(way: Any, config: FeedConfig) -> None:
    async with connected(config) as connection:
        hearing = way(connection)
        with pytest.raises(psycopg.errors.SyntaxError, match="syntax error"):
            await hearing.execute("LISTEN TO ME")
        await hearing.execute("LISTEN news")
        assert hearing.is_answered
