"""pgoutput: the hand path reads exactly what the construct layouts say, and refuses what they refuse.

Method: Hypothesis invents messages as values; construct writes them; the hand path must read them back.
"""

from __future__ import annotations

from typing import Any

import pytest
from construct import ConstructError
from hypothesis import given
from hypothesis import strategies as st

from protocol import pgoutput, pgoutput_wire
from protocol.pgoutput import (
    DELETE,
    INSERT,
    KEY,
    UNCHANGED,
    UPDATE,
    WHOLE,
    Begin,
    Column,
    Commit,
    KeepAlive,
    LogicalMessage,
    MalformedMessage,
    Origin,
    Payload,
    Relation,
    RowChange,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    Truncate,
    TypeName,
    decode,
    decode_frame,
)

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
time_us = st.integers(0, 2**62)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
values = st.none() | st.just(UNCHANGED) | st.binary(max_size=20).filter(lambda data: data != UNCHANGED)
rows = st.lists(values, max_size=6)
xids = st.none() | st.integers(1, 2**32 - 1)


def wire_row(columns: list[bytes | None]) -> list[dict[str, Any]]:
    kinds = {None: b"n", UNCHANGED: b"u"}
    return [{"kind": kinds.get(value, b"t"), "value": value} for value in columns]


def write(kind: bytes, body: dict[str, Any], xid: int | None = None) -> bytes:
    written = {"type": kind, "body": {"xid": xid, **body}}
    data: bytes = pgoutput_wire.Message.build(written, in_stream=xid is not None)
    return data


@given(xids, uint32, st.sampled_from([INSERT, UPDATE, DELETE]), st.sampled_from([0, KEY, WHOLE]), rows, rows)
def test_rows_are_read_as_declared(
    xid: int | None,
    relation: int,
    operation: int,
    old_kind: int,
    old: list[bytes | None],
    new: list[bytes | None],
) -> None:
    if operation == INSERT:
        old_kind = 0
    elif operation == DELETE:
        old_kind = old_kind or KEY
    body: dict[str, Any] = {"relation_oid": relation, "marker": bytes([old_kind or 0x4E]), "new_marker": b"N"}
    body |= {"old": wire_row(old), "new": wire_row(new)}
    data = write(bytes([operation]), body, xid)
    expected = RowChange(
        operation,
        relation,
        None if operation == DELETE else new,
        old_kind,
        old if old_kind else None,
        xid or 0,
    )
    assert decode(data, xid is not None) == expected
    for length in range(1, len(data)):
        with pytest.raises(MalformedMessage):
            decode(data[:length], xid is not None)


@given(xids, st.booleans(), uint64, names, st.binary(max_size=50))
def test_logical_messages_are_read_as_declared(
    xid: int | None, transactional: bool, lsn: int, prefix: str, content: bytes
) -> None:
    body = {"flags": transactional, "lsn": lsn, "prefix": prefix, "content": content}
    data = write(b"M", body, xid)
    assert decode(data, xid is not None) == LogicalMessage(transactional, lsn, prefix, content, xid or 0)
    for length in range(1, len(data)):
        with pytest.raises(MalformedMessage):
            decode(data[:length], xid is not None)


@given(uint64, uint64, time_us, uint32)
def test_begin_and_commit_are_read_as_declared(lsn: int, end_lsn: int, moment: int, xid: int) -> None:
    begin = write(b"B", {"commit_lsn": lsn, "commit_time_us": moment, "xid": xid})
    assert decode(begin) == Begin(lsn, moment, xid)
    body = {"flags": 0, "commit_lsn": lsn, "end_lsn": end_lsn, "commit_time_us": moment}
    commit = write(b"C", body)
    assert decode(commit) == Commit(lsn, end_lsn, moment)
    for data in (begin, commit):
        with pytest.raises(MalformedMessage):
            decode(data[:-1])


columns = st.lists(
    st.builds(Column, names, uint32, st.integers(-(2**31), 2**31 - 1), st.booleans()), max_size=4
).map(tuple)


