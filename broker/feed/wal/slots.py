"""What a `wal` feed needs of the server: settings, publications, its slot.  What is wrong is named here.

Everything runs once per connection, before START_REPLICATION.  What is kept of the feed itself: `broker.feed.feed_row`.
"""

from __future__ import annotations

import getpass
import os
import re
from typing import Final

import psycopg
from attrs import frozen
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import OPERATIONS, FeedConfig
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.feed_row import NotReady, ServerIdentity, one_row, refuse_standby
from protocol.pgoutput import lsn_text, parse_lsn

PG_STREAMING: Final = 140000
"""server_version from which logical messages and the streaming of open transactions exist."""


@frozen
class Slot:
    """A replication slot as the server shows it.  `lost`: the server has removed what the slot needs."""

    confirmed_lsn: int
    lost: bool
    active_pid: int | None


def slot_name(config: FeedConfig, database: str = "") -> str:
    """The feed's slot: lower-case letters, digits and underscores, at most 63 of them.

    Slots are the server's, not a database's; so where the configuration names none, the name has the database in it.

    Args:
        database: as the server calls it; by default as the connection string does.
    """
    named = config.replication.slot
    return named or f"{earlier_slot_name(config)}_{_plain(database or database_name(config))}"[:63]


def earlier_slot_name(config: FeedConfig) -> str:
    """The default until databases were part of it; a slot of this name that is in our database goes on."""
    return config.replication.slot or f"rowcast_{_plain(config.name)}"[:63]


def database_name(config: FeedConfig) -> str:
    """The database that the connection string names, or libpq's default."""
    given = conninfo_to_dict(config.dsn)
    return str(given.get("dbname") or os.environ.get("PGDATABASE") or given.get("user") or getpass.getuser())


def publication_name(config: FeedConfig, operation: str = "insert") -> str:
    """One publication for each operation, so that no table's writers need a key for what no route wants."""
    base = config.replication.publication or f"rowcast_{_plain(config.name)}"
    return base[:63] if operation == "insert" else f"{base[: 62 - len(operation)]}_{operation}"


def publication_names(config: FeedConfig) -> list[str]:
    """The feed's publications: one per operation, since a publication's operations hold for all its tables."""
    return [publication_name(config, operation) for operation in OPERATIONS]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9_]", "_", name.lower())


async def identify(replication: TrioConnection) -> ServerIdentity:
    """Which server this is, its timeline, and up to where its WAL has been written.

    Raises:
        NotReady: a standby.  Promoted behind the question for its timeline, it would be taken for the server that it
            is a copy of; a primary's timeline stays while it runs.
    """
    await refuse_standby(replication)
    row = await one_row(replication, "IDENTIFY_SYSTEM")
    assert row is not None
    return ServerIdentity(str(row[0]), int(row[1]), parse_lsn(str(row[2])))


async def current_lsn(connection: TrioConnection) -> int:
    """Where the server's WAL ends."""
    row = await one_row(connection, "SELECT pg_current_wal_lsn()::text")
    assert row is not None
    return parse_lsn(row[0])


async def check_settings(connection: TrioConnection, config: FeedConfig) -> None:
    """Raises: NotReady, if the server can't do logical replication, or may fill its disk for us."""
    settings = {}
    for name in ("wal_level", "max_slot_wal_keep_size"):
        row = await one_row(connection, "SELECT current_setting(%s, true)", name)
        settings[name] = row and row[0]
    if settings["wal_level"] != "logical":
        raise NotReady(
            f'wal_level is {settings["wal_level"]}, kind = "wal" needs logical: '
            "ALTER SYSTEM SET wal_level = 'logical', then restart Postgres; or use kind = \"outbox\""
        )
    if settings["max_slot_wal_keep_size"] in ("-1", None) and not config.replication.allow_unbounded_wal:
        raise NotReady(
            "max_slot_wal_keep_size is unlimited, so a slot nobody reads fills the server's disk: "
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB' and SELECT pg_reload_conf(), "
            "or set allow_unbounded_wal = true for this feed"
        )


