"""What the server is told to forget was durable, and kept, before."""

from __future__ import annotations

import pytest
import trio
from support.feeds import running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")


@pytest.fixture
def config(database: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database)
    install(config)
    return config


def sql(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_position_is_confirmed_only_when_durable(config: FeedConfig) -> None:
    async with running(config) as feed:
        held = trio.Event()
        feed.sink.durable = held.wait  # type: ignore[method-assign]
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.sink.until(1)
        await trio.sleep(0.2)
        confirmed = (
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
        )
        with connect(config.dsn) as connection:
            before = connection.execute(confirmed).fetchone()
            held.set()
            await until(lambda: connection.execute(confirmed).fetchone() != before)
