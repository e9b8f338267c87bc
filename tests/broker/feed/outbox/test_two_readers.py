"""Two processes with one configuration, a new container beside the old one: each gets every row from its start on."""

from __future__ import annotations

import pytest
import trio
from support.feeds import Running, running
from support.installed import connect, feed_config, install

from broker.config.feeds import FeedConfig
from broker.feed.supervise import supervise

pytestmark = pytest.mark.usefixtures("short_pauses")


def insert(config: FeedConfig, first: int, last: int) -> None:
    with connect(config.dsn) as connection:
        connection.execute(
            "INSERT INTO event SELECT n, 'x' FROM generate_series(%s::bigint, %s) n", [first, last]
        )


def topics(first: int, last: int) -> list[bytes]:
    return [b"event/%d" % number for number in range(first, last + 1)]


async def test_old_and_new_process_at_once(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database, "outbox")
    install(config)
    new = Running(config)
    async with trio.open_nursery() as nursery:
        async with running(config) as old:
            insert(config, 1, 3)
            await old.outlet.until(3)
            nursery.start_soon(supervise, config, new.outlet, new.status)
            await new.until_live()
            insert(config, 4, 6)
            await old.outlet.until(6)
            await new.outlet.until(3)
        insert(config, 7, 9)
        await new.outlet.until(6)
        assert new.outlet.topics() == topics(4, 9)
        with connect(database) as connection:  # the new one has lost its connection, and goes on
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        insert(config, 10, 12)
        await new.outlet.until(9)
        nursery.cancel_scope.cancel()
    assert old.outlet.topics() == topics(1, 6)
    assert new.outlet.topics() == topics(4, 12)
    async with running(config) as third:
        insert(config, 13, 14)
        await third.outlet.until(2)
    assert third.outlet.topics() == topics(13, 14)
    assert [feed.status.gaps for feed in (old, new, third)] == [0, 0, 0]
