"""What the routes want, compared with what the database captures: by publications (`wal`) or triggers (`outbox`).

A capture has a mark, which changes when somebody takes it away, even if it is put back at once.  So a mark that is
not the one known before says that rows may be missing, whoever was away meanwhile.  `differences` is pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from attrs import frozen

from broker.config.feeds import OPERATIONS, FeedConfig
from broker.feed.altered import ADDED, ALTERED_FUNCTION, ALTERED_OUTBOX, MADE_ANEW, MAKINGS
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.sql_text import quoted_name
from broker.feed.open_writers import Awaited, ended, ids, joined, open_writers
from broker.feed.routing.columns_wanted import columns_wanted, missing_text
from broker.feed.routing.tables import table_operations
from broker.feed.status import FeedStatus

Marks = dict[str, dict[str, str]]
"""For each table and operation its capture's mark; "" where it is not captured.

A partition has a trigger of its own, cloned from its table's: a word `PARTITION:…` behind the others.
"""

ENDED: Final = "a transaction has ended that may have written to {} while it was not captured"

UNSEEN_PARTITION: Final = """
    SELECT l.relid::regclass::text FROM pg_partition_tree({table}) l JOIN pg_class p ON p.oid = l.relid
    WHERE l.isleaf AND (p.relpersistence = 'u' OR p.relkind = 'f') ORDER BY l.relid LIMIT 1"""
"""A partition of whose rows nothing is in this server's WAL."""

PUBLISHED: Final = f"""
SELECT wanted.name, c.oid::bigint, c.relkind::text,
    CASE WHEN unseen.partition IS NULL THEN c.relpersistence::text ELSE 'u' END, (
    SELECT coalesce(jsonb_agg(jsonb_build_array(
        p.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.oid::text, p.xmin::text,
        (SELECT r.oid::text FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid), NULL)
        ORDER BY p.pubname), '[]')
    FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
    WHERE p.pubname = ANY(%(publications)s) AND t.schemaname = n.nspname AND t.tablename = c.relname),
    unseen.partition, NULL
FROM unnest(%(names)s::text[], %(quoted)s::text[]) AS wanted(name, quoted)
LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.quoted)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL ({UNSEEN_PARTITION.format(table="c.oid")}) AS unseen(partition) ON true
"""

TRIGGERED: Final = f"""
SELECT wanted.name, c.oid::bigint, c.relkind::text, c.relpersistence::text, (
    SELECT coalesce(jsonb_agg(jsonb_build_array(
        '', t.tgtype & 4 <> 0, t.tgtype & 16 <> 0, t.tgtype & 8 <> 0, t.oid::text,
        concat_ws('+', t.xmin, {MADE_ANEW}),
        (SELECT x.xmin::text FROM pg_trigger x WHERE x.tgname = 'outbox_number' AND x.tgenabled <> 'D'
            AND x.tgrelid = to_regclass('rowcast.outbox_commit')
            AND x.tgfoid = to_regprocedure('rowcast.outbox_number()')
            AND it.altered IS NULL),
        nullif(t.tgrelid, c.oid)::text) ORDER BY t.tgrelid <> c.oid, t.tgrelid), '[]')
    FROM pg_trigger t WHERE t.tgname = 'rowcast_capture' AND t.tgenabled = 'A'
        AND t.tgfoid = to_regprocedure('rowcast.outbox_capture()') AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
        AND t.tgargs = convert_to(wanted.name, 'UTF8') || '\\x00'::bytea
        AND (t.tgrelid = c.oid OR t.tgrelid IN (SELECT l.relid FROM pg_partition_tree(c.oid) l WHERE l.isleaf))
        AND (t.tgrelid <> c.oid OR off.partition IS NULL)), off.partition, it.altered
FROM unnest(%(names)s::text[], %(quoted)s::text[]) AS wanted(name, quoted)
LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.quoted)
LEFT JOIN LATERAL (
    SELECT l.relid::regclass::text FROM pg_partition_tree(c.oid) l WHERE l.isleaf AND l.relid <> c.oid
        AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = l.relid AND t.tgname = 'rowcast_capture'
            AND t.tgenabled = 'A')
    ORDER BY l.relid LIMIT 1) AS off(partition) ON true
CROSS JOIN (SELECT {ALTERED_OUTBOX}) AS it(altered)
"""

