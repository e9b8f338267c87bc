"""What a file holds and can't be served: it is set aside in the file, named in the log, and the rest is served.

A message or subscription whose topic is none is not damage, for its checksum is right: some earlier version took it.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from broker.storage.backlog import bodies, opened, place, row_of
from broker.storage.numbers import as_publication
from broker.storage.schema import register

logger = logging.getLogger("broker.storage")

TABLE: Final = "set_aside"
"""Made when it is first needed; nothing reads it but its owner."""

NAMED_MAX: Final = 20
"""Entries that the log names one by one."""

_CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    set_aside_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,  -- UTC
    why TEXT NOT NULL,
    client_id BLOB,  -- whose subscription, or who published
    topic BLOB NOT NULL,
    payload BLOB
)"""

_NAMES_MESSAGES: Final = ("inflight", "queued", "inbound", "retained")


class Unfit:
    """Entries of one file: why, by number of message, by session and topic filter, and by place in the backlog."""

    def __init__(self) -> None:
        self.messages: dict[int, str] = {}
        self.subscriptions: dict[tuple[int, bytes], str] = {}
        self.waiting: dict[tuple[int, int], dict[int, str]] = {}
        """By the key of the row, and then by the position of the message."""
        self.damage: list[str] = []
        """What the disk changed, in words; only where nothing is moved."""

    def __bool__(self) -> bool:
        return bool(self.messages or self.subscriptions or self.waiting or self.damage)

    def whys(self) -> list[str]:
        """All of it, each in words."""
        return [
            *self.damage,
            *self.messages.values(),
            *(why for row in self.waiting.values() for why in row.values()),
            *self.subscriptions.values(),
        ]

    def set_aside(self, connection: sqlite3.Connection, path: object) -> None:
        """Move them, with all that names them, in one transaction."""
        register(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_CREATE)
            for number, why in self.messages.items():
                _move_message(connection, number, why)
            for (session, last), whys in self.waiting.items():
                _move_waiting(connection, session, last, whys)
            for (session, topic_filter), why in self.subscriptions.items():
                _move_subscription(connection, session, topic_filter, why)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        name_each(
            path, [f"{why}; it is set aside in the table {TABLE}, and not served" for why in self.whys()]
        )


def name_each(path: object, whys: list[str], where_more: str = "") -> None:
    """Say in the log what can't be served: the first of it, and where the rest can be read."""
    for why in whys[:NAMED_MAX]:
        logger.error("%s: %s.", path, why)
    if len(whys) > NAMED_MAX:
        logger.error("%s: %d more%s.", path, len(whys) - NAMED_MAX, where_more)


def _move_message(connection: sqlite3.Connection, number: int, why: str) -> None:
    connection.execute(
        f"INSERT INTO {TABLE} (why, client_id, topic, payload)"
        " SELECT ?, client_id, topic, payload FROM message WHERE number = ?",
        (why, number),
    )
    connection.execute(
        "UPDATE session SET will = NULL, checksum = row_checksum(number, client_id, user_name, listener_port,"
        " mount_point, bridge, last_packet_id, ids_after, disconnected_at, expiry_s, NULL, will_due)"
        " WHERE will = ?",
        (number,),
    )
    for table in _NAMES_MESSAGES:
        connection.execute(f"DELETE FROM {table} WHERE message = ?", (number,))
    connection.execute("DELETE FROM message WHERE number = ?", (number,))


def _move_waiting(connection: sqlite3.Connection, session: int, last: int, whys: dict[int, str]) -> None:
    """Take messages out of a row of the backlog."""
    key = (session, last)
    row = connection.execute("SELECT messages FROM backlog WHERE session = ? AND last = ?", key).fetchone()
    stay: list[bytes] = []
    for body in bodies(row[0]):
        why = whys.get(place(body)[1])
        if why is None:
            stay.append(body)
            continue
        waiting = opened(body)
        assert waiting is not None
        message = as_publication(waiting.message)
        connection.execute(
            f"INSERT INTO {TABLE} (why, client_id, topic, payload) VALUES (?, ?, ?, ?)",
            (why, message.client_id, message.topic, message.payload),
        )
    connection.execute("DELETE FROM backlog WHERE session = ? AND last = ?", key)
    if stay:
        connection.execute("INSERT INTO backlog VALUES (?, ?, ?, ?, ?, ?)", row_of(session, stay))


def _move_subscription(connection: sqlite3.Connection, session: int, topic_filter: bytes, why: str) -> None:
    connection.execute(
        f"INSERT INTO {TABLE} (why, client_id, topic)"
        " SELECT ?, (SELECT client_id FROM session WHERE number = ?), ?",
        (why, session, topic_filter),
    )
    connection.execute(
        "DELETE FROM subscription WHERE session = ? AND topic_filter = ?", (session, topic_filter)
    )
