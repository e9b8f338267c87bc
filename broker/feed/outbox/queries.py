"""What the feed of kind `outbox` asks its database."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final

import psycopg

from broker.feed.altered import OUTBOX_FUNCTIONS
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady, ServerIdentity, refuse_standby
from broker.feed.open_writers import OVER

IDENTITY: Final = """
SELECT system_identifier::text, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
FROM pg_control_system()
"""

_POSITION: Final = """
SELECT read_seq, read_id, (SELECT seq FROM rowcast.outbox_pruned) FROM rowcast.feed WHERE name = %s
"""

LOST: Final = (
    "the server has lost committed transactions (restored, or crashed without synchronous_commit),"
    " or their numbers were set back"
)

PRUNED: Final = "rows that were not read within keep_unread have been pruned"

CAPTURES: Final = f"""(
    SELECT coalesce(sum(hashtextextended(
        concat_ws('/', t.oid, t.xmin, t.tgenabled, n.nspname, c.relname), 0)), 0)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgname IN ('rowcast_capture', 'outbox_number')
) + (
    SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('rowcast.outbox'::regclass, 'rowcast.outbox_commit'::regclass)
) + (
    SELECT coalesce(sum(hashtextextended(concat_ws('/', oid, xmin), 0)), 0) FROM pg_proc
    WHERE proname IN {OUTBOX_FUNCTIONS} AND pronamespace = 'rowcast'::regnamespace
) + (
    SELECT count(*) FROM pg_rewrite WHERE ev_class IN ('rowcast.outbox'::regclass, 'rowcast.outbox_commit'::regclass)
) + (SELECT count(*) FROM rowcast.feed f WHERE to_jsonb(f) ->> 'owed' IS NOT NULL)"""
"""A number that changes with the triggers, their functions, the names of their tables, and when a feed owes a gap.

As part of the query for rows it is of the same moment as these; there, those of `OVER` and `OVERTAKEN` are added.
"""

OVERTAKEN: Final = "(SELECT count(*) FROM rowcast.outbox_pruned WHERE seq > %(seq)s)"
"""1 where rows behind the last one read have been pruned: another process of this feed may have read farther."""

_ROWS: Final = """
SELECT c.seq, o.id, c.xid::text, extract(epoch FROM clock_timestamp() - c.committed_at)::float8,
       textsend(o.relation), o.operation, textsend(o.body), textsend(o.topic), o.payload, o.qos, o.retain, {captures}
FROM (SELECT seq, xid, committed_at FROM rowcast.outbox_commit WHERE {commits}) c
CROSS JOIN LATERAL (SELECT * FROM rowcast.outbox WHERE xid = c.xid AND {rows} ORDER BY id LIMIT %(rows)s) o
ORDER BY c.seq, o.id
LIMIT %(rows)s
"""
# Lateral, so that of a large transaction no more is looked at than is read.

_OF_NOW: Final = f"{CAPTURES} + {OVER} + {OVERTAKEN}"

NEXT: Final = _ROWS.format(
    captures=_OF_NOW, commits="seq > %(seq)s ORDER BY seq LIMIT %(limit)s", rows="true"
)
"""The transactions behind the last one read."""

REST: Final = _ROWS.format(captures=_OF_NOW, commits="seq = %(seq)s", rows="id > %(id)s")
"""What is left of the last one."""

PRUNE: Final = """
WITH gone AS (
    DELETE FROM rowcast.outbox_commit WHERE seq IN (
        SELECT seq FROM rowcast.outbox_commit
        WHERE committed_at < now() - make_interval(secs => %(keep_unread)s)
           OR (seq < (SELECT min(read_seq) FROM rowcast.feed WHERE kind = 'outbox')
               AND committed_at < now() - make_interval(secs => %(keep)s))
        ORDER BY seq LIMIT %(limit)s)
    RETURNING xid, seq
), bodies AS (
    DELETE FROM rowcast.outbox USING gone WHERE outbox.xid = gone.xid
)
SELECT count(*), max(seq) FROM gone
"""

TEXTSEND: Final = re.compile(r"textsend\(([a-z.]+)\)")
"""What hands texts on in UTF-8, which a server of SQL_ASCII can't; it gives the bytes that it has."""


async def one_row(connection: TrioConnection, query: str, *parameters: Any) -> tuple[Any, ...]:
    """The first row, () if there is none; a single dict gives named parameters."""
    given = parameters[0] if parameters and isinstance(parameters[0], dict) else parameters or None
    row: tuple[Any, ...] | None = await (await connection.execute(query, given)).fetchone()
    return row or ()


async def identify(connection: TrioConnection) -> ServerIdentity:
    """Which server this is.  Raises: NotReady, if it is a standby."""
    await refuse_standby(connection)
    system_identifier, timeline = await one_row(connection, IDENTITY)
    return ServerIdentity(system_identifier, timeline, wal_lsn=0)


async def saved_position(connection: TrioConnection, name: str) -> tuple[int, int, int]:
    """Up to where the feed has read, as number and row, and up to which number was pruned.  Raises: NotReady."""
    row: tuple[Any, ...] = ()
    with suppress(psycopg.errors.UndefinedTable):
        row = await one_row(connection, _POSITION, name)
    if not row:
        raise NotReady(f"the outbox is not installed: {INSTALL}")
    if row[2] is None:
        raise NotReady(f"rowcast.outbox_pruned is empty: {INSTALL}")
    return row[0], row[1], row[2]


async def last_number(connection: TrioConnection) -> int:
    """The highest number that a transaction has got; 0 before the first."""
    row = await one_row(connection, "SELECT last_value - (NOT is_called)::integer FROM rowcast.outbox_seq")
    return int(row[0])


async def captures(connection: TrioConnection) -> int:
    """As `CAPTURES`; 0 where something is not there, or denied, which others say."""
    with suppress(psycopg.ProgrammingError):
        return int((await one_row(connection, f"SELECT {CAPTURES}"))[0])
    return 0


async def is_overtaken(connection: TrioConnection, seq: int) -> bool:
    """As `OVERTAKEN`, now."""
    (count,) = await one_row(connection, f"SELECT {OVERTAKEN}", {"seq": seq})
    return bool(count)


async def number_prepared(connection: TrioConnection) -> None:
    """What was committed with COMMIT PREPARED, or without the trigger, has no number yet."""
    with suppress(psycopg.errors.UndefinedFunction):  # installed by an earlier version
        await connection.execute("SELECT rowcast.outbox_number_rest()")


async def xid_of(connection: TrioConnection, seq: int) -> str:
    """The id of the transaction of a number; "" if there is none any more."""
    row = await one_row(connection, "SELECT xid::text FROM rowcast.outbox_commit WHERE seq = %s", seq)
    return str(row[0]) if row else ""
