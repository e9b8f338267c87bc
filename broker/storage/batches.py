"""Statements to SQLite in small batches, with a pause after each.

A thread that never sleeps would make the loop wait for the interpreter's lock at each of its own system calls.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Final

BATCH_ROWS: Final = 50
"""A batch takes the interpreter for about 0.2 ms."""

PAUSE_S: Final = 0.0005

Value = int | float | bytes | None
Row = tuple[Value, ...]


class Batches:
    """What one save reads and writes.

    Args:
        connection: within a transaction.
        pause_s: after each batch; 0 where no loop runs beside this.

    Attributes:
        written: rows that were put in, changed or taken out.
    """

    def __init__(self, connection: sqlite3.Connection, pause_s: float) -> None:
        self.written = 0
        self._connection = connection
        self._pause_s = pause_s
        self._waiting: dict[str, list[Row]] = {}
        self._count = 0

    def later(self, statement: str, row: Row) -> None:
        """Execute this with others like it; at `flush` at the latest, and in no order with other statements."""
        rows = self._waiting.get(statement)
        if rows is None:
            rows = self._waiting[statement] = []
        rows.append(row)
        self.written += 1
        self.worked(1)

    def execute(self, statement: str, row: Row = ()) -> None:
        self.written += max(0, self._connection.execute(statement, row).rowcount)
        self.worked(1)

    def rows(self, query: str, row: Row = ()) -> Iterator[Row]:
        """What a query finds; nothing may be written to its table before the last row was taken."""
        for found in self._connection.execute(query, row):
            self.worked(1)
            yield found

    def one(self, query: str, row: Row = ()) -> Row | None:
        found: Row | None = self._connection.execute(query, row).fetchone()
        return found

    def integer(self, query: str) -> int:
        """What a query finds that always finds one number."""
        found = self.one(query)
        assert found is not None
        assert isinstance(found[0], int)
        return found[0]

    def worked(self, rows: int) -> None:
        """So many rows were looked at: have a pause when it is time."""
        self._count += rows
        if self._count >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        for statement, rows in self._waiting.items():
            if rows:
                self._connection.executemany(statement, rows)
                rows.clear()
        self._count = 0
        if self._pause_s > 0:
            time.sleep(self._pause_s)
