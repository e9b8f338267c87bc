"""A server that is set otherwise for a while, or whose databases go to another: rows come, or may be missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
import trio
from attrs import evolve
from support.feeds import Running, running
from support.initdb import RUN
from support.installed import TELLS_OF_EVENTS, drop_slots, event_config, install, sql
from support.polling import until
from support.postgres import Cluster, binaries

from broker.config.feeds import FeedConfig
from broker.feed.supervise import supervise

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def other_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Made by itself, and no copy: another system."""
    monkeypatch.delenv(RUN, raising=False)
    cluster = Cluster()
    yield cluster
    cluster.close()


def prepared(dsn: str, kind: str) -> FeedConfig:
    sql(dsn, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    if kind == "listen":
        sql(dsn, TELLS_OF_EVENTS)
    config = event_config(kind, dsn)
    install(config)
    return config


def restart_with(cluster: Cluster, wal_level: str) -> None:
    sql(cluster.dsn(), f"ALTER SYSTEM SET wal_level = {wal_level}")
    cluster.restart()


async def test_wal_level_that_is_lowered_for_a_while_is_refused_in_words_and_then_a_gap(
    own_cluster: Cluster,
) -> None:
    """Postgres starts without logical decoding only where no slot is left."""
    dsn = own_cluster.dsn()
    config = prepared(dsn, "wal")
    async with running(config) as feed:
        sql(dsn, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    await drop_slots(dsn)
    restart_with(own_cluster, "replica")
    sql(dsn, "INSERT INTO event VALUES (2, 'lost')")
    feed = Running(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, config, feed.outlet, feed.status)
        await until(lambda: "wal_level is replica" in feed.status.problem)
        assert 'kind = "outbox"' in feed.status.problem
        await trio.to_thread.run_sync(restart_with, own_cluster, "logical")
        await feed.until_live()
        assert "there was no slot" in await feed.outlet.gap()
        sql(dsn, "INSERT INTO event VALUES (3, 'b')")
        await until(lambda: b"event/3" in feed.outlet.topics())
        assert feed.status.gaps == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["outbox", "listen"])
async def test_wal_level_is_nothing_to_the_other_kinds(own_cluster: Cluster, kind: str) -> None:
    dsn = own_cluster.dsn()
    config = prepared(dsn, kind)
    async with running(config) as feed:
        for number, wal_level in enumerate(("minimal", "replica", "logical"), 1):
            if wal_level == "minimal":
                sql(dsn, "ALTER SYSTEM SET max_wal_senders = 0")
            sql(dsn, f"INSERT INTO event VALUES ({number}, 'a')")
            await trio.to_thread.run_sync(restart_with, own_cluster, wal_level)
            await feed.outlet.until(number)
    assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/1", b"event/2", b"event/3"], 0)


def moved(source: str, target: str) -> None:
    """As `pg_upgrade` and a dump do it: all that is in the database, and no slot."""
    dump = subprocess.run([binaries() / "pg_dump", "--dbname", source], check=True, capture_output=True)
    subprocess.run(
        [binaries() / "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", target],
        input=dump.stdout,
        check=True,
        capture_output=True,
        env={**os.environ, "PAGER": ""},
    )


@pytest.mark.parametrize("is_live", [True, False], ids=["live", "stopped"])
@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_database_that_is_moved_to_another_server_goes_on_and_is_a_gap(
    own_cluster: Cluster, other_cluster: Cluster, kind: str, is_live: bool
) -> None:
    source, target = own_cluster.dsn(), other_cluster.dsn()
    config = prepared(source, kind)
    async with running(config) as feed:
        sql(source, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        if is_live:
            await trio.to_thread.run_sync(take_place, own_cluster, other_cluster)
            if kind != "listen":  # reads the table again, from the last key
                assert "another database system" in await feed.outlet.gap()
            sql(own_cluster.dsn(), "INSERT INTO event VALUES (3, 'b')")
            await until(lambda: b"event/3" in feed.outlet.topics())
            assert b"event/2" in feed.outlet.topics() or kind != "listen"
            return
    sql(source, "INSERT INTO event VALUES (2, 'perhaps')")
    moved(source, target)
    config = evolve(config, dsn=target)
    async with running(config) as feed:
        if kind != "listen":
            assert "another database system" in await feed.outlet.gap()
        sql(target, "INSERT INTO event VALUES (3, 'b')")
        await until(lambda: b"event/3" in feed.outlet.topics())
        assert b"event/2" in feed.outlet.topics() or kind != "listen"


def take_place(old: Cluster, new: Cluster) -> None:
    """The new server has what the old one had, and listens where that did."""
    sql(old.dsn(), "INSERT INTO event VALUES (2, 'perhaps')")
    moved(old.dsn(), new.dsn())
    old.stop()
    new.stop()
    with (new.data / "postgresql.conf").open("a") as conf:
        conf.write(f"port = {old.port}\n")
    new.start()