COLUMNS: Final = """
SELECT wanted.name, array_agg(a.attname::text ORDER BY a.attnum)
FROM unnest(%(names)s::text[], %(quoted)s::text[]) AS wanted(name, quoted)
JOIN pg_attribute a ON a.attrelid = to_regclass(wanted.quoted) AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1
"""


UNTIL: Final = "until"
"""Among the marks as they are kept: up to which position all was captured.  No table's name, since it has no schema."""

AWAITED: Final = "awaited"
"""Among them, too: transactions in whose rows there may be a hole, `open_writers.Awaited`."""

MADE: Final = "functions"
"""Among them, too: which the functions were that capture, `altered.MAKINGS`."""

UNTIL_STEP_BYTES: Final = 65536
"""Of WAL: an announcement after a restart begins so much too early at most."""


@frozen
class Uncaptured:
    """Rows of these tables may be missing that were committed behind a position.

    Attributes:
        reason: why, in words; "" if none is missing.
        tables: of which.
        start: the last position at which all was captured still, or where that was announced last; None if unknown.
    """

    reason: str = ""
    tables: tuple[str, ...] = ()
    start: int | None = None


def parameters(config: FeedConfig, publications: Iterable[str] = ()) -> dict[str, list[str]]:
    """What PUBLISHED and TRIGGERED want."""
    names = list(table_operations(config))
    return {"names": names, "quoted": list(map(quoted_name, names)), "publications": list(publications)}


async def look(connection: TrioConnection, query: str, wanted: dict[str, list[str]]) -> list[tuple[Any, ...]]:
    """The rows for `marks_of`."""
    return await (await connection.execute(query.encode(), wanted)).fetchall()


def marks_of(config: FeedConfig, rows: Iterable[tuple[Any, ...]]) -> tuple[Marks, dict[str, str]]:
    """The marks of what is wanted, and for each table that lacks one, why.  `rows` are those of the queries above."""
    marks: Marks = {}
    missing: dict[str, str] = {}
    wanted = table_operations(config)
    is_wal = config.captures_by == "publication"
    for name, oid, kind, persistence, captures, partition, altered in rows:
        mark_of: dict[str, list[str]] = {operation: [] for operation in wanted[name]}
        for _, *operations, capture_oid, xmin, member, leaf in captures:
            if not is_wal and member is None:
                continue  # nothing numbers its transactions
            word = f"{leaf}:{capture_oid}/{xmin}" if leaf else f"{oid}/{capture_oid}/{xmin}/{member}"
            for operation, is_captured in zip(OPERATIONS, operations, strict=True):
                if is_captured and operation in mark_of:
                    mark_of[operation].append(word)
        lacking = [operation for operation, found in mark_of.items() if not found or ":" in found[0]]
        for operation in lacking:
            mark_of[operation] = []
        unlogged = is_wal and persistence == "u"
        marks[name] = {o: "" if unlogged else " ".join(found) for o, found in mark_of.items()}
        if why := _why_lacking(name, oid, kind, unlogged, altered, partition, lacking):
            missing[name] = why
    return marks, missing


def _why_lacking(
    name: str,
    oid: int | None,
    kind: str,
    unlogged: bool,
    altered: str | None,
    partition: str | None,
    lacking: list[str],
) -> str:
    """Why rows of a table are not captured, and the cure; "" if they are."""
    if oid is None:
        return f"there is no table {name}: create it or correct its name, then {INSTALL}"
    if kind not in ("r", "p"):
        return f"{name} is a view or the like: name the table behind it"
    if unlogged and partition is not None:
        return (
            f"{partition}, a partition of {name}, is unlogged or a foreign table, so its rows are in no WAL here:"
            f" ALTER TABLE {partition} SET LOGGED, or detach it"
        )
    if unlogged:
        return f"{name} is unlogged, so its rows are in no WAL: ALTER TABLE {quoted_name(name)} SET LOGGED"
    if altered is not None:
        cure = "drop it" if altered.startswith(ADDED) else INSTALL
        return f"{altered} is not as Rowcast has made it, so rows of {name} are not captured: {cure}"
    if partition is not None:
        return f"rows of {partition}, a partition of {name}, are not captured: {INSTALL}"
    return f"{' and '.join(lacking)} of {name} is not captured: {INSTALL}" if lacking else ""