@given(xids, st.builds(Relation, uint32, names, names, st.sampled_from("dnfi"), columns))
def test_relations_are_read_as_declared(xid: int | None, relation: Relation) -> None:
    wire_columns = [
        {"flags": c.key, "name": c.name, "type_oid": c.type_oid, "type_modifier": c.type_modifier}
        for c in relation.columns
    ]
    body = {"oid": relation.oid, "namespace": relation.namespace, "name": relation.name}
    body |= {"replica_identity": relation.replica_identity.encode(), "columns": wire_columns}
    data = write(b"R", body, xid)
    read = decode(data, xid is not None)
    assert isinstance(read, Relation)
    assert (read.oid, read.name, read.columns, read.xid) == (
        relation.oid,
        relation.name,
        relation.columns,
        xid or 0,
    )


@pytest.mark.parametrize(
    ("data", "in_stream", "expected"),
    [
        (b"O" + bytes(7) + b"\x09up\0", False, Origin(9, "up")),
        (b"Y\0\0\0\x05public\0mood\0", False, TypeName(5, "public", "mood")),
        (b"Y\0\0\0\x01\0\0\0\x05public\0mood\0", True, TypeName(5, "public", "mood", 1)),
        (b"T\0\0\0\x02\x03\0\0\0\x07\0\0\0\x08", False, Truncate((7, 8), True, True)),
        (b"T\0\0\0\x09\0\0\0\x01\0\0\0\0\x07", True, Truncate((7,), xid=9)),
        (b"S\0\0\0\x07\x01", False, StreamStart(7, True)),
        (b"E", True, StreamStop()),
        (
            b"c\0\0\0\x07\0" + bytes(7) + b"\x01" + bytes(7) + b"\x02" + bytes(8),
            False,
            StreamCommit(7, 1, 2, 0),
        ),
        (b"A\0\0\0\x07\0\0\0\x08", False, StreamAbort(7, 8)),
    ],
)
def test_rare_messages(data: bytes, in_stream: bool, expected: pgoutput.Message) -> None:
    assert decode(data, in_stream) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Z",
        b"S\0",
        b"I\0\0\0\x01X",
        b"D\0\0\0\x01N\0\0",
        b"I\0\0\0\x01K\0\0",
        b"U\0\0\0\x01K\0\0X\0\0",
        b"I\0\0\0\x01N\0\x01b\0\0\0\x01x",
        b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xffx",
    ],
    ids=[
        "empty",
        "unknown",
        "short",
        "no-row",
        "delete-new",
        "insert-old",
        "no-new",
        "binary",
        "huge-length",
    ],
)
def test_malformed_message_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


@given(st.binary(max_size=60), st.booleans())
def test_arbitrary_bytes_are_read_or_refused(data: bytes, in_stream: bool) -> None:
    try:
        decode(data, in_stream)
    except MalformedMessage:
        return
    try:
        pgoutput_wire.Message.parse(data, in_stream=in_stream)
    except ConstructError:
        pytest.fail("the hand path takes what the layout refuses")


@given(uint64, uint64, time_us, st.binary(min_size=0, max_size=9), st.booleans())
def test_frames_are_read_as_declared(lsn: int, wal_end: int, moment: int, data: bytes, reply: bool) -> None:
    fields = {"start_lsn": lsn, "wal_end": wal_end, "sent_time_us": moment}
    payload = pgoutput_wire.XLogData.build({**fields, "data": data})
    assert decode_frame(payload) == Payload(lsn, wal_end, moment, data)
    alive = pgoutput_wire.KeepAlive.build({**fields, "reply_requested": reply})
    assert decode_frame(alive) == KeepAlive(wal_end, moment, reply)
    for frame in (payload[:20], alive[:-1], b"x" + payload):
        with pytest.raises(MalformedMessage):
            decode_frame(frame)


@given(uint64, uint64, time_us, st.booleans())
def test_status_is_written_as_declared(written: int, flushed: int, moment: int, reply: bool) -> None:
    fields = pgoutput_wire.StatusUpdate.parse(pgoutput.encode_status(written, flushed, moment, reply))
    assert (fields.written_lsn, fields.flushed_lsn, fields.applied_lsn) == (written, flushed, flushed)
    assert (fields.sent_time_us, fields.reply_requested) == (moment, reply)


@given(uint64)
def test_lsn_text_round_trips(lsn: int) -> None:
    assert pgoutput.parse_lsn(pgoutput.lsn_text(lsn)) == lsn
    assert pgoutput.lsn_text(0x16B374D848) == "16/B374D848"
