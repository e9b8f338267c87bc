"""What people do to a table while its feed runs: what is committed comes, or it is said that rows may be missing.

Each act is followed by a row, which may come or not; then by an installation, and a row which has to come.
"""

from __future__ import annotations

import json
from typing import Final

import psycopg
import pytest
from attrs import frozen
from support.feeds import running
from support.installed import connect, feed_config, install, sql
from support.polling import until

from broker.config.feeds import Route, Source
from broker.feed.outbox import feed as outbox_feed
from broker.feed.wal import feed as wal_feed
from protocol.pgoutput import parse_lsn

pytestmark = pytest.mark.usefixtures("short_pauses")

PLAIN: Final = ("CREATE TABLE event (id bigint PRIMARY KEY, note text)",)
PARTITIONED: Final = (
    "CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)",
    "CREATE TABLE event_a PARTITION OF event FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE event_b PARTITION OF event FOR VALUES FROM (100) TO (200)",
)
INSERT: Final = "INSERT INTO event VALUES (2, 'x')"


@frozen
class Act:
    """What is done; how the row is written; what puts it right before the installation."""

    table: tuple[str, ...]
    done: tuple[str, ...] = ()
    write: str = INSERT
    undone: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("wal", "outbox")


EVIL: Final = (
    "CREATE SCHEMA evil",
    "CREATE FUNCTION evil.row_to_json(anyelement) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$",
    "CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT 7::bigint $$",
    "CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS $$ SELECT '7'::xid8 $$",
)

