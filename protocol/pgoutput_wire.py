"""The layout of every pgoutput message (protocol versions 1 and 2) and of the frames around it, in construct.

Readable beside "Logical Replication Message Formats" of the PostgreSQL documentation.  It decodes the rare
messages and is the oracle for the hand path of `protocol.pgoutput`.  `Message.parse(data, in_stream=…)`:
between StreamStart and StreamStop most messages carry the transaction id of their (sub)transaction.
"""

from __future__ import annotations

from typing import Any

from construct import (
    Bytes,
    Const,
    Default,
    Error,
    ExprAdapter,
    GreedyBytes,
    If,
    Int8ub,
    Int16ub,
    Int32sb,
    Int32ub,
    Int64sb,
    Int64ub,
    NullTerminated,
    Pass,
    Prefixed,
    PrefixedArray,
    Struct,
    Switch,
    this,
)

Lsn = Int64ub
TimeUs = Int64sb
"""Microseconds since 2000-01-01 UTC."""
Text = ExprAdapter(
    NullTerminated(GreedyBytes),
    lambda data, _: data.decode(errors="surrogateescape"),
    lambda text, _: text.encode(errors="surrogateescape"),
)
"""A name.  A server of SQL_ASCII takes whatever it is given for one."""
Xid = If(this._root._params.in_stream, Int32ub)

ColumnValue = Struct(
    "kind" / Bytes(1),
    "value"
    / Switch(this.kind, {b"n": Pass, b"u": Pass, b"t": Prefixed(Int32ub, GreedyBytes)}, default=Error),
)
TupleData = PrefixedArray(Int16ub, ColumnValue)

Begin = Struct("commit_lsn" / Lsn, "commit_time_us" / TimeUs, "xid" / Int32ub)
Commit = Struct("flags" / Int8ub, "commit_lsn" / Lsn, "end_lsn" / Lsn, "commit_time_us" / TimeUs)
Origin = Struct("commit_lsn" / Lsn, "name" / Text)
RelationColumn = Struct("flags" / Int8ub, "name" / Text, "type_oid" / Int32ub, "type_modifier" / Int32sb)
Relation = Struct(
    "xid" / Xid,
    "oid" / Int32ub,
    "namespace" / Text,
    "name" / Text,
    "replica_identity" / Bytes(1),
    "columns" / PrefixedArray(Int16ub, RelationColumn),
)
TypeName = Struct("xid" / Xid, "oid" / Int32ub, "namespace" / Text, "name" / Text)
Insert = Struct("xid" / Xid, "relation_oid" / Int32ub, "marker" / Const(b"N"), "new" / TupleData)
_HasOld = (this.marker == b"K") | (this.marker == b"O")
Update = Struct(
    "xid" / Xid,
    "relation_oid" / Int32ub,
    "marker" / Bytes(1),
    "old" / If(_HasOld, TupleData),
    "new_marker" / If(_HasOld, Const(b"N")),
    "new" / Switch(this.marker, {b"K": TupleData, b"O": TupleData, b"N": TupleData}, default=Error),
)
Delete = Struct(
    "xid" / Xid,
    "relation_oid" / Int32ub,
    "marker" / Bytes(1),
    "old" / Switch(this.marker, {b"K": TupleData, b"O": TupleData}, default=Error),
)
Truncate = Struct(
    "xid" / Xid,
    "count" / Int32ub,
    "options" / Int8ub,
    "relation_oids" / Int32ub[this.count],
)
LogicalMessage = Struct(
    "xid" / Xid,
    "flags" / Int8ub,
    "lsn" / Lsn,
    "prefix" / Text,
    "content" / Prefixed(Int32ub, GreedyBytes),
)
StreamStart = Struct("xid" / Int32ub, "first_segment" / Int8ub)
StreamStop = Struct()
StreamCommit = Struct(
    "xid" / Int32ub,
    "flags" / Int8ub,
    "commit_lsn" / Lsn,
    "end_lsn" / Lsn,
    "commit_time_us" / TimeUs,
)
StreamAbort = Struct("xid" / Int32ub, "subxid" / Int32ub)

BODIES: dict[bytes, Any] = {
    b"B": Begin,
    b"C": Commit,
    b"O": Origin,
    b"R": Relation,
    b"Y": TypeName,
    b"I": Insert,
    b"U": Update,
    b"D": Delete,
    b"T": Truncate,
    b"M": LogicalMessage,
    b"S": StreamStart,
    b"E": StreamStop,
    b"c": StreamCommit,
    b"A": StreamAbort,
}
Message = Struct("type" / Bytes(1), "body" / Switch(this.type, BODIES, default=Error))

XLogData = Struct(
    "type" / Const(b"w"), "start_lsn" / Lsn, "wal_end" / Lsn, "sent_time_us" / TimeUs, "data" / GreedyBytes
)
KeepAlive = Struct("type" / Const(b"k"), "wal_end" / Lsn, "sent_time_us" / TimeUs, "reply_requested" / Int8ub)
StatusUpdate = Struct(
    "type" / Const(b"r"),
    "written_lsn" / Lsn,
    "flushed_lsn" / Lsn,
    "applied_lsn" / Lsn,
    "sent_time_us" / TimeUs,
    "reply_requested" / Default(Int8ub, 0),
)
