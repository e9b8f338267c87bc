"""Rows too long for a notification: their triggers send the key, the feed reads the row, and order is kept.

Each row is notified twice: bare on `fill`, by the trigger that docs/feeds.md shows, and inside an envelope on
`econiaws`.  What must not be lost is compared with the table in the end.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import Running, running
from support.polling import until
from support.postgres import Cluster
from support.tcp_proxy import tcp_proxy

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.feed import supervise as supervise_module
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen import feed as listen_module
from broker.feed.listen import keyed_rows as fetch_module
from broker.feed.listen.recovery import begin_snapshot

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

PAGE = (Path(__file__).parents[4] / "docs/feeds.md").read_text()

TABLE = """
CREATE TABLE fills (txn bigint, idx numeric(20), market text, note text, PRIMARY KEY (txn, idx));
CREATE FUNCTION notify_in_envelope() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    message text := json_build_object('channel', 'fill_event', 'payload', row_to_json(NEW));
BEGIN
    IF octet_length(message) >= 8000 THEN
        message := '{"channel": "fill_event", "payload": {"idx": ' || NEW.idx || ', "txn": ' || NEW.txn || '}}';
    END IF;
    PERFORM pg_notify('econiaws', message);
    RETURN NULL;
END $$;
CREATE TRIGGER notify_in_envelope AFTER INSERT ON fills FOR EACH ROW EXECUTE FUNCTION notify_in_envelope();
"""

KINDS = (("events", "fill"), ("econiaws", "fill_event"))
FETCH = Fetch("public.fills", ("txn", "idx"), KINDS)
RECOVER = Recovery("public.fills", ("txn", "idx"), KINDS)
LONG = "x" * 1_000_000


def trigger() -> str:
    """The SQL of docs/feeds.md, which is for this table."""
    text: str
    (text,) = re.findall(r"```sql\n(CREATE FUNCTION notify_fill.*?)```", PAGE, re.DOTALL)
    return text


def feed_config(dsn: str, fetch: Fetch = FETCH, *recoveries: Recovery) -> FeedConfig:
    return FeedConfig(
        name="test",
        dsn=dsn,
        sources=(
            Source("events", ("fill",)),
            Source("econiaws", ("econiaws",), kind_path=("channel",), row_path=("payload",)),
        ),
        routes=(
            Route("events", ("fill/{market}",), kind="fill"),
            Route("econiaws", ("{$kind}",), kind="fill_event", target="econia", body="raw"),
        ),
        recoveries=recoveries,
        fetches=(fetch,),
        check_timeout_s=60.0,
    )


@pytest.fixture
async def writer(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(TABLE)
        await connection.execute(trigger())
        yield connection


async def insert(writer: TrioConnection, txn: int, note: str = "") -> None:
    await writer.execute("INSERT INTO fills VALUES (%s, 0, 'm', %s)", [txn, note])


async def check_all_came_once_in_order(writer: TrioConnection, feed: Running) -> None:
    cursor = await writer.execute("SELECT row_to_json(f)::text FROM fills f ORDER BY txn, idx")
    texts = [text.encode() for (text,) in await cursor.fetchall()]
    await feed.outlet.until(2 * len(texts))
    assert [body for topic, body, _, _ in feed.outlet.published if topic == b"fill/m"] == texts
    wrapped = [body for topic, body, _, _ in feed.outlet.published if topic.startswith(b"$ws/")]
    assert wrapped == [b'{"channel" : "fill_event", "payload" : ' + text + b"}" for text in texts]
    assert len(feed.outlet.published) == 2 * len(texts)
    assert feed.status.dropped == {}


async def test_a_row_of_a_megabyte_comes_in_its_place_among_small_ones(
    database: str, writer: TrioConnection
) -> None:
    async with running(feed_config(database)) as feed:
        for txn in range(30):
            await insert(writer, txn, LONG if txn == 11 else "")
        await check_all_came_once_in_order(writer, feed)
        assert feed.status.fetched == 2


async def test_several_long_rows_of_one_transaction_keep_its_order(
    database: str, writer: TrioConnection
) -> None:
    async with running(feed_config(database)) as feed:
        async with writer.transaction():
            for txn in range(400):
                await insert(writer, txn, "é" * 9000 if txn % 4 == 1 else "short")
        await check_all_came_once_in_order(writer, feed)
        assert feed.status.fetched == 2 * 100
        await insert(writer, 1000)  # and the way is free again
        await check_all_came_once_in_order(writer, feed)


async def test_many_rows_are_read_by_few_queries(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = fetch_module.KeyedTable.read
    reads: list[int] = []

    async def counted(
        table: fetch_module.KeyedTable, connection: TrioConnection, keys: list[tuple[str, ...]]
    ) -> dict[tuple[str, ...], list[str]]:
        reads.append(len(keys))
        return await read(table, connection, keys)

    async with running(feed_config(database)) as feed:
        monkeypatch.setattr(fetch_module.KeyedTable, "read", counted)
        await writer.execute(
            "INSERT INTO fills SELECT i, 0, 'm', repeat('x', 8000) FROM generate_series(1, 320) i"
        )
        await check_all_came_once_in_order(writer, feed)
        assert feed.status.fetched == 640
        assert max(reads) >= fetch_module.ROWS_MAX / 2  # each row is notified twice, and read once for both
        assert len(reads) < 40


async def test_a_row_deleted_meanwhile_is_counted_and_said(
    database: str, writer: TrioConnection, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(feed_config(database)) as feed:
        async with writer.transaction():
            await insert(writer, 1)
            await insert(writer, 2, LONG)
            await insert(writer, 3)
            await writer.execute("DELETE FROM fills WHERE txn = 2")
        await feed.outlet.until(4)
        assert feed.status.dropped == {"deleted": 2}
        assert "row not published: deleted: kind fill, to be read by its key" in caplog.text
        feed.status.dropped.clear()
        await check_all_came_once_in_order(writer, feed)


async def test_a_key_that_is_none_is_counted_and_harms_nothing(database: str, writer: TrioConnection) -> None:
    async with running(feed_config(database)) as feed:
        bad = (
            '{"txn":"x","idx":1}',
            '{"txn":null,"idx":1}',
            '{"txn":[1],"idx":1}',
            '{"txn":"\\ud800","idx":1}',
        )
        async with writer.transaction():
            await insert(writer, 1, LONG)
            for text in (*bad, '{"txn":"\\u0000","idx":1}', '{"txn":1e99,"idx":1}'):
                await writer.execute("SELECT pg_notify('fill', %s)", [text])
            await insert(writer, 2, LONG)
        await feed.outlet.until(4)
        assert feed.status.dropped == {"no_key": 4, "deleted": 2}
        assert feed.status.reconnects == 0
        feed.status.dropped.clear()
        await check_all_came_once_in_order(writer, feed)


async def test_neither_does_one_that_postgres_calls_an_error_of_syntax(
    database: str, writer: TrioConnection
) -> None:
    await writer.execute("CREATE TABLE worded (id tsvector PRIMARY KEY, market text)")
    await writer.execute("INSERT INTO worded VALUES ('a', 'm')")
    async with running(feed_config(database, Fetch("public.worded", ("id",), (("events", "fill"),)))) as feed:
        for key in ("'a'", "'b", "'a'"):
            await writer.execute("SELECT pg_notify('fill', json_build_object('id', %s::text)::text)", [key])
        assert await feed.outlet.until(2) == [(b"fill/m", b'{"id":"\'a\'","market":"m"}', 1, False)] * 2
        assert feed.status.dropped == {"deleted": 1}
        assert feed.status.reconnects == 0


async def test_a_key_that_two_rows_have_is_no_key(database: str, writer: TrioConnection) -> None:
    async with running(feed_config(database, evolve(FETCH, key=("market",)))) as feed:
        await writer.execute("ALTER TABLE fills DISABLE TRIGGER USER")
        await insert(writer, 1)
        await insert(writer, 2)
        await writer.execute("SELECT pg_notify('fill', '{\"market\":\"m\"}')")
        await until(lambda: feed.status.dropped == {"ambiguous_key": 1})


async def test_a_member_may_say_that_there_is_only_a_key(database: str, writer: TrioConnection) -> None:
    """Long values are left out, the rest is there: the row's looks are those of a whole one."""
    await writer.execute("ALTER TABLE fills DISABLE TRIGGER USER")
    async with running(feed_config(database, evolve(FETCH, when=("cut",)))) as feed:
        await insert(writer, 1, LONG)
        await insert(writer, 2, LONG)
        for txn, cut in ((1, "false"), (1, "null"), (2, "true"), (3, "false"), (1, "1")):
            text = f'{{"txn":{txn},"idx":0,"market":"notified","note":"","cut":{cut}}}'
            await writer.execute("SELECT pg_notify('fill', %s)", [text])
        await feed.outlet.until(5)
        assert feed.outlet.topics() == [
            b"fill/notified", b"fill/notified", b"fill/m", b"fill/notified", b"fill/m",
        ]  # fmt: skip
        assert feed.status.fetched == 2


