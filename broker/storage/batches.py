"""Statements to SQLite in small batches, with a moment after each in which something else can be done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from broker.storage.schema import Row, Value

BATCH_ROWS: Final = 50
"""A batch takes the interpreter for about 0.2 ms."""


class Batches:
    """What one save reads and writes.

    Args:
        connection: within a transaction.

    Attributes:
        written: rows that were put in, changed or taken out.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.written = 0
        self._connection = connection
        self._waiting: dict[str, list[Row]] = {}
        self._count = 0

    def later(self, statement: str, row: Row) -> None:
        """Execute this with others like it; at `flush` at the latest, and in no order with other statements."""
        rows = self._waiting.get(statement)
        if rows is None:
            rows = self._waiting[statement] = []
        rows.append(row)
        self.written += 1
        self._count += 1

    def execute(self, statement: str, row: Row = ()) -> None:
        """Run a statement at once and count the rows that it changed."""
        self.written += max(0, self._connection.execute(statement, row).rowcount)
        self._count += 1

    def rows(self, query: str, row: Row = ()) -> Iterator[tuple[Value, ...]]:
        """What a query finds; nothing may be written to its table before the last row was taken."""
        for found in self._connection.execute(query, row):
            self._count += 1
            yield found

    def one(self, query: str, row: Row = ()) -> tuple[Value, ...] | None:
        """The first row that the query gives, or None."""
        found: tuple[Value, ...] | None = self._connection.execute(query, row).fetchone()
        return found

    def integer(self, query: str, values: Row = ()) -> int:
        """What a query finds that always finds one number."""
        found = self.one(query, values)
        assert found is not None
        assert isinstance(found[0], int)
        return found[0]

    def worked(self, rows: int) -> None:
        """So many rows were looked at."""
        self._count += rows

    def pause(self) -> Iterator[None]:
        """`yield from` this often: it yields once, with everything flushed, when it is time for a pause."""
        if self._count >= BATCH_ROWS:
            self.flush()
            yield

    def flush(self) -> None:
        """Run what waits, all rows of a statement together."""
        for statement, rows in self._waiting.items():
            if rows:
                self._connection.executemany(statement, rows)
                rows.clear()
        self._count = 0
