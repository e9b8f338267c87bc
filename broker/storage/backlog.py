"""Small messages that wait in one queue alone, many in one row: what a save under load costs is rows.

Each entry has a length and a checksum of its own, and says whose it is, so that a bit which the disk changed costs one
message, and not all of its row.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from broker.core.publication import Publication
from broker.storage.schema import Row, Value, checked
from protocol.mqtt.outbound import Queued

ENTRY_MAX: Final = 1024
"""Bytes of an entry; a larger message has a row of its own."""

ROW_BYTES: Final = 3600
"""A row takes no more entries when it has so many bytes: it should fill a page, and lose no more than that."""

_HEAD: Final = struct.Struct("<II")  # length and CRC-32 of the body
_HEAD_BYTES: Final = 8
_FIXED: Final = struct.Struct("<qqdIIIIIHHHB")
_FIXED_BYTES: Final = 51
_PLACE: Final = struct.Struct("<qq")

_RETAIN: Final = 0x04
_MESSAGE_QOS: Final = 3
_MESSAGE_RETAIN: Final = 0x20
_HAS_USER: Final = 0x40
_QOS: Final = 0x03


def belongs(message: Publication) -> bool:
    """Whether this message may stand in its queue's own row: nothing else keeps it, and it is small."""
    if message.number > 0 or message.holders > 1:
        return False
    user_name = message.user_name
    size = len(message.topic) + len(message.payload) + len(message.client_id) + len(message.properties)
    return size + (0 if user_name is None else len(user_name)) <= ENTRY_MAX


def entry(session: int, waiting: Queued, message: Publication, clock_offset_s: float) -> bytes:
    """One message as it stands in a row, behind a head of its own.

    Args:
        session: number of the one that is owed it.
        message: that of `waiting`.
        clock_offset_s: from the broker's clock to Unix time.
    """
    user_name = message.user_name
    user = b"" if user_name is None else user_name
    flags = waiting.qos | message.qos << _MESSAGE_QOS
    if waiting.retain:
        flags |= _RETAIN
    if message.retain:
        flags |= _MESSAGE_RETAIN
    if user_name is not None:
        flags |= _HAS_USER
    topic, payload, properties, client_id = (
        message.topic,
        message.payload,
        message.properties,
        message.client_id,
    )
    fixed = _FIXED.pack(
        session,
        waiting.position,
        0.0 if message.expires_at == 0.0 else message.expires_at + clock_offset_s,
        waiting.ids_before,
        message.listener_port,
        len(payload),
        len(properties),
        len(waiting.ids),
        len(topic),
        len(client_id),
        len(user),
        flags,
    )
    return b"".join((fixed, topic, payload, properties, waiting.ids, client_id, user))


def bodies(row: bytes) -> list[bytes]:
    """The entries of a row that are as they were written, each without its head; all else in it is passed over."""
    found: list[bytes] = []
    at = 0
    while at + _HEAD_BYTES + _FIXED_BYTES <= len(row):
        length, crc = _HEAD.unpack_from(row, at)
        start = at + _HEAD_BYTES
        if _FIXED_BYTES <= length <= len(row) - start and zlib.crc32(row[start : start + length]) == crc:
            found.append(row[start : start + length])
            at = start + length
        else:
            at += 1
    return found


def intact(values: list[Value]) -> list[Row]:
    """What is still right of a row that is not, as rows: one for each session that its entries say, as a rule one."""
    by_session: dict[int, list[bytes]] = {}
    for value in values:
        if isinstance(value, bytes):
            for body in bodies(value):
                by_session.setdefault(place(body)[0], []).append(body)
    return [row_of(session, found) for session, found in by_session.items()]


def row_of(session: int, found: list[bytes]) -> Row:
    """A row with these entries, at least one, in the order of their positions."""
    parts: list[bytes] = []
    for body in found:
        parts.append(_HEAD.pack(len(body), zlib.crc32(body)))
        parts.append(body)
    return checked(session, place(found[-1])[1], place(found[0])[1], len(found), b"".join(parts))


def place(body: bytes) -> tuple[int, int]:
    """The number of the session that an entry belongs to, and its position in that queue."""
    session, position = _PLACE.unpack_from(body)
    return session, position


def opened(body: bytes) -> Queued | None:
    """What an entry says; its message's `expires_at` is in Unix time.  None if it says nothing that could be."""
    (
        _,
        position,
        expires_at,
        ids_before,
        listener_port,
        payload,
        properties,
        ids,
        topic,
        client,
        user,
        flags,
    ) = _FIXED.unpack_from(body)
    parts: list[bytes] = []
    at = _FIXED_BYTES
    for length in (topic, payload, properties, ids, client, user):
        parts.append(body[at : at + length])
        at += length
    qos = flags & _QOS
    message_qos = flags >> _MESSAGE_QOS & _QOS
    if at != len(body) or max(qos, message_qos) > 2:
        return None
    message = Publication(
        parts[0],
        parts[1],
        message_qos,
        bool(flags & _MESSAGE_RETAIN),
        parts[4],
        parts[5] if flags & _HAS_USER else None,
        listener_port,
    )
    message.properties = parts[2]
    message.expires_at = expires_at
    return Queued(message, qos, bool(flags & _RETAIN), ids_before, parts[3], position)