async def test_a_member_of_the_envelope_may_say_so(database: str, writer: TrioConnection) -> None:
    await writer.execute("ALTER TABLE fills DISABLE TRIGGER USER")
    async with running(feed_config(database, evolve(FETCH, when=("meta", "cut")))) as feed:
        await insert(writer, 1, "read")
        for meta in ('{"cut":false}', '{"cut":true}', "1"):
            text = f'{{"channel":"fill_event","payload":{{"txn":1,"idx":0}},"meta":{meta}}}'
            await writer.execute("SELECT pg_notify('econiaws', %s)", [text])
        await feed.outlet.until(3)
        assert [b'"read"' in body for _, body, _, _ in feed.outlet.published] == [False, True, False]


async def until_session(writer: TrioConnection, which: str) -> None:
    """Until a session of the feed is like that."""
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        f" AND application_name = 'rowcast' AND {which}"
    ).encode()
    with trio.fail_after(60):
        while await (await writer.execute(query)).fetchone() is None:  # noqa: ASYNC110 - the server's state
            await trio.sleep(0.02)


async def end_backends(database: str, which: str = "true") -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND application_name = 'rowcast' AND {which}"
        )


async def test_a_reading_connection_that_ended_is_replaced_and_the_listening_one_stays(
    database: str, writer: TrioConnection
) -> None:
    async with running(feed_config(database)) as feed:
        for txn in range(3):
            await insert(writer, txn, LONG)
            await feed.outlet.until(2 * txn + 2)
            await end_backends(database, "query NOT ILIKE 'LISTEN%'")
        await check_all_came_once_in_order(writer, feed)
        assert feed.status.reconnects == 0


