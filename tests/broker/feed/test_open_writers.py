"""What was written while a capture was out of order and commits when it is right again is announced, too."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from support.feeds import Running, running
from support.installed import connect, feed_config, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.outbox import feed as outbox_feed
from broker.feed.wal import feed as wal_feed

pytestmark = pytest.mark.usefixtures("short_pauses")

DEFINITION = "SELECT pg_get_functiondef('rowcast.outbox_capture()'::regprocedure)"
IDLE = (
    "CREATE OR REPLACE FUNCTION rowcast.outbox_capture() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NULL; END $$"
)
Act = Callable[[FeedConfig], None]


def spoil(config: FeedConfig) -> None:
    """Without a lock that waits for writers."""
    sql(config, IDLE if config.kind == "outbox" else "ALTER PUBLICATION rowcast_test DROP TABLE event")


def by_hand(config: FeedConfig) -> Act:
    if config.kind == "wal":
        return lambda config: sql(config, "ALTER PUBLICATION rowcast_test ADD TABLE event")
    with connect(config.dsn) as connection:
        (definition,) = connection.execute(DEFINITION).fetchone() or ("",)
    return lambda config: sql(config, definition)


@pytest.fixture(params=["wal", "outbox"])
def config(database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FeedConfig:
    monkeypatch.setattr(outbox_feed, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.1)
    config = feed_config(database, request.param)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    return config


async def settled(feed: Running, config: FeedConfig, number: int) -> None:
    """A row has come that was written behind the gap for what was put right."""
    await until(lambda: not feed.status.troubles)
    sql(config, f"INSERT INTO event VALUES ({number}, 'settled')")
    await until(lambda: f"event/{number}".encode() in feed.outlet.topics())


@pytest.mark.parametrize("cure", ["installed", "by hand"])
@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("how", ["COMMIT", "PREPARE"])
async def test_writer_who_commits_behind_the_gap_is_one_more(
    config: FeedConfig, cure: str, noticed: bool, how: str
) -> None:
    put_right = install if cure == "installed" else by_hand(config)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        with psycopg.connect(config.dsn) as writer:
            spoil(config)
            writer.execute("INSERT INTO event VALUES (2, 'lost')")
            if noticed:
                await until(lambda: bool(feed.status.troubles))
            put_right(config)
            await until(lambda: feed.status.gaps > noticed)
            await settled(feed, config, 3)
            gaps = feed.status.gaps
            await settled(feed, config, 4)
            assert feed.status.gaps == gaps  # nothing more is lost while the writer is open
            if how == "PREPARE":
                writer.execute("PREPARE TRANSACTION 'later'")
                writer.autocommit = True
                await settled(feed, config, 5)
                assert feed.status.gaps == gaps
                writer.execute("COMMIT PREPARED 'later'")
            else:
                writer.commit()
        seen: list[int] = []
        feed.outlet.on_publish = lambda published: seen.append(feed.status.gaps)
        sql(config, "INSERT INTO event VALUES (6, 'behind it')")
        await until(lambda: b"event/6" in feed.outlet.topics())
        assert seen[-1] == gaps + 1
        await settled(feed, config, 7)
        assert feed.status.gaps == gaps + 1
        # Whether the WAL's is lost depends on what the server has decoded before.
        assert config.kind == "wal" or b"event/2" not in feed.outlet.topics()


async def test_next_process_goes_on_waiting_for_the_writer(config: FeedConfig) -> None:
    with psycopg.connect(config.dsn) as writer:
        async with running(config) as feed:
            spoil(config)
            writer.execute("INSERT INTO event VALUES (2, 'lost')")
            await until(lambda: bool(feed.status.troubles))
            install(config)
            await settled(feed, config, 3)
        async with running(config) as feed:
            await settled(feed, config, 4)
            assert feed.status.gaps == 0
        writer.commit()
    async with running(config) as feed:
        assert feed.status.gaps == 1
    async with running(config) as feed:
        assert feed.status.gaps == 0


async def test_writer_who_has_not_written_yet_is_waited_for(config: FeedConfig) -> None:
    """It may have looked up what captures before that was put right, and have no transaction id yet."""
    with psycopg.connect(config.dsn) as writer:
        async with running(config) as feed:
            spoil(config)
            writer.execute("UPDATE event SET note = 'x' WHERE false")
            await until(lambda: bool(feed.status.troubles))
            install(config)
            await settled(feed, config, 3)
            gaps = feed.status.gaps
            writer.commit()
            await settled(feed, config, 4)
            assert feed.status.gaps == gaps + 1


async def test_writers_of_other_tables_are_not_waited_for(config: FeedConfig) -> None:
    sql(config, "CREATE TABLE other (id bigint)")
    with psycopg.connect(config.dsn) as writer:
        writer.execute("INSERT INTO other VALUES (1)")
        async with running(config) as feed:
            spoil(config)
            await until(lambda: bool(feed.status.troubles))
            install(config)
            await settled(feed, config, 3)
            gaps = feed.status.gaps
            writer.commit()
            await settled(feed, config, 4)
            assert feed.status.gaps == gaps


async def test_what_was_lost_before_the_first_row_of_a_connection_is_a_gap_before_it(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_feed, "LOOK_INTERVAL_S", 3600.0)
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 3600.0)
    gaps: list[int] = []
    async with running(config) as feed:
        feed.outlet.on_publish = lambda published: gaps.append(len(feed.outlet.announced))
        put_right = by_hand(config)
        spoil(config)
        sql(config, "INSERT INTO event VALUES (1, 'lost')")
        put_right(config)
        sql(config, "INSERT INTO event VALUES (2, 'a')")
        await feed.outlet.until(1)
    assert feed.outlet.topics() == [b"event/2"]
    assert gaps[0] > 0
