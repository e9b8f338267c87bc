"""Up to where a `listen` feed has given out the rows of its tables: a mark for each source of each table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from psycopg import sql

from broker.config.feeds import Recovery
from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import identifier, quoted_name
from broker.feed.listen.away import AWAY
from broker.feed.listen.mark import KeySpace, Mark
from broker.feed.listen.recovery import READ_TIMEOUT_S
from broker.feed.routing.rowtext import columns_of

FILES: Final = (
    "SELECT c.oid::bigint, pg_relation_filenode(c.oid)::bigint FROM (SELECT to_regclass(%s)::oid AS oid) AS c"
)
"""Which table it is, and which file, which changes when all of its rows are taken out or put in anew."""

Saved = list[list[object]]
"""For each mark its source, kind, key (the texts of its columns; [] where there was no row), and key_space."""


class Marks:
    """A mark for each source that each table with a `recover` feeds.

    Attributes:
        away: those whose table can't be read now, and why; others' rows go on.
        is_settled: whether `settle` has been through.  A mark that is made later is of a table that was away.
    """

    def __init__(self, recoveries: Iterable[Recovery]) -> None:
        self._recoveries = tuple(recoveries)
        self._marks: dict[tuple[str, str], Mark] = {}
        self._aside: dict[tuple[str, str], list[object]] = {}
        """What another process kept of tables that have been away since: no mark can be made of it yet."""
        self.away: dict[Recovery, str] = {}
        self.is_settled = False

    def __bool__(self) -> bool:
        return bool(self._recoveries)

    def __iter__(self) -> Iterator[tuple[str, str, Mark]]:
        """Source, kind, mark; none before `settle`."""
        for (source, kind), mark in self._marks.items():
            yield source, kind, mark

    def readable(self) -> Iterator[tuple[str, str, Mark]]:
        """As iteration, without those whose tables are away."""
        for source, kind, mark in self:
            if mark.recovery not in self.away:
                yield source, kind, mark

    def get(self, source: str, kind: str) -> Mark | None:
        """Up to where rows of this kind have been given out, or None."""
        return self._marks.get((source, kind))

    def saved(self) -> Saved:
        """Every mark, as `Saved` says, and what still waits for its table."""
        marks: Saved = [
            [source, kind, list(mark.texts), [list(mark.key_space.columns), list(mark.key_space.files)]]
            for source, kind, mark in self
        ]
        return marks + [[*pair, *place] for pair, place in self._aside.items()]

    async def changed(self, reader: TrioConnection) -> list[str]:
        """The tables that are away by now and were not, and those that are there again."""
        return [
            one.table
            for one in self._recoveries
            if isinstance(await _look_at(reader, one), str) != (one in self.away)
        ]

    async def settle(self, reader: TrioConnection, kept: Saved | None) -> list[str]:
        """Let every mark belong to its table as it is now, at a place behind which nothing has been given out.

        A mark that was not there before stands where `kept` says, or else at its table's newest row.  One whose
        table is away stays where it is, or what `kept` says waits for the table.  All stay as they were if this
        fails.

        Args:
            kept: what `saved` gave in another process, None if nothing is known of one; for the first time.

        Returns:
            the tables of which rows may be missing, since no place that was known is one in them.

        Raises:
            psycopg.Error: the connection failed, or a table may not be read, or hides rows.
        """
        before = self._marks
        known = self.saved() if self.is_settled else kept or []
        rows = [one for one in known if isinstance(one, list) and len(one) > 1]
        places = {(str(source), str(kind)): place for source, kind, *place in rows}
        marks: dict[tuple[str, str], Mark] = {}
        aside: dict[tuple[str, str], list[object]] = {}
        unknown: list[str] = []
        away: dict[Recovery, str] = {}
        for recovery in self._recoveries:
            looks = await _look_at(reader, recovery)
            if isinstance(looks, str):
                away[recovery] = looks
                marks |= {pair: before[pair] for pair in recovery.kinds if pair in before}
                unmade = [pair for pair in recovery.kinds if pair not in before and pair in places]
                aside |= {pair: places[pair] for pair in unmade}
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
                is_expected = self.is_settled or kept is not None
                if is_lost or (is_expected and not mark.go_back(places.get(pair, []))):
                    unknown.append(recovery.table)
        self._marks, self._aside, self.away, self.is_settled = marks, aside, away, True
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