async def check_publication(connection: TrioConnection, config: FeedConfig) -> None:
    """Raises: NotReady, if a publication is missing."""
    for name in publication_names(config):
        if await one_row(connection, "SELECT 1 FROM pg_publication WHERE pubname = %s", name) is None:
            raise NotReady(f"there is no publication {name}: {INSTALL}")


async def find_slot(connection: TrioConnection, config: FeedConfig) -> tuple[str, Slot | None]:
    """The name of the feed's slot, and the slot, or None if there is none in this database.

    Raises:
        NotReady: the name belongs to a slot that is not ours to use.
    """
    here = await one_row(connection, "SELECT current_database()")
    assert here is not None
    name = slot_name(config, here[0])
    slot = await _find_slot(connection, name)
    if slot is None and not config.replication.slot:
        earlier = earlier_slot_name(config)
        is_ours = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()"
        if await one_row(connection, is_ours, earlier):
            return earlier, await _find_slot(connection, earlier)
    return name, slot


async def _find_slot(connection: TrioConnection, name: str) -> Slot | None:
    row = await one_row(
        connection,
        "SELECT plugin, database = current_database(), confirmed_flush_lsn::text,"
        " wal_status = 'lost' OR to_jsonb(slot) ->> 'invalidation_reason' IS NOT NULL"
        " OR coalesce((to_jsonb(slot) ->> 'conflicting')::boolean, false), active_pid"
        " FROM pg_replication_slots slot WHERE slot_name = %s",  # columns that came with 16 and 17, as JSON
        name,
    )
    if row is None:
        return None
    plugin, is_here, confirmed, is_lost, active_pid = row
    if plugin != "pgoutput" or not is_here:
        raise NotReady(
            f"the slot {name} uses plugin {plugin} or belongs to another database: "
            "give this feed another `slot`"
        )
    return Slot(parse_lsn(confirmed or "0/0"), is_lost or not confirmed, active_pid)


async def create_slot(connection: TrioConnection, name: str) -> int:
    """Create the slot; every transaction that commits from the returned position on will come through it."""
    query = "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')"
    row = await one_row(connection, query, name)
    assert row is not None
    return parse_lsn(row[0])


async def drop_slot(connection: TrioConnection, name: str) -> None:
    """Drop it; Postgres refuses while somebody reads it."""
    await connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


async def end_own_sender(connection: TrioConnection, slot: Slot, own_pid: int | None) -> None:
    """End the server's side of our last connection, if the server has not noticed that it is gone."""
    if slot.active_pid is not None and slot.active_pid == own_pid:
        await connection.execute("SELECT pg_terminate_backend(%s)", [own_pid])


async def start(replication: TrioConnection, config: FeedConfig, slot: str, lsn: int) -> None:
    """Begin to read the slot, as `start_replication`.  Raises: NotReady, while another process reads it."""
    try:
        await replication.execute(start_replication(config, slot, replication.pgconn.server_version, lsn))
    except psycopg.errors.ObjectInUse as error:
        raise NotReady(
            f"{first_line(error)}: this process takes over when that one has ended; for both to read, "
            "each has a `name` of its own in [database]"
        ) from None


def start_replication(config: FeedConfig, slot: str, server_version: int, lsn: int) -> sql.Composed:
    """START_REPLICATION with what this server's pgoutput can do.

    Args:
        lsn: transactions that committed before are not sent; where the slot stands, if that is behind it.
    """
    quoted = [name.replace('"', '""') for name in publication_names(config)]
    names = ",".join(f'"{name}"' for name in quoted)
    options = {"proto_version": "1", "publication_names": names}
    if server_version >= PG_STREAMING:
        options |= {"proto_version": "2", "streaming": "on", "messages": "true"}
    written = [sql.SQL(f"{name} {{}}").format(sql.Literal(value)) for name, value in options.items()]
    return sql.SQL("START_REPLICATION SLOT {} LOGICAL {} ({})").format(
        sql.Identifier(slot), sql.SQL(lsn_text(lsn)), sql.SQL(", ").join(written)
    )
