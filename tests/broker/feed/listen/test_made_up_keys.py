"""Notifications whose keys no row can have: whoever may say NOTIFY may send them, and the feed goes on all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.feeds import Running, running
from support.polling import until

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.driver.connection import TrioConnection

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

SCHEMA = """
CREATE TABLE numbered (id int8 PRIMARY KEY, name text);
CREATE TABLE named (id text PRIMARY KEY, name text);
CREATE TABLE worded (id tsvector PRIMARY KEY, name text);
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify(TG_TABLE_NAME, row_to_json(NEW)::text); RETURN NULL; END $$;
CREATE TRIGGER t AFTER INSERT ON numbered FOR EACH ROW EXECUTE FUNCTION notify_row();
CREATE TRIGGER t AFTER INSERT ON named FOR EACH ROW EXECUTE FUNCTION notify_row();
CREATE TRIGGER t AFTER INSERT ON worded FOR EACH ROW EXECUTE FUNCTION notify_row();
"""


def config_of(dsn: str, table: str) -> FeedConfig:
    return FeedConfig(
        name="test",
        dsn=dsn,
        sources=(Source("rows", (table,)),),
        routes=(Route("rows", ("row/{name}",), kind=table),),
        recoveries=(Recovery(f"public.{table}", ("id",), (("rows", table),)),),
    )


@pytest.fixture
async def writer(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(SCHEMA)
        yield connection


async def lose_the_connection(writer: TrioConnection, feed: Running) -> None:
    await writer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'rowcast'"
    )
    await feed.until_live(reconnects=feed.status.reconnects + 1)


async def insert(writer: TrioConnection, table: str, key: str, name: str) -> None:
    await writer.execute(f"INSERT INTO {table} VALUES (%s, %s)", [key, name])


async def until_came(feed: Running, *names: str) -> None:
    wanted = [f"row/{name}".encode() for name in names]
    await until(lambda: [topic for topic in feed.outlet.topics() if topic in wanted] == wanted)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        pytest.param("numbered", '"sNaN"', id="signaling-nan"),
        pytest.param("numbered", '"1_000"', id="underscores"),
        pytest.param("named", '"z\\ud800"', id="half-of-a-pair"),
        pytest.param("named", '"z\\u0000"', id="nul"),
    ],
)
async def test_a_key_that_is_none_moves_no_place(
    database: str, writer: TrioConnection, table: str, key: str
) -> None:
    async with running(config_of(database, table)) as feed:
        await insert(writer, table, "1", "first")
        await writer.execute("SELECT pg_notify(%s, %s)", [table, f'{{"id":{key},"name":"made_up"}}'])
        await until_came(feed, "first", "made_up")
        await lose_the_connection(writer, feed)
        await insert(writer, table, "2", "second")
        await until_came(feed, "first", "made_up", "second")
    assert feed.status.gaps == 0


@pytest.mark.parametrize(
    ("table", "key"),
    [
        pytest.param("numbered", "99999999999999999999", id="too-large"),
        pytest.param("worded", '"\'z"', id="an-error-of-syntax-says-postgres"),
    ],
)
async def test_a_key_beyond_its_type_costs_a_gap_and_not_the_feed(
    database: str, writer: TrioConnection, table: str, key: str
) -> None:
    async with running(config_of(database, table)) as feed:
        await writer.execute("SELECT pg_notify(%s, %s)", [table, f'{{"id":{key},"name":"made_up"}}'])
        await until_came(feed, "made_up")
        await lose_the_connection(writer, feed)
        await insert(writer, table, "1", "first")
        await lose_the_connection(writer, feed)
        await insert(writer, table, "2", "second")
        await until_came(feed, "made_up", "first", "second")
    assert feed.status.gaps == 1
    gap = feed.status.last_gap
    assert gap is not None
    assert gap.reason.startswith(f"public.{table}: ")
