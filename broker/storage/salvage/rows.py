"""What was found, as a snapshot that holds together, and in words what is missing.

A row that names one which is lost can't be served either: a message without its queue, a queue without its session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from broker.storage.schema import TABLES, Row, Value, checked

_REFERENCES: Final = (
    ("subscription", "topic_filter", False),
    ("queued", "message", True),
    ("inflight", "message", True),
    ("inbound", "message", True),
)
_NAMES: Final = """
SELECT message FROM queued UNION SELECT message FROM inflight UNION SELECT message FROM inbound
UNION SELECT message FROM retained UNION SELECT will FROM session WHERE will IS NOT NULL
"""


def load(rows: dict[str, list[Row]], saved_at: float) -> sqlite3.Connection:
    """A database in memory with these rows.

    Args:
        saved_at: when the file was written, if the row that says so is lost.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(TABLES)
    connection.execute("BEGIN")
    for table, found in rows.items():
        if found:
            places = ", ".join("?" * len(found[0]))
            connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", found)
    if not rows["state"] and (rows["session"] or rows["retained"]):
        connection.execute("INSERT INTO state VALUES (?, ?, ?)", checked(1, saved_at))
    connection.execute("COMMIT")
    return connection


def prune(connection: sqlite3.Connection) -> list[str]:
    """Take out what names what is lost: what it was, each in words."""
    lost: list[str] = []
    for number, client_id, will in _all(
        connection,
        "SELECT number, client_id, will FROM session"
        " WHERE will IS NOT NULL AND will NOT IN (SELECT number FROM message)",
    ):
        lost.append(f"message {_shown(will)}, the will of {_shown(client_id)}")
        _drop_will(connection, number)
    for table, column, names_message in _REFERENCES:
        orphaned = "session NOT IN (SELECT number FROM session)"
        if names_message:
            orphaned += " OR message NOT IN (SELECT number FROM message)"
        client = f"(SELECT client_id FROM session WHERE number = {table}.session)"
        for owner, what in _all(connection, f"SELECT {client}, {column} FROM {table} WHERE {orphaned}"):
            whose = "a session that is lost" if owner is None else _shown(owner)
            thing = (
                f"message {_shown(what)} in {table}"
                if names_message
                else f"the subscription to {_shown(what)}"
            )
            lost.append(f"{thing} of {whose}")
        connection.execute(f"DELETE FROM {table} WHERE {orphaned}")
    orphaned = "session NOT IN (SELECT number FROM session)"
    for session, count in _all(
        connection, f"SELECT session, sum(count) FROM backlog WHERE {orphaned} GROUP BY session"
    ):
        lost.append(f"{_shown(count)} messages that waited for session {_shown(session)}, which is lost")
    connection.execute(f"DELETE FROM backlog WHERE {orphaned}")
    gone = "message NOT IN (SELECT number FROM message)"
    for (message,) in _all(connection, f"SELECT message FROM retained WHERE {gone}"):
        lost.append(f"message {_shown(message)}, which was retained")
    connection.execute(f"DELETE FROM retained WHERE {gone}")
    unnamed = f"number NOT IN ({_NAMES})"
    for number, topic in _all(connection, f"SELECT number, topic FROM message WHERE {unnamed}"):
        lost.append(f"message {_shown(number)} to {_shown(topic)}: what says whose it is, is lost")
    connection.execute(f"DELETE FROM message WHERE {unnamed}")
    return lost


def _drop_will(connection: sqlite3.Connection, number: Value) -> None:
    row = connection.execute("SELECT * FROM session WHERE number = ?", (number,)).fetchone()
    *columns, _, will_due, _ = row
    connection.execute(
        f"REPLACE INTO session VALUES ({', '.join('?' * len(row))})", checked(*columns, None, will_due)
    )


def _all(connection: sqlite3.Connection, query: str) -> Iterable[tuple[Value, ...]]:
    found: list[tuple[Value, ...]] = connection.execute(query).fetchall()
    return found


def _shown(value: Value) -> str:
    return repr(value[:100])[1:] if isinstance(value, bytes) else str(value)
