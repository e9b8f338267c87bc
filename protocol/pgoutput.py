"""Logical replication as Postgres speaks it: the messages of pgoutput, and the frames around them.  Sans-IO.

`decode` reads what comes per row and per transaction by hand and leaves the rare messages to the layouts in
`protocol.pgoutput_wire`, which declare all of them and are the oracle of the tests.  Column values stay the
text that the server sent: `bytes`, None for NULL, `UNCHANGED` for a TOAST value that an update did not touch.

Source: PostgreSQL documentation, "Logical Replication Message Formats" and "Streaming Replication Protocol".
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from attrs import define, frozen
from construct import ConstructError

from protocol import pgoutput_wire as wire

UNCHANGED: Final = b"\0"
"""Stands for an unchanged TOAST value, which the server does not send.  No text value holds a NUL."""

INSERT: Final = 0x49
UPDATE: Final = 0x55
DELETE: Final = 0x44
KEY: Final = 0x4B
"""`RowChange.old` holds the replica identity's columns only; the others in it are None."""
WHOLE: Final = 0x4F
"""`RowChange.old` is the whole old row (REPLICA IDENTITY FULL)."""

_NEW: Final = 0x4E
_NULL: Final = 0x6E
_UNCHANGED: Final = 0x75
_TEXT: Final = 0x74
XLOG_DATA: Final = 0x77
"""The first byte of a frame that carries a message."""
FRAME_HEAD_BYTES: Final = 25
"""What stands before that message: the byte, where it starts, where the WAL ends, when it was sent."""

_COLUMN_HEAD: Final = struct.Struct(">BI").unpack_from
"""Kind and length of a column value.  NULLs have no length; what is read for it is not looked at."""
_PADDING: Final = bytes(4)
"""So that the head of a NULL at the very end can be read, too."""

EPOCH_UNIX_S: Final = 946_684_800
"""2000-01-01 UTC, from which Postgres counts its microseconds, in Unix seconds."""

Columns: TypeAlias = list[bytes | None]


class MalformedMessage(ValueError):
    """The bytes are no message of pgoutput protocol 1 or 2, or end too early."""


@frozen
class Begin:
    """A transaction's rows follow.  `commit_lsn` is where its commit record starts."""

    commit_lsn: int
    commit_time_us: int
    xid: int


@frozen
class Commit:
    """The transaction is complete; a slot confirmed up to `end_lsn` never sends it again."""

    commit_lsn: int
    end_lsn: int
    commit_time_us: int


@frozen
class Origin:
    """The transaction came from another server, by replication."""

    commit_lsn: int
    name: str


@frozen
class Column:
    """One column of a relation.  `key`: part of the replica identity."""

    name: str
    type_oid: int
    type_modifier: int = -1
    key: bool = False


@frozen
class Relation:
    """Names and types of a table, sent before its first row and after each change of it."""

    oid: int
    namespace: str
    name: str
    replica_identity: str
    columns: tuple[Column, ...]
    xid: int = 0


@frozen
class TypeName:
    """The name of a type that is not built in."""

    oid: int
    namespace: str
    name: str
    xid: int = 0


@define
class RowChange:
    """One row inserted, updated or deleted.  `operation` is INSERT, UPDATE or DELETE.

    `xid` is the (sub)transaction's in a streamed transaction, else 0.  `old_kind` is KEY, WHOLE, or 0 with no
    `old`; `new` is None for DELETE.
    """

    operation: int
    relation_oid: int
    new: Columns | None
    old_kind: int = 0
    old: Columns | None = None
    xid: int = 0


@frozen
class Truncate:
    """These tables were emptied."""

    relation_oids: tuple[int, ...]
    cascade: bool = False
    restart_identity: bool = False
    xid: int = 0


@frozen
class LogicalMessage:
    """What `pg_logical_emit_message` wrote."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes
    xid: int = 0


@frozen
class StreamStart:
    """A part of a transaction that is not yet committed follows."""

    xid: int
    first_segment: bool


@frozen
class StreamStop:
    """The part of a transaction that is still open ends here, for now."""


@frozen
class StreamCommit:
    """A transaction that came in parts is committed; the time is µs since 2000-01-01 UTC."""

    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time_us: int


@frozen
class StreamAbort:
    """Forget what was streamed for `subxid`; everything of the transaction if `subxid` is `xid`."""

    xid: int
    subxid: int


Message: TypeAlias = (
    Begin
    | Commit
    | Origin
    | Relation
    | TypeName
    | RowChange
    | Truncate
    | LogicalMessage
    | StreamStart
    | StreamStop
    | StreamCommit
    | StreamAbort
)


@define
class Payload:
    """XLogData: one pgoutput message.  `wal_end` is the server's current end of WAL."""

    start_lsn: int
    wal_end: int
    sent_time_us: int
    data: bytes


@frozen
class KeepAlive:
    """The server has sent everything up to `wal_end`.  It wants a status update if `reply_requested`."""

    wal_end: int
    sent_time_us: int
    reply_requested: bool


def decode(data: bytes, in_stream: bool = False) -> Message:
    """One pgoutput message.

    Args:
        data: a whole message, beginning with its type byte.
        in_stream: between StreamStart and StreamStop, where most messages carry a transaction id.

    Raises:
        MalformedMessage: unknown type, or the bytes end too early.
    """
    try:
        kind = data[0]
        if kind in (INSERT, UPDATE, DELETE):
            return _row_change(data, in_stream)
        if kind == 0x42:
            return Begin(_int(data, 1, 8), _int(data, 9, 8), _int(data, 17, 4))
        if kind == 0x43:
            return Commit(_int(data, 2, 8), _int(data, 10, 8), _int(data, 18, 8))
        if kind == 0x4D:
            return _logical_message(data, in_stream)
        return _rare(data, in_stream)
    except (IndexError, struct.error, UnicodeDecodeError, ConstructError) as error:
        raise MalformedMessage(f"malformed pgoutput message of type {data[:1]!r}: {error}") from error


