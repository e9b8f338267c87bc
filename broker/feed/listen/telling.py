"""Whether the triggers are still as they were that told of a table's rows: while one is off, or its function another,
rows are committed unheard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.config.feeds import Recovery
from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.sql_text import quoted_name
from broker.feed.listen.recovery import READ_TIMEOUT_S

TRIGGERS: Final = b"""
SELECT wanted.name, coalesce(array_agg(DISTINCT part.word) FILTER (WHERE t.oid IS NOT NULL), '{}')
FROM unnest(%s::text[], %s::text[]) AS wanted(name, quoted)
LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass(wanted.quoted) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
LEFT JOIN pg_proc f ON f.oid = t.tgfoid
CROSS JOIN LATERAL (VALUES
    (concat_ws('/', t.oid, t.xmin, t.tgenabled)),
    (concat_ws('/', 'function', f.oid, md5(concat_ws('/', f.prosrc, f.probin, f.prolang, f.proconfig, f.prosecdef))))
) AS part(word)
WHERE to_regclass(wanted.quoted) IS NOT NULL
GROUP BY 1
"""

Triggers = dict[str, list[str]]
"""The triggers of each table that are on, with what changes when somebody touches them, and what their functions do.

A GRANT touches a function, and so does a deployment that makes it anew as it was: neither lets it be silent.
A function is a word of its own: an earlier version knew none, which says nothing of the triggers.
"""


class Telling:
    """The triggers of the tables that are read again by key.  Which of them notify, nobody can know.

    Attributes:
        known: as they were at the last `take`, in whatever process; None before the first.
    """

    def __init__(self, recoveries: Iterable[Recovery]) -> None:
        self._tables = [recovery.table for recovery in recoveries]
        self.known: Triggers | None = None

    async def look(self, connection: TrioConnection) -> Triggers:
        """As they are now, of the tables that are there.  Raises: psycopg.Error, if the connection failed."""
        quoted = [quoted_name(table) for table in self._tables]
        with within(READ_TIMEOUT_S, "looking at triggers"):
            rows = await (await connection.execute(TRIGGERS, [self._tables, quoted])).fetchall()
        return dict(rows)

    def silenced(self, now: Triggers) -> list[str]:
        """The tables of which a trigger or its function is not as it was, even if it is back.  Others may come."""
        known = self.known or {}
        return [table for table, triggers in now.items() if not set(known.get(table, ())) <= set(triggers)]

    def take(self, now: Triggers) -> list[str]:
        """Let them be those that are known; of a table that is not there, those of before.  Returns: as `silenced`."""
        silenced = self.silenced(now)
        known = self.known or {}
        self.known = {table: known[table] for table in self._tables if table in known} | now
        return silenced
