"""What a feed has in its database is called by its name, and what is wrong with it is said with its cure."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.feeds import Collector, running
from support.installed import EVENT, connect, feed_config, install, sql

from broker.config.feeds import FeedConfig, Replication, Source
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady, ServerIdentity
from broker.feed.status import FeedStatus
from broker.feed.wal import slots
from broker.feed.wal.feed import WalFeed
from broker.feed.wal.slots import (
    Slot,
)
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
        await feed.outlet.until(1)


# --- what the database has


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


async def test_a_slot_that_another_process_reads_is_waited_for_in_words(config: FeedConfig) -> None:
    name = slots.slot_name(config)
    async with (
        connected(config, replication="database") as first,
        connected(config, replication="database") as second,
    ):
        await slots.start(first, config, name, 0)
        with pytest.raises(
            NotReady, match=r"is active for PID .* takes over when that one has ended; .*`name`"
        ):
            await slots.start(second, config, name, 0)


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
