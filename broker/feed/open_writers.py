"""Who was writing to a table when its capture was put right, and has not committed yet.

A function can be replaced, and a publication altered, while transactions are open.  What these had written until then
is not captured, and comes to light when they commit: behind the gap that was announced.  So whoever held a writer's
lock at a look that found a gap is awaited, and where one of them has ended the rows may be missing once more.

(Triggers and rules are changed under a lock that waits for all writers of their table; then nobody is open across it.)

A transaction is known by its id, which a snapshot says the end of to the very row; one that has none yet by its
virtual id, which goes when it has ended, before its locks.  Takes a connection; keeps nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from broker.feed.driver.connection import TrioConnection

Awaited = dict[str, list[str]]
"""For tables as routes call them the transactions that are awaited: ids (`731`), or virtual ones (`4/25`)."""

_OWN_XID: Final = """
SELECT x.transactionid::text FROM {locks} x WHERE x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
    AND x.granted AND x.virtualtransaction = {of} ORDER BY age(x.transactionid) DESC LIMIT 1"""
# The oldest: savepoints have ids of their own, and theirs are younger.

_OPEN: Final = f"""
WITH locks AS MATERIALIZED (SELECT * FROM pg_locks WHERE granted AND virtualtransaction NOT LIKE '%%/0')
SELECT wanted.name, array_agg(DISTINCT coalesce(
    ({_OWN_XID.format(locks="locks", of="l.virtualtransaction")}), l.virtualtransaction))
FROM unnest(%(names)s::text[], %(quoted)s::text[]) AS wanted(name, quoted)
JOIN locks l ON l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND (l.relation = to_regclass(wanted.quoted)
        OR l.relation IN (SELECT p.relid FROM pg_partition_tree(to_regclass(wanted.quoted)) p))
GROUP BY 1
"""

_IS_OVER: Final = """CASE WHEN id LIKE '%%/%%'
    THEN NOT EXISTS (SELECT FROM pg_locks WHERE virtualtransaction = id)
    ELSE NOT (id::xid = ANY (SELECT x::xid FROM pg_snapshot_xip(pg_current_snapshot()) x))
        AND age(id::xid) > age(pg_snapshot_xmax(pg_current_snapshot())::xid) END"""

OVER: Final = f"(SELECT count(*) FROM unnest(%(awaited)s::text[]) AS awaited(id) WHERE {_IS_OVER})"
"""How many of those awaited have ended.  As part of a query for rows it is of the same moment as these."""

_STANDING: Final = f"""
SELECT name, coalesce((SELECT own FROM ({_OWN_XID.format(locks="pg_locks", of="id")}) AS x(own)), id), {_IS_OVER}
FROM unnest(%(names)s::text[], %(ids)s::text[]) AS awaited(name, id)
"""


def ids(awaited: Awaited) -> list[str]:
    """All of them, for `OVER`."""
    return sorted({one for some in awaited.values() for one in some})


async def open_writers(
    connection: TrioConnection, wanted: Mapping[str, list[str]], tables: Collection[str]
) -> Awaited:
    """Who has written to these tables, or is about to, and has not ended.  `wanted`: as `captured.parameters`.

    Raises:
        psycopg.Error: the connection failed.
    """
    rows = await (await connection.execute(_OPEN.encode(), wanted)).fetchall()
    return {table: list(found) for table, found in rows if table in tables}


async def ended(connection: TrioConnection, awaited: Awaited) -> tuple[Awaited, set[str]]:
    """Who is awaited still, and the tables of which somebody has ended.

    Raises:
        psycopg.Error: the connection failed.
    """
    if not awaited:
        return {}, set()
    pairs = [(table, one) for table, some in awaited.items() for one in some]
    given = {"names": [table for table, _ in pairs], "ids": [one for _, one in pairs]}
    rows = await (await connection.execute(_STANDING.encode(), given)).fetchall()
    left: Awaited = {}
    for table, one, is_over in rows:
        if not is_over:
            left.setdefault(table, []).append(one)
    return left, {table for table, _, is_over in rows if is_over}


def joined(*several: Awaited) -> Awaited:
    """All of several."""
    tables = {table for awaited in several for table in awaited}
    return {table: sorted({one for awaited in several for one in awaited.get(table, ())}) for table in tables}
