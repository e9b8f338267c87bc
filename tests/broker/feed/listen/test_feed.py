"""Notifications of a real PostgreSQL to publications, and what lost connections cost.

Each test has a table whose rows are notified twice, as Econia's are: bare on the channel `fill`, and inside an
envelope on `econiaws`.  Where rows must survive, writers go on while the connection is taken away, and in the end
every row must have come once on each way.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import Running, running
from support.polling import until
from support.postgres import Cluster
from support.tcp_proxy import tcp_proxy

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed import supervise as supervise_module
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen import feed as listen_module
from broker.feed.listen.gap_words import unrecovered
from broker.feed.listen.recovery import begin_snapshot

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

SCHEMA = """
CREATE TABLE fill_events (
    txn_version numeric(20) NOT NULL, event_idx numeric(20) NOT NULL,
    market_id numeric(20), "user" text, order_id numeric(39), note text, time timestamptz,
    PRIMARY KEY (txn_version, event_idx)
);
CREATE TABLE cancel_events (LIKE fill_events INCLUDING ALL);
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], row_to_json(NEW)::text);
    PERFORM pg_notify('econiaws',
        json_build_object('channel', TG_ARGV[0] || '_event', 'payload', row_to_json(NEW))::text);
    RETURN NULL;
END $$;
CREATE TRIGGER t AFTER INSERT ON fill_events FOR EACH ROW EXECUTE FUNCTION notify_row('fill');
CREATE TRIGGER t AFTER INSERT ON cancel_events FOR EACH ROW EXECUTE FUNCTION notify_row('cancel');
"""

INSERT = "INSERT INTO fill_events VALUES (%s, %s, %s, %s, %s, %s, '2024-02-13T15:53:50.5Z')"
RECOVER_FILLS = Recovery(
    "public.fill_events", ("txn_version", "event_idx"), (("events", "fill"), ("econiaws", "fill_event"))
)
RECOVER_CANCELS = evolve(RECOVER_FILLS, table="public.cancel_events", kinds=(("events", "cancel"),))
AWAY = "ALTER TABLE fill_events RENAME TO elsewhere"
BACK = "ALTER TABLE elsewhere RENAME TO fill_events"


def feed_config(dsn: str, *recoveries: Recovery) -> FeedConfig:
    return FeedConfig(
        name="test",
        dsn=dsn,
        sources=(
            Source("events", ("fill", "cancel")),
            Source("econiaws", ("econiaws",), kind_path=("channel",), row_path=("payload",)),
        ),
        routes=(
            Route("events", ("fill/{market_id}/{user}",), kind="fill"),
            Route("events", ("cancel/{market_id}/{user}",), kind="cancel"),
            Route("econiaws", ("{$kind}",), kind="fill_event", target="econia", body="raw"),
        ),
        recoveries=recoveries,
        check_interval_s=0.5,
        check_timeout_s=60.0,
    )


@pytest.fixture
async def writer(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(SCHEMA)
        yield connection


async def insert(writer: TrioConnection, version: int, index: int = 0, note: str = "") -> None:
    await writer.execute(INSERT, [version, index, version % 7, "0xabc", 10**38 + version, note])


async def row_texts(writer: TrioConnection) -> list[bytes]:
    cursor = await writer.execute(
        "SELECT row_to_json(r)::text FROM fill_events r ORDER BY txn_version, event_idx"
    )
    return [text.encode() for (text,) in await cursor.fetchall()]


async def test_rows_arrive_byte_for_byte_and_exactly_once_on_each_way(
    database: str, writer: TrioConnection
) -> None:
    async with running(feed_config(database)) as feed:
        await insert(writer, 1, note="quotes \" ' \\ and ☃ 🎉 and \t")
        (text,) = await row_texts(writer)
        assert b"100000000000000000000000000000000000001" in text
        assert b'"time":"2024-02-13T15:53:50.5+00:00"' in text
        assert await feed.outlet.until(2) == [
            (b"fill/1/0xabc", text, 1, False),
            (b"$ws/econia/fill_event", b'{"channel" : "fill_event", "payload" : ' + text + b"}", 1, False),
        ]


async def test_a_row_of_7999_bytes_arrives_whole(database: str, writer: TrioConnection) -> None:
    async with running(feed_config(database)) as feed:
        await writer.execute("DROP TRIGGER t ON fill_events")
        text = '{"market_id":3,"user":"0xabc","note":"' + "x" * 7959 + '"}'
        assert len(text) == 7999
        await writer.execute("SELECT pg_notify('fill', %s)", [text])
        assert await feed.outlet.until(1) == [(b"fill/3/0xabc", text.encode(), 1, False)]


async def test_what_does_not_fit_is_counted_and_harms_nothing(database: str, writer: TrioConnection) -> None:
    async with running(feed_config(database)) as feed:
        for version, user in ((1, "a/b"), (2, None), (3, ""), (4, "#"), (5, "0xfit")):
            await writer.execute(INSERT, [version, 0, 3, user, version, ""])
        await writer.execute("SELECT pg_notify('fill', 'no json'), pg_notify('fill', '')")
        await insert(writer, 6)
        await feed.outlet.until(8)
        assert [topic for topic in feed.outlet.topics() if not topic.startswith(b"$")] == [
            b"fill/3/0xfit",
            b"fill/6/0xabc",
        ]
        assert feed.status.dropped == {"unsafe_value": 3, "null": 1, "not_json": 2}
        assert (feed.status.received, feed.status.published) == (14, 8)


async def test_the_order_of_a_transaction_survives_across_channels(
    database: str, writer: TrioConnection
) -> None:
    async with running(feed_config(database)) as feed:
        async with writer.transaction():
            for version in range(100):
                table = "cancel_events" if version % 3 == 0 else "fill_events"
                await writer.execute(
                    INSERT.replace("fill_events", table), [version, 0, version, "u", version, ""]
                )
        await feed.outlet.until(100 + 66)
        bare = [topic for topic in feed.outlet.topics() if not topic.startswith(b"$")]
        assert bare == [
            f"{'cancel' if version % 3 == 0 else 'fill'}/{version}/u".encode() for version in range(100)
        ]
        assert feed.outlet.flushes < 50  # batches, not single rows


async def test_nothing_that_was_there_before_is_replayed_at_first_start(
    database: str, writer: TrioConnection
) -> None:
    await insert(writer, 1)
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await insert(writer, 2)
        await feed.outlet.until(2)
        assert feed.outlet.topics() == [b"fill/2/0xabc", b"$ws/econia/fill_event"]
        assert feed.status.recovered == 0


async def test_an_unrecovered_kind_lost_meanwhile_is_announced_by_name(
    database: str, writer: TrioConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "broker.feed")
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await end_backends(writer)
        await feed.until_live(reconnects=1)
        assert feed.status.gaps == 1
        assert "no [[recover]] reads again cancel of events" in await feed.outlet.gap()
        assert any("are lost: cancel of events (a [[recover]]" in r.getMessage() for r in caplog.records)


def test_the_kinds_that_a_gap_loses_are_those_routed_and_not_recovered() -> None:
    config = feed_config("", RECOVER_FILLS)
    any_kind = (Route("events", ("{$kind}",)), Route("econiaws", ("{$kind}",), target="econia"))
    assert unrecovered(config) == ["cancel of events"]
    assert unrecovered(evolve(config, routes=config.routes[:1])) == []
    assert unrecovered(evolve(config, routes=any_kind)) == [
        "cancel of events",
        "every kind of econiaws but fill_event",
    ]
    assert unrecovered(evolve(config, recoveries=())) == ["cancel, fill of events", "fill_event of econiaws"]


async def end_backends(writer: TrioConnection) -> None:
    await writer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'rowcast'"
    )


async def write_under(
    writer: TrioConnection, feed: Running, trouble: Callable[[], Awaitable[None]], rows: int = 600
) -> None:
    """Insert rows while trouble happens in the middle, then check that each came once on each way, in order."""

    async def write() -> None:
        for number in range(rows):
            await insert(writer, number // 3, number % 3)  # three rows share their first key column

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await feed.outlet.until(100)
        await trouble()
    await feed.until_live(reconnects=1)
    await check_all_came_once(writer, feed)


async def check_all_came_once(writer: TrioConnection, feed: Running) -> None:
    texts = await row_texts(writer)
    await feed.outlet.until(2 * len(texts))
    assert feed.outlet.repeated() == {}
    bare = [payload for topic, payload, _, _ in feed.outlet.published if topic.startswith(b"fill/")]
    wrapped = [payload for topic, payload, _, _ in feed.outlet.published if topic.startswith(b"$ws/")]
    assert bare == texts
    assert wrapped == [b'{"channel" : "fill_event", "payload" : ' + text + b"}" for text in texts]


async def test_killed_backends_under_load_lose_nothing(database: str, writer: TrioConnection) -> None:
    async with running(feed_config(database, RECOVER_FILLS)) as feed:

        async def trouble() -> None:
            for _ in range(3):
                await end_backends(writer)
                await trio.sleep(0.15)

        await write_under(writer, feed, trouble)
        assert feed.status.recovered > 0


async def test_a_database_out_of_reach_for_a_while_loses_nothing(
    cluster: Cluster, database: str, writer: TrioConnection
) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        dsn = database.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(feed_config(dsn, RECOVER_FILLS)) as feed:

            async def trouble() -> None:
                proxy.refuse()
                await trio.sleep(0.7)
                proxy.allow()

            await write_under(writer, feed, trouble)
            assert feed.status.recovered > 0


async def test_a_frozen_network_is_noticed_and_loses_nothing(
    cluster: Cluster, database: str, writer: TrioConnection, caplog: pytest.LogCaptureFixture
) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        dsn = database.replace(f"port={cluster.port}", f"port={proxy.port}")
        config = evolve(feed_config(dsn, RECOVER_FILLS), check_interval_s=0.2, check_timeout_s=0.2)
        async with running(config) as feed:

            async def trouble() -> None:
                proxy.freeze()
                await until(lambda: feed.status.state != "live")
                proxy.thaw()

            await write_under(writer, feed, trouble)
            assert any("no sign of life" in record.getMessage() for record in caplog.records)


async def test_a_silent_but_living_connection_is_left_alone(database: str, writer: TrioConnection) -> None:
    config = evolve(feed_config(database), check_interval_s=0.02, check_timeout_s=5.0)
    async with running(config) as feed:
        await trio.sleep(0.3)  # some ten signs of life
        await insert(writer, 1)
        await feed.outlet.until(2)
        assert feed.status.reconnects == 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_server_loses_nothing(
    cluster: Cluster, database: str, writer: TrioConnection, mode: str
) -> None:
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        for version in range(20):
            await insert(writer, version)
        await feed.outlet.until(40)
        await trio.to_thread.run_sync(cluster.restart, mode)
        async with await TrioConnection.connect(database, autocommit=True) as again:
            for version in range(20, 40):
                await insert(again, version)  # some before, some after the feed is back
            await feed.until_live(reconnects=1)
            await check_all_came_once(again, feed)
        assert feed.status.reconnects == 1


async def test_a_row_both_read_and_notified_comes_once(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are committed after LISTEN and before the snapshot, so that they are in the one and in the other."""
    begin = begin_snapshot

    async def insert_before(reader: TrioConnection) -> None:
        if feed.status.received:
            await insert(writer, 2)
            await insert(writer, 3)
        await begin(reader)
        await insert(writer, 4)  # only notified

    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await insert(writer, 1)
        await feed.outlet.until(2)
        monkeypatch.setattr(listen_module, "begin_snapshot", insert_before)
        await end_backends(writer)
        await check_all_came_once_of(feed, writer, 4)
        assert (feed.status.recovered, feed.status.repeated) == (4, 4)