def decode_frame(data: bytes) -> Payload | KeepAlive:
    """What one CopyData of START_REPLICATION carries.

    Raises:
        MalformedMessage: neither XLogData nor a keepalive.
    """
    if len(data) >= FRAME_HEAD_BYTES and data[0] == XLOG_DATA:
        return Payload(_int(data, 1, 8), _int(data, 9, 8), _int(data, 17, 8), data[FRAME_HEAD_BYTES:])
    if len(data) == 18 and data[0] == 0x6B:
        return KeepAlive(_int(data, 1, 8), _int(data, 9, 8), data[17] != 0)
    raise MalformedMessage(f"neither XLogData nor a keepalive: type {data[:1]!r}, {len(data)} bytes")


def encode_status(written_lsn: int, flushed_lsn: int, sent_time_us: int, reply_requested: bool) -> bytes:
    """A standby status update: what was received, and up to where the slot may forget."""
    return b"r%b%b%b%b%c" % (
        written_lsn.to_bytes(8, "big"),
        flushed_lsn.to_bytes(8, "big"),
        flushed_lsn.to_bytes(8, "big"),
        sent_time_us.to_bytes(8, "big", signed=True),
        reply_requested,
    )


def lsn_text(lsn: int) -> str:
    """A WAL position as Postgres writes it, `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The inverse of `lsn_text`."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def _int(data: bytes, position: int, size: int) -> int:
    if position + size > len(data):
        raise IndexError("ends too early")
    return int.from_bytes(data[position : position + size], "big")


def _row_change(message: bytes, in_stream: bool) -> RowChange:
    data = message + _PADDING
    xid = int.from_bytes(data[1:5], "big") if in_stream else 0
    position = 5 if in_stream else 1
    relation_oid = int.from_bytes(data[position : position + 4], "big")
    old_kind = data[position + 4]
    old: Columns | None = None
    new: Columns | None = None
    position += 5
    if old_kind in (KEY, WHOLE):
        old, position = _columns(data, position)
        if data[0] == UPDATE:
            if data[position] != _NEW:
                raise MalformedMessage("an update without its new row")
            new, position = _columns(data, position + 1)
    elif old_kind == _NEW and data[0] != DELETE:
        new, position = _columns(data, position)
        old_kind = 0
    else:
        raise MalformedMessage(f"no row is announced by {old_kind:#x}")
    if position > len(message) or (data[0] == INSERT and old is not None):
        raise MalformedMessage("a row that ends too early, or an insert with an old row")
    return RowChange(data[0], relation_oid, new, old_kind, old, xid)


def _columns(data: bytes, position: int) -> tuple[Columns, int]:
    """The column values that start at `position`, and where they end, perhaps behind the end of `data`."""
    count = int.from_bytes(data[position : position + 2], "big")
    position += 2
    columns: Columns = []
    for _ in range(count):
        kind, length = _COLUMN_HEAD(data, position)
        if kind == _TEXT:
            start = position + 5
            position = start + length
            columns.append(data[start:position])
        elif kind == _NULL:
            columns.append(None)
            position += 1
        elif kind == _UNCHANGED:
            columns.append(UNCHANGED)
            position += 1
        else:
            raise MalformedMessage(f"a column value of unknown kind {kind:#x}; binary was not asked for")
    return columns, position


def _logical_message(data: bytes, in_stream: bool) -> LogicalMessage:
    start = 5 if in_stream else 1
    prefix_end = data.find(0, start + 9)
    if prefix_end < 0:
        raise MalformedMessage("a logical message whose prefix does not end")
    content = prefix_end + 5
    end = content + _int(data, prefix_end + 1, 4)
    if end > len(data):
        raise MalformedMessage("a logical message that ends too early")
    return LogicalMessage(
        data[start] == 1,
        _int(data, start + 1, 8),
        data[start + 9 : prefix_end].decode(errors="surrogateescape"),
        data[content:end],
        _int(data, 1, 4) if in_stream else 0,
    )


def _rare(data: bytes, in_stream: bool) -> Message:
    fields = wire.Message.parse(data, in_stream=in_stream)
    body = fields.body
    match fields.type:
        case b"R":
            columns = tuple(Column(c.name, c.type_oid, c.type_modifier, c.flags == 1) for c in body.columns)
            identity = body.replica_identity.decode()
            return Relation(body.oid, body.namespace, body.name, identity, columns, body.xid or 0)
        case b"Y":
            return TypeName(body.oid, body.namespace, body.name, body.xid or 0)
        case b"O":
            return Origin(body.commit_lsn, body.name)
        case b"T":
            oids = tuple(body.relation_oids)
            return Truncate(oids, bool(body.options & 1), bool(body.options & 2), body.xid or 0)
        case b"S":
            return StreamStart(body.xid, body.first_segment == 1)
        case b"E":
            return StreamStop()
        case b"c":
            return StreamCommit(body.xid, body.commit_lsn, body.end_lsn, body.commit_time_us)
        case _:
            return StreamAbort(body.xid, body.subxid)
