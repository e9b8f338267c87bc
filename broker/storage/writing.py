"""A snapshot into the tables, in one transaction.  Runs in a thread, beside the loop.

The rows go in small batches with a pause after each: a thread that never sleeps would make the loop wait for the
interpreter's lock at each of its own system calls.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from broker.core.publication import Publication
from broker.storage.records import SessionRecord, Snapshot
from broker.storage.schema import TABLE_NAMES, checksum
from protocol.mqtt.message import Message

BATCH_ROWS: Final = 50
"""A batch takes the interpreter for about 0.2 ms."""

PAUSE_S: Final = 0.0005

Row = tuple[int | float | bytes | None, ...]

_INSERT: Final = {
    "state": "INSERT INTO state VALUES (?, ?)",
    "message": "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "session": "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "subscription": "INSERT INTO subscription VALUES (?, ?, ?)",
    "inflight": "INSERT INTO inflight VALUES (?, ?, ?, ?, ?, ?, ?)",
    "queued": "INSERT INTO queued VALUES (?, ?, ?, ?, ?, ?)",
    "inbound": "INSERT INTO inbound VALUES (?, ?, ?)",
    "retained": "INSERT INTO retained VALUES (?, ?)",
}


def write(connection: sqlite3.Connection, snapshot: Snapshot, pause_s: float = PAUSE_S) -> int:
    """Replace what the tables hold; all of it, or nothing if this fails.

    Args:
        connection: in autocommit mode.
        pause_s: after each batch; 0 where no loop runs beside this.

    Returns:
        Messages written, each counted once.

    Raises:
        sqlite3.Error: the disk is full, or the like; the tables hold what they held before.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in TABLE_NAMES:
            connection.execute(f"DELETE FROM {table}")
        writer = _Writer(connection, pause_s)
        writer.write(snapshot)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(writer.numbers)


class _Writer:
    """One pass over a snapshot.

    Invariant: `numbers` knows every message that was put into a batch; the snapshot keeps them all alive meanwhile.
    """

    def __init__(self, connection: sqlite3.Connection, pause_s: float) -> None:
        self.numbers: dict[int, int] = {}
        """`id` of a message to its number."""
        self._connection = connection
        self._pause_s = pause_s
        self._waiting: dict[str, list[Row]] = {table: [] for table in _INSERT}
        self._count = 0

    def write(self, snapshot: Snapshot) -> None:
        offset_s = snapshot.clock_offset_s
        for position, publication in enumerate(snapshot.retained_to_keep(), 1):
            self._add("retained", (position, self._number(publication)))
        for number, record in enumerate(snapshot.sessions, 1):
            self._write_session(number, record, offset_s)
        self._add("state", (1, snapshot.saved_at))
        self._flush()

    def _write_session(self, number: int, record: SessionRecord, offset_s: float) -> None:
        self._add(
            "session",
            (
                number,
                record.client_id,
                record.user_name,
                record.listener_port,
                record.mount_point,
                record.bridge,
                record.last_packet_id,
                record.ids_after,
                record.disconnected_at + offset_s,
            ),
        )
        for topic_filter, qos in record.subscriptions.items():
            self._add("subscription", (number, topic_filter, qos))
        for position, (entry, state) in enumerate(zip(record.inflight, record.states, strict=True), 1):
            message = self._number(entry.message)
            self._add(
                "inflight", (number, position, entry.packet_id, message, entry.qos, entry.retain, state)
            )
        for position, waiting in enumerate(record.queued, 1):
            message = self._number(waiting.message)
            row = (number, position, message, waiting.qos, waiting.retain, waiting.ids_before)
            self._add("queued", row)
        for packet_id, pending in record.inbound:
            self._add("inbound", (number, packet_id, self._number(pending)))

    def _number(self, message: Message) -> int:
        """The number of a message, which is written when first met."""
        number = self.numbers.get(id(message))
        if number is None:
            number = self.numbers[id(message)] = len(self.numbers) + 1
            self._add("message", (number, *_message_row(message)))
        return number

    def _add(self, table: str, row: Row) -> None:
        self._waiting[table].append(row)
        self._count += 1
        if self._count >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        for table, rows in self._waiting.items():
            if rows:
                self._connection.executemany(_INSERT[table], rows)
                rows.clear()
        self._count = 0
        if self._pause_s > 0:
            time.sleep(self._pause_s)


def _message_row(message: Message) -> Row:
    client_id, user_name, listener_port = b"", None, 0
    if isinstance(message, Publication):
        client_id, user_name, listener_port = message.client_id, message.user_name, message.listener_port
    return (
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        client_id,
        user_name,
        listener_port,
        checksum(message.topic, message.payload),
    )
