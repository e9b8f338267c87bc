"""Transactions that had written to a table already when its capture was put right.

What they wrote before may not be captured, and commits only when they end: behind the gap that was announced then.  So
each of them is a gap of its own once it has ended.  (A trigger can't be made while they are open; a function, and a
publication, can.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from broker.feed.driver.connection import TrioConnection

ENDED: Final = "a transaction has ended that had written before its capture was put right"

_EPOCHS: Final = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"

_XID: Final = f"""(
    SELECT min({_EPOCHS}
        + (x.transactionid::text::bigint - {_EPOCHS} %% 4294967296 + 6442450944) %% 4294967296 - 2147483648)
    FROM pg_locks x WHERE x.virtualtransaction = {{}} AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock')"""
"""Of a virtual transaction: the lowest id that it holds, since those of its savepoints are higher; in 64 bits."""

_WRITERS: Final = f"""
SELECT coalesce({_XID.format("w.virtualtransaction")}::text, w.virtualtransaction)
FROM (
    SELECT DISTINCT l.virtualtransaction FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.relation IN (
            SELECT to_regclass(name) FROM unnest(%(quoted)s::text[]) AS name
            UNION SELECT p.relid FROM unnest(%(quoted)s::text[]) AS name, pg_partition_tree(to_regclass(name)) p)
) AS w
"""

_OPEN: Final = f"""
SELECT w.name, coalesce(w.xid, x.id)::text FROM (
    SELECT name, CASE WHEN name NOT LIKE '%%/%%' THEN name::bigint END AS xid FROM unnest(%(writers)s::text[]) AS name
) AS w CROSS JOIN LATERAL (SELECT CASE WHEN w.xid IS NULL THEN {_XID.format("w.name")} END) AS x(id)
WHERE CASE WHEN coalesce(w.xid, x.id) IS NULL
    THEN EXISTS (SELECT FROM pg_locks l WHERE l.virtualtransaction = w.name)
    ELSE NOT pg_visible_in_snapshot(coalesce(w.xid, x.id)::text::xid8, pg_current_snapshot()) END
"""
"""Those that the snapshot of the query does not see as ended.  One that has no id yet has written nothing."""

COUNT_OPEN: Final = f"(SELECT count(*) FROM ({_OPEN}) AS o)"
"""How many of `%(writers)s` are open still, to the snapshot of the query that it is part of."""


class OpenWriters:
    """Of one feed; at first none.

    Attributes:
        names: transaction ids in 64 bits, or VIRTUAL/IDS where they had none when they were looked at last.
        tables: what they may have written to.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tables: tuple[str, ...] = ()
        self._committed: set[str] = set()

    def as_json(self) -> list[list[str]]:
        """For `recall`, by another process."""
        return [self.names, list(self.tables)] if self.names else []

    def recall(self, kept: Any) -> None:
        """What `as_json` has given."""
        if kept:
            self.names, self.tables = list(kept[0]), tuple(kept[1])

    async def note(self, connection: TrioConnection, tables: Iterable[str], quoted: Collection[str]) -> None:
        """The capture of these tables has been made, or made anew: who has written to them, and has not ended?

        Args:
            quoted: the same tables, as SQL has them.
        """
        found = await (await connection.execute(_WRITERS.encode(), {"quoted": list(quoted)})).fetchall()
        self.names = sorted({*self.names, *(name for (name,) in found)})
        self.tables = tuple(sorted({*self.tables, *tables})) if self.names else ()

    async def take_ended(self, connection: TrioConnection) -> tuple[str, ...]:
        """Forget those that have ended: the tables of which rows may be missing; () if none has."""
        if not self.names:
            return ()
        found = await (await connection.execute(_OPEN.encode(), {"writers": self.names})).fetchall()
        open_now = [xid or name for name, xid in found if name not in self._committed]
        tables = self.tables if len(open_now) < len(self.names) else ()
        self.names = sorted(open_now)
        self._committed.clear()
        if not self.names:
            self.tables = ()
        return tables

    async def has_ended(self, connection: TrioConnection, xid: int) -> bool:
        """Whether one has, or is about to: it is the one with this id (of 32 bits), whose commit has come."""
        commits = [name for name in self.names if "/" not in name and int(name) & 0xFFFFFFFF == xid]
        if commits:  # a synchronous standby may keep it from ending for long
            self._committed.update(commits)
            return True
        open_now = await (await connection.execute(_OPEN.encode(), {"writers": self.names})).fetchall()
        return len(open_now) < len(self.names)
