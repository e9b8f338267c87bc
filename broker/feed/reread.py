"""Rows that were published, read again for readers who missed them: from the outbox by number, from a table by its key.

What a row becomes is all that its routes make of it now; whoever asked knows by a digest what it was.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeGuard

import psycopg
from attrs import evolve
from psycopg import sql

from broker.config.feeds import OPERATIONS, FeedConfig, Recovery
from broker.core.row_source import RowReader, RowSource, SourceError
from broker.feed.driver.connect import connected, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import identifier
from broker.feed.notices import OPERATION, Notices
from broker.feed.outbox.queries import TEXTSEND
from broker.feed.placing import place_prefix
from broker.feed.routing.routes import Outgoing
from broker.feed.routing.rowtext import Columns, NotARow, columns_of, is_storable
from broker.feed.routing.tables import TableRoutes, qualified
from broker.feed.sql_publish import may_publish
from broker.feed.status import FeedStatus
from protocol.pgjson import SESSION_SQL

READ_TIMEOUT_S: Final = 20.0
"""For as many rows as are asked for in one go."""

NUMBER_MAX: Final = 2**63 - 1

OUTBOX_ROWS: Final = """
SELECT c.seq, o.id, textsend(o.relation), o.operation, textsend(o.body), textsend(o.topic), o.payload
FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (seq, id)
JOIN rowcast.outbox_commit c ON c.seq = wanted.seq
JOIN rowcast.outbox o ON o.xid = c.xid AND o.id = wanted.id
"""

Candidates = dict[bytes, list[tuple[bytes, bytes]]]


def source_of(config: FeedConfig) -> RowSource | None:
    """How rows of a feed are read again; None if they can't be."""
    if config.captures_by == "trigger":
        return OutboxRows(config)
    if config.captures_by == "publication" and config.recoveries:
        return KeyedRows(config)
    return None


class _Query(Protocol):
    async def __call__(self, connection: TrioConnection, places: list[bytes]) -> Candidates: ...


class _Reader:
    """An open connection, and what asks by way of it."""

    def __init__(self, connection: TrioConnection, query: _Query) -> None:
        self._connection = connection
        self._query = query

    async def candidates(self, places: list[bytes]) -> Candidates:
        """As `RowReader`."""
        try:
            with within(READ_TIMEOUT_S, "reading rows again"):
                return await self._query(self._connection, places)
        except (psycopg.Error, OSError) as error:
            raise SourceError(first_line(error)) from error


@asynccontextmanager
async def _open(config: FeedConfig, query: _Query) -> AsyncIterator[RowReader]:
    manager = connected(config, SESSION_SQL)
    try:
        connection = await manager.__aenter__()
    except (psycopg.Error, OSError) as error:
        raise SourceError(first_line(error)) from error
    try:
        yield _Reader(connection, query)
    finally:
        await manager.__aexit__(None, None, None)


class _Routed:
    """What rows become now, whatever was published before: no memory of `once_per`, no counters that anybody sees."""

    def __init__(self, config: FeedConfig) -> None:
        status = FeedStatus(config.name)
        forgetful = evolve(config, routes=tuple(evolve(route, once_per=()) for route in config.routes))
        self._routes = TableRoutes(forgetful, status)
        self._notices = Notices(forgetful, status)

    def row(
        self, table: str, operations: Sequence[str], text: bytes, position: bytes
    ) -> list[tuple[bytes, bytes]]:
        found: list[Outgoing] = []
        for operation in operations:
            found += self._routes.publications(table, operation, text, 0.0, False, position=position)
        return [outgoing[:2] for outgoing in found]

    def notice(self, channel: bytes, text: bytes, position: bytes) -> list[tuple[bytes, bytes]]:
        return [outgoing[:2] for outgoing in self._notices.publications(channel, text, 0.0, position)]


