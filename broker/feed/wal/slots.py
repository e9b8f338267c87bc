"""The state that a `wal` feed has in the database: identity, publication, slot.  What is wrong is named here.

Everything runs once per connection, before START_REPLICATION.
"""

from __future__ import annotations

import getpass
import os
import re
from contextlib import suppress
from typing import Any, Final

import psycopg
from attrs import frozen
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.kept import write_as_installed
from broker.feed.notices import carried_channels
from broker.feed.routing.tables import OPERATIONS
from broker.feed.sealed import BROKEN, IS_BROKEN, seal
from broker.feed.setup.install_notices import CALL, callers
from broker.feed.status import FeedStatus
from protocol.pgoutput import lsn_text, parse_lsn

PG_STREAMING: Final = 140000
"""server_version from which logical messages and the streaming of open transactions exist."""


class NotReady(psycopg.OperationalError):
    """The database is not as the feed needs it.  The message says what is missing and what would cure it."""


@frozen
class ServerIdentity:
    """Which server this is.  A restored copy has another system identifier, a promoted standby another timeline."""

    system_identifier: str
    timeline: int
    wal_lsn: int

    def difference(self, known: ServerIdentity | None) -> str:
        """In words, how this server differs from the one known before; "" if it is the same."""
        if known is None:
            return ""
        if self.system_identifier != known.system_identifier:
            return f"another database system: {self.system_identifier}, no longer {known.system_identifier}"
        if self.timeline != known.timeline:
            return f"failover or restore: timeline {self.timeline}, no longer {known.timeline}"
        if self.wal_lsn < known.wal_lsn:
            return "restored: the server's WAL ends before what it had sent"
        return ""


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


async def refuse_standby(connection: TrioConnection) -> None:
    """Raises: NotReady, if the server is one."""
    if await _one(connection, "SELECT pg_is_in_recovery()") == (True,):
        raise NotReady(
            "the server is a standby, in which no feed can keep its place: promote it, or name the primary"
        )


async def identify(replication: TrioConnection) -> ServerIdentity:
    """Which server this is, its timeline, and up to where its WAL has been written.

    Raises:
        NotReady: a standby.  Promoted behind the question for its timeline, it would be taken for the server that it
            is a copy of; a primary's timeline stays while it runs.
    """
    await refuse_standby(replication)
    row = await _one(replication, "IDENTIFY_SYSTEM")
    assert row is not None
    return ServerIdentity(str(row[0]), int(row[1]), parse_lsn(str(row[2])))


@frozen
class Known:
    """What `rowcast.feed` says about a feed, by whatever process it was written.

    Attributes:
        identity: the server that it ran on last; None before the first time.
        place: a `Progress.place`, or for the outbox what was read last; harmless when old, since positions only grow.
        moved_from: the kind that the feed had before it was installed as another.
        owed: a gap that a process was about to announce when it ended.
        kept_lsn: up to where the server may have been told to forget, for the kind `wal`; 0 if that is unknown.
        log: of a cluster, which had everything up to the place; "" if none has.
    """

    identity: ServerIdentity | None = None
    place: tuple[int, int] = (0, 0)
    moved_from: str = ""
    owed: str = ""
    kept_lsn: int = 0
    log: str = ""

    @property
    def reaches(self) -> int:
        """Up to where the WAL was that a `wal` feed's place is of."""
        return max(self.kept_lsn, self.place[0])

    @property
    def move(self) -> str:
        """That the feed was moved, as the reason of a gap; "" if it was not."""
        return f"the feed was moved from the kind {self.moved_from}" if self.moved_from else ""


