"""A place in rowcast.feed that somebody moves while Rowcast is away is a gap."""

from __future__ import annotations

import pytest
from support.feeds import running
from support.installed import TELLS_OF_EVENTS, event_config, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.sealed import BROKEN

pytestmark = pytest.mark.usefixtures("short_pauses")

FORWARD = {
    "wal": "UPDATE rowcast.feed SET read_seq = pg_current_wal_lsn() - '0/0'",
    "outbox": "UPDATE rowcast.feed SET read_seq = (SELECT last_value FROM rowcast.outbox_seq)",
    "listen": "UPDATE rowcast.feed SET marks = replace(marks::text, '\"1\"', '\"2\"')::jsonb",
}


@pytest.fixture(params=FORWARD)
def config(database: str, request: pytest.FixtureRequest) -> FeedConfig:
    config = event_config(request.param, database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    if config.kind == "listen":
        sql(config, TELLS_OF_EVENTS)
    install(config)
    return config


async def test_place_that_is_moved_forward_is_one_gap(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    sql(config, "INSERT INTO event VALUES (2, 'skipped')", FORWARD[config.kind])
    async with running(config) as feed:
        assert BROKEN in await feed.outlet.gap()
        sql(config, "INSERT INTO event VALUES (3, 'b')")
        await until(lambda: b"event/3" in feed.outlet.topics())
    for _ in range(2):  # said once
        async with running(config) as feed:
            assert feed.status.gaps == 0


async def test_place_that_is_left_alone_is_none(config: FeedConfig) -> None:
    for number in range(3):
        async with running(config) as feed:
            sql(config, f"INSERT INTO event VALUES ({number}, 'a')")
            await feed.outlet.until(1)
            assert feed.status.gaps == 0
        install(config)


async def test_table_of_an_earlier_version_has_no_seal(config: FeedConfig) -> None:
    sql(config, "ALTER TABLE rowcast.feed DROP COLUMN sealed")
    for number in range(2):
        async with running(config) as feed:
            sql(config, f"INSERT INTO event VALUES ({number}, 'a')")
            await feed.outlet.until(1)
            assert feed.status.gaps == 0
    install(config)
    for number in range(2, 4):
        async with running(config) as feed:
            sql(config, f"INSERT INTO event VALUES ({number}, 'a')")
            await feed.outlet.until(1)
            assert feed.status.gaps == 0
