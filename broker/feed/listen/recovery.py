"""Reading again, by key, what notifications missed.

All of a catch-up reads one snapshot of the database, so that a row is either in it or was notified later.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final

from psycopg import sql

from broker.config.feeds import Recovery
from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen.mark import Mark, table_name
from broker.feed.routing.rowtext import columns_of

PAGE_ROWS: Final = 500
"""Rows per FETCH, published in one go: some 5 ms in which nothing else runs."""

READ_TIMEOUT_S: Final = 60.0
"""For one page.  The first may need a sort, where the key has no index."""


class Marks:
    """A mark for each source that each table with a `recover` feeds."""

    def __init__(self, recoveries: Iterable[Recovery]) -> None:
        self._recoveries = tuple(recoveries)
        self._marks: dict[tuple[str, str], Mark] = {}

    def __bool__(self) -> bool:
        return bool(self._recoveries)

    def __iter__(self) -> Iterator[tuple[str, str, Mark]]:
        """Source, kind, mark; none before `take`."""
        for (source, kind), mark in self._marks.items():
            yield source, kind, mark

    def get(self, source: str, kind: str) -> Mark | None:
        """Up to where rows of this kind have been given out, or None."""
        return self._marks.get((source, kind))

    def saved(self) -> list[list[object]]:
        """Every mark: source, kind, key; [] where there was no row."""
        return [[source, kind, list(mark.texts)] for source, kind, mark in self]

    def restore(self, saved: list[list[object]]) -> None:
        """Set the marks back to what `saved` gave; those whose key has other columns by now stay as they are."""
        for source, kind, texts in saved:
            mark = self._marks.get((str(source), str(kind)))
            if mark is not None and isinstance(texts, list) and len(texts) in (0, len(mark.recovery.key)):
                mark.restore(tuple(map(str, texts)))

    async def take(self, reader: TrioConnection) -> None:
        """Let every mark stand at its table's newest row.

        Raises:
            psycopg.Error: a table or column is missing or may not be read.
        """
        marks = {}
        for recovery in self._recoveries:
            types = await _key_types(reader, recovery)
            for source, kind in recovery.kinds:
                mark = marks[source, kind] = Mark(recovery, types)
                with within(READ_TIMEOUT_S, f"reading the newest row of {recovery.table}"):
                    row = await (await reader.execute(mark.newest_row())).fetchone()
                if row is not None:
                    mark.advance(columns_of(row[0]))
        self._marks = marks


async def begin_snapshot(reader: TrioConnection) -> None:
    """From here on `reader` sees the database as it is now."""
    with within(READ_TIMEOUT_S, "taking a snapshot"):
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await reader.execute("SELECT 1")


async def missed_rows(reader: TrioConnection, mark: Mark) -> AsyncGenerator[list[bytes], None]:
    """The JSON texts of the rows after a mark, in the order of their keys, in pages.

    The mark may rise meanwhile.
    """
    query, parameters = mark.rows_after()
    with within(READ_TIMEOUT_S, f"reading {mark.recovery.table}"):
        await reader.execute(sql.SQL("DECLARE missed NO SCROLL CURSOR FOR ") + query, parameters)
    while True:
        with within(READ_TIMEOUT_S, f"reading {mark.recovery.table}"):
            cursor = await reader.execute(sql.SQL(f"FETCH {PAGE_ROWS} FROM missed"))
            page = [text.encode(errors="surrogateescape") for (text,) in await cursor.fetchall()]
        if not page:
            break
        yield page
    await reader.execute("CLOSE missed")


async def _key_types(reader: TrioConnection, recovery: Recovery) -> tuple[int, ...]:
    columns = sql.SQL(", ").join(map(sql.Identifier, recovery.key))
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, table_name(recovery.table))
    with within(READ_TIMEOUT_S, f"looking at {recovery.table}"):
        cursor = await reader.execute(query)
    assert cursor.description is not None
    return tuple(column.type_code for column in cursor.description)
