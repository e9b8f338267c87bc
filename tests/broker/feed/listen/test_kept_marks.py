"""How far a `listen` feed got outlives its process, where it may be kept."""

from __future__ import annotations

import pytest
from support.feeds import running
from support.installed import connect, install
from support.polling import until

from broker.config.feeds import FeedConfig, Recovery, Route, Source


@pytest.fixture
def config(database: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("""
            CREATE TABLE event (at timestamptz NOT NULL, id numeric(39) NOT NULL, PRIMARY KEY (at, id));
            CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('event', row_to_json(NEW)::text); RETURN NULL; END $$;
            CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell();
        """)
    return FeedConfig(
        name="test",
        dsn=database,
        sources=(Source("events", ("event",)),),
        routes=(Route("events", ("event/{id}",)),),
        recoveries=(Recovery("public.event", ("at", "id"), (("events", "event"),)),),
    )


def insert(config: FeedConfig, *numbers: int) -> None:
    with connect(config.dsn) as connection:
        for number in numbers:
            connection.execute(f"INSERT INTO event VALUES ('2026-01-01 00:00:00.5Z', {number})")


async def test_rows_committed_between_two_processes_are_read_again_once(config: FeedConfig) -> None:
    install(config)
    insert(config, 1)
    async with running(config) as feed:
        insert(config, 2, 10**38)
        await feed.sink.until(2)
    insert(config, 10**38 + 1, 10**38 + 2)
    async with running(config) as again:
        insert(config, 10**38 + 3)
        await again.sink.until(3)
    assert feed.sink.topics() == [b"event/2", b"event/%d" % 10**38]
    assert again.sink.topics() == [b"event/%d" % (10**38 + number) for number in (1, 2, 3)]


async def test_table_that_was_empty_is_read_again_from_its_first_row(config: FeedConfig) -> None:
    install(config)
    async with running(config):
        pass
    insert(config, 1, 2)
    async with running(config) as feed:
        await feed.sink.until(2)
    assert feed.sink.topics() == [b"event/1", b"event/2"]


async def test_marks_are_kept_while_live(config: FeedConfig) -> None:
    install(config)
    async with running(config) as feed:
        insert(config, 7)
        await feed.sink.until(1)
        with connect(config.dsn) as connection:
            query = "SELECT marks->0->2->>1 FROM rowcast.feed WHERE name = 'test'"
            await until(lambda: connection.execute(query).fetchone() == ("7",))


async def test_without_an_installation_the_feed_begins_at_now(config: FeedConfig) -> None:
    async with running(config) as feed:
        insert(config, 1)
        await feed.sink.until(1)
    insert(config, 2)
    async with running(config) as again:
        insert(config, 3)
        await again.sink.until(1)
    assert again.sink.topics() == [b"event/3"]
