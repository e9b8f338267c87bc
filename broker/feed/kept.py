"""Writing to `rowcast.feed`, which an earlier version may have installed: with fewer columns than this one has."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from broker.feed.driver.connection import TrioConnection

Statement = tuple[str, Sequence[object]]


async def write_as_installed(connection: TrioConnection, *statements: Statement) -> int:
    """Run the first of these statements for which the columns are there; each needs fewer than the one before.

    Args:
        connection: in no transaction, since one that misses a column is over.

    Returns:
        Which one it was, from 0 on.

    Raises:
        psycopg.errors.UndefinedColumn: not even the last has its columns.
        psycopg.Error: any other fault, of whichever statement.
    """
    for number, (query, values) in enumerate(statements, 1):
        try:
            await connection.execute(query.encode(), values)
        except psycopg.errors.UndefinedColumn:
            if number == len(statements):
                raise
        else:
            return number - 1
    raise AssertionError("there is nothing to write")