ACTS: Final = {
    "another schema": Act(
        PLAIN,
        ("CREATE SCHEMA other", "ALTER TABLE event SET SCHEMA other"),
        "INSERT INTO other.event VALUES (2, 'x')",
        ("ALTER TABLE other.event SET SCHEMA public",),
    ),
    "a view in its place": Act(
        PLAIN,
        ("ALTER TABLE event RENAME TO event_t", "CREATE VIEW event AS SELECT * FROM event_t"),
        undone=("DROP VIEW event", "ALTER TABLE event_t RENAME TO event"),
    ),
    "partitions under their own names": Act(
        PARTITIONED,
        ("ALTER PUBLICATION rowcast_test SET (publish_via_partition_root = false)",),
        kinds=("wal",),
    ),
    "other operations": Act(
        PLAIN, ("ALTER PUBLICATION rowcast_test SET (publish = 'truncate')",), kinds=("wal",)
    ),
    "another row filter": Act(
        PLAIN,
        ("ALTER PUBLICATION rowcast_test SET TABLE event WHERE (id > 100)",),
        undone=("ALTER PUBLICATION rowcast_test SET TABLE event",),
        kinds=("wal",),
    ),
    "the trigger of a partition off": Act(
        PARTITIONED, ("ALTER TABLE event_a DISABLE TRIGGER rowcast_capture",), kinds=("outbox",)
    ),
    "all triggers of a partition off": Act(
        PARTITIONED, ("ALTER TABLE event_a DISABLE TRIGGER ALL",), kinds=("outbox",)
    ),
    "all triggers off for a while": Act(
        PLAIN,
        (
            "ALTER TABLE event DISABLE TRIGGER ALL",
            "INSERT INTO event VALUES (7, 'unseen')",
            "ALTER TABLE event ENABLE TRIGGER ALL",
        ),
        kinds=("outbox",),
    ),
    "the trigger of a partition off for a while": Act(
        PARTITIONED,
        (
            "ALTER TABLE event_a DISABLE TRIGGER ALL",
            "INSERT INTO event VALUES (7, 'unseen')",
            "ALTER TABLE event_a ENABLE TRIGGER ALL",
        ),
        kinds=("outbox",),
    ),
    "a trigger of that name that does something else": Act(
        PLAIN,
        (
            "CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "DROP TRIGGER rowcast_capture ON event",
            "CREATE TRIGGER rowcast_capture AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION idle()",
        ),
        kinds=("outbox",),
    ),
    "a new partition": Act(
        PARTITIONED,
        ("CREATE TABLE event_c PARTITION OF event FOR VALUES FROM (200) TO (300)",),
        "INSERT INTO event_c VALUES (202, 'x')",
    ),
    "an unlogged partition": Act(
        PARTITIONED,
        ("CREATE UNLOGGED TABLE event_c PARTITION OF event FOR VALUES FROM (200) TO (300)",),
        "INSERT INTO event_c VALUES (202, 'x')",
        ("ALTER TABLE event_c SET LOGGED",),
    ),
    "a partition that is unlogged": Act(
        PARTITIONED, ("ALTER TABLE event_a SET UNLOGGED",), undone=("ALTER TABLE event_a SET LOGGED",)
    ),
    "a partition detached and attached again": Act(
        PARTITIONED,
        (
            "ALTER TABLE event DETACH PARTITION event_a",
            "ALTER TABLE event ATTACH PARTITION event_a FOR VALUES FROM (0) TO (100)",
        ),
    ),
    "unlogged": Act(
        PLAIN,
        ("ALTER PUBLICATION rowcast_test DROP TABLE event", "ALTER TABLE event SET UNLOGGED"),
        undone=("ALTER TABLE event SET LOGGED",),
        kinds=("wal",),
    ),
    "the table in an extension": Act(
        PLAIN,
        ("CREATE EXTENSION IF NOT EXISTS hstore", "ALTER EXTENSION hstore ADD TABLE event"),
        undone=("ALTER EXTENSION hstore DROP TABLE event",),
    ),
    "a partition attached, with columns in another order": Act(
        PARTITIONED,
        (
            "CREATE TABLE event_c (note text, gone integer, id bigint PRIMARY KEY)",
            "ALTER TABLE event_c DROP COLUMN gone",
            "ALTER TABLE event ATTACH PARTITION event_c FOR VALUES FROM (200) TO (300)",
        ),
        "INSERT INTO event VALUES (202, 'x')",
    ),
    "a partition detached": Act(PARTITIONED, ("ALTER TABLE event DETACH PARTITION event_b",)),
    "a partition that was away": Act(
        PARTITIONED,
        (
            "ALTER TABLE event DETACH PARTITION event_a",
            "ALTER TABLE event ATTACH PARTITION event_a FOR VALUES FROM (0) TO (100)",
        ),
    ),
    "partitioned meanwhile": Act(
        PLAIN,
        (
            "BEGIN; ALTER TABLE event RENAME TO event_a; ALTER TABLE event_a RENAME CONSTRAINT event_pkey TO key_a;"
            " CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id);"
            " ALTER TABLE event ATTACH PARTITION event_a FOR VALUES FROM (0) TO (1000); COMMIT",
        ),
    ),
    "another type": Act(
        PLAIN, ("ALTER TABLE event ALTER COLUMN id TYPE text",), "INSERT INTO event VALUES ('2', 'x')"
    ),
    "a composite type, a domain over it, and an array of it": Act(
        PLAIN,
        (
            "CREATE TYPE pair AS (a integer, b text[])",
            "CREATE DOMAIN pairs AS pair",
            "ALTER TABLE event ADD p pairs, ADD q pair[]",
        ),
        "INSERT INTO event VALUES (2, 'x', ROW(1, ARRAY['a,b', '\"']), ARRAY[ROW(2, NULL)::pair, NULL])",
    ),
    "a value more of an enum": Act(
        PLAIN,
        (
            "CREATE TYPE mood AS ENUM ('a')",
            "ALTER TABLE event ADD mood mood",
            "ALTER TYPE mood ADD VALUE 'b'",
        ),
        "INSERT INTO event VALUES (2, 'x', 'b')",
    ),
    "an identity": Act(
        PLAIN,
        ("ALTER TABLE event ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 2)",),
        "INSERT INTO event (note) VALUES ('x')",
    ),
    "forced row security": Act(
        PLAIN,
        ("ALTER TABLE event ENABLE ROW LEVEL SECURITY", "ALTER TABLE event FORCE ROW LEVEL SECURITY"),
    ),
    "a writer whose search_path hides the functions that are used": Act(
        PLAIN, EVIL, f"SET search_path = evil, public, pg_catalog; {INSERT}"
    ),
    "a writer without a search_path": Act(
        PLAIN, write="SET search_path = ''; INSERT INTO public.event VALUES (2, 'x')"
    ),
    "a temporary table of the same name": Act(
        PLAIN,
        write="CREATE TEMP TABLE event (id bigint, note text); INSERT INTO event VALUES (9, 'mine');"
        " INSERT INTO public.event VALUES (2, 'x')",
    ),
    "no replica identity": Act(PLAIN, ("ALTER TABLE event REPLICA IDENTITY NOTHING",)),
    "rows that are copied, frozen": Act(
        PLAIN,
        write="BEGIN; TRUNCATE event; COPY event FROM PROGRAM 'echo 2,x' WITH (FORMAT csv, FREEZE); COMMIT",
    ),
    "triggers on that replication does not fire": Act(
        PLAIN,
        ("ALTER TABLE event ENABLE TRIGGER ALL",),
        f"SET session_replication_role = replica; {INSERT}",
        kinds=("outbox",),
    ),
    "prepared behind other statements": Act(
        PLAIN, (f"BEGIN; {INSERT}; PREPARE TRANSACTION 'acts'",), "COMMIT PREPARED 'acts'"
    ),
    "MERGE": Act(
        PLAIN,
        write="MERGE INTO event e USING (SELECT 2 AS id) s ON e.id = s.id"
        " WHEN NOT MATCHED THEN INSERT VALUES (2, 'x')",
    ),
}

