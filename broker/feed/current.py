"""The rows that tables have now, for whoever subscribes: what the routes with a `snapshot` make of them.

`CurrentRows.read` returns when the feed has delivered all that the reading has seen.  So whoever has kept what was
published since before it asked knows of each row whether it came by itself, too, and of each change that it will come.

Invariant: the reading sees every transaction that was delivered before it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import psycopg
import trio
from attrs import evolve, frozen
from psycopg import sql

from broker.config.feeds import FeedConfig, Route
from broker.config.templates import parse_template
from broker.core.row_source import SourceError, TooMuch
from broker.feed.driver.connect import connected, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.outbox.queries import one_row
from broker.feed.routing.tables import RouteSnapshot, TableRoutes
from broker.feed.snapshot import row_query
from broker.feed.status import FeedStatus
from protocol.mqtt.topics import matches
from protocol.pgjson import SESSION_SQL
from protocol.pgoutput import parse_lsn

READ_TIMEOUT_S: Final = 20.0
ROWS_MAX: Final = 50_000
BYTES_MAX: Final = 32 * 1024 * 1024
"""Of one state: topics and bodies."""

LOOK_S: Final = 0.01
ROWS_PER_TURN: Final = 100

WAL_HORIZON: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text,
       txid_current_snapshot()::text
"""
OUTBOX_HORIZON: Final = "SELECT coalesce(max(seq), 0) FROM rowcast.outbox_commit"

PAGE_BYTES: Final = 8192
PAGE_HEADS: Final = (24, 40)
"""Where the insert position stands if the next record will be the first of a page; it is sent up to the page only."""

_VALUE: Final = "\0"


@frozen
class Wanted:
    """A route's rows, and the levels of one of its topics: constants, and column names behind a NUL."""

    snapshot: RouteSnapshot
    route: Route
    levels: tuple[tuple[str, ...], ...]


