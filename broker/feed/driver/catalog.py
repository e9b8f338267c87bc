"""What the JSON of a column depends on, from the database's catalog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from broker.feed.driver.connection import TrioConnection
from protocol.pgjson import TypeEntry

TYPES_SQL: Final = """
WITH RECURSIVE wanted(oid) AS (
    SELECT unnest(%s::bigint[])::oid
    UNION
    SELECT part.oid
    FROM wanted
    JOIN pg_type t ON t.oid = wanted.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype
        UNION ALL SELECT t.typelem WHERE t.typlen = -1
        UNION ALL SELECT a.atttypid FROM pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS part(oid)
    WHERE part.oid <> 0
)
SELECT t.oid::bigint,
       t.typbasetype::bigint,
       CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END::bigint,
       coalesce((SELECT e.typdelim FROM pg_type e WHERE e.oid = t.typelem), ',')::text,
       t.typtype = 'c',
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT a.atttypid::bigint FROM pg_attribute a
             WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       EXISTS (SELECT FROM pg_cast c JOIN pg_proc f ON f.oid = c.castfunc
               WHERE c.castsource = t.oid AND c.casttarget = 'json'::regtype AND f.proname = 'hstore_to_json')
FROM wanted JOIN pg_type t USING (oid)
"""
"""One row per type that the given ones are made of, themselves included."""


def type_entry(row: tuple[Any, ...]) -> tuple[int, TypeEntry]:
    """A row of TYPES_SQL as an entry of the catalog that `protocol.pgjson` wants."""
    oid, base_oid, element_oid, delimiter, composite, names, types, is_hstore = row
    attributes = tuple(zip(names, types, strict=True)) if composite else None
    return oid, TypeEntry(base_oid, element_oid, delimiter.encode(), attributes, is_hstore)


async def load_types(connection: TrioConnection, oids: Iterable[int]) -> dict[int, TypeEntry]:
    """The catalog's entries for these types and all they are made of; without what was dropped meanwhile."""
    cursor = await connection.execute(TYPES_SQL, [list(oids)])
    return dict(map(type_entry, await cursor.fetchall()))
