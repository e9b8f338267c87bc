"""What a feed has in its database is called by its name, and what is wrong with it is said with its cure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.feeds import Collector, running
from support.installed import EVENT, connect, feed_config, install, sql

from broker.config.feeds import FeedConfig, Replication, Source
from broker.feed.driver.connection import TrioConnection
from broker.feed.sealed import BROKEN
from broker.feed.status import FeedStatus
from broker.feed.wal import slots
from broker.feed.wal.feed import WalFeed
from broker.feed.wal.slots import Known, NotReady, ServerIdentity, Slot
from protocol.pgoutput import parse_lsn


@pytest.fixture
def not_installed(database: str) -> FeedConfig:
    sql(database, EVENT)
    return feed_config(database)


async def test_unbounded_wal_is_refused_unless_allowed(config: FeedConfig) -> None:
    config = evolve(config, replication=Replication())
    with pytest.raises(NotReady, match="max_slot_wal_keep_size is unlimited"):
        await WalFeed(config, Collector(), FeedStatus("test")).attempt()


# --- names


def named(
    name: str = "Main-1", dsn: str = "dbname=Shop", slot: str = "", publication: str = ""
) -> FeedConfig:
    return FeedConfig(name, dsn, "wal", replication=Replication(slot=slot, publication=publication))


@pytest.mark.parametrize(
    ("config", "database", "name"),
    [
        (named(), "", "rowcast_main_1_shop"),
        (named(), "Other Db", "rowcast_main_1_other_db"),
        (named(slot="mine"), "other", "mine"),
        (named("n" * 70), "", ("rowcast_" + "n" * 70)[:63]),
        (named("n" * 50), "", "rowcast_" + "n" * 50 + "_shop"),
    ],
)
def test_a_slot_s_name_is_one_that_postgres_takes(config: FeedConfig, database: str, name: str) -> None:
    assert slots.slot_name(config, database) == name
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("config", "name"),
    [(named(), "rowcast_main_1"), (named(slot="mine"), "mine"), (named("n" * 70), "rowcast_" + "n" * 55)],
)
def test_a_slot_s_earlier_name(config: FeedConfig, name: str) -> None:
    assert slots.earlier_slot_name(config) == name


@pytest.mark.parametrize(
    ("dsn", "environment", "name"),
    [
        ("dbname=a user=u", {"PGDATABASE": "b"}, "a"),
        ("user=u", {"PGDATABASE": "b"}, "b"),
        ("postgres://u@h/a", {}, "a"),
        ("user=u", {}, "u"),
        ("", {"LOGNAME": "me"}, "me"),
    ],
)
def test_a_database_is_called_as_libpq_would(
    dsn: str, environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGDATABASE", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert slots.database_name(named(dsn=dsn)) == name


def test_each_operation_has_a_publication_of_its_own() -> None:
    assert slots.publication_names(named()) == [
        "rowcast_main_1",
        "rowcast_main_1_update",
        "rowcast_main_1_delete",
    ]
    assert slots.publication_name(named(publication="Mine"), "delete") == "Mine_delete"
    long = slots.publication_names(named("n" * 70))
    assert [len(name) for name in long] == [63, 63, 63]
    assert len(set(long)) == 3


# --- which server it is


HERE = ServerIdentity("7", 1, 100)


@pytest.mark.parametrize(
    ("known", "difference"),
    [
        (None, ""),
        (HERE, ""),
        (evolve(HERE, wal_lsn=99), ""),
        (evolve(HERE, wal_lsn=101), "restored: the server's WAL ends before what it had sent"),
        (evolve(HERE, timeline=2), "failover or restore: timeline 1, no longer 2"),
        (evolve(HERE, system_identifier="8", timeline=2), "another database system: 7, no longer 8"),
    ],
)
def test_a_server_that_is_another_is_told_by_what_it_says(
    known: ServerIdentity | None, difference: str
) -> None:
    assert HERE.difference(known) == difference


def test_what_is_known_of_a_feed() -> None:
    assert (Known(place=(5, 1), kept_lsn=7).reaches, Known(place=(9, 1), kept_lsn=7).reaches) == (7, 9)
    assert Known().move == ""
    assert Known(moved_from="outbox").move == "the feed was moved from the kind outbox"


@pytest.mark.parametrize(
    ("version", "options"),
    [
        (130000, "(proto_version '1', publication_names "),
        (140000, "(proto_version '2', publication_names "),
    ],
)
def test_replication_is_asked_for_as_the_server_knows_it(version: int, options: str) -> None:
    asked = slots.start_replication(named(), "mine", version, 0x1_0000_00FF).as_string(None)
    assert asked.startswith(f'START_REPLICATION SLOT "mine" LOGICAL 1/FF {options}')
    assert '\'"rowcast_main_1","rowcast_main_1_update","rowcast_main_1_delete"\'' in asked
    assert ("streaming 'on', messages 'true'" in asked) == (version >= 140000)


async def test_a_publication_may_have_any_name(not_installed: FeedConfig) -> None:
    replication = evolve(not_installed.replication, publication="My \"own\", and 'more'")
    odd = evolve(not_installed, replication=replication)
    install(odd)
    async with running(odd) as feed:
        sql(odd, "INSERT INTO event VALUES (1, 'x')")
        await feed.sink.until(1)


# --- what the database has


@pytest.fixture
async def connection(config: FeedConfig) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(config.dsn, autocommit=True) as connection:
        yield connection


async def test_a_slot_is_found_by_the_database_s_name_or_by_its_earlier_one(
    config: FeedConfig, connection: TrioConnection
) -> None:
    name, found = await slots.find_slot(connection, config)
    assert name == slots.slot_name(config)
    assert found is not None
    assert (found.lost, found.active_pid) == (False, None)
    assert 0 < found.confirmed_lsn <= await slots.current_lsn(connection)
    await slots.drop_slot(connection, name)
    assert await slots.find_slot(connection, config) == (name, None)
    start = await slots.create_slot(connection, slots.earlier_slot_name(config))
    earlier, found = await slots.find_slot(connection, config)
    assert (earlier, found) == (slots.earlier_slot_name(config), Slot(start, False, None))
    named = evolve(config, replication=evolve(config.replication, slot="another"))
    assert await slots.find_slot(connection, named) == ("another", None)


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
async def test_a_slot_of_another_plugin_or_database_is_not_ours(
    config: FeedConfig, connection: TrioConnection, cluster: Any, plugin: str
) -> None:
    dsn = config.dsn if plugin == "test_decoding" else cluster.dsn()
    with connect(dsn) as other:
        other.execute("SELECT pg_create_logical_replication_slot('taken', %s)", [plugin])
        try:
            taken = evolve(config, replication=evolve(config.replication, slot="taken"))
            with pytest.raises(
                NotReady, match=f"the slot taken uses plugin {plugin} or belongs to another database"
            ):
                await slots.find_slot(connection, taken)
            if plugin == "pgoutput":  # a default name that another database's slot has is none of ours
                with connect(cluster.dsn()) as elsewhere:
                    elsewhere.execute("SELECT pg_create_logical_replication_slot('rowcast_test', 'pgoutput')")
                await slots.drop_slot(connection, slots.slot_name(config))
                assert await slots.find_slot(connection, config) == (slots.slot_name(config), None)
        finally:
            other.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                          " WHERE slot_name IN ('taken', 'rowcast_test')")  # fmt: skip


async def test_a_publication_that_is_missing_is_named(config: FeedConfig, connection: TrioConnection) -> None:
    await slots.check_publication(connection, config)
    await connection.execute("DROP PUBLICATION rowcast_test_delete")
    with pytest.raises(
        NotReady, match="there is no publication rowcast_test_delete: run `rowcast feed install"
    ):
        await slots.check_publication(connection, config)


async def test_settings_that_let_a_slot_fill_the_disk_are_refused_unless_allowed(
    config: FeedConfig, connection: TrioConnection
) -> None:
    await slots.check_settings(connection, config)
    strict = evolve(config, replication=Replication())
    with pytest.raises(NotReady, match="max_slot_wal_keep_size is unlimited"):
        await slots.check_settings(connection, strict)


LISTENS = Source("n", ("news",))


async def test_notifications_that_nothing_brings_are_missed_at_the_start(
    config: FeedConfig, connection: TrioConnection, caplog: pytest.LogCaptureFixture
) -> None:
    heard = evolve(config.routes[0], source="n", kind=None)
    listening = evolve(config, sources=(*config.sources, LISTENS), routes=(*config.routes, heard))
    await connection.execute("DROP FUNCTION IF EXISTS rowcast.pg_notify(text, text)")
    await slots.check_notices(connection, config)
    with pytest.raises(NotReady, match=r"rowcast\.pg_notify\(\) is missing"):
        await slots.check_notices(connection, listening)
    install(listening)
    await slots.check_notices(connection, listening)
    sql(config, "CREATE FUNCTION tell() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('news', 'x') $$")
    status = FeedStatus("test")
    await slots.warn_of_unheard(connection, config, status, 0.0)
    assert "not heard" not in caplog.text
    await slots.warn_of_unheard(connection, listening, status, 0.0)
    assert "notifications not heard" in caplog.text
    assert "tell" in caplog.text


# --- what is kept of a feed


async def test_what_is_remembered_is_known(config: FeedConfig, connection: TrioConnection) -> None:
    assert (await slots.known_feed(connection, config)).identity is None
    await slots.remember_identity(connection, config, ServerIdentity("7", 3, 99))
    await slots.remember_place(connection, "test", 500, 2)
    await slots.remember_log(connection, "test", "log")
    await slots.owe(connection, config, "why")
    known = await slots.known_feed(connection, config)
    assert (known.identity, known.place, known.log) == (ServerIdentity("7", 3, 0), (500, 2), "log")
    assert (known.owed, known.moved_from) == ("why", "")
    await slots.owe_nothing(connection, "test")
    await slots.remember_identity(connection, config, ServerIdentity("8", 1, 0))
    known = await slots.known_feed(connection, config)
    assert (known.identity, known.owed, known.place) == (ServerIdentity("8", 1, 0), "", (500, 2))
    assert await slots.known_feed(connection, evolve(config, name="another")) == Known()


async def test_a_place_that_was_changed_by_hand_is_owed_a_gap(
    config: FeedConfig, connection: TrioConnection
) -> None:
    await slots.remember_place(connection, "test", 500, 2)
    await connection.execute("UPDATE rowcast.feed SET read_seq = 900, moved_from = 'outbox'")
    known = await slots.known_feed(connection, config)
    assert (known.owed, known.moved_from, known.place) == (BROKEN, "outbox", (900, 2))
    await slots.owe(connection, config, "first")
    assert (await slots.known_feed(connection, config)).owed == "first"
    await slots.owe_nothing(connection, "test")
    known = await slots.known_feed(connection, config)
    assert (known.owed, known.moved_from) == ("", "")


async def test_without_a_row_one_is_made(config: FeedConfig, connection: TrioConnection) -> None:
    await connection.execute("DELETE FROM rowcast.feed")
    await slots.owe(connection, config, "why")
    await slots.remember_identity(connection, config, HERE)
    assert (await slots.known_feed(connection, config)).owed == "why"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DROP TABLE rowcast.feed CASCADE", "the table rowcast.feed is missing"),
        ("DROP SCHEMA rowcast CASCADE", "the table rowcast.feed is missing"),
        (
            "UPDATE rowcast.feed SET kind = 'outbox'",
            'was installed with kind = "outbox", and is configured with "wal"',
        ),
    ],
)
async def test_a_feed_that_is_not_installed_as_it_is_configured_is_refused(
    config: FeedConfig, connection: TrioConnection, statement: str, problem: str
) -> None:
    await connection.execute(statement.encode())
    with pytest.raises(NotReady, match=problem):
        await slots.known_feed(connection, config)


async def test_a_role_that_may_not_read_is_told_what_to_run(
    config: FeedConfig, connection: TrioConnection
) -> None:
    await connection.execute("CREATE ROLE nobody_here; SET ROLE nobody_here")
    try:
        with pytest.raises(
            NotReady, match=r"permission denied.*run `rowcast feed install --apply` for this role"
        ):
            await slots.known_feed(connection, config)
    finally:
        await connection.execute("RESET ROLE; DROP ROLE nobody_here")


async def test_a_server_is_identified_with_the_end_of_its_wal(
    config: FeedConfig, connection: TrioConnection
) -> None:
    async with await TrioConnection.connect(
        config.dsn, autocommit=True, replication="database"
    ) as replication:
        found = await slots.identify(replication)
    row: Any = await (
        await connection.execute(
            "SELECT system_identifier::text, pg_current_wal_lsn()::text FROM pg_control_system()"
        )
    ).fetchone()
    assert (found.system_identifier, found.timeline) == (row[0], 1)
    assert 0 < found.wal_lsn <= parse_lsn(row[1])


async def test_only_our_own_sender_is_ended(config: FeedConfig, connection: TrioConnection) -> None:
    with connect(config.dsn) as other:
        pid = other.info.backend_pid
        for active, own in ((None, pid), (pid, None), (pid + 1, pid), (None, None)):
            await slots.end_own_sender(connection, Slot(0, False, active), own)
        other.execute("SELECT 1")
        await slots.end_own_sender(connection, Slot(0, False, pid), pid)
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT pg_sleep(60)")