class CurrentRows:
    """A feed's tables, by those of its routes that have a `snapshot` and retain nothing: retained rows are kept anyway.

    Args:
        feeds: what becomes of each feed, this one among them once it has begun.
    """

    def __init__(self, config: FeedConfig, feeds: Mapping[str, FeedStatus]) -> None:
        self._config = config
        self._feeds = feeds
        self._wanted = [
            Wanted(snapshot, route, tuple(_levels(topic) for topic in route.topics))
            for route in config.routes
            if route.snapshot and not route.retain and route.target == "mqtt"
            for snapshot in _snapshots(config, route)
        ]

    def serves(self, topic_filter: bytes) -> bool:
        """As `row_source.StateSource`."""
        return any(_restrictions(wanted, topic_filter) for wanted in self._wanted)

    async def read(self, topic_filter: bytes) -> list[tuple[bytes, bytes]]:
        """As `row_source.StateSource`."""
        status = self._feeds[self._config.name]
        try:
            with within(READ_TIMEOUT_S, "reading the current rows"):
                async with connected(self._config, SESSION_SQL) as connection:
                    horizon, rows = await self._seen(connection, topic_filter, status)
                while status.delivered < horizon:  # noqa: ASYNC110
                    await trio.sleep(LOOK_S)
        except (psycopg.Error, OSError) as error:
            raise SourceError(first_line(error)) from error
        return rows

    async def _seen(
        self, connection: TrioConnection, topic_filter: bytes, status: FeedStatus
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Rows, and up to where the feed has to deliver for all that they show."""
        while True:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                horizon = await self._horizon(connection, status)
                if horizon >= 0:
                    return horizon, await self._rows(connection, topic_filter)
            await trio.sleep(LOOK_S)

    async def _horizon(self, connection: TrioConnection, status: FeedStatus) -> int:
        """-1 if something was delivered already that this transaction does not see yet."""
        if self._config.captures_by == "trigger":
            return int((await one_row(connection, OUTBOX_HORIZON))[0])
        text, seen = await one_row(connection, WAL_HORIZON)
        if not sees_all(seen, status.delivered_xids):
            return -1
        lsn = parse_lsn(text)
        head = lsn % PAGE_BYTES
        return lsn - head if head in PAGE_HEADS else lsn

    async def _rows(self, connection: TrioConnection, topic_filter: bytes) -> list[tuple[bytes, bytes]]:
        found: dict[tuple[bytes, bytes], None] = {}  # a row of two filters comes once
        size = count = 0
        for wanted in self._wanted:
            restrictions = _restrictions(wanted, topic_filter)
            if not restrictions:
                continue
            for text in await _texts(connection, wanted.snapshot, restrictions):
                count += 1
                if count % ROWS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
                for topic, body, *_ in wanted.snapshot.publications(text, 0.0):
                    if matches(topic_filter, topic):
                        found[topic, body] = None
                        size += len(topic) + len(body)
                if len(found) > ROWS_MAX or size > BYTES_MAX:
                    raise TooMuch(f"the state has more than {ROWS_MAX} rows or {BYTES_MAX >> 20} MB")
        return list(found)


def sees_all(snapshot: str, xids: Iterable[int]) -> bool:
    """Whether a snapshot sees all of some transactions that have committed.

    Args:
        snapshot: `xmin:xmax:xip,xip,…` in 64 bits.
        xids: their low 32 bits, none of them two billions of transactions old.
    """
    _, upper, running = snapshot.split(":")
    xmax = int(upper)
    low = {int(xid) & 0xFFFFFFFF for xid in running.split(",") if xid}
    return not any(xid in low or (xid - xmax) & 0xFFFFFFFF < 1 << 31 for xid in xids)


async def _texts(
    connection: TrioConnection, snapshot: RouteSnapshot, restrictions: list[dict[str, str]]
) -> list[bytes]:
    """The rows of a snapshot that may have the topics which are wanted, and maybe others."""
    query = row_query(snapshot)
    conditions = [_condition(one) for one in restrictions]
    if all(restrictions):
        try:
            async with connection.transaction():  # a savepoint
                return await _some(connection, query + sql.SQL(" WHERE ") + sql.SQL(" OR ").join(conditions))
        except psycopg.DataError:
            if len(restrictions) == 1:
                return []  # the level is no value of the column's type, so no row has it
        except psycopg.ProgrammingError:
            pass  # a type that knows no equality, or a column that the query does not have
    return await _some(connection, query)


def _condition(restriction: dict[str, str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("snapshot_row.{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in restriction.items()
    )


async def _some(connection: TrioConnection, query: sql.Composed) -> list[bytes]:
    cursor = await connection.execute(query + sql.SQL(" LIMIT {}").format(sql.Literal(ROWS_MAX + 1)))
    return [text.encode(errors="surrogateescape") for (text,) in await cursor.fetchall()]


def _snapshots(config: FeedConfig, route: Route) -> list[RouteSnapshot]:
    only = evolve(config, routes=(evolve(route, once_per=()),))
    return TableRoutes(only, FeedStatus(config.name)).snapshots


def _levels(topic: str) -> tuple[str, ...]:
    """A template's levels: constants, columns behind a NUL, and a NUL alone where a level is more than a column."""
    template = parse_template(topic)
    names = iter(template.names)
    levels: list[str] = []
    for level in _VALUE.join(template.pieces).split("/"):
        filled = [next(names) for _ in range(level.count(_VALUE))]
        is_column = level == _VALUE and not filled[0].startswith("$")
        levels.append(_VALUE + filled[0] if is_column else _VALUE if filled else level)
    return tuple(levels)


def _restrictions(wanted: Wanted, topic_filter: bytes) -> list[dict[str, str]]:
    """For each topic of a route that the filter may match: what columns must be for that; {} if that is open."""
    found = [_restriction(levels, topic_filter.decode(), wanted.route) for levels in wanted.levels]
    return [one for one in found if one is not None]


def _restriction(levels: tuple[str, ...], topic_filter: str, route: Route) -> dict[str, str] | None:
    columns: dict[str, str] = {}
    asked = topic_filter.split("/")
    for index, one in enumerate(asked):
        if one == "#":
            return columns
        if index == len(levels):
            return None
        level = levels[index]
        if one == "+":
            continue
        if not level.startswith(_VALUE):
            if level != one:
                return None
        elif len(level) > 1 and not _may_be_made_up(one, route):
            columns[level[1:]] = one
    return columns if len(asked) == len(levels) or asked[-1] == "#" else None


def _may_be_made_up(level: str, route: Route) -> bool:
    """Whether a level may stand for a NULL or an unsafe value."""
    return (
        level == route.on_null or level == route.on_unsafe or (route.on_unsafe == "percent" and "%" in level)
    )