async def known_feed(connection: TrioConnection, config: FeedConfig) -> Known:
    """Raises: NotReady, if `rowcast feed install` has not been run, or was run for another kind."""
    try:
        row = await _one(
            connection,
            "SELECT kind, system_identifier, timeline, read_seq, read_id, to_jsonb(feed) ->> 'moved_from',"
            " to_jsonb(feed) ->> 'owed', (to_jsonb(feed) ->> 'stopped_at')::bigint, to_jsonb(feed) ->> 'log',"
            f" {IS_BROKEN} FROM rowcast.feed WHERE name = %s",
            config.name,
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise NotReady("the table rowcast.feed is missing: run `rowcast feed install --apply`") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotReady(f"{error}: run `rowcast feed install --apply` for this role") from None
    if row is None:
        return Known()
    kind, system_identifier, timeline, seq, place_id, moved_from, owed, kept_lsn, log, is_moved = row
    if kind != config.kind:
        raise NotReady(
            f'the feed {config.name} was installed with kind = "{kind}", and is configured with "{config.kind}": '
            "run `rowcast feed install --apply`"
        )
    identity = None if system_identifier is None else ServerIdentity(system_identifier, timeline, 0)
    return Known(
        identity,
        (seq, place_id),
        moved_from or "",
        owed or (BROKEN if is_moved else ""),
        kept_lsn or 0,
        log or "",
    )


async def remember_identity(connection: TrioConnection, config: FeedConfig, identity: ServerIdentity) -> None:
    """Note in `rowcast.feed` which server the feed's place belongs to."""
    await connection.execute(
        "INSERT INTO rowcast.feed AS known (name, kind, system_identifier, timeline) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (name) DO UPDATE SET system_identifier = excluded.system_identifier,"
        " timeline = excluded.timeline"
        " WHERE (known.system_identifier, known.timeline) IS DISTINCT FROM"
        " (excluded.system_identifier, excluded.timeline)",
        [config.name, config.kind, identity.system_identifier, identity.timeline],
    )


async def current_lsn(connection: TrioConnection) -> int:
    """Where the server's WAL ends."""
    row = await _one(connection, "SELECT pg_current_wal_lsn()::text")
    assert row is not None
    return parse_lsn(row[0])


async def owe(connection: TrioConnection, config: FeedConfig, reason: str) -> None:
    """Keep a gap for the next process, before what is done now makes it unnoticeable."""
    with suppress(psycopg.errors.UndefinedColumn):  # installed by an earlier version
        await connection.execute(
            "INSERT INTO rowcast.feed AS known (name, kind, owed) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET owed = excluded.owed",
            [config.name, config.kind, reason],
        )


async def owe_nothing(connection: TrioConnection, feed: str) -> None:
    """What was owed, or came with a feed's move to another kind, has been announced."""
    await connection.execute("UPDATE rowcast.feed SET moved_from = NULL WHERE name = %s", [feed])
    with suppress(psycopg.errors.UndefinedColumn):
        await connection.execute("UPDATE rowcast.feed SET owed = NULL WHERE name = %s", [feed])
        await connection.execute(f"UPDATE rowcast.feed SET sealed = {seal()} WHERE name = %s", [feed])


async def remember_place(connection: TrioConnection, feed: str, commit_lsn: int, changes: int) -> None:
    """Keep a `Progress.place` for the next process.  Raises: psycopg.Error."""
    query = "UPDATE rowcast.feed SET read_seq = %s, read_id = %s{} WHERE name = %s"
    sealed = f", sealed = {seal('%s::bigint', '%s::bigint')}"
    place = [commit_lsn, changes]
    await write_as_installed(
        connection, (query.format(sealed), [*place, *place, feed]), (query.format(""), [*place, feed])
    )


async def remember_log(connection: TrioConnection, feed: str, log: str) -> None:
    """Keep which log of a cluster has the rows up to the place."""
    with suppress(psycopg.errors.UndefinedColumn):  # installed by an earlier version
        await connection.execute("UPDATE rowcast.feed SET log = %s WHERE name = %s", [log, feed])


async def check_settings(connection: TrioConnection, config: FeedConfig) -> None:
    """Raises: NotReady, if the server can't do logical replication, or may fill its disk for us."""
    settings = {}
    for name in ("wal_level", "max_slot_wal_keep_size"):
        row = await _one(connection, "SELECT current_setting(%s, true)", name)
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
        if await _one(connection, "SELECT 1 FROM pg_publication WHERE pubname = %s", name) is None:
            raise NotReady(f"there is no publication {name}: run `rowcast feed install --apply`")


async def check_notices(connection: TrioConnection, config: FeedConfig) -> None:
    """Raises: NotReady, if a source listens to channels and nothing brings their notifications here."""
    if not carried_channels(config):
        return
    if config.captures_by == "publication" and connection.pgconn.server_version < PG_STREAMING:
        raise NotReady('notifications come through the WAL from PostgreSQL 14 on: use kind = "outbox"')
    if await _one(connection, "SELECT to_regprocedure('rowcast.pg_notify(text, text)')") == (None,):
        raise NotReady("rowcast.pg_notify() is missing: run `rowcast feed install --apply`")


async def warn_of_unheard(
    connection: TrioConnection, config: FeedConfig, status: FeedStatus, now: float
) -> None:
    """Name functions that notify without telling the feed, as those do that were made anew after the installation."""
    if carried_channels(config):
        for _, name in await (await connection.execute(callers(CALL))).fetchall():
            status.warn("notifications not heard, run `rowcast feed install --apply`", name, now)


async def find_slot(connection: TrioConnection, config: FeedConfig) -> tuple[str, Slot | None]:
    """The name of the feed's slot, and the slot, or None if there is none in this database.

    Raises:
        NotReady: the name belongs to a slot that is not ours to use.
    """
    here = await _one(connection, "SELECT current_database()")
    assert here is not None
    name = slot_name(config, here[0])
    slot = await _find_slot(connection, name)
    if slot is None and not config.replication.slot:
        earlier = earlier_slot_name(config)
        is_ours = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()"
        if await _one(connection, is_ours, earlier):
            return earlier, await _find_slot(connection, earlier)
    return name, slot


async def _find_slot(connection: TrioConnection, name: str) -> Slot | None:
    row = await _one(
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
    row = await _one(connection, query, name)
    assert row is not None
    return parse_lsn(row[0])


async def drop_slot(connection: TrioConnection, name: str) -> None:
    """Drop it; Postgres refuses while somebody reads it."""
    await connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


async def end_own_sender(connection: TrioConnection, slot: Slot, own_pid: int | None) -> None:
    """End the server's side of our last connection, if the server has not noticed that it is gone."""
    if slot.active_pid is not None and slot.active_pid == own_pid:
        await connection.execute("SELECT pg_terminate_backend(%s)", [own_pid])


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


async def _one(connection: TrioConnection, query: Any, *parameters: object) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = await (await connection.execute(query, parameters or None)).fetchone()
    return row
