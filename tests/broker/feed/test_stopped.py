"""A stop that is in order repeats nothing, also where the server is slow or has ended the session of the place."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import trio
from support.feeds import Running, running
from support.installed import TELLS_OF_EVENTS, connect, event_config, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.wal import confirming

pytestmark = pytest.mark.usefixtures("short_pauses")


def installed(kind: str, database: str) -> FeedConfig:
    config = event_config(kind, database)
    sql(database, "CREATE TABLE event (id bigint PRIMARY KEY)")
    if kind == "listen":
        sql(database, TELLS_OF_EVENTS)
    install(config)
    return config


async def row(feed: Running, number: int) -> None:
    sql(feed.config, f"INSERT INTO event VALUES ({number})")
    await feed.outlet.until(number)


async def nothing_comes_again(config: FeedConfig, number: int) -> None:
    """The next process gets what is written now, and nothing from before."""
    async with running(config) as feed:
        sql(config, f"INSERT INTO event VALUES ({number})")
        await feed.outlet.until(1)
        assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/%d" % number], 0)


async def let_go(holder: psycopg.Connection[Any], config: FeedConfig) -> None:
    """When somebody has waited to write the place for longer than a server that says nothing is waited for."""
    waits = """SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND query LIKE '%%rowcast.feed%%' AND clock_timestamp() - query_start > %s * interval '1 s')"""
    with connect(config.dsn) as connection:
        await until(lambda: connection.execute(waits, [1.5 * config.check_timeout_s]).fetchone() == (True,))
    holder.rollback()


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_a_server_that_is_slow_to_keep_the_place_is_waited_for(kind: str, database: str) -> None:
    """For as long as last words may last, however soon a server that says nothing is given up while a feed runs."""
    config = installed(kind, database)
    with psycopg.connect(database) as holder:
        async with trio.open_nursery() as nursery:
            async with running(config) as feed:
                holder.execute("LOCK TABLE rowcast.feed IN SHARE ROW EXCLUSIVE MODE")
                await row(feed, 1)
                nursery.start_soon(let_go, holder, config)
            nursery.cancel_scope.cancel()
    await nothing_comes_again(config, 2)


async def test_the_place_is_kept_though_its_session_was_ended(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "KEEP_INTERVAL_S", 600.0)
    config = installed("wal", database)
    async with running(config) as feed:
        await row(feed, 1)
        keeping = "FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%INSERT INTO rowcast.feed%'"
        with connect(database) as connection:
            await until(lambda: connection.execute(f"SELECT 1 {keeping}").fetchone() is not None)
            await row(feed, 2)
            connection.execute(f"SELECT pg_terminate_backend(pid, 60000) {keeping}")
    await nothing_comes_again(config, 3)