def differences(
    known: Mapping[str, Mapping[str, str]] | None, marks: Marks, missing: dict[str, str]
) -> dict[str, str]:
    """Why rows may be missing since the marks that were known before, for each table; None: at the first start."""
    gaps: dict[str, str] = {}
    for table, operations in marks.items():
        before = (known or {}).get(table, {})
        changed = [
            o
            for o, mark in operations.items()
            if is_other(before.get(o, mark), mark) or (o not in before and not mark)
        ]
        if not changed:
            continue
        if any(not operations[operation] for operation in changed):
            gaps[table] = missing.get(table, f"{table} is not captured: {INSTALL}")
        else:
            listed = " and ".join(changed)
            gaps[table] = (
                f"{listed} of {table} was not captured for a while: the table or its capture was made anew"
            )
    return gaps


def is_other(before: str, mark: str) -> bool:
    """Whether a capture was made anew, or taken away; partitions may come and go."""
    parts_before, parts = _partitions(before), _partitions(mark)
    anew = any(parts.get(leaf, trigger) != trigger for leaf, trigger in parts_before.items())
    return anew or _whole(before) != _whole(mark)


def _whole(mark: str) -> str:
    return " ".join(word for word in mark.split() if ":" not in word)


def _partitions(mark: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in mark.split() if ":" in word)


