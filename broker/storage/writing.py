"""Snapshots into the tables: only the rows that differ, in one transaction.

Writing is a generator, so that whoever drives it decides what happens between two batches of rows: nothing, a pause of
a thread that shares the interpreter with the loop, or a turn of the loop itself.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from typing import Final

from broker.core.publication import Publication
from broker.storage.batches import Batches
from broker.storage.known import CLOCK_S, KnownSessions
from broker.storage.numbers import Numbers
from broker.storage.records import Snapshot
from broker.storage.schema import TABLE_NAMES, Value, checked
from broker.storage.session_rows import SessionRows

PAUSE_S: Final = 0.0005
"""After each batch of a thread's.  One that never sleeps would make the loop wait for the interpreter's lock at each of
its own system calls."""

_LOOKED_AT: Final = 20
"""Retained messages that are found unchanged in the time of one row."""

_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?, ?, ?)"
_RETAINED: Final = "INSERT OR REPLACE INTO retained VALUES (?, ?, ?)"


class Writer:
    """Brings the tables to what a snapshot says.

    Args:
        connection: in autocommit mode.
        saved: what the tables hold, as `read` returned it; nothing, if left out.
    """

    def __init__(self, connection: sqlite3.Connection, saved: Snapshot | None = None) -> None:
        saved = Snapshot(0.0, 0.0) if saved is None else saved
        self._connection = connection
        self._numbers = Numbers(saved)
        self._batches = Batches(connection)
        self._retained = {
            publication.topic: (position, publication.number)
            for position, publication in zip(saved.retained_positions, saved.retained, strict=True)
        }
        """Topic to position and message, as the file has them."""
        self._known = KnownSessions()
        self._saved_at = 0.0
        """What the file says of itself, if this has written it."""
        self._last_position = max(saved.retained_positions, default=0)

    def write(self, snapshot: Snapshot, pause_s: float = PAUSE_S) -> int:
        """Save a snapshot; all of it, or nothing if this fails, and then the next one must be whole.

        Args:
            pause_s: after each batch; 0 where no loop runs beside this.

        Returns:
            Rows that were put in, changed or taken out.

        Raises:
            sqlite3.Error: the disk is full, or the like; the tables hold what they held before.
        """
        for _ in self.steps(snapshot):
            if pause_s > 0:
                time.sleep(pause_s)
        self.commit()
        return self.written

    def steps(self, snapshot: Snapshot) -> Generator[None]:
        """All of `write` but the commit, which must follow; a generator that is closed early leaves nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._batches = Batches(self._connection)
            self._numbers.begin(snapshot.clock_offset_s)
            if snapshot.is_whole:
                self._clear()
            yield from self._write(snapshot, self._batches)
        except BaseException:
            self._roll_back()
            raise

    @property
    def written(self) -> int:
        """Rows that the last save put in, changed or took out."""
        return self._batches.written

    def commit(self) -> None:
        """Put on disk what `steps` wrote.  Blocks.  Raises: as `write`."""
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _forget_known(self) -> None:
        self._known.forget_all()
        self._saved_at = 0.0

    def _roll_back(self) -> None:
        self._forget_known()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _clear(self) -> None:
        for table in TABLE_NAMES:
            self._connection.execute(f"DELETE FROM {table}")
        self._numbers.forget()
        self._forget_known()
        self._retained = {}
        self._last_position = 0

    def _write(self, snapshot: Snapshot, batches: Batches) -> Generator[None]:
        if snapshot.retained_changes is not None:
            for topic, publication in snapshot.retained_changes.items():
                self._write_topic(topic, publication, batches)
                yield from batches.pause()
        elif snapshot.retained_changed:
            yield from self._write_retained(snapshot, batches)
        yield from self._write_sessions(snapshot, batches)
        batches.flush()
        yield from self._remove_ended(snapshot, batches)
        if abs(snapshot.saved_at - self._saved_at) >= CLOCK_S:
            self._saved_at = snapshot.saved_at
            batches.execute(_STATE, checked(1, snapshot.saved_at))
        yield from self._numbers.end(batches)
        batches.flush()

    def _write_retained(self, snapshot: Snapshot, batches: Batches) -> Generator[None]:
        wanted: set[bytes] = set()
        for looked_at, publication in enumerate(snapshot.retained_to_keep(), 1):
            if looked_at % _LOOKED_AT == 0:
                batches.worked(1)
            wanted.add(publication.topic)
            self._write_topic(publication.topic, publication, batches)
            yield from batches.pause()
        if len(wanted) < len(self._retained):
            for topic in self._retained.keys() - wanted:
                self._write_topic(topic, None, batches)
                yield from batches.pause()

    def _write_topic(self, topic: bytes, publication: Publication | None, batches: Batches) -> None:
        """One topic's retained message, or that it has none."""
        kept = self._retained.get(topic)
        if publication is None:
            if kept is not None:
                del self._retained[topic]
                batches.execute("DELETE FROM retained WHERE position = ?", (kept[0],))
                self._numbers.release((kept[1],))
            return
        if kept is None:
            self._last_position += 1
            position = self._last_position
        elif kept[1] == publication.number:
            return
        else:
            position = kept[0]
            self._numbers.release((kept[1],))
        number = self._numbers.name(publication, batches)
        self._retained[topic] = (position, number)
        batches.later(_RETAINED, checked(position, number))

    def _write_sessions(self, snapshot: Snapshot, batches: Batches) -> Generator[None]:
        last = 0
        for record in snapshot.sessions:
            known = self._known.get(record.client_id)
            found: tuple[Value, ...] | None
            if known is not None:
                found = (known.number, known.will)
            else:
                found = batches.one(
                    "SELECT number, will FROM session WHERE client_id = ?", (record.client_id,)
                )
            if found is None:
                # Those before it in this save may not be in the table yet.
                last = max(last, batches.integer("SELECT coalesce(max(number), 0) FROM session")) + 1
            number, will = (last, None) if found is None else found
            assert isinstance(number, int)
            assert will is None or isinstance(will, int)
            rows = SessionRows(number, found is None, self._numbers, batches, will, known)
            yield from rows.write(record, snapshot.clock_offset_s)
            assert rows.now_known is not None
            self._known.note(record, rows.now_known)

    def _remove_ended(self, snapshot: Snapshot, batches: Batches) -> Generator[None]:
        if snapshot.ended is not None:
            for client_id in snapshot.ended:
                self._known.forget(client_id)
                found = batches.one("SELECT number FROM session WHERE client_id = ?", (client_id,))
                if found is not None:
                    assert isinstance(found[0], int)
                    yield from SessionRows(found[0], False, self._numbers, batches).remove()
                yield from batches.pause()
            return
        present = len(snapshot.sessions) + len(snapshot.unchanged)
        if batches.integer("SELECT count(*) FROM session") <= present:
            return
        there = {record.client_id for record in snapshot.sessions} | snapshot.unchanged
        ended: list[int] = []
        for number, name in batches.rows("SELECT number, client_id FROM session"):
            if name not in there:
                assert isinstance(number, int)
                ended.append(number)
            yield from batches.pause()
        if ended:
            self._known.forget_all()
        for number in ended:
            yield from SessionRows(number, False, self._numbers, batches).remove()
