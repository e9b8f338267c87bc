"""Rows whose notification has only their key: read from their tables, each in its place among the others.

Postgres notifies less than 8000 bytes, so a trigger that meets a longer row sends its key.  Whatever comes behind
such a row waits in line until it has been read.  Where its table is not there at all it is dropped, and said so, lest
everybody's rows wait for one table.

Invariant: rows leave the line in the order in which they joined it.  One that can't be read now stays where it is.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Final

import psycopg
import trio
from psycopg import sql

from broker.config.feeds import FeedConfig, Fetch, Source
from broker.feed.driver.connect import open_connection, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line, is_about_values
from broker.feed.driver.sql_text import identifier
from broker.feed.listen.away import AWAY
from broker.feed.routing.routes import Router, Row
from broker.feed.routing.rowtext import Columns, NotARow, is_storable, locate
from broker.feed.status import FeedStatus

ROWS_MAX: Final = 32
"""Rows read by one query, which are in memory together."""

TURN_BYTES: Final = 64 * 1024
"""Of rows that leave the line together, with the last one beyond it: some milliseconds of work."""

READ_TIMEOUT_S: Final = 60.0
"""For one query."""

KeyTexts = tuple[str, ...]


class KeyedTable:
    """A table that rows are read from by key.

    Attributes:
        is_there: whether it was when somebody looked last.
        has_missed: whether rows were dropped because it was not.
    """

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.is_there = True
        self.has_missed = False
        self._columns = frozenset(fetch.key)
        self._query: sql.Composed | None = None

    def is_meant(self, row: Row) -> bool:
        """Whether the row's notification has no more than a key."""
        when, source = self.fetch.when, row.source.config
        if not when:
            return row.columns.keys() - _kind_member(source) == self._columns - _kind_member(source)
        inside = when[: len(source.row_path)] == source.row_path
        marker = _member(row.columns, when[len(source.row_path) :]) if inside else _value_at(row.raw, when)
        return marker is not None and marker is not False

    def key_of(self, columns: Columns) -> KeyTexts | None:
        """The key's texts; None if a column of it is missing, NULL, or nothing that Postgres would take."""
        texts = [_text(columns.get(name)) for name in self.fetch.key]
        known = tuple(text for text in texts if text is not None)
        return known if len(known) == len(texts) else None

    async def prepare(self, connection: TrioConnection) -> None:
        """Find out the key's types.

        Raises:
            psycopg.Error: the table or a column is missing, may not be read, or can't be looked up.
        """
        columns = sql.SQL(", ").join(map(sql.Identifier, self.fetch.key))
        look = sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, identifier(self.fetch.table))
        with within(READ_TIMEOUT_S, f"looking at {self.fetch.table}"):
            cursor = await connection.execute(look)
            oids = [column.type_code for column in cursor.description or ()]
            name_types = "SELECT format_type(oid, -1) FROM unnest(%s::oid[]) AS types(oid)"
            types = [name for (name,) in await (await connection.execute(name_types, [oids])).fetchall()]
        self._query = self._by_key(types)
        await self.read(connection, [])

    async def read(self, connection: TrioConnection, keys: list[KeyTexts]) -> dict[KeyTexts, list[str]]:
        """The rows' JSON texts.  A key that is there twice has two, one that Postgres can't read as its type none.

        Raises:
            psycopg.Error: the connection failed, or the table is not as it was.
        """
        assert self._query is not None
        arrays = [list(texts) for texts in zip(*keys, strict=True)] or [[] for _ in self.fetch.key]
        try:
            with within(READ_TIMEOUT_S, f"reading {self.fetch.table}"):
                rows = await (await connection.execute(self._query, arrays)).fetchall()
        except psycopg.Error as error:
            if not is_about_values(error):
                raise
            if len(keys) <= 1:
                return {}
            return {key: rows for one in keys for key, rows in (await self.read(connection, [one])).items()}
        found: dict[KeyTexts, list[str]] = {}
        for place, text in rows:
            found.setdefault(keys[place - 1], []).append(text)
        return found

    def _by_key(self, types: list[str]) -> sql.Composed:
        """Compared as the columns' own types, so that an index is of use; the type's name is as Postgres quotes it."""
        names = [sql.Identifier(f"key{number}") for number in range(len(types))]
        return sql.SQL(
            "SELECT wanted.place, row_to_json(rowcast_row)::text"
            " FROM unnest({}) WITH ORDINALITY AS wanted({}, place) JOIN {} AS rowcast_row ON {}"
        ).format(
            sql.SQL(", ").join(sql.SQL(f"%s::text[]::{name}[]") for name in types),
            sql.SQL(", ").join(names),
            identifier(self.fetch.table),
            sql.SQL(" AND ").join(
                sql.SQL("{} = wanted.{}").format(sql.Identifier("rowcast_row", column), name)
                for column, name in zip(self.fetch.key, names, strict=True)
            ),
        )


class _Waiting:
    """One in the line: `table` is where its row has still to be read; `row` None if it turned out to be none."""

    __slots__ = ("row", "table")

    def __init__(self, row: Row | None, table: KeyedTable | None) -> None:
        self.row = row
        self.table = table