async def check_all_came_once_of(feed: Running, writer: TrioConnection, rows: int) -> None:
    await feed.outlet.until(2 * rows)
    await feed.until_live(reconnects=1)
    await check_all_came_once(writer, feed)


async def test_recovery_that_is_interrupted_goes_on_where_it_stopped(
    database: str, writer: TrioConnection, cluster: Cluster
) -> None:
    def end_backends_now(published: object) -> None:
        if len(feed.outlet.published) in (1200, 2600):
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'rowcast'"
                )

    async with tcp_proxy(cluster.port) as proxy:
        dsn = database.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(feed_config(dsn, RECOVER_FILLS)) as feed:
            feed.outlet.on_publish = end_backends_now
            proxy.refuse()
            await writer.execute(
                "INSERT INTO fill_events SELECT g / 10, g % 10, 1, 'u', g FROM generate_series(0, 1999) g"
            )
            proxy.allow()
            await check_all_came_once(writer, feed)


async def test_what_arrived_before_the_connection_ended_is_published(
    database: str, writer: TrioConnection
) -> None:
    """The feed can't run meanwhile, so it finds the notifications and the end of the connection together."""
    async with running(feed_config(database)) as feed:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(INSERT, [1, 0, 1, "0xabc", 1, ""])
            connection.execute("SELECT pg_sleep(0.2)")  # a backend told to end sends nothing more
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'rowcast'"
            )
        await feed.outlet.until(2)


