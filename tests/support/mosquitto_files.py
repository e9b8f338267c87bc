"""The bytes of a `mosquitto.db`, written as Mosquitto's `persist.h` lays them out."""

from __future__ import annotations

import struct

NEVER = 0xFFFF_FFFF


def database(*chunks: bytes, version: int = 6) -> bytes:
    """A file with these chunks."""
    return b"\x00\xb5\x00mosquitto db" + struct.pack(">II", 0, version) + b"".join(chunks)


def chunk(kind: int, body: bytes) -> bytes:
    """Any chunk: its kind, its length and its body."""
    return struct.pack(">II", kind, len(body)) + body


def client(
    client_id: bytes, *, expires_at: int = 0, expiry_s: int = NEVER, last_packet_id: int = 0, port: int = 1883
) -> bytes:
    """A session, as format 6 has it."""
    head = struct.pack("<q", expires_at) + struct.pack(
        ">IHHHH4x", expiry_s, last_packet_id, len(client_id), port, 4
    )
    return chunk(6, head + client_id + b"user")


def message(
    number: int, topic: bytes, payload: bytes = b"x", *, qos: int = 1, properties: bytes = b""
) -> bytes:
    """A message that some client published."""
    head = struct.pack("<Qq", number, 0) + struct.pack(
        ">IHHHHHBB", len(payload), 0, 1, 0, len(topic), 1883, qos, 0
    )
    return chunk(2, head + b"p" + topic + payload + properties)


def owed(
    client_id: bytes, number: int, packet_id: int = 1, *, qos: int = 1, state: int = 11, direction: int = 1
) -> bytes:
    """A message that a client is owed (direction 1), or has published at QoS 2 (0)."""
    head = struct.pack("<Q", number) + struct.pack(
        ">HHBBBB", packet_id, len(client_id), qos, state, 0, direction
    )
    return chunk(3, head + client_id)


def retained(number: int) -> bytes:
    """That a message is retained."""
    return chunk(4, struct.pack("<Q", number))


def subscription(client_id: bytes, topic_filter: bytes, *, qos: int = 1, options: int = 0) -> bytes:
    """A subscription with no identifier."""
    head = struct.pack(">IHHBB2x", 0, len(client_id), len(topic_filter), qos, options)
    return chunk(5, head + client_id + topic_filter)
