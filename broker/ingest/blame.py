"""Whether a row is to blame that Postgres says is to be tried again, each time.

What somebody holds a lock of, the table's or that of a partition or of another table, is written when that is let go
of, however long it takes; and what a busy server does not get done in time is written when it is less so.  So a row is
to blame only for what keeps others waiting, while the table would take one of these: both are tried in transactions
that are rolled back.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import psycopg
from psycopg.raw_cursor import AsyncRawCursor

from broker.feed.driver.connection import TrioConnection
from broker.ingest.batches import Batches
from broker.ingest.patience import Patience
from broker.ingest.refusals import CANCELLED, is_raised
from broker.ingest.sink import Sink, Waiting
from broker.ingest.values import Value, column_text

OTHERS_MAX: Final = 16
"""So many behind a row that fails each time are tried, one each time."""

NO_LOCKS: Final = "SET LOCAL lock_timeout = '100ms'"
"""Who waits for a lock is told so, long before anybody cancels it."""


class Blame:
    """What is known of one writer's rows that failed.

    Args:
        sink, batches: where those wait that are behind.
    """

    def __init__(self, sink: Sink, batches: Batches) -> None:
        self.patience = Patience()
        self.letters_patience = Patience()
        self._sink = sink
        self._batches = batches

    async def is_due(
        self,
        connection: TrioConnection,
        statement: str,
        error: psycopg.Error,
        columns: list[list[Value]],
        refused: list[Waiting],
        now: float,
    ) -> bool:
        """Whether one row alone has failed for long enough, and it is not for others' sake.

        Args:
            columns: what the statement was given; none where it was a dead letter's.
            refused: those before it, which are not settled yet.
        """
        raised = is_raised(error)
        if not raised and error.sqlstate != CANCELLED:
            return False  # whoever has what it needs lets go of it
        if not columns:
            return raised and self.letters_patience.is_over(now)
        if len(columns[0]) > 1 or not self.patience.is_over(now):
            return False
        if not raised and await _fails_by_others(connection, statement, columns):
            return False
        other = self._other_row(refused)
        return bool(other) and await _failure(connection, statement, other) is None

    def _other_row(self, refused: list[Waiting]) -> list[list[Value]]:
        """The columns of one that waits behind the row whose turn it is; of the next ones another each time."""
        known = {id(one) for one in refused}
        left = [one for one in self._batches.unsettled() if id(one) not in known]
        others = [*left, *islice(self._sink.waiting, OTHERS_MAX)][1 : 1 + OTHERS_MAX]
        rows = self._batches.rows
        if not others or rows is None:
            return []
        taken, columns, _ = rows.columns([others[self.patience.alone % len(others)]])
        return columns if taken else []


async def execute(connection: TrioConnection, statement: str, columns: list[list[Value]]) -> None:
    """Run a statement of the plan's for these columns."""
    cursor: AsyncRawCursor[Any] = AsyncRawCursor(connection)
    texts = [column_text(column) for column in columns]
    await cursor.execute(statement, texts, prepare=True)


async def _fails_by_others(connection: TrioConnection, statement: str, columns: list[list[Value]]) -> bool:
    """Whether a row that was cancelled waits for a lock, or fails no more, or there is another trouble."""
    error = await _failure(connection, statement, columns)
    return not isinstance(error, psycopg.Error) or error.sqlstate != CANCELLED


async def _failure(
    connection: TrioConnection, statement: str, columns: list[list[Value]]
) -> psycopg.Error | UnicodeEncodeError | None:
    """What the table says of these rows, which it does not keep."""
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(NO_LOCKS)
            await execute(connection, statement, columns)
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what fires only at the end
    except (psycopg.Error, UnicodeEncodeError) as error:
        return error
    return None
