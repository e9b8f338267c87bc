"""What captures a feed's tables at its installation, so that the first start can tell whether it still does.  Pure."""

from __future__ import annotations

import json

from psycopg import sql

from broker.config.feeds import OPERATIONS, FeedConfig
from broker.feed.captured import PUBLISHED, TRIGGERED, parameters
from broker.feed.driver.sql_text import text_of
from broker.feed.routing.tables import table_operations
from broker.feed.wal.slots import publication_names

_REMEMBER = """WITH seen (name, oid, kind, persistence, captures, partition, altered) AS ({seen}), marks AS (
    SELECT name, (
        SELECT jsonb_object_agg(o.operation, CASE WHEN {is_wal} AND persistence = 'u' THEN '' ELSE coalesce((
            SELECT string_agg(coalesce(c.capture ->> 7 || ':', oid || '/')
                || (c.capture ->> 4) || '/' || (c.capture ->> 5)
                || CASE WHEN c.capture ->> 7 IS NULL THEN '/' || coalesce(c.capture ->> 6, 'None') ELSE '' END,
                ' ' ORDER BY c.place)
            FROM jsonb_array_elements(captures) WITH ORDINALITY AS c (capture, place)
            WHERE (c.capture ->> o.place)::boolean AND ({is_wal} OR c.capture ->> 6 IS NOT NULL)), '') END)
        FROM jsonb_to_recordset({operations}::jsonb -> name) AS o (operation text, place int)
    ) AS operations
    FROM seen
)
UPDATE rowcast.feed SET captured = (SELECT jsonb_object_agg(name, operations) FROM marks)
WHERE name = {feed} AND captured IS NULL"""


def remember_statement(config: FeedConfig) -> str:
    """Keeps the marks of `broker.feed.captured` for a feed that has never run, or that was moved."""
    is_wal = config.captures_by == "publication"
    wanted = parameters(config, publication_names(config))
    query = PUBLISHED if is_wal else TRIGGERED
    for name, values in wanted.items():
        query = query.replace(f"%({name})s", text_of(sql.Literal(values)))
    places = {
        table: [{"operation": o, "place": 1 + OPERATIONS.index(o)} for o in some]
        for table, some in table_operations(config).items()
    }
    composed = sql.SQL(_REMEMBER).format(
        seen=sql.SQL(query.strip()),
        is_wal=sql.Literal(is_wal),
        operations=sql.Literal(json.dumps(places, ensure_ascii=False)),
        feed=sql.Literal(config.name),
    )
    return text_of(composed)
