"""Rows of format 3 become rows of format 4 whose checksums are right, and what was damaged does not become so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from broker.storage import schema_3
from broker.storage.schema import TABLE_NAMES_4, TABLES_4, register, row_checksum

CHECKSUM = schema_3.checksum(b"t", b"payload")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        register(connection)
        connection.executescript(schema_3.TABLES)
        connection.execute("INSERT INTO state VALUES (1, 1000.5)")
        connection.execute(
            "INSERT INTO message VALUES (7, x'74', ?, 1, 1, x'70', NULL, 1883, ?, x'0101', 9.5)",
            (b"payload", CHECKSUM),
        )
        connection.execute(
            "INSERT INTO session VALUES (3, x'63', x'75', 1883, x'', 0, 12, 1, 9e999, 3600.0, 7, 5.5)"
        )
        connection.execute("INSERT INTO subscription VALUES (3, x'23', 2)")
        connection.execute("INSERT INTO inflight VALUES (3, 1, 11, 7, 2, 0, 3, x'0b07')")
        connection.execute("INSERT INTO queued VALUES (3, 1, 7, 1, 0, 0, x'')")
        connection.execute("INSERT INTO inbound VALUES (3, 5, 7)")
        connection.execute("INSERT INTO retained VALUES (1, 7)")
        yield connection


def migrate(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    for name in TABLE_NAMES_4:
        connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    connection.executescript(TABLES_4 + schema_3.MIGRATION)
    return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in TABLE_NAMES_4}


def test_every_row_is_there_with_a_checksum_that_is_right(connection: sqlite3.Connection) -> None:
    rows = migrate(connection)
    assert {name: len(found) for name, found in rows.items()} == dict.fromkeys(TABLE_NAMES_4, 1)
    for found in rows.values():
        *columns, checksum = found[0]
        assert row_checksum(*columns) == checksum  # type: ignore[arg-type]


def test_columns_that_moved_or_are_new_have_their_values(connection: sqlite3.Connection) -> None:
    rows = migrate(connection)
    assert rows["message"][0][:-1] == (7, b"t", b"payload", 1, 1, b"p", None, 1883, b"\x01\x01", 9.5)
    assert rows["subscription"][0][:-1] == (3, b"#", 2, 0)
    assert rows["session"][0][8] == float("inf")


@pytest.mark.parametrize(
    "change", ["topic = x'75'", "payload = x'00'", "checksum = checksum + 1", "payload = x''"]
)
def test_a_message_that_the_disk_changed_is_named(connection: sqlite3.Connection, change: str) -> None:
    assert schema_3.changed_message(connection) is None
    connection.execute(f"UPDATE message SET {change}")
    assert schema_3.changed_message(connection) == 7
