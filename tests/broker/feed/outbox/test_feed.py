"""The feed from the outbox table, against a real server."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import Running, check_positions, running
from support.installed import connect, install, sql
from support.polling import until
from support.tcp_proxy import tcp_proxy

from broker.config.feeds import FeedConfig, Replication, Route
from broker.feed.driver import connection as trio_connection
from broker.feed.supervise import supervise

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")


async def test_committed_row_is_published_as_row_to_json(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, """INSERT INTO event VALUES (1, 'a "quoted" é🙂'), (2, NULL)""")
        published = await feed.outlet.until(2)
    assert published == [
        (b"event/1", '{"id":1,"note":"a \\"quoted\\" é🙂"}'.encode(), 1, False),
        (b"event/2", b'{"id":2,"note":null}', 1, False),
    ]


async def test_json_does_not_depend_on_the_writers_session(config: FeedConfig) -> None:
    sql(config, "ALTER TABLE event ADD at timestamptz")
    async with running(config) as feed:
        sql(
            config,
            "SET TimeZone = 'America/New_York'; INSERT INTO event VALUES (1, 'x', '2024-02-13 15:53:50.5Z')",
        )
        published = await feed.outlet.until(1)
    assert published[0][1] == b'{"id":1,"note":"x","at":"2024-02-13T15:53:50.5+00:00"}'


async def test_wake_up_comes_with_the_commit(config: FeedConfig) -> None:
    """The poll interval is longer than the test may take."""
    config = evolve(config, replication=Replication(poll_s=300.0))
    async with running(config) as feed:
        for number in range(1, 6):
            sql(config, f"INSERT INTO event VALUES ({number}, 'x')")
            await feed.outlet.until(number)


async def test_transactions_come_in_the_order_of_their_commits(config: FeedConfig) -> None:
    """The first to write commits last: it is neither skipped nor taken for the first."""
    with connect(config.dsn) as slow, connect(config.dsn) as fast:
        async with running(config) as feed:
            slow.execute("BEGIN; INSERT INTO event VALUES (1, 'began first')")
            fast.execute("INSERT INTO event VALUES (2, 'committed first')")
            await feed.outlet.until(1)
            slow.execute("INSERT INTO event VALUES (3, 'x'); COMMIT")
            await feed.outlet.until(3)
        slow.execute("BEGIN; INSERT INTO event VALUES (4, 'began first')")
        fast.execute("INSERT INTO event VALUES (5, 'committed first')")
        slow.execute("COMMIT")
    async with running(config) as again:
        await again.outlet.until(2)
    assert feed.outlet.topics() == [b"event/2", b"event/1", b"event/3"]
    assert again.outlet.topics() == [b"event/5", b"event/4"]


async def test_rolled_back_rows_and_savepoints_are_never_published(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(
            config,
            "BEGIN; INSERT INTO event VALUES (1, 'x'); ROLLBACK",
            "BEGIN; SAVEPOINT s; INSERT INTO event VALUES (3, 'x'); ROLLBACK TO s;"
            " INSERT INTO event VALUES (4, 'x'); COMMIT",
            "BEGIN; SAVEPOINT s; SELECT rowcast.publish('lost', 'x'); ROLLBACK TO s; COMMIT",
            "INSERT INTO event VALUES (5, 'x')",
        )
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/4", b"event/5"]


async def test_operations_are_chosen_per_route(config: FeedConfig) -> None:
    routes = (
        Route("tables", ("new/{id}",), operations=("insert", "update")),
        Route("tables", ("gone/{id}",), operations=("delete",)),
    )
    config = evolve(config, routes=routes)
    install(config)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')", "UPDATE event SET note = 'b'", "DELETE FROM event")
        published = await feed.outlet.until(3)
    assert [(topic, body) for topic, body, _, _ in published] == [
        (b"new/1", b'{"id":1,"note":"a"}'),
        (b"new/1", b'{"id":1,"note":"b"}'),
        (b"gone/1", b'{"id":1,"note":"b"}'),
    ]


async def test_publish_from_sql_takes_its_place_among_rows(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(
            config,
            "BEGIN; SELECT rowcast.publish('a/1', 'first'); INSERT INTO event VALUES (1, 'between');"
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


async def test_role_without_privileges_on_the_outbox_may_write_and_publish(config: FeedConfig) -> None:
    sql(config, "DROP ROLE IF EXISTS writer", "CREATE ROLE writer", "GRANT INSERT ON event TO writer")
    try:
        async with running(config) as feed:
            sql(
                config, "SET ROLE writer; INSERT INTO event VALUES (1, 'x'); SELECT rowcast.publish('a', 'b')"
            )
            await feed.outlet.until(2)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql(config, "SET ROLE writer; DELETE FROM rowcast.outbox")
    finally:
        sql(config, "DROP OWNED BY writer", "DROP ROLE writer")


async def test_position_survives_the_process(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'before')")
        await feed.outlet.until(1)
    sql(config, "INSERT INTO event VALUES (2, 'between')")
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (3, 'live')")
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/2", b"event/3"]


async def test_read_that_is_cut_goes_on_where_it_was_cut(config: FeedConfig) -> None:
    sql(config, "INSERT INTO event SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i")
    async with running(config) as feed:
        killed = False

        def kill_in_the_middle(_: object) -> None:
            nonlocal killed
            if len(feed.outlet.published) == 2500 and not killed:
                killed = True
                sql(
                    config,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowcast'",
                )

        feed.outlet.on_publish = kill_in_the_middle
        sql(config, "INSERT INTO event SELECT i, repeat('x', 4000) FROM generate_series(2001, 6000) i")
        await feed.outlet.until(6000)
    assert killed
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, 6001)]


async def test_transaction_cut_by_a_stop_goes_on_where_it_was_cut(config: FeedConfig) -> None:
    delivered: list[bytes] = []
    for _ in range(2):
        async with running(config) as feed:
            if not delivered:
                sql(config, "INSERT INTO event SELECT i, repeat('x', 4000) FROM generate_series(1, 5000) i")
                await feed.outlet.until(500)
                assert len(feed.outlet.published) < 5000
            else:
                await feed.outlet.until(5000 - len(delivered))
        delivered += feed.outlet.topics()
    assert delivered == [b"event/%d" % number for number in range(1, 5001)]


async def test_rows_pruned_unread_are_a_gap(config: FeedConfig) -> None:
    sql(config, "INSERT INTO event VALUES (1, 'x')", "INSERT INTO event VALUES (2, 'x')")
    sql(
        config,
        "SET rowcast.prunes = on",
        "DELETE FROM rowcast.outbox_commit WHERE seq = 1",
        "UPDATE rowcast.outbox_pruned SET seq = 1",
    )
    async with running(config) as feed:
        await feed.outlet.until(1)
        assert "have been pruned" in await feed.outlet.gap()
    assert feed.outlet.topics() == [b"event/2"]


async def test_rows_pruned_before_a_live_process_has_read_them_are_a_gap(config: FeedConfig) -> None:
    """Another process of the same feed was quicker, and said that they had been read."""
    gaps: list[int] = []
    asked, go_on = trio.Event(), trio.Event()

    async def durable() -> None:
        asked.set()
        await go_on.wait()

    async with running(config) as feed:
        feed.outlet.on_publish = lambda published: gaps.append(len(feed.outlet.announced))
        feed.outlet.durable = durable  # type: ignore[method-assign]
        sql(config, "INSERT INTO event VALUES (1, 'x')")
        await asked.wait()
        sql(
            config,
            "INSERT INTO event VALUES (2, 'x')",
            "SET rowcast.prunes = on",
            "DELETE FROM rowcast.outbox_commit WHERE seq = 2",
            "UPDATE rowcast.outbox_pruned SET seq = 2",
            "INSERT INTO event VALUES (3, 'x')",
        )
        go_on.set()
        await until(lambda: b"event/3" in feed.outlet.topics())
    assert feed.outlet.topics() == [b"event/1", b"event/3"]
    assert gaps[0] == 0
    assert gaps[1] > 0


@pytest.mark.parametrize(
    "taken",
    [
        "DELETE FROM rowcast.outbox",
        "DELETE FROM rowcast.outbox_commit",
        "TRUNCATE rowcast.outbox, rowcast.outbox_commit",
    ],
)
async def test_rows_that_somebody_deletes_from_the_outbox_are_a_gap_before_the_next_row(
    config: FeedConfig, taken: str
) -> None:
    told: list[bool] = []
    goes_on = trio.Event()
    async with running(config) as feed:
        feed.outlet.durable = goes_on.wait  # type: ignore[method-assign]
        sql(config, "INSERT INTO event VALUES (1, 'x')")
        await feed.outlet.until(1)
        sql(config, "INSERT INTO event VALUES (2, 'lost')", taken, "INSERT INTO event VALUES (3, 'x')")
        feed.outlet.on_publish = lambda published: told.append(bool(feed.outlet.announced))
        goes_on.set()
        await until(lambda: b"event/3" in feed.outlet.topics())
        assert await feed.outlet.gap() == "somebody has deleted rows of the outbox"
        assert json.loads(feed.outlet.announced[0][1])["to"] == "now"  # behind what had been read
    assert told[feed.outlet.topics()[1:].index(b"event/3")]


async def test_feed_waits_for_what_was_pruned_to_be_known_again(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'x')")
        await feed.outlet.until(1)
    sql(config, "DELETE FROM rowcast.outbox_pruned", "INSERT INTO event VALUES (2, 'x')")
    feed = Running(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, config, feed.outlet, feed.status)
        await until(lambda: "rowcast feed install" in feed.status.problem)
        assert not feed.outlet.published
        install(config)
        assert await feed.outlet.gap() == "somebody has emptied rowcast.outbox_pruned"
        sql(config, "INSERT INTO event VALUES (3, 'x')")
        await until(lambda: b"event/3" in feed.outlet.topics())
        nursery.cancel_scope.cancel()


async def test_rows_that_somebody_deletes_from_the_outbox_of_a_stopped_feed_are_a_gap(
    config: FeedConfig,
) -> None:
    sql(config, "INSERT INTO event VALUES (1, 'lost')", "DELETE FROM rowcast.outbox")
    async with running(config) as feed:
        assert await feed.outlet.gap() == "somebody has deleted rows of the outbox"
        sql(config, "INSERT INTO event VALUES (2, 'x')")
        await feed.outlet.until(1)
    sql(config, "DELETE FROM rowcast.outbox_commit", "DELETE FROM rowcast.outbox")
    async with running(config) as again:
        pass
    assert again.status.gaps == 0


@pytest.mark.parametrize("is_stopped", [False, True], ids=["live", "stopped"])
async def test_numbers_that_are_set_back_are_a_gap(config: FeedConfig, is_stopped: bool) -> None:
    set_back = ("TRUNCATE rowcast.outbox, rowcast.outbox_commit", "ALTER SEQUENCE rowcast.outbox_seq RESTART")
    async with running(config) as feed:
        sql(config, *(f"INSERT INTO event VALUES ({number}, 'x')" for number in range(1, 6)))
        await feed.outlet.until(5)
        await until(lambda: feed.status.acknowledged == "5")
        if not is_stopped:
            sql(config, *set_back, "INSERT INTO event VALUES (6, 'lost')")
            await feed.outlet.gap()
            install(config)
            sql(config, "INSERT INTO event VALUES (7, 'x')")
            await until(lambda: b"event/7" in feed.outlet.topics())
    if is_stopped:
        sql(config, *set_back, "INSERT INTO event VALUES (6, 'lost')")
        install(config)
        sql(config, "INSERT INTO event VALUES (7, 'x')")
        async with running(config) as feed:
            await until(lambda: b"event/7" in feed.outlet.topics())
            await feed.outlet.gap()


async def test_transactions_of_a_dump_are_not_taken_for_those_that_get_their_ids_later(
    config: FeedConfig,
) -> None:
    ahead = "(pg_snapshot_xmax(pg_current_snapshot())::text::bigint + ahead)::text::xid8"
    sql(
        config,
        f"INSERT INTO rowcast.outbox_commit (xid, seq, committed_at) SELECT {ahead}, ahead, now()"
        " FROM generate_series(2, 30) ahead",
        "SELECT setval('rowcast.outbox_seq', 30)",
        "UPDATE rowcast.feed SET read_seq = 30, system_identifier = 'another', timeline = 1",
    )
    async with running(config) as feed:
        assert "another database system" in await feed.outlet.gap()
        sql(config, *(f"INSERT INTO event VALUES ({number}, 'x')" for number in range(30)))
        await feed.outlet.until(30)
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(30)]


async def test_other_server_is_a_gap(config: FeedConfig) -> None:
    async with running(config):
        pass
    sql(config, "UPDATE rowcast.feed SET system_identifier = '1'")
    async with running(config) as feed:
        assert "another database system" in await feed.outlet.gap()


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
    assert not feed.outlet.repeated()


async def test_silent_server_is_noticed(
    config: FeedConfig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio_connection, "SETTLE_TIMEOUT_S", 0.3)
    async with tcp_proxy(cluster.port) as proxy:
        dsn = config.dsn.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(evolve(config, dsn=dsn, check_interval_s=0.3, check_timeout_s=0.5)) as feed:
            sql(config, "INSERT INTO event VALUES (1, 'a')")
            await feed.outlet.until(1)
            proxy.freeze()
            sql(config, "INSERT INTO event VALUES (2, 'b')")
            await until(lambda: feed.status.state != "live")
            proxy.thaw()
            await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/1", b"event/2"]


async def test_envelope_carries_the_position_where_a_route_asks(config: FeedConfig) -> None:
    route = Route("tables", ("e",), body="envelope", target="econia", position=True)
    async with running(evolve(config, routes=(route,))) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a'), (2, 'b')")
        published = await feed.outlet.until(2)
    check_positions(published, b'"note":"a"}')
