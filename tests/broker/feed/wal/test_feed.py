"""The feed from the write-ahead log, against a real server."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import check_positions, running
from support.installed import connect, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig, Recovery, Replication, Route, Source
from broker.feed.driver.catalog import load_types
from broker.feed.driver.connection import TrioConnection
from broker.feed.wal import feed as wal_feed
from broker.feed.wal import slots
from protocol.pgjson import TypeEntry

ROWS = 3000
"""Of 4000 bytes each: more than what a connection holds on its way."""

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")


async def test_committed_row_is_published_as_row_to_json(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, """INSERT INTO event VALUES (1, 'a "quoted" é🙂'), (2, NULL)""")
        published = await feed.outlet.until(2)
    assert published == [
        (b"event/1", '{"id":1,"note":"a \\"quoted\\" é🙂"}'.encode(), 1, False),
        (b"event/2", b'{"id":2,"note":null}', 1, False),
    ]


async def test_row_committed_while_we_were_away_is_published_at_the_next_start(config: FeedConfig) -> None:
    sql(config, "INSERT INTO event VALUES (1, 'before')")
    async with running(config) as feed:
        await feed.outlet.until(1)
    sql(config, "INSERT INTO event VALUES (2, 'between')")
    async with running(config) as feed:
        await feed.outlet.until(1)
        sql(config, "INSERT INTO event VALUES (3, 'live')")
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/2", b"event/3"]


async def test_transaction_cut_by_a_stop_goes_on_where_it_was_cut(config: FeedConfig) -> None:
    delivered: list[bytes] = []
    for _ in range(2):
        async with running(config) as feed:
            if not delivered:
                sql(
                    config, f"INSERT INTO event SELECT i, repeat('x', 4000) FROM generate_series(1, {ROWS}) i"
                )
                await feed.outlet.until(500)
                assert len(feed.outlet.published) < ROWS
            else:
                await feed.outlet.until(ROWS - len(delivered))
        delivered += feed.outlet.topics()
    assert delivered == [b"event/%d" % number for number in range(1, ROWS + 1)]


async def test_rolled_back_rows_and_savepoints_are_never_published(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(
            config,
            "BEGIN; INSERT INTO event VALUES (1, 'x'); ROLLBACK",
            "BEGIN; INSERT INTO event VALUES (2, 'x'); SAVEPOINT s; INSERT INTO event VALUES (3, 'x');"
            " ROLLBACK TO s; INSERT INTO event VALUES (4, 'x'); COMMIT",
        )
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/2", b"event/4"]


async def test_transactions_come_in_the_order_of_their_commits(config: FeedConfig) -> None:
    async with running(config) as feed:
        with connect(config.dsn) as slow, connect(config.dsn) as fast:
            slow.execute("BEGIN; INSERT INTO event VALUES (1, 'began first')")
            fast.execute("INSERT INTO event VALUES (2, 'committed first')")
            slow.execute("INSERT INTO event VALUES (3, 'x'); COMMIT")
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/2", b"event/1", b"event/3"]


async def test_operations_are_chosen_per_route(config: FeedConfig) -> None:
    routes = (
        Route("tables", ("new/{id}",), operations=("insert", "update")),
        Route("tables", ("gone/{id}",), operations=("delete",)),
    )
    config = evolve(config, routes=routes)
    install(config)
    async with running(config) as feed:
        sql(
            config,
            "INSERT INTO event VALUES (1, 'a')",
            "UPDATE event SET note = 'b'",
            "DELETE FROM event",
            "INSERT INTO event VALUES (2, 'c')",
        )
        published = await feed.outlet.until(4)
    assert [(topic, body) for topic, body, _, _ in published] == [
        (b"new/1", b'{"id":1,"note":"a"}'),
        (b"new/1", b'{"id":1,"note":"b"}'),
        (b"gone/1", b'{"id":1}'),
        (b"new/2", b'{"id":2,"note":"c"}'),
    ]


async def test_untouched_toast_value_is_absent_or_taken_from_the_full_old_row(config: FeedConfig) -> None:
    sql(config, "ALTER TABLE event ADD big text", "ALTER TABLE event ALTER big SET STORAGE EXTERNAL")
    config = evolve(config, routes=(Route("tables", ("e/{id}",), operations=("update",)),))
    install(config)
    big = "x" * 10_000
    sql(config, f"INSERT INTO event VALUES (1, 'a', '{big}')")
    async with running(config) as feed:
        sql(config, "UPDATE event SET note = 'b'", "ALTER TABLE event REPLICA IDENTITY FULL")
        sql(config, "UPDATE event SET note = 'c'")
        published = await feed.outlet.until(2)
    assert published[0][1] == b'{"id":1,"note":"b"}'
    assert published[1][1] == b'{"id":1,"note":"c","big":"%b"}' % big.encode()


async def test_column_added_while_live_appears(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')", "ALTER TABLE event ADD moods text[]")
        sql(config, "INSERT INTO event VALUES (2, 'b', '{x,NULL}')")
        published = await feed.outlet.until(2)
    assert published[1][1] == b'{"id":2,"note":"b","moods":["x",null]}'


MOOD = "CREATE TYPE mood AS (name text, since int)"


@pytest.mark.parametrize(
    ("altered", "mood"),
    [
        ("ALTER TYPE mood RENAME ATTRIBUTE since TO year", b'{"name":"calm","year":7}'),
        ("ALTER TYPE mood ADD ATTRIBUTE why text", b'{"name":"calm","since":7,"why":null}'),
    ],
    ids=["renamed", "added"],
)
async def test_a_type_that_is_altered_while_live_is_looked_up_again(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch, altered: str, mood: bytes
) -> None:
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.05)
    sql(config, MOOD, "ALTER TABLE event ADD mood mood DEFAULT ROW('calm', 7)")
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(config, altered)
        await feed.until_live(reconnects=1)
        sql(config, "INSERT INTO event VALUES (2, 'b')")
        published = await feed.outlet.until(2)
    assert published[1][1] == b'{"id":2,"note":"b","mood":%b}' % mood
    assert (len(published), feed.status.gaps) == (2, 0)


async def test_a_type_that_is_dropped_with_its_column_is_none_that_was_altered(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.05)
    load, looks = load_types, 0

    async def counted(connection: TrioConnection, oids: Iterable[int]) -> dict[int, TypeEntry]:
        nonlocal looks
        found = await load(connection, oids)
        looks += 1
        return found

    monkeypatch.setattr(wal_feed, "load_types", counted)
    sql(config, MOOD, "ALTER TABLE event ADD mood mood DEFAULT ROW('calm', 7)")
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(config, "ALTER TABLE event DROP mood", "DROP TYPE mood")
        before = looks
        await until(lambda: looks >= before + 3 or feed.status.reconnects > 0)
        assert (feed.status.state, feed.status.reconnects) == ("live", 0)
        sql(config, "INSERT INTO event VALUES (2, 'b')")
        published = await feed.outlet.until(2)
    assert published[1][1] == b'{"id":2,"note":"b"}'


async def test_publish_from_sql_comes_with_its_transaction_and_in_its_place(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(
            config,
            "BEGIN; SELECT rowcast.publish('lost', 'x'); ROLLBACK",
            "BEGIN; SELECT rowcast.publish('a/1', 'first');"
            " INSERT INTO event VALUES (1, 'between');"
            " SELECT rowcast.publish('a/2', '\\x00ff'::bytea, qos => 2, retain => true); COMMIT",
            "SELECT rowcast.publish('big', repeat('é', 1000000))",
        )
        published = await feed.outlet.until(4)
    assert published[:3] == [
        (b"a/1", b"first", 1, False),
        (b"event/1", b'{"id":1,"note":"between"}', 1, False),
        (b"a/2", b"\x00\xff", 2, True),
    ]
    assert published[3] == (b"big", "é".encode() * 1_000_000, 1, False)


@pytest.mark.parametrize(
    "arguments", ["''", "'a/+'", "'#'", "'$SYS/x'", "'a', 'x', 3", "'a', 'x', -1", "NULL"]
)
async def test_publish_from_sql_refuses_what_mqtt_refuses(config: FeedConfig, arguments: str) -> None:
    if "," not in arguments:
        arguments += ", 'x'"
    with pytest.raises(psycopg.errors.RaiseException, match=r"rowcast\.publish"):
        sql(config, f"SELECT rowcast.publish({arguments})")


async def test_killed_backend_costs_no_row_and_repeats_none(config: FeedConfig) -> None:
    async with running(config) as feed:
        for number in range(1, 31):
            sql(config, f"INSERT INTO event VALUES ({number}, 'x')")
            if number % 10 == 0:
                end_walsenders(config)
        await feed.outlet.until(30)
        await feed.until_live(reconnects=1)
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, 31)]


def end_walsenders(config: FeedConfig) -> None:
    sql(config, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")


async def test_transaction_cut_in_the_middle_goes_on_where_it_was_cut(config: FeedConfig) -> None:
    """The kill comes while its rows arrive: the rest follows, nothing twice."""
    async with running(config) as feed:
        killed = False

        def kill_in_the_middle(_: object) -> None:
            nonlocal killed
            if len(feed.outlet.published) == 500 and not killed:
                killed = True
                end_walsenders(config)

        feed.outlet.on_publish = kill_in_the_middle
        sql(config, f"INSERT INTO event SELECT i, repeat('x', 4000) FROM generate_series(1, {ROWS}) i")
        await feed.outlet.until(ROWS)
    assert killed
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, ROWS + 1)]


async def test_lost_slot_is_a_gap_and_the_feed_goes_on(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        end_walsenders(config)
        with connect(config.dsn) as connection:
            while True:
                try:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [slots.slot_name(config)])
                    break
                except psycopg.errors.ObjectInUse:
                    await trio.sleep(0.01)
        sql(config, "INSERT INTO event VALUES (2, 'lost')")
        reason = await feed.outlet.gap()
        await feed.until_live(reconnects=1)
        sql(config, "INSERT INTO event VALUES (3, 'c')")
        await feed.outlet.until(2)
    assert feed.status.gaps == 1
    assert reason == f"there was no slot {slots.slot_name(config)}"
    assert [topic for topic, *_ in feed.outlet.announced] == [
        b"$SYS/feed/test/gap",
        b"$ws/canton/system_health",
    ]
    assert feed.outlet.topics() == [b"event/1", b"event/3"]


async def test_other_timeline_is_a_gap(config: FeedConfig) -> None:
    async with running(config):
        pass
    sql(config, "UPDATE rowcast.feed SET timeline = 99")
    async with running(config) as feed:
        assert "timeline 1, no longer 99" in await feed.outlet.gap()
    async with running(config) as feed:
        assert feed.status.gaps == 0


async def test_lag_is_what_waits_for_this_slot_and_raises_an_alarm(
    config: FeedConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_feed, "STATUS_INTERVAL_S", 0.05)
    config = evolve(config, replication=Replication(allow_unbounded_wal=True, lag_alarm_bytes=200_000))
    async with running(config) as feed:
        feed.outlet.durable = trio.sleep_forever  # type: ignore[method-assign]
        sql(config, "INSERT INTO event VALUES (1, 'small')")
        await until(lambda: feed.status.lag_bytes > 0)
        assert feed.status.lag_bytes < 50_000
        assert "lag_alarm" not in caplog.text
        # What Postgres can't compress.
        sql(
            config,
            "INSERT INTO event SELECT 2, string_agg(md5(i::text), '') FROM generate_series(1, 10000) i",
        )
        await until(lambda: "more than lag_alarm_bytes" in caplog.text)
        assert feed.status.lag_bytes > 200_000
        assert feed.status.lag_s > 0


async def test_snapshot_comes_first_then_live_without_gap_or_repetition(config: FeedConfig) -> None:
    config = evolve(
        config,
        routes=(
            Route("tables", ("last/{id}",), retain=True, snapshot="table", operations=("insert", "update")),
            Route("tables", ("log/{id}",), operations=("insert", "update")),
        ),
    )
    install(config)
    sql(config, "INSERT INTO event VALUES (1, 'a'), (2, 'b')", "UPDATE event SET note = 'c' WHERE id = 2")
    async with running(config) as feed:
        await feed.outlet.until(5)
        sql(config, "UPDATE event SET note = 'd' WHERE id = 1")
        await feed.outlet.until(7)
    of = {root: [p[1] for p in feed.outlet.published if p[0].startswith(root)] for root in (b"last", b"log")}
    assert sorted(of[b"last"][:2]) == [b'{"id":1,"note":"a"}', b'{"id":2,"note":"c"}']
    assert of[b"last"][2:] == [b'{"id":1,"note":"d"}']
    assert len(of[b"log"]) == 4
    assert feed.outlet.published[0][3]
    assert not feed.outlet.repeated()


async def test_routes_made_for_listen_serve_wal(config: FeedConfig) -> None:
    """The table of a `recover` feeds the kinds of its sources, with the envelope that triggers write."""
    config = evolve(
        config,
        sources=(Source("ws", ("econiaws",), ("channel",), ("payload",)), Source("events", ("fill",))),
        recoveries=(Recovery("public.event", ("id",), (("ws", "fill_event"), ("events", "fill"))),),
        routes=(
            Route("ws", ("{$kind}",), body="raw", target="econia"),
            Route("events", ("fill/{id}",), kind="fill"),
        ),
    )
    install(config)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        published = await feed.outlet.until(2)
    assert published[0][:2] == (
        b"$ws/econia/fill_event",
        b'{"channel" : "fill_event", "payload" : {"id":1,"note":"a"}}',
    )
    assert published[1][:2] == (b"fill/1", b'{"id":1,"note":"a"}')


async def test_slot_that_kept_too_much_is_a_gap_and_the_feed_goes_on(config: FeedConfig) -> None:
    """The server itself gives the slot up, while nobody reads it."""
    sql(config, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        for number in range(4):
            sql(
                config,
                f"INSERT INTO event VALUES ({number}, 'never read')",
                "SELECT pg_switch_wal()",
                "CHECKPOINT",
            )
        status = "SELECT wal_status FROM pg_replication_slots WHERE database = current_database()"
        with connect(config.dsn) as connection:
            assert connection.execute(status).fetchone() == ("lost",)
            async with running(config) as feed:
                connection.execute("INSERT INTO event VALUES (10, 'read')")
                await feed.outlet.until(1)
                reason = await feed.outlet.gap()
    finally:
        sql(config, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    assert "was lost: too much WAL was waiting" in reason
    assert feed.outlet.topics() == [b"event/10"]


async def test_publication_made_anew_is_a_gap_and_the_feed_goes_on(config: FeedConfig) -> None:
    """Postgres would refuse to decode the rows from before it for ever; from 18 on it leaves them out and warns."""
    sql(config, "DROP PUBLICATION rowcast_test", "INSERT INTO event VALUES (1, 'x')")
    install(config)
    with connect(config.dsn) as connection:
        refuses = connection.info.server_version < 180000
    async with running(config) as feed:
        reason = await feed.outlet.gap()
        await feed.until_live(reconnects=int(refuses))
        sql(config, "INSERT INTO event VALUES (2, 'x')")
        await feed.outlet.until(1)
    assert "insert of public.event was not captured for a while" in reason
    assert feed.outlet.topics() == [b"event/2"]


async def test_envelope_carries_the_position_where_a_route_asks(config: FeedConfig) -> None:
    route = Route("tables", ("e",), body="envelope", target="econia", position=True)
    async with running(evolve(config, routes=(route,))) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a'), (2, 'b')")
        published = await feed.outlet.until(2)
    check_positions(published, b'"note":"a"}')