class OutboxRows:
    """Rows of an outbox by number of their transaction and id, for as long as they are not pruned."""

    def __init__(self, config: FeedConfig) -> None:
        self._config = config
        self._prefix = place_prefix(config.name)
        self._routed = _Routed(config)

    def complete(self, place: bytes, payload: bytes) -> bytes:
        """As `RowSource`: the feed has said it all."""
        return place

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        """As `RowSource`."""
        return _open(self._config, self._candidates)

    async def _candidates(self, connection: TrioConnection, places: list[bytes]) -> Candidates:
        wanted = [numbers for place in places if (numbers := self._numbers_of(place)) is not None]
        query = OUTBOX_ROWS
        if connection.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
            query = TEXTSEND.sub(r"convert_to(\1, 'SQL_ASCII')", query)
        cursor = connection.cursor(binary=True)
        await cursor.execute(query.encode(), [[seq for seq, _ in wanted], [row_id for _, row_id in wanted]])
        found: Candidates = {}
        for seq, row_id, *row in await cursor.fetchall():
            found[self._prefix + b"%d.%d" % (seq, row_id)] = self._becomes(b"%d/%d" % (seq, row_id), row)
        return found

    def _numbers_of(self, place: bytes) -> tuple[int, int] | None:
        """None for a place of another kind of feed, that had this one's name before."""
        seq, _, row_id = place.removeprefix(self._prefix).partition(b".")
        if not (seq.isdigit() and row_id.isdigit()) or max(int(seq), int(row_id)) > NUMBER_MAX:
            return None
        return int(seq), int(row_id)

    def _becomes(self, position: bytes, row: list[Any]) -> list[tuple[bytes, bytes]]:
        relation, operation, body, topic, payload = row
        if topic is not None:
            return [(bytes(topic), bytes(payload))] if may_publish(bytes(topic)) else []
        if operation == OPERATION:
            return self._routed.notice(bytes(relation), bytes(body), position)
        table = bytes(relation).decode(errors="replace")
        return self._routed.row(table, (operation,), bytes(body), position)


class KeyedRows:
    """Rows of tables with a `[[recover]]`, by its key: those that are as they were when they were published."""

    def __init__(self, config: FeedConfig) -> None:
        self._config = config
        self._prefix = place_prefix(config.name)
        self._routed = _Routed(config)
        self._recoveries = config.recoveries

    def complete(self, place: bytes, payload: bytes) -> bytes:
        """As `RowSource`: a JSON list of the table's index and the key, which is in the payload or one level below."""
        try:
            columns = columns_of(payload.decode())
        except (UnicodeDecodeError, NotARow):
            return b""
        for row in (columns, *[value for value in columns.values() if type(value) is dict]):
            for index, recovery in enumerate(self._recoveries):
                key = _key_in(row, recovery)
                if key is not None:
                    return place + json.dumps([index, *key]).encode()
        return b""

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        """As `RowSource`."""
        return _open(self._config, self._candidates)

    async def _candidates(self, connection: TrioConnection, places: list[bytes]) -> Candidates:
        keys: dict[int, list[list[str]]] = {}
        for place in places:
            index, key = self._key_of(place)
            if key:
                keys.setdefault(index, []).append(key)
        found: Candidates = {}
        for index, wanted in keys.items():
            found |= await self._rows(connection, index, wanted)
        return found

    def _key_of(self, place: bytes) -> tuple[int, list[str]]:
        """The table's index and the key's texts; none for a place that another configuration has made."""
        try:
            index, *key = json.loads(place.removeprefix(self._prefix))
            fits = len(key) == len(self._recoveries[index].key) and all(map(_may_be_key, key))
        except (ValueError, TypeError, IndexError):
            return 0, []
        return index, key if fits else []

    async def _rows(self, connection: TrioConnection, index: int, keys: list[list[str]]) -> Candidates:
        recovery = self._recoveries[index]
        columns = sql.SQL(", ").join(sql.Identifier("rowcast_row", name) for name in recovery.key)
        one = sql.SQL("({})").format(sql.SQL(", ").join([sql.SQL("%s")] * len(recovery.key)))
        query = sql.SQL(
            "SELECT row_to_json(rowcast_row)::text FROM {} AS rowcast_row WHERE ({}) IN ({})"
        ).format(identifier(recovery.table), columns, sql.SQL(", ").join([one] * len(keys)))
        cursor = await connection.execute(query, [text for key in keys for text in key])
        found: Candidates = {}
        for (text,) in await cursor.fetchall():
            row = text.encode(errors="surrogateescape")
            key_now = _key_in(columns_of(text), recovery)
            if key_now is not None:
                place = self._prefix + json.dumps([index, *key_now]).encode()
                made = self._routed.row(qualified(recovery.table), OPERATIONS[:2], row, b"")
                found.setdefault(place, []).extend(made)
        return found


def _may_be_key(text: object) -> TypeGuard[str]:
    return type(text) is str and is_storable(text)


def _key_in(columns: Columns, recovery: Recovery) -> list[str] | None:
    """The key's columns as text; None if one is missing, NULL, or no number and no text that a column can have."""
    key = [value for name in recovery.key if _may_be_key(value := columns.get(name))]
    return key if len(key) == len(recovery.key) else None
