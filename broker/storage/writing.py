"""Snapshots into the tables: only the rows that differ, in one transaction.  Runs in a thread, beside the loop."""

from __future__ import annotations

import sqlite3
from typing import Final

from broker.storage.batches import PAUSE_S, Batches
from broker.storage.numbers import Numbers
from broker.storage.records import Snapshot
from broker.storage.schema import TABLE_NAMES
from broker.storage.session_rows import SessionRows

_LOOKED_AT: Final = 20
"""Retained messages that are found unchanged in the time of one row."""


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
        self._retained = {publication.topic: publication.number for publication in saved.retained}
        """Topic to message, as the file has them."""

    def write(self, snapshot: Snapshot, pause_s: float = PAUSE_S) -> int:
        """Save a snapshot; all of it, or nothing if this fails, and then the next one must be whole.

        Args:
            pause_s: after each batch; 0 where no loop runs beside this.

        Returns:
            Rows that were put in, changed or taken out.

        Raises:
            sqlite3.Error: the disk is full, or the like; the tables hold what they held before.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            batches = Batches(self._connection, pause_s)
            self._numbers.begin(snapshot.clock_offset_s)
            if snapshot.is_whole:
                self._clear()
            self._write(snapshot, batches)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return batches.written

    def _clear(self) -> None:
        for table in TABLE_NAMES:
            self._connection.execute(f"DELETE FROM {table}")
        self._numbers.forget()
        self._retained = {}

    def _write(self, snapshot: Snapshot, batches: Batches) -> None:
        if snapshot.retained_changed:
            self._write_retained(snapshot, batches)
        self._write_sessions(snapshot, batches)
        batches.flush()
        self._remove_ended(snapshot, batches)
        batches.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (snapshot.saved_at,))
        self._numbers.end(batches)
        batches.flush()

    def _write_retained(self, snapshot: Snapshot, batches: Batches) -> None:
        wanted: set[bytes] = set()
        for looked_at, publication in enumerate(snapshot.retained_to_keep(), 1):
            if looked_at % _LOOKED_AT == 0:
                batches.worked(1)
            topic = publication.topic
            wanted.add(topic)
            older = self._retained.get(topic)
            if older is not None and older == publication.number:
                continue
            number = self._retained[topic] = self._numbers.name(publication, batches)
            if older is None:
                batches.later("INSERT INTO retained VALUES (NULL, ?)", (number,))
            else:
                batches.later("UPDATE retained SET message = ? WHERE message = ?", (number, older))
                self._numbers.release((older,))
        batches.flush()
        if len(wanted) < len(self._retained):
            for topic in self._retained.keys() - wanted:
                number = self._retained.pop(topic)
                batches.later("DELETE FROM retained WHERE message = ?", (number,))
                self._numbers.release((number,))

    def _write_sessions(self, snapshot: Snapshot, batches: Batches) -> None:
        last = batches.integer("SELECT coalesce(max(number), 0) FROM session")
        for record in snapshot.sessions:
            found = batches.one("SELECT number FROM session WHERE client_id = ?", (record.client_id,))
            if found is None:
                last += 1
            number = last if found is None else found[0]
            assert isinstance(number, int)
            rows = SessionRows(number, found is None, self._numbers, batches)
            rows.write(record, snapshot.clock_offset_s)

    def _remove_ended(self, snapshot: Snapshot, batches: Batches) -> None:
        present = len(snapshot.sessions) + len(snapshot.unchanged)
        if batches.integer("SELECT count(*) FROM session") <= present:
            return
        there = {record.client_id for record in snapshot.sessions} | snapshot.unchanged
        ended = [
            number
            for number, client_id in batches.rows("SELECT number, client_id FROM session")
            if client_id not in there
        ]
        for number in ended:
            assert isinstance(number, int)
            SessionRows(number, False, self._numbers, batches).remove()
