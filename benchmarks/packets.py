"""The few packets of MQTT 3.1.1, and of 5.0 without properties, that the load generator sends.

Encoded here, so that no broker's code is trusted.

Everything is encoded before the clock starts.  Invariant: within one workload all packets of a kind have one
size, so that what arrives is counted by its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ACK_BYTES: Final = 4
"""PUBACK, PUBREC, PUBREL and PUBCOMP alike."""

PUBACK: Final = b"\x40\x02"
PUBREC: Final = b"\x50\x02"
PUBREL: Final = b"\x62\x02"
PUBCOMP: Final = b"\x70\x02"
DISCONNECT: Final = b"\xe0\x00"


class Spoken:
    """Which version all clients of the workload that runs now speak."""

    def __init__(self) -> None:
        self.level = 4
        self.user_properties = 0
        """How many each PUBLISH has; only 5.0 has any."""

    @property
    def publish_properties(self) -> bytes:
        """Of each PUBLISH, with their length: user properties of a name and a value each."""
        if self.level != 5:
            return b""
        pairs = b"".join(
            b"\x26" + _text(b"name-%d" % i) + _text(b"value-%d" % i) for i in range(self.user_properties)
        )
        return bytes((len(pairs),)) + pairs

    @property
    def properties(self) -> bytes:
        """Where 5.0 has properties: that there are none."""
        return b"\0" if self.level == 5 else b""


SPOKEN: Final = Spoken()


@contextmanager
def speaking(level: int, user_properties: int = 0) -> Iterator[None]:
    """All clients that are made meanwhile speak this version, and give messages so many user properties (up to 6)."""
    before = SPOKEN.level, SPOKEN.user_properties
    SPOKEN.level, SPOKEN.user_properties = level, user_properties
    try:
        yield
    finally:
        SPOKEN.level, SPOKEN.user_properties = before


def suback_bytes() -> int:
    """Of a SUBSCRIBE with one filter."""
    return 5 + len(SPOKEN.properties)


def connect(
    client_id: bytes,
    keep_alive_s: int = 0,
    user: bytes = b"",
    password: bytes = b"",
    clean_session: bool = True,
) -> bytes:
    """A CONNECT with name and password if there is a name; keep-alive 0 is off."""
    flags, credentials = (0xC0, _text(user) + _text(password)) if user else (0x00, b"")
    flags |= 0x02 * clean_session
    head = _text(b"MQTT") + struct.pack("!BBH", SPOKEN.level, flags, keep_alive_s) + SPOKEN.properties
    return _packet(0x10, head + _text(client_id) + credentials)


def subscribe(packet_id: int, *topic_filters: bytes, qos: int = 0) -> bytes:
    """One SUBSCRIBE for all filters at one QoS."""
    wanted = b"".join(_text(topic_filter) + bytes((qos,)) for topic_filter in topic_filters)
    return _packet(0x82, struct.pack("!H", packet_id) + SPOKEN.properties + wanted)


def unsubscribe(packet_id: int, topic_filter: bytes) -> bytes:
    return _packet(0xA2, struct.pack("!H", packet_id) + _text(topic_filter))


def publish(topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 0, retain: bool = False) -> bytes:
    """One PUBLISH; `packet_id` counts only above QoS 0."""
    identifier = struct.pack("!H", packet_id) if qos else b""
    return _packet(0x30 | qos << 1 | retain, _text(topic) + identifier + SPOKEN.publish_properties + payload)


def publish_bytes(topic: bytes, payload: bytes, qos: int = 0) -> int:
    """The size of such a PUBLISH, which is also the size in which it is delivered at that QoS."""
    return len(publish(topic, payload, qos, 1))


def packet_id_offset(topic: bytes, payload: bytes, qos: int) -> int:
    """Where the packet id stands in such a PUBLISH of QoS 1 or 2."""
    return publish_bytes(topic, payload, qos) - len(payload) - len(SPOKEN.properties) - 2


def acknowledge(kind: bytes, received: bytearray, count: int, packet_bytes: int, id_offset: int) -> bytearray:
    """Answer `count` equally long PUBLISH packets at the start of `received` with acks of one kind.

    Two strided copies instead of a loop: the generator may not cost what a broker costs.
    """
    end = count * packet_bytes
    acks = bytearray((kind + b"\0\0") * count)
    acks[2::4] = received[id_offset:end:packet_bytes]
    acks[3::4] = received[id_offset + 1 : end : packet_bytes]
    return acks


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _packet(first_byte: int, body: bytes) -> bytes:
    remaining, length = len(body), bytearray()
    while True:
        remaining, low = divmod(remaining, 128)
        length.append(low | 0x80 if remaining else low)
        if not remaining:
            return bytes((first_byte,)) + bytes(length) + body