class CaptureWatch:
    """Looks whether everything is captured that the routes want, and tells of it; the marks outlive connections.

    What is not captured is announced when that is noticed, and once more when it is captured again, before the first
    row that comes then: whoever loads its tables at the last announcement has all of them.
    """

    def __init__(
        self, config: FeedConfig, status: FeedStatus, query: str, publications: Iterable[str] = ()
    ) -> None:
        self._config = config
        self._status = status
        self._query = query
        self._wanted = parameters(config, publications)
        self._known: Marks | None = None
        self._until: int | None = None
        self._saved: Marks | None = None
        self._saved_until: int | None = None
        self._awaited: Awaited = {}
        self._makings: str | None = None
        self._saved_rest: tuple[Awaited, str | None] = ({}, None)
        self._has_looked = False

    async def check(self, connection: TrioConnection, position: int) -> Uncaptured:
        """What may be missing since the last time, by whatever process; troubles are told to the status.

        It is found again by the next process until `keep` is called, which is to be done once it has been announced.

        Args:
            position: where the server is, or up to where rows were read that were seen captured.

        Raises:
            psycopg.Error: the connection failed.
        """
        await self._recall(connection)
        marks, missing = marks_of(self._config, await look(connection, self._query, self._wanted))
        gaps = differences(self._known, marks, missing)
        if not self._has_looked:  # what the process before has announced is not retained
            gaps |= missing
        self._awaited, over = await ended(connection, self._awaited)
        # Before anything is announced: who commits behind that was open here, or wrote to what is right.
        await self._await_writers(connection, gaps.keys() - missing.keys())
        gaps = {table: ENDED.format(table) for table in marks if table in over} | gaps
        for table in marks:
            if table in missing:
                self._status.trouble(f"table {table}", missing[table])
            else:
                self._status.over(f"table {table}")
        self._status.uncaptured = tuple(missing)
        await self._tell_of_functions(connection)
        self._tell_of_columns(dict(await look(connection, COLUMNS, self._wanted)))
        start = self._until
        self._until = position if gaps or not missing else start
        self._known, self._has_looked = marks, True
        return Uncaptured("; ".join(gaps.values()), tuple(gaps), start)

    async def owed(self, connection: TrioConnection) -> None:
        """A gap that an installation owes is about to be announced: it may have put right what captures.

        Raises:
            psycopg.Error: the connection failed.
        """
        await self._recall(connection)
        await self._await_writers(connection, set(self._wanted["names"]))

    async def _await_writers(self, connection: TrioConnection, tables: Collection[str]) -> None:
        """Whoever writes to these tables, unless all of them had to end before what captures was changed."""
        row = await (await connection.execute(MAKINGS)).fetchone()
        makings = "" if row is None else row[0] or ""
        if tables and (self._config.captures_by == "publication" or makings != self._makings):
            self._awaited = joined(self._awaited, await open_writers(connection, self._wanted, tables))
        self._makings = makings

    async def _tell_of_functions(self, connection: TrioConnection) -> None:
        """What is sent by a function that somebody has replaced may never come here."""
        row = await (await connection.execute(f"SELECT {ALTERED_FUNCTION}".replace("%%", "%"))).fetchone()
        if row is None or row[0] is None:
            self._status.over("functions")
        else:
            self._status.trouble("functions", f"{row[0]} is not as Rowcast has made it: {INSTALL}")

    def _tell_of_columns(self, columns: dict[str, list[str]]) -> None:
        """A name that no column has drops every row, and is more than a row's fault."""
        for wanted in columns_wanted(self._config):
            trouble = f"column {wanted.name} of {wanted.table}"
            if wanted.table not in columns or wanted.is_in(columns[wanted.table]):
                self._status.over(trouble)
            else:
                self._status.trouble(trouble, missing_text(wanted, columns[wanted.table]))

    @property
    def awaited(self) -> list[str]:
        """Transactions behind whose end a gap has to be announced, for `open_writers.OVER`."""
        return ids(self._awaited)

    @property
    def tables(self) -> Collection[str]:
        """Those that the routes name."""
        return self._wanted["names"]

    def table_of(self, oid: int) -> str:
        """What the routes call the table of this oid, if it was captured when somebody looked last; else ""."""
        for table, operations in (self._known or {}).items():
            if any(mark.startswith(f"{oid}/") for mark in operations.values()):
                return table
        return ""

    async def _recall(self, connection: TrioConnection) -> None:
        """What was kept by the process before, once."""
        if self._known is not None:
            return
        known = "SELECT to_jsonb(feed) -> 'captured' FROM rowcast.feed WHERE name = %s"
        row = await (await connection.execute(known, [self._config.name])).fetchone()
        if row is not None and row[0] is not None:
            self._until = self._saved_until = row[0].pop(UNTIL, None)
            self._awaited, self._makings = row[0].pop(AWAITED, {}), row[0].pop(MADE, None)
            self._saved_rest = (self._awaited, self._makings)
            self._known = self._saved = row[0]

    async def keep(self, connection: TrioConnection) -> None:
        """Remember what was seen by the last `check`, for the next process.

        Raises:
            psycopg.Error: the connection failed.
        """
        rest = (self._awaited, self._makings)
        if (self._known, rest) == (self._saved, self._saved_rest) and not self._is_worth_keeping():
            return
        with suppress(psycopg.errors.UndefinedColumn):  # installed by an earlier version
            query = "UPDATE rowcast.feed SET captured = %s::jsonb WHERE name = %s"
            kept = json.dumps(
                {**(self._known or {}), UNTIL: self._until, AWAITED: self._awaited, MADE: self._makings}
            )
            await connection.execute(query, [kept, self._config.name])
        self._saved, self._saved_until, self._saved_rest = self._known, self._until, rest

    def _is_worth_keeping(self) -> bool:
        """An idle server's WAL grows by what is kept here, so a little of it is no reason to keep more."""
        step = UNTIL_STEP_BYTES if self._config.captures_by == "publication" else 1
        until, saved = self._until, self._saved_until
        return until is not None and (saved is None or until - saved >= step)
