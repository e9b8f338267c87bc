"""The layout of `mosquitto.db`, as Mosquitto 1.6 to 2.1 write it (formats 5 and 6), declared in construct.

A header, and then chunks: a kind, a length, and that many bytes.  Lengths and numbers of MQTT are big-endian; what is
64 bits wide is as the machine has it that wrote the file, which is taken to be little-endian.

Source: the structures of mosquitto's `src/persist.h`, and files that Mosquitto 2.0.11 wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from construct import (
    Bytes,
    Const,
    ConstructError,
    ExprAdapter,
    GreedyBytes,
    If,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64sl,
    Int64ul,
    Padding,
    Prefixed,
    Struct,
    Terminated,
    VarInt,
    obj_,
    this,
)

MAGIC: Final = b"\x00\xb5\x00mosquitto db"
VERSIONS: Final = (5, 6)

CONFIG, MESSAGE, CLIENT_MESSAGE, RETAINED, SUBSCRIPTION, CLIENT = range(1, 7)
INBOUND: Final = 0
QUEUED: Final = 11
"""Direction and state of a client's message."""

HEADER: Final = Struct("magic" / Const(MAGIC), "checksum" / Int32ub, "version" / Int32ub)
_CHUNK: Final = Struct("kind" / Int32ub, "length" / Int32ub)

# Lengths first, and then what they measure.
_CLIENT: Final = Struct(
    "session_expires_at" / Int64sl,  # Unix time; 0 if it is here, or never expires
    "session_expiry_s" / Int32ub,
    "last_packet_id" / Int16ub,
    "id_length" / Int16ub,
    "listener_port" / If(this._params.version == 6, Int16ub),
    "user_name_length" / If(this._params.version == 6, Int16ub),
    Padding(lambda context: 4 if context._params.version == 6 else 0),
    "client_id" / Bytes(this.id_length),
    "user_name" / Bytes(lambda context: context.user_name_length or 0),
    Terminated,
)
_CLIENT_MESSAGE: Final = Struct(
    "message" / Int64ul,
    "packet_id" / Int16ub,
    "id_length" / Int16ub,
    "qos" / Int8ub,
    "state" / Int8ub,
    "flags" / Int8ub,  # retain in the upper half, DUP in the lower
    "direction" / Int8ub,
    "client_id" / Bytes(this.id_length),
    "properties" / GreedyBytes,  # with their length before them, if there are any
)
_PROPERTIES: Final = ExprAdapter(
    GreedyBytes, lambda data, _: Prefixed(VarInt, GreedyBytes).parse(data or b"\0"), obj_
)
_MESSAGE: Final = Struct(
    "number" / Int64ul,
    "expires_at" / Int64sl,  # Unix time; 0 is never
    "payload_length" / Int32ub,
    "packet_id" / Int16ub,
    "client_id_length" / Int16ub,
    "user_name_length" / Int16ub,
    "topic_length" / Int16ub,
    "listener_port" / Int16ub,
    "qos" / Int8ub,
    "retain" / Int8ub,
    "client_id" / Bytes(this.client_id_length),
    "user_name" / Bytes(this.user_name_length),
    "topic" / Bytes(this.topic_length),
    "payload" / Bytes(this.payload_length),
    "properties" / _PROPERTIES,
)
_SUBSCRIPTION: Final = Struct(
    "subscription_id" / Int32ub,
    "id_length" / Int16ub,
    "filter_length" / Int16ub,
    "qos" / Int8ub,
    "options" / Int8ub,
    Padding(2),
    "client_id" / Bytes(this.id_length),
    "topic_filter" / Bytes(this.filter_length),
    Terminated,
)
_RETAINED: Final = Struct("message" / Int64ul, Terminated)

_BODIES: Final = {
    MESSAGE: _MESSAGE,
    CLIENT_MESSAGE: _CLIENT_MESSAGE,
    RETAINED: _RETAINED,
    SUBSCRIPTION: _SUBSCRIPTION,
    CLIENT: _CLIENT,
}


class NotReadable(Exception):
    """What is wrong with the file, and where: the byte at which its chunk begins."""


def chunks(data: bytes) -> Iterator[tuple[int, Any]]:
    """(kind, fields) of every chunk, in the order of the file; of an unknown kind there are none.

    Raises:
        NotReadable: it is no such file, is of another format, or is cut off or damaged.
    """
    try:
        version = HEADER.parse(data).version
    except ConstructError:
        raise NotReadable("it does not begin as a mosquitto.db") from None
    if version not in VERSIONS:
        raise NotReadable(
            f"its format is number {version}, and numbers 5 and 6 are known; start Mosquitto 2.0 on it once, which"
            " writes it anew"
        )
    position = HEADER.sizeof()
    while position < len(data):
        start = position
        try:
            head = _CHUNK.parse(data[position : position + _CHUNK.sizeof()])
            position += _CHUNK.sizeof()
            if position + head.length > len(data):
                raise NotReadable(f"it is cut off: the chunk at byte {start} has {head.length} bytes")
            body = _BODIES.get(head.kind)
            if body is not None:
                yield head.kind, body.parse(data[position : position + head.length], version=version)
            position += head.length
        except ConstructError:
            raise NotReadable(f"the chunk at byte {start} is not what its kind says") from None