async def test_a_table_that_is_missing_is_said_and_read_when_it_is_back(
    database: str, writer: TrioConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on: what is notified comes, and the feed is live."""
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    await writer.execute(AWAY)
    config = feed_config(database, RECOVER_FILLS)
    feed = Running(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise_module.supervise, config, feed.outlet, feed.status)
        await feed.until_live()
        assert 'relation "public.fill_events" does not exist' in caplog.text
        assert list(feed.status.troubles) == ["recover public.fill_events"]
        await writer.execute(BACK)
        await feed.until_live(reconnects=1)
        assert not feed.status.troubles
        nursery.cancel_scope.cancel()


async def test_a_table_that_is_dropped_stops_nobody_elses_rows(
    database: str, writer: TrioConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await insert(writer, 1)
        await feed.outlet.until(2)
        await writer.execute(AWAY)
        await feed.until_live(reconnects=1)
        assert "public.fill_events: a table that is not there" in caplog.text
        await writer.execute(BACK)
        await feed.until_live(reconnects=2)
        assert not feed.status.troubles
        await insert(writer, 2)
        await feed.outlet.until(4)


def told(feed: Running, words: bytes) -> bool:
    """Whether a gap was announced with these words."""
    return any(words in payload for _, payload, _, _ in feed.outlet.announced)


async def test_rows_that_nobody_heard_while_their_table_was_away_are_a_gap(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its triggers go on: what they notify next raises the mark, so nobody reads again what came before it."""
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    config = feed_config(database, RECOVER_FILLS)
    async with running(evolve(config, routes=config.routes[:1])) as feed:
        await writer.execute(AWAY)
        await feed.until_live(reconnects=1)
        assert feed.status.gaps == 1
        await end_backends(writer)
        await feed.until_live(reconnects=2)
        assert feed.status.gaps == 2
        assert feed.status.last_gap is not None
        assert feed.status.last_gap.reason.startswith("public.fill_events: a table that is not there")


async def test_a_table_that_was_away_at_the_start_repeats_nothing_once_it_is_back(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How its rows look was learned when there was no mark that could be raised."""
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    await writer.execute(AWAY)
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await writer.execute(INSERT.replace("fill_events", "elsewhere"), [1, 0, 1, "0xabc", 1, ""])
        await feed.outlet.until(2)
        await writer.execute(BACK)
        await feed.until_live(reconnects=1)
        assert told(feed, b"no place is known")
        await insert(writer, 2)
        await feed.outlet.until(4)
        await end_backends(writer)
        await feed.until_live(reconnects=2)
        await insert(writer, 3)
        await check_all_came_once(writer, feed)


OFF_AND_ON = "ALTER TABLE {0} DISABLE TRIGGER t; ALTER TABLE {0} ENABLE TRIGGER t"


async def test_a_trigger_that_was_off_is_said_although_another_table_is_away(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    async with running(feed_config(database, RECOVER_FILLS, RECOVER_CANCELS)) as feed:
        await writer.execute(f"{AWAY}; {OFF_AND_ON.format('cancel_events')}")
        reason = await feed.outlet.gap()
        assert reason.startswith("public.fill_events: a table that is not there")
        assert "; public.cancel_events: a trigger was taken away" in reason


async def test_a_trigger_that_was_off_while_its_table_was_away_is_said_once_it_is_back(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await writer.execute(AWAY)
        await feed.until_live(reconnects=1)
        assert not told(feed, b"a trigger was taken away")
        await writer.execute(f"{OFF_AND_ON.format('elsewhere')}; {BACK}")
        await feed.until_live(reconnects=2)
        assert told(feed, b"public.fill_events: a trigger was taken away")


async def test_a_key_column_that_is_renamed_is_noticed_while_the_feed_is_live(
    database: str, writer: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "LOOK_INTERVAL_S", 0.1)
    async with running(feed_config(database, RECOVER_FILLS)) as feed:
        await writer.execute("ALTER TABLE fill_events RENAME event_idx TO number")
        await feed.until_live(reconnects=1)
        assert list(feed.status.troubles) == ["recover public.fill_events"]
