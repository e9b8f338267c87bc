"""Snapshot, then live: under writers that never pause, every row comes once, from the one or from the other."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve
from support.feeds import running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig, Route
from broker.feed.driver.connection import TrioConnection

WRITERS = 4

pytestmark = pytest.mark.usefixtures("fast_path")


@pytest.fixture(params=["wal", "outbox"])
def config(database: str, request: pytest.FixtureRequest) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigserial PRIMARY KEY, note text)")
    route = Route("tables", ("event/{id}",), kind="public.event", retain=True, snapshot="table")
    config = feed_config(database, request.param, routes=(route,))
    install(config)
    return config


async def write(dsn: str, ids: list[int], stopped: trio.Event) -> None:
    """Single rows, pairs held open, and rollbacks."""
    async with await TrioConnection.connect(dsn, autocommit=True) as connection:
        while not stopped.is_set():
            async with connection.transaction(force_rollback=len(ids) % 5 == 4) as transaction:
                rows = [await (await connection.execute(INSERT)).fetchone() for _ in range(2)]
                await trio.sleep(0.01)
            if not transaction.force_rollback:
                ids += [row[0] for row in rows if row is not None]
            else:
                ids.append(0)


INSERT = "INSERT INTO event (note) VALUES ('x') RETURNING id"


async def test_every_row_comes_once_from_the_snapshot_or_live(config: FeedConfig) -> None:
    written: list[list[int]] = [[] for _ in range(WRITERS)]
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:
        for ids in written:
            nursery.start_soon(write, config.dsn, ids, stopped)
        await trio.sleep(0.3)
        async with running(config) as feed:
            await trio.sleep(0.5)
            stopped.set()
            with connect(config.dsn) as connection:
                await until(lambda: not nursery.child_tasks)
                (committed,) = connection.execute("SELECT count(*) FROM event").fetchone() or (0,)
            await feed.outlet.until(committed)
    ids = sorted(number for some in written for number in some if number)
    assert sorted(int(topic[6:]) for topic in feed.outlet.topics()) == ids
    assert committed == len(ids)


async def test_query_of_a_route_chooses_rows_and_columns(config: FeedConfig) -> None:
    query = "SELECT id, upper(note) AS note FROM event WHERE id > 1"
    config = evolve(config, routes=(evolve(config.routes[0], snapshot=query),))
    with connect(config.dsn) as connection:
        connection.execute("INSERT INTO event (note) VALUES ('a'), ('b')")
        connection.execute("UPDATE rowcast.feed SET read_seq = 1 WHERE kind = 'outbox'")
    async with running(config) as feed:
        await feed.outlet.until(1)
        with connect(config.dsn) as connection:
            connection.execute("INSERT INTO event (note) VALUES ('c')")
        await feed.outlet.until(2)
    assert feed.outlet.published == [
        (b"event/2", b'{"id":2,"note":"B"}', 1, True),
        (b"event/3", b'{"id":3,"note":"c"}', 1, True),
    ]
