"""The tables of the file that keeps sessions and messages, and what marks it as ours.

A message stands once in `message`, whoever is owed it; the other tables name it by number.  But a small one that waits
in a single queue stands in `backlog`, with those beside it in one row, and has no number.  Every row of `queued`,
`inflight` and `inbound` has a key of its own, so one delivery or one acknowledgement is one row more or less.  A
message that no row names any more is deleted in the same transaction.

Every row ends with a checksum of its other columns, so that a bit which the disk changed is found wherever it is; but
for what tells 0 from no bytes, which `has_types` finds.
"""

from __future__ import annotations

import re
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from typing import Final

APPLICATION_ID: Final = 0x526F7763  # "Rowc"; the number at offset 68 of an SQLite file
FORMAT_VERSION: Final = 5
"""At offset 60 of the file.  Counts up when the tables change."""

TABLES_4: Final = """
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    saved_at REAL NOT NULL,  -- Unix time, as all times here
    checksum INTEGER NOT NULL  -- see `row_checksum`, as in all tables
);
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    client_id BLOB NOT NULL,  -- of its publisher, as the next two
    user_name BLOB,
    listener_port INTEGER NOT NULL,
    properties BLOB NOT NULL,  -- of MQTT 5.0, those that are handed on
    expires_at REAL NOT NULL,  -- 0: never
    checksum INTEGER NOT NULL
);
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    client_id BLOB NOT NULL UNIQUE,
    user_name BLOB,
    listener_port INTEGER NOT NULL,
    mount_point BLOB NOT NULL,
    bridge INTEGER NOT NULL CHECK (bridge IN (0, 1)),
    last_packet_id INTEGER NOT NULL CHECK (last_packet_id BETWEEN 0 AND 65535),
    ids_after INTEGER NOT NULL CHECK (ids_after >= 0),  -- packet ids to pass over after what is queued
    disconnected_at REAL NOT NULL,  -- infinity: it was here when it was saved
    expiry_s REAL NOT NULL,  -- session expiry interval; infinity: it never does
    will INTEGER,  -- the message that waits for its delay
    will_due REAL NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE subscription (
    session INTEGER NOT NULL,
    topic_filter BLOB NOT NULL,
    granted INTEGER NOT NULL CHECK (granted >= 0),  -- QoS, or all that MQTT 5.0 adds, in one number
    replay INTEGER NOT NULL CHECK (replay IN (0, 1)),  -- it has not got all retained messages yet
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, topic_filter)
) WITHOUT ROWID;
CREATE TABLE inflight (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 1 AND 65535),
    message INTEGER NOT NULL,
    qos INTEGER NOT NULL CHECK (qos IN (1, 2)),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 3),  -- awaits PUBACK, PUBREC, PUBCOMP
    subscription_ids BLOB NOT NULL,  -- as properties of MQTT 5.0
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE TABLE queued (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    message INTEGER NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    ids_before INTEGER NOT NULL CHECK (ids_before >= 0),  -- packet ids to pass over before it is sent
    subscription_ids BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE TABLE inbound (
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 1 AND 65535),
    message INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, packet_id)
) WITHOUT ROWID;
CREATE TABLE retained (
    position INTEGER PRIMARY KEY,
    message INTEGER NOT NULL UNIQUE,
    checksum INTEGER NOT NULL
);
"""
"""Those of format 4, to which format 5 added one."""

BACKLOG: Final = """
CREATE TABLE backlog (
    session INTEGER NOT NULL,
    last INTEGER NOT NULL,  -- position in the queue of the last of these messages
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    messages BLOB NOT NULL,  -- see `backlog.entry`
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, last)
) WITHOUT ROWID;
"""

TABLES: Final = TABLES_4 + BACKLOG

TABLE_NAMES_4: Final = (
    "state",
    "message",
    "session",
    "subscription",
    "inflight",
    "queued",
    "inbound",
    "retained",
)
TABLE_NAMES: Final = (*TABLE_NAMES_4, "backlog")


Value = int | float | bytes | None
Stored = Value | bytearray
Row = tuple[Stored, ...]


def row_checksum(*values: Value) -> int:
    """What tells a row that was kept from one that the disk changed: CRC-32 of its columns but the checksum.

    Of all bytes, one after the other, and then of all columns as doubles: a number as itself, since SQLite keeps 1 and
    1.0 alike, bytes as their length, NULL as -1.
    """
    crc = 0
    numbers: list[float] = []
    for value in values:
        if type(value) is bytes:
            crc = zlib.crc32(value, crc)
            numbers.append(len(value))
        else:
            numbers.append(-1.0 if value is None else value)  # type: ignore[arg-type]
    return zlib.crc32(_PACK[len(numbers)](*numbers), crc)


_BLOBS: Final[dict[str, tuple[bool, ...]]] = {
    table: tuple(kind == "BLOB" for kind in re.findall(r"^    [a-z_]+ ([A-Z]+)", columns, re.MULTILINE))
    for table, columns in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", TABLES, re.DOTALL)
}
_known_types: set[tuple[str, tuple[type, ...]]] = set()


def has_types(table: str, columns: Sequence[object]) -> bool:
    """Whether a row has bytes where its table has them, and numbers elsewhere: 0 and no bytes have one checksum."""
    types = (table, tuple(map(type, columns)))
    if types in _known_types:
        return True
    pairs = zip(columns, _BLOBS[table], strict=False)
    if all(column is None or (type(column) is bytes) == is_blob for column, is_blob in pairs):
        _known_types.add(types)
        return True
    return False


_COLUMNS_MAX: Final = 16
_PACK: Final = [struct.Struct(f"<{count}d").pack for count in range(_COLUMNS_MAX + 1)]


def checked(*values: Value) -> Row:
    """A whole row for SQLite: these columns, and their checksum.

    Bytes as bytearrays and truths as integers: for any other type, bytes among them, Python's sqlite3 looks for an
    adapter first, which takes longer than all else that it does with a value.
    """
    row: list[Stored] = []
    for value in values:
        if type(value) is bytes:
            row.append(bytearray(value))
        elif type(value) is bool:
            row.append(int(value))
        else:
            row.append(value)
    row.append(row_checksum(*values))
    return tuple(row)


def register(connection: sqlite3.Connection) -> None:
    """Let statements on this connection compute `row_checksum`."""
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
