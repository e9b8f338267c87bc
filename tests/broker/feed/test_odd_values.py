"""Values that JSON, UTF-8 or a partition make hard: each costs at most its own row, whatever the kind of the feed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import Running, running
from support.installed import TELLS_OF_EVENTS, connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.feed.setup.install import install_steps
from broker.feed.supervise import supervise

pytestmark = pytest.mark.usefixtures("short_pauses")


def made(dsn: str, kind: str, **route: Any) -> FeedConfig:
    """A feed of `event`; with `listen` what is long is fetched, and what was missed read again."""
    wanted = Route("tables", ("event/{id}",), **route)
    if kind != "listen":
        config = feed_config(dsn, kind, routes=(wanted,))
    else:
        kinds = (("tables", "event"),)
        config = FeedConfig(
            "test",
            dsn,
            sources=(Source("tables", ("event",)),),
            routes=(wanted,),
            recoveries=(Recovery("public.event", ("id",), kinds),),
            fetches=(Fetch("public.event", ("id",), kinds),),
        )
        with connect(dsn) as connection:
            connection.execute(TELLS_OF_EVENTS)
    install(config)
    return config


def write(config: FeedConfig, *statements: str | bytes) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def ascii_dsn(cluster: Any) -> Iterator[str]:
    name = "ascii_odd"
    with connect(cluster.dsn()) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    yield cluster.dsn(name)
    cluster.drop_database(name)


BAD = b"INSERT INTO event VALUES (%d, repeat('\xe4\xff', %d))"


async def test_text_that_is_not_utf8_costs_a_listening_feed_its_row(ascii_dsn: str) -> None:
    """Notified, fetched because it is long, and read again after it was away."""
    write(feed_config(ascii_dsn), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = made(ascii_dsn, "listen")
    encoding = "SET client_encoding = SQL_ASCII"
    async with running(config) as feed:
        write(config, encoding, BAD % (1, 1), "INSERT INTO event VALUES (2, 'a')")
        write(config, encoding, BAD % (3, 5000), "INSERT INTO event VALUES (4, 'b')")
        await feed.outlet.until(2)
        assert feed.status.dropped == {"not_utf8": 2}
    write(config, encoding, BAD % (5, 1), BAD % (6, 5000), "INSERT INTO event VALUES (7, 'c')")
    async with running(config) as again:
        await again.outlet.until(1)
        assert again.status.dropped == {"not_utf8": 2}
    assert feed.outlet.topics() + again.outlet.topics() == [b"event/2", b"event/4", b"event/7"]


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_text_that_is_not_utf8_costs_a_snapshot_its_row(ascii_dsn: str, kind: str) -> None:
    write(feed_config(ascii_dsn), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = made(ascii_dsn, kind, snapshot="table")
    encoding = "SET client_encoding = SQL_ASCII"
    write(config, encoding, BAD % (1, 1), "INSERT INTO event VALUES (2, 'a')")
    async with running(config) as feed:
        await feed.outlet.until(1)
    assert feed.outlet.topics() == [b"event/2"]
    assert feed.status.dropped.keys() == {"not_utf8"}


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_message_that_is_not_utf8_costs_itself_and_no_writer(ascii_dsn: str, kind: str) -> None:
    write(feed_config(ascii_dsn), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = made(ascii_dsn, kind)
    sources = (*config.sources, Source("said", ("said",)))
    config = evolve(config, sources=sources, routes=(*config.routes, Route("said", ("said/{id}",))))
    install(config)
    async with running(config) as feed:
        write(
            config,
            "SET client_encoding = SQL_ASCII",
            b"SELECT rowcast.publish('a', '\\xe4ff'::bytea)",
            b"""SELECT rowcast.pg_notify('said', '{"id":1,"note":"\xe4\xff"}')""",
            b"SELECT rowcast.notify('\xe4\xff', '')",
            b"""SELECT rowcast.pg_notify('said', '{"id":2,"note":""}')""",
            b"SELECT pg_logical_emit_message(true, '\xe4\xff', 'of another program')",
            "INSERT INTO event VALUES (1, 'a')",
        )
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"a", b"said/2", b"event/1"]
    assert feed.status.dropped["not_utf8"] == 1
    for call in (b"publish('a/\xe4\xff', 'x'::bytea)", b"publish('a/1', '\xe4\xff'::text)"):
        with pytest.raises(psycopg.Error, match="UTF8"):
            write(config, "SET client_encoding = SQL_ASCII", b"SELECT rowcast." + call)


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_column_whose_name_is_not_utf8_costs_at_most_its_rows(ascii_dsn: str, kind: str) -> None:
    write(feed_config(ascii_dsn), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = made(ascii_dsn, kind)
    ascii_ = "SET client_encoding = SQL_ASCII"
    async with running(config) as feed:
        write(config, ascii_, "INSERT INTO event VALUES (1, 'a')")
        write(config, ascii_, b'ALTER TABLE event ADD COLUMN "\xe4\xff" integer')
        write(config, ascii_, "INSERT INTO event VALUES (2, 'b')")
        write(config, ascii_, b'ALTER TABLE event RENAME COLUMN "\xe4\xff" TO more')
        write(config, ascii_, "INSERT INTO event VALUES (3, 'c')")
        await until(lambda: b"event/3" in feed.outlet.topics())
    assert feed.outlet.topics() == [b"event/1", b"event/3"]
    assert feed.status.dropped == {"not_utf8": 1} or feed.status.gaps == 1


@pytest.mark.parametrize("depth", [1500])
@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_deeply_nested_json_is_handed_on(database: str, kind: str, depth: int) -> None:
    write(feed_config(database), "CREATE TABLE event (id bigint PRIMARY KEY, deep jsonb, flat jsonb)")
    config = made(database, kind)
    topics = ("event/{id}/{flat.a}", "event/{id}/{deep.a}")
    config = evolve(config, routes=(evolve(config.routes[0], topics=topics[:1]), Route("tables", topics[1:])))
    nested = '[{"x": ' * (depth // 2) + '"]}"' + "}]" * (depth // 2)
    async with running(config) as feed:
        write(
            config,
            f"""INSERT INTO event VALUES (1, '{{"a": 7, "b": {nested}}}', '{{"a": 5}}')""",
            f"""INSERT INTO event VALUES (2, '{nested}', '{{"a": 6}}')""",
        )
        published = await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/1/5", b"event/1/7", b"event/2/6"]
    assert published[0][1].startswith(b'{"id":1,"deep":{"a": 7, "b": [{"x": [{"x":')
    assert published[0][1].endswith(b'}]},"flat":{"a": 5}}')


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_row_that_moves_to_another_partition_is_deleted_and_inserted(database: str, kind: str) -> None:
    write(
        feed_config(database),
        "CREATE TABLE event (id bigint, place text, PRIMARY KEY (id, place)) PARTITION BY LIST (place)",
        "CREATE TABLE here PARTITION OF event FOR VALUES IN ('here')",
        "CREATE TABLE there PARTITION OF event DEFAULT",
    )
    config = made(database, kind, operations=("insert", "update", "delete"))
    config = evolve(config, routes=(evolve(config.routes[0], topics=("event/{id}/{place}/{$operation}",)),))
    async with running(config) as feed:
        write(config, "INSERT INTO event VALUES (1, 'here')", "UPDATE event SET place = 'there'")
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/1/here/insert", b"event/1/here/delete", b"event/1/there/insert"]


ROLE = "rowcast_reader"


@pytest.fixture
def of_role(database: str) -> Iterator[FeedConfig]:
    """A listening feed of a role that is neither superuser nor owner."""
    write(feed_config(database), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    made(database, "listen")
    config = made_for(database, ROLE)
    yield config
    write(feed_config(database), f"DROP OWNED BY {ROLE} CASCADE", f"DROP ROLE {ROLE}")


def made_for(dsn: str, role: str) -> FeedConfig:
    kinds = (("tables", "event"),)
    config = FeedConfig(
        "test",
        dsn.replace("user=postgres", f"user={role}"),
        sources=(Source("tables", ("event",)),),
        routes=(Route("tables", ("event/{id}",)),),
        recoveries=(Recovery("public.event", ("id",), kinds),),
        fetches=(Fetch("public.event", ("id",), kinds),),
    )
    with connect(dsn) as connection:
        for step in install_steps(config):
            connection.execute(step.statement)
    return config


async def test_row_security_lets_a_fetched_row_wait_instead_of_vanish(
    of_role: FeedConfig, database: str
) -> None:
    owner = feed_config(database)
    async with running(of_role) as feed:
        write(
            owner,
            "ALTER TABLE event ENABLE ROW LEVEL SECURITY",
            "INSERT INTO event VALUES (1, repeat('x', 9000)), (2, 'behind')",
        )
        await until(lambda: "row-level security" in feed.status.problem)
        assert feed.outlet.published == []
        write(owner, f"ALTER ROLE {ROLE} BYPASSRLS")
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/1", b"event/2"]
    assert feed.status.dropped == {}


async def test_row_security_lets_recovery_wait_instead_of_finding_nothing(
    of_role: FeedConfig, database: str
) -> None:
    owner = feed_config(database)
    async with running(of_role) as feed:
        write(owner, "INSERT INTO event VALUES (0, 'seen')")
        await feed.outlet.until(1)
    write(owner, "ALTER TABLE event ENABLE ROW LEVEL SECURITY", "INSERT INTO event VALUES (1, 'missed')")
    again = Running(of_role)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, of_role, again.outlet, again.status)
        await until(lambda: "row-level security" in again.status.problem)
        assert again.outlet.published == []
        write(owner, f"ALTER ROLE {ROLE} BYPASSRLS")
        await again.outlet.until(1)
        nursery.cancel_scope.cancel()
    assert again.outlet.topics() == [b"event/1"]
