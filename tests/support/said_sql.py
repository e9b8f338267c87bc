"""A connection to a database that is none: what it is asked is kept, and it answers what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from psycopg import sql

from broker.feed.driver.connection import TrioConnection

Rows = Sequence[Sequence[Any]]


class _Cursor:
    def __init__(self, rows: Rows) -> None:
        self._rows = list(rows)

    async def fetchone(self) -> Sequence[Any] | None:
        return self._rows.pop(0) if self._rows else None

    async def fetchall(self) -> Rows:
        return self._rows


class SaidSql:
    """One connection.

    Args:
        answer: rows for a statement's text and values.

    Attributes:
        said: statements with their values; `begin` and `commit`, too.
    """

    def __init__(self, answer: Callable[[str, Any], Rows] = lambda text, values: ()) -> None:
        self.answer = answer
        self.said: list[tuple[str, Any]] = []

    @property
    def connection(self) -> TrioConnection:
        return cast("TrioConnection", self)

    async def execute(self, statement: Any, values: Any = None) -> _Cursor:
        text = statement.as_string(None) if isinstance(statement, sql.Composable) else statement
        text = text.decode() if isinstance(text, bytes) else text
        self.said.append((text, values))
        return _Cursor(self.answer(text, values))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.said.append(("begin", None))
        yield
        self.said.append(("commit", None))
