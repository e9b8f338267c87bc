"""The current rows before the first live one, consistent with a position of the replication stream.

A temporary slot gives both: a snapshot that sees exactly the transactions which committed before its consistent
point, and that point.  Live changes from before it are in the snapshot; those from it on are not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio
from psycopg import sql

from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.sql_text import identifier
from broker.feed.outlet import FeedOutlet
from broker.feed.routing.tables import RouteSnapshot
from broker.feed.row_barrier import RowBarrier
from broker.feed.slices import Slices
from broker.feed.status import FeedStatus
from protocol.pgoutput import parse_lsn

logger = logging.getLogger("broker.feed")

FLUSH_ROWS: Final = 200
"""Rows between two flushes."""


async def export(replication: TrioConnection, slot: str) -> tuple[int, str]:
    """The consistent point and the name of a snapshot that lives until this connection does something else.

    Waits for the transactions that run now: as long as the oldest of them stays open.
    """
    name = f"{slot[:50]}_snapshot"
    command = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT")
    row = await (await replication.execute(command.format(sql.Identifier(name)))).fetchone()
    assert row is not None
    return parse_lsn(row[1]), row[2]


async def publish(
    connection: TrioConnection,
    name: str,
    snapshots: Sequence[RouteSnapshot],
    status: FeedStatus,
    outlet: FeedOutlet,
) -> None:
    """Publish each route's rows as the exported snapshot `name` sees them."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
        await publish_rows(connection, snapshots, status, outlet)


async def publish_rows(
    connection: TrioConnection, snapshots: Sequence[RouteSnapshot], status: FeedStatus, outlet: FeedOutlet
) -> None:
    """The same in whatever transaction is open."""
    rows = RowBarrier(status)
    slices = Slices(outlet)
    for wanted in snapshots:
        count = 0
        async for (text,) in connection.cursor().stream(row_query(wanted)):
            now = trio.current_time()
            with rows.of("table", wanted.table, now):
                for outgoing in wanted.publications(text.encode(errors="surrogateescape"), now):
                    outlet.publish(*outgoing)
                    status.published += 1
            count += 1
            if count % FLUSH_ROWS == 0 or slices.is_due:
                outlet.flush()
                await slices.breathe()
        outlet.flush()
        logger.info("feed %s: published the %d current rows of %s", status.name, count, wanted.table)


def row_query(wanted: RouteSnapshot) -> sql.Composed:
    """Rows as JSON text, of the table or of the route's own query."""
    source = sql.SQL("({})").format(sql.SQL(wanted.query)) if wanted.query else identifier(wanted.table)
    return sql.SQL("SELECT row_to_json(snapshot_row)::text FROM {} AS snapshot_row").format(source)