@pytest.mark.parametrize("recoveries", [(), (RECOVER,)])
async def test_a_database_cut_while_a_row_is_read_loses_neither_it_nor_what_came_behind(
    cluster: Cluster,
    database: str,
    writer: TrioConnection,
    recoveries: tuple[Recovery, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All connections end when the second query for rows is about to be sent, and can't be made anew for a while."""
    read = fetch_module.KeyedTable.read
    cut = trio.Event()

    async def read_or_be_cut(
        table: fetch_module.KeyedTable, connection: TrioConnection, keys: list[tuple[str, ...]]
    ) -> dict[tuple[str, ...], list[str]]:
        if keys and feed.status.fetched and not cut.is_set():
            cut.set()
            proxy.refuse()
        return await read(table, connection, keys)

    async with tcp_proxy(cluster.port) as proxy:
        dsn = database.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(feed_config(dsn, FETCH, *recoveries)) as feed:
            monkeypatch.setattr(fetch_module.KeyedTable, "read", read_or_be_cut)
            async with writer.transaction():
                for txn in range(90):
                    await insert(writer, txn, "x" * 8000 if txn % 2 else "")
            await cut.wait()
            await until(lambda: feed.status.state == "waiting")
            if recoveries:
                await insert(writer, 100)  # which only recovery can bring
                await insert(writer, 101, LONG)
            proxy.allow()
            await feed.until_live(reconnects=1)
            await insert(writer, 102, LONG)
            await check_all_came_once_in_order(writer, feed)


async def test_rows_notified_while_recovery_reads_come_once(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are both read again and notified, with their key only; others only notified."""
    begin = begin_snapshot

    async def insert_around(reader: TrioConnection) -> None:
        if feed.status.received:
            await insert(writer, 2, LONG)
            await insert(writer, 3)
        await begin(reader)
        await insert(writer, 4, LONG)
        await insert(writer, 5)

    async with running(feed_config(database, FETCH, RECOVER)) as feed:
        await insert(writer, 1)
        await feed.outlet.until(2)
        await writer.execute("DELETE FROM fills WHERE txn > 1")
        monkeypatch.setattr(listen_module, "begin_snapshot", insert_around)
        await end_backends(database)
        await feed.until_live(reconnects=1)
        await feed.outlet.until(10)
        await check_all_came_once_in_order(writer, feed)
        assert feed.status.repeated == 4


async def test_a_long_read_is_no_silence_of_the_listening_connection(
    database: str, writer: TrioConnection
) -> None:
    """The table is locked for longer than a server may be silent."""
    config = evolve(feed_config(database), check_interval_s=0.05, check_timeout_s=3.0)
    async with running(config) as feed:
        async with await TrioConnection.connect(database, autocommit=True) as locker:
            await locker.execute("BEGIN; LOCK TABLE fills IN ACCESS EXCLUSIVE MODE")
            await writer.execute("SELECT pg_notify('fill', '{\"txn\":1,\"idx\":0}')")
            await until_session(writer, "wait_event_type = 'Lock'")
            await trio.sleep(config.check_interval_s + config.check_timeout_s + 0.1)
            await locker.execute("INSERT INTO fills VALUES (1, 0, 'm', 'late'); COMMIT")
        await feed.outlet.until(3)
        assert feed.status.reconnects == 0


async def test_an_orderly_stop_leaves_no_row_in_the_line(database: str, writer: TrioConnection) -> None:
    """The feed is stopped while it waits for a row that is locked; then the lock goes."""
    feed = Running(feed_config(database))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise_module.supervise, feed.config, feed.outlet, feed.status)
        await feed.until_live()
        with psycopg.connect(database, autocommit=True) as locker:
            await insert(writer, 1)
            await feed.outlet.until(2)
            locker.execute("BEGIN; LOCK TABLE fills IN ACCESS EXCLUSIVE MODE")
            locker.execute("SELECT pg_notify('fill', '{\"txn\":1,\"idx\":0}')")
            locker.execute("INSERT INTO fills VALUES (2, 0, 'm', '')")
            locker.execute("COMMIT; BEGIN; LOCK TABLE fills IN ACCESS EXCLUSIVE MODE")
            await until(lambda: feed.status.received == 5)
            nursery.cancel_scope.cancel()
            locker.execute("COMMIT")
    assert len(feed.outlet.published) == 5


def gaps_of_unread_rows(feed: Running) -> int:
    """Announced, on `$SYS`, of rows that were dropped because their table was not there."""
    words = b"public.fills: a table that was not there when rows came with their key only"
    return sum(topic.startswith(b"$SYS/") and words in text for topic, text, _, _ in feed.outlet.announced)


@pytest.mark.parametrize("recoveries", [(), (RECOVER,)], ids=["fetched", "recovered, too"])
async def test_a_table_that_is_not_there_keeps_nothing_back_but_its_long_rows(
    database: str,
    writer: TrioConnection,
    recoveries: tuple[Recovery, ...],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are counted, and a trouble while it lasts; a gap at the first of them, and once the table is back."""
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    await writer.execute("ALTER TABLE fills RENAME TO elsewhere")
    async with running(feed_config(database, FETCH, *recoveries)) as feed:
        assert 'relation "public.fills" does not exist' in caplog.text
        assert "fetch public.fills by txn, idx" in feed.status.troubles
        await writer.execute("INSERT INTO elsewhere VALUES (1, 0, 'm', %s), (2, 0, 'm', '')", [LONG])
        assert {topic for topic, *_ in await feed.outlet.until(2)} == {b"fill/m", b"$ws/econia/fill_event"}
        assert feed.status.dropped == {"table_away": 2}
        assert gaps_of_unread_rows(feed) == 1
        await writer.execute("ALTER TABLE elsewhere RENAME TO fills")
        await until(lambda: not feed.status.troubles)
        assert gaps_of_unread_rows(feed) == 2
        await insert(writer, 3, LONG)
        await feed.outlet.until(4)
        assert feed.status.fetched == 2


async def test_a_table_that_goes_away_while_the_feed_is_live_drops_its_long_rows_and_goes_on(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    async with running(feed_config(database)) as feed:
        await writer.execute("ALTER TABLE fills RENAME TO elsewhere")
        await writer.execute("INSERT INTO elsewhere VALUES (1, 0, 'm', %s), (2, 0, 'm', '')", [LONG])
        await feed.outlet.until(2)
        assert feed.status.dropped == {"table_away": 2}
        await writer.execute("ALTER TABLE elsewhere RENAME TO fills")
        await until(lambda: not feed.status.troubles)
        assert gaps_of_unread_rows(feed) == 2
        await insert(writer, 3, LONG)
        await feed.outlet.until(4)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "it''s ☃ {\"a\\"), ("char(5)", "ab"), ("uuid", "6ecd8c99-4036-403d-bf84-cf8400f67836"),
        ("timestamptz", "2024-02-13 15:53:50.123456+00"), ("numeric", "340282366920938463463374607431768211455.0"),
        ("boolean", "true"), ("bytea", "\\x00ff"), ("float8", "0.1"), ("\"Odd [] type\"", "b"),
    ],
)  # fmt: skip
async def test_a_key_may_be_of_any_type_that_can_be_looked_up(
    database: str, writer: TrioConnection, kind: str, value: str
) -> None:
    await writer.execute("CREATE TYPE \"Odd [] type\" AS ENUM ('a', 'b')")
    await writer.execute(f'CREATE TABLE "A table" (id {kind} PRIMARY KEY, market text)')
    config = feed_config(database, Fetch("public.A table", ("id",), (("events", "fill"),)))
    async with running(config) as feed:
        await writer.execute(f"INSERT INTO \"A table\" VALUES ('{value}', 'm')")
        await writer.execute(
            """SELECT pg_notify('fill', json_build_object('id', id)::text) FROM "A table" """
        )
        cursor = await writer.execute("""SELECT row_to_json(t)::text FROM "A table" t""")
        (text,) = await cursor.fetchone() or ("",)
        assert await feed.outlet.until(1) == [(b"fill/m", text.encode(), 1, False)]
