"""What a feed has in its database is dropped and made anew while no process reads: the next one knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from support.feeds import running
from support.installed import connect, feed_config, install, slots_released, sql
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.setup.install import remove_steps
from broker.feed.wal import feed as wal_feed

pytestmark = pytest.mark.usefixtures("short_pauses")

DROP_SLOT = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"


def made(database: str, kind: str) -> FeedConfig:
    config = feed_config(database, kind)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    return config


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_schema_that_was_dropped_and_installed_anew_is_a_gap(database: str, kind: str) -> None:
    config = made(database, kind)
    async with running(config) as feed:
        assert feed.status.gaps == 0
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    sql(config, "DROP SCHEMA rowcast CASCADE", "INSERT INTO event VALUES (2, 'lost')")
    install(config)
    install(config)
    async with running(config) as feed:
        assert "schema rowcast was dropped" in await feed.outlet.gap()
    async with running(config) as feed:
        assert feed.status.gaps == 0


async def test_outbox_that_is_made_anew_beneath_a_running_feed_is_a_gap(database: str) -> None:
    config = made(database, "outbox")
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(config, "DROP SCHEMA rowcast CASCADE", "INSERT INTO event VALUES (2, 'lost')")
        install(config)
        sql(
            config,
            "INSERT INTO event VALUES (3, 'c')",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowcast'",
        )
        await feed.outlet.gap()


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_feed_that_was_removed_begins_without_a_gap(database: str, kind: str) -> None:
    config = made(database, kind)
    async with running(config):
        pass
    await slots_released(database)
    sql(config, *(step.statement for step in remove_steps(config, drop_schema=True)))
    install(config)
    async with running(config) as feed:
        assert feed.status.gaps == 0


@pytest.mark.parametrize("cure", ["install", "by hand"])
async def test_slot_that_somebody_made_anew_is_a_gap(database: str, cure: str) -> None:
    config = made(database, "wal")
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        with connect(config.dsn) as connection:
            slot = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchone()
    assert slot is not None
    await slots_released(database)
    sql(config, DROP_SLOT, "INSERT INTO event VALUES (2, 'lost')")
    if cure == "install":
        install(config)
    else:
        sql(config, f"SELECT pg_create_logical_replication_slot('{slot[0]}', 'pgoutput')")
    async with running(config) as feed:
        assert slot[0] in await feed.outlet.gap()
    async with running(config) as feed:
        assert feed.status.gaps == 0


@contextmanager
def all_connections_taken(dsn: str) -> Iterator[None]:
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(connect(dsn))
            except psycopg.OperationalError:
                break
        yield


async def test_feed_goes_on_while_the_server_has_no_connection_to_spare(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(wal_feed, "CONNECT_PAUSE_S", 0.1)
    config = made(database, "wal")
    async with running(config) as feed:
        with connect(config.dsn) as connection:
            with all_connections_taken(config.dsn):
                await until(lambda: "looking" in feed.status.troubles)
                connection.execute("INSERT INTO event VALUES (1, 'a')")
                await feed.outlet.until(1)
            await until(lambda: "looking" not in feed.status.troubles)
        assert (feed.status.reconnects, feed.status.gaps) == (0, 0)
