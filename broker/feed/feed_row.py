"""The feed's row in `rowcast.feed`, of whatever kind it is: on which server it ran, how far it got, what it owes.

A process keeps there what the next one has to know.  Whoever installed an earlier version has fewer columns.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from attrs import frozen

from broker.config.feeds import FeedConfig
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.kept import write_as_installed
from broker.feed.sealed import BROKEN, IS_BROKEN, seal


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


async def refuse_standby(connection: TrioConnection) -> None:
    """Raises: NotReady, if the server is one."""
    if await one_row(connection, "SELECT pg_is_in_recovery()") == (True,):
        raise NotReady(
            "the server is a standby, in which no feed can keep its place: promote it, or name the primary"
        )


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
        row = await one_row(
            connection,
            "SELECT kind, system_identifier, timeline, read_seq, read_id, to_jsonb(feed) ->> 'moved_from',"
            " to_jsonb(feed) ->> 'owed', (to_jsonb(feed) ->> 'stopped_at')::bigint, to_jsonb(feed) ->> 'log',"
            f" {IS_BROKEN} FROM rowcast.feed WHERE name = %s",
            config.name,
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise NotReady(f"the table rowcast.feed is missing: {INSTALL}") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotReady(f"{error}: {INSTALL} for this role") from None
    if row is None:
        return Known()
    kind, system_identifier, timeline, seq, place_id, moved_from, owed, kept_lsn, log, is_moved = row
    if kind != config.kind:
        raise NotReady(
            f'the feed {config.name} was installed with kind = "{kind}", and is configured with "{config.kind}": '
            + INSTALL
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


async def one_row(connection: TrioConnection, query: Any, *parameters: object) -> tuple[Any, ...] | None:
    """The first row that a query gives, or None."""
    row: tuple[Any, ...] | None = await (await connection.execute(query, parameters or None)).fetchone()
    return row