CASES: Final = [(kind, name) for name, act in ACTS.items() for kind in act.kinds]


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_a_row_comes_or_rows_may_be_missing(
    database: str, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(outbox_feed, "LOOK_INTERVAL_S", 0.1)
    act = ACTS[name]
    with connect(database) as connection:
        if name == "MERGE" and connection.info.server_version < 150000:
            pytest.skip("MERGE came with PostgreSQL 15")
    sql(database, *act.table)
    config = feed_config(database, kind)
    install(config)
    async with running(config) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'first')")
        await feed.outlet.until(1)
        unseen = any("unseen" in statement for statement in act.done)
        sql(database, *act.done)
        sql(database, act.write)
        await until(lambda: bool(feed.outlet.announced) or (not unseen and len(feed.outlet.published) > 1))
        sql(database, *act.undone)
        while True:
            try:
                install(config)
                break
            except psycopg.errors.LockNotAvailable:
                continue
        last = "'99'" if name == "another type" else "99"
        columns = " OVERRIDING SYSTEM VALUE" if name == "an identity" else ""
        sql(database, f"INSERT INTO event (id, note){columns} VALUES ({last}, 'last')")
        await until(lambda: b"event/99" in feed.outlet.topics())
        await until(lambda: feed.status.state == "live" and not feed.status.troubles)
    came = feed.outlet.topics()
    assert came == list(dict.fromkeys(came))
    assert b"event/9" not in came


@pytest.mark.parametrize("is_stopped", [False, True], ids=["live", "stopped"])
@pytest.mark.parametrize("kind", ["wal", "outbox"])
@pytest.mark.parametrize(
    ("away", "write", "back"),
    [
        ("TABLE event RENAME TO aside", "aside", "TABLE aside RENAME TO event"),
        ("TABLE event SET SCHEMA other", "other.event", "TABLE other.event SET SCHEMA public"),
        ("SCHEMA public RENAME TO aside", "aside.event", "SCHEMA aside RENAME TO public"),
    ],
)
async def test_rows_of_a_table_come_though_it_had_another_name_for_a_while(
    database: str, kind: str, is_stopped: bool, away: str, write: str, back: str
) -> None:
    sql(database, *PLAIN, "CREATE SCHEMA other")
    config = feed_config(database, kind)
    install(config)
    acts = (f"ALTER {away}", f"INSERT INTO {write} VALUES (2, 'x')", f"ALTER {back}")
    async with running(config) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'x')")
        await feed.outlet.until(1)
        if not is_stopped:
            sql(database, *acts, "INSERT INTO event VALUES (3, 'x')")
            await feed.outlet.until(3)
    if is_stopped:
        sql(database, *acts)
        async with running(config) as feed:
            sql(database, "INSERT INTO event VALUES (3, 'x')")
            await feed.outlet.until(2)
    assert feed.outlet.topics()[-2:] == [b"event/2", b"event/3"]
    assert feed.status.gaps == 0


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_the_gap_begins_where_all_was_captured_still(
    database: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of another table come meanwhile, so that the place which was delivered last lies behind what is missing."""
    sql(database, *PLAIN, "CREATE TABLE other (id bigint PRIMARY KEY)")
    tables = Source("tables", (), tables=("public.event", "public.other"))
    config = feed_config(database, kind, sources=(tables,), routes=(Route("tables", ("row/{id}",)),))
    install(config)
    position = (
        "pg_current_wal_lsn()::text"
        if kind == "wal"
        else "(SELECT max(seq)::text FROM rowcast.outbox_commit)"
    )

    def here() -> int:
        with connect(database) as connection:
            (text,) = connection.execute(f"SELECT {position}").fetchone() or ("",)
        return parse_lsn(text) if kind == "wal" else int(text)

    async with running(config) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'first')")
        await feed.outlet.until(1)
        off = "ALTER PUBLICATION rowcast_test DROP TABLE event"
        sql(database, off if kind == "wal" else "ALTER TABLE event DISABLE TRIGGER rowcast_capture")
        before = here()
        sql(database, "INSERT INTO event VALUES (2, 'missing')")
        for number in range(100, 110):
            sql(database, f"INSERT INTO other VALUES ({number})")
        await until(lambda: len(feed.outlet.published) > 5)
        monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.0)
        if kind == "wal":
            sql(
                database, "ALTER TABLE other ADD note text", "INSERT INTO other VALUES (200)"
            )  # described anew
        await until(lambda: bool(feed.outlet.announced))
    said = json.loads(next(body for topic, body, *_ in feed.outlet.announced if topic.endswith(b"/gap")))
    start = said["from"]
    assert start is not None
    assert (parse_lsn(start) if kind == "wal" else int(start)) <= before