class Line:
    """The rows that wait for one that has to be read, that one first.  Outlives connections.

    Args:
        config: says what is read where.
        router: makes rows of what was read.
        status: counts what can't be read.
    """

    def __init__(self, config: FeedConfig, router: Router, status: FeedStatus) -> None:
        self._config = config
        self._router = router
        self._status = status
        self._tables = [KeyedTable(fetch) for fetch in config.fetches]
        self._of_kind = {pair: table for table in self._tables for pair in table.fetch.kinds}
        self._waiting: deque[_Waiting] = deque()
        self._connection: TrioConnection | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def table_for(self, row: Row) -> KeyedTable | None:
        """Where the row has to be read; None if it is here."""
        table = self._of_kind.get((row.source.config.name, row.kind))
        return table if table is not None and table.is_meant(row) else None

    def join(self, row: Row) -> None:
        """A notification's row, behind all others."""
        self._waiting.append(_Waiting(row, self.table_for(row)))

    @property
    def is_short(self) -> bool:
        """Whether a table is not there."""
        return not all(table.is_there for table in self._tables)

    async def prepare(self, connection: TrioConnection) -> list[str]:
        """Look at the tables.  One that is not there is a trouble, and nobody waits for its rows.

        Returns:
            those that are there again after rows were dropped; each once.

        Raises:
            psycopg.Error: the connection failed, or one may not be read, or can't be looked up.
        """
        for table in self._tables:
            await self._look_at(table, connection)
        missed = [table for table in self._tables if table.is_there and table.has_missed]
        for table in missed:
            table.has_missed = False
        return [table.fetch.table for table in missed]

    async def _look_at(self, table: KeyedTable, connection: TrioConnection) -> None:
        fetch = table.fetch
        trouble = f"fetch {fetch.table} by {', '.join(fetch.key)}"
        try:
            await table.prepare(connection)
        except AWAY as error:
            table.is_there = False
            why = f"{fetch.table} can't be read by key ({first_line(error)})"
            self._status.trouble(trouble, f"{why}: rows of which only a key is notified are dropped")
        else:
            table.is_there = True
            self._status.over(trouble)

    def give_up(self) -> list[str]:
        """Drop the rows that would have to be read from a table that is not there.

        Returns:
            the tables of which rows are dropped from now on; each once, until `prepare` tells that it is back.
        """
        if not self.is_short:
            return []
        begun = []
        for one in self._waiting:
            table = one.table
            if table is None or table.is_there:
                continue
            if not table.has_missed:
                table.has_missed = True
                begun.append(table.fetch.table)
            assert one.row is not None
            self._drop(one.row, "table_away")
            one.row = one.table = None
        return begun

    async def fetch(self) -> None:
        """Read what has to be read before the first row can leave, and what is next of that kind.

        Raises:
            psycopg.Error, OSError: the database can't be reached, not even by a new connection.
        """
        if not self._waiting or self._waiting[0].table is None:
            return
        due = list(islice((one for one in self._waiting if one.table is not None), ROWS_MAX))
        for table in self._tables:
            await self._fetch_from(table, [one for one in due if one.table is table])

    def leave(self) -> list[Row]:
        """The first rows, in order, up to some `TURN_BYTES` or the next that has to be read."""
        rows: list[Row] = []
        size = 0
        while self._waiting and self._waiting[0].table is None and size < TURN_BYTES:
            row = self._waiting.popleft().row
            if row is not None:
                rows.append(row)
                size += len(row.raw)
        return rows

    def close(self) -> None:
        """The connection only; it is opened again when needed."""
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    async def _fetch_from(self, table: KeyedTable, due: list[_Waiting]) -> None:
        keys = [None if one.row is None else table.key_of(one.row.columns) for one in due]
        wanted = list(dict.fromkeys(key for key in keys if key is not None))
        found = await self._read(table, wanted) if wanted else {}
        for one, key in zip(due, keys, strict=True):
            assert one.row is not None
            one.row = self._row(one.row, None if key is None else found.get(key, []))
            one.table = None

    async def _read(self, table: KeyedTable, keys: list[KeyTexts]) -> dict[KeyTexts, list[str]]:
        if self._connection is not None:
            try:
                return await table.read(self._connection, keys)
            except psycopg.OperationalError:
                self.close()  # it may have died when nobody needed it; a new one will tell
        self._connection = await open_connection(self._config)
        return await table.read(self._connection, keys)

    def _row(self, keyed: Row, texts: list[str] | None) -> Row | None:
        if texts is not None and len(texts) == 1:
            self._status.fetched += 1
            text = texts[0].encode(errors="surrogateescape")
            return self._router.row(keyed.source.config.name, keyed.kind, text, trio.current_time())
        self._drop(keyed, "no_key" if texts is None else "ambiguous_key" if texts else "deleted")
        return None

    def _drop(self, keyed: Row, reason: str) -> None:
        self._status.drop(reason, f"kind {keyed.kind[:100]}, to be read by its key", trio.current_time())


def _kind_member(source: Source) -> frozenset[str]:
    """The member of the row that says its kind, and may stand beside the key."""
    return frozenset(() if source.row_path else source.kind_path[:1])


def _member(columns: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        columns = columns.get(name) if type(columns) is dict else None
    return columns


def _value_at(text: bytes, path: tuple[str, ...]) -> Any:
    try:
        return locate(text.decode(), path, ())[0]
    except NotARow:
        return None


def _text(value: Any) -> str | None:
    if type(value) is bool:
        return "true" if value else "false"
    return value if type(value) is str and is_storable(value) else None
