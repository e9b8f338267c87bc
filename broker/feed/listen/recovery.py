"""Reading again, by key, what notifications missed.

All of a catch-up reads one snapshot of the database, so that a row is either in it or was notified later.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import psycopg
from psycopg import sql

from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import is_about_values
from broker.feed.listen.mark import Mark

PAGE_ROWS: Final = 500
"""Rows per FETCH, published in one go: some 5 ms in which nothing else runs."""

READ_TIMEOUT_S: Final = 60.0
"""For one page.  The first may need a sort, where the key has no index."""


async def begin_snapshot(reader: TrioConnection) -> None:
    """From here on `reader` sees the database as it is now."""
    with within(READ_TIMEOUT_S, "taking a snapshot"):
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await reader.execute("SELECT 1")


async def missed_rows(reader: TrioConnection, mark: Mark) -> AsyncGenerator[list[bytes], None]:
    """The JSON texts of the rows after a mark, in the order of their keys, in pages.

    The mark may rise meanwhile.

    Raises:
        psycopg.Error: also where Postgres makes no key of the mark's; somebody has notified what no row can have.
    """
    query, parameters = mark.rows_after()
    with within(READ_TIMEOUT_S, f"reading {mark.recovery.table}"):
        try:
            await reader.execute(sql.SQL("DECLARE missed NO SCROLL CURSOR FOR ") + query, parameters)
        except psycopg.Error as error:
            mark.is_unreadable = is_about_values(error)
            raise
    while True:
        with within(READ_TIMEOUT_S, f"reading {mark.recovery.table}"):
            cursor = await reader.execute(sql.SQL(f"FETCH {PAGE_ROWS} FROM missed"))
            page = [text.encode(errors="surrogateescape") for (text,) in await cursor.fetchall()]
        if not page:
            break
        yield page
    await reader.execute("CLOSE missed")
