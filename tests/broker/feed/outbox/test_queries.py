"""What the outbox is asked: transactions by their numbers, in parts, and whose database it is."""

from __future__ import annotations

import re

import psycopg
import pytest
from support.installed import connect, sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady
from broker.feed.outbox import feed as outbox
from broker.feed.outbox import queries
from broker.feed.outbox.queries import NEXT, REST


def test_large_transaction_is_read_in_parts_without_looking_at_it_whole(config: FeedConfig) -> None:
    sql(
        config,
        "BEGIN; INSERT INTO event SELECT n, 'a' FROM generate_series(1, 5000) n; COMMIT",
        "INSERT INTO event VALUES (0, 'small')",
    )
    parameters = {"seq": 1, "id": 2500, "limit": 500, "rows": 100, "awaited": ["1", "2"]}
    for query, seq in ((NEXT, 0), (REST, 1)):
        with psycopg.connect(config.dsn) as connection:
            connection.execute(outbox.SETTINGS.encode())
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode()
            plan = connection.execute(explain, {**parameters, "seq": seq}).fetchall()
        looked_at = re.findall(r"'Actual Rows': (\d+)", str(plan))
        assert looked_at
        assert max(map(int, looked_at)) <= 102


async def ids(connection: TrioConnection, query: str, **given: int) -> list[tuple[int, int]]:
    """Number and row of each that a query gives."""
    parameters = {"seq": 0, "id": 0, "limit": 500, "rows": 100, "awaited": [], **given}
    return [row[:2] for row in await (await connection.execute(query, parameters)).fetchall()]


async def test_transactions_come_by_their_numbers_and_rows_in_their_order(
    config: FeedConfig, connection: TrioConnection
) -> None:
    assert await queries.last_number(connection) == 0
    sql(config, "BEGIN; INSERT INTO event VALUES (1), (2), (3); COMMIT", "INSERT INTO event VALUES (4)")
    assert await queries.last_number(connection) == 2
    every = await ids(connection, NEXT)
    assert [seq for seq, _ in every] == [1, 1, 1, 2]
    assert every == sorted(every)
    assert await ids(connection, NEXT, seq=1) == every[3:]
    assert await ids(connection, NEXT, limit=1) == every[:3]
    assert await ids(connection, NEXT, rows=2) == every[:2]
    assert await ids(connection, REST, seq=1, id=every[0][1]) == every[1:3]
    assert await ids(connection, REST, seq=1, id=every[0][1], rows=1) == every[1:2]
    assert await queries.xid_of(connection, 1) != ""
    assert await queries.xid_of(connection, 3) == ""


async def test_the_place_is_that_of_the_feed_that_is_named(
    config: FeedConfig, connection: TrioConnection
) -> None:
    sql(
        config,
        "UPDATE rowcast.feed SET read_seq = 5, read_id = 7",
        "UPDATE rowcast.outbox_pruned SET seq = 3",
    )
    assert await queries.saved_position(connection, "test") == (5, 7, 3)
    with pytest.raises(NotReady, match="the outbox is not installed"):
        await queries.saved_position(connection, "another")
    sql(config, "DELETE FROM rowcast.outbox_pruned")
    with pytest.raises(NotReady, match=r"rowcast\.outbox_pruned is empty"):
        await queries.saved_position(connection, "test")
    sql(config, "DROP TABLE rowcast.feed CASCADE")
    with pytest.raises(NotReady, match="the outbox is not installed"):
        await queries.saved_position(connection, "test")


@pytest.mark.parametrize(("pruned", "read", "is_overtaken"), [(3, 3, False), (4, 3, True), (0, 3, False)])
async def test_who_has_not_read_what_was_pruned_is_overtaken(
    config: FeedConfig, connection: TrioConnection, pruned: int, read: int, is_overtaken: bool
) -> None:
    sql(config, f"UPDATE rowcast.outbox_pruned SET seq = {pruned}")
    assert await queries.is_overtaken(connection, read) == is_overtaken


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE event DISABLE TRIGGER rowcast_capture",
        "ALTER TABLE event RENAME TO other",
        "DROP TRIGGER rowcast_capture ON event",
        "CREATE TRIGGER odd BEFORE INSERT ON rowcast.outbox FOR EACH ROW EXECUTE FUNCTION odd()",
        "CREATE RULE odd AS ON INSERT TO rowcast.outbox DO INSTEAD NOTHING",
        "UPDATE rowcast.feed SET owed = 'why'",
    ],
)
async def test_what_touches_the_capture_changes_its_number(
    config: FeedConfig, connection: TrioConnection, statement: str
) -> None:
    sql(config, "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    before = await queries.captures(connection)
    sql(config, "INSERT INTO event VALUES (1)", "CREATE TABLE more (id int)")
    assert await queries.captures(connection) == before
    sql(config, statement)
    assert await queries.captures(connection) != before


async def test_what_an_earlier_version_has_not_is_gone_without(
    config: FeedConfig, connection: TrioConnection
) -> None:
    sql(config, "DROP FUNCTION rowcast.outbox_number_rest() CASCADE")
    await queries.number_prepared(connection)
    sql(config, "DROP SCHEMA rowcast CASCADE")
    assert await queries.captures(connection) == 0


async def test_a_prepared_transaction_gets_its_number_when_it_is_asked_for(
    config: FeedConfig, connection: TrioConnection
) -> None:
    with connect(config.dsn) as writer:
        for statement in ("BEGIN", "INSERT INTO event VALUES (1)", "PREPARE TRANSACTION 'queries'"):
            writer.execute(statement)
        await queries.number_prepared(connection)
        assert await ids(connection, NEXT) == []
        writer.execute("COMMIT PREPARED 'queries'")
    await queries.number_prepared(connection)
    assert len(await ids(connection, NEXT)) == 1


async def test_the_server_is_known_by_its_system_and_timeline(connection: TrioConnection) -> None:
    found = await queries.identify(connection)
    (system,) = await queries.one_row(connection, "SELECT system_identifier::text FROM pg_control_system()")
    assert (found.system_identifier, found.timeline, found.wal_lsn) == (system, 1, 0)


async def test_one_row_is_the_first_or_none(connection: TrioConnection) -> None:
    assert await queries.one_row(connection, "SELECT generate_series(4, 9)") == (4,)
    assert await queries.one_row(connection, "SELECT 1 WHERE false") == ()
    assert await queries.one_row(connection, "SELECT %s::int, %s::int", 1, 2) == (1, 2)
    assert await queries.one_row(connection, "SELECT %(a)s::int", {"a": 5}) == (5,)
    assert await queries.one_row(connection, "SELECT 5 % 3") == (2,)
