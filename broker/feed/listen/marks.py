"""Up to where a `listen` feed has given out the rows of its tables: a mark for each source of each table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import psycopg
from psycopg import sql

from broker.config.feeds import Recovery
from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import identifier, quoted_name
from broker.feed.listen.mark import KeySpace, Mark
from broker.feed.listen.recovery import READ_TIMEOUT_S
from broker.feed.routing.rowtext import columns_of

FILES: Final = (
    "SELECT c.oid::bigint, pg_relation_filenode(c.oid)::bigint FROM (SELECT to_regclass(%s)::oid AS oid) AS c"
)
"""Which table it is, and which file, which changes when all of its rows are taken out or put in anew."""

AWAY: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
"""One table is not there: dropped, renamed, or its key.  That is no matter of the others."""

Saved = list[list[object]]
"""For each mark its source, kind, key (the texts of its columns; [] where there was no row), and key_space."""


class Marks:
    """A mark for each source that each table with a `recover` feeds."""

    def __init__(self, recoveries: Iterable[Recovery]) -> None:
        self._recoveries = tuple(recoveries)
        self._marks: dict[tuple[str, str], Mark] = {}
        self.away: dict[str, str] = {}
        """The tables that can't be read now, and why; those with others' rows go on."""

    def __bool__(self) -> bool:
        return bool(self._recoveries)

    def __iter__(self) -> Iterator[tuple[str, str, Mark]]:
        """Source, kind, mark; none before `settle`."""
        for (source, kind), mark in self._marks.items():
            yield source, kind, mark

    def readable(self) -> Iterator[tuple[str, str, Mark]]:
        """As iteration, without those whose tables are away."""
        for source, kind, mark in self:
            if mark.recovery.table not in self.away:
                yield source, kind, mark

    def get(self, source: str, kind: str) -> Mark | None:
        """Up to where rows of this kind have been given out, or None."""
        return self._marks.get((source, kind))

    def saved(self) -> Saved:
        """Every mark, as `Saved` says."""
        return [
            [source, kind, list(mark.texts), [list(mark.key_space.columns), list(mark.key_space.files)]]
            for source, kind, mark in self
        ]

    async def back(self, reader: TrioConnection) -> list[str]:
        """Those of `away` that can be read by now."""
        recoveries = [one for one in self._recoveries if one.table in self.away]
        return [one.table for one in recoveries if not isinstance(await _look_at(reader, one), str)]

    async def settle(self, reader: TrioConnection, kept: Saved | None) -> list[str]:
        """Let every mark belong to its table as it is now, at a place behind which nothing has been given out.

        A mark that was not there before stands where `kept` says, or else at its table's newest row.  One whose
        table is away stays where it is, if it was there.  All stay as they were if this fails.

        Args:
            kept: what `saved` gave in another process, None if nothing is known of one; for the first time.

        Returns:
            the tables of which rows may be missing, since no place that was known is one in them.

        Raises:
            psycopg.Error: the connection failed.
        """
        before = {(source, kind): mark for source, kind, mark in self}
        known = self.saved() if before else kept or []
        places = {tuple(map(str, one[:2])): one[2:] for one in known if isinstance(one, list)}
        marks: dict[tuple[str, str], Mark] = {}
        unknown: list[str] = []
        away: dict[str, str] = {}
        for recovery in self._recoveries:
            looks = await _look_at(reader, recovery)
            if isinstance(looks, str):
                away[recovery.table] = looks
                marks.update({pair: before[pair] for pair in recovery.kinds if pair in before})
                continue
            types, key_space = looks
            for pair in recovery.kinds:
                last = before.get(pair)
                is_lost = last is not None and last.is_unreadable
                if last is not None and last.key_space == key_space and not is_lost:
                    marks[pair] = last
                    continue
                mark = marks[pair] = Mark(recovery, types, key_space)
                await _advance_to_newest(reader, mark)
                if is_lost or ((before or kept is not None) and not mark.go_back(places.get(pair, []))):
                    unknown.append(recovery.table)
        self._marks, self.away = marks, away
        return list(dict.fromkeys(unknown))


async def _look_at(reader: TrioConnection, recovery: Recovery) -> tuple[tuple[int, ...], KeySpace] | str:
    """The key columns' type OIDs, and what the table is; or why it can't be read.  Inside a transaction."""
    try:
        async with reader.transaction():
            return await _look(reader, recovery)
    except AWAY as error:
        return first_line(error)


async def _look(reader: TrioConnection, recovery: Recovery) -> tuple[tuple[int, ...], KeySpace]:
    columns = sql.SQL(", ").join(map(sql.Identifier, recovery.key))
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, identifier(recovery.table))
    with within(READ_TIMEOUT_S, f"looking at {recovery.table}"):
        cursor = await reader.execute(query)
        assert cursor.description is not None
        types = tuple(column.type_code for column in cursor.description)
        name = quoted_name(recovery.table)
        row = await (await reader.execute(FILES, [name])).fetchone()
    assert row is not None
    return types, KeySpace((*recovery.key, *types), tuple(row))


async def _advance_to_newest(reader: TrioConnection, mark: Mark) -> None:
    with within(READ_TIMEOUT_S, f"reading the newest row of {mark.recovery.table}"):
        row = await (await reader.execute(mark.newest_row())).fetchone()
    if row is not None:
        mark.advance(columns_of(row[0]))
